"""Vectors of random layers against golden: both orders of time, pools, strides and paddings, stalls, cycles."""

import dataclasses
import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import ImcArch
from golden.imc.vector_walk import vector_walk
from hdl.imc.vector_walk import VectorWalk
from verif.imc.layers import CORES, TINY, arch, corners, draw_layer, layer_word, vector_word
from verif.layers import start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import cycle, get, idle, stalls, watch

ARCHS = {"one tile": TINY, "wide": dataclasses.replace(CORES["one tree of four"], rows=64, group_rows=16, channels=256)}
# Cycles from the start, or from a vector being taken, to the next one's offer.
TO_OFFER = 2


@pytest.mark.parametrize("name", ARCHS)
def test_vector_walk(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(VectorWalk(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("(layer.pool_mode == 0) | whole", "whole", id="members share a membrane"),
    pytest.param("step + 1)),\n                                     membrane.eq(layer.membrane)]",
                 "step + 1)),\n                                     membrane.eq(0)]", id="membranes of another layer"),
    pytest.param("whole & (~layer.time_inner | last[\"step\"])", "whole", id="windows with each step"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Another membrane and another order are caught."""
    simulate(mutant(VectorWalk, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True)


def test_golden_by_definition(seed: int) -> None:
    """Both orders have the same vectors but for flags and membranes; without a pool, keys number step and pixel.

    Sums that serve all steps are those of the first one.
    """
    rng = random.Random(seed)
    for _ in range(50):
        layer = draw_layer(rng, TINY)
        inside, outside = ([*vector_walk(layer | {"time_inner": inner})] for inner in (1, 0))
        assert [v.step for v in outside] == sorted(v.step for v in outside)
        assert [v.window for v in inside] == sorted(v.window for v in inside)
        for order in (inside, outside):
            assert [v.end for v in order] == [False] * (len(order) - 1) + [True]
        if layer["once"]:
            anew = vector_walk(layer | {"time_inner": 0, "once": 0})
            assert [dataclasses.replace(v, end=False) for v in outside] == [
                dataclasses.replace(v, ends=True, end=False) for v in anew if v.starts]
        bare = [sorted((dataclasses.replace(v, end=False, membrane=0) for v in order), key=dataclasses.astuple)
                for order in (inside, outside)]
        assert bare[0] == bare[1]
        if layer["pool_kernel"] == 1:
            first, times = layer["first_step"] * layer["pixels"], (1 if layer["once"] else layer["steps"]) * layer["pixels"]
            assert [v.key for v in outside] == [*range(first, first + times)]


def test_golden_by_hand() -> None:
    """Two windows of two by two members, stride 2, padding 1, two steps, worked out by hand."""
    layer = {"steps": 2, "first_step": 3, "out_height": 1, "out_width": 2, "pool_kernel": 2, "pool_stride": 2, "pool_mode": 0,
             "stride": 2, "padding": 1, "conv_width": 5, "pixels": 10, "channels": 7, "time_inner": 0, "once": 0, "membrane": 0,
             "share_log2": 0}
    got = [*vector_walk(layer)]
    assert [(v.top, v.left, v.step, v.window) for v in got[:6]] == [
        (-1, -1, 3, 0), (-1, 1, 3, 0), (1, -1, 3, 0), (1, 1, 3, 0), (-1, 3, 3, 1), (-1, 5, 3, 1)]
    assert [v.key for v in got[:8]] == [30, 31, 35, 36, 32, 33, 37, 38]
    assert [v.membrane for v in got] == [*range(0, 56, 7)] * 2
    assert [v.membrane for v in vector_walk(layer | {"time_inner": 1})] == [*range(0, 28, 7)] * 4
    assert [v.membrane for v in vector_walk(layer | {"pool_mode": 1, "membrane": 50})] == [*[50] * 4, *[57] * 4] * 2
    assert [v.membrane for v in vector_walk(layer | {"channels": 12, "share_log2": 2})] == [*range(0, 24, 3)] * 2


async def run(dut: Any, p: ImcArch, rng: random.Random, layer: Any, stall: float) -> None:
    """Compare the vectors of a layer; the block is busy until the last one is taken."""
    dut.layer.value = layer_word(layer)
    wanted, at = [vector_word(p, v) for v in vector_walk(layer)], list[int]()
    dut.start.value = 1
    began = cycle()
    await RisingEdge(dut.clk)
    dut.start.value = 0
    await FallingEdge(dut.clk)
    assert dut.busy.value
    await RisingEdge(dut.clk)
    assert await get(dut, "o", len(wanted), stalls(rng, stall), at) == wanted, layer
    await FallingEdge(dut.clk)
    assert not dut.busy.value
    await RisingEdge(dut.clk)
    if not stall:
        assert at == [began + TO_OFFER * (n + 1) for n in range(len(wanted))]


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def matches_golden(dut: Any, stall: float) -> None:
    """All vectors of corner and random layers equal golden; without stalls they come in the documented cycles."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut, ["start", "layer", "o__ready"])
    dut.rst.value = 0
    cocotb.start_soon(watch(dut, "o"))
    for layer in corners(rng, p, 12):
        await run(dut, p, rng, layer, stall)
        await idle(dut, "o", 3)
