"""Residual add against golden: both ends, two streams that wait for each other, layers without attention."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest

from golden.imc.residual_add import residual_add
from hdl.imc.residual_add import ResidualAdd
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import NEVER, get, idle, put, reset, stalls

TOP = 1 << 15


def test_residual_add() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(ResidualAdd(), __name__)


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("total < ~top, ~top", "total < ~top, -top", id="a wrong end"),
    pytest.param("a.ready.eq(move & both & ~self.alone)", "a.ready.eq(move & ~self.alone)", id="a value is lost"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """A saturation at another value, and a stream that runs ahead of the other one, are caught."""
    simulate(mutant(ResidualAdd, old, new)(), __name__, expect_failure=True)


def test_golden_by_hand(kind: Any) -> None:
    """Sums are held at both ends."""
    x, a = kind.asarray([5, TOP - 1, -TOP, TOP - 2, -TOP]), kind.asarray([-7, 1, -1, 1, 1])
    assert residual_add(x, a).tolist() == [-2, TOP - 1, -TOP, TOP - 1, 1 - TOP]


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(density=[0.0, 0.5])
async def matches_golden(dut: Any, density: float) -> None:
    """Sums equal golden whichever stream comes first, or x alone; without stalls in the documented cycles."""
    rng = random.Random(cocotb.RANDOM_SEED)
    dut.alone.value = 0
    await reset(dut, ["i", "a", "o"])
    for alone in (False, True, False):
        dut.alone.value = int(alone)
        x, a = ([rng.choice((-TOP, TOP - 1, -1, 0, 1, rng.randrange(-TOP, TOP), rng.randrange(-128, 128)))
                 for _ in range(300)] for _ in range(2))
        wanted = x if alone else residual_add(np.array(x), np.array(a)).tolist()
        pauses = [stalls(rng, density) if density else NEVER for _ in range(3)]
        left: list[int] = []
        sender = cocotb.start_soon(put(dut, "i", [value & 0xFFFF for value in x], pauses[0]))
        other = cocotb.start_soon(put(dut, "a", [] if alone else [value & 0xFFFF for value in a], pauses[1]))
        got = await get(dut, "o", len(x), pauses[2], left)
        taken = await sender
        await other
        assert [value - (value >> 15 << 16) for value in got] == wanted
        if not density:
            assert taken == [*range(taken[0], taken[0] + len(x))]
            assert left == [at + 1 for at in taken]
    await idle(dut, "o", 10)
