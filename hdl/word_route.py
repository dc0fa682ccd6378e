"""Word route of the loom: words of the lanes to the pixels that they belong to."""

from functools import reduce
from operator import or_

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from hdl.block import Block


class WordRoute(Block):
    """OR the words of all lanes that name the same target; with ``merge`` over the groups of a column as well.

    Twin of `golden.word_route.word_route`. A crossbar undoes the deal of rows to lanes, and pools spikes on the way: the
    members of a window are rows with one target. Combinational but for the words of the groups before, which count from
    the cycle after ``valid`` on; one group a cycle.

    Members
    -------
    valid : In(1), the words below leave the neurons; first : In(1), of the first group
    words, held, target : In, per lane
    merge : In(1)
    routed : Out, per target
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        words = data.ArrayLayout(p.t_max, p.lanes)
        super().__init__({
            "valid": In(1), "first": In(1), "merge": In(1), "words": In(words), "held": In(p.lanes),
            "target": In(data.ArrayLayout(range(p.lanes), p.lanes)), "routed": Out(words),
        })

    def build(self) -> Module:
        m, p = Module(), self.params
        before, sent = Signal(data.ArrayLayout(p.t_max, p.lanes)), []
        for n in range(p.lanes):
            word = Signal(p.t_max, name=f"sent_{n}")
            m.d.comb += word.eq(Mux(self.held[n], self.words[n], 0))
            sent.append(word)
        for q in range(p.lanes):
            here = reduce(or_, (Mux(self.target[n] == q, word, 0) for n, word in enumerate(sent)))
            m.d.comb += self.routed[q].eq(here | Mux(self.merge & ~self.first, before[q], 0))
        with m.If(self.valid):
            m.d.sync += before.eq(self.routed)
        return m
