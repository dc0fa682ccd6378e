"""Word-line sequencer: drives the rows of a vector, bit after bit, row group after row group."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.count_ones import count_ones


def phase_layout(p: ImcArch) -> data.StructLayout:
    """Return what the ADCs and all behind them have to know about a phase."""
    return data.StructLayout({
        "bit": range(max(2, p.input_bits)), "group": range(max(2, p.rows)), "count": range(p.group_rows + 1),
        "skipped": 1, "first": 1, "last": 1})


class WordLines(Block):
    """Drive the word lines of one vector after the other.

    Twin of `golden.imc.word_lines.word_lines`. A phase takes a cycle to select its rows, ``t_pre`` cycles of precharge,
    ``t_settle`` cycles with the rows driven, of which the last samples, the cycle that offers it, its conversions, and
    ``t_guard`` cycles of rest; a time of 0 counts as 1. A skipped phase takes a cycle to select, one to see that no row is
    driven, the one that offers it, and until ``done``. Lines of rows that are not driven, and all outside ``wl_go``, are low.

    Members
    -------
    settings : In, {bits, group_log2, groups, skip, t_pre, t_settle, t_guard}; stands while ``busy``
    i : In(stream), [rows] inputs; taken only while ``grant`` is high, which then stands until ``busy`` falls
    grant : In(1), the macro computes; busy : Out(1), a vector is on its way
    wl_en, wl_go, pre, sample : Out, of the macro
    o : Out(stream), `phase_layout`, when the columns are sampled; done : In(1), its conversions are over

    Source: imc 10, B1 and the macro contract.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "settings": In(self.settings_layout(p)), "i": In(stream.Signature(data.ArrayLayout(p.input_bits, p.rows))),
            "grant": In(1), "busy": Out(1), "wl_en": Out(p.rows), "wl_go": Out(1), "pre": Out(1), "sample": Out(1),
            "o": Out(stream.Signature(phase_layout(p))), "done": In(1),
        })

    @staticmethod
    def settings_layout(p: ImcArch) -> data.StructLayout:
        """Return the run-time settings: input bits, rows of a group, groups, whether empty phases are skipped, times."""
        return data.StructLayout({
            "bits": range(p.input_bits + 1), "group_log2": range(max(2, p.group_rows.bit_length())),
            "groups": range(p.rows + 1), "skip": 1, "t_pre": 6, "t_settle": 8, "t_guard": 4})

    def build(self) -> Module:
        m, p, settings, i, o = Module(), self.params, self.settings, self.i, self.o
        x, driven, window = Signal(i.p.shape()), Signal(p.rows), Signal(p.rows)
        bit, group, timer, over = Signal(range(max(2, p.input_bits))), Signal(range(max(2, p.rows))), Signal(8), Signal()
        last_group, last_bit, skipped = Signal(), Signal(), Signal()
        sizes = [1 << n for n in range(p.group_rows.bit_length())]
        start = Array((1 << size) - 1 for size in sizes)[settings.group_log2]
        planes = Array(Cat(x[row][n] for row in range(p.rows)) for n in range(p.input_bits))
        m.d.comb += [
            last_group.eq(group + 1 == settings.groups), last_bit.eq(bit + 1 == settings.bits), over.eq(timer <= 1),
            skipped.eq(settings.skip & ~driven.any()),
            o.p.bit.eq(bit), o.p.group.eq(group), o.p.count.eq(count_ones(m, driven)), o.p.skipped.eq(skipped),
            o.p.first.eq((bit == 0) & (group == 0)), o.p.last.eq(last_group & last_bit),
        ]
        with m.If(~over):
            m.d.sync += timer.eq(timer - 1)

        def following() -> None:
            m.next = "SELECT"
            m.d.sync += [group.eq(group + 1), window.eq(Array(window << size for size in sizes)[settings.group_log2])]
            with m.If(last_group):
                m.d.sync += [group.eq(0), bit.eq(bit + 1), window.eq(start)]
                with m.If(last_bit):
                    m.next = "IDLE"

        with m.FSM() as states:
            m.d.comb += self.busy.eq(~states.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.comb += i.ready.eq(self.grant)
                m.d.sync += [x.eq(i.payload), bit.eq(0), group.eq(0), window.eq(start)]
                with m.If(i.valid & i.ready):
                    m.next = "SELECT"
            with m.State("SELECT"):
                m.d.sync += [driven.eq(planes[bit] & window), timer.eq(settings.t_pre)]
                m.next = "PRECHARGE"
            with m.State("PRECHARGE"):
                m.d.comb += self.pre.eq(~skipped)
                with m.If(skipped):
                    m.next = "OFFER"
                with m.Elif(over):
                    m.d.sync += timer.eq(settings.t_settle)
                    m.next = "DRIVE"
            with m.State("DRIVE"):
                m.d.comb += [self.wl_go.eq(1), self.wl_en.eq(driven), self.sample.eq(over)]
                with m.If(over):
                    m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += o.valid.eq(1)
                with m.If(o.ready):
                    m.next = "CONVERT"
            with m.State("CONVERT"), m.If(self.done):
                m.d.sync += timer.eq(Mux(skipped, 0, settings.t_guard))
                m.next = "GUARD"
                with m.If(skipped):
                    following()
            with m.State("GUARD"), m.If(over):
                following()
        return m
