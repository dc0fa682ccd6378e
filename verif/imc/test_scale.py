"""Scale against golden, golden against fractions and the requantiser: all factors, halves, both ends of every width."""

import dataclasses
import random
from fractions import Fraction
from math import floor
from typing import Any

import cocotb
import numpy as np
import pytest

from golden.imc.arch import IMC_PRESETS, ImcArch
from golden.imc.scale import scale
from golden.network import Requantise
from golden.requantise import requantise
from hdl.imc.scale import Scale
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, get, idle, put, reset, stalls, word

NARROW = dataclasses.replace(IMC_PRESETS["tiny-ci"], stream_bits=16)
ARCHS = {"narrow": NARROW, "wide": dataclasses.replace(NARROW, stream_bits=32)}
TAG_BITS = 5
Value = dict[str, int]


@pytest.mark.parametrize("name", ARCHS)
def test_scale(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Scale(ARCHS[name], TAG_BITS), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("(product.x + half)", "(product.x + Mux(product.x < 0, 0, half))", id="negative values go down"),
    pytest.param("negative & ~settings.is_signed", "negative & 0", id="no zero below"),
    pytest.param("wide = signed_bits(p.stream_bits + 18)", "wide = signed_bits(p.stream_bits + 17)", id="a bit too few"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Another rounding, a saturation left out and a product that wraps are caught."""
    outcome = simulate(mutant(Scale, old, new)(NARROW, TAG_BITS), __name__, parameters=dataclasses.asdict(NARROW),
                       expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def draw(rng: random.Random, stream_bits: int, bits: int, is_signed: bool) -> Value:
    """Return a value: all magnitudes, ends of all fields, values beside the halves of the first and last words."""
    top = 1 << stream_bits - 1
    mult = rng.choice((-(1 << 16), (1 << 16) - 1, -1, 0, 1, rng.randrange(-(1 << 16), 1 << 16)))
    shift = rng.choice((0, 1, 15, 16, 31, rng.randrange(32)))
    ends = (-top, top - 1, -1, 0, 1)
    size = 1 << rng.randrange(stream_bits)
    x, bias = (rng.choice((*ends, rng.randrange(-size, size))) for _ in range(2))
    if mult and rng.randrange(2):
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
        goal = rng.choice((low - 1, low, -1, 0, 1, high, high + 1)) + Fraction(rng.choice((-1, 1)), 2)
        near = floor(goal * (1 << shift) / mult) + rng.randint(-1, 2)
        x = max(-top, min(top - 1, near - bias))
    return {"x": x, "mult": mult, "shift": shift, "bias": bias}


def values(rng: random.Random, stream_bits: int, bits: int, is_signed: bool, count: int) -> list[Value]:
    """Return drawn values behind the largest products."""
    top = 1 << stream_bits - 1
    corners = [{"x": x, "mult": mult, "shift": shift, "bias": x} for x in (-top, top - 1)
               for mult in (-(1 << 16), (1 << 16) - 1) for shift in (0, min(31, stream_bits + 1), 31)]
    return corners + [draw(rng, stream_bits, bits, is_signed) for _ in range(count)]


def of(cases: list[Value], kind: Any = np) -> dict[str, Any]:
    """Return golden's arrays of values."""
    return {name: kind.asarray([case[name] for case in cases]) for name in ("x", "mult", "shift", "bias")}


@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("bits", [1, 4, 8, 16, 31])
def test_golden_is_the_exact_fraction_rounded_half_up(kind: Any, bits: int, is_signed: bool, seed: int) -> None:
    """Golden is ``floor((x + bias) * mult / 2^shift + 1/2)``, held in its bits, in exact fractions."""
    cases = values(random.Random(seed), 32, bits, is_signed, 600)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
    wanted = []
    for case in cases:
        exact = floor(Fraction((case["x"] + case["bias"]) * case["mult"], 1 << case["shift"])
                      + (Fraction(1, 2) if case["shift"] else 0))
        wanted.append(max(low, min(high, exact)))
    assert scale(**of(cases, kind), bits=bits, signed=is_signed).tolist() == wanted


@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("bits", [1, 4, 8, 16])
def test_words_are_those_of_the_requantiser(bits: int, is_signed: bool, seed: int) -> None:
    """Where the requantiser of the accelerator has the factor, its words are the low bits of golden's values."""
    rng = random.Random(seed)
    cases = [case for case in values(rng, 31, bits, is_signed, 4000)
             if case["shift"] and 0 <= case["mult"] < 1 << case["shift"]]
    assert len(cases) > 1000
    parts = of(cases)
    p = Requantise(multiplier=parts["mult"], shift=parts["shift"], bits=bits, signed=is_signed)
    words = requantise(parts["x"] + parts["bias"], p)
    assert (scale(**parts, bits=bits, signed=is_signed) & (1 << bits) - 1).tolist() == words.tolist()


@cocotb.test(timeout_time=150, timeout_unit="us")
@cocotb.parametrize(density=[0.0, 0.5])
async def matches_golden(dut: Any, density: float) -> None:
    """Values equal golden for all widths and factors, tags come back; without stalls in the documented cycles."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    dut.settings.value = 0
    await reset(dut)
    for bits, is_signed in [(1, 0), (1, 1), (4, 0), (8, 0), (8, 1), (p.stream_bits - 1, 0), (p.stream_bits, 1)] + [
            (rng.randint(1, p.stream_bits - 1), rng.randrange(2)) for _ in range(5)]:
        cases = values(rng, p.stream_bits, bits, bool(is_signed), 100)
        rng.shuffle(cases)
        tags = [rng.getrandbits(TAG_BITS) for _ in cases]
        wanted = scale(**of(cases), bits=bits, signed=bool(is_signed)).tolist()
        dut.settings.value = word(Scale.settings_layout(p), {"bits": bits, "is_signed": is_signed})
        sent = [word(Scale.i_layout(p, TAG_BITS), {**case, "tag": tag}) for case, tag in zip(cases, tags, strict=True)]
        pauses = [stalls(rng, density) if density else NEVER for _ in range(2)]
        sender, left = cocotb.start_soon(put(dut, "i", sent, pauses[0])), list[int]()
        got = [Scale.o_layout(p, TAG_BITS).from_bits(bits) for bits in await get(dut, "o", len(sent), pauses[1], left)]
        taken = await sender
        for case, out, value in zip(cases, got, wanted, strict=True):
            assert int(out.q) == value, (case, bits, is_signed)
        assert [int(out.tag) for out in got] == tags
        if not density:
            assert taken == [*range(taken[0], taken[0] + len(sent))]
            assert left == [at + 4 for at in taken]
    await idle(dut, "o", 10)
