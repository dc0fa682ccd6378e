"""Descriptor fields of the passes of a layer, kept to be read pass after pass."""

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from golden.formats import MAX_PASSES, PASS, PLANE_WORD
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.descriptor import PASS_LAYOUT, capture, descriptor_bus


class PassFields(Block):
    """Keep the fields of every pass that the descriptor bus shows; read one pass in a cycle.

    Twin of `golden.pass_fields.pass_fields`. A pass is kept when its word `PLANE_WORD` is shown.

    Members
    -------
    descriptor : descriptor bus
    load : In(1), number : In, read a pass; latency 1
    fields : Out, of the pass that was read last
    """

    params = None

    def __init__(self) -> None:
        super().__init__({
            "descriptor": In(descriptor_bus()), "load": In(1), "number": In(range(MAX_PASSES)), "fields": Out(PASS_LAYOUT)})

    def build(self) -> Module:
        m, bus = Module(), self.descriptor
        m.submodules.passes = passes = Ram(PASS_LAYOUT.size, MAX_PASSES)
        shown = Signal(PASS_LAYOUT)
        with m.If(bus.valid & (bus.record != 0)):
            capture(m, PASS, shown, word=bus.word, value=bus.data)
        m.d.comb += [
            passes.w_en.eq(bus.valid & (bus.record != 0) & (bus.word == PLANE_WORD)),
            passes.w_addr.eq(bus.record - 1), passes.w_data.eq(shown),
            passes.r_en.eq(self.load), passes.r_addr.eq(self.number), self.fields.as_value().eq(passes.r_data),
        ]
        return m
