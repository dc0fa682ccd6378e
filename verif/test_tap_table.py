"""Tap table against its golden twin."""

import dataclasses
import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.formats import MAX_PASSES
from golden.tap_table import Tap, tap_table
from hdl.tap_table import TapTable, tap_layout
from verif.chunks import LOOM, LOOMS, arch
from verif.columns import Place, draw_place
from verif.layers import describe, pass_record
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import cycle, reset

PASS_CYCLES, CHUNK_CYCLES, MORE_CYCLES = 2, 1, 2
MUTANTS = {
    "segments not used": ("entry.segment.eq(tap_y &", "entry.segment.eq(0 &"),
    "rows of taps behind each other": ("turn.eq(((after_y >> layer.span_log2) << layer.span_log2) == after_y)", "turn.eq(1)"),
    "chunks of a tap are whole": ("entry.bytes.eq(fields.last_bytes)", "entry.bytes.eq(p.chunk_bits // 8)"),
    "end of a tap is one of the pass": ("entry.end.eq(last_y & last_x & last_chunk)", "entry.end.eq(last_y & last_chunk)"),
    "passes begin at 0": ("address.eq(fields.chunk_base),\n", "address.eq(0),\n"),
    "lines of the first tap": ("line.eq(line + fields.tap_lines)]\n                    with m.If(last_x)",
                               "line.eq(line)]\n                    with m.If(last_x)"),
    "ready too early": ("self.ready.eq(~self.layer_start)", "self.ready.eq(1)"),
}


@pytest.mark.parametrize("name", LOOMS)
def test_tap_table(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(TapTable(LOOMS[name]), __name__, parameters=dataclasses.asdict(LOOMS[name]))


@pytest.mark.parametrize("wrong", MUTANTS)
def test_mutant_is_caught(wrong: str) -> None:
    """Places, sizes and ends that are wrong, and a table that is said to be ready before it is, are caught."""
    assert simulate(mutant(TapTable, *MUTANTS[wrong])(LOOM), __name__, parameters=dataclasses.asdict(LOOM),
                    expect_failure=True).failed


def test_golden_taps_do_not_overlap(seed: int) -> None:
    """No two chunks of a row share a place, all places are inside a slot, each pass ends once."""
    rng = random.Random(seed)
    for p in LOOMS.values():
        for _ in range(300):
            place = draw_place(rng, p)
            taps = tap_table(place.passes, place.span_log2, p.chunk_bits)
            places = [(tap.segment, tap.address) for tap in taps]
            assert len(set(places)) == len(taps) == place.chunks
            assert all(tap.segment < 1 << place.span_log2 and tap.address < p.slot_chunks for tap in taps)
            assert sum(tap.end for tap in taps) == len(place.passes)
            assert sum(tap.bytes for tap in taps) == sum(
                -(-channels // 8) * sweep["kernel_height"] * sweep["kernel_width"]
                for channels, sweep in zip(place.channels, place.passes, strict=True))


async def fill(dut: Any, place: Place) -> int:
    """Describe a layer and start it; return the cycles until the table is ready."""
    fields = {"passes": len(place.passes), "chunks": place.chunks, "span_log2": place.span_log2}
    await describe(dut, fields, [pass_record(sweep) for sweep in place.passes])
    dut.layer_start.value, began = 1, cycle()
    await FallingEdge(dut.clk)
    assert not dut.ready.value
    await RisingEdge(dut.clk)
    dut.layer_start.value = 0
    await FallingEdge(dut.clk)
    while not dut.ready.value:
        await FallingEdge(dut.clk)
    ended = cycle()
    await RisingEdge(dut.clk)
    return ended - began


async def read(dut: Any, chunk: int) -> Tap:
    """Read one chunk; it is there one cycle later and stays."""
    layout = tap_layout(arch())
    dut.read.value, dut.chunk.value = 1, chunk
    await RisingEdge(dut.clk)
    dut.read.value, dut.chunk.value = 0, 0
    await FallingEdge(dut.clk)
    tap = layout.from_bits(int(dut.tap.value))
    await RisingEdge(dut.clk)
    await FallingEdge(dut.clk)
    assert layout.from_bits(int(dut.tap.value)) == tap
    await RisingEdge(dut.clk)
    return Tap(int(tap.bytes), int(tap.segment), int(tap.address), int(tap.line), bool(tap.end))


@cocotb.test(timeout_time=400, timeout_unit="us")
async def matches_golden(dut: Any) -> None:
    """Every chunk of every layer equals golden, and the table is filled in the documented cycles."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    for name in ("descriptor__valid", "layer", "layer_start", "read", "chunk"):
        getattr(dut, name).value = 0
    await reset(dut, ())
    places = [draw_place(rng, p, count) for count in (0, 1, 2, 3) for _ in range(8)]
    most = min(MAX_PASSES, p.slot_chunks)
    small = {"kernel_height": 1, "kernel_width": 1, "tap_chunks": 1, "last_bytes": 1, "tap_lines": 0}
    places.append(Place([small | {"chunk_base": n, "line_base": p.slot_lines - 1} for n in range(most)], [8] * most, 0))
    for place in rng.sample(places, len(places)):
        table = tap_table(place.passes, place.span_log2, p.chunk_bits)
        took = await fill(dut, place)
        assert took == MORE_CYCLES + PASS_CYCLES * len(place.passes) + CHUNK_CYCLES * len(table)
        for chunk in rng.sample(range(len(table)), len(table)):
            assert await read(dut, chunk) == table[chunk], f"chunk {chunk} of {place}"
