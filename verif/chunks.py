"""Chunks for the inner join and the TPPE: small builds, operands by corner and density, and the array's side of both."""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cocotb.triggers import FallingEdge, RisingEdge, Timer

from golden.arch import PRESETS, Arch
from golden.spike_buffer import RowChunk
from hdl.inner_join import value_ring
from hdl.spike_buffer import row_chunk_layout
from verif.sim import parameters_of_bench
from verif.stream import NEVER, cycle, word

HEAD_STEP = 13
DENSITIES = (0.02, 0.1, 0.5, 0.9, 1.0)
TINY = PRESETS["tiny"]
# tiny with the longest words, the widths for them, and longer addresses
WIDE = replace(TINY, t_max=16, acc_bits=24, stream_bits=24, membrane_bits=32, address_bits=40,
               buffer_bytes=16384)
# WIDE with spike times
TTFS = replace(WIDE, name="times", requantise=True, ttfs=True, weight_bytes=2048, buffer_bytes=16384)
# tiny as a loom of 4 lanes with 4 row slots, and one with short slots, longer chunks, 4-bit weights and a wide port
LOOM = replace(TINY, name="weave", dataflow="loom", rows=4, max_chunks=64, row_value_lines=128, weight_bytes=256,
               pixel_chunks=64, pixel_lines=192, buffer_bytes=16384)
LOOMS = {
    "loom": LOOM,
    "loom, 64-bit chunks, 4-bit weights, 8 lanes": replace(
        LOOM, lanes=8, rows=2, chunk_bits=64, weight_bits=4, t_max=2, max_chunks=8, row_value_lines=16, data_bits=128,
        weight_bytes=512, burst_beats=16),
}
ARCHS = {
    "tiny": TINY,
    "16-bit chunks, 4-bit weights, 1 step": replace(
        TINY, chunk_bits=16, weight_bits=4, t_max=1, row_value_lines=64, max_chunks=32),
    "16-bit chunks, 16 steps": replace(WIDE, chunk_bits=16, row_value_lines=160, max_chunks=32),
    "128-bit chunks, 4 steps": replace(TINY, chunk_bits=128, data_bits=128, t_max=4, row_value_lines=24, max_chunks=8),
    "128-bit chunks, 4-bit weights, 16 steps": replace(
        WIDE, chunk_bits=128, data_bits=128, weight_bits=4, row_value_lines=96, max_chunks=6, buffer_bytes=24576),
}


def arch() -> Arch:
    """Return the build of the block in the simulator."""
    return Arch(**parameters_of_bench())


def mask_pairs(rng: random.Random, bits: int) -> list[tuple[int, int]]:
    """Return pairs of masks: named corners, one match in each place that may be special, then densities 0.02 to 1."""
    full, top, even = (1 << bits) - 1, 1 << (bits - 1), int("01" * (bits // 2), 2)
    corners = [(0, 0), (0, full), (full, 0), (full, full), (top, top), (full, top), (top, full), (even, even << 1),
               (1, full), (full, 1), (full ^ top, top), (1 << (bits // 2) | top, full)]
    drawn = [(_mask(rng, bits, a), _mask(rng, bits, b)) for a, b in itertools.product(DENSITIES, repeat=2)]
    return corners + rng.sample(drawn, len(drawn))


def _mask(rng: random.Random, bits: int, density: float) -> int:
    return sum(1 << place for place in range(bits) if rng.random() < density)


def draw_weights(rng: random.Random, bits: int, count: int) -> list[int]:
    """Return non-zero signed weights; now and then all are the smallest or the largest."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    kind = rng.randrange(6)
    return [low if kind == 0 else high if kind == 1 else rng.choice((rng.randint(low, -1), rng.randint(1, high)))
            for _ in range(count)]


@dataclass(frozen=True)
class Chunk:
    """One chunk of a row joined with one chunk of a column; ``last`` ends the output's sum."""

    row: RowChunk
    mask_b: int
    weights: Sequence[int]
    last: bool

    @property
    def matches(self) -> int:
        """Positions set in both masks."""
        return (self.row.mask & self.mask_b).bit_count()


@dataclass
class Taken:
    """What the block did with one chunk: cycles in which it was told to go, weights that it took."""

    cycles: list[int] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)


def quiet(dut: Any) -> None:
    """Drive the array's side to rest; call before the reset."""
    for name in ("row", "mask_b", "values", "head", "first", "go", "last"):
        getattr(dut, name).value = 0


async def broadcast(dut: Any, p: Arch, chunks: Sequence[Chunk], pauses: Iterable[bool] = NEVER) -> list[Taken]:
    """Drive ``chunks`` as the lockstep array does: go while the block is ready, on to the next chunk when it is done.

    pauses : True where the array waits for a cycle (another lane is not ready); repeated for ever
    """
    layout, pause = row_chunk_layout(p), itertools.cycle(pauses)
    taken: list[Taken] = []
    for chunk in chunks:
        dut.row.value = word(layout, {"mask": chunk.row.mask, "base": chunk.row.base, "bases": list(chunk.row.bases)})
        dut.mask_b.value = chunk.mask_b
        head = len(taken) * HEAD_STEP % value_ring(p)
        dut.head.value, dut.values.value = head, turned(packed(chunk.weights, p.weight_bits), head, p)
        taken.append(await _join(dut, p, chunk, pause))
    quiet(dut)
    return taken


async def _join(dut: Any, p: Arch, chunk: Chunk, pause: Iterator[bool]) -> Taken:
    taken, first, done = Taken(), True, False
    while not done:
        dut.first.value, dut.go.value, dut.last.value = int(first), 0, 0
        await Timer(1, "ns")
        go = bool(dut.ready.value) and not next(pause)
        done = go and bool(dut.done.value)
        dut.go.value, dut.last.value = int(go), int(done and chunk.last)
        await FallingEdge(dut.clk)
        if go:
            taken.cycles.append(cycle())
        if dut.hit.value:
            assert go, f"a match without go in cycle {cycle()}"
            taken.weights.append(signed(int(dut.weight.value), p.weight_bits) if hasattr(dut, "weight") else 0)
        first = first and not go
        await RisingEdge(dut.clk)
    return taken


def turned(values: int, head: int, p: Arch) -> int:
    """Return packed weights as they lie in the ring when the first one is at ``head``."""
    bits, place = value_ring(p) * p.weight_bits, head * p.weight_bits
    return values << place & (1 << bits) - 1 | values << place >> bits


def packed(weights: Iterable[int], bits: int) -> int:
    """Return weights side by side, first weight lowest."""
    return sum((weight & ((1 << bits) - 1)) << (bits * place) for place, weight in enumerate(weights))


def signed(value: int, bits: int) -> int:
    """Return the signed value of ``bits`` bits."""
    return value - (value >> (bits - 1) << bits)
