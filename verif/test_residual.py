"""Residual path against its golden twin."""

import dataclasses
import itertools
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from golden.arch import Arch
from golden.current_store import stored_currents
from golden.network import Array, Pool
from golden.residual import Currents, residual
from hdl.residual import Residual, currents_layout
from verif.chunks import LOOM, TINY, TTFS
from verif.heads import HEADS
from verif.layers import ARCHS, arch, layer_word, start
from verif.memory import ReadMemory
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import get, idle, stalls

POOLS = (None, Pool(kernel=2, stride=2), Pool(kernel=3, stride=2, padding=1), Pool(kernel=2, stride=1),
         Pool(kernel=3, stride=1, padding=1), Pool(kernel=2, stride=2, padding=1))
BASE, OFFSET = 0x40, 0x24


BUILDS = ARCHS | {"spike times": TTFS, "loom": dataclasses.replace(LOOM, rows=4),
                  "beats of many columns": dataclasses.replace(LOOM, t_max=5, data_bits=512, rows=2, token_sum=True)}


@pytest.mark.parametrize("p", [pytest.param(p, id=name) for name, p in BUILDS.items()])
def test_residual(p: Arch) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Residual(p), __name__, parameters=dataclasses.asdict(p))


def test_a_spike_time_that_is_added_as_it_is_is_caught() -> None:
    """Stored times of 0 and less that are not taken for never are caught."""
    outcome = simulate(mutant(Residual, "current <= 0", "current < 0")(TTFS), __name__,
                       parameters=dataclasses.asdict(TTFS), expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def test_residual_with_sums() -> None:
    """They pass on a build that sums windows too."""
    simulate(Residual(HEADS), __name__, parameters=dataclasses.asdict(HEADS))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("fetch.i.valid.eq(active & (in_map | last_member))", "fetch.i.valid.eq(active & in_map)",
                 id="no end without a pixel"),
    pytest.param("user.first.eq(~started)", "user.first.eq((member_y == 0) & (member_x == 0))",
                 id="first member is outside"),
    pytest.param("present.eq(y < layer.out_height)", "present.eq(1)", id="lanes beyond the last pixel"),
    pytest.param("take & ~user.skip &", "take &", id="outside counts"),
    pytest.param("column_bytes + run", "0", id="one column for all"),
    pytest.param("current > one", "current.as_unsigned() > one.as_unsigned()", id="unsigned maximum"),
    pytest.param("room.eq(held != depth)", "room.eq(1)", id="queue runs over"),
    pytest.param("depth + p.lanes * p.rows + 1", "depth + 1", id="counts fewer than may be played"),
    pytest.param("part == n // beat", "part == 0", id="steps of another beat"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """A missing end, a wrong first member, currents from outside the map and a queue that loses entries are caught."""
    outcome = simulate(mutant(Residual, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY),
                       expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("shift + layer.steps", "shift + 1", id="columns overlap"),
    pytest.param("put - (issue & last_play)", "put - issue", id="freed while they are needed"),
    pytest.param("read.eq(head)", "read.eq(0)", id="plays from the queue's first place"),
])
def test_mutants_of_wide_beats_are_caught(old: str, new: str) -> None:
    """Columns of one beat that are mixed up are caught, and so are entries freed before their last column."""
    build = BUILDS["beats of many columns"]
    outcome = simulate(mutant(Residual, old, new)(build), __name__, parameters=dataclasses.asdict(build), expect_failure=True)
    assert outcome.failed


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("layer.max_pool | layer.sum_pool", "layer.max_pool", id="first member alone"),
    pytest.param("Mux(layer.sum_pool, one + current, larger)", "larger", id="largest member"),
])
def test_lost_sum_is_caught(old: str, new: str) -> None:
    """A window whose members are not added is caught."""
    outcome = simulate(mutant(Residual, old, new)(HEADS), __name__, parameters=dataclasses.asdict(HEADS), expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def currents_of(bits: int, p: Arch, steps: int) -> Currents:
    """Return a payload of ``o``; values of steps that the layer does not have mean nothing."""
    entry = currents_layout(p).from_bits(bits)
    return Currents(tuple(int(entry.values[t]) for t in range(steps)), int(entry.lane), bool(entry.end))


def fields_of(currents: Array, pool: Pool | None, *, sums: bool = False, groups: int = 1) -> dict[str, int]:
    """Return the layer fields that the residual path reads; ``sums``: the window is summed, not searched."""
    steps, columns, height, width = currents.shape
    window = pool or Pool(kernel=1, stride=1)
    out = [(size + 2 * window.padding - window.kernel) // window.stride + 1 for size in (height, width)]
    return {"residual": 1, "groups": groups, "steps": steps, "columns": columns,
            "residual_height": height, "residual_width": width, "out_height": out[0], "out_width": out[1],
            "max_pool": int(pool is not None and not sums), "sum_pool": int(pool is not None and sums),
            "pool_kernel": window.kernel, "pool_stride": window.stride, "pool_padding": window.padding,
            "residual_base": OFFSET, "residual_stride": 4 * steps * columns}


def wrapped(value: int, bits: int) -> int:
    """Return ``value`` as a signed number of ``bits`` bits."""
    return (value + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


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


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(pool=list(range(len(POOLS))), stall=[False, True])
async def matches_golden(dut: Any, pool: int, stall: bool) -> None:
    """Kept entries equal golden in order, and the end of every column comes where golden has it."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    generator = np.random.default_rng(rng.getrandbits(32))
    limit = 1 << p.stream_bits - 1
    content = bytearray(1 << 15)
    await begin(dut, rng, 0.5 if stall else 0.0, content)
    for height, width, columns, steps in ((1, 2, 1, 1), (2, 2, 3, p.t_max), (5, 3, 2, rng.randint(1, p.t_max)),
                                          (3, 5, rng.randint(1, 6), min(4, p.t_max))):
        window = POOLS[pool]
        if window is not None and min(height, width) + 2 * window.padding < window.kernel:
            continue
        currents = generator.integers(-limit, limit, (steps, columns, height, width))
        currents[:, :, ::2, ::3] = 0
        stored = stored_currents(currents, readout=False)
        content[BASE + OFFSET : BASE + OFFSET + len(stored)] = stored
        times, sums = p.ttfs and bool(rng.randrange(2) or window), p.token_sum and rng.random() < 0.5
        groups = rng.choice([1, 2, 4][: p.rows.bit_length()])
        dut.layer.value = layer_word(fields_of(currents, window, sums=sums, groups=groups) | {"ttfs": int(times)})
        dut.layer_start.value = 1
        await RisingEdge(dut.clk)
        dut.layer_start.value = 0
        pooled = None if window is None else ("sum" if sums else "max", window)
        wanted = [dataclasses.replace(entry, values=tuple(wrapped(value, p.stream_bits) for value in entry.values))
                  for entry in residual(currents, pooled, p.lanes, times, groups)]
        for _ in range(200 if stall and rng.randrange(2) else 0):
            await RisingEdge(dut.clk)
        got = await get(dut, "o", len(wanted), stalls(rng, 0.4 if stall else 0.0))
        assert [currents_of(bits, p, steps) for bits in got] == wanted
        await idle(dut, "o", 30)


@cocotb.test(timeout_time=400, timeout_unit="us")
async def takes_the_documented_cycles(dut: Any) -> None:
    """One lane with all its steps leaves in every cycle, once half a group more than the tile is fetched ahead."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    steps, pixels = p.t_max, 3 * p.lanes * p.rows
    currents = np.arange(pixels * steps).reshape(steps, 1, 1, pixels)
    content = bytearray(1 << 15)
    stored = stored_currents(currents, readout=False)
    content[BASE + OFFSET : BASE + OFFSET + len(stored)] = stored
    await begin(dut, rng, 0.0, content)
    dut.layer.value = layer_word(fields_of(currents, None, groups=p.rows))
    dut.layer_start.value = 1
    await RisingEdge(dut.clk)
    dut.layer_start.value = 0
    for _ in range(20 * pixels):
        await RisingEdge(dut.clk)
    at: list[int] = []
    await get(dut, "o", p.residual_entries, at=at)
    assert all(after - before == 1 for before, after in itertools.pairwise(at))
