"""Packets of a known length, from a stream of words."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hdl.block import Block
from hdl.imc.host_port import HostPort


class PacketPort(Block):
    """Gather the words of a packet.

    Twin of `golden.imc.packet_port.packet_port`. A word a cycle; a packet is offered in the cycle after its last word, and the
    next one begins in the cycle after it is taken. One of another length is left out and told, in the cycle of its last word,
    or of the word behind which another one comes.

    Members
    -------
    length : In, words of a packet, 1 to the most that there are; stands while packets come
    hold : In(1), no packet begins; flush : In(1), a packet that is offered or on its way is left out
    i : In(stream), {word, last}; o : Out(stream), its words; those behind ``length`` are of packets before
    error : Out(1), high for a cycle; busy : Out(1), a packet is on its way or offered

    Source: imc 10, B0.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, most: int) -> None:
        self.params = self.most = most
        super().__init__({
            "length": In(range(most + 1)), "hold": In(1), "flush": In(1), "i": In(stream.Signature(HostPort.word_layout())),
            "o": Out(stream.Signature(data.ArrayLayout(32, most))), "error": Out(1), "busy": Out(1)})

    def build(self) -> Module:
        m, i, o = Module(), self.i, self.o
        number, take, whole = Signal(range(self.most + 1)), Signal(), Signal()
        m.d.comb += [take.eq(i.valid & i.ready), whole.eq(number + 1 == self.length)]
        with m.FSM() as states:
            m.d.comb += self.busy.eq((number != 0) | ~states.ongoing("TAKE"))
            with m.State("TAKE"):
                m.d.comb += [i.ready.eq((~self.hold | (number != 0)) & ~self.flush), self.error.eq(take & (whole ^ i.p.last))]
                with m.If(take):
                    m.d.sync += number.eq(number + 1)
                    for n in range(self.most):
                        with m.If(number == n):
                            m.d.sync += o.p[n].eq(i.p.word)
                    with m.If(i.p.last | whole):
                        m.d.sync += number.eq(0)
                        m.next = "TAKE"
                        with m.If(whole & i.p.last):
                            m.next = "OFFER"
                        with m.Elif(whole):
                            m.next = "DROP"
                with m.If(self.flush & (number != 0)):
                    m.d.sync += number.eq(0)
                    m.next = "DROP"
            with m.State("OFFER"):
                m.d.comb += o.valid.eq(1)
                with m.If(o.ready | self.flush):
                    m.next = "TAKE"
            with m.State("DROP"):
                m.d.comb += i.ready.eq(1)
                with m.If(take & i.p.last):
                    m.next = "TAKE"
        return m
