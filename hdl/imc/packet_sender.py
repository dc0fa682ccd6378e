"""Words of a packet, one behind the other."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hdl.block import Block
from hdl.imc.host_port import HostPort


class PacketSender(Block):
    """Give the words of a packet, of a fixed number.

    Twin of `golden.imc.packet_sender.packet_sender`. The first word is offered in the cycle after the packet is taken, then one
    a cycle; the next packet is taken with the last word at the earliest.

    Members
    -------
    i : In(stream), the words; o : Out(stream), {word, last}

    Source: imc 10, B0.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, words: int) -> None:
        self.params = self.words = words
        super().__init__({"i": In(stream.Signature(data.ArrayLayout(32, words))),
                          "o": Out(stream.Signature(HostPort.word_layout()))})

    def build(self) -> Module:
        m, i, o = Module(), self.i, self.o
        held, left = Signal(32 * self.words), Signal(range(self.words + 1))
        m.d.comb += [o.valid.eq(left != 0), o.p.word.eq(held), o.p.last.eq(left == 1),
                     i.ready.eq((left == 0) | (o.p.last & o.ready))]
        with m.If(o.valid & o.ready):
            m.d.sync += [held.eq(held >> 32), left.eq(left - 1)]
        with m.If(i.valid & i.ready):
            m.d.sync += [held.eq(i.payload), left.eq(self.words)]
        return m
