"""Digits: golden against plain arithmetic and torch, the block against golden."""

import dataclasses
import itertools
import random
import re
from dataclasses import replace
from typing import Any

import cocotb
import numpy as np
import pytest

from golden.arch import PRESETS, Arch, ParameterError
from golden.digit import digit
from golden.limits import check
from golden.network import Digit as Taken
from golden.network import Input, Layer, Network, Pass, Plane, Requantise, digit_planes, number_planes
from hdl.digit import Digit
from verif.chunks import TINY, WIDE
from verif.layers import arch
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import NEVER, get, idle, put, reset, stalls, word

Job = dict[str, Any]
ARCHS = {"tiny": TINY, "16 bits": WIDE, "one lane, 3 steps": replace(TINY, lanes=1, t_max=3), "narrow": replace(
    TINY, acc_bits=16, stream_bits=16, membrane_bits=16, t_max=16, lanes=2)}


@pytest.mark.parametrize("name", ARCHS)
def test_digit(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Digit(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("Mux(place > top, top, place)", "place", id="no sign beyond the current"),
    pytest.param("~below & (beyond | bit)", "beyond | bit", id="negative currents are not 0"),
    pytest.param("over.eq(beyond | (bit & ~shown))", "over.eq(0)", id="large currents wrap"),
    pytest.param("beyond.eq(over & ~first)", "beyond.eq(over)", id="too large in the step before"),
    pytest.param("below.eq(Mux(first, bit, minus))", "below.eq(bit)", id="sign not kept"),
    pytest.param("step.eq(step - 1)", "step.eq(step)", id="one step again and again"),
    pytest.param("Mux(i.p.one, i.p.step, i.p.steps - 1)", "i.p.steps - 1", id="last step instead of the one"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Bits of the wrong place, step or sign, and clips left out are caught."""
    outcome = simulate(mutant(Digit, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def currents(rng: random.Random, p: Arch, taken: Taken, count: int) -> list[int]:
    """Return currents of all sizes, and next to the lowest and highest that the word holds."""
    top = (1 << p.stream_bits - 1) - 1
    edges = [edge + d for edge in (0, 1 << taken.low, 1 << taken.low + taken.bits) for d in (-1, 0, 1)]
    corners = [x for edge in edges for x in (edge, -edge) if abs(x) <= top] + [top, -top - 1, 0, -1]
    return [rng.choice((rng.choice(corners), rng.randint(-top - 1, top), rng.randint(-1 << 9, 1 << 9)))
            for _ in range(count)]


def draw(rng: random.Random, p: Arch) -> tuple[Taken, int]:
    """Return digits that the build takes, and the steps of its network."""
    steps = rng.randint(1, p.t_max)
    step = None if rng.random() < 0.5 else rng.randrange(steps)
    most = p.t_max // steps if step is None else p.t_max
    low = rng.choice((0, rng.randint(0, p.stream_bits - 1), rng.randint(0, 31)))
    return Taken(low=low, bits=rng.choice((1, most, rng.randint(1, most))), step=step, clip=rng.random() < 0.5), steps


def plain(x: list[int], p: Taken) -> int:
    """Return the word of one neuron's currents by division of Python's integers."""
    value = 0
    for place, t in enumerate(p.taken(len(x))):
        floor = x[t] // 2**p.low
        part = min(max(floor, 0), 2**p.bits - 1) if p.clip else floor % 2**p.bits
        value += part * 2**(place * p.bits)
    return value


def test_golden_is_division(kind: Any) -> None:
    """Golden is what division says, in numpy and torch."""
    rng = random.Random(1)
    for _ in range(400):
        taken, steps = draw(rng, WIDE)
        x = [currents(rng, WIDE, taken, 9) for _ in range(steps)]
        words = digit(kind.asarray(x), taken)
        assert words.tolist() == [plain(list(column), taken) for column in zip(*x, strict=True)]


def test_planes_put_the_current_together_again() -> None:
    """The planes of enough digits, the last one signed, add to every step its current without the lowest bits."""
    rng, steps = random.Random(2), 4
    x = np.array([[rng.randint(-(1 << 15), (1 << 15) - 1) for _ in range(200)] for _ in range(steps)])
    for low, step in itertools.product((0, 3), (None, 2)):
        sums = np.zeros_like(x)
        digits = [Taken(low=at, bits=4, step=step) for at in range(low, 16, 4)]
        for one in digits:
            words = digit(x, one)
            for bit, plane in enumerate(digit_planes(one, steps, shift=one.low - low, signed=one is digits[-1])):
                for t in plane.steps:
                    sums[t] += (words >> bit & 1) * (-1 if plane.negate else 1) << plane.shift
        there = x >> low if step is None else np.where(np.arange(steps)[:, None] == step, x >> low, 0)
        assert (sums == there).all()


WIDE_DIGITS = replace(WIDE, digit=True, requantise=True)


def with_words(steps: int = 4, **words: Any) -> Network:
    """Return a network of ``steps`` steps whose first layer makes words as told and whose second one reads them."""
    one, zero = np.ones((1, 1, 1, 1), np.int8), np.zeros(1, np.int64)
    spec = Input(kind="static", channels=1, height=2, width=2, bits=4, scale=1.0, plane_bits=4)
    static = number_planes(4, True, tuple(range(steps)))
    return Network(name="words", steps=steps, input=spec, layers=(
        Layer(name="made", passes=(Pass(source="input.0", weight=one, planes=static),), bias=zero, **words),
        Layer(name="read", passes=(Pass(source="made", weight=one, planes=(Plane(steps=(0,)),)),), bias=zero, readout=True)))


@pytest.mark.parametrize(("arch", "words", "message"), [
    (WIDE, {"digit": Taken(low=0, bits=2)}, "made: digits: preset tiny makes no words of currents"),
    (WIDE_DIGITS, {"digit": Taken(low=32, bits=2)}, "made: digits: bit 32 of step None does not exist; legal: bits 0..31"),
    (WIDE_DIGITS, {"digit": Taken(low=0, bits=2, step=4)}, "made: digits: bit 0 of step 4 does not exist; legal: bits 0..31, "
     "steps 0..3 or None"),
    (WIDE_DIGITS, {"digit": Taken(low=0, bits=5)}, "made: bits of a word of digits: needs 20; legal: 1 to 16"),
    (WIDE_DIGITS, {"digit": Taken(low=0, bits=0)}, "made: bits of a word of digits: needs 0; legal: 1 to 16"),
    (WIDE_DIGITS, {"digit": Taken(low=0, bits=1), "min_spikes": 2}, "made: digits: stand in place of neuron, mask"),
    (WIDE_DIGITS, {"requantise": Requantise(multiplier=np.ones(1, int), shift=np.ones(1, int), bits=4, step=4)},
     "made: requantiser: step must be in 0..3 on preset tiny, not 4"),
    (replace(WIDE, requantise=True), {"requantise": Requantise(
        multiplier=np.ones(1, int), shift=np.ones(1, int), bits=4, step=1)},
     "made: requantiser: step must be 0 on preset tiny, not 1; try: digit = true in a preset file"),
])
def test_what_no_build_does_is_refused(arch: Arch, words: dict[str, Any], message: str) -> None:
    """Builds without digits, bits and steps that do not exist, and words that are too wide are refused in one line."""
    with pytest.raises(ParameterError, match=f"^{re.escape(message)}") as caught:
        check(with_words(**words), arch)
    assert "\n" not in str(caught.value)
    check(with_words(digit=Taken(low=31, bits=4)), WIDE_DIGITS)


def test_a_build_without_digits_is_the_build_it_was() -> None:
    """The configuration hash of a build without digits does not know of them."""
    plain = replace(PRESETS["loas"], digit=False, skip_taps=False)
    assert plain.hash == "ae5a95ee" and replace(plain, digit=True).hash != plain.hash


def jobs(rng: random.Random, p: Arch, count: int) -> list[tuple[Job, Taken, int]]:
    """Return columns for the block with what they mean; steps that are not taken are noise."""
    out = []
    for _ in range(count):
        taken, steps = draw(rng, p)
        x = [currents(rng, p, taken, p.t_max) for _ in range(p.lanes)]
        out.append(({"x": x, "low": taken.low, "bits": taken.bits, "clip": int(taken.clip), "steps": steps,
                     "one": int(taken.step is not None), "step": taken.step or 0}, taken, steps))
    return out


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Words of all lanes equal golden, with and without stalls on both sides."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await reset(dut)
    wanted, layout = jobs(rng, p, 400), Digit.i_layout(p)
    cocotb.start_soon(put(dut, "i", [word(layout, job) for job, _, _ in wanted], stalls(rng) if stall else NEVER))
    got = await get(dut, "o", len(wanted), stalls(rng) if stall else NEVER)
    for (job, taken, steps), bits in zip(wanted, got, strict=True):
        expected = digit(np.array(job["x"]).T[:steps], taken).tolist()
        assert [bits >> p.t_max * lane & (1 << p.t_max) - 1 for lane in range(p.lanes)] == expected, job
    await idle(dut, "o", 40)


@cocotb.test(timeout_time=400, timeout_unit="us")
async def takes_the_documented_cycles(dut: Any) -> None:
    """Currents are accepted after ``1 + n * b`` cycles, words offered in the next one, and columns follow each other."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await reset(dut)
    wanted, left = jobs(rng, p, 60), list[int]()
    sender = cocotb.start_soon(put(dut, "i", [word(Digit.i_layout(p), job) for job, _, _ in wanted]))
    await get(dut, "o", len(wanted), at=left)
    taken = await sender
    assert [out - into for into, out in zip(taken, left, strict=True)] == [1] * len(wanted)
    cycles = [1 + len(one.taken(steps)) * (max(one.bits, p.stream_bits - one.low) if one.clip else one.bits)
              for _, one, steps in wanted]
    assert [after - before for before, after in itertools.pairwise(taken)] == cycles[1:]
