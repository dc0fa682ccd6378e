"""Normalisation against golden, golden against float: rows of one value, of all ends, of nothing but zeros."""

import random
from math import isqrt
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from golden.arch import ParameterError
from golden.imc.norm import norm
from hdl.imc.norm import Norm
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, get, idle, put, reset, stalls, word

LENGTHS = (24, 1024)
TOP = 1 << 15
Row = dict[str, Any]


@pytest.mark.parametrize("length", LENGTHS)
def test_norm(length: int) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Norm(length), __name__, parameters={"length": length})


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("spread << 2 * ROOT_BITS", "spread << ROOT_BITS << 1", id="a root of fewer places"),
    pytest.param("Mux(settings.centred, total, 0)", "total", id="a mean that is always taken"),
    pytest.param("Z_BITS + 1 + max", "Z_BITS + max", id="a bit too few"),
    pytest.param("ram.r_addr.eq(places[1])", "ram.r_addr.eq(places[0])", id="parameters of the next channel"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Another root, another mean, a value that wraps and parameters of another channel are caught."""
    outcome = simulate(mutant(Norm, old, new)(24), __name__, parameters={"length": 24}, expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def test_golden_is_the_formula_in_python_integers(kind: Any, seed: int) -> None:
    """Golden equals workloads 5.2 in integers without a width, rows of 1 to 4096 values, in NumPy and torch."""
    rng = random.Random(seed)
    for number in range(40):
        row = draw(rng, rng.choice((1, 2, 3, 64, 4096)))
        x, centred = row["x"], row["centred"]
        count, total = (len(x), sum(x)) if centred else (1, 0)
        spread = count * sum(v * v for v in x) - total ** 2 + row["eps"]
        inverse = (1 << 40) // isqrt(spread << 16)
        half = (1 << row["shift"]) >> 1
        wanted = [max(-128, min(127, ((count * v - total) * inverse // (1 << 20) * g + b + half) >> row["shift"]))
                  for v, g, b in zip(x, row["gain"], row["bias"], strict=True)]
        assert golden(row, kind) == wanted, number


def test_golden_is_a_normalisation(seed: int) -> None:
    """Within a step of the float formula on rows of a residual stream; differences are rare."""
    rng = np.random.default_rng(seed)
    x, gain, bias = rng.integers(-4000, 4000, (200, 64)), rng.integers(500, 2000, 64), rng.integers(-99999, 99999, 64)
    exact = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True) * 4096 * gain + bias
    wanted = np.clip(np.floor(exact / (1 << 17) + 0.5), -128, 127)
    apart = np.abs(norm(x, gain=gain, bias=bias, shift=17, eps=64) - wanted)
    assert apart.max() <= 1 and apart.mean() < 0.01


@pytest.mark.parametrize(("eps", "shift", "text"), [
    (0, 0, "eps must be in 1..2147483647, not 0"), (1, 32, "shift must be in 0..31, not 32")])
def test_illegal_settings_are_refused(eps: int, shift: int, text: str) -> None:
    """A row of equal values needs eps, and a shift has 5 bits."""
    one = np.ones(4, np.int64)
    with pytest.raises(ParameterError) as error:
        norm(one, gain=one, bias=one, eps=eps, shift=shift)
    assert str(error.value) == text


def draw(rng: random.Random, count: int) -> Row:
    """Return a row and its parameters: equal values, one that stands out, both ends, small ones, all factors."""
    low, high = rng.choice(((-TOP, TOP - 1), (-128, 127), (-3, 3), (TOP - 1, TOP - 1), (-TOP, -TOP), (0, 0)))
    x = [rng.choice((low, high, rng.randint(low, high))) for _ in range(count)]
    if not rng.randrange(3):
        x = [low] * count
        x[rng.randrange(count)] = rng.choice((-TOP, TOP - 1, low))
    most = rng.choice((TOP - 1, 2000))
    gain = [rng.choice((-TOP, TOP - 1, rng.randint(-most, most))) if most == TOP - 1 else rng.randint(0, most) for _ in x]
    bias = [rng.choice((-(1 << 31), (1 << 31) - 1, 0, rng.randint(-99999, 99999))) for _ in x]
    return {"x": x, "gain": gain, "bias": bias, "shift": rng.choice((0, 1, 16, 17, 18, 24, 31)),
            "eps": rng.choice((1, 2, 1000, (1 << 31) - 1)), "centred": rng.random() < 0.75}


def golden(row: Row, kind: Any = np) -> list[int]:
    """Return what golden makes of a row."""
    x, gain, bias = (kind.asarray(row[name]) for name in ("x", "gain", "bias"))
    q: list[int] = norm(x, gain=gain, bias=bias, shift=row["shift"], eps=row["eps"], centred=row["centred"]).tolist()
    return q


async def load(dut: Any, length: int, row: Row) -> None:
    """Write the parameters of all channels."""
    for second, name in enumerate(("gain", "bias")):
        for channel, number in enumerate(row[name]):
            dut.parameters.value = word(Norm.parameters_layout(length), {
                "valid": 1, "second": second, "channel": channel, "number": number & 0xFFFFFFFF})
            await RisingEdge(dut.clk)
    dut.parameters.value = 0


@cocotb.test(timeout_time=600, timeout_unit="us")
@cocotb.parametrize(density=[0.0, 0.5])
async def matches_golden(dut: Any, density: float) -> None:
    """Rows of all lengths equal golden, two with each set of parameters; without stalls in the documented cycles."""
    length, rng = parameters_of_bench()["length"], random.Random(cocotb.RANDOM_SEED)
    dut.settings.value = dut.parameters.value = 0
    await reset(dut)
    counts = [length, 1, 2, length] if length > 100 else [*[length] * 4, 1, 2, *(rng.randint(1, length) for _ in range(9))]
    for count in counts:
        first = draw(rng, count)
        await load(dut, length, first)
        second = {**first, "x": [rng.randrange(-TOP, TOP)] * count}
        second["x"][rng.randrange(count)] = rng.choice((-TOP, TOP - 1))
        dut.settings.value = word(Norm.settings_layout(length), {"count": count, **{
            name: int(first[name]) for name in ("shift", "eps", "centred")}})
        pauses = [stalls(rng, density) if density else NEVER for _ in range(2)]
        sender = cocotb.start_soon(put(dut, "i", [v & 0xFFFF for v in first["x"] + second["x"]], pauses[0]))
        left: list[int] = []
        got = await get(dut, "o", 2 * count, pauses[1], left)
        taken = await sender
        assert [out >> 8 for out in got] == ([0] * (count - 1) + [1]) * 2
        wanted = golden(first) + golden(second)
        assert [(out & 0xFF) - ((out & 0x80) << 1) for out in got] == wanted, (first, second)
        if not density:
            begins = taken[count - 1] + 2 * Norm.root_bits(length) + 12
            assert left[:count] == [*range(begins, begins + count)]
            assert taken[count:] == [*range(left[count - 1] + 1, left[count - 1] + 1 + count)]
    await idle(dut, "o", 10)
