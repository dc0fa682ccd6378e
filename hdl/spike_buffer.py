"""A lane's half-pair of row stores: masks with their laggy sums, and packed words."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.laggy_prefix_sum import LaggyPrefixSum


def row_chunk_layout(p: Arch) -> data.StructLayout:
    """Return what a lane keeps for one row chunk: mask, place of its first word, laggy group bases."""
    return data.StructLayout({
        "mask": p.chunk_bits, "base": p.index_bits,
        "bases": data.ArrayLayout(p.count_bits, p.laggy_cycles - 1)})


def piece_layout(p: Arch) -> data.StructLayout:
    """Return one piece of packed words; ``flush`` ends the row.

    ``data`` has ``bits`` bits and is 0 above them, then turned left by the bits that its line holds so far; ``here``
    marks the places of that line that are free.
    """
    return data.StructLayout({"data": p.chunk_bits, "here": p.chunk_bits, "bits": range(p.chunk_bits + 1), "flush": 1})


def place_piece(piece: Value, fill: Value) -> tuple[Value, Value]:
    """Return (data, here) of a piece whose first bit goes to place ``fill`` of a line."""
    width, turned = len(piece), piece
    for bit in range(len(fill)):
        turned = Mux(fill[bit], turned.rotate_left(1 << bit), turned)
    return turned, (Const((1 << width) - 1, width) << fill)[:width]


class SpikeBuffer(Block):
    """Row store of one lane, double-buffered: one half is filled while the other is read.

    Twin of `golden.spike_buffer.spike_buffer`. A mask takes ``chunk_bits / 16`` cycles (laggy prefix sum, once
    per row chunk); a value piece takes one cycle and joins the line before it. Reads of a chunk or a word have
    latency 1 and hold while their enable is low.

    Members
    -------
    i_mask : In(stream), chunk_bits
        Chunks of the row in order.
    i_value : In(stream), `piece_layout`
        Packed words in order, in their place; ``flush`` ends the row.
    fill : Out, bits that the line holds so far, for `place_piece`
    fill_half, read_half : In(1)
    chunk_en, chunk, row : read of a row chunk
    word_en, word_address, line : read of a line of words; ``word_address`` is a bit address
    idle : Out(1)
        No mask is on its way through the laggy sum.
    """

    i_mask: stream.Interface
    i_value: stream.Interface

    def __init__(self, p: Arch) -> None:
        self.params = p
        super().__init__({
            "i_mask": In(stream.Signature(p.chunk_bits)),
            "i_value": In(stream.Signature(piece_layout(p))),
            "fill_half": In(1), "read_half": In(1), "idle": Out(1),
            "fill": Out(range(p.chunk_bits)),
            "chunk_en": In(1), "chunk": In(range(p.max_chunks)), "row": Out(row_chunk_layout(p)),
            "word_en": In(1), "word_address": In(range(p.row_value_bits)), "line": Out(p.chunk_bits),
        })

    def build(self) -> Module:
        m, p = Module(), self.params
        m.submodules.laggy = laggy = LaggyPrefixSum(p.chunk_bits)
        m.submodules.masks = masks = Ram(p.row_entry_bits, 2 * p.max_chunks)
        m.submodules.words = words = Ram(p.chunk_bits, 2 * p.row_value_lines)

        chunk, base = Signal(range(p.max_chunks)), Signal(p.index_bits)
        entry = Signal(row_chunk_layout(p))
        value = self.i_value
        m.d.comb += [
            laggy.i.valid.eq(self.i_mask.valid), laggy.i.payload.eq(self.i_mask.payload),
            self.i_mask.ready.eq(laggy.i.ready),
            laggy.o.ready.eq(1),
            entry.mask.eq(laggy.o.p.mask), entry.base.eq(base), entry.bases.as_value().eq(laggy.o.p.bases.as_value()),
            masks.w_en.eq(laggy.o.valid), masks.w_addr.eq(_half(self.fill_half, p.max_chunks) + chunk),
            masks.w_data.eq(entry),
            masks.r_en.eq(self.chunk_en), masks.r_addr.eq(_half(self.read_half, p.max_chunks) + self.chunk),
            self.row.as_value().eq(masks.r_data),
        ]
        pending = Signal(2)
        m.d.comb += self.idle.eq(pending == 0)
        m.d.sync += pending.eq(pending + (laggy.i.valid & laggy.i.ready) - (laggy.o.valid & laggy.o.ready))
        with m.If(laggy.o.valid):
            m.d.sync += [chunk.eq(chunk + 1), base.eq(base + laggy.o.p.count)]

        line, partial, joined = Signal(range(p.row_value_lines + 1)), Signal(p.chunk_bits), Signal(p.chunk_bits)
        stop = Signal(range(2 * p.chunk_bits))
        full = Signal()
        m.d.comb += [
            joined.eq(partial | (value.p.data & value.p.here)),
            stop.eq(self.fill + value.p.bits),
            full.eq(stop[-1]),
            value.ready.eq(1),
            words.w_addr.eq(_half(self.fill_half, p.row_value_lines) + line), words.w_data.eq(joined),
            words.w_en.eq(value.valid & (full | (value.p.flush & (stop != 0)))),
            words.r_en.eq(self.word_en),
            words.r_addr.eq(_half(self.read_half, p.row_value_lines) + (self.word_address >> _log2(p.chunk_bits))),
            self.line.eq(words.r_data),
        ]
        with m.If(value.valid & value.p.flush):
            m.d.sync += [partial.eq(0), self.fill.eq(0), line.eq(0), chunk.eq(0), base.eq(0)]
        with m.Elif(value.valid):
            m.d.sync += [
                partial.eq(Mux(full, value.p.data & ~value.p.here, joined)),
                self.fill.eq(stop[:-1]), line.eq(line + full)]
        return m


def _half(half: Any, size: int) -> Any:
    return Mux(half, size, 0)


def _log2(size: int) -> int:
    return size.bit_length() - 1
