"""Output compressor: words of one output fiber to bitmask and packed values."""

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from hdl.block import Block


class Compressor(Block):
    """Build one output fiber, or one part of it, channel after channel.

    Twin of `golden.compressor.compress`. One word a cycle while no piece waits; a piece of ``chunk_bits`` bits
    waits until it is acknowledged. ``close`` ends the fiber: the last pieces are shown with their bytes, and
    the next fiber starts after both are acknowledged. ``load``, while nothing is open, sets the byte that the
    part before began; 0 bits start a new fiber.

    Members
    -------
    put, word : In, the next channel's word (0: silent, not stored)
    close : In(1)
    load, load_bits, load_byte : In, bits already in the first byte of the values, and that byte
    open_bytes, open_bits, open_byte : Out, whole bytes in the open value piece, bits of the byte begun, that byte
    word_log2 : In, log2 of the stored width of a word
    mask_valid, mask, mask_bytes, mask_ack : piece of the bitmask
    value_valid, value, value_bytes, value_ack : piece of the packed words
    mask_index, value_index : Out, number of the piece in its fiber
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        size = range(p.chunk_bits // 8 + 1)
        super().__init__({
            "put": In(1), "word": In(p.t_max), "close": In(1), "word_log2": In(3),
            "load": In(1), "load_bits": In(3), "load_byte": In(7),
            "open_bytes": Out(size), "open_bits": Out(3), "open_byte": Out(7),
            "mask_valid": Out(1), "mask": Out(p.chunk_bits), "mask_bytes": Out(size), "mask_ack": In(1),
            "value_valid": Out(1), "value": Out(p.chunk_bits), "value_bytes": Out(size), "value_ack": In(1),
            "mask_index": Out(16), "value_index": Out(16),
        })

    def build(self) -> Module:
        m, p = Module(), self.params
        bits = p.chunk_bits
        channels, fill = Signal(range(bits + 1)), Signal(range(bits + 1))
        mask_end, value_end, ended = Signal(range(bits + 1)), Signal(range(bits + 1)), Signal()
        m.d.comb += [
            mask_end.eq(channels + 1), value_end.eq(fill + (1 << self.word_log2)),
            self.mask_bytes.eq((channels + 7) >> 3), self.value_bytes.eq((fill + 7) >> 3),
            self.open_bytes.eq(fill >> 3), self.open_bits.eq(fill[:3]),
            self.open_byte.eq(self.value.word_select((fill >> 3)[: (bits // 8 - 1).bit_length()], 8)),
        ]
        with m.If(self.load):
            m.d.sync += [fill.eq(self.load_bits), self.value.eq(self.load_byte)]
        with m.If(self.put):
            m.d.sync += [channels.eq(mask_end), self.mask_valid.eq(mask_end == bits)]
            with m.If(self.word != 0):
                m.d.sync += [
                    self.mask.eq(self.mask | (1 << channels[: bits.bit_length() - 1])),
                    self.value.eq(self.value | (self.word << fill[: bits.bit_length() - 1])),
                    fill.eq(value_end), self.value_valid.eq(value_end == bits)]
        with m.If(self.close):
            m.d.sync += [ended.eq(1), self.mask_valid.eq(channels != 0), self.value_valid.eq(fill != 0)]
        with m.If(self.mask_ack):
            m.d.sync += [self.mask_valid.eq(0), self.mask.eq(0), channels.eq(0), self.mask_index.eq(self.mask_index + 1)]
        with m.If(self.value_ack):
            m.d.sync += [self.value_valid.eq(0), self.value.eq(0), fill.eq(0), self.value_index.eq(self.value_index + 1)]
        with m.If(ended & ~self.mask_valid & ~self.value_valid):
            m.d.sync += [ended.eq(0), self.mask_index.eq(0), self.value_index.eq(0)]
        return m
