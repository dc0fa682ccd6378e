"""Sums of a lane against golden: column blocks, row rounds, a last round of few tiles, missing channels, stalls, cycles."""

import dataclasses
import itertools
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge
from numpy.typing import NDArray

from golden.imc.arch import ImcArch
from golden.imc.lane import lane
from hdl.imc.lane import Lane
from hdl.imc.sum_tree import SumTree
from verif.imc.layers import CORES, corners, layer_word
from verif.layers import start
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, cycle, get, put, stalls, watch, word

# A build and the number of a lane.
LANES = {"two trees of two": 1, "one tree of four": 0, "two single tiles": 0}
# Cycles from the last part of a sum to the sum, those of the tree left out.
TO_SUM = 2


def run_on(cls: Any, name: str, **how: Any) -> None:
    """Run the cocotb tests on a lane of a build."""
    p = CORES[name]
    simulate(cls(p, LANES[name]), __name__, parameters={"number": LANES[name], **dataclasses.asdict(p)}, **how)


@pytest.mark.parametrize("name", LANES)
def test_lane(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    run_on(Lane, name)


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("Mux(last_in, (1 << rest) - 1, (1 << p.fan_in) - 1)", "(1 << p.fan_in) - 1", id="waits for all tiles"),
    pytest.param("tile.valid & ~ending", "tile.valid", id="the next block with the tiles of this one"),
    pytest.param("tree.o.valid & exists & ~closed", "tree.o.valid & ~closed", id="channels that do not exist"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Tiles that take part, and channels, that are wrong are caught."""
    run_on(mutant(Lane, old, new), "two trees of two", expect_failure=True)


def test_golden_by_hand() -> None:
    """Lane 1 of 2, three row blocks on two tiles, five column blocks of two outputs, nine channels, worked out by hand."""
    layer = {"blocks": 3, "rounds_in": 2, "column_blocks": 5, "outputs": 2, "channels": 9}
    y = np.array([[[1, 2, 3, 4], [10, 20, 30, 40]], [[100, 200, 300, 400], [7, 7, 7, 7]]])
    assert lane(layer, y, number=1, lanes=2) == [(2, 111), (3, 222), (6, 333), (7, 444)]
    last = np.array([[[1, 2, 3, 4, 5, 6]] * 2] * 2)
    assert lane(layer, last, number=0, lanes=2) == [(0, 3), (1, 6), (4, 9), (5, 12), (8, 15)]
    assert lane(layer | {"column_blocks": 1}, np.zeros((2, 2, 0), np.int64), number=1, lanes=2) == []


def draw(rng: random.Random, p: ImcArch, layer: dict[str, int], number: int) -> NDArray[np.int64]:
    """Return what the tiles send for a vector; sums fit ``stream_bits``, their ends among them."""
    own = len(range(number, layer["column_blocks"], p.tiles // p.fan_in)) * layer["outputs"]
    top = min((1 << p.stream_bits - 1) // layer["blocks"], 1 << p.sum_bits - 1)
    low, high = rng.choice(((-top, top - 1), (-9, 9), (top - 1, top - 1), (-top, -top)))
    return np.asarray([[[rng.randint(low, high) for _ in range(own)] for _ in range(p.fan_in)]
                       for _ in range(layer["rounds_in"])], np.int64)


def words_of(p: ImcArch, layer: dict[str, int], y: NDArray[np.int64], tile: int) -> list[int]:
    """Return the payloads of one tile for a vector."""
    turns = [turn for turn in range(layer["rounds_in"]) if turn * p.fan_in + tile < layer["blocks"]]
    return [word(SumTree.i_layout(p), {"y": int(value), "last": n % layer["outputs"] == layer["outputs"] - 1})
            for turn in turns for n, value in enumerate(y[turn, tile])]


async def release(dut: Any) -> None:
    """End a vector, or begin a layer."""
    dut.released.value = 1
    await RisingEdge(dut.clk)
    dut.released.value = 0


async def run(dut: Any, p: ImcArch, number: int, rng: random.Random, layer: dict[str, int], stall: float) -> None:
    """Compare some vectors, of which tiles send the next one as soon as they can; the first one also by its cycles."""
    dut.layer.value = layer_word(layer)
    await release(dut)
    drawn = [draw(rng, p, layer, number) for _ in range(3)]
    senders = [cocotb.start_soon(put(dut, f"i__{tile}", [w for y in drawn for w in words_of(p, layer, y, tile)],
                                     stalls(rng, stall) if stall else NEVER)) for tile in range(p.fan_in)]
    out: list[list[int]] = []
    for y in drawn:
        wanted = lane(layer, y, number=number, lanes=p.tiles // p.fan_in)
        out.append([])
        got = [Lane.o_layout(p).from_bits(bits) for bits in await get(
            dut, "o", len(wanted), stalls(rng, rng.choice((stall, 0.9))) if stall else NEVER, out[-1])]
        assert [(int(g.channel), int(g.d)) for g in got] == wanted, layer
        await FallingEdge(dut.clk)
        while not dut.ended.value:
            assert not dut.o__valid.value
            await FallingEdge(dut.clk)
        await RisingEdge(dut.clk)
        await release(dut)
    assert not dut.error.value
    taken = [await sender for sender in senders]
    if not stall:
        in_cycles(p, layer, taken[0][: len(taken[0]) // len(drawn)], out[0])


def in_cycles(p: ImcArch, layer: dict[str, int], taken: list[int], came: list[int]) -> None:
    """Assert the documented cycles of a vector: of tile 0, which takes part in every round, and of the sums."""
    through, size = p.fan_in.bit_length() - 1, len(taken)
    steps = [after - before for before, after in itertools.pairwise(taken)]
    assert steps == [1 if n % layer["outputs"] else 1 + through for n in range(1, size)], layer
    last_turn = taken[size - size // layer["rounds_in"]:]
    assert came == [moment + through + TO_SUM for moment in last_turn[: len(came)]], layer


async def begin(dut: Any) -> tuple[ImcArch, int, random.Random]:
    """Reset, wait for the bank; return the build, the number of the lane, and the random numbers of the test."""
    parameters = parameters_of_bench()
    number = parameters.pop("number")
    p = ImcArch(**parameters)
    streams = [f"i__{tile}" for tile in range(p.fan_in)]
    await start(dut, ["layer", "released", "o__ready", *(f"{name}__valid" for name in streams)])
    dut.rst.value = 0
    for name in (*streams, "o"):
        cocotb.start_soon(watch(dut, name))
    for _ in range(p.channels):
        await RisingEdge(dut.clk)
    return p, number, random.Random(cocotb.RANDOM_SEED)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def matches_golden(dut: Any, stall: float) -> None:
    """Sums of corner and random layers equal golden; without stalls they come in the documented cycles."""
    p, number, rng = await begin(dut)
    for layer in corners(rng, p, 12):
        await run(dut, p, number, rng, layer, stall)


@cocotb.test(timeout_time=20, timeout_unit="us")
async def words_that_differ_are_an_error(dut: Any) -> None:
    """Tiles of a tree that end at different words set the error, which stays; a single tile does not."""
    p, _, rng = await begin(dut)
    layer = corners(rng, p, 0)[0] | {"outputs": 2, "channels": 4, "column_blocks": p.tiles // p.fan_in, "blocks": p.fan_in}
    dut.layer.value = layer_word(layer | {"rounds_in": 1, "rounds_out": 1})
    await release(dut)
    assert not dut.error.value
    for tile in range(p.fan_in):
        ends = (0, 1) if tile else (1, 1)
        cocotb.start_soon(put(dut, f"i__{tile}", [word(SumTree.i_layout(p), {"y": 1, "last": end}) for end in ends]))
    dut.o__ready.value = 1
    began = cycle()
    while cycle() < began + 2 * p.channels:
        await RisingEdge(dut.clk)
    assert bool(dut.error.value) == (p.fan_in > 1)
