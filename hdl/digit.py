"""Digits of all lanes: bits of the currents become a word, one bit a cycle."""

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from hdl.block import Block


class Digit(Block):
    """Make words of bits of the currents of every lane.

    Twin of `golden.digit.digit`. All lanes take the same bit in a cycle, the word's highest first, so a lane is a multiplexer
    and the word's shift register. Bits beyond the current's width are its sign. With ``clip`` a step begins at the sign,
    and the bits above those that are taken only say whether they are all 1. Currents must stand until they are accepted,
    which is when the word is made: ``1 + n * b`` cycles after they are offered, b is ``bits``, with ``clip``
    ``max(bits, stream_bits - low)``, and n the steps that are taken. The word is offered in the next cycle. A column every
    ``1 + n * b`` cycles, full back-pressure.

    Members
    -------
    i : In(stream), `i_layout`
        Currents of every lane; ``low``, ``bits`` (0 as 1), ``clip`` as in `golden.network.Digit`; ``one``: of ``step`` alone,
        else of steps 0 to ``steps - 1``.
    o : Out(stream), `o_layout`
        Word of every lane.

    Source: networks 2.1, the 1x1 stride-2 shortcuts, which read the residual stream itself.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, p: Arch) -> None:
        self.params = p
        super().__init__({"i": In(stream.Signature(self.i_layout(p))), "o": Out(stream.Signature(self.o_layout(p)))})

    @staticmethod
    def i_layout(p: Arch) -> data.StructLayout:
        """Return the payload of ``i``."""
        return data.StructLayout({
            "x": data.ArrayLayout(data.ArrayLayout(signed(p.stream_bits), p.t_max), p.lanes), "low": unsigned(5),
            "bits": unsigned(5), "step": unsigned(4), "one": unsigned(1), "steps": unsigned(5), "clip": unsigned(1)})

    @staticmethod
    def o_layout(p: Arch) -> data.StructLayout:
        """Return the payload of ``o``."""
        return data.StructLayout({"words": data.ArrayLayout(p.t_max, p.lanes)})

    def build(self) -> Module:
        """Return the contents: wait, the bits of one step after the other, then the words stand until they are taken."""
        m, p, i, o = Module(), self.params, self.i, self.o
        top = p.stream_bits - 1
        busy, first, place, step = Signal(), Signal(), Signal(6), Signal(4)
        highest, start, shown, last_bit, last_step = Signal(6), Signal(6), Signal(), Signal(), Signal()
        at = Signal(range(p.stream_bits))
        m.d.comb += [
            highest.eq(i.p.low + Mux(i.p.bits == 0, 0, i.p.bits - 1)), start.eq(Mux(i.p.clip & (highest < top), top, highest)),
            at.eq(Mux(place > top, top, place)), shown.eq(place <= highest), last_bit.eq(place == i.p.low),
            last_step.eq(i.p.one | (step == 0)), i.ready.eq(busy & last_bit & last_step),
        ]
        with m.If(busy):
            m.d.sync += [place.eq(Mux(last_bit, start, place - 1)), first.eq(last_bit)]
            with m.If(last_bit):
                m.d.sync += [step.eq(step - 1), busy.eq(~last_step)]
        with m.Elif(i.valid & (~o.valid | o.ready)):
            m.d.sync += [busy.eq(1), first.eq(1), place.eq(start), step.eq(Mux(i.p.one, i.p.step, i.p.steps - 1))]
        with m.If(i.ready):
            m.d.sync += o.valid.eq(1)
        with m.Elif(o.ready):
            m.d.sync += o.valid.eq(0)
        for lane in range(p.lanes):
            current, bit, taken = Signal(p.stream_bits, name=f"current_{lane}"), Signal(name=f"bit_{lane}"), Signal(
                name=f"taken_{lane}")
            minus, over = Signal(name=f"minus_{lane}"), Signal(name=f"over_{lane}")
            below, beyond = Signal(name=f"below_{lane}"), Signal(name=f"beyond_{lane}")
            m.d.comb += [
                current.eq(i.p.x[lane].as_value().word_select(step, p.stream_bits)), bit.eq(current.bit_select(at, 1)),
                below.eq(Mux(first, bit, minus)), beyond.eq(over & ~first),
                taken.eq(Mux(i.p.clip, ~below & (beyond | bit), bit)),
            ]
            with m.If(busy):
                m.d.sync += [minus.eq(below), over.eq(beyond | (bit & ~shown))]
                with m.If(shown):
                    m.d.sync += o.p.words[lane].eq((o.p.words[lane] << 1) | taken)
            with m.Elif(i.valid & (~o.valid | o.ready)):
                m.d.sync += o.p.words[lane].eq(0)
        return m
