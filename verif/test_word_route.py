"""Word route of the loom against its golden twin."""

import dataclasses
import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import Arch
from golden.word_route import Group, word_route
from hdl.word_route import WordRoute
from verif.chunks import LOOM, LOOMS, arch, packed
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import cycle, reset, stalls

INPUTS = ("valid", "first", "merge", "words", "held", "target")
MUTANTS = {
    "empty lanes count": ("Mux(self.held[n], self.words[n], 0)", "self.words[n]"),
    "first lane left out": ("Mux(self.target[n] == q, word, 0)", "Mux(self.target[n] == q, word, 0) if n else 0"),
    "column before": ("self.merge & ~self.first", "self.merge"),
    "always merged": ("self.merge & ~self.first", "~self.first"),
    "words that do not leave": ("m.If(self.valid)", "m.If(1)"),
}


@pytest.mark.parametrize("name", LOOMS)
def test_word_route(name: str) -> None:
    """The cocotb test below passes on the generated Verilog."""
    simulate(WordRoute(LOOMS[name]), __name__, parameters=dataclasses.asdict(LOOMS[name]))


@pytest.mark.parametrize("wrong", MUTANTS)
def test_mutants_are_caught(wrong: str) -> None:
    """Words of empty lanes, lanes left out, and words of another column or of no column at all are caught."""
    simulate(mutant(WordRoute, *MUTANTS[wrong])(LOOM), __name__, parameters=dataclasses.asdict(LOOM), expect_failure=True)


def test_golden_by_definition() -> None:
    """Words with one target are joined, words of empty lanes are not, and groups join with ``merge`` alone."""
    groups = [Group((1, 2, 4, 8), (True, True, True, False), (3, 3, 0, 0)),
              Group((5, 0, 7, 7), (True, True, False, False), (0, 1, 2, 3))]
    assert word_route(groups, merge=False) == [[4, 0, 0, 3], [5, 0, 0, 0]]
    assert word_route(groups, merge=True) == [[4, 0, 0, 3], [5, 0, 0, 3]]


def draw(rng: random.Random, p: Arch) -> Group:
    """Return a group: rows dealt in any order, all to one pixel, or to any pixels; some lanes or all of them empty."""
    order = rng.sample(range(p.lanes), p.lanes)
    target = rng.choice((order, [rng.randrange(p.lanes)] * p.lanes, [rng.randrange(p.lanes) for _ in order]))
    full, there = (1 << p.t_max) - 1, rng.choice((0.0, 0.5, 1.0))
    words = tuple(rng.choice((0, full, rng.getrandbits(p.t_max), 1 << rng.randrange(p.t_max))) for _ in order)
    return Group(words, tuple(rng.random() < there for _ in order), tuple(target))


def show(dut: Any, p: Arch, group: Group, *, first: bool, valid: bool) -> None:
    """Put a group on the ports."""
    dut.valid.value, dut.first.value = int(valid), int(first)
    dut.words.value, dut.held.value = packed(group.words, p.t_max), packed(map(int, group.held), 1)
    dut.target.value = packed(group.target, (p.lanes - 1).bit_length())


async def column(dut: Any, rng: random.Random, p: Arch, groups: Sequence[Group], pauses: Iterator[bool]) -> list[list[int]]:
    """Show the groups of a column, with other words on the ports while they wait; return what leaves with each."""
    got = []
    for number, group in enumerate(groups):
        while next(pauses):
            show(dut, p, draw(rng, p), first=not number, valid=False)
            await RisingEdge(dut.clk)
        show(dut, p, group, first=not number, valid=True)
        await FallingEdge(dut.clk)
        bits = int(dut.routed.value)
        got.append([bits >> (p.t_max * q) & ((1 << p.t_max) - 1) for q in range(p.lanes)])
        await RisingEdge(dut.clk)
    return got


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """The words of all pixels equal golden in the cycle in which a group leaves, one group a cycle."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    for name in INPUTS:
        getattr(dut, name).value = 0
    await reset(dut, ())
    pauses = stalls(rng) if stall else itertools.repeat(False)
    for _ in range(300):
        groups, merge = [draw(rng, p) for _ in range(rng.randint(1, p.rows))], rng.random() < 0.5
        dut.merge.value = int(merge)
        assert await column(dut, rng, p, groups, pauses) == word_route(groups, merge=merge), f"cycle {cycle()}"
