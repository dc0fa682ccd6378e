"""Scale: bias, factor, rounding and saturation, one value a cycle."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.hdl import signed as signed_bits
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block


class Scale(Block):
    """Return ``((x + bias) * mult + half) >> shift``, saturated; exact, half a unit goes up.

    Twin of `golden.imc.scale.scale`. One value a cycle, offered 4 cycles after it is accepted: sum, product, shift, saturation.
    All four stages move together, when the value at the end can leave; full back-pressure.

    Parameters
    ----------
    tag_bits : int
        What comes with a value and leaves with it.

    Members
    -------
    settings : In, {bits, is_signed}; bits in 1..stream_bits, without sign in 1..stream_bits - 1; stands while a value is on
        its way
    i : In(stream), {x, mult, shift, bias, tag}; mult in ``-2^16..2^16 - 1``, which holds the factors of requantisers
    o : Out(stream), {q, tag}; q with its sign in front, so that its low ``bits`` bits are the word

    Source: imc 10, B7.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, p: ImcArch, tag_bits: int) -> None:
        self.params: tuple[ImcArch, int] = (p, tag_bits)
        super().__init__({
            "settings": In(self.settings_layout(p)), "i": In(stream.Signature(self.i_layout(p, tag_bits))),
            "o": Out(stream.Signature(self.o_layout(p, tag_bits))),
        })

    @staticmethod
    def settings_layout(p: ImcArch) -> data.StructLayout:
        """Return the run-time settings."""
        return data.StructLayout({"bits": range(p.stream_bits + 1), "is_signed": 1})

    @staticmethod
    def i_layout(p: ImcArch, tag_bits: int) -> data.StructLayout:
        """Return the payload of ``i``."""
        return data.StructLayout({
            "x": signed_bits(p.stream_bits), "mult": signed_bits(17), "shift": 5, "bias": signed_bits(p.stream_bits),
            "tag": tag_bits})

    @staticmethod
    def o_layout(p: ImcArch, tag_bits: int) -> data.StructLayout:
        """Return the payload of ``o``."""
        return data.StructLayout({"q": signed_bits(p.stream_bits), "tag": tag_bits})

    def build(self) -> Module:
        """Return the contents.

        ``|x + bias| <= 2^stream_bits``, so a product is at most ``2^(stream_bits + 16)``, and half a unit, at most ``2^30``, is
        smaller, since ``stream_bits >= 16``: their sum is below ``2^(stream_bits + 17)``.
        """
        m, i, o, settings = Module(), self.i, self.o, self.settings
        p, tag_bits = self.params
        wide = signed_bits(p.stream_bits + 18)
        summed = Signal(data.StructLayout({"x": signed_bits(p.stream_bits + 1), "mult": signed_bits(17), "shift": 5,
                                           "tag": tag_bits}))
        product = Signal(data.StructLayout({"x": wide, "shift": 5, "tag": tag_bits}))
        shifted = Signal(data.StructLayout({"x": wide, "tag": tag_bits}))
        move, there, half = Signal(), Signal(3), Signal(31)
        limit, negative, outside = Signal(signed_bits(p.stream_bits + 1)), Signal(), Signal()
        m.d.comb += [
            move.eq(~o.valid | o.ready), i.ready.eq(move), half.eq((1 << product.shift) >> 1),
            limit.eq(((1 << settings.bits) - 1) >> settings.is_signed), negative.eq(shifted.x < 0),
            outside.eq((Mux(negative, ~shifted.x, shifted.x) & ~limit) != 0),
        ]
        with m.If(move):
            m.d.sync += [
                there.eq(there << 1 | i.valid), o.valid.eq(there[2]),
                summed.x.eq(i.p.x + i.p.bias), summed.mult.eq(i.p.mult), summed.shift.eq(i.p.shift), summed.tag.eq(i.p.tag),
                product.x.eq(summed.x * summed.mult), product.shift.eq(summed.shift), product.tag.eq(summed.tag),
                shifted.x.eq((product.x + half) >> product.shift), shifted.tag.eq(product.tag),
                o.p.q.eq(Mux(negative & ~settings.is_signed, 0, Mux(outside, Mux(negative, ~limit, limit), shifted.x))),
                o.p.tag.eq(shifted.tag),
            ]
        return m
