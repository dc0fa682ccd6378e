"""Residual stream and what a block adds to it, one value a cycle."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hdl.block import Block

BITS = 16


class ResidualAdd(Block):
    """Return ``x + a`` held in 16 bits.

    Twin of `golden.imc.residual_add.residual_add`. A pair is taken in the cycle in which both are there and the value before
    them can leave; a pair a cycle, its sum offered in the next one, full back-pressure.

    Members
    -------
    alone : In(1), no a comes, and x leaves as it is (attention that is skipped); stands while values pass
    i : In(stream), {x}; a : In(stream), {x}; o : Out(stream), {x}

    Source: imc 10, B10.
    """

    i: stream.Interface
    a: stream.Interface
    o: stream.Interface

    def __init__(self) -> None:
        value = stream.Signature(data.StructLayout({"x": signed(BITS)}))
        super().__init__({"alone": In(1), "i": In(value), "a": In(value), "o": Out(value)})

    def build(self) -> Module:
        m, i, a, o = Module(), self.i, self.a, self.o
        move, both, total = Signal(), Signal(), Signal(signed(BITS + 1))
        top = (1 << BITS - 1) - 1
        m.d.comb += [
            move.eq(~o.valid | o.ready), both.eq(i.valid & (a.valid | self.alone)), i.ready.eq(move & both),
            a.ready.eq(move & both & ~self.alone), total.eq(i.p.x + Mux(self.alone, 0, a.p.x)),
        ]
        with m.If(move):
            m.d.sync += [o.valid.eq(both), o.p.x.eq(Mux(total > top, top, Mux(total < ~top, ~top, total)))]
        return m
