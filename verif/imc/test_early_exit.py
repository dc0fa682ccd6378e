"""Early exit against golden: equal sums, margins at the threshold and one below, any order, images in a row, stalls."""

import dataclasses
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import ParameterError
from golden.imc.arch import IMC_PRESETS, ImcArch
from golden.imc.early_exit import early_exit
from hdl.imc.early_exit import EarlyExit
from hdl.imc.lane import Lane
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, get, idle, put, reset, stalls, word

TINY = dataclasses.replace(IMC_PRESETS["tiny-ci"], channels=10, t_max=6)


def test_early_exit() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(EarlyExit(TINY), __name__, parameters=dataclasses.asdict(TINY))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("margin >= needed", "margin > needed", id="not at the threshold"),
    pytest.param("(total == best) & (channel < label)", "(total == best) & (channel > label)", id="the highest class"),
    pytest.param("(taken == 1) | wins", "wins", id="the second sum of the step before"),
    pytest.param("works & ~settings.fresh", "works", id="sums of the image before"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Another comparison, the other one of equal classes, and sums that stay from a step or an image are caught."""
    outcome = simulate(mutant(EarlyExit, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def test_golden_by_hand(kind: Any) -> None:
    """Margins 0, 3, 9 of three steps: stops where they are 0, 3, 6, 9 times a step, or at the end."""
    sums = kind.asarray([[4, 4, 1], [5, 8, 2], [6, 1, 15]])
    for threshold, steps, label in ((0, 1, 0), (1, 2, 1), (2, 3, 2), (3, 3, 2), (9, 3, 2)):
        found = early_exit(sums, threshold)
        assert (found.steps.tolist(), found.label.tolist(), found.margins.tolist()) == (steps, label, [0, 3, 9])
    both = early_exit(kind.stack([sums, kind.flip(sums, (0,))]), 3)
    assert (both.steps.tolist(), both.label.tolist()) == ([3, 1], [2, 2])
    for wrong, threshold, text in ((sums, -1, "threshold must be 0 or more, not -1"),
                                   (sums[:, :1], 1, "classes must be 2 or more, for a margin is between two, not 1")):
        with pytest.raises(ParameterError) as error:
            early_exit(wrong, threshold)
        assert str(error.value) == text


def draw(rng: random.Random, p: ImcArch) -> tuple[Any, int]:
    """Return sums [T, classes] and a threshold: ends, ties, a margin at the threshold of a step or one below."""
    top = 1 << p.stream_bits - 1
    low, high = rng.choice(((-top, top - 1), (-3, 3), (-50, 50), (0, 0)))
    sums = [[rng.choice((low, high, rng.randint(low, high))) for _ in range(rng.choice((2, p.channels)))]]
    sums += [[rng.randint(low, high) for _ in sums[0]] for _ in range(rng.randrange(p.t_max))]
    step = rng.randrange(len(sums))
    margin = sorted(sums[step])[-1] - sorted(sums[step])[-2]
    near = max(0, margin // (step + 1) + rng.choice((-1, 0, 1)))
    return np.array(sums), min((1 << 31) - 1, rng.choice((0, near, near, (1 << 31) - 1)))


async def step(dut: Any, rng: random.Random, sums: list[int], settings: dict[str, int], density: float) -> list[int]:
    """Give the sums of a step, in any order, and return what leaves, by class; documented cycles without stalls.

    The verdict stands at the end, and none did since the start.
    """
    p = ImcArch(**parameters_of_bench())
    layout, order = Lane.o_layout(p), rng.sample(range(len(sums)), len(sums))
    dut.settings.value = word(EarlyExit.settings_layout(p), {"classes": len(sums), **settings})
    dut.start.value = 1
    await RisingEdge(dut.clk)
    dut.start.value = 0
    await FallingEdge(dut.clk)
    assert dut.idle.value and not verdict(dut).valid
    await RisingEdge(dut.clk)
    pauses = [stalls(rng, density) if density else NEVER for _ in range(2)]
    half, left = 1 << p.stream_bits - 1, list[int]()
    words = [word(layout, {"channel": c, "d": (sums[c] + half) % (2 * half) - half}) for c in order]
    sender = cocotb.start_soon(put(dut, "i", words, pauses[0]))
    got = [layout.from_bits(bits) for bits in await get(dut, "o", len(order), pauses[1], left)]
    taken = await sender
    assert [int(sum_.channel) for sum_ in got] == order
    await FallingEdge(dut.clk)
    assert dut.idle.value and not verdict(dut).valid
    await RisingEdge(dut.clk)
    await FallingEdge(dut.clk)
    await RisingEdge(dut.clk)
    if not density:
        assert left == [at + 1 for at in taken] == [*range(left[0], left[0] + len(left))]
    return [int(sum_.d) for _, sum_ in sorted(zip(order, got, strict=True), key=lambda pair: pair[0])]


def verdict(dut: Any) -> Any:
    """Return what the block tells."""
    return EarlyExit.verdict_layout(ImcArch(**parameters_of_bench())).from_bits(int(dut.verdict.value))


@cocotb.test(timeout_time=400, timeout_unit="us")
@cocotb.parametrize(density=[0.0, 0.5])
async def matches_golden(dut: Any, density: float) -> None:
    """Sums so far and verdicts on all steps of many images equal golden, also beyond the one that stops.

    Each image begins anew, also behind one that was given up, and after sums that only pass.
    """
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    dut.settings.value = dut.start.value = 0
    await reset(dut)
    for _ in range(60):
        sums, threshold = draw(rng, p)
        steps, exits = len(sums), early_exit(sums, threshold)
        stops = [int(exits.margins[t]) >= (t + 1) * threshold or t + 1 == steps for t in range(steps)]
        assert (int(exits.steps), int(exits.label)) == (stops.index(True) + 1, int(exits.labels[stops.index(True)]))
        for t in range(rng.choice((steps, int(exits.steps)))):
            given = (sums[t] - (sums[t - 1] if t else 0)).tolist()
            settings = {"fresh": int(t == 0), "steps": steps, "threshold": threshold}
            assert await step(dut, rng, given, settings, density) == sums[t].tolist()
            told = verdict(dut)
            assert (bool(told.valid), bool(told.stop), int(told.step), int(told.channel), int(told.margin)) == (
                True, stops[t], t + 1, int(exits.labels[t]), int(exits.margins[t])), (sums, threshold)
            if rng.random() < 0.2:
                off = {"fresh": 0, "steps": 0, "threshold": threshold}
                assert await step(dut, rng, sums[t].tolist(), off, density) == sums[t].tolist()
                assert not verdict(dut).valid and verdict(dut).step == t + 1
    await idle(dut, "o", 10)
