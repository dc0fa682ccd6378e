"""Tile walk against its golden twin."""

import random
from dataclasses import replace
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import PRESETS
from golden.tile_walk import Visit, tile_walk
from hdl.tile_walk import TileWalk
from verif.layers import layer_word
from verif.sim import parameters_of_bench, simulate
from verif.stream import reset

POOLS = (None, (2, 2, 0), (2, 1, 1), (3, 2, 1), (3, 1, 0))
LANES = (1, 4, 16)


@pytest.mark.parametrize("lanes", LANES)
def test_tile_walk(lanes: int) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    arch = replace(PRESETS["tiny"], lanes=lanes, buffer_bytes=1 << 20)
    simulate(TileWalk(arch), __name__, parameters={"lanes": lanes})


@pytest.mark.parametrize("broken", [
    pytest.param((r"tile \+ 1'h1", "tile + 2'h2"), id="tile skipped"),
    pytest.param((r">= \$signed\(1'h0\)", ">= $signed(2'h1)"), id="first row outside"),
])
def test_mutants_are_caught(broken: tuple[str, str]) -> None:
    """A walk that skips a tile or misses the first row is caught."""
    simulate(TileWalk(PRESETS["tiny"]), __name__, parameters={"lanes": 4}, replace=broken, expect_failure=True)


def flags(value: int, lanes: int) -> tuple[bool, ...]:
    """Return the bits of a lane mask, lane 0 first."""
    return tuple(bool(value >> lane & 1) for lane in range(lanes))


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def matches_golden(dut: Any) -> None:
    """Every visit of random layers equals golden, and comes ``lanes + 2`` cycles after ``layer_start`` or ``next``."""
    rng, lanes = random.Random(cocotb.RANDOM_SEED), parameters_of_bench()["lanes"]
    dut.layer_start.value, dut.next.value, dut.layer.value = 0, 0, 0
    await reset(dut, ())
    for pool in POOLS * 3:
        before = (rng.randint(3, 9), rng.randint(3, 9))
        kernel, stride, padding = pool or (1, 1, 0)
        height, width = ((size + 2 * padding - kernel) // stride + 1 for size in before)
        out = (height, width)
        tiles = -(-out[0] * out[1] // lanes)
        dut.layer.value = layer_word({"height": before[0], "width": before[1], "out_height": out[0], "out_width": out[1],
                                     "row_tiles": tiles, "or_pool": int(pool is not None), "pool_kernel": kernel,
                                     "pool_stride": stride, "pool_padding": padding})
        strobe = dut.layer_start
        for visit in tile_walk(lanes, out, before, pool):
            strobe.value = 1
            await RisingEdge(dut.clk)
            strobe.value = 0
            waited = 1
            while True:
                await FallingEdge(dut.clk)
                if dut.ready.value:
                    break
                assert not dut.idle.value
                await RisingEdge(dut.clk)
                waited += 1
            got = Visit(int(dut.tile.value), int(dut.member.value), flags(int(dut.present.value), lanes),
                        flags(int(dut.in_map.value), lanes))
            assert got == visit, f"{before=} {pool=}"
            assert waited == lanes + 2
            assert bool(dut.first_member.value) == (visit.member == 0)
            assert bool(dut.last_member.value) == (visit.member == kernel * kernel - 1)
            for _ in range(rng.choice((0, 0, 3))):
                await RisingEdge(dut.clk)
            strobe = dut.next
        strobe.value = 1
        await RisingEdge(dut.clk)
        strobe.value = 0
        await FallingEdge(dut.clk)
        assert dut.idle.value
        await RisingEdge(dut.clk)
