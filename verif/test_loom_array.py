"""Array of the loom against its golden twin: rows in the lanes, dots of all columns, matches, and cycles."""

import dataclasses
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np
import pytest
from amaranth.lib import data
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import Arch
from golden.column_stream import Column, layer_columns
from golden.loom_array import Dots, loom_array, seats
from golden.pixel_loader import pixel_loader
from golden.tap_table import tap_table
from golden.tile_rows import Tile, tile_rows
from hdl.array import column_layout
from hdl.column_packing import column_stream as pack_columns
from hdl.loom_array import LoomArray
from hdl.tile_rows import row_layout
from verif.chunks import LOOM, LOOMS
from verif.columns import Place, draw_layer
from verif.layers import Case, arch, describe, pass_record, start
from verif.memory import ReadMemory
from verif.mutant import mutant
from verif.row_tiles import draw_tiles
from verif.sim import simulate
from verif.stream import cycle, stalls, watch

BASE, INPUT_OFFSET, STREAM, MEMORY_BYTES = 0x40, 0x1000, 0x4000, 1 << 16
PATIENCE, LATE = 20_000, 1_000
# of a tile's spread but for its pixels, between two tiles, of a sum's last chunk without a match
SPREAD_CYCLES, TURN_CYCLES, END_CYCLES = 5, 5, 1
INPUTS = ("descriptor__valid", "layer", "layer_start", "taken", "column__ready", "slot", "last_group", "o__ready")


@pytest.mark.parametrize("name", LOOMS)
def test_loom_array(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(LoomArray(LOOMS[name]), __name__, parameters=dataclasses.asdict(LOOMS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("pixels.counted & ~self.dealt", "pixels.counted", id="deals while the tail waits"),
    pytest.param("join.clear.eq(spread.start)", "join.clear.eq(0)", id="rows of the tile before"),
    pytest.param("ahead.eq(Mux(many, number, 0))", "ahead.eq(0)", id="first pass for all"),
    pytest.param("team.eq(column &", "team.eq(0 &", id="first team for all columns"),
    pytest.param("Mux(column + 1 == layer.columns, 0, column + 1)", "column + 1", id="teams run on over the end of a tile"),
    pytest.param("(layer.teams_log2 != 0) | (turn == number)", "1", id="two streams to the same lanes"),
    pytest.param("~second & ~self.column.p.tile_end", "~second", id="a tile begins with an odd column"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Rows, passes and teams that are mixed up are caught."""
    outcome = simulate(mutant(LoomArray, old, new)(LOOM), __name__, parameters=dataclasses.asdict(LOOM),
                       test_filter="matches_golden", expect_failure=True)
    assert outcome.failed


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("(room | ~of_team[n]).all()", "(room | ~of_team[n]).all() & lanes_idle", id="lanes"),
    pytest.param("(layer.teams_log2 != 0) | (turn == number)", "turn == number", id="streams"),
])
def test_lockstep_is_caught(old: str, new: str) -> None:
    """Lanes, and streams, that wait for each other are caught, by the cycles alone."""
    slow = mutant(LoomArray, old, new)
    outcome = simulate(slow(LOOM), __name__, parameters=dataclasses.asdict(LOOM), expect_failure=True, all_tests=True)
    assert all("documented_cycles" in name for name in outcome.failed), outcome.failed


@dataclass
class Layer:
    """A layer in memory: fields, what its stream holds, tiles with what is wanted of them."""

    case: Case
    columns: Sequence[Column]
    content: bytearray
    tiles: list[Tile]
    seats: list[dict[tuple[int, int], tuple[int, ...] | None]]
    dots: list[list[Dots]]


@dataclass
class Seen:
    """What the tail saw: rows of every tile, dots [tile][...] with the lanes of all teams, columns, cycles of dots, chunks."""

    seats: list[dict[tuple[int, int], tuple[int, ...] | None]] = field(default_factory=list)
    present: list[int] = field(default_factory=list)
    dots: list[list[tuple[int, int, int, list[list[int]]]]] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    puts: list[int] = field(default_factory=list)
    matches: int = 0
    chunks: int = 0


def build(rng: random.Random, p: Arch, case: Case, content: bytearray, count: int, density: float | None = None) -> Layer:
    """Return a layer of ``count`` random columns whose dots fit, over the operands in ``content``."""
    place = Place([dict(sweep) for sweep in case.passes], case.channels, case.layer["span_log2"])
    while True:
        weights = draw_layer(rng, p, place, count, density)
        if all(abs(sweep.weight.astype(np.int64)).sum(axis=(1, 2, 3)).max() < 1 << p.acc_bits - 1
               for sweep in weights.passes):
            break
    stream = pack_columns(weights, p)
    content[BASE + STREAM : BASE + STREAM + len(stream)] = stream
    taps = tap_table(case.passes, case.layer["span_log2"], p.chunk_bits)
    columns = layer_columns(stream, count, taps, p.weight_bits, 1 << case.layer["teams_log2"])
    fields = {**case.layer, "columns": count, "weights": STREAM, "stream_bytes": len(stream) // 2, "chunks": place.chunks}
    case = dataclasses.replace(case, layer=fields)
    built = Layer(case, columns, content, list(tile_rows(fields, case.passes[0], p.lanes)), [], [])
    for tile in built.tiles:
        pixels = pixel_loader(fields, case.passes, tile.low, tile.high, bytes(content), base=BASE,
                              input_offset=INPUT_OFFSET, chunk_bits=p.chunk_bits)
        built.seats.append({(group, lane): (row.number, *row.center) if row else None
                            for group, rows in enumerate(seats(fields, case.passes, tile, pixels, p.lanes))
                            for lane, row in enumerate(rows)})
        built.dots.append(list(loom_array(fields, case.passes, tile, pixels, columns, lanes=p.lanes,
                                          chunk_bits=p.chunk_bits, bits=p.t_max)))
    return built


async def play(dut: Any, p: Arch, layer: Layer, pauses: Iterator[bool], late: int = 0) -> Seen:
    """Start the layer and take its rows, columns and dots as the tail does, until the array is idle.

    late : cycles that the tail lets a dealt tile wait, as it does while its last spikes are written
    """
    fields, seen = layer.case.layer, Seen()
    dut.tiles.value, dut.layer_start.value = len(layer.tiles), 1
    await RisingEdge(dut.clk)
    dut.layer_start.value = 0
    dots_layout = data.ArrayLayout(data.ArrayLayout(data.signed(p.acc_bits), p.t_max), p.lanes)
    coming: dict[tuple[int, int], tuple[int, ...] | None] = {}
    busy = take = False
    column = group = number = present = waited = 0
    for _ in range(PATIENCE):
        takes, pops = busy and not next(pauses), not next(pauses)
        dut.taken.value, dut.o__ready.value, dut.column__ready.value = int(take), int(takes), int(pops)
        dut.slot.value, dut.last_group.value = group, int(group + 1 == fields["groups"])
        await FallingEdge(dut.clk)
        seen.matches, seen.chunks = seen.matches + int(dut.match_count.value), seen.chunks + int(dut.chunk_count.value)
        seen.puts += [cycle()] * bool(dut.chunk_done.value)
        if take:
            seen.seats.append(coming)
            seen.present.append(present)
            seen.dots.append([])
        if dut.clear.value:
            coming, present = {}, int(dut.present.value)
        if dut.put.value:
            row = row_layout(p).from_bits(int(dut.row.value))
            coming = {**coming, **{(int(dut.group.value), lane): (row.row, row.center_y, row.center_x) if row.valid else None
                                   for lane in range(p.lanes) if int(dut.lanes.value) >> lane & 1}}
        if pops and dut.column__valid.value:
            seen.columns.append(int(dut.column__payload.value))
        if takes and dut.o__valid.value:
            got = dots_layout.from_bits(int(dut.o__payload.value))
            seen.dots[-1].append((column, group, number, [[int(got[n][bit]) for bit in range(p.t_max)]
                                                          for n in range(p.lanes)]))
            seen.at.append(cycle())
            number = (number + 1) % fields["passes"]
            group = (group + (number == 0)) % fields["groups"]
            column = (column + (number == 0 and group == 0)) % fields["columns"]
            busy = (column, group, number) != (0, 0, 0)
        ended = not busy and len(seen.seats) == len(layer.tiles)
        waited = waited + 1 if dut.dealt.value and not busy and not take else 0
        take = waited > late and not next(pauses)
        busy = busy or take
        idle = bool(dut.idle.value)
        await RisingEdge(dut.clk)
        if ended and idle and len(seen.columns) == len(layer.tiles) * len(layer.columns):
            dut.o__ready.value = dut.column__ready.value = dut.taken.value = 0
            return seen
    raise AssertionError(f"not over after {PATIENCE} cycles: {len(seen.seats)} of {len(layer.tiles)} tiles taken, column "
                         f"{column}, group {group}, pass {number} of {fields}")


def check(p: Arch, layer: Layer, seen: Seen) -> None:
    """Compare all that the tail saw, and the events, with golden."""
    assert seen.seats == layer.seats
    assert seen.present == [sum(there << q for q, there in enumerate(tile.present)) for tile in layer.tiles]
    for tile, (wanted, got) in enumerate(zip(layer.dots, seen.dots, strict=True)):
        assert len(got) == len(wanted)
        for dots, (column, group, number, lanes) in zip(wanted, got, strict=True):
            assert (column, group, number) == (dots.column, dots.group, dots.number)
            assert {lane: tuple(lanes[lane]) for lane in dots.lanes} == dots.lanes, (tile, dots)
    assert seen.matches == sum(dots.matches for tile in layer.dots for dots in tile)
    assert seen.chunks == len(layer.tiles) * sum(len(column.chunks) for column in layer.columns)
    one = [column_layout(p).const({"bias": column.bias, "threshold": column.threshold,
                                   "tile_end": int(number + 1 == len(layer.columns))}).as_bits()
           for number, column in enumerate(layer.columns)]
    assert seen.columns == one * len(layer.tiles)


async def begin(dut: Any, p: Arch, rng: random.Random, content: bytearray, stall: bool) -> dict[str, ReadMemory]:
    """Reset the block and answer its three memory ports."""
    dut.base.value, dut.input_offset.value = BASE, INPUT_OFFSET
    await start(dut, INPUTS)
    memories = {kind: ReadMemory(
        dut, content, beat=p.data_bits // 8, address_bits=p.address_bits, burst_beats=p.burst_beats,
        pauses=stalls(rng, 0.4 if stall else 0.0), latency=lambda: rng.choice((1, 4, 20)) if stall else 1,
        ar=f"{kind}_ar", r=f"{kind}_r") for kind in ("even", "odd", "mask", "value")}
    for memory in memories.values():
        memory.start()
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    cocotb.start_soon(watch(dut, "column"))
    return memories


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Rows, columns, dots and events of random layers, one after the other, equal golden."""
    p, rng, content = arch(), random.Random(cocotb.RANDOM_SEED), bytearray(MEMORY_BYTES)
    await begin(dut, p, rng, content, stall)
    for _ in range(10):
        case = draw_tiles(rng, p)
        if case.layer["row_tiles"] > 6:
            continue
        often = rng.choice((0.05, 0.3, 1.0))
        content[:] = bytes(sum((rng.random() < often) << bit for bit in range(8)) for _ in range(MEMORY_BYTES))
        layer = build(rng, p, case, content, rng.choice((1, 2, 5, 9)))
        await describe(dut, layer.case.layer, [pass_record(sweep) for sweep in case.passes])
        late = rng.choice((0, LATE)) if stall else 0
        check(p, layer, await play(dut, p, layer, stalls(rng, 0.5 if stall else 0.0), late))


def wide_case(p: Arch, tiles: int, teams_log2: int = 0) -> Case:
    """Return a layer of one tap of two chunks, one row in each lane of a team, words of one bit."""
    size, tile = 2 * p.chunk_bits // 8, p.lanes >> teams_log2
    count = tiles * tile
    sweep = {"masks": 64, "mask_stride": size, "values": 0x800, "slot_stride": size, "height": 1, "width": count,
             "kernel_height": 1, "kernel_width": 1, "stride": 1, "identity": 1, "tap_chunks": 2,
             "last_bytes": p.chunk_bits // 8, "chunk_base": 0, "line_base": 0, "tap_lines": 2, "input": 0, "padding": 0}
    layer = {"passes": 1, "steps": 1, "operand_log2": 0, "word_log2": 0, "height": 1, "width": count, "out_height": 1,
             "out_width": count, "pool_kernel": 1, "pool_stride": 1, "pool_padding": 0, "or_pool": 0, "min_spikes": 1,
             "tile_pixels": tile, "groups": 1, "span_log2": 0, "teams_log2": teams_log2, "deal": 0, "row_tiles": tiles}
    return Case(layer, [sweep], [2 * p.chunk_bits], 0)


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(drift=[False, True])
async def documented_cycles(dut: Any, drift: bool) -> None:
    """A lane takes a cycle a match, the next tile is loaded meanwhile, and follows after its spread.

    drift : every other lane has words in one chunk only, the others in the other, and all take the time of one chunk
    """
    p, rng, columns, tiles = arch(), random.Random(cocotb.RANDOM_SEED), 7, 3
    content, case, size = bytearray(MEMORY_BYTES), wide_case(p, tiles), p.chunk_bits // 8
    memories = await begin(dut, p, rng, content, False)
    for place in range(tiles * p.lanes):
        first, second = (255, 255) if not drift else (255, 0) if place % 2 else (0, 255)
        at = BASE + 64 + place * 2 * size
        content[at : at + 2 * size] = bytes([first] * size + [second] * size)
    layer = build(rng, p, case, content, columns, 1.0)
    await describe(dut, layer.case.layer, [pass_record(sweep) for sweep in case.passes])
    seen = await play(dut, p, layer, stalls(rng, 0.0))
    check(p, layer, seen)
    of_tiles = [seen.at[n * columns : (n + 1) * columns] for n in range(tiles)]
    steps = {later - at for tile in of_tiles for at, later in itertools.pairwise(tile)}
    asked = [at for at, _, beats in memories["mask"].requests for _ in range(beats)]
    loads = [asked[len(asked) * (n + 1) // tiles - 1] for n in range(tiles)]
    assert all(load < tile[0] for load, tile in zip(loads[1:], of_tiles, strict=False)), (loads, of_tiles)
    if drift:
        assert max(steps) <= p.chunk_bits + END_CYCLES, steps
        return
    assert steps == {2 * p.chunk_bits}
    turn = SPREAD_CYCLES + 2 * p.lanes + TURN_CYCLES
    assert {second[0] - first[-1] - 2 * p.chunk_bits for first, second in itertools.pairwise(of_tiles)} == {turn}


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(teams_log2=[0, 1, 2])
async def streams_documented_cycles(dut: Any, teams_log2: int) -> None:
    """Dense columns that meet silent rows take a cycle a line; teams take an even and an odd one in the same cycles."""
    p, rng, columns = arch(), random.Random(cocotb.RANDOM_SEED), 12
    content, case = bytearray(MEMORY_BYTES), wide_case(p, 1, teams_log2)
    await begin(dut, p, rng, content, False)
    layer = build(rng, p, case, content, columns, 1.0)
    await describe(dut, layer.case.layer, [pass_record(sweep) for sweep in case.passes])
    seen = await play(dut, p, layer, stalls(rng, 0.0))
    check(p, layer, seen)
    side_by_side = 2 if teams_log2 else 1
    assert len(seen.puts) == 2 * columns // side_by_side
    assert {later - at for at, later in itertools.pairwise(seen.puts)} == {p.weight_bits}
