"""Adder tree over the tiles whose outputs belong together."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.imc.signed_combine import SignedCombine


class SumTree(Block):
    """Add a word of each of ``fan_in`` inputs.

    Twin of `golden.imc.sum_tree.sum_tree`. All inputs that take part hand over a word in the same cycle. One sum a cycle,
    offered ``log2(fan_in)`` cycles later, in the same cycle with a single input; full back-pressure.

    Members
    -------
    settings : In, {active}, a mask of the inputs that take part; others count as 0 and hand over nothing. Not 0, which takes
        nothing at all
    i : In(stream) [fan_in], {y, last}, outputs of tiles
    o : Out(stream), {d, last}
    error : Out(1), words that were added differed in ``last``; stays until reset

    Source: imc 10, B6, mode TREE.
    """

    i: list[stream.Interface]
    o: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "settings": In(self.settings_layout(p)), "i": In(stream.Signature(self.i_layout(p))).array(p.fan_in),
            "o": Out(stream.Signature(self.o_layout(p))), "error": Out(1),
        })

    @staticmethod
    def settings_layout(p: ImcArch) -> data.StructLayout:
        """Return the run-time settings."""
        return data.StructLayout({"active": p.fan_in})

    @staticmethod
    def i_layout(p: ImcArch) -> data.StructLayout:
        """Return the payload of an input: an output of a tile."""
        return SignedCombine.sums_layout(p)

    @staticmethod
    def o_layout(p: ImcArch) -> data.StructLayout:
        """Return the payload of ``o``."""
        return data.StructLayout({"d": signed(p.sum_bits + p.fan_in.bit_length() - 1), "last": 1})

    def build(self) -> Module:
        """Return the contents: a level of adders and registers for each doubling, which all move together."""
        m, o, active = Module(), self.o, self.settings.active
        lasts, valids = Cat(i.p.last for i in self.i), Cat(i.valid for i in self.i)
        there, last, move = Signal(), Signal(), Signal()
        m.d.comb += [
            there.eq((valids | ~active).all() & active.any()), last.eq((lasts & active).any()), move.eq(~o.valid | o.ready),
            *(i.ready.eq(there & move & active[n]) for n, i in enumerate(self.i)),
        ]
        with m.If(there & move & last & (~lasts & active).any()):
            m.d.sync += self.error.eq(1)
        terms = [Mux(active[n], i.p.y, 0).as_signed() for n, i in enumerate(self.i)]
        while len(terms) > 1:
            level = len(terms) // 2
            sums = [Signal(signed(len(terms[0]) + 1), name=f"sum_{level}_{n}") for n in range(level)]
            later, last_later = Signal(name=f"there_{level}"), Signal(name=f"last_{level}")
            with m.If(move):
                m.d.sync += [later.eq(there), last_later.eq(last),
                             *(total.eq(terms[2 * n] + terms[2 * n + 1]) for n, total in enumerate(sums))]
            terms, there, last = [*sums], later, last_later
        m.d.comb += [o.valid.eq(there), o.p.d.eq(terms[0]), o.p.last.eq(last)]
        return m
