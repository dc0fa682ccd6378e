"""Inner join against its golden twin."""

import dataclasses
import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import PRESETS, Arch
from golden.inner_join import inner_join
from golden.spike_buffer import spike_buffer
from hdl.inner_join import InnerJoin, match_layout
from verif.chunks import ARCHS, Chunk, arch, broadcast, draw_weights, mask_pairs, quiet, signed
from verif.sim import simulate
from verif.stream import NEVER, get, idle, reset, stalls

LATENCY = 2
Entry = tuple[int, int, int | None, int | None]


@pytest.mark.parametrize("name", ARCHS)
def test_inner_join(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(InnerJoin(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("broken", "red"), [
    pytest.param((r"= row\[43:32\] \+", "= 12'h000 +"), "matches_golden", id="place without base"),
    pytest.param((r"\.mask\(mask_b\)", ".mask(row[31:0])"), "matches_golden", id="offset in the row's mask"),
    pytest.param((r"assign hit = go & .*;", "assign hit = go;"), "matches_golden", id="match of an empty chunk"),
    pytest.param((r"assign single = .*;", "assign single = none;"), "takes_the_documented", id="a cycle too many"),
    pytest.param((r"assign ready = .*;", "assign ready = 1'h1;"), "holds_back", id="no back-pressure"),
])
def test_mutants_are_caught(broken: tuple[str, str], red: str) -> None:
    """A wrong place, weight, match, end of a chunk and missing back-pressure are caught, each by the test meant for it."""
    tiny = PRESETS["tiny"]
    outcome = simulate(InnerJoin(tiny), __name__, parameters=dataclasses.asdict(tiny), replace=broken,
                       expect_failure=True, all_tests=True)
    assert any(red in name for name in outcome.failed)


def test_golden_by_definition(seed: int) -> None:
    """Golden's places and weights equal those found by walking all positions."""
    rng = random.Random(seed)
    for chunk in chunks(rng, PRESETS["loas"]):
        row, column, expected = 0, 0, []
        for position in range(128):
            in_row, in_column = chunk.row.mask >> position & 1, chunk.mask_b >> position & 1
            if in_row and in_column:
                expected.append((chunk.row.base + row, chunk.weights[column]))
            row, column = row + in_row, column + in_column
        assert inner_join(chunk.row, chunk.mask_b, chunk.weights) == expected


def chunks(rng: random.Random, p: Arch) -> list[Chunk]:
    """Return chunks of all corners and densities, in rows of at most ``max_chunks`` and within the row's words."""
    pairs, out = mask_pairs(rng, p.chunk_bits), []
    size = min(p.max_chunks, p.row_value_bits // p.chunk_bits)
    for start in range(0, len(pairs), size):
        row = pairs[start : start + size]
        kept, _ = spike_buffer([mask_a for mask_a, _ in row], [], 0, p.chunk_bits)
        out += [Chunk(chunk, mask_b, draw_weights(rng, p.weight_bits, mask_b.bit_count()), rng.random() < 0.4)
                for chunk, (_, mask_b) in zip(kept, row, strict=True)]
    return out


def entries(chunk: Chunk) -> list[Entry]:
    """Return what leaves for one chunk, as (match, last, place, weight); an end without a match has neither."""
    matches: list[Entry] = [(1, 0, place, weight) for place, weight in inner_join(chunk.row, chunk.mask_b, chunk.weights)]
    if chunk.last:
        matches[-1:] = [(matches[-1][0], 1, *matches[-1][2:])] if matches else [(0, 1, None, None)]
    return matches


def seen(p: Arch, bits: int) -> Entry:
    """Return one word of ``o`` in the form of `entries`."""
    out = match_layout(p).from_bits(bits)
    return (out.match, out.last, *((out.index, signed(out.weight, p.weight_bits)) if out.match else (None, None)))


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Places, weights and ends equal golden, with and without stalls on both sides."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    quiet(dut)
    await reset(dut, ("o",))
    wanted = chunks(rng, p)
    expected = [entry for chunk in wanted for entry in entries(chunk)]
    sender = cocotb.start_soon(broadcast(dut, p, wanted, stalls(rng) if stall else NEVER))
    got = await get(dut, "o", len(expected), stalls(rng) if stall else NEVER)
    assert [seen(p, bits) for bits in got] == expected
    for chunk, taken in zip(wanted, await sender, strict=True):
        assert taken.weights == [weight for _, weight in inner_join(chunk.row, chunk.mask_b, chunk.weights)]
    await idle(dut, "o", 10)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def takes_the_documented_cycles(dut: Any) -> None:
    """A chunk of n matches takes max(1, n) cycles, chunks follow each other, a match leaves 2 cycles after it is taken."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    quiet(dut)
    await reset(dut, ("o",))
    wanted = chunks(rng, p)
    left: list[int] = []
    sender = cocotb.start_soon(broadcast(dut, p, wanted))
    await get(dut, "o", sum(len(entries(chunk)) for chunk in wanted), at=left)
    taken = await sender
    assert [len(each.cycles) for each in taken] == [max(1, chunk.matches) for chunk in wanted]
    cycles = [at for each in taken for at in each.cycles]
    assert cycles == list(range(cycles[0], cycles[0] + len(cycles)))
    pushed = [at for chunk, each in zip(wanted, taken, strict=True) for at in each.cycles[: len(entries(chunk))]]
    assert [at - LATENCY for at in left] == pushed


@cocotb.test(timeout_time=100, timeout_unit="us")
async def holds_back(dut: Any) -> None:
    """With ``o`` stopped, exactly ``fifo_depth`` matches are taken; all of them leave afterwards."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    quiet(dut)
    await reset(dut, ("o",))
    wanted = [chunk for chunk in chunks(rng, p) if chunk.matches == p.chunk_bits][:1] * 5
    cocotb.start_soon(broadcast(dut, p, wanted))
    taken = 0
    for _ in range(3 * p.fifo_depth):
        await FallingEdge(dut.clk)
        taken += int(dut.hit.value)
        await RisingEdge(dut.clk)
    assert taken == p.fifo_depth
    expected = [entry for chunk in wanted for entry in entries(chunk)]
    assert [seen(p, bits) for bits in await get(dut, "o", len(expected))] == expected
