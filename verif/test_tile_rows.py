"""Rows of a loom tile against their golden twin: the walk, the words that are counted, the deal."""

import dataclasses
import itertools
import random
from collections.abc import Mapping
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import Arch
from golden.tile_rows import Tile, deal, exchanges, first_deal, row_words, tile_rows
from hdl.tile_rows import TileRows
from verif.chunks import LOOM, LOOMS
from verif.layers import arch, describe, pass_record, start
from verif.mutant import mutant
from verif.row_tiles import draw_tiles
from verif.sim import simulate

WALK_CYCLES, DEAL_CYCLES, EXCHANGE_CYCLES, LAST_CYCLES = 2, 1, 4, 2
INPUTS = ("descriptor__valid", "layer", "layer_start", "start", "count_valid", "count_y", "count_x", "count", "deal")
FAR = {"stride": 1, "padding": 1, "kernel_height": 3, "kernel_width": 3}


@pytest.mark.parametrize("name", LOOMS)
def test_tile_rows(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(TileRows(LOOMS[name]), __name__, parameters=dataclasses.asdict(LOOMS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("(row.center_y >= 0) & ", "", id="rows above the map"),
    pytest.param("near_x < at(fields.kernel_width)", "near_x <= at(fields.kernel_width)", id="a tap too many counted"),
    pytest.param("Cat(~loads[n]", "Cat(loads[n]", id="most words to the fullest lane"),
    pytest.param("(Mux(inside[n] & ~given[n]", "(Mux(~given[n]", id="lanes beyond the team"),
    pytest.param("- own[n].words)", ")", id="words of a row that has left"),
    pytest.param("chosen.eq(back)", "chosen.eq(Array(each.row for each in own)[high])", id="one row in two lanes"),
    pytest.param("m.If(moved == p.lanes)", "m.If(moved == 1)", id="one exchange only"),
    pytest.param("m.If(found):", "m.If(found & (moved == 0)):", id="no second exchange"),
    pytest.param("[count.eq(0) for count in counts]", "[]", id="words of the tile before"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Rows outside the map, wrong counts and a wrong deal are caught."""
    simulate(mutant(TileRows, old, new)(LOOM), __name__, parameters=dataclasses.asdict(LOOM), expect_failure=True)


def test_slow_walk_is_caught() -> None:
    """A walk with the right rows that rests for a cycle is caught, by the cycles alone."""
    slow = mutant(TileRows, 'm.State("FIELDS"):\n', 'm.State("FIELDS"):\n                m.next = "REST"\n'
                  '            with m.State("REST"):\n')
    outcome = simulate(slow(LOOM), __name__, parameters=dataclasses.asdict(LOOM), test_filter="documented_cycles",
                       expect_failure=True)
    assert outcome.failed
    simulate(slow(LOOM), __name__, parameters=dataclasses.asdict(LOOM), test_filter="matches_golden")


async def strobe(dut: Any, name: str) -> None:
    """Hold input ``name`` for one cycle."""
    getattr(dut, name).value = 1
    await RisingEdge(dut.clk)
    getattr(dut, name).value = 0


async def walk(dut: Any, tile: Tile) -> int:
    """Walk the next tile, compare bounds and pixels; return the cycles."""
    await strobe(dut, "start")
    waited = 1
    await FallingEdge(dut.clk)
    while not dut.walked.value:
        await FallingEdge(dut.clk)
        waited += 1
    low, high = ((getattr(dut, f"{end}_y").value.to_signed(), getattr(dut, f"{end}_x").value.to_signed())
                 for end in ("low", "high"))
    assert (low, high) == (tile.low, tile.high)
    assert int(dut.present.value) == sum(there << q for q, there in enumerate(tile.present))
    await RisingEdge(dut.clk)
    return waited


async def count(dut: Any, rng: random.Random, words: Mapping[tuple[int, int], list[int]]) -> None:
    """Show the words of every pixel's chunks, with rests in between."""
    for (y, x), chunks in words.items():
        for number in chunks:
            dut.count_y.value, dut.count_x.value, dut.count.value = y, x, number
            dut.count_valid.value = 1
            await RisingEdge(dut.clk)
            dut.count_valid.value = 0
            for _ in range(rng.choice((0, 0, 0, 2))):
                await RisingEdge(dut.clk)


async def dealt(dut: Any, p: Arch, changes: int = 1) -> tuple[dict[tuple[int, int], tuple[int, ...] | None], int]:
    """Deal; return what lies in (group, lane), as (number, target, center, corner), and the cycles.

    changes : whether lanes may exchange what they were given
    """
    layout = TileRows(p).row.shape()
    held: dict[tuple[int, int], tuple[int, ...] | None] = {}
    dut.deal.value = 1
    for waited in itertools.count():
        await FallingEdge(dut.clk)
        assert bool(dut.clear.value) == (waited == 0)
        if not dut.dealing.value:
            break
        if dut.put.value:
            row = layout.from_bits(int(dut.row.value))
            value = (row.row, row.target, row.center_y, row.center_x, row.corner_y, row.corner_x) if row.valid else None
            for lane in range(p.lanes):
                if int(dut.lanes.value) >> lane & 1:
                    place = (int(dut.group.value), lane)
                    assert place not in held or changes, f"{place} is filled twice in a layer without a deal"
                    held[place] = value
        await RisingEdge(dut.clk)
        dut.deal.value = 0
    await RisingEdge(dut.clk)
    return held, waited


def expected(p: Arch, layer: Mapping[str, int], tile: Tile, words: list[int]
             ) -> dict[tuple[int, int], tuple[int, ...] | None]:
    """Return what `dealt` must return."""
    held: dict[tuple[int, int], tuple[int, ...] | None] = {}
    for group, numbers in enumerate(deal(layer, words, p.lanes)):
        for lane in range(p.lanes):
            number = numbers[lane % len(numbers)]
            row = tile.rows[number] if number < len(tile.rows) else None
            held[group, lane] = (row.number, row.target, *row.center, *row.corner) if row else None
    return held


def deal_cycles(p: Arch, layer: Mapping[str, int], words: list[int]) -> int:
    """Return the cycles that the block documents for a deal."""
    cycles = DEAL_CYCLES + layer["groups"] * (p.lanes >> layer["teams_log2"])
    if not layer["deal"]:
        return cycles
    changes = len(exchanges(first_deal(layer, words, p.lanes), words, p.lanes))
    return cycles + EXCHANGE_CYCLES * changes + (LAST_CYCLES if changes < p.lanes else 0)


async def check(dut: Any, rng: random.Random, layer: Mapping[str, int], sweep: Mapping[str, int], most: int) -> None:
    """Compare the first ``most`` tiles of a layer with golden."""
    p = arch()
    await strobe(dut, "layer_start")
    for tile in itertools.islice(tile_rows(layer, sweep, p.lanes), most):
        await walk(dut, tile)
        kind = rng.choice((1, 3, p.chunk_bits))
        chunks = {place: [rng.randint(0, kind) for _ in range(rng.choice((1, 1, 2)))]
                  for row in tile.rows if row for place in itertools.product(
                      range(row.corner[0], row.corner[0] + sweep["kernel_height"] + 1),
                      range(row.corner[1] - 1, row.corner[1] + sweep["kernel_width"] + 1)) if rng.random() < 0.7}
        await count(dut, rng, chunks)
        words = row_words(tile, sweep, {place: sum(numbers) for place, numbers in chunks.items()})
        held, cycles = await dealt(dut, p, layer["deal"])
        assert held == expected(p, layer, tile, words), (layer, tile)
        assert cycles == deal_cycles(p, layer, words), (layer, tile)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def matches_golden(dut: Any) -> None:
    """Bounds, pixels, and the row in every slot of random layers equal golden, also when a layer is left half-way."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut, INPUTS)
    dut.rst.value = 0
    for _ in range(40):
        case = draw_tiles(rng, p)
        await describe(dut, case.layer, [pass_record(sweep) for sweep in case.passes])
        await check(dut, rng, case.layer, case.passes[0], rng.choice((2, 99)))


def strip(p: Arch, size: tuple[int, int], pool: tuple[int, int, int]) -> dict[str, int]:
    """Return the layer fields of a map of that height and width before the pool, in the largest tiles."""
    kernel, stride, padding = pool
    height, width = ((n + 2 * padding - kernel) // stride + 1 for n in size)
    tile = p.lanes * p.rows // kernel ** 2
    return {"passes": 1, "height": size[0], "width": size[1], "out_height": height, "out_width": width,
            "pool_kernel": kernel, "pool_stride": stride, "pool_padding": padding, "or_pool": int(kernel > 1), "deal": 1,
            "tile_pixels": tile, "groups": -(-tile * kernel ** 2 // p.lanes), "row_tiles": -(-height * width // tile),
            "teams_log2": 0}


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(size=[(1, 2047), (2047, 1), (31, 31)], pool=[(1, 1, 0), (3, 2, 1)])
async def far_rows(dut: Any, size: tuple[int, int], pool: tuple[int, int, int]) -> None:
    """The longest maps keep their places to the last row."""
    p, rng, layer = arch(), random.Random(cocotb.RANDOM_SEED), strip(arch(), size, pool)
    await start(dut, INPUTS)
    dut.rst.value = 0
    await describe(dut, layer, [pass_record(FAR)])
    await strobe(dut, "layer_start")
    for tile in tile_rows(layer, FAR, p.lanes):
        await walk(dut, tile)
    assert tile.high == (size[0] - 1, size[1] - 1)
    words = {row.corner: rng.randint(1, 9) for row in tile.rows if row}
    await count(dut, rng, {place: [number] for place, number in words.items()})
    assert (await dealt(dut, p))[0] == expected(p, layer, tile, row_words(tile, FAR, words))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def documented_cycles(dut: Any) -> None:
    """A walk takes a cycle a row after 2 cycles, a deal of equal rows a cycle for each lane of a team and group after 1."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut, INPUTS)
    dut.rst.value = 0
    for _ in range(10):
        layer, sweep = (case := draw_tiles(rng, p)).layer, case.passes[0]
        await describe(dut, layer, [pass_record(sweep)])
        await strobe(dut, "layer_start")
        for tile in itertools.islice(tile_rows(layer, sweep, p.lanes), 2):
            assert await walk(dut, tile) == WALK_CYCLES + len(tile.rows)
            _, cycles = await dealt(dut, p)
            assert cycles == deal_cycles(p, layer, [])
