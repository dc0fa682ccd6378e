"""Programming on the macro shell: jobs of a tile beside golden's, written cells compute, what breaks the contract is told."""

import dataclasses
import random
import tempfile
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
import pytest

from golden.imc.arch import Op
from golden.imc.devices import DEVICES, Cells
from golden.imc.writable_tile import row_jobs, written
from golden.imc.write_verify import Job, Pulse, Settings, Verify
from hdl.imc.writable_tile import WritableTile
from hdl.imc.write_job import outcome_layout, settings_layout
from verif.imc.macro_shell import MacroShell, MacroShellError, actions, macro_tables, told
from verif.imc.test_macro_shell import ARCHS, TINY, Case, ShellAlone, TileOnShell, arch, begin, player, run
from verif.stream import get, put, stalls, word

ASK, SET = Verify(0, 9), Pulse(0, 3, False, 2, 77, 5)
JOB: list[tuple[Verify | Pulse, int]] = [(ASK, 5), (SET, SET.mask)]
IDLE, VERIFY, PROGRAM = ({"mode": mode} for mode in (0, 2, 3))
RULES = {
    "computes outside of mode COMPUTE": [IDLE | {"pre": 1}],
    "a comparison of cells outside of mode VERIFY": [IDLE, PROGRAM, PROGRAM | {"vf_go": 1, "vf_ref": 9}, PROGRAM, IDLE],
    "cells are connected outside of mode PROGRAM": [IDLE | {"pg_mask": 1}],
    "a mode follows another one without IDLE": [VERIFY, IDLE],
    "the crossbar changes while cells are in use": [IDLE, PROGRAM, PROGRAM | {"crossbar": 1}, IDLE],
    "SET and RESET at once": [IDLE, PROGRAM | {"pg_op": 3}, IDLE],
    "a pulse of no cell": [IDLE, PROGRAM | {"pg_go": 1}, IDLE],
    "a pulse changes": [IDLE, *(PROGRAM | {"pg_go": 1, "pg_mask": mask, "pg_op": 1} for mask in (3, 1)), IDLE],
    "a question while cells answer": [IDLE, VERIFY | {"vf_go": 1, "vf_ref": 9}, VERIFY | {"vf_go": 1}, IDLE],
    "another pulse": [IDLE, PROGRAM | {"pg_go": 1, "pg_mask": 1, "pg_op": 1}, IDLE],
    "another comparison": [IDLE, VERIFY | {"vf_go": 1, "vf_ref": 10}, IDLE],
    "a vector ahead of a job": [{"pre": 1}, {"wl_go": 1, "sample": 1}],
}


@pytest.mark.parametrize("name", ARCHS)
def test_jobs(name: str) -> None:
    """A tile on the shell writes what golden writes."""
    run(TileOnShell(ARCHS[name]), ARCHS[name], module=__name__, test_filter=r"\.writes$")


def test_contract() -> None:
    """Each rule of the contract that is broken is told."""
    run(ShellAlone(TINY), TINY, module=__name__, test_filter="tells")


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def writes(dut: Any) -> None:
    """Cells are computed with, written, and computed with again: pulses are golden's, outputs those of the cells they leave."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await begin(dut, p)
    case = Case.drawn(rng, p, "diff", "noise and offset", False)
    device, ends = DEVICES["rram"], outcome_layout(p)
    settings = device.settings(p.cell_bits, patience=50)
    dut.writing.value = word(settings_layout(p), dataclasses.asdict(settings))
    cells = {n: Cells(macro, device.response) for n, macro in enumerate(case.macros)}
    wanted = np.asarray([[rng.randrange(1 << p.cell_bits) for _ in range(p.cols)] for _ in range(p.rows)])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _ in range(2):
            there = case.load(p, folder)
            assert await case.run(dut, p, rng) == case.wanted()
            there.report().check()
            jobs = [(n, job) for n in cells for job in list(row_jobs(wanted, rng.choice((Op.PROG, Op.ERASE))))[n::5]]
            traces = [(n, *told(cells[n], settings, job)) for n, job in jobs]
            there.actions(actions(folder / "actions", [(n, trace) for n, trace, _ in traces], p.cols))
            order = WritableTile.order_layout(p)
            sent = cocotb.start_soon(put(dut, "i_job", [
                word(order, {"crossbar": n, "job": dataclasses.asdict(job)}) for n, job in jobs], stalls(rng)))
            fails = cocotb.start_soon(get(dut, "o_fail", sum(len(end.fails) for _, _, end in traces)))
            got = [int(ends.from_bits(value).error) for value in await get(dut, "o_job", len(jobs), stalls(rng))]
            await sent
            await fails
            assert got == [end.error for _, _, end in traces]
            assert there.report().check().actions == sum(len(trace) for _, trace, _ in traces)
            case.macros = [written(cells[n]) for n in cells]
        case.load(p, folder)
        assert await case.run(dut, p, rng) == case.wanted()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def tells(dut: Any) -> None:
    """Each rule is told once; a job that keeps all of them is answered in the next cycle, and counted."""
    p, there = arch(), MacroShell()
    play = await player(dut, p)
    with tempfile.TemporaryDirectory() as name:
        path = actions(Path(name) / "actions", [(0, JOB)], p.cols)
        macro = Case.drawn(random.Random(1), p, "diff", "ideal", False).macros[0]
        there.macros(macro_tables(Path(name) / "macros", {0: macro}))
        for rule, cycles in RULES.items():
            await play([{"pre": 1}, {"wl_go": 1, "sample": 1}, {}, {}])
            there.clear()
            there.actions(path)
            await play([*cycles, {}, {}])
            errors = there.report().errors
            assert rule in errors, (rule, errors)
            assert errors[rule][0] == 1 and errors[rule][1].startswith("cycle "), (rule, errors)
        await play([IDLE, IDLE])
        there.clear()
        there.actions(path)
        with pytest.raises(MacroShellError, match="0 of 2 actions of jobs came"):
            there.report().check()
        pulse = PROGRAM | {"pg_mask": SET.mask, "pg_op": 1, "pg_vwl": SET.word, "pg_vbl": SET.bit}
        question = VERIFY | {"vf_ref": ASK.reference}
        await play([VERIFY, question | {"vf_go": 1}, question])
        assert (dut.vf_rdy.value, dut.vf_sa.value) == (1, 5)
        await play([VERIFY])
        assert (dut.vf_rdy.value, int(dut.vf_sa.value)) == (0, 5 ^ (1 << p.cols) - 1)
        await play([IDLE, pulse, *[pulse | {"pg_go": 1}] * SET.width, pulse, IDLE, IDLE])
        assert there.report().check().actions == 2


def test_traces_have_answers() -> None:
    """What is told of a job has golden's answers and masks; FORM of cells that conduct asks once and confirms."""
    p = TINY
    cells = Cells(Case.drawn(random.Random(1), p, "diff", "ideal", False).macros[0], DEVICES["rram"].response)
    cells.conductance[:] = 3 << 12
    settings: Settings = DEVICES["rram"].settings(p.cell_bits)
    trace, end = told(cells, settings, Job(op=Op.FORM, row=0, levels=(0,) * p.cols, mask=1))
    assert [mask for _, mask in trace] == [(1 << p.cols) - 1] * len(trace) and not end.error
