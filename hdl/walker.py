"""Convolution walker: which bytes of which fibers make up the rows of a tile."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from golden.formats import MAX_PASSES, PASS, PLACE_BITS, TAPS
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.descriptor import LAYER_LAYOUT, PASS_LAYOUT, capture, descriptor_bus, layout

PASS_WORDS = 16


def chunk_run_layout(p: Arch) -> data.StructLayout:
    """Return one step of the walk: the mask bytes of one chunk of one lane's row (0 bytes: silent)."""
    return data.StructLayout({
        "address": p.address_bits, "bytes": 24, "lane": range(max(2, p.lanes)), "value_address": p.address_bits,
        "fiber_end": 1, "row_end": 1})


class Walker(Block):
    """Walk a tile of up to ``lanes`` output pixels: passes, taps (ky, kx), chunks of the tap, lanes.

    Twin of `golden.walker.walker`. One step a cycle after 16 cycles per pass, and one cycle for each skipped tap in front of
    one that is not. A tap outside the map, a lane beyond the last pixel and a pool member outside the convolution's map
    give silent steps. Pixels are those after the OR-pool; ``member`` chooses the pixel of the pooling window. No copy of the
    map is made: every step names bytes of the tensor as it lies in memory.

    Members
    -------
    descriptor : descriptor bus, passes are kept
    layer : In, layer fields
    base, input_offset : In, byte addresses
    restart : In(1), go back to the first tile
    start : In(1), walk the next (tile, member); only while ``idle``
    chunk_en, chunk, chunk_bytes, chunk_last : Out, chunk table of the row, shown while lane 0 is walked
    o : Out(stream), `chunk_run_layout`
    """

    o: stream.Interface

    def __init__(self, p: Arch) -> None:
        self.params = p
        super().__init__({
            "descriptor": In(descriptor_bus()), "layer": In(LAYER_LAYOUT),
            "base": In(p.address_bits), "input_offset": In(32),
            "restart": In(1), "start": In(1), "idle": Out(1),
            "chunk_en": Out(1), "chunk": Out(range(p.max_chunks)), "chunk_bytes": Out(8), "chunk_last": Out(1),
            "o": Out(stream.Signature(chunk_run_layout(p))),
        })

    def build(self) -> Module:
        m, p, o, layer, bus = Module(), self.params, self.o, self.layer, self.descriptor
        m.submodules.passes = passes = Ram(32, MAX_PASSES * PASS_WORDS)
        m.d.comb += [
            passes.w_en.eq(bus.valid & (bus.record != 0) & (bus.word < PASS_WORDS)),
            passes.w_addr.eq(Cat(bus.word[:4], (bus.record - 1)[:5])), passes.w_data.eq(bus.data),
        ]
        fields = Signal(PASS_LAYOUT)
        number, word, word_seen, seen = Signal(range(MAX_PASSES)), Signal(4), Signal(4), Signal()
        tap_y, tap_x, tap_chunk = Signal(8), Signal(8), Signal(16)
        lane, chunk = Signal(range(max(2, p.lanes))), Signal(range(p.max_chunks))
        y0, x0, y, x = (Signal(16, name=name) for name in ("y0", "x0", "y", "x"))
        member_y, member_x = Signal(8), Signal(8)
        signed_width = PLACE_BITS
        center_y, center_x = Signal(signed(signed_width)), Signal(signed(signed_width))
        tap_at_y, tap_at_x = Signal(signed(signed_width)), Signal(signed(signed_width))
        in_map, pixel = Signal(), Signal(PLACE_BITS)
        last_lane, last_chunk, last_x, last_y, last_pass = (
            Signal(name=f"last_{n}") for n in ("lane", "chunk", "x", "y", "pass"))
        step, end_x, last_tap, skip = Signal(), Signal(), Signal(), Signal()
        taps = Signal(layout(TAPS)) if p.skip_taps else None
        ahead: Value = Const(0, 32) if taps is None else taps.skipped
        after_x, after_y, after_chunk = (Signal(16, name=f"after_{name}") for name in ("x", "y", "chunk"))
        after_tap_y, after_tap_x, after_member_y, after_member_x, after_pass = (
            Signal(8, name=f"after_{name}") for name in ("tap_y", "tap_x", "member_y", "member_x", "pass"))
        origin = Signal(p.address_bits)

        def between(value: Signal, limit: Signal) -> Value:
            return (value >= 0) & (value < Cat(limit, Const(0, 1)).as_signed())

        m.d.comb += [
            center_y.eq(Cat(y, Const(0, 1)).as_signed() * Cat(layer.pool_stride, Const(0, 1)).as_signed()
                        - layer.pool_padding + member_y),
            center_x.eq(Cat(x, Const(0, 1)).as_signed() * Cat(layer.pool_stride, Const(0, 1)).as_signed()
                        - layer.pool_padding + member_x),
            tap_at_y.eq(center_y * Cat(fields.stride, Const(0, 1)).as_signed() - fields.padding + tap_y),
            tap_at_x.eq(center_x * Cat(fields.stride, Const(0, 1)).as_signed() - fields.padding + tap_x),
            in_map.eq((y < layer.out_height) & between(center_y, layer.height) & between(center_x, layer.width)
                      & between(tap_at_y, fields.height) & between(tap_at_x, fields.width)),
            pixel.eq(tap_at_y[:16] * fields.width + tap_at_x[:16]),
            origin.eq(self.base + Mux(fields.input, self.input_offset, 0)),
            after_x.eq(x + 1), after_y.eq(y + 1), after_chunk.eq(tap_chunk + 1), after_tap_y.eq(tap_y + 1),
            after_tap_x.eq(tap_x + 1), after_member_y.eq(member_y + 1), after_member_x.eq(member_x + 1),
            after_pass.eq(number + 1),
            last_lane.eq(lane == p.lanes - 1), last_chunk.eq(after_chunk == fields.tap_chunks),
            last_x.eq(after_tap_x == fields.kernel_width), last_y.eq(after_tap_y == fields.kernel_height),
            last_tap.eq((last_x & last_y) | ahead[1:].all()), skip.eq(ahead[0]),
            last_pass.eq(after_pass == layer.passes), end_x.eq(after_x == layer.out_width),
            o.p.address.eq(origin + fields.masks + pixel * fields.mask_stride[:PLACE_BITS] + tap_chunk * (p.chunk_bits // 8)),
            self.chunk_bytes.eq(Mux(last_chunk, fields.last_bytes, p.chunk_bits // 8)),
            o.p.bytes.eq(Mux(in_map, self.chunk_bytes, 0)),
            o.p.value_address.eq(origin + fields.values + pixel * fields.slot_stride[:PLACE_BITS]),
            o.p.lane.eq(lane), o.p.fiber_end.eq(last_chunk),
            o.p.row_end.eq(last_lane & last_chunk & last_tap & last_pass),
            step.eq(o.valid & o.ready),
            self.chunk.eq(chunk), self.chunk_last.eq(last_chunk & last_tap),
            self.chunk_en.eq(step & (lane == 0)),
            passes.r_addr.eq(Cat(word, number)),
        ]
        with m.If(self.restart):
            m.d.sync += [y0.eq(0), x0.eq(0), member_y.eq(0), member_x.eq(0)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(1)
                with m.If(self.start):
                    m.d.sync += [number.eq(0), word.eq(0), chunk.eq(0)]
                    m.next = "FIELDS"
            with m.State("FIELDS"):
                m.d.comb += passes.r_en.eq(1)
                m.d.sync += [word.eq(word + 1), word_seen.eq(word), seen.eq(word != PASS_WORDS - 1)]
                with m.If(seen):
                    capture(m, PASS, fields, word=word_seen, value=passes.r_data)
                    if taps is not None:
                        capture(m, TAPS, taps, word=word_seen, value=passes.r_data)
                with m.If(word == PASS_WORDS - 1):
                    m.d.sync += [seen.eq(0), tap_y.eq(0), tap_x.eq(0), tap_chunk.eq(0), lane.eq(0),
                                 y.eq(y0), x.eq(x0)]
                    m.next = "WALK"
            with m.State("WALK"):
                m.d.comb += o.valid.eq(~skip)
                with m.If(skip | (step & last_lane & last_chunk)):
                    m.d.sync += tap_x.eq(after_tap_x)
                    if taps is not None:
                        m.d.sync += taps.skipped.eq(Cat(taps.skipped[1:], taps.skipped[-1]))
                    with m.If(last_x):
                        m.d.sync += [tap_x.eq(0), tap_y.eq(after_tap_y)]
                with m.If(step):
                    m.d.sync += x.eq(after_x)
                    with m.If(end_x):
                        m.d.sync += [x.eq(0), y.eq(after_y)]
                    m.d.sync += lane.eq(lane + 1)
                    with m.If(last_lane):
                        m.d.sync += [lane.eq(0), y.eq(y0), x.eq(x0), tap_chunk.eq(after_chunk), chunk.eq(chunk + 1)]
                        with m.If(last_chunk):
                            m.d.sync += tap_chunk.eq(0)
                            with m.If(last_tap):
                                m.d.sync += [number.eq(after_pass), word.eq(0)]
                                m.next = "FIELDS"
                    with m.If(o.p.row_end):
                        m.d.sync += member_x.eq(after_member_x)
                        with m.If(after_member_x == layer.pool_kernel):
                            m.d.sync += [member_x.eq(0), member_y.eq(after_member_y)]
                            with m.If(after_member_y == layer.pool_kernel):
                                m.d.sync += [member_y.eq(0), x0.eq(Mux(end_x, 0, after_x)), y0.eq(Mux(end_x, after_y, y))]
                        m.next = "IDLE"
        return m
