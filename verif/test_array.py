"""Lockstep array against its golden twin: dots of all lanes, and the cycles of every tile."""

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cocotb
import pytest
from amaranth.lib import data
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import PRESETS, Arch
from golden.array import array, lockstep_cycles
from hdl.array import LockstepArray
from hdl.inner_join import value_ring
from verif.chunks import draw_weights, packed, signed, turned
from verif.layers import layer_word
from verif.sim import simulate
from verif.stream import reset, stalls

P: Arch = dataclasses.replace(PRESETS["tiny"], t_max=4)
WORD_LOG2 = 2
START = 1
INPUTS = ("layer", "layer_start", "tiles", "row_full", "chunk_en", "chunk", "chunk_bytes", "chunk_last", "lane_mask",
          "lane_mask_valid", "lane_data", "lane_bits", "lane_flush", "lane_value_valid", "fill_half", "weight_full",
          "columns", "param_fill", "param_window", "mask_fill", "mask_window", "value_fill", "value_window", "value_head",
          "column__ready", "o__ready")


@dataclass
class Tile:
    """Rows of all lanes and columns, chunk by chunk: words and weights of every position, 0 where there is none."""

    rows: list[list[list[int]]]
    columns: list[list[list[int]]]

    @property
    def chunks(self) -> int:
        """Chunks of a row."""
        return len(self.rows[0])


def test_array() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(LockstepArray(P), __name__)


@pytest.mark.parametrize("broken", [
    pytest.param((r"\.first\(.*?\)", ".first(1'h1)"), id="chunk starts anew in every cycle"),
    pytest.param((r"\.read_half\(.*?\)", ".read_half(1'h0)"), id="half not switched"),
    pytest.param((r"\.last\(.*?\)", ".last(1'h0)"), id="pass never ends"),
])
def test_mutants_are_caught(broken: tuple[str, str]) -> None:
    """A chunk that starts anew, the wrong half and a pass without an end are caught."""
    simulate(LockstepArray(P), __name__, replace=broken, expect_failure=True)


def draw(rng: random.Random) -> Tile:
    """Return a tile of one to four chunks of 8, 16 or 32 positions, all densities."""
    sizes = [rng.choice((8, 16, 32)) for _ in range(rng.randint(1, 4))]
    density = rng.choice((0.0, 0.05, 0.3, 1.0))

    def sparse(size: int, values: Sequence[int]) -> list[int]:
        return [value if rng.random() < density else 0 for value in values[:size]]

    rows = [[sparse(size, [rng.randrange(1, 16) for _ in range(size)]) for size in sizes] for _ in range(P.lanes)]
    columns = [[sparse(size, draw_weights(rng, P.weight_bits, size)) for size in sizes] for _ in range(rng.randint(1, 6))]
    return Tile(rows, columns)


def mask(values: Sequence[int]) -> int:
    """Return the bitmask of the values that are not 0."""
    return sum(1 << place for place, value in enumerate(values) if value)


async def load(dut: Any, tile: Tile, half: int) -> None:
    """Fill one half of every lane with its row, and the chunk table."""
    dut.fill_half.value = half
    for number in range(tile.chunks):
        size = len(tile.rows[0][number]) // 8
        dut.chunk.value, dut.chunk_bytes.value, dut.chunk_last.value = number, size, int(number == tile.chunks - 1)
        dut.chunk_en.value = 1
        for lane in range(P.lanes):
            while not int(dut.lane_mask_ready.value) >> lane & 1:
                await RisingEdge(dut.clk)
            dut.lane_mask.value, dut.lane_mask_valid.value = mask(tile.rows[lane][number]), 1 << lane
            await RisingEdge(dut.clk)
            dut.lane_mask_valid.value, dut.chunk_en.value = 0, 0
            await FallingEdge(dut.clk)
    for lane in range(P.lanes):
        words = [word for chunk in tile.rows[lane] for word in chunk if word]
        for start in range(0, len(words), 8):
            part = words[start : start + 8]
            dut.lane_data.value, dut.lane_bits.value = packed(part, 4), 4 * len(part)
            dut.lane_value_valid.value = 1 << lane
            await RisingEdge(dut.clk)
    dut.lane_value_valid.value, dut.lane_data.value, dut.lane_bits.value = 0, 0, 0
    while not dut.lanes_idle.value:
        await RisingEdge(dut.clk)
    dut.lane_flush.value, dut.lane_value_valid.value = 1, (1 << P.lanes) - 1
    await RisingEdge(dut.clk)
    dut.lane_flush.value, dut.lane_value_valid.value = 0, 0


async def weights(dut: Any, tile: Tile) -> None:
    """Play the columns as the weight buffer does: everything that is left lies in the windows."""
    masks = [byte for column in tile.columns for chunk in column for byte in mask(chunk).to_bytes(len(chunk) // 8, "little")]
    values = [value for column in tile.columns for chunk in column for value in chunk if value]
    params, head = list(range(len(tile.columns))), 0
    while True:
        dut.param_fill.value, dut.param_window.value = len(params), params[0] if params else 0
        dut.mask_fill.value, dut.mask_window.value = len(masks), packed(masks[: P.chunk_bits // 8], 8)
        dut.value_fill.value, dut.value_head.value = len(values), head
        dut.value_window.value = turned(packed(values[: P.chunk_bits], P.weight_bits), head, P)
        await FallingEdge(dut.clk)
        params = params[int(dut.param_take.value) :]
        masks, values = masks[int(dut.mask_take.value) :], values[int(dut.value_take.value) :]
        head = (head + int(dut.value_take.value)) % value_ring(P)
        closed = bool(dut.weight_close.value)
        await RisingEdge(dut.clk)
        if closed:
            assert not masks and not values and not params
            return



async def run(dut: Any, tile: Tile, pauses: Any) -> tuple[list[list[list[int]]], int]:
    """Run one loaded tile; return the dots [column][lane][bit] and the cycles from its first chunk to its last."""
    layout = data.ArrayLayout(data.ArrayLayout(P.acc_bits, P.t_max), P.lanes)
    got: list[list[list[int]]] = []
    done: list[int] = []
    dut.row_full.value, dut.weight_full.value, dut.columns.value = 1, 1, len(tile.columns)
    player = cocotb.start_soon(weights(dut, tile))
    opened = popped = 0
    for now in range(20_000):
        dut.o__ready.value = int(pauses is None or not next(pauses))
        await FallingEdge(dut.clk)
        if dut.weight_open.value:
            opened = now
        if dut.chunk_done.value:
            done.append(now)
        if dut.o__valid.value and dut.o__ready.value:
            dots = layout.from_bits(int(dut.o__payload.value))
            got.append([[signed(int(dots[lane][bit]), P.acc_bits) for bit in range(P.t_max)] for lane in range(P.lanes)])
        released = bool(dut.row_release.value)
        await RisingEdge(dut.clk)
        dut.column__ready.value = int(len(got) > popped)
        popped += len(got) > popped
        if released:
            break
    dut.row_full.value = 0
    await player
    assert len(done) == tile.chunks * len(tile.columns)
    return got, done[-1] - opened


@cocotb.test(timeout_time=250, timeout_unit="us")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """The dots of every lane and column equal golden; without stalls the chunks take exactly `lockstep_cycles`."""
    rng = random.Random(cocotb.RANDOM_SEED)
    for name in INPUTS:
        getattr(dut, name).value = 0
    await reset(dut, ())
    pauses = stalls(rng) if stall else None
    for _ in range(12):
        tile = draw(rng)
        dut.layer.value = layer_word({"passes": 1, "steps": 4, "operand_log2": WORD_LOG2, "chunks": tile.chunks,
                                      "columns": len(tile.columns), "column_tiles": 1})
        dut.tiles.value, dut.layer_start.value = 2, 1
        await RisingEdge(dut.clk)
        dut.layer_start.value = 0
        for half, shown in enumerate((tile, Tile(tile.rows[::-1], tile.columns))):
            await load(dut, shown, half)
            got, cycles = await run(dut, shown, pauses)
            rows, columns = ([[value for chunk in part for value in chunk] for part in parts]
                             for parts in (shown.rows, shown.columns))
            assert got == [[array(row, column, P.t_max) for row in rows] for column in columns]
            if not stall:
                masks = [[[mask(chunk) for chunk in part] for part in parts] for parts in (shown.rows, shown.columns)]
                assert cycles == START + lockstep_cycles(*masks)
