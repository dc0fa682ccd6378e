"""Any function of a byte, from a table that the host writes."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hdl.block import Block
from hdl.bus.ram import Ram


class Lookup(Block):
    """Return ``table[x]``.

    Twin of `golden.imc.lookup.lookup`. A value a cycle, offered in the cycle after it is accepted, full back-pressure.

    Parameters
    ----------
    tag_bits : int
        What comes with a value and leaves with it.

    Members
    -------
    write : In, {valid, x, y}: the host writes an entry; after reset the table holds anything
    i : In(stream), {x, tag}, the low 8 bits of a value; o : Out(stream), {y, tag}

    Source: workloads 5.2, LUT256.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, tag_bits: int) -> None:
        self.params: int = tag_bits
        super().__init__({
            "write": In(self.write_layout()), "i": In(stream.Signature(data.StructLayout({"x": 8, "tag": tag_bits}))),
            "o": Out(stream.Signature(data.StructLayout({"y": 8, "tag": tag_bits}))),
        })

    @staticmethod
    def write_layout() -> data.StructLayout:
        """Return an entry, ``y`` for the byte ``x``."""
        return data.StructLayout({"valid": 1, "x": 8, "y": 8})

    def build(self) -> Module:
        m, i, o, write, take = Module(), self.i, self.o, self.write, Signal()
        m.submodules.table = table = Ram(8, 256)
        m.d.comb += [
            i.ready.eq(~o.valid | o.ready), take.eq(i.valid & i.ready), table.r_en.eq(take), table.r_addr.eq(i.p.x),
            o.p.y.eq(table.r_data), table.w_en.eq(write.valid), table.w_addr.eq(write.x), table.w_data.eq(write.y),
        ]
        with m.If(i.ready):
            m.d.sync += o.valid.eq(take)
        with m.If(take):
            m.d.sync += o.p.tag.eq(i.p.tag)
        return m
