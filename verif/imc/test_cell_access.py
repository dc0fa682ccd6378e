"""Comparisons and pulses one at a time: the macro's contract, documented cycles, silence, grants that come late or leave."""

import dataclasses
import random
from typing import Any

import cocotb
import pytest
from amaranth.lib import data
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import IMC_PRESETS, ImcArch, Mode
from golden.imc.write_verify import Pulse, Verify
from hdl.imc.cell_access import TIMES, CellAccess, action_layout
from verif.imc.chip import Chip
from verif.layers import start
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import cycle, word

TINY = IMC_PRESETS["tiny-ci"]


def test_cell_access() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(CellAccess(TINY), __name__, parameters=dataclasses.asdict(TINY))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("Mux(i.p.pulse, settings.t_guard, settings.t_verify)", "settings.t_verify", id="guard of another length"),
    pytest.param("Cat(~i.p.reset, i.p.reset)", "3", id="both polarities"),
    pytest.param('("SETTLE", "ASK", "ANSWER")', '("GUARD", "SETTLE", "ASK", "ANSWER")', id="no rest between modes"),
    pytest.param('states.ongoing("PULSE") & granted', 'states.ongoing("PULSE")', id="pulses without a grant"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Guards, polarities and grants that are wrong are caught."""
    simulate(mutant(CellAccess, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True)


def draw(rng: random.Random, p: ImcArch) -> Verify | Pulse:
    """Return an action."""
    if rng.random() < 0.5:
        return Verify(rng.randrange(p.rows), rng.randrange(64))
    return Pulse(rng.randrange(p.rows), rng.randint(1, (1 << p.cols) - 1), rng.random() < 0.5, rng.choice((1, 2, 7, 40)),
                 rng.randrange(256), rng.randrange(32))


def fields(action: Verify | Pulse) -> dict[str, int]:
    """Return an action as the block takes it."""
    if isinstance(action, Verify):
        return {"row": action.row, "reference": action.reference}
    return {"pulse": 1, **{name: int(value) for name, value in dataclasses.asdict(action).items()}}


def cycles(action: Verify | Pulse, times: dict[str, int]) -> int:
    """Return the documented cycles of an action whose grants and answer do not wait."""
    guard, verify, pre, cool = (max(1, times[name]) for name in ("t_guard", "t_verify", "t_pre", "t_cool"))
    return 3 + verify if isinstance(action, Verify) else 1 + guard + pre + action.width + cool + guard


async def begin(dut: Any, chip: Chip | None, times: dict[str, int]) -> ImcArch:
    """Reset; without a chip nothing is granted."""
    await start(dut, ["i__valid", "mode_gnt", "vf_sa", "vf_rdy"])
    dut.rst.value, dut.settings.value = 0, word(data.StructLayout(TIMES), times)
    if chip is not None:
        chip.start(dut)
    return ImcArch(**parameters_of_bench())


async def done(dut: Any, action: Verify | Pulse) -> tuple[int, int, bool]:
    """Do an action; return (cycles, answer, whether there was none)."""
    dut.i__valid.value, dut.i__payload.value = 1, word(action_layout(ImcArch(**parameters_of_bench())), fields(action))
    first = cycle()
    await FallingEdge(dut.clk)
    while not dut.i__ready.value:
        await FallingEdge(dut.clk)
    found = cycle() - first + 1, int(dut.answer.value), bool(dut.silent.value)
    await RisingEdge(dut.clk)
    dut.i__valid.value = 0
    return found


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(late=[0, 5])
async def keeps_the_contract(dut: Any, late: int) -> None:
    """The macro sees exactly the actions, one after the other, in the documented cycles; answers come through."""
    rng = random.Random(cocotb.RANDOM_SEED)
    chip = Chip(lambda ask: ask.row * 5 + ask.reference, late=late, seed=cocotb.RANDOM_SEED)
    p = await begin(dut, chip, dict.fromkeys(TIMES, 0))
    chip.wanted = [draw(rng, p) for _ in range(120)]
    before = 0
    for action in chip.wanted:
        times = {"t_guard": rng.randint(0, 5), "t_verify": rng.randint(0, 3), "t_pre": rng.randint(0, 3),
                 "t_cool": rng.randint(0, 3), "patience": 50}
        dut.settings.value, chip.guard = word(data.StructLayout(TIMES), times), max(1, min(before, times["t_guard"]))
        before = times["t_guard"]
        took, answer, silent = await done(dut, action)
        if isinstance(action, Verify):
            assert (answer, silent) == ((action.row * 5 + action.reference) % (1 << p.cols), False)
        assert late or took == cycles(action, times)
        for _ in range(rng.choice((0, 3))):
            await RisingEdge(dut.clk)
    assert len(chip.trace) == len(chip.wanted)


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(patience=[0, 1, 30])
async def silence_ends_a_comparison(dut: Any, patience: int) -> None:
    """A comparison without an answer takes ``patience`` cycles from the question on, and says so."""
    chip = Chip(lambda ask: None, wanted=[Verify(1, 2)])
    await begin(dut, chip, {"patience": patience})
    took, _, silent = await done(dut, Verify(1, 2))
    assert silent and took == 3 + max(1, patience)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def a_pulse_ends_with_its_grant(dut: Any) -> None:
    """No pulse begins without a grant, and one whose grant leaves stops in the same cycle; it goes on with the next one."""
    await begin(dut, None, {})
    task = cocotb.start_soon(done(dut, Pulse(1, 1, False, 4, 0, 0)))
    driven = []
    for number in range(40):
        dut.mode_gnt.value = int(dut.mode_req.value) if number not in (7, 8) else int(Mode.IDLE)
        await FallingEdge(dut.clk)
        assert not dut.pg_go.value or dut.mode_gnt.value == Mode.PROGRAM
        driven += [number] if dut.pg_go.value else []
        await RisingEdge(dut.clk)
    assert task.done() and driven == [4, 5, 6, 9]
