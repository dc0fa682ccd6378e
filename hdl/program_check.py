"""Program check: is this program one that the build runs."""

from collections.abc import Iterable

from amaranth.hdl import Const, Module, Signal, Value
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from golden.formats import (
    ALIGN,
    FEATURES,
    FORMAT_MAJOR,
    HEADER,
    HEADER_BYTES,
    MAX_PASSES,
    MAX_PROGRAM_BYTES,
    PASS,
    PROGRAM_MAGIC,
)
from hdl.block import Block
from hdl.descriptor import LAYER_LAYOUT, layout

PASS_POSITIVE = ("height", "width", "kernel_height", "kernel_width", "stride", "tap_chunks")


class ProgramCheck(Block):
    """Say which error a header or a descriptor is.

    Twin of `golden.program_check`. Combinational. Codes are those of `golden.formats.ERRORS`, 0: none.

    Members
    -------
    header : In, header fields; crc : In(32), CRC32 of what follows its first 16 bytes
    layer : In, layer fields
    word : In(5), data : In(32), one word of a pass descriptor
    head_code : Out(8), from magic, length and version: what stands before the CRC can be computed
    body_code : Out(8), from CRC, limits and features
    layer_code : Out(8), from the fields that could keep a layer from ending
    pass_code : Out(8), from those of the word of a pass
    """

    clocked = False

    def __init__(self, p: Arch) -> None:
        self.params = p
        super().__init__({
            "header": In(layout(HEADER)), "crc": In(32), "layer": In(LAYER_LAYOUT),
            "word": In(5), "data": In(32),
            "head_code": Out(8), "body_code": Out(8), "layer_code": Out(8), "pass_code": Out(8),
        })

    def build(self) -> Module:
        m, p, header, layer = Module(), self.params, self.header, self.layer
        fits, length, legal = Signal(), Signal(), Signal()
        there = {"leak_1m2k": p.leak == "1-2^-k", "requantise": p.requantise, "attention": p.attention,
                 "token_sum": p.token_sum, "digit": p.digit, "skip_taps": p.skip_taps, "ttfs": p.ttfs}
        supported = sum(has << FEATURES[name] for name, has in there.items())
        limits = {"chunks": p.max_chunks, "row_lines": p.row_value_lines, "weight_bytes": p.weight_bytes,
                  "pool_channels": p.pool_channels, "resume_tiles": p.resume_tiles, "t_max": p.t_max,
                  "acc_bits": p.acc_bits, "stream_bits": p.stream_bits, "membrane_bits": p.membrane_bits}
        exact = {"chunk_bits": p.chunk_bits, "weight_bits": p.weight_bits, "lanes": p.lanes}
        positive = ("steps", "height", "width", "out_height", "out_width", "columns", "pool_kernel", "pool_stride",
                    "column_tiles", "row_tiles")
        m.d.comb += [
            length.eq((header.length[:2] == 0) & (header.length > HEADER_BYTES) & (header.length < MAX_PROGRAM_BYTES)),
            fits.eq((header.layers != 0) & _all(_most(header[name], most) for name, most in limits.items())
                    & _all(header[name] == value for name, value in exact.items())),
            legal.eq(_all(layer[name] != 0 for name in positive) & _most(layer.steps, p.t_max)
                     & _most(layer.passes, MAX_PASSES) & ((layer.passes == 0) == (layer.chunks == 0))
                     & _most(layer.chunks, p.max_chunks) & _most(layer.leak_shift, p.lif.k_max) & (layer.reset != 3)
                     & (layer.weights[: (ALIGN - 1).bit_length()] == 0)
                     & (~layer.requantise | (Const(p.requantise) & (layer.word_bits != 0) & _most(layer.word_bits, p.t_max)))
                     & (~layer.digit | (Const(p.digit) & (layer.digit_bits != 0) & _most(layer.digit_bits, p.t_max)))
                     & (~(layer.requantise | layer.digit) | _most(layer.word_step, p.t_max - 1 if p.digit else 0))
                     & (~layer.or_pool | _most(layer.columns, p.pool_channels))
                     & (~layer.resume | _most(layer.row_tiles, p.resume_tiles)) & self._loom_legal() & self._attention_legal()),
        ]
        if p.ttfs:
            with m.If(layer.ttfs & ((layer.window == 0) | ~_most(layer.window, p.ttfs_slots - 1) | (layer.passes == 0))):
                m.d.comb += legal.eq(0)
        with m.If((header.magic != PROGRAM_MAGIC) | ~length):
            m.d.comb += self.head_code.eq(1)
        with m.Elif(header.major != FORMAT_MAJOR):
            m.d.comb += self.head_code.eq(2)
        with m.If(self.crc != header.crc):
            m.d.comb += self.body_code.eq(3)
        with m.Elif(~fits):
            m.d.comb += self.body_code.eq(4)
        with m.Elif((header.features & ~Const(supported, 32)) != 0):
            m.d.comb += self.body_code.eq(5)
        with m.If(~legal):
            m.d.comb += self.layer_code.eq(8)
        for field in (field for field in PASS if field.name in PASS_POSITIVE):
            with m.If((self.word == field.word) & (self.data[field.lsb : field.lsb + field.width] == 0)):
                m.d.comb += self.pass_code.eq(8)
        return m

    def _attention_legal(self) -> Value:
        """Whether the counters of a head fit the build that does attention; a build without reads none of its fields."""
        p, layer = self.params, self.layer
        if not p.attention:
            return Const(1)
        return ~layer.attention | _all([
            layer.passes == 0, ~layer.residual, ~layer.or_pool, layer.chunk_steps != 0,
            _most(layer.columns, p.chunk_bits), layer.head_start[:3] == 0, layer.columns[:3] == 0,
            layer.columns <= layer.head_blocks * p.attention_columns,
            _most(layer.saturation, (1 << p.attention_bits) - 1),
            layer.groups == 1 if p.loom else Const(1)])

    def _loom_legal(self) -> Value:
        """Whether a loom build can deal the rows of a tile, and has columns for them."""
        p, layer = self.params, self.layer
        if not p.loom:
            return Const(1)
        return _all([
            layer.groups != 0, (layer.groups << layer.span_log2) <= p.rows, layer.teams_log2 < p.lanes.bit_length(),
            layer.tile_pixels != 0, _most(layer.tile_pixels, p.lanes * p.rows),
            (layer.groups == 1) | _most(layer.passes, p.window_columns),
            layer.stream_bytes != 0, layer.stream_bytes[: (ALIGN - 1).bit_length()] == 0])


def _most(value: Value, limit: int) -> Value:
    return Const(1) if limit >= (1 << len(value)) - 1 else value <= limit


def _all(conditions: Iterable[Value]) -> Value:
    result: Value = Const(1)
    for condition in conditions:
        result = result & condition
    return result
