"""Factor of a row: sums made with exponentials, divided by the sum of these, one a cycle."""

from amaranth.hdl import Module, Signal
from amaranth.hdl import signed as signed_bits
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block

FACTOR_BITS = 17


class RowFactor(Block):
    """Return ``(x * factor + 2^15) >> 16``.

    Twin of `golden.imc.row_factor.row_factor`. One value a cycle, offered 2 cycles after it is accepted; both stages move
    together, when the value at the end can leave; full back-pressure. `hdl.imc.scale.Scale` follows.

    Parameters
    ----------
    tag_bits : int
        What comes with a value and leaves with it.

    Members
    -------
    i : In(stream), {x, factor, tag}; ``|x| <= 2^(stream_bits - 2)``, factor from `hdl.imc.softmax.Softmax`, at most 65793
    o : Out(stream), {x, tag}

    Source: workloads 5.2, REQ with a factor of a row.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, p: ImcArch, tag_bits: int) -> None:
        self.params: tuple[ImcArch, int] = (p, tag_bits)
        super().__init__({
            "i": In(stream.Signature(self.i_layout(p, tag_bits))), "o": Out(stream.Signature(self.o_layout(p, tag_bits)))})

    @staticmethod
    def i_layout(p: ImcArch, tag_bits: int) -> data.StructLayout:
        """Return the payload of ``i``."""
        return data.StructLayout({"x": signed_bits(p.stream_bits), "factor": FACTOR_BITS, "tag": tag_bits})

    @staticmethod
    def o_layout(p: ImcArch, tag_bits: int) -> data.StructLayout:
        """Return the payload of ``o``."""
        return data.StructLayout({"x": signed_bits(p.stream_bits), "tag": tag_bits})

    def build(self) -> Module:
        m, i, o = Module(), self.i, self.o
        p, tag_bits = self.params
        move, full, tag = Signal(), Signal(), Signal(tag_bits)
        product = Signal(signed_bits(p.stream_bits + FACTOR_BITS))
        m.d.comb += [move.eq(~o.valid | o.ready), i.ready.eq(move)]
        with m.If(move):
            m.d.sync += [full.eq(i.valid), product.eq(i.p.x * i.p.factor), tag.eq(i.p.tag), o.valid.eq(full),
                         o.p.x.eq((product + (1 << 15)) >> 16), o.p.tag.eq(tag)]
        return m
