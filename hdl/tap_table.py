"""Where the row slots of a lane hold every chunk of a row."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.arch import Arch
from golden.formats import MAX_PASSES
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.descriptor import LAYER_LAYOUT, descriptor_bus
from hdl.pass_fields import PassFields


def tap_layout(p: Arch) -> data.StructLayout:
    """Return a chunk's mask bytes, its place in the slots of a row, its tap's first line, and whether its pass ends."""
    return data.StructLayout({"bytes": unsigned(8), "address": range(p.slot_chunks), "segment": unsigned(2),
                              "line": range(p.slot_lines), "end": unsigned(1)})


class TapTable(Block):
    """Table of the chunks of a row, in the order of the weight columns: passes, taps (ky, kx), chunks of the tap.

    Twin of `golden.tap_table.tap_table`. Tap row ky lies in segment ``ky mod 2^span_log2``. Filled
    2 cycles after ``layer_start``, and 2 more for each pass and one for each chunk; read with latency 1.

    Members
    -------
    descriptor, layer, layer_start : In
    ready : Out(1), the table is filled
    read : In(1), chunk : In; tap : Out, `tap_layout`
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        super().__init__({
            "descriptor": In(descriptor_bus()), "layer": In(LAYER_LAYOUT), "layer_start": In(1), "ready": Out(1),
            "read": In(1), "chunk": In(range(p.max_chunks)), "tap": Out(tap_layout(p))})

    def build(self) -> Module:
        m, p, layer = Module(), self.params, self.layer
        m.submodules.passes = passes = PassFields()
        connect(m, flipped(self.descriptor), passes.descriptor)
        m.submodules.table = table = Ram(tap_layout(p).size, p.max_chunks)
        fields, entry = passes.fields, Signal(tap_layout(p))
        number, chunk = Signal(range(MAX_PASSES + 1)), Signal(range(p.max_chunks + 1))
        tap_y, tap_x, tap_chunk = Signal(8), Signal(8), Signal(8)
        row_address, row_line, address, line = (Signal(16, name=n) for n in ("row_address", "row_line", "address", "line"))
        after_y, after_x, after_chunk = Signal(8), Signal(8), Signal(8)
        last_y, last_x, last_chunk, turn = (Signal(name=n) for n in ("last_y", "last_x", "last_chunk", "turn"))
        m.d.comb += [
            passes.number.eq(number),
            after_y.eq(tap_y + 1), after_x.eq(tap_x + 1), after_chunk.eq(tap_chunk + 1),
            last_y.eq(after_y == fields.kernel_height), last_x.eq(after_x == fields.kernel_width),
            last_chunk.eq(after_chunk == fields.tap_chunks),
            turn.eq(((after_y >> layer.span_log2) << layer.span_log2) == after_y),
            entry.bytes.eq(p.chunk_bits // 8), entry.address.eq(address + tap_chunk), entry.line.eq(line),
            entry.segment.eq(tap_y & ((1 << layer.span_log2) - 1)), entry.end.eq(last_y & last_x & last_chunk),
            table.w_addr.eq(chunk), table.w_data.eq(entry),
            table.r_en.eq(self.read), table.r_addr.eq(self.chunk), self.tap.as_value().eq(table.r_data),
        ]
        with m.If(last_chunk):
            m.d.comb += entry.bytes.eq(fields.last_bytes)
        with m.FSM():
            with m.State("READY"):
                m.d.comb += self.ready.eq(~self.layer_start)
                with m.If(self.layer_start):
                    m.d.sync += [number.eq(0), chunk.eq(0)]
                    m.next = "PASS"
            with m.State("PASS"):
                m.d.comb += passes.load.eq(1)
                m.next = "FIELDS"
                with m.If(number == layer.passes):
                    m.next = "READY"
            with m.State("FIELDS"):
                m.d.sync += [row_address.eq(fields.chunk_base), row_line.eq(fields.line_base), address.eq(fields.chunk_base),
                             line.eq(fields.line_base), tap_y.eq(0), tap_x.eq(0), tap_chunk.eq(0)]
                m.next = "WALK"
            with m.State("WALK"):
                m.d.comb += table.w_en.eq(1)
                m.d.sync += [chunk.eq(chunk + 1), tap_chunk.eq(after_chunk)]
                with m.If(last_chunk):
                    m.d.sync += [tap_chunk.eq(0), tap_x.eq(after_x), address.eq(address + fields.tap_chunks),
                                 line.eq(line + fields.tap_lines)]
                    with m.If(last_x):
                        m.d.sync += [tap_x.eq(0), tap_y.eq(after_y)]
                        with m.If(turn):
                            m.d.sync += [row_address.eq(address + fields.tap_chunks), row_line.eq(line + fields.tap_lines)]
                        with m.Else():
                            m.d.sync += [address.eq(row_address), line.eq(row_line)]
                        with m.If(last_y):
                            m.d.sync += number.eq(number + 1)
                            m.next = "PASS"
        return m
