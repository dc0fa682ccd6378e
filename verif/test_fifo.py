"""FIFO against a list, with its documented latency, throughput and space."""

import itertools
import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from hdl.bus.fifo import Fifo
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, get, idle, put, reset, stalls

SIZES = ((7, 1), (1, 2), (9, 3), (13, 5), (600, 16))


@pytest.mark.parametrize(("width", "depth"), SIZES)
def test_fifo(width: int, depth: int) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Fifo(width, depth), __name__, parameters={"width": width, "depth": depth})


@pytest.mark.parametrize(("broken", "catcher"), [
    pytest.param((r"3'h5", "3'h6"), "holds_exactly_depth", id="one too many"),
    pytest.param((r"i__ready = .*;", "i__ready = 1'h1;"), "keeps_order", id="no back-pressure"),
    pytest.param((r"3'h4", "3'h3"), "keeps_order", id="wraps early"),
])
def test_mutants_are_caught(broken: tuple[str, str], catcher: str) -> None:
    """A queue that takes too much, never waits or wraps one place early is caught."""
    outcome = simulate(Fifo(13, 5), __name__, parameters={"width": 13, "depth": 5}, replace=broken,
                       expect_failure=True, all_tests=True)
    assert any(catcher in name for name in outcome.failed), outcome.failed


async def watch_space(dut: Any, depth: int) -> None:
    """Assert in every cycle that ``space`` and ``i.ready`` say how many payloads fit."""
    inside = 0
    while True:
        await FallingEdge(dut.clk)
        assert int(dut.space.value) == depth - inside
        assert int(dut.i__ready.value) == (inside != depth)
        inside += int(dut.i__valid.value and dut.i__ready.value) - int(dut.o__valid.value and dut.o__ready.value)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(density=[(0.0, 0.0), (0.5, 0.5), (0.1, 0.8), (0.8, 0.1)])
async def keeps_order(dut: Any, density: tuple[float, float]) -> None:
    """What goes in comes out, in order, however the two sides pause."""
    p, rng = parameters_of_bench(), random.Random(cocotb.RANDOM_SEED)
    await reset(dut)
    cocotb.start_soon(watch_space(dut, p["depth"]))
    words = [rng.getrandbits(p["width"]) for _ in range(300)]
    cocotb.start_soon(put(dut, "i", words, stalls(rng, density[0])))
    assert await get(dut, "o", len(words), stalls(rng, density[1])) == words
    await idle(dut, "o", 5)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def holds_exactly_depth(dut: Any) -> None:
    """``depth`` payloads are taken while nothing leaves, and no more."""
    p = parameters_of_bench()
    await reset(dut)
    sender = cocotb.start_soon(put(dut, "i", [n & 1 for n in range(p["depth"])]))
    await sender
    for _ in range(5):
        await FallingEdge(dut.clk)
        assert not dut.i__ready.value
        assert int(dut.space.value) == 0
        await RisingEdge(dut.clk)
    assert await get(dut, "o", p["depth"]) == [n & 1 for n in range(p["depth"])]


@cocotb.test(timeout_time=100, timeout_unit="us")
async def takes_the_documented_cycles(dut: Any) -> None:
    """A payload leaves 2 cycles after it comes, ``min(depth, 3)`` payloads in 3 cycles."""
    p = parameters_of_bench()
    await reset(dut)
    left: list[int] = []
    sender = cocotb.start_soon(put(dut, "i", [0] * 30, NEVER))
    await get(dut, "o", 30, at=left)
    taken = await sender
    assert [out - into for into, out in zip(taken, left, strict=True)] == [2] * 30
    most = min(p["depth"], 3)
    assert [after - before for before, after in itertools.pairwise(taken[::most])] == [3] * (len(taken[::most]) - 1)
