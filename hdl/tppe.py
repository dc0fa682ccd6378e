"""Temporal-parallel processing element: exact dot products of one row with one column, all word bits at once."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.arch import Arch, word_bits
from hdl.block import Block
from hdl.bus.fifo import Fifo
from hdl.inner_join import InnerJoin, value_ring
from hdl.spike_buffer import row_chunk_layout
from hdl.ttfs_sums import TtfsSums


class Tppe(Block):
    """Pseudo-accumulator plus ``t_max`` correction accumulators behind an inner join.

    Twin of `golden.tppe.tppe`. Every match is added to the pseudo-accumulator at once, as if the row's word
    were all ones; its word is fetched behind it (latency 1) and the weight goes to the correction accumulator
    of each bit that is 0. The dot of bit b is pseudo minus correction b, exact. Throughput one match a cycle;
    the dots of an output leave 4 cycles after its last match when ``o`` is free. While results are not taken the
    FIFOs fill: behind the result that waits ``fifo_depth`` outputs are taken, then ``ready`` is low.

    Members
    -------
    row, mask_b, values, head, first, go, last, done, ready : as in `InnerJoin`
    hit : Out(1), a match is taken
    corrected : Out(1), a word with a zero among its low ``steps`` bits was fetched
    word_log2, steps : In, log2 of the stored word width, timesteps
    word_en, word_address, line : read port of the row's words
    o : Out(stream), one signed dot per word bit
    ttfs : In(1), the weight of a match goes to the sum of the word's slot instead, nothing leaves on ``o``, and a pass
        ends where the column does; full, read, slot, sum, clear : as in `TtfsSums` (builds with ttfs)
    """

    o: stream.Interface

    def __init__(self, p: Arch) -> None:
        self.params = p
        slots = {"ttfs": In(1), "full": Out(1), "read": In(1), "slot": In(range(p.ttfs_slots)), "clear": In(1),
                 "sum": Out(signed(p.acc_bits))} if p.ttfs else {}
        super().__init__({
            **slots,
            "row": In(row_chunk_layout(p)), "mask_b": In(p.chunk_bits), "values": In(value_ring(p) * p.weight_bits),
            "head": In(range(value_ring(p))),
            "first": In(1), "go": In(1), "last": In(1), "done": Out(1), "ready": Out(1),
            "hit": Out(1), "corrected": Out(1), "word_log2": In(3), "steps": In(5),
            "word_en": Out(1), "word_address": Out(range(p.row_value_bits)), "line": In(p.chunk_bits),
            "o": Out(stream.Signature(data.ArrayLayout(signed(p.acc_bits), p.t_max))),
        })

    def build(self) -> Module:
        m, p, o = Module(), self.params, self.o
        m.submodules.join = join = InnerJoin(p)
        m.submodules.sums = sums = Fifo(p.acc_bits, p.fifo_depth)

        pseudo, total = Signal(signed(p.acc_bits)), Signal(signed(p.acc_bits))
        hit_weight = Signal(signed(p.weight_bits))
        m.d.comb += [
            join.row.eq(self.row), join.mask_b.eq(self.mask_b), join.values.eq(self.values),
            join.head.eq(self.head),
            join.first.eq(self.first), join.go.eq(self.go), join.last.eq(self.last),
            self.done.eq(join.done), self.ready.eq(join.ready & sums.i.ready), self.hit.eq(join.hit),
            hit_weight.eq(join.weight),
            total.eq(pseudo + Mux(join.hit, hit_weight, 0)),
            sums.i.valid.eq(self.go & self.last), sums.i.payload.eq(total),
        ]
        with m.If(self.go & self.last):
            m.d.sync += pseudo.eq(0)
        with m.Elif(self.go):
            m.d.sync += pseudo.eq(total)

        busy, match, last, shift = Signal(), Signal(), Signal(), Signal(range(p.chunk_bits))
        weight = Signal(signed(p.weight_bits))
        address = Signal(range(p.row_value_bits))
        group_log2 = word_bits(p.t_max).bit_length() - 1
        log2 = self.word_log2[: max(1, group_log2.bit_length())]
        retire, group, word, kept = Signal(), Signal(1 << group_log2), Signal(p.t_max), Signal(1 << group_log2)
        corrections = [Signal(signed(p.acc_bits), name=f"correction_{b}") for b in range(p.t_max)]
        m.d.comb += [
            address.eq(join.o.p.index << log2),
            retire.eq(busy & (~last | ((~o.valid | o.ready) & sums.o.valid))),
            join.o.ready.eq(~busy | retire),
            self.word_en.eq(join.o.valid & join.o.ready), self.word_address.eq(address),
            kept.eq(((1 << (1 << log2)) - 1)[: len(kept)]),
            group.eq(self.line.word_select(shift >> group_log2, 1 << group_log2)),
            word.eq((group >> shift[:group_log2]) & kept),
            self.corrected.eq(retire & match & ((word | ((1 << p.t_max) - 1 << self.steps)[: p.t_max]) != (1 << p.t_max) - 1)),
            sums.o.ready.eq(retire & last),
        ]
        with m.If(join.o.ready):
            m.d.sync += [busy.eq(join.o.valid), match.eq(join.o.p.match), last.eq(join.o.p.last),
                         weight.eq(join.o.p.weight), shift.eq(address[: len(shift)])]
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        for b, correction in enumerate(corrections):
            missing = Signal(signed(p.acc_bits), name=f"corrected_{b}")
            m.d.comb += missing.eq(correction + Mux(match & ~word[b], weight, 0))
            with m.If(retire & last):
                m.d.sync += [correction.eq(0), o.payload[b].eq(sums.o.payload.as_signed() - missing)]
            with m.Elif(retire):
                m.d.sync += correction.eq(missing)
        with m.If(retire & last):
            m.d.sync += o.valid.eq(1)
        if p.ttfs:
            self._spike_times(m, busy, match, last, word, weight, retire)
        return m

    def _spike_times(self, m: Module, busy: Signal, match: Signal, last: Signal, word: Signal, weight: Signal,
                     retire: Signal) -> None:
        """Let the time-indexed sums stand in for the accumulators of a layer that says so."""
        m.submodules.slots = slots = TtfsSums(self.params)
        m.d.comb += [
            slots.slot.eq(word), slots.weight.eq(weight), slots.read.eq(self.read), slots.read_slot.eq(self.slot),
            slots.clear.eq(self.clear), self.sum.eq(slots.sum), self.full.eq(slots.full)]
        with m.If(self.ttfs):
            m.d.comb += [
                retire.eq(busy & (~last | ~slots.full | self.clear)), slots.add.eq(retire & match),
                slots.close.eq(retire & last), self.corrected.eq(0), m.submodules.sums.i.valid.eq(0)]
            m.d.sync += self.o.valid.eq(0)
