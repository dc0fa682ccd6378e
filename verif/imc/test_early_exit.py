"""Early exit against golden: equal sums, margins at the threshold and one below, classes in any order, images in a row."""

import dataclasses
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from golden.arch import ParameterError
from golden.imc.arch import IMC_PRESETS, ImcArch
from golden.imc.early_exit import early_exit
from hdl.imc.early_exit import EarlyExit
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, get, idle, put, reset, stalls, word

TINY = dataclasses.replace(IMC_PRESETS["tiny-ci"], channels=10, t_max=6)


def test_early_exit() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(EarlyExit(TINY), __name__, parameters=dataclasses.asdict(TINY))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("margin >= needed", "margin > needed", id="not at the threshold"),
    pytest.param("(i.p.d == best) & (i.p.channel < label)", "(i.p.d == best) & (i.p.channel > label)", id="the highest class"),
    pytest.param("(taken == 1) | wins", "wins", id="the second sum of the step before"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Another comparison, the other one of equal classes and a second sum that stays are caught."""
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


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(density=[0.0, 0.5])
async def matches_golden(dut: Any, density: float) -> None:
    """Verdicts on all steps of many images equal golden, also beyond the one that stops; documented cycles without stalls."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    dut.settings.value = dut.start.value = 0
    await reset(dut)
    for _ in range(60):
        sums, threshold = draw(rng, p)
        steps, classes = sums.shape
        exits = early_exit(sums, threshold)
        wanted = [(int(exits.margins[t]) >= (t + 1) * threshold or t + 1 == steps, t + 1, int(np.argmax(sums[t])),
                   int(exits.margins[t])) for t in range(steps)]
        first = next(verdict for verdict in wanted if verdict[0])
        assert (int(exits.steps), int(exits.label)) == first[1:3]
        dut.settings.value = word(EarlyExit.settings_layout(p), {"classes": classes, "steps": steps, "threshold": threshold})
        dut.start.value = 1
        await RisingEdge(dut.clk)
        dut.start.value = 0
        sent = []
        for row in sums.tolist():
            order = rng.sample(range(classes), classes)
            sent += [word(EarlyExit.i_layout(p), {"channel": c, "d": row[c]}) for c in order]
        pauses = [stalls(rng, density) if density else NEVER for _ in range(2)]
        sender, left = cocotb.start_soon(put(dut, "i", sent, pauses[0])), list[int]()
        got = [EarlyExit.o_layout(p).from_bits(bits) for bits in await get(dut, "o", steps, pauses[1], left)]
        taken = await sender
        assert [(bool(v.stop), int(v.step), int(v.channel), int(v.margin)) for v in got] == wanted, (sums, threshold)
        if not density:
            assert left == [at + 2 for at in taken[classes - 1::classes]]
            assert taken == [taken[0] + n + 2 * (n // classes) for n in range(len(taken))]
    await idle(dut, "o", 10)
