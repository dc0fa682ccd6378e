"""Fiber writer: compresses the output fibers of all lanes and writes their pieces to memory."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from golden.formats import CURRENT_BYTES, PLACE_BITS
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.compressor import Compressor
from hdl.descriptor import LAYER_LAYOUT


def piece_bytes(p: Arch) -> int:
    """Return the most bytes of one write."""
    return max(p.chunk_bits // 8, CURRENT_BYTES)


def piece_layout(p: Arch) -> data.StructLayout:
    """Return one write: byte address, bytes, how many of them."""
    return data.StructLayout({
        "address": p.address_bits, "data": 8 * piece_bytes(p), "bytes": range(piece_bytes(p) + 1)})


class FiberWriter(Block):
    """One compressor per lane, one port to memory, and the ends of the fibers that a layer leaves open.

    Twin of `golden.compressor.compress` for every lane. A column of words is taken in one cycle while ``waiting`` is
    low. Complete pieces leave one in two cycles, masks first, lowest lane first; pieces of lanes without a pixel are
    dropped in the same way. After the last channel the fibers close by themselves: ``waiting`` stays high from the
    cycle after it until all pieces are written. Where the fibers of a tile end is kept; a layer with ``resume``
    appends to them. ``layer``, ``tile`` and ``first_pixel`` stand two cycles before the first column.

    Members
    -------
    layer, base, tile, first_pixel, present : In, layer fields, byte address, row tile, pixel of lane 0, lanes that hold one
    put, words : In, the next channel of every lane
    waiting : Out(1)
    o : Out(stream), `piece_layout`
    """

    o: stream.Interface

    def __init__(self, p: Arch) -> None:
        self.params = p
        super().__init__({
            "layer": In(LAYER_LAYOUT), "base": In(p.address_bits), "tile": In(32), "first_pixel": In(PLACE_BITS),
            "present": In(p.lanes),
            "put": In(1), "words": In(data.ArrayLayout(p.t_max, p.lanes)), "waiting": Out(1),
            "o": Out(stream.Signature(piece_layout(p))),
        })

    def build(self) -> Module:
        m, p, layer, o = Module(), self.params, self.layer, self.o
        packers = [Compressor(p) for _ in range(p.lanes)]
        for lane, packer in enumerate(packers):
            m.submodules[f"compressor_{lane}"] = packer
        column, closing, ending = Signal(16), Signal(), Signal()
        masks, values = Signal(p.lanes), Signal(p.lanes)
        lane, of_mask, sending, done, wanted = (
            Signal(range(max(2, p.lanes))), *(Signal(name=n) for n in ("of_mask", "sending", "done", "wanted")))
        pixel, piece, place = Signal(PLACE_BITS), Signal(16), Signal(32)
        entries = data.ArrayLayout(data.StructLayout({"bytes": 16, "bits": 3, "byte": 7}), p.lanes)
        m.submodules.ends = ends = Ram(entries.size, p.resume_tiles)
        before, after = Signal(entries), Signal(entries)
        pending, load = Signal(), Signal()

        def chosen(name: str) -> Signal:
            return Mux(of_mask, Array(getattr(k, f"mask{name}") for k in packers)[lane],
                       Array(getattr(k, f"value{name}") for k in packers)[lane])

        m.d.comb += [
            masks.eq(Cat(k.mask_valid for k in packers)), values.eq(Cat(k.value_valid for k in packers)),
            pending.eq((masks | values).any()),
            ending.eq(closing & ~pending), self.waiting.eq(pending | closing),
            load.eq((column == 0) & ~self.put & ~self.waiting),
            ends.r_en.eq(load), ends.r_addr.eq(self.tile), ends.w_en.eq(ending), ends.w_addr.eq(self.tile),
            ends.w_data.eq(after), before.eq(Mux(layer.resume, ends.r_data, 0)),
            pixel.eq(self.first_pixel + lane), piece.eq(chosen("_index")),
            place.eq(Mux(of_mask, layer.out_masks, layer.out_values + Array(entry.bytes for entry in before)[lane])
                     + pixel * Mux(of_mask, layer.out_mask_stride, layer.out_slot_stride)[:PLACE_BITS]),
            wanted.eq(self.present.bit_select(lane, 1)),
            o.valid.eq(sending & wanted), o.p.data.eq(chosen("")), o.p.bytes.eq(chosen("_bytes")),
            o.p.address.eq(self.base + place + piece * (p.chunk_bits // 8)),
            done.eq(sending & (~wanted | o.ready)),
        ]
        with m.If(self.put):
            m.d.sync += column.eq(column + 1)
            with m.If(column == layer.columns - 1):
                m.d.sync += [column.eq(0), closing.eq(1)]
        with m.If(ending):
            m.d.sync += closing.eq(0)
        with m.If(done):
            m.d.sync += sending.eq(0)
        with m.Elif(~sending & pending):
            m.d.sync += [sending.eq(1), of_mask.eq(masks.any())]
            for n in reversed(range(p.lanes)):
                with m.If(Mux(masks.any(), masks[n], values[n])):
                    m.d.sync += lane.eq(n)
        for n, packer in enumerate(packers):
            m.d.comb += [
                packer.put.eq(self.put), packer.word.eq(self.words[n]), packer.close.eq(ending),
                packer.word_log2.eq(layer.word_log2), packer.load.eq(load),
                packer.load_bits.eq(before[n].bits), packer.load_byte.eq(before[n].byte),
                after[n].bytes.eq(before[n].bytes + packer.value_index * (p.chunk_bits // 8) + packer.open_bytes),
                after[n].bits.eq(packer.open_bits), after[n].byte.eq(packer.open_byte),
                packer.mask_ack.eq(done & of_mask & (lane == n)), packer.value_ack.eq(done & ~of_mask & (lane == n)),
            ]
        return m
