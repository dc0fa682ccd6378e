"""Sums of products against golden: at their limits and one beyond, far beyond the widest number, zeros, cycles."""

import math
import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.bounds import bounds
from hdl.imc.bounds import FACTOR, Bounds
from verif.layers import start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import cycle

SUMS, LIMITS = ((1, 2), (3,), (2, 1, 4)), (300, 1 << 20, 5000)
WIDTHS = tuple(tuple((FACTOR,) * count for count in counts) for counts in SUMS)


def test_bounds() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Bounds(WIDTHS, LIMITS), __name__)


def test_mutants_are_caught() -> None:
    """A product that comes round to a small number is caught."""
    simulate(mutant(Bounds, "added[-1] | shifted_out", "added[-1]")(WIDTHS, LIMITS), __name__, expect_failure=True)


def draw(rng: random.Random, count: int, limit: int) -> list[int]:
    """Return the factors of a product, about as large as a limit, or any."""
    if rng.random() < 0.3:
        return [rng.choice((0, 1, (1 << FACTOR) - 1, rng.getrandbits(rng.randint(1, FACTOR)))) for _ in range(count)]
    most = max(2, int(limit ** (1 / count)))
    return [rng.randint(0, most) for _ in range(count)]


def limited(rng: random.Random) -> list[list[list[int]]]:
    """Return factors; now and then a sum is its limit, or one above it."""
    sums = [[draw(rng, count, limit // len(counts)) for count in counts] for counts, limit in zip(SUMS, LIMITS, strict=True)]
    for products, limit in zip(sums, LIMITS, strict=True):
        rest = limit - sum(math.prod(product) for product in products[1:])
        if 0 <= rest < 1 << FACTOR and rng.random() < 0.6:
            products[0] = [rest + rng.randrange(2), *(1 for _ in products[0][1:])]
    return sums


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def matches_golden(dut: Any) -> None:
    """Sums above their limits are told as golden says, in the documented cycles."""
    rng = random.Random(cocotb.RANDOM_SEED)
    await start(dut, [f"factor_{n}" for n in range(sum(map(sum, SUMS)))])
    seen = set[bool]()
    for case in range(60):
        sums = limited(rng) if case else [[[0], [0, 0]], [[0] * 3], [[1 << 12, 1 << 12], [1], [1] * 4]]
        if case and rng.random() < 0.5:
            one = rng.randrange(len(sums))
            sums = [products if n == one else [[0] * len(product) for product in products] for n, products in enumerate(sums)]
        factors = [factor for products in sums for product in products for factor in product]
        for number, factor in enumerate(factors):
            getattr(dut, f"factor_{number}").value = factor
        dut.rst.value = 1
        await RisingEdge(dut.clk)
        dut.rst.value = 0
        began = cycle()
        await FallingEdge(dut.clk)
        while not dut.done.value:
            await FallingEdge(dut.clk)
        more = [factor.bit_length() + 1 for products in sums for product in products for factor in product[1:]]
        assert cycle() - began == len(factors) + sum(more) + sum(map(len, SUMS)) + len(SUMS), sums
        assert bool(dut.wrong.value) == any(bounds(sums, LIMITS)), sums
        seen.add(bool(dut.wrong.value))
        await RisingEdge(dut.clk)
    assert seen == {False, True}


@pytest.mark.parametrize(("sums", "wrong"), [
    ([[[5, 6]]], False), ([[[5, 6], [1]]], True), ([[[1 << 12, 1 << 12, 0]]], True), ([[[0, 1 << 19, 1 << 19]]], False)])
def test_golden_by_hand(sums: list[list[list[int]]], wrong: bool) -> None:
    """A limit is still right; what is too large on its way stays so."""
    assert bounds(sums, [30]) == [wrong]
