"""Pixel loader of the loom: reads every pixel that the rows of a tile need, once."""

from amaranth.hdl import Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.arch import Arch
from golden.formats import MAX_PASSES, PLACE_BITS
from hdl.block import Block
from hdl.bus.fetch import Fetch, ar_signature
from hdl.bus.ram import Ram
from hdl.count_ones import count_ones
from hdl.descriptor import LAYER_LAYOUT, descriptor_bus
from hdl.laggy_prefix_sum import GROUP_BITS
from hdl.pass_fields import PassFields
from hdl.spike_buffer import row_chunk_layout
from hdl.tile_rows import MAP_BITS, at

PLACE = signed(MAP_BITS + 2)


def pixel_layout() -> data.StructLayout:
    """Return a pixel: its place in its map, its lines of words, and whether it is the last of its pass."""
    return data.StructLayout({"y": PLACE, "x": PLACE, "lines": unsigned(12), "end": unsigned(1)})


class PixelLoader(Block):
    """Fetch the fibers of all pixels in the rectangle of a tile, pass after pass, and keep them until they are spread.

    Twin of `golden.pixel_loader.pixel_loader`. A pixel is read once, however many rows it belongs to. ``counted`` is high
    when all masks are asked for and those of the first pass are there, ``loaded`` when everything is. A mask takes one
    cycle, in which its words are counted, and a pixel whose masks begin a beat of memory one more; words take a cycle a
    line of ``chunk_bits`` bits and one more a pixel. At a memory latency of 1, one pass of silent pixels is loaded 7 cycles
    after ``start`` and those of its masks, one of pixels with words 11 after ``start``, the first pixel's chunks and the words.

    Members
    -------
    descriptor, layer, base, input_offset : In
    start : In(1), load the rectangle ``low_y`` to ``high_x``, which are pixels before the first pass's kernel
    counted, loaded : Out(1)
    count_valid, count_y, count_x, count : Out, words of a mask of the first pass
    mask_ar, mask_r, value_ar, value_r : memory
    pixel_read, pixel : entry n; mask_read, mask : chunk n; line_read, line : line n; each with its address, latency 1
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        fetch = stream.Signature(p.data_bits, always_ready=True)
        super().__init__({
            "descriptor": In(descriptor_bus()), "layer": In(LAYER_LAYOUT), "base": In(p.address_bits),
            "input_offset": In(32), "layer_start": In(1), "start": In(1), "low_y": In(PLACE), "high_y": In(PLACE),
            "low_x": In(PLACE), "high_x": In(PLACE), "counted": Out(1), "loaded": Out(1),
            "count_valid": Out(1), "count_y": Out(PLACE), "count_x": Out(PLACE), "count": Out(range(p.chunk_bits + 1)),
            "mask_ar": Out(ar_signature(p.address_bits)), "mask_r": In(fetch),
            "value_ar": Out(ar_signature(p.address_bits)), "value_r": In(fetch),
            "pixel_read": In(1), "pixel_address": In(range(p.pixel_chunks)), "pixel": Out(pixel_layout()),
            "mask_read": In(1), "mask_address": In(range(p.pixel_chunks)), "mask": Out(row_chunk_layout(p)),
            "line_read": In(1), "line_address": In(range(p.pixel_lines)), "line": Out(p.chunk_bits),
        })

    def build(self) -> Module:
        m, p = Module(), self.params
        piece, log = p.chunk_bits // 8, (p.chunk_bits // 8).bit_length() - 1
        length_bits = (p.pixel_lines * piece).bit_length()
        user = data.StructLayout({"y": PLACE, "x": PLACE, "value_address": p.address_bits, "first": 1, "end": 1})
        m.submodules.passes = passes = PassFields()
        connect(m, flipped(self.descriptor), passes.descriptor)
        m.submodules.mask_fetch = masks = Fetch(p.data_bits, p.address_bits, piece, user.size, p.outstanding, p.burst_beats,
                                                length_bits, p.outstanding)
        m.submodules.value_fetch = values = Fetch(p.data_bits, p.address_bits, piece, 1, p.outstanding, p.burst_beats,
                                                  length_bits, p.outstanding)
        m.submodules.pixels = pixels = Ram(pixel_layout().size, p.pixel_chunks)
        m.submodules.masks = mask_store = Ram(p.row_entry_bits, p.pixel_chunks)
        m.submodules.lines = lines = Ram(p.chunk_bits, p.pixel_lines)
        connect(m, masks.ar, flipped(self.mask_ar))
        connect(m, flipped(self.mask_r), masks.r)
        connect(m, values.ar, flipped(self.value_ar))
        connect(m, flipped(self.value_r), values.r)
        walked, first_left, masks_left = Signal(), Signal(16), Signal(16)
        self._walk(m, masks.i, user, walked, first_left, masks_left)

        mask, entry = Signal(p.chunk_bits), Signal(row_chunk_layout(p))
        of, total, fiber = data.View(user, masks.o.p.user), Signal(p.index_bits + 1), Signal(row_chunk_layout(p)["base"].shape)
        pixel, pixel_at, mask_at, line_at = Signal(pixel_layout()), Signal(range(p.pixel_chunks)), Signal(
            range(p.pixel_chunks)), Signal(range(p.pixel_lines))
        bits, taken, need, values_left = Signal(length_bits + 3), Signal(), Signal(), Signal(16)
        ones = Signal(range(p.chunk_bits + 1))
        m.d.comb += [
            mask.eq(masks.o.p.data & ((Const(1, p.chunk_bits + 1) << (masks.o.p.bytes << 3)) - 1)), entry.mask.eq(mask),
            entry.base.eq(fiber), total.eq(fiber + ones), bits.eq(total << self.layer.operand_log2),
            need.eq(masks.o.p.last & (total != 0)), taken.eq(masks.o.valid & (~need | values.i.ready)), masks.o.ready.eq(taken),
            values.i.valid.eq(masks.o.valid & need), values.i.p.address.eq(of.value_address),
            values.i.p.bytes.eq((bits + 7) >> 3),
            mask_store.w_en.eq(taken), mask_store.w_addr.eq(mask_at), mask_store.w_data.eq(entry),
            pixel.y.eq(of.y), pixel.x.eq(of.x), pixel.lines.eq((bits + p.chunk_bits - 1) >> (log + 3)), pixel.end.eq(of.end),
            pixels.w_en.eq(taken & masks.o.p.last), pixels.w_addr.eq(pixel_at), pixels.w_data.eq(pixel),
            self.count_valid.eq(taken & of.first), self.count_y.eq(of.y), self.count_x.eq(of.x), self.count.eq(ones),
            values.o.ready.eq(1), lines.w_en.eq(values.o.valid), lines.w_addr.eq(line_at), lines.w_data.eq(values.o.p.data),
            self.counted.eq(walked & (first_left == 0)),
            self.loaded.eq(walked & (masks_left == 0) & (values_left == 0)),
            pixels.r_en.eq(self.pixel_read), pixels.r_addr.eq(self.pixel_address), self.pixel.as_value().eq(pixels.r_data),
            mask_store.r_en.eq(self.mask_read), mask_store.r_addr.eq(self.mask_address),
            self.mask.as_value().eq(mask_store.r_data),
            lines.r_en.eq(self.line_read), lines.r_addr.eq(self.line_address), self.line.eq(lines.r_data),
            masks.forget.eq(self.layer_start), values.forget.eq(self.layer_start),
        ]
        running = Const(0, p.count_bits)
        for group in range(p.laggy_cycles):
            sixteen = Signal(GROUP_BITS, name=f"group_{group}")
            m.d.comb += sixteen.eq(mask.word_select(group, GROUP_BITS))
            after = Signal(p.count_bits, name=f"after_{group}")
            m.d.comb += after.eq(running + count_ones(m, sixteen))
            running = after
            if group < p.laggy_cycles - 1:
                m.d.comb += entry.bases[group].eq(after)
        m.d.comb += ones.eq(running)
        asked, done = Signal(), Signal()
        m.d.comb += [asked.eq(masks.i.valid & masks.i.ready), done.eq(taken & masks.o.p.last)]
        with m.If(taken):
            m.d.sync += [mask_at.eq(mask_at + 1), fiber.eq(Mux(masks.o.p.last, 0, total))]
        m.d.sync += [
            pixel_at.eq(pixel_at + done), line_at.eq(line_at + values.o.valid),
            first_left.eq(first_left + (asked & data.View(user, masks.i.p.user).first) - (done & of.first)),
            masks_left.eq(masks_left + asked - done),
            values_left.eq(values_left + (taken & need) - (values.o.valid & values.o.p.last)),
        ]
        with m.If(self.start):
            m.d.sync += [pixel_at.eq(0), mask_at.eq(0), line_at.eq(0)]
        return m

    def _walk(self, m: Module, request: stream.Interface, user: data.StructLayout, walked: Signal, first_left: Signal,
              masks_left: Signal) -> None:
        p, layer, passes = self.params, self.layer, m.submodules.passes
        fields = passes.fields
        number, y, x, low_x, high_x, high_y = Signal(range(MAX_PASSES + 1)), *(
            Signal(PLACE, name=n) for n in ("y", "x", "low_x", "high_x", "high_y"))
        corner = {}
        for name, bound in (("low_y", self.low_y), ("high_y", self.high_y), ("low_x", self.low_x), ("high_x", self.high_x)):
            corner[name] = Signal(signed(MAP_BITS + 3), name=f"corner_{name}")
            m.d.comb += corner[name].eq(bound * at(fields.stride) - at(fields.padding))
        begin, end = {}, {}
        for name, bound in (("y", fields.height), ("x", fields.width)):
            low, stop = corner[f"low_{name}"], Signal(signed(MAP_BITS + 3), name=f"stop_{name}")
            begin[name], end[name] = Signal(PLACE, name=f"begin_{name}"), Signal(PLACE, name=f"end_{name}")
            most = at(bound) - 1
            m.d.comb += [
                stop.eq(corner[f"high_{name}"] + at(fields[f"kernel_{'height' if name == 'y' else 'width'}"]) - 1),
                begin[name].eq(Mux(low < 0, 0, Mux(low > most, most, low))),
                end[name].eq(Mux(stop < begin[name], begin[name], Mux(stop > most, most, stop))),
            ]
        pixel, own, origin = Signal(PLACE_BITS), Signal(user), Signal(p.address_bits)
        m.d.comb += [
            passes.number.eq(number),
            pixel.eq(y[:MAP_BITS] * fields.width[:MAP_BITS] + x[:MAP_BITS]),
            origin.eq(self.base + Mux(fields.input, self.input_offset, 0)),
            own.y.eq(y), own.x.eq(x), own.first.eq(number == 0), own.end.eq((y == high_y) & (x == high_x)),
            own.value_address.eq(origin + fields.values + pixel * fields.slot_stride[:PLACE_BITS]),
            request.p.address.eq(origin + fields.masks + pixel * fields.mask_stride[:PLACE_BITS]),
            request.p.bytes.eq(fields.mask_stride), request.p.user.eq(own),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += walked.eq(1)
                with m.If(self.start):
                    m.d.sync += number.eq(0)
                    m.next = "PASS"
            with m.State("PASS"):
                m.d.comb += passes.load.eq(1)
                m.next = "FIELDS"
                with m.If(number == layer.passes):
                    m.next = "IDLE"
            with m.State("FIELDS"):
                m.d.sync += [y.eq(begin["y"]), x.eq(begin["x"]), low_x.eq(begin["x"]), high_y.eq(end["y"]), high_x.eq(end["x"])]
                m.next = "WALK"
            with m.State("WALK"):
                m.d.comb += request.valid.eq(1)
                with m.If(request.ready):
                    m.d.sync += x.eq(x + 1)
                    with m.If(x == high_x):
                        m.d.sync += [x.eq(low_x), y.eq(y + 1)]
                    with m.If(own.end):
                        m.d.sync += number.eq(number + 1)
                        m.next = "PASS"
