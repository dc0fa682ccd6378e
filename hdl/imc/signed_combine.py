"""Signed sums: the phases of a vector added up, less what stored weights have too much."""

from amaranth.hdl import Array, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.imc.shift_add import PLACES, slices_layout


class SignedCombine(Block):
    """Add the slice sums of all phases of a vector, by the weight of their input bit, and give the outputs one by one.

    Twin of `golden.imc.signed_combine.signed_combine`. A word of sums takes 2 cycles. The first output is offered 3 cycles
    after the last word is taken (4 with a dummy column), then one every cycle, full back-pressure; meanwhile no word is taken.

    Members
    -------
    settings : In, {width_log2, bits, is_signed, popcount, dummy, outputs}: columns of a weight; bits of an input, whether the
        highest counts negative; whether every driven row, or the last output, takes something away; outputs that are given, at
        least 1, without the dummy; stands while a vector is on its way
    i : In(stream), `hdl.imc.shift_add.slices_layout`; o : Out(stream), `sums_layout`

    Source: imc 10, B5; decision 0014.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "settings": In(self.settings_layout(p)), "i": In(stream.Signature(slices_layout(p))),
            "o": Out(stream.Signature(self.sums_layout(p))),
        })

    @staticmethod
    def settings_layout(p: ImcArch) -> data.StructLayout:
        """Return the run-time settings."""
        return data.StructLayout({
            "width_log2": range(PLACES.bit_length()), "bits": range(p.input_bits + 1), "is_signed": 1, "popcount": 1,
            "dummy": 1, "outputs": range(p.cols + 1)})

    @staticmethod
    def sums_layout(p: ImcArch) -> data.StructLayout:
        """Return one output of a vector; ``last``: the last one."""
        return data.StructLayout({"y": signed(p.sum_bits), "last": 1})

    def build(self) -> Module:
        m, p, i, o, settings = Module(), self.params, self.i, self.o, self.settings
        mux_log2, wide = p.mux.bit_length() - 1, signed(p.sum_bits)
        m.submodules.totals = totals = Ram(p.adcs * p.sum_bits, max(2, p.mux))
        word, started, negative = Signal(slices_layout(p)), Signal(), Signal()
        taken, rows = Signal(wide), Signal(range(max(2, p.mux)))
        stored = data.View(data.ArrayLayout(wide, p.adcs), totals.r_data)
        written = Signal(data.ArrayLayout(wide, p.adcs))
        group, row, left, lane = Signal(range(max(2, p.adcs))), Signal.like(rows), Signal(range(p.cols + 1)), Signal(wide)
        m.d.comb += [
            negative.eq(settings.is_signed & (word.phase.bit + 1 == settings.bits)),
            rows.eq((p.mux - 1) >> settings.width_log2), totals.w_addr.eq(word.row), totals.w_data.eq(written),
            lane.eq(Mux(started, Array(stored)[group], 0)), o.p.y.eq(lane - taken), o.p.last.eq(left == 1),
        ]
        for g in range(p.adcs):
            added = Signal(wide, name=f"added_{g}")
            m.d.comb += [added.eq(word.sums[g] << word.phase.bit),
                         written[g].eq(Mux(started, stored[g], 0) + Mux(negative, -added, added))]
        counted = Signal(wide)
        m.d.comb += counted.eq(Mux(settings.popcount, word.phase.count << word.phase.bit << p.weight_bits - 1, 0))
        spans = [p.adcs >> max(0, log2 - mux_log2) for log2 in range(PLACES.bit_length())]
        dummy_group = Array(Const(max(1, n) - 1, range(max(2, p.adcs))) for n in spans)[settings.width_log2]
        with m.FSM():
            with m.State("TAKE"):
                m.d.comb += [i.ready.eq(1), totals.r_en.eq(1), totals.r_addr.eq(i.p.row)]
                m.d.sync += word.eq(i.payload)
                with m.If(i.valid):
                    m.next = "ADD"
                    with m.If(i.p.phase.first & (i.p.row == 0)):
                        m.d.sync += [started.eq(0), taken.eq(0)]
            with m.State("ADD"):
                m.d.comb += [totals.w_en.eq(~word.phase.skipped), totals.r_en.eq(1), totals.r_addr.eq(0)]
                m.next = "TAKE"
                with m.If(word.end):
                    m.d.sync += [taken.eq(taken + Mux(negative, -counted, counted)), group.eq(0), row.eq(0),
                                 left.eq(settings.outputs)]
                    with m.If(~word.phase.skipped):
                        m.d.sync += started.eq(1)
                    with m.If(word.phase.last):
                        m.d.comb += totals.r_addr.eq(Mux(settings.dummy, rows, 0))
                        m.d.sync += group.eq(Mux(settings.dummy, dummy_group, 0))
                        m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += [totals.r_en.eq(1), totals.r_addr.eq(Mux(settings.dummy, rows, 0))]
                m.next = "GIVE"
                with m.If(settings.dummy):
                    m.next = "DUMMY"
            with m.State("DUMMY"):
                m.d.sync += [taken.eq(lane), group.eq(0)]
                m.d.comb += [totals.r_en.eq(1), totals.r_addr.eq(0)]
                m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += [o.valid.eq(1), totals.r_addr.eq(Mux(row == rows, 0, row + 1)), totals.r_en.eq(o.ready)]
                with m.If(o.ready):
                    m.d.sync += [left.eq(left - 1), row.eq(row + 1)]
                    with m.If(row == rows):
                        m.d.sync += [row.eq(0), group.eq(group + 1)]
                    with m.If(left == 1):
                        m.next = "TAKE"
        return m
