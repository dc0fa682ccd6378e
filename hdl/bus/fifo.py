"""First-in first-out queue on the RAM primitive."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from hdl.block import Block
from hdl.bus.ram import Ram


class Fifo(Block):
    """Queue of ``depth`` payloads of ``width`` bits.

    Latency 2 cycles from an empty queue, throughput 1 payload per cycle, full back-pressure. ``space`` is the
    number of payloads that fit, the one in the output register counted.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, width: int, depth: int) -> None:
        self.params = (width, depth)
        self.width, self.depth = width, depth
        super().__init__({
            "i": In(stream.Signature(width)),
            "o": Out(stream.Signature(width)),
            "space": Out(range(depth + 1)),
        })

    def build(self) -> Module:
        m, i, o, depth = Module(), self.i, self.o, self.depth
        m.submodules.ram = ram = Ram(self.width, depth)
        head, tail = Signal(range(depth)), Signal(range(depth))
        total = Signal(range(depth + 1))
        push, load, pop = Signal(), Signal(), Signal()

        def after(pointer: Any) -> Any:
            return pointer + 1 if depth & (depth - 1) == 0 else Mux(pointer == depth - 1, 0, pointer + 1)

        m.d.comb += [
            i.ready.eq(total != depth),
            push.eq(i.valid & i.ready),
            pop.eq(o.valid & o.ready),
            load.eq(Mux(o.valid, o.ready & (total >> 1).any(), total != 0)),
            ram.w_en.eq(push), ram.w_addr.eq(tail), ram.w_data.eq(i.payload),
            ram.r_en.eq(load), ram.r_addr.eq(head),
            o.payload.eq(ram.r_data),
            self.space.eq(depth - total),
        ]
        with m.If(push & ~pop):
            m.d.sync += total.eq(total + 1)
        with m.Elif(pop & ~push):
            m.d.sync += total.eq(total - 1)
        with m.If(push):
            m.d.sync += tail.eq(after(tail))
        with m.If(load):
            m.d.sync += [head.eq(after(head)), o.valid.eq(1)]
        with m.Elif(pop):
            m.d.sync += o.valid.eq(0)
        return m
