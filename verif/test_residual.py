"""Residual path against its golden twin."""

import dataclasses
import itertools
import random
from typing import Any

import cocotb
import pytest
import torch
from cocotb.triggers import RisingEdge
from torch import Tensor

from golden.arch import Arch
from golden.network import Pool
from golden.residual import Current, residual
from golden.tail import stored_currents
from hdl.residual import Residual, current_layout
from verif.chunks import TINY, TTFS
from verif.heads import HEADS
from verif.layers import ARCHS, arch, layer_word, start
from verif.memory import ReadMemory
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import get, idle, stalls

POOLS = (None, Pool(kernel=2, stride=2), Pool(kernel=3, stride=2, padding=1), Pool(kernel=2, stride=1),
         Pool(kernel=3, stride=1, padding=1), Pool(kernel=2, stride=2, padding=1))
BASE, OFFSET = 0x40, 0x24


@pytest.mark.parametrize("p", [*(pytest.param(p, id=name) for name, p in ARCHS.items()), pytest.param(TTFS, id="spike times")])
def test_residual(p: Arch) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Residual(p), __name__, parameters=dataclasses.asdict(p))


def test_a_spike_time_that_is_added_as_it_is_is_caught() -> None:
    """Stored times of 0 and less that are not taken for never are caught."""
    outcome = simulate(mutant(Residual, "as_signed() <= 0)", "as_signed() < 0)")(TTFS), __name__,
                       parameters=dataclasses.asdict(TTFS), expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def test_residual_with_sums() -> None:
    """They pass on a build that sums windows too."""
    simulate(Residual(HEADS), __name__, parameters=dataclasses.asdict(HEADS))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("fetch.i.valid.eq(active & (in_map | user.end))", "fetch.i.valid.eq(active & in_map)",
                 id="no end without a pixel"),
    pytest.param("user.first.eq(~started)", "user.first.eq((member_y == 0) & (member_x == 0))",
                 id="first member is outside"),
    pytest.param("present.eq(y < layer.out_height)", "present.eq(1)", id="lanes beyond the last pixel"),
    pytest.param("user.skip.eq(~in_map)", "user.skip.eq(0)", id="outside counts"),
    pytest.param("column_bytes + step_bytes", "0", id="one column for all"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """A missing end, a wrong first member and currents from outside the map are caught."""
    outcome = simulate(mutant(Residual, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY),
                       expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def test_lost_sum_is_caught() -> None:
    """A window that is summed from its first member alone is caught."""
    broken = mutant(Residual, "layer.max_pool | layer.sum_pool", "layer.max_pool")
    outcome = simulate(broken(HEADS), __name__, parameters=dataclasses.asdict(HEADS), expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def current_of(bits: int, p: Arch) -> Current:
    """Return a payload of ``o``; without ``keep`` only ``lane`` and ``end`` mean something."""
    entry = current_layout(p).from_bits(bits)
    keep, end, lane = bool(entry.keep), bool(entry.end), int(entry.lane)
    return (Current(int(entry.value), lane, int(entry.step), bool(entry.first), True, end) if keep
            else Current(0, lane, 0, False, False, end))


def fields_of(currents: Tensor, pool: Pool | None, *, sums: bool = False) -> dict[str, int]:
    """Return the layer fields that the residual path reads; ``sums``: the window is summed, not searched."""
    steps, columns, height, width = currents.shape
    window = pool or Pool(kernel=1, stride=1)
    out = [(size + 2 * window.padding - window.kernel) // window.stride + 1 for size in (height, width)]
    return {"residual": 1, "steps": steps, "columns": columns, "residual_height": height, "residual_width": width,
            "out_height": out[0], "out_width": out[1], "max_pool": int(pool is not None and not sums),
            "sum_pool": int(pool is not None and sums),
            "pool_kernel": window.kernel, "pool_stride": window.stride, "pool_padding": window.padding,
            "residual_base": OFFSET, "residual_stride": 4 * steps * columns}


async def begin(dut: Any, rng: random.Random, density: float, content: bytearray) -> ReadMemory:
    """Reset with the currents in memory."""
    p = arch()
    memory = ReadMemory(dut, content, beat=p.data_bits // 8, address_bits=p.address_bits, burst_beats=p.burst_beats,
                        pauses=stalls(rng, density), latency=lambda: rng.choice((1, 5, 20)))
    dut.rst.value = 1
    await start(dut, ["layer_start", "layer", "o__ready"])
    memory.start()
    dut.base.value = BASE
    dut.rst.value = 0
    await RisingEdge(dut.clk)
    return memory


@cocotb.test(timeout_time=400, timeout_unit="us")
@cocotb.parametrize(pool=list(range(len(POOLS))), stall=[False, True])
async def matches_golden(dut: Any, pool: int, stall: bool) -> None:
    """Kept entries equal golden in order, and the end of every column comes where golden has it."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    limit = 1 << p.stream_bits - 1
    content = bytearray(1 << 15)
    await begin(dut, rng, 0.5 if stall else 0.0, content)
    for height, width, columns, steps in ((1, 2, 1, 1), (2, 2, 3, p.t_max), (5, 3, 2, rng.randint(1, p.t_max)),
                                          (3, 5, rng.randint(1, 6), min(4, p.t_max))):
        window = POOLS[pool]
        if window is not None and min(height, width) + 2 * window.padding < window.kernel:
            continue
        currents = torch.randint(-limit, limit, (steps, columns, height, width), generator=generator)
        currents[:, :, ::2, ::3] = 0
        stored = stored_currents(currents, readout=False)
        content[BASE + OFFSET : BASE + OFFSET + len(stored)] = stored
        times = p.ttfs and bool(rng.randrange(2) or window)
        dut.layer.value = layer_word(
            fields_of(currents, window, sums=p.token_sum and rng.random() < 0.5) | {"ttfs": int(times)})
        dut.layer_start.value = 1
        await RisingEdge(dut.clk)
        dut.layer_start.value = 0
        wanted = [entry if entry.keep else dataclasses.replace(entry, first=False)
                  for entry in residual(currents, window, p.lanes, times)]
        got = await get(dut, "o", len(wanted), stalls(rng, 0.4 if stall else 0.0))
        assert [current_of(bits, p) for bits in got] == wanted
        await idle(dut, "o", 30)


@cocotb.test(timeout_time=400, timeout_unit="us")
async def takes_the_documented_cycles(dut: Any) -> None:
    """Inside the currents of a pixel and column one leaves in every cycle, once they are fetched ahead."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    steps = p.t_max
    currents = torch.arange(2 * 3 * 4 * steps).reshape(steps, 2, 3, 4)
    content = bytearray(1 << 15)
    stored = stored_currents(currents, readout=False)
    content[BASE + OFFSET : BASE + OFFSET + len(stored)] = stored
    await begin(dut, rng, 0.0, content)
    dut.layer.value = layer_word(fields_of(currents, None))
    dut.layer_start.value = 1
    await RisingEdge(dut.clk)
    dut.layer_start.value = 0
    for _ in range(60):
        await RisingEdge(dut.clk)
    at: list[int] = []
    got = await get(dut, "o", 4 * steps, at=at)
    assert [current_of(bits, p).step for bits in got] == list(range(steps)) * 4
    assert all(after - before == 1 for before, after in itertools.pairwise(at[:steps]))
