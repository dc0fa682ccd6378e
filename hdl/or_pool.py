"""OR-pool of one lane: max-pool of spikes over the members of a window."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hdl.block import Block
from hdl.bus.ram import Ram


class OrPool(Block):
    """OR the words of a window's members, channel by channel.

    Twin of `golden.or_pool.or_pool`. The members of a window follow each other, each with all its channels in order;
    the OR of a channel leaves with the last member. Latency 2 cycles, throughput one word a cycle; a channel comes
    again at the earliest 2 cycles later, or waits that long.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, channels: int, t_max: int) -> None:
        self.params = (channels, t_max)
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"word": t_max, "channel": 16, "first": 1, "last": 1}))),
            "o": Out(stream.Signature(data.StructLayout({"word": t_max, "channel": 16}))),
        })

    def build(self) -> Module:
        m, i, o = Module(), self.i, self.o
        channels, t_max = self.params
        m.submodules.ram = ram = Ram(t_max, channels)
        busy, held, word = Signal(), Signal(i.payload.shape()), Signal(t_max)
        leave, clash = Signal(), Signal()
        m.d.comb += [
            clash.eq(busy & (i.p.channel == held.channel)),
            leave.eq(busy & (~held.last | ~o.valid | o.ready)),
            i.ready.eq((~busy | leave) & ~clash),
            ram.r_en.eq(i.valid & i.ready), ram.r_addr.eq(i.p.channel),
            word.eq(held.word | Mux(held.first, 0, ram.r_data)),
            ram.w_en.eq(leave & ~held.last), ram.w_addr.eq(held.channel), ram.w_data.eq(word),
        ]
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(leave):
            m.d.sync += busy.eq(0)
            with m.If(held.last):
                m.d.sync += [o.valid.eq(1), o.p.word.eq(word), o.p.channel.eq(held.channel)]
        with m.If(i.valid & i.ready):
            m.d.sync += [busy.eq(1), held.eq(i.payload)]
        return m
