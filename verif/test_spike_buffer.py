"""Spike buffer against its golden twin."""

import dataclasses
import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import PRESETS, Arch, word_bits
from golden.spike_buffer import RowChunk, spike_buffer
from hdl.spike_buffer import SpikeBuffer, piece_layout, row_chunk_layout
from verif.chunks import ARCHS, arch, mask_pairs
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import NEVER, cycle, put, reset, stalls, word

TINY = PRESETS["tiny"]
MUTANTS = {
    "base not carried on": (r"(assign \S+ += )base \+ ", r"\g<1>12'h000 + "),
    "halves mixed up": (r"= fill_half \? 7'h40 : 7'h00", "= 7'h00"),
    "read without enable": (r"\.r_en\(chunk_en\)", ".r_en(1'h1)"),
    "idle too early": (r"assign idle = .*;", "assign idle = 1'h1;"),
}


@pytest.mark.parametrize("name", ARCHS)
def test_spike_buffer(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(SpikeBuffer(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutant_is_caught(mutant: str) -> None:
    """Wrong bases, halves, lines, read enables and idle are caught."""
    outcome = simulate(SpikeBuffer(TINY), __name__, parameters=dataclasses.asdict(TINY), replace=MUTANTS[mutant],
                       expect_failure=True)
    assert outcome.failed


@pytest.mark.parametrize("broken", [
    pytest.param(("partial | (value.p.data", "(value.p.data"), id="piece not joined"),
    pytest.param(("Mux(full, value.p.data & ~value.p.here, joined)", "Mux(full, 0, joined)"), id="rest of a piece lost"),
    pytest.param(("(full | (value.p.flush & (stop != 0)))", "full"), id="last line lost"),
])
def test_source_mutant_is_caught(broken: tuple[str, str]) -> None:
    """Pieces that are not joined and a lost end of a piece or of a row are caught."""
    outcome = simulate(mutant(SpikeBuffer, *broken)(TINY), __name__, parameters=dataclasses.asdict(TINY),
                       expect_failure=True)
    assert outcome.failed


@dataclass(frozen=True)
class Row:
    """A row as it is sent, and what golden keeps of it."""

    masks: list[int]
    pieces: list[int]
    chunks: list[RowChunk]
    lines: list[int]


def row(rng: random.Random, p: Arch, masks: list[int], steps: int) -> Row:
    """Return a row with random words, cut into random pieces, its flush at the end."""
    log2 = word_bits(steps).bit_length() - 1
    words = [rng.randrange(1, 1 << steps) for _ in range(sum(mask.bit_count() for mask in masks))]
    joined = sum(value << (place << log2) for place, value in enumerate(words))
    left, pieces, fill = len(words) << log2, [], 0
    while left:
        size = min(left, rng.choice((p.chunk_bits, rng.randint(1, p.chunk_bits), 1 << log2)))
        pieces.append(_piece(p, joined & ((1 << size) - 1), size, fill))
        joined, left, fill = joined >> size, left - size, (fill + size) % p.chunk_bits
    pieces.append({"data": 0, "here": rng.getrandbits(p.chunk_bits), "bits": 0, "flush": 1})
    chunks, lines = spike_buffer(masks, words, log2, p.chunk_bits)
    return Row(masks, [word(piece_layout(p), piece) for piece in pieces], chunks, lines)


def _piece(p: Arch, bits: int, size: int, fill: int) -> dict[str, int]:
    whole, far = (1 << p.chunk_bits) - 1, bits << fill
    return {"data": far & whole | far >> p.chunk_bits, "here": whole << fill & whole, "bits": size, "flush": 0}


def rows(rng: random.Random, p: Arch) -> list[Row]:
    """Return rows of all densities and corners; one fills all chunks, one fills as many lines as its chunks allow."""
    pool, out = [mask for pair in mask_pairs(rng, p.chunk_bits) for mask in pair], []
    while pool:
        steps = rng.randint(1, p.t_max)
        masks: list[int] = []
        room = p.row_value_bits // word_bits(steps)
        while pool and len(masks) < min(6, p.max_chunks) and pool[-1].bit_count() <= room:
            masks.append(pool.pop())
            room -= masks[-1].bit_count()
        out.append(row(rng, p, masks, steps))
    full, most = (1 << p.chunk_bits) - 1, p.row_value_bits // word_bits(p.t_max)
    whole = min(p.max_chunks, most // p.chunk_bits)
    out.append(row(rng, p, [full] * whole + [(1 << most % p.chunk_bits) - 1] * (whole < p.max_chunks), p.t_max))
    out.append(row(rng, p, [1 << rng.randrange(p.chunk_bits) for _ in range(min(p.max_chunks, most))], p.t_max))
    return out


async def start(dut: Any) -> None:
    """Reset the block with nothing going on."""
    for name in ("fill_half", "read_half", "chunk_en", "chunk", "word_en", "word_address"):
        getattr(dut, name).value = 0
    await reset(dut, ("i_mask", "i_value"))


async def fill(dut: Any, wanted: Row, pauses: tuple[Iterable[bool], Iterable[bool]]) -> list[int]:
    """Send a row, masks and words at the same time, and end it when the block is idle; return the masks' cycles."""
    values = cocotb.start_soon(put(dut, "i_value", wanted.pieces[:-1], pauses[1]))
    masks = await put(dut, "i_mask", wanted.masks, pauses[0])
    sent = await values
    if pauses[1] is NEVER:
        assert sent == [sent[0] + place for place in range(len(sent))]
    await FallingEdge(dut.clk)
    while not dut.idle.value:
        await FallingEdge(dut.clk)
    await RisingEdge(dut.clk)
    await put(dut, "i_value", wanted.pieces[-1:])
    return masks


async def read(dut: Any, p: Arch, wanted: Row, rng: random.Random) -> None:
    """Read all chunks and lines of a row in random order; what was read holds while the enables are low."""
    layout = row_chunk_layout(p)
    chunks, lines = list(range(len(wanted.chunks))), list(range(len(wanted.lines)))
    order = list(itertools.zip_longest(rng.sample(chunks, len(chunks)), rng.sample(lines, len(lines))))
    for chunk, line in order:
        dut.chunk_en.value, dut.word_en.value = int(chunk is not None), int(line is not None)
        dut.chunk.value = chunk or 0
        dut.word_address.value = (line or 0) * p.chunk_bits + rng.randrange(p.chunk_bits)
        await RisingEdge(dut.clk)
        for _ in range(1 + rng.randrange(3)):
            dut.chunk_en.value, dut.chunk.value = 0, rng.randrange(p.max_chunks)
            dut.word_en.value, dut.word_address.value = 0, rng.randrange(p.row_value_bits)
            await FallingEdge(dut.clk)
            if chunk is not None:
                got = layout.from_bits(int(dut.row.value))
                assert RowChunk(got.mask, got.base, tuple(got.bases)) == wanted.chunks[chunk], f"chunk {chunk}"
            if line is not None:
                assert dut.line.value == wanted.lines[line], f"line {line}"
            await RisingEdge(dut.clk)


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Chunks and lines equal golden, each row read from its half while the next one fills the other."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut)
    reader, half = None, 0
    for wanted in rows(rng, p):
        dut.fill_half.value = half
        await fill(dut, wanted, (stalls(rng), stalls(rng)) if stall else (NEVER, NEVER))
        if reader:
            await reader
        dut.read_half.value, half = half, 1 - half
        reader = cocotb.start_soon(read(dut, p, wanted, rng))
    assert reader
    await reader


@cocotb.test(timeout_time=100, timeout_unit="us")
async def takes_the_documented_cycles(dut: Any) -> None:
    """A mask takes chunk_bits / 16 cycles; the block is idle a cycle later, and the chunk can be read then."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut)
    layout = row_chunk_layout(p)
    wanted = row(rng, p, [rng.getrandbits(p.chunk_bits) for _ in range(4)], 1)
    taken = await put(dut, "i_mask", wanted.masks)
    assert [after - before for before, after in itertools.pairwise(taken)] == [p.laggy_cycles] * 3
    while True:
        await FallingEdge(dut.clk)
        if dut.idle.value:
            break
    assert cycle() == taken[-1] + p.laggy_cycles + 1
    dut.chunk_en.value, dut.chunk.value = 1, 3
    await RisingEdge(dut.clk)
    await FallingEdge(dut.clk)
    got = layout.from_bits(int(dut.row.value))
    assert RowChunk(got.mask, got.base, tuple(got.bases)) == wanted.chunks[3]
