"""Factor of a row against golden, golden against fractions: the largest sums and factors, halves, means of rows."""

import dataclasses
import random
from fractions import Fraction
from math import floor
from typing import Any

import cocotb
import numpy as np
import pytest

from golden.imc.arch import IMC_PRESETS, ImcArch
from golden.imc.row_factor import row_factor
from golden.imc.softmax import softmax
from hdl.imc.row_factor import RowFactor
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, get, idle, put, reset, stalls, word

NARROW = dataclasses.replace(IMC_PRESETS["tiny-ci"], stream_bits=16)
ARCHS = {"narrow": NARROW, "wide": dataclasses.replace(NARROW, stream_bits=32)}
TAG_BITS, MOST = 5, (1 << 24) // 255


@pytest.mark.parametrize("name", ARCHS)
def test_row_factor(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(RowFactor(ARCHS[name], TAG_BITS), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("(product + (1 << 15))", "product", id="rounds down"),
    pytest.param("i.p.x * i.p.factor)", "i.p.x * i.p.factor[:16])", id="a factor of 16 bits"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Another rounding and a factor that loses its highest bit are caught."""
    outcome = simulate(mutant(RowFactor, old, new)(NARROW, TAG_BITS), __name__, parameters=dataclasses.asdict(NARROW),
                       expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def test_golden_is_the_exact_fraction_rounded_half_up(kind: Any, seed: int) -> None:
    """Golden is ``floor(x * factor / 2^16 + 1/2)`` in exact fractions."""
    rng = random.Random(seed)
    x, factor = ([rng.randint(-most, most) for _ in range(300)] for most in (1 << 30, MOST))
    factor = [abs(value) for value in factor]
    wanted = [floor(Fraction(a * b, 1 << 16) + Fraction(1, 2)) for a, b in zip(x, factor, strict=True)]
    assert row_factor(kind.asarray(x), kind.asarray(factor)).tolist() == wanted


def test_rows_become_weighted_means(seed: int) -> None:
    """Sums of values with exponentials as weights become means in 256ths: within the factor's rounding of the exact mean."""
    rng = np.random.default_rng(seed)
    table = np.floor(255 * np.exp(-np.arange(256) / 16) + 0.5).astype(np.int64)
    z, v = rng.integers(-128, 128, (40, 17)), rng.integers(-128, 128, (40, 17))
    row = softmax(z, table)
    sums = np.sum(row.e * v, axis=-1)
    got = row_factor(sums, row.factor)
    for value, total, mean in zip(sums.tolist(), row.total.tolist(), got.tolist(), strict=True):
        assert abs(mean - Fraction(256 * value, total)) <= Fraction(1, 2) + Fraction(abs(value), 1 << 16)
    assert int(np.max(np.abs(got))) <= 1 << 15


@cocotb.test(timeout_time=50, timeout_unit="us")
@cocotb.parametrize(density=[0.0, 0.5])
async def matches_golden(dut: Any, density: float) -> None:
    """Values equal golden for all magnitudes, tags come back; without stalls in the documented cycles."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    await reset(dut)
    top = 1 << p.stream_bits - 2
    x = [rng.choice((-top, top, -1, 0, 1, 1 << 15, rng.randint(-top, top), rng.randint(-99, 99))) for _ in range(400)]
    x = [max(-top, min(top, value)) for value in x]
    factor = [rng.choice((0, 1, 1 << 15, 1 << 16, MOST, rng.randint(0, MOST))) for _ in x]
    tags = [rng.getrandbits(TAG_BITS) for _ in x]
    wanted = row_factor(np.array(x), np.array(factor)).tolist()
    sent = [word(RowFactor.i_layout(p, TAG_BITS), {"x": a, "factor": b, "tag": tag})
            for a, b, tag in zip(x, factor, tags, strict=True)]
    pauses = [stalls(rng, density) if density else NEVER for _ in range(2)]
    sender, left = cocotb.start_soon(put(dut, "i", sent, pauses[0])), list[int]()
    got = [RowFactor.o_layout(p, TAG_BITS).from_bits(bits) for bits in await get(dut, "o", len(sent), pauses[1], left)]
    taken = await sender
    assert [(int(out.x), int(out.tag)) for out in got] == list(zip(wanted, tags, strict=True))
    if not density:
        assert taken == [*range(taken[0], taken[0] + len(sent))]
        assert left == [at + 2 for at in taken]
    await idle(dut, "o", 10)
