"""Tile of its own through its bus: written cells compute, jobs that fail, bad settings, packets and macros; never a hang."""

import dataclasses
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from golden.imc.arch import SCHEMES, Error, ImcArch, Op
from golden.imc.calibrator import offsets
from golden.imc.cells import levels
from golden.imc.correction import Correction
from golden.imc.devices import DEVICES, Cells
from golden.imc.macro import Adc, Effects, Macro, build
from golden.imc.tile import Program
from golden.imc.writable_tile import compute, row_jobs, written
from golden.imc.write_verify import Job, Outcome
from hdl.imc.imc_tile import ImcTile, sum_word
from hdl.imc.settings import tile_settings
from verif.imc.geometry import random_weights
from verif.imc.macro_shell import SOURCES, MacroShell, actions, macro_tables, phases_of, told, values, verilog
from verif.imc.test_writable_tile import ARCHS as TILES
from verif.imc.tile_host import BUSY, CALIBRATE, DONE, ERROR, START, STOP, TileHost
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import stalls

ARCHS = {
    "one bit": TILES["one bit"],
    "several words": ImcArch(name="wide", rows=40, cols=64, mux=8, group_rows=8, adc_bits=10, cell_bits=2, weight_bits=16,
                             input_bits=4, crossbars=2, average_log2=0, trim_bits=2),
}
JOB = Job(op=Op.TEST, row=0, levels=(), mask=1)


@pytest.mark.parametrize("name", ARCHS)
def test_imc_tile(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog; those of a wide tile are about its words."""
    p = ARCHS[name]
    simulate(ImcTile(p), __name__, parameters=dataclasses.asdict(p), more=[verilog(p)], cpp=SOURCES,
             test_filter=None if name == "one bit" else "matches_golden")


@pytest.mark.parametrize(("old", "new", "bench"), [
    pytest.param("port.flush.eq(self.halt)", "port.flush.eq(0)", "refuses_packets", id="packets outlive an error"),
    pytest.param("control.job.error.eq(tile.o_job.p.error)", "control.job.error.eq(0)", "tells_of_cells", id="jobs never fail"),
])
def test_mutants_are_caught(old: str, new: str, bench: str) -> None:
    """A top that is joined in another way is caught."""
    p = ARCHS["one bit"]
    simulate(mutant(ImcTile, old, new)(p), __name__, parameters=dataclasses.asdict(p), more=[verilog(p)], cpp=SOURCES,
             test_filter=bench, expect_failure=True)


class Bench:
    """A tile, its host, its macro, and crossbars that golden writes and computes with."""

    def __init__(self, dut: Any, folder: str, stall: float) -> None:
        self.dut, self.folder = dut, Path(folder)
        self.p, self.rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
        self.host, self.shell = TileHost(dut, self.p, stalls(self.rng, stall)), MacroShell()
        self.device = DEVICES["sram" if self.p.cell_bits == 1 else "rram"]
        self.writing = self.device.settings(self.p.cell_bits, patience=20)
        self.cells: dict[int, Cells] = {}
        self.program = Program(scheme="twos")

    async def begin(self, scheme: str = "twos", stuck: float = 0, **effects: Any) -> None:
        """Reset, take two crossbars that conduct nothing, write all settings."""
        p, rng = self.p, self.rng
        await self.host.begin()
        self.program = Program(scheme=scheme, bits=rng.randint(1, p.input_bits))
        effect = Effects(seed=rng.getrandbits(60), **effects)
        for n in range(2):
            macro = build(p, Adc(bits=p.adc_bits), np.zeros((p.rows, p.cols), np.int64), effect, tile=n)
            self.cells[n] = Cells(macro, self.device.response, np.random.default_rng(n).random((p.rows, p.cols)) < stuck)
        self.shell.clear()
        self.shell.image(0)
        self.shell.context(self.program.bits, p.rows // p.group_rows)
        self.shell.macros(macro_tables(self.folder / "macros", {n: cells.macro for n, cells in self.cells.items()}))
        await self.host.settings(self.usual(), self.writing)
        await self.host.write({"MACHINE_PATIENCE": 1000})

    def usual(self, **changes: Any) -> dict[str, Any]:
        """Return settings of the tile."""
        return tile_settings(self.p, self.program.scheme, bits=self.program.bits, adc_bits=self.p.adc_bits, **changes)

    def weights(self) -> Any:
        """Return the levels of random weights."""
        return levels(self.p, self.program.scheme, random_weights(self.rng, self.p, self.program.scheme, full=True))

    async def writes(self, jobs: Sequence[tuple[int, Job]]) -> list[Outcome]:
        """Send jobs, (crossbar, job), and compare what they do, tell, and how they end, with golden."""
        host, traces = self.host, [(n, *told(self.cells[n], self.writing, job)) for n, job in jobs]
        self.shell.actions(actions(self.folder / "actions", [(n, trace) for n, trace, _ in traces], self.p.cols))
        for n, job in jobs:
            await host.send("s_axis_job", host.job(job, crossbar=n))
        for (_, job), (_, _, outcome) in zip(jobs, traces, strict=True):
            assert await host.receive("m_axis_done") == host.ending(outcome)
            assert host.packets["m_axis_fail"][:len(outcome.fails)] == [
                [job.row | column << 8 | entry << 16] for column, entry in outcome.fails]
            del host.packets["m_axis_fail"][:len(outcome.fails)]
        return [outcome for _, _, outcome in traces]

    async def computes(self, crossbar: int, count: int, *, first: int = 0) -> None:
        """Send vectors and compare their outputs with golden's."""
        p, rng, program, host = self.p, self.rng, self.program, self.host
        x = np.asarray([[rng.randrange(1 << program.bits) for _ in range(p.rows)] for _ in range(count)])
        keys = np.arange(first, first + count)
        trace = compute(self.cells[crossbar], program, x, vector=keys)
        self.shell.values(values(self.folder / "values", [
            (crossbar, written(self.cells[crossbar]), *phases_of(trace.lines, keys))]))
        for key, row in zip(keys.tolist(), x, strict=True):
            await host.send("s_axis_x", host.vector(row, program.bits, crossbar=crossbar, key=key))
        for wanted in trace.y.tolist():
            assert await host.outputs(sum_word(p)) == wanted

    async def works(self) -> None:
        """A start, a job, a vector and a stop: the tile is as new."""
        assert await self.host.control(START) == (BUSY, 0)
        assert not (await self.writes([(0, dataclasses.replace(JOB, levels=(0,) * self.p.cols))]))[0].error
        await self.computes(1, 1)
        assert await self.host.control(STOP, until=DONE | ERROR) == (DONE, 0)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.4])
async def matches_golden(dut: Any, stall: float) -> None:
    """Cells that jobs wrote compute as golden's do, then others in their place; counters are those of what was done."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(dut, folder, stall)
        p, host = bench.p, bench.host
        scheme = bench.rng.choice([scheme for scheme in SCHEMES if p.outputs(scheme) > 0])
        await bench.begin(scheme, read_noise=0.2, comparator_noise=0.2, verify_noise=0.01)
        assert await host.control(START) == (BUSY, 0)
        pulses = reads = 0
        for turn in range(2):
            jobs = [(0, job) for job in row_jobs(bench.weights())][::1 if p.cell_bits == 1 else 13]
            for outcome in await bench.writes([*jobs, (0, dataclasses.replace(jobs[-1][1], op=Op.READ))]):
                pulses += outcome.counts.set + outcome.counts.reset
                reads += outcome.counts.reads
            await bench.computes(turn, 2, first=2 * turn)
        assert (await host.control(STOP, until=DONE | ERROR))[0] & DONE
        report = bench.shell.report().check(complete=False)
        phases = 4 * bench.program.bits * p.rows // p.group_rows
        assert (report.samples, report.actions) == (phases, report.actions_expected)
        assert [await host.read(name) for name in ("PHASES", "SKIPPED", "CONVERSIONS", "PULSES", "READS")] == [
            phases, 0, phases * p.cols, pulses, reads]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def refuses_settings(dut: Any) -> None:
    """Each setting beyond the build ends a start with an error and its code, and the right one in its place works."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(dut, folder, 0)
        await bench.begin()
        p, host = bench.p, bench.host
        bad = {"VECTOR_BITS": (0, p.input_bits + 1), "VECTOR_OUTPUTS": (0, p.outputs("twos") + 1), "MACHINE_GROUPS": (0, 4),
               "MACHINE_GROUP_LOG2": (3, 15), "MACHINE_ADC_BITS": (0, p.adc_bits + 1), "MACHINE_AVERAGE_LOG2": (2, 7),
               "MACHINE_WIDTH_LOG2": (6, 7), "MACHINE_LOG2": (9,), "MACHINE_PEDESTAL": (1 << p.adc_bits,),
               "PLACE_0": (p.weight_bits | 1 << 5, 64), "MACHINE_LIMIT": (1 << max(p.adc_bits + 1, p.gain_bits), 2048),
               "MACHINE_TRIMS": (1, 2), "MACHINE_SKIP": (2,)}
        bad["WRITE_T_GUARD"] = bad["LEVEL_0_BOUNDS"] = bad[f"LEVEL_{1 << p.cell_bits}_BOUNDS"] = (1 << 31,)
        bad["NUMBER"] = (1 << p.adc_bits, p.adcs << 16, p.mux << 24, 1 << 31)
        for name, numbers in bad.items():
            before = await host.read(name)
            for number in numbers:
                await host.write({name: number})
                assert await host.control(START, until=DONE | ERROR) == (ERROR, Error.SETTINGS), (name, number)
            if name in ("MACHINE_ADC_BITS", "MACHINE_LOG2", "MACHINE_AVERAGE_LOG2", "MACHINE_GROUP_LOG2", "MACHINE_PEDESTAL"):
                assert await host.control(CALIBRATE, until=DONE | ERROR) == (ERROR, Error.SETTINGS)
            await host.write({name: before})
        await bench.works()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def tells_of_cells(dut: Any) -> None:
    """A job that fails tells its cells, ends with its packet, raises an error, and the next ones go on; so do illegal ones."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(dut, folder, 0.2)
        await bench.begin(stuck=0.5)
        p, host = bench.p, bench.host
        assert await host.control(START) == (BUSY, 0)
        jobs = [(0, job) for job in row_jobs(np.ones((2, p.cols), np.int64))]
        assert all(outcome.fails for outcome in await bench.writes(jobs))
        assert await host.status() == (BUSY | ERROR, Error.CELLS)
        await host.write({"STATUS": ERROR})
        for packet in (6, p.rows << 8, 2 << 16):
            await host.send("s_axis_job", [packet, *host.job(jobs[0][1], crossbar=0)[1:]])
            assert (await host.receive("m_axis_done"))[0] == 2
            assert await host.status() == (BUSY | ERROR, Error.SETTINGS)
        await host.send("s_axis_job", host.job(jobs[0][1], crossbar=0))
        assert (await host.receive("m_axis_done"))[0] == 3
        assert await host.status() == (BUSY | ERROR, Error.SILENT)
        assert {*bench.shell.report().errors} == {"another comparison"}
        bench.shell.clear()
        await host.write({"STATUS": ERROR})
        await bench.computes(0, 1)
        assert await host.control(STOP, until=DONE) == (DONE, Error.SILENT)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def refuses_packets(dut: Any) -> None:
    """A packet of another length, or for nothing that exists, stops the tile; the rest of what came in part is left out."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(dut, folder, 0)
        await bench.begin()
        host, right = bench.host, bench.host.vector([0] * bench.p.rows, bench.program.bits, crossbar=0, key=0)
        job = host.job(dataclasses.replace(JOB, levels=(0,) * bench.p.cols), crossbar=0)
        for name, packet in (("s_axis_x", right[:-1]), ("s_axis_x", [*right, 0]), ("s_axis_x", [2, *right[1:]]),
                             ("s_axis_x", [0, 1 << 24, *right[2:]]), ("s_axis_job", job[:-1]), ("s_axis_job", [*job, 0, 0])):
            assert await host.control(START) == (BUSY, 0)
            await host.send("s_axis_job", job[:1], ends=False)
            if name == "s_axis_job":
                await host.send(name, packet[1:])
            else:
                await host.send(name, packet)
            assert await host.status(until=ERROR) == (ERROR, Error.PACKET), packet
            if name == "s_axis_x":
                await host.send("s_axis_job", job[1:])
        assert bench.shell.report().errors == {}
        await bench.works()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def never_hangs(dut: Any) -> None:
    """Comparators that stay silent, columns held for too long, streams that nobody takes from: an error code, or patience."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(dut, folder, 0)
        await bench.begin()
        p, host = bench.p, bench.host
        sar, flash = (macro_tables(bench.folder / name, {n: dataclasses.replace(
            c.macro, adc=dataclasses.replace(c.macro.adc, flash=name == "flash")) for n, c in bench.cells.items()})
            for name in ("sar", "flash"))
        vector = host.vector([0] * p.rows, bench.program.bits, crossbar=0, key=0)
        for change, table, code in (({}, flash, Error.STALLED), ({"MACHINE_HOLD": 2}, sar, Error.DROOP)):
            bench.shell.macros(table)
            await host.write(change)
            assert await host.control(START) == (BUSY, 0)
            await host.send("s_axis_x", vector)
            assert await host.status(until=ERROR) == (ERROR, code)
            await host.write(dict.fromkeys(change, 0))
        host.taking.clear()
        assert await host.control(START) == (BUSY, 0)
        bench.shell.clear()
        bench.shell.macros(sar)
        await host.send("s_axis_x", vector)
        for _ in range(3000):
            await RisingEdge(dut.aclk)
        assert await host.control(STOP) == (BUSY, 0)
        assert await host.control(STOP, until=ERROR) == (ERROR, Error.STALLED)
        host.taking = {*host.packets}
        bench.shell.clear()
        await bench.works()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def calibrates(dut: Any) -> None:
    """Offsets are golden's, beyond the limit an error; vectors are corrected by them, or by numbers of the host."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(dut, folder, 0)
        await bench.begin(offset=0.8)
        p, host, macro = bench.p, bench.host, bench.cells[0].macro
        await host.write({"MACHINE_LOG2": 1, "MACHINE_PEDESTAL": 3})
        for limit in (0, 7):
            await host.write({"MACHINE_LIMIT": limit})
            found = offsets(macro, pedestal=3, log2=1, limit=limit)
            fails = found.failed.any()
            assert await host.control(CALIBRATE, until=DONE | ERROR) == (
                (ERROR, Error.CALIBRATION) if fails else (DONE, Error.NONE))
        await works_with(bench, found.numbers)
        mine = np.arange(p.adcs) - 1
        for adc, number in enumerate(mine.tolist()):
            await host.number(what=0, adc=adc, number=number)
        await works_with(bench, mine)


async def works_with(bench: Bench, offset: Any) -> None:
    """Run vectors that are corrected."""
    assert await bench.host.control(START) == (BUSY, 0)
    bench.program = dataclasses.replace(bench.program, correction=Correction(offset=offset))
    await bench.computes(0, 2)
    assert await bench.host.control(STOP, until=DONE | ERROR) == (DONE, 0)


def test_a_written_macro_is_another_one() -> None:
    """Golden: the same crossbar, with other cells and the IR drop of those."""
    p = ARCHS["one bit"]
    macro: Macro = build(p, Adc(bits=3), np.ones((p.rows, p.cols), np.int64), Effects(wire=0.01))
    cells = Cells(macro, DEVICES["sram"].response)
    cells.conductance[:] = 0
    empty = written(cells)
    assert macro.drop is not None and empty.drop is not None and macro.drop.any() and not empty.drop.any()
