"""Sums of a head's columns against their golden twin."""

import dataclasses
import itertools
import random
from collections.abc import Sequence
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import Arch
from golden.head_sums import Row, head_sums
from hdl.head_sums import HeadSums
from verif.heads import ARCHS, HEADS
from verif.layers import arch, layer_word, start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import cycle, get, idle, stalls, watch


@pytest.mark.parametrize("name", ARCHS)
def test_head_sums(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(HeadSums(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("Mux(wide > layer.saturation, layer.saturation, wide)", "wide", id="no saturation"),
    pytest.param("same.eq(added & self.put & (row == row_before))", "same.eq(0)", id="a row twice in a row"),
    pytest.param("same.eq(added & self.put & (row == row_before))", "same.eq(added & self.put)", id="always the row before"),
    pytest.param("m.d.sync += flags.eq(0)", "m.d.sync += flags.eq(flags)", id="sums of the tile before"),
    pytest.param("Mux(flags[i], ", "Mux(1, ", id="rows without a sum"),
    pytest.param("self.ready.eq(~closed.bit_select(filling, 1))", "self.ready.eq(1)", id="fills what drains"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Lost saturation, lost sums, old sums and a half that is written too early are caught."""
    outcome = simulate(mutant(HeadSums, old, new)(HEADS), __name__, parameters=dataclasses.asdict(HEADS),
                       test_filter="matches_golden", expect_failure=True)
    assert outcome.failed


def test_slow_one_is_caught() -> None:
    """A column that takes a cycle more than documented is caught, by the cycles alone."""
    slow = mutant(HeadSums, "(block + 1) * steps >= layer.steps", "(block + 1) * steps > layer.steps")
    outcome = simulate(slow(HEADS), __name__, parameters=dataclasses.asdict(HEADS), expect_failure=True, all_tests=True)
    assert all("documented_cycles" in name for name in outcome.failed), outcome.failed


def draw_rows(rng: random.Random, p: Arch, steps: int) -> list[Row]:
    """Return rows as queries make them: a lane after the other, rows again and again, small and large addends."""
    rows: list[Row] = []
    for lane in range(rng.randint(1, p.lanes)):
        for _ in range(rng.choice((0, 1, 5, 20))):
            top = rng.choice((1, 3, (1 << p.attention_bits) - 1))
            rows.append((rng.randrange(steps), lane, [rng.randint(0, top) for _ in range(p.attention_columns)]))
            rows += rng.choice(([], rows[-1:], rows[-2:]))
    return rows


async def add(dut: Any, p: Arch, rows: Sequence[Row], columns: int, rng: random.Random, pauses: float) -> None:
    """Add rows to a half as soon as it is free, then close it."""
    await FallingEdge(dut.clk)
    while not dut.ready.value:
        await FallingEdge(dut.clk)
    await RisingEdge(dut.clk)
    addends, pause = 0, stalls(rng, pauses)
    for step, lane, values in rows:
        while next(pause):
            dut.put.value, dut.addends.value = 0, addends
            await RisingEdge(dut.clk)
        dut.put.value, dut.step.value, dut.lane.value, dut.addends.value = 1, step, lane, addends
        addends = sum(value << n * p.attention_bits for n, value in enumerate(values))
        await RisingEdge(dut.clk)
    dut.put.value, dut.addends.value, dut.close.value, dut.columns.value = 0, addends, 1, columns
    await RisingEdge(dut.clk)
    dut.close.value = 0


def column_word(p: Arch, column: list[list[int]]) -> int:
    """Return the payload of ``o``."""
    return sum(value << (lane * p.t_max + t) * p.acc_bits for lane, sums in enumerate(column) for t, value in enumerate(sums))


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Columns of many halves, one behind the other, equal golden's."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut, ["put", "close", "o__ready", "layer"])
    dut.rst.value = 0
    cocotb.start_soon(watch(dut, "o"))
    for _ in range(4):
        steps, saturation = rng.randint(1, p.t_max), rng.choice((1, 5, (1 << p.attention_bits) - 1))
        dut.layer.value = layer_word({"steps": steps, "saturation": saturation})
        halves: list[tuple[list[Row], int]] = [
            (draw_rows(rng, p, steps), rng.choice((1, p.attention_columns))) for _ in range(5)]

        async def fill(halves: list[tuple[list[Row], int]] = halves) -> None:
            for rows, columns in halves:
                await add(dut, p, rows, columns, rng, 0.3 if stall else 0.0)

        filler = cocotb.start_soon(fill())
        wanted = [column_word(p, column) for rows, columns in halves
                  for column in head_sums(rows, columns=columns, lanes=p.lanes, steps=steps, saturation=saturation)]
        used = sum(((1 << steps * p.acc_bits) - 1) << lane * p.t_max * p.acc_bits for lane in range(p.lanes))
        got = await get(dut, "o", len(wanted), stalls(rng, 0.5 if stall else 0.0))
        assert [bits & used for bits in got] == wanted
        await filler
        await idle(dut, "o", 20)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def documented_cycles(dut: Any) -> None:
    """Rows are added one a cycle; columns leave after the documented cycles."""
    p = arch()
    await start(dut, ["put", "close", "o__ready", "layer"])
    dut.rst.value = 0
    for steps in (1, p.t_max):
        dut.layer.value = layer_word({"steps": steps, "saturation": (1 << p.attention_bits) - 1})
        rows = [(step, lane, [1] * p.attention_columns) for step in range(steps) for lane in range(p.lanes)]
        await add(dut, p, rows, p.attention_columns, random.Random(0), 0.0)
        closed, at = cycle(), list[int]()
        await get(dut, "o", p.attention_columns, at=at)
        blocks = -(-steps // (p.attention_columns // p.lanes))
        assert at[0] - closed == blocks + 1
        assert {after - before for before, after in itertools.pairwise(at)} == {blocks + 2}
        await RisingEdge(dut.clk)
