"""OR-pool of one lane: max-pool of spikes over the members of a window."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hdl.block import Block
from hdl.bus.ram import Ram


class OrPool(Block):
    """OR the words of a window's members, channel by channel.

    Twin of `golden.or_pool.or_pool`. The members of a window follow each other, each with all its channels; the OR of
    a channel is offered 2 cycles after its last member is accepted. One word a cycle; the channel of the word
    before is accepted one cycle later. Full back-pressure.

    Parameters
    ----------
    channels : int
        Most channels of a layer that pools; words of the RAM.
    t_max : int
        Width of a spike word.

    Members
    -------
    i : In(stream), `i_layout`
        Word of one channel of one member; ``first`` and ``last`` mark the members that begin and end a window.
    o : Out(stream), `o_layout`
        OR of the window, one word per channel.

    Source: DESIGN 4, OR-pool of the tail.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, channels: int, t_max: int) -> None:
        self.params: tuple[int, int] = (channels, t_max)
        super().__init__({
            "i": In(stream.Signature(self.i_layout(t_max))),
            "o": Out(stream.Signature(self.o_layout(t_max))),
        })

    @staticmethod
    def i_layout(t_max: int) -> data.StructLayout:
        """Return the payload of ``i``."""
        return data.StructLayout({"word": unsigned(t_max), "channel": unsigned(16), "first": unsigned(1),
                                  "last": unsigned(1)})

    @staticmethod
    def o_layout(t_max: int) -> data.StructLayout:
        """Return the payload of ``o``."""
        return data.StructLayout({"word": unsigned(t_max), "channel": unsigned(16)})

    def build(self) -> Module:
        """Return the contents: a word waits one cycle for the OR of the members before it."""
        m, i, o = Module(), self.i, self.o
        channels, t_max = self.params
        m.submodules.ram = ram = Ram(t_max, channels)
        busy = Signal()
        held = Signal(self.i_layout(t_max))
        word = Signal(t_max)
        leave = Signal()
        clash = Signal()
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
