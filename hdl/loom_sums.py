"""Sums of the loom: packed words of the resident rows, and what their matches add up to."""

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.arch import Arch, word_bits
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.loom_join import join_layout


class LoomSums(Block):
    """Add the weight of a match to the sum of every bit that its row's word has.

    Twin of `golden.loom_sums.loom_sums`. One match a cycle; word and weight are read in the first cycle and added in
    the second. The sums of all rows of a column lie in their place 2 cycles after the match that ends them, and count in
    ``have`` from then on. While ``window_columns`` of them wait, the next end ``hold``s the lane.

    Members
    -------
    word_log2 : In(3), log2 of the stored width of a word; span_log2 : In(2), log2 of the slots of a row
    word_en, word_address, words : In, write a line of words into the slots that are named
    line_put, line, weights : In, write a line of weights
    valid, match : In, `join_layout`; hold : Out(1), nothing is taken
    have : Out, columns that wait; read, ahead : In, read the ``ahead``-th of them, latency 1; take : In, forget that many
    sums : Out, dots [slot][word bit]
    idle : Out(1), no match is on its way; hit : Out(1), a match is added
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        super().__init__({
            "word_log2": In(3), "span_log2": In(2),
            "word_en": In(p.rows), "word_address": In(data.ArrayLayout(range(p.slot_lines), p.rows)),
            "words": In(p.chunk_bits),
            "line_put": In(1), "line": In(range(p.window_lines)), "weights": In(p.chunk_bits),
            "valid": In(1), "match": In(join_layout(p)), "hold": Out(1),
            "have": Out(range(p.window_columns + 1)), "read": In(1), "ahead": In(range(p.window_columns)),
            "take": In(range(p.window_columns + 1)),
            "sums": Out(data.ArrayLayout(data.ArrayLayout(signed(p.acc_bits), p.t_max), p.rows)),
            "idle": Out(1), "hit": Out(1),
        })

    def build(self) -> Module:
        m, p, match = Module(), self.params, self.match
        columns = data.ArrayLayout(data.ArrayLayout(signed(p.acc_bits), p.t_max), p.rows)
        m.submodules.weight_lines = weight_lines = Ram(p.chunk_bits, p.window_lines)
        m.submodules.results = results = Ram(columns.size, p.window_columns)
        group_log2, line_log2 = word_bits(p.t_max).bit_length() - 1, p.chunk_bits.bit_length() - 1
        log2 = self.word_log2[: max(1, group_log2.bit_length())]
        bit = Signal(p.index_bits + group_log2)
        word_lines = []
        take_match, added, late = Signal(), Signal(), Signal(join_layout(p))
        place = Signal(line_log2)
        m.d.comb += [
            bit.eq(match.word << log2), take_match.eq(self.valid & ~self.hold),
            weight_lines.w_en.eq(self.line_put), weight_lines.w_addr.eq(self.line), weight_lines.w_data.eq(self.weights),
            weight_lines.r_en.eq(take_match), weight_lines.r_addr.eq(match.weight_line),
        ]
        for s in range(p.rows):
            m.submodules[f"words_{s}"] = lines = Ram(p.chunk_bits, p.slot_lines)
            m.d.comb += [
                lines.w_en.eq(self.word_en[s]), lines.w_addr.eq(self.word_address[s]), lines.w_data.eq(self.words),
                lines.r_en.eq(take_match & (match.slot == s)), lines.r_addr.eq(match.line + (bit >> line_log2)),
            ]
            word_lines.append(lines.r_data)
        with m.If(~self.hold):
            m.d.sync += added.eq(self.valid)
        with m.If(take_match):
            m.d.sync += [late.eq(match), place.eq(bit[:line_log2])]

        line, group = Signal(p.chunk_bits), Signal(1 << group_log2)
        word, kept = Signal(p.t_max), Signal(1 << group_log2)
        weight, target = Signal(signed(p.weight_bits)), Signal(range(max(2, p.rows)))
        end, full = Signal(), Signal()
        m.d.comb += [
            line.eq(Array(word_lines)[late.slot]),
            kept.eq(((1 << (1 << log2)) - 1)[: len(kept)]),
            group.eq(line.word_select(place >> group_log2, 1 << group_log2)),
            word.eq((group >> place[:group_log2]) & kept),
            weight.eq(weight_lines.r_data.word_select(late.weight, p.weight_bits)),
            target.eq(late.slot & ((p.rows - 1) >> self.span_log2)),
            end.eq(added & late.end), full.eq(self.have == p.window_columns), self.hold.eq(end & full),
            self.hit.eq(added & late.hit & ~self.hold), self.idle.eq(~added),
        ]
        totals = Signal(columns)
        for s in range(p.rows):
            for t in range(p.t_max):
                total = Signal(signed(p.acc_bits), name=f"sum_{s}_{t}")
                m.d.comb += totals[s][t].eq(total + Mux(late.hit & (target == s) & word[t], weight, 0))
                with m.If(end & ~full):
                    m.d.sync += total.eq(0)
                with m.Elif(self.hit & (target == s) & word[t]):
                    m.d.sync += total.eq(totals[s][t])
        first, free = Signal(range(p.window_columns)), Signal(range(p.window_columns))
        stored = Signal()
        m.d.comb += [
            stored.eq(end & ~full),
            results.w_en.eq(stored), results.w_addr.eq(free), results.w_data.eq(totals),
            results.r_en.eq(self.read), results.r_addr.eq(first + self.ahead), self.sums.eq(results.r_data),
        ]
        m.d.sync += [free.eq(free + stored), first.eq(first + self.take), self.have.eq(self.have + stored - self.take)]
        return m
