"""Roots and quotients against golden, golden against Python's integers: squares, their neighbours, all ends, division by 0."""

import random
from math import isqrt
from typing import Any

import cocotb
import numpy as np
import pytest

from golden.imc.root_divide import divide, root
from hdl.imc.root_divide import RootDivide
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, get, idle, put, reset, stalls, word

BITS = (5, 34)
PLACES = 8


@pytest.mark.parametrize("bits", BITS)
def test_root_divide(bits: int) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(RootDivide(bits), __name__, parameters={"bits": bits})


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("more >= tried", "more > tried", id="squares are missed"),
    pytest.param("Signal(bits + 3)", "Signal(bits + 1)", id="two bits too few"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """A comparison that misses what fits exactly and a remainder that wraps are caught."""
    outcome = simulate(mutant(RootDivide, old, new)(5), __name__, parameters={"bits": 5}, expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def test_golden_is_exact(kind: Any, seed: int) -> None:
    """Golden equals Python's integers, also where the root's operand is beyond 64 bits."""
    rng = random.Random(seed)
    n = [0, 1, 2, 3, 4, (1 << 63) - 1, *(rng.getrandbits(rng.randint(1, 63)) for _ in range(500))]
    n += [near for value in n[:50] for near in (isqrt(value) ** 2, max(0, isqrt(value) ** 2 - 1))]
    for places in (0, PLACES, 29):
        assert root(kind.asarray(n), places=places).tolist() == [isqrt(value << 2 * places) for value in n]
    d = [rng.choice((0, 1, rng.getrandbits(rng.randint(1, 40)))) for _ in n]
    small = [value & (1 << 40) - 1 for value in n]
    wanted = [a // b if b else (1 << 40) - 1 for a, b in zip(small, d, strict=True)]
    assert divide(kind.asarray(small), kind.asarray(d), bits=40).tolist() == wanted


def operands(rng: random.Random, bits: int) -> list[tuple[dict[str, int], int]]:
    """Return operands and golden's results: ends, squares and multiples with their neighbours; ignored bits are random."""
    top, roots, parts = (1 << bits) - 1, [0, 1, 2], []
    roots += [top, top - 1, 1 << bits - 1, *(rng.getrandbits(rng.randint(1, bits)) for _ in range(30))]
    for value in roots:
        for n in (value ** 2 - 1, value ** 2, value ** 2 + 1, (value + 1) ** 2 - 1):
            if 0 <= n < 1 << 2 * bits:
                places = PLACES if n >> 63 else 0
                kept = n >> 2 * places
                parts.append(({"root": 1, "n": kept << 2 * places, "d": rng.getrandbits(bits)},
                              int(root(np.asarray(kept), places=places))))
    for _ in range(80):
        d = rng.choice((0, 1, top, rng.getrandbits(rng.randint(1, bits))))
        n = rng.choice((0, 1, top, rng.getrandbits(bits), max(0, d * rng.randint(0, 3) - 1) & top, d * rng.randint(0, 3) & top))
        parts.append(({"root": 0, "n": n | rng.getrandbits(bits) << bits, "d": d},
                      int(divide(np.asarray(n), np.asarray(d), bits=bits))))
    rng.shuffle(parts)
    return parts


@cocotb.test(timeout_time=600, timeout_unit="us")
@cocotb.parametrize(density=[0.0, 0.5])
async def matches_golden(dut: Any, density: float) -> None:
    """Roots and quotients in any order equal golden; without stalls in the documented cycles."""
    bits, rng = parameters_of_bench()["bits"], random.Random(cocotb.RANDOM_SEED)
    await reset(dut)
    cases = operands(rng, bits)
    sent = [word(RootDivide.i_layout(bits), fields) for fields, _ in cases]
    pauses = [stalls(rng, density) if density else NEVER for _ in range(2)]
    sender, left = cocotb.start_soon(put(dut, "i", sent, pauses[0])), list[int]()
    got = await get(dut, "o", len(sent), pauses[1], left)
    taken = await sender
    for (fields, wanted), q in zip(cases, got, strict=True):
        assert q == wanted, fields
    if not density:
        assert left == [at + bits + 1 for at in taken]
        assert taken == [taken[0] + n * (bits + 2) for n in range(len(sent))]
    await idle(dut, "o", bits + 10)
