"""Adder tree against golden: any inputs taking part, words that others offer, stalls of each, ends that differ."""

import dataclasses
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.task import Task
from cocotb.triggers import RisingEdge
from numpy.typing import NDArray

from golden.imc.arch import IMC_PRESETS, ImcArch
from golden.imc.sum_tree import sum_tree
from hdl.imc.sum_tree import SumTree
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, get, idle, put, reset, stalls, word

TINY = dataclasses.replace(IMC_PRESETS["tiny-ci"], tiles=4, fan_in=4)
ARCHS = {f"{fan_in} inputs": dataclasses.replace(TINY, tiles=8, fan_in=fan_in) for fan_in in (1, 2, 8)}


@pytest.mark.parametrize("name", ARCHS)
def test_sum_tree(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(SumTree(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new", "caught"), [
    pytest.param("Mux(active[n], i.p.y, 0)", "Mux(1, i.p.y, 0)", "matches_golden", id="inputs that take no part count"),
    pytest.param("(valids | ~active).all()", "valids.all()", "matches_golden", id="waits for all"),
    pytest.param("last & (~lasts & active).any()", "last & (~lasts).any()", "ends_that_differ", id="hears the others"),
])
def test_mutants_are_caught(old: str, new: str, caught: str) -> None:
    """Inputs that take no part but count, are waited for, or set the error are caught."""
    outcome = simulate(mutant(SumTree, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True,
                       all_tests=True)
    assert any(caught in name for name in outcome.failed), outcome.failed


def test_golden_by_hand(kind: Any) -> None:
    """Three inputs worked out by hand, in NumPy and torch."""
    y, last = kind.asarray([[1, -2], [30, 40], [500, 600]]), kind.asarray([[False, True], [True, False], [False, True]])
    for active, sums, lasts, error in (
            ([1, 0, 1], [501, 598], [False, True], False), ([0, 1, 0], [30, 40], [True, False], False),
            ([1, 1, 1], [531, 638], [True, True], True)):
        got = sum_tree(y, last, kind.asarray(active) > 0)
        assert (got[0].tolist(), got[1].tolist(), got[2]) == (sums, lasts, error)


def draw(rng: random.Random, p: ImcArch, count: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return words [fan_in, count], the ends of their width among them, and lasts that agree."""
    top = 1 << p.sum_bits - 1
    low, high = rng.choice(((-top, top - 1), (-top, -top), (top - 1, top - 1), (-9, 9)))
    y = np.array([[rng.choice((low, high, rng.randint(low, high))) for _ in range(count)] for _ in range(p.fan_in)])
    return y, np.array([[n == count - 1 or n % 5 == 4 for n in range(count)]] * p.fan_in)


def words(p: ImcArch, y: Any, last: Any) -> list[int]:
    """Return the payloads of one input."""
    return [word(SumTree.i_layout(p), {"y": int(value), "last": int(end)}) for value, end in zip(y, last, strict=True)]


async def begin(dut: Any, p: ImcArch) -> None:
    """Reset."""
    dut.settings.value = 0
    await reset(dut, [f"i__{n}" for n in range(p.fan_in)] + ["o"])


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(density=[0.0, 0.5])
async def matches_golden(dut: Any, density: float) -> None:
    """Sums equal golden whoever takes part; inputs hand over together, those that take no part keep what they offer."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    await begin(dut, p)
    every, count = (1 << p.fan_in) - 1, 20
    masks = [every, 1, 1 << p.fan_in - 1, *(rng.randint(1, every) for _ in range(12)), every]
    rounds = [(mask, *draw(rng, p, count)) for mask in masks]
    offers: dict[int, Task[list[int]]] = {}
    for number, (mask, y, last) in enumerate(rounds):
        dut.settings.value = mask
        takes_part = [bool(mask >> n & 1) for n in range(p.fan_in)]
        for n in range(p.fan_in):
            _, later_y, later_last = next(entry for entry in rounds[number:] if entry[0] >> n & 1)
            if n not in offers and (takes_part[n] or rng.randrange(2)):
                offers[n] = cocotb.start_soon(put(dut, f"i__{n}", words(p, later_y[n], later_last[n]),
                                                  stalls(rng, density) if density else NEVER))
        sums, lasts, error = sum_tree(y, last, np.array(takes_part))
        left: list[int] = []
        got = await get(dut, "o", count, stalls(rng, density) if density else NEVER, left)
        out = [SumTree.o_layout(p).from_bits(bits) for bits in got]
        assert [int(o.d) for o in out] == sums.tolist(), mask
        assert [bool(o.last) for o in out] == lasts.tolist()
        taken = [await offers.pop(n) for n in range(p.fan_in) if takes_part[n]]
        assert all(cycles == taken[0] for cycles in taken)
        if not density:
            assert taken[0] == [*range(taken[0][0], taken[0][0] + count)]
            assert left == [at + p.fan_in.bit_length() - 1 for at in taken[0]]
        assert not error and not dut.error.value
    await idle(dut, "o", 10)


@cocotb.test(timeout_time=20, timeout_unit="us")
async def ends_that_differ(dut: Any) -> None:
    """An end that one input does not share is an error, which stays until reset; one of an input that takes no part is none."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    await begin(dut, p)
    for odd in range(p.fan_in):
        for mask in {(1 << p.fan_in) - 1, ((1 << p.fan_in) - 1) & ~(1 << odd)} - {0}:
            dut.rst.value = 1
            await RisingEdge(dut.clk)
            dut.rst.value = 0
            await RisingEdge(dut.clk)
            assert not dut.error.value
            dut.settings.value = mask
            y, last = draw(rng, p, 6)
            last[odd, rng.randrange(6)] ^= True
            sums, lasts, error = sum_tree(y, last, np.array([bool(mask >> n & 1) for n in range(p.fan_in)]))
            for n in range(p.fan_in):
                if mask >> n & 1:
                    cocotb.start_soon(put(dut, f"i__{n}", words(p, y[n], last[n])))
                else:
                    getattr(dut, f"i__{n}__payload").value = words(p, y[n], ~last[n])[0]
            out = [SumTree.o_layout(p).from_bits(bits) for bits in await get(dut, "o", 6)]
            await RisingEdge(dut.clk)
            assert ([int(o.d) for o in out], [bool(o.last) for o in out]) == (sums.tolist(), lasts.tolist())
            assert bool(dut.error.value) == error == (mask.bit_count() > 1 and bool(mask >> odd & 1))
