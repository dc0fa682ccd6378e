"""Layers for the benches of walker, row loader, residual and tail: random shapes as descriptor fields."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cocotb.triggers import RisingEdge

from golden.arch import Arch
from golden.formats import PASS, PLANE, PLANE_WORD, RECORD_BYTES, TAPS, pack
from golden.walker import chunk_table
from hdl.descriptor import LAYER_LAYOUT
from verif.chunks import TINY, WIDE
from verif.sim import parameters_of_bench
from verif.stream import start_clock, word

ARCHS = {
    "tiny": TINY,
    "tiny, 16 steps": replace(WIDE, requantise=True, digit=True, skip_taps=True),
    "one lane, short chunks": replace(TINY, lanes=1, chunk_bits=16, t_max=4, row_value_lines=160,
                                      requantise=True),
    "eight lanes, wide bus": replace(TINY, lanes=8, chunk_bits=64, data_bits=128, t_max=4, max_chunks=16,
                                     row_value_lines=32, weight_bytes=512, burst_beats=16, buffer_bytes=16384,
                                     requantise=True),
}


def arch() -> Arch:
    """Return the build of the block in the simulator."""
    return Arch(**parameters_of_bench())


@dataclass(frozen=True)
class Case:
    """A layer as descriptor fields; ``channels`` of the operand of each pass."""

    layer: Mapping[str, int]
    passes: Sequence[Mapping[str, int]]
    channels: Sequence[int]
    memory_bytes: int


def draw_case(rng: random.Random, p: Arch, *, steps: int | None = None) -> Case:
    """Return a layer of 1 to 3 passes over maps of one output size: kernels, strides, paddings, OR-pool members.

    Operands lie behind each other in memory from offset 64 on, and fit ``max_chunks`` and the row's lines.
    """
    steps = steps or rng.randint(1, p.t_max)
    word_log2 = (1 << (steps - 1).bit_length()).bit_length() - 1
    while True:
        height, width = rng.randint(1, 6), rng.randint(1, 6)
        pool = rng.choice(((1, 1, 0), (2, 2, 0), (3, 2, 1), (2, 1, 0), (3, 3, 1)))
        out = [(size + 2 * pool[2] - pool[0]) // pool[1] + 1 for size in (height, width)]
        passes, channels, at = [], [], 64
        for _ in range(rng.choice((1, 1, 2, 3))):
            kernel = (rng.randint(1, 3), rng.randint(1, 3))
            stride, padding = rng.randint(1, 3), rng.randint(0, 2)
            size = [(n - 1) * stride + k - 2 * padding + rng.randrange(stride)
                    for n, k in zip((height, width), kernel, strict=True)]
            count = rng.choice((1, 7, 8, p.chunk_bits - 1, p.chunk_bits, p.chunk_bits + 1, 2 * p.chunk_bits + 9))
            tap_chunks = -(-count // p.chunk_bits)
            mask_stride, slot_stride = -(-count // 8), -(-(count << word_log2) // 8)
            area = max(0, size[0] * size[1])
            passes.append({
                "masks": at, "mask_stride": mask_stride, "values": at + area * mask_stride, "slot_stride": slot_stride,
                "height": size[0], "width": size[1], "kernel_height": kernel[0], "kernel_width": kernel[1],
                "stride": stride, "padding": padding, "input": rng.randrange(2), "identity": 1,
                "tap_chunks": tap_chunks, "last_bytes": mask_stride - (tap_chunks - 1) * p.chunk_bits // 8,
                "planes": steps, "steps": (1 << steps) - 1, "skipped": _skipped(rng, *kernel) if p.skip_taps else 0})
            channels.append(count)
            at += area * (mask_stride + slot_stride)
        chunks = len(chunk_table(passes, p.chunk_bits))
        bits = sum(c * s["kernel_height"] * s["kernel_width"] << word_log2 for c, s in zip(channels, passes, strict=True))
        if (min(out) >= 1 and all(min(s["height"], s["width"]) >= 1 for s in passes)
                and chunks <= p.max_chunks and bits <= p.row_value_bits):
            break
    layer = {
        "passes": len(passes), "steps": steps, "operand_log2": word_log2, "word_log2": word_log2, "height": height,
        "width": width, "out_height": out[0], "out_width": out[1], "chunks": chunks, "pool_kernel": pool[0],
        "pool_stride": pool[1], "pool_padding": pool[2], "or_pool": int(pool != (1, 1, 0)),
        "row_tiles": -(-out[0] * out[1] // p.lanes), "column_tiles": 1, "columns": 1, "min_spikes": 1}
    return Case(layer, passes, channels, at)


def _skipped(rng: random.Random, height: int, width: int) -> int:
    """Return taps that are skipped, at least one is not, as the field says it."""
    taps = height * width
    some = rng.choice((0, rng.randrange((1 << taps) - 1), 0b101000101 if taps == 9 else 0))
    return some | (1 << 32) - (1 << taps) if some else 0


def layer_word(fields: Mapping[str, int]) -> int:
    """Return the value of a block's ``layer`` port."""
    return word(LAYER_LAYOUT, fields)


def pass_record(fields: Mapping[str, int], planes: Sequence[Mapping[str, int]] = ()) -> bytes:
    """Return a pass descriptor."""
    record = bytearray(pack(PASS + TAPS, RECORD_BYTES, dict(fields)))
    for bit, plane in enumerate(planes):
        at = 4 * (PLANE_WORD + bit)
        record[at : at + 4] = pack(PLANE, 4, dict(plane))
    return bytes(record)


async def start(dut: Any, inputs: Sequence[str]) -> None:
    """Start the clock and reset with the named inputs at 0."""
    start_clock(dut)
    for name in inputs:
        getattr(dut, name).value = 0
    dut.rst.value = 1
    for _ in range(3):
        await RisingEdge(dut.clk)


async def describe(dut: Any, layer: Mapping[str, int], records: Sequence[bytes]) -> None:
    """Show the pass descriptors on the descriptor bus, then hold ``layer``."""
    for number, record in enumerate(records, 1):
        for at in range(0, len(record), 4):
            dut.descriptor__valid.value, dut.descriptor__record.value = 1, number
            dut.descriptor__word.value = at // 4
            dut.descriptor__data.value = int.from_bytes(record[at : at + 4], "little")
            await RisingEdge(dut.clk)
    dut.descriptor__valid.value = 0
    dut.layer.value = layer_word(layer)
    await RisingEdge(dut.clk)
