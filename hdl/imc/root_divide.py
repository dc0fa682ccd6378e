"""Square root or quotient of integers, one digit a cycle."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hdl.block import Block


class RootDivide(Block):
    """Return ``floor(sqrt(n))`` or ``floor(n / d)``, by taking away what fits, digit after digit.

    Twin of `golden.imc.root_divide`. The result is offered ``bits + 1`` cycles after its operands are accepted; the next
    operands are accepted from the cycle on after it is taken.

    Parameters
    ----------
    bits : int
        Digits of the result, 2..64.

    Members
    -------
    i : In(stream), {root, n, d}; ``n < 4^bits`` with ``root``, else ``n < 2^bits``
    o : Out(stream), {q}; a quotient by 0 is all ones

    Source: workloads 5.2, DIV/ISQRT.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, bits: int) -> None:
        self.params: int = bits
        super().__init__({
            "i": In(stream.Signature(self.i_layout(bits))), "o": Out(stream.Signature(data.StructLayout({"q": bits})))})

    @staticmethod
    def i_layout(bits: int) -> data.StructLayout:
        """Return the payload of ``i``."""
        return data.StructLayout({"root": 1, "n": 2 * bits, "d": bits})

    def build(self) -> Module:
        """Return the contents.

        What is left is at most ``2 * found`` behind a digit of a root, and below d, or n where d is 0, behind one of a
        quotient: with two more digits it has ``bits + 3`` bits.
        """
        m, i, o, bits = Module(), self.i, self.o, self.params
        held, rest, count = Signal(self.i_layout(bits)), Signal(bits + 1), Signal(range(bits + 1))
        more, tried, fits = Signal(bits + 3), Signal(bits + 2), Signal()
        m.d.comb += [
            more.eq(Mux(held.root, rest << 2 | held.n[-2:], rest << 1 | held.n[-1])),
            tried.eq(Mux(held.root, o.p.q << 2 | 1, held.d)), fits.eq(more >= tried),
        ]
        with m.FSM():
            with m.State("TAKE"):
                m.d.comb += i.ready.eq(1)
                m.d.sync += [held.eq(i.p), held.n.eq(Mux(i.p.root, i.p.n, i.p.n << bits)), rest.eq(0), o.p.q.eq(0),
                             count.eq(bits)]
                with m.If(i.valid):
                    m.next = "WORK"
            with m.State("WORK"):
                m.d.sync += [
                    rest.eq(more - Mux(fits, tried, 0)), o.p.q.eq(o.p.q << 1 | fits), count.eq(count - 1),
                    held.n.eq(Mux(held.root, held.n << 2, held.n << 1)),
                ]
                with m.If(count == 1):
                    m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += o.valid.eq(1)
                with m.If(o.ready):
                    m.next = "TAKE"
        return m
