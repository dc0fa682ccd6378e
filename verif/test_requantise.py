"""Requantiser: golden against fractions and against torch, the block against golden."""

import dataclasses
import itertools
import random
from dataclasses import replace
from fractions import Fraction
from math import floor
from typing import Any

import cocotb
import numpy as np
import pytest

from golden.arch import Arch
from golden.network import Requantise as Scale
from golden.requantise import requantise
from hdl.requantise import Requantise
from verif.chunks import TINY, WIDE
from verif.layers import arch
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import NEVER, get, idle, put, reset, stalls, word

Job = dict[str, Any]
ARCHS = {"tiny": TINY, "16 bits": WIDE, "one lane": replace(TINY, lanes=1), "narrow": replace(
    TINY, acc_bits=16, stream_bits=16, membrane_bits=16, t_max=16, lanes=2)}


@pytest.mark.parametrize("name", ARCHS)
def test_requantise(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Requantise(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("job.x[lane], 0) + last)", "job.x[lane], 0))", id="no rounding"),
    pytest.param("job.x[lane], 0) + last)", "job.x[lane], 0) + (last & ~scaled[0]))", id="half to even"),
    pytest.param("outside.eq((", "outside.eq(~negative & (", id="lowest value not clipped"),
    pytest.param("negative & ~job.is_signed, 0", "negative & 0, 0", id="no rectifier"),
    pytest.param("Mux(i.p.shift == 0, 1, i.p.shift)", "i.p.shift - 1", id="shift less one"),
    pytest.param("limit.eq(Mux(job.is_signed, kept >> 1, kept))", "limit.eq(kept)", id="signed limit"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Another rounding, a clip left out and a shift too short are caught."""
    outcome = simulate(mutant(Requantise, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY),
                       expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def corners(scale: Scale) -> list[int]:
    """Return currents around every half of the first and last words, and others of all sizes."""
    ratio = Fraction(int(scale.multiplier[0]) or 1, 1 << int(scale.shift[0]))
    low, high = scale.range
    at = [floor((value + Fraction(1, 2)) / ratio) for value in (low - 1, low, -2, -1, 0, 1, high - 1, high)]
    near = [x + d for x in at for d in (-1, 0, 1)]
    return [x for x in near + [s << b for b in range(31) for s in (1, -1)] if abs(x) < 1 << 31]


def scales(rng: random.Random, bits: int, is_signed: bool) -> list[Scale]:
    """Return requantisers of one channel: factors of all sizes, the ends of both fields, exact halves."""
    pairs = [(1, 1), (0, 1), (65535, 16), (1, 31), (65535, 31), (1 << 15, 16), (3, 2)]
    pairs += [(rng.randrange(1 << min(k, 16)), k) for k in (rng.randint(1, 31) for _ in range(40))]
    return [Scale(multiplier=np.array([m]), shift=np.array([k]), bits=bits, signed=is_signed) for m, k in pairs]


@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("bits", [1, 4, 8, 16])
def test_golden_is_the_exact_fraction_rounded_half_up(kind: Any, bits: int, is_signed: bool) -> None:
    """Golden is ``floor(x * m / 2^k + 1/2)``, clipped, in exact fractions."""
    for scale in scales(random.Random(bits), bits, is_signed):
        x = corners(scale)
        low, high = scale.range
        factor = Fraction(int(scale.multiplier[0]), 1 << int(scale.shift[0]))
        exact = [min(max(floor(value * factor + Fraction(1, 2)), low), high) for value in x]
        arrays = replace(scale, multiplier=kind.asarray(scale.multiplier), shift=kind.asarray(scale.shift))
        words = requantise(kind.asarray([x]), arrays)[0]
        assert words.min() >= 0
        assert words.tolist() == [value & (1 << bits) - 1 for value in exact]


def test_halves_go_up() -> None:
    """Halves of both signs go up, where rounding to even or away from 0 would not; channels have their own factors."""
    scale = Scale(multiplier=np.array([1, 1, 3]), shift=np.array([1, 2, 3]), bits=8, signed=True)
    x = np.array([[1, 3, 5, -1, -3, -5], [2, 6, 10, -2, -6, -10], [4, 12, 20, -4, -12, -20]])
    words = requantise(x, scale)
    assert np.where(words > 127, words - 256, words).tolist() == [
        [1, 2, 3, 0, -1, -2], [1, 2, 3, 0, -1, -2], [2, 5, 8, -1, -4, -7]]


def jobs(rng: random.Random, p: Arch) -> list[Job]:
    """Return columns for the block: every width of a word, both clips, currents at the halves and at the ends."""
    top, out = (1 << p.stream_bits - 1) - 1, list[Job]()
    for bits, is_signed in itertools.product(range(1, p.t_max + 1), (False, True)):
        for scale in rng.sample(scales(rng, bits, is_signed), 8):
            x = [value for value in corners(scale) if abs(value) <= top] + [top, -top - 1]
            x = rng.sample(x, len(x) // p.lanes * p.lanes)
            out += [{"x": x[at : at + p.lanes], "multiplier": int(scale.multiplier[0]), "shift": int(scale.shift[0]),
                     "bits": bits, "is_signed": is_signed} for at in range(0, len(x), p.lanes)]
    return rng.sample(out, min(len(out), 800))


def expected(job: Job) -> list[int]:
    """Return golden's words of one column."""
    scale = Scale(multiplier=np.array([job["multiplier"]]), shift=np.array([job["shift"]]), bits=job["bits"],
                  signed=job["is_signed"])
    return [int(value) for value in requantise(np.array([job["x"]]), scale)[0]]


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Words of all lanes equal golden, with and without stalls on both sides."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await reset(dut)
    wanted, layout = jobs(rng, p), Requantise.i_layout(p)
    cocotb.start_soon(put(dut, "i", [word(layout, job) for job in wanted], stalls(rng) if stall else NEVER))
    got = await get(dut, "o", len(wanted), stalls(rng) if stall else NEVER)
    for job, bits in zip(wanted, got, strict=True):
        assert [bits >> p.t_max * lane & (1 << p.t_max) - 1 for lane in range(p.lanes)] == expected(job), job
    await idle(dut, "o", 40)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def takes_the_documented_cycles(dut: Any) -> None:
    """Words leave ``shift + 1`` cycles after their currents, and columns follow each other as fast; a shift of 0 is 1."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await reset(dut)
    layout = Requantise.i_layout(p)
    for shift in (0, 1, 2, 15, 31):
        words = [word(layout, {**job, "shift": shift}) for job in jobs(rng, p)[:5]]
        left: list[int] = []
        sender = cocotb.start_soon(put(dut, "i", words))
        await get(dut, "o", len(words), at=left)
        taken = await sender
        cycles = max(shift, 1) + 1
        assert [out - into for into, out in zip(taken, left, strict=True)] == [cycles] * len(words)
        assert [after - before for before, after in itertools.pairwise(taken)] == [cycles] * (len(words) - 1)
