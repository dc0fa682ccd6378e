"""Row spread of the loom against its golden twin: what is written into every slot, and in how many cycles."""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import Arch
from golden.pixel_loader import Pixel, pixel_loader
from golden.row_spread import Slot, row_spread
from golden.tile_rows import Row, Tile, deal, tile_rows
from hdl.pixel_loader import pixel_layout
from hdl.row_spread import RowSpread
from hdl.tile_rows import row_layout
from verif.chunks import LOOM, LOOMS
from verif.layers import Case, arch, describe, pass_record, start
from verif.mutant import mutant
from verif.row_tiles import draw_tiles
from verif.sim import simulate
from verif.stream import word

BASE, INPUT_OFFSET, MEMORY_BYTES = 0x40, 0x1000, 1 << 15
START_CYCLES, PASS_CYCLES = 2, 3
INPUTS = ("descriptor__valid", "layer", "clear", "put", "group", "lanes", "row", "start", "pixel")
Held = list[list[Row | None]]


@pytest.mark.parametrize("name", LOOMS)
def test_row_spread(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(RowSpread(LOOMS[name]), __name__, parameters=dataclasses.asdict(LOOMS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("(x < at(fields.kernel_width))", "(x <= at(fields.kernel_width))", id="a tap too many"),
    pytest.param("correcting & (again == g)", "0 & (again == g)", id="corners of the first pass"),
    pytest.param("segment.eq(y[:2] & segment_mask)", "segment.eq(0)", id="all in the first segment"),
    pytest.param("late_step.eq(step)", "late_step.eq(0)", id="all in the first chunk"),
    pytest.param("m.d.sync += row.valid.eq(0)", "pass", id="rows of the tile before"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Pixels in slots or places where they do not belong are caught."""
    outcome = simulate(mutant(RowSpread, old, new)(LOOM), __name__, parameters=dataclasses.asdict(LOOM),
                       expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def test_slow_spread_is_caught() -> None:
    """Corners that are computed anew in the first pass too are caught, by the cycles alone."""
    outcome = simulate(mutant(RowSpread, "m.Elif(number != 0)", "m.Else()")(LOOM), __name__,
                       parameters=dataclasses.asdict(LOOM), expect_failure=True, all_tests=True)
    assert all("documented_cycles" in name for name in outcome.failed), outcome.failed


async def seat(dut: Any, p: Arch, held: Held, rng: random.Random) -> None:
    """Put the rows into their slots; ``held`` : row of every group and lane."""
    dut.clear.value = 1
    await RisingEdge(dut.clk)
    dut.clear.value = 0
    places = [(group, lane) for group in range(len(held)) for lane in range(p.lanes)]
    for group, lane in rng.sample(places, len(places)):
        row = held[group][lane]
        fields = {} if row is None else {"corner_y": row.corner[0], "corner_x": row.corner[1], "center_y": row.center[0],
                                         "center_x": row.center[1], "valid": 1}
        dut.row.value, dut.group.value, dut.lanes.value, dut.put.value = word(row_layout(p), fields), group, 1 << lane, 1
        await RisingEdge(dut.clk)
        dut.put.value = 0
        for _ in range(rng.choice((0, 0, 1))):
            await RisingEdge(dut.clk)
    dut.row.value = dut.lanes.value = 0


async def spread(dut: Any, p: Arch, pixels: Sequence[Sequence[Pixel]]) -> tuple[list[list[Slot]], int]:
    """Spread; play the stores of the pixel loader, and return what every lane and slot holds, and the cycles."""
    entries = [word(pixel_layout(), {"y": pixel.y, "x": pixel.x, "lines": len(pixel.lines), "end": int(pixel.end)})
               for sweep in pixels for pixel in sweep]
    chunks = [chunk for sweep in pixels for pixel in sweep for chunk in pixel.chunks]
    lines = [line for sweep in pixels for pixel in sweep for line in pixel.lines]
    ports = dut_layouts(p)
    slots = [[Slot() for _ in range(p.rows)] for _ in range(p.lanes)]
    mask = line = -1
    waited = 0
    dut.start.value = 1
    while True:
        await FallingEdge(dut.clk)
        if not dut.busy.value:
            break
        waited += 1
        at = {name: ports[name].from_bits(int(getattr(dut, name).value)) for name in ports}
        for lane in range(p.lanes):
            for slot in range(p.rows):
                if at["mask_en"][lane] >> slot & 1:
                    address = at["mask_at"][lane][slot]
                    assert address not in slots[lane][slot].chunks, f"chunk {address} is written twice"
                    slots[lane][slot].chunks[address] = chunks[mask]
                if at["word_en"][lane] >> slot & 1:
                    address = at["word_at"][lane][slot]
                    assert address not in slots[lane][slot].lines, f"line {address} is written twice"
                    slots[lane][slot].lines[address] = lines[line]
        shown = int(dut.pixel_address.value) if dut.pixel_read.value else None
        mask = int(dut.mask_address.value) if dut.mask_read.value else mask
        line = int(dut.line_address.value) if dut.line_read.value else line
        await RisingEdge(dut.clk)
        dut.start.value = 0
        if shown is not None:
            dut.pixel.value = entries[shown] if shown < len(entries) else 0
    await RisingEdge(dut.clk)
    return slots, waited


def dut_layouts(p: Arch) -> dict[str, Any]:
    """Return the layouts of the outputs that name slots."""
    block = RowSpread(p)
    return {name: getattr(block, name).shape() for name in ("mask_en", "word_en", "mask_at", "word_at")}


def seats(p: Arch, case: Case, tile: Tile, words: list[int]) -> Held:
    """Return the row of every group and lane."""
    dealt = deal(case.layer, words, p.lanes)
    return [[tile.rows[numbers[lane % len(numbers)]] if numbers[lane % len(numbers)] < len(tile.rows) else None
             for lane in range(p.lanes)] for numbers in dealt]


async def one_tile(dut: Any, p: Arch, case: Case, tile: Tile, rng: random.Random) -> tuple[list[list[Pixel]], int]:
    """Spread one tile and compare every slot; return its pixels and the cycles."""
    held = seats(p, case, tile, [rng.randrange(9) for _ in tile.rows])
    content = bytes(rng.choice((0, rng.randrange(256), 255)) for _ in range(MEMORY_BYTES))
    pixels = pixel_loader(case.layer, case.passes, tile.low, tile.high, content, base=BASE, input_offset=INPUT_OFFSET,
                          chunk_bits=p.chunk_bits)
    await seat(dut, p, held, rng)
    slots, cycles = await spread(dut, p, pixels)
    for lane in range(p.lanes):
        rows = [group[lane] for group in held]
        wanted = row_spread(case.layer, case.passes, [row.center if row else None for row in rows], pixels, p.rows,
                            p.chunk_bits)
        assert slots[lane] == wanted, (case, tile, lane)
    return pixels, cycles


def documented(p: Arch, case: Case, pixels: Sequence[Sequence[Pixel]]) -> int:
    """Return the documented cycles of a tile."""
    again = max(0, len(pixels) - 1) * p.lanes * case.layer["groups"]
    return START_CYCLES + again + sum(
        PASS_CYCLES + sum(max(len(pixel.chunks), len(pixel.lines)) for pixel in sweep) for sweep in pixels)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def matches_golden(dut: Any) -> None:
    """What every slot of every lane holds of random tiles equals golden, one tile after the other."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut, INPUTS)
    dut.rst.value = 0
    for _ in range(15):
        case = draw_tiles(rng, p)
        await describe(dut, case.layer, [pass_record(sweep) for sweep in case.passes])
        tiles = list(tile_rows(case.layer, case.passes[0], p.lanes))
        for tile in rng.sample(tiles, min(3, len(tiles))):
            await one_tile(dut, p, case, tile, rng)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def documented_cycles(dut: Any) -> None:
    """Random tiles, and one without a pass, take the documented cycles."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut, INPUTS)
    dut.rst.value = 0
    for _ in range(8):
        case = draw_tiles(rng, p)
        await describe(dut, case.layer, [pass_record(sweep) for sweep in case.passes])
        tile = rng.choice(list(tile_rows(case.layer, case.passes[0], p.lanes)))
        pixels, cycles = await one_tile(dut, p, case, tile, rng)
        assert cycles == documented(p, case, pixels), (case, tile)
    await describe(dut, {**case.layer, "passes": 0}, [])
    assert await spread(dut, p, []) == ([[Slot() for _ in range(p.rows)] for _ in range(p.lanes)], START_CYCLES)
