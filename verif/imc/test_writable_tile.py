"""Tile whose cells are written: jobs and vectors against golden with the cells that jobs left, turns, modes, calibration."""

import dataclasses
import random
from collections.abc import Iterator, Sequence
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import IMC_PRESETS, SCHEMES, ImcArch, Op, WriteError
from golden.imc.calibrator import offsets
from golden.imc.cells import levels
from golden.imc.correction import Correction
from golden.imc.devices import DEVICES, Cells, Device
from golden.imc.macro import FRACTION, Adc, Effects, build
from golden.imc.tile import Program, run_tile
from golden.imc.writable_tile import compute, row_jobs, write, written
from golden.imc.write_verify import Job, Outcome
from hdl.imc.settings import tile_settings
from hdl.imc.signed_combine import SignedCombine
from hdl.imc.tile import Tile
from hdl.imc.writable_tile import WritableTile
from hdl.imc.write_job import fail_layout, outcome_layout, settings_layout
from verif.imc.chip import Chip
from verif.imc.geometry import random_weights
from verif.imc.played_macro import PlayedMacro
from verif.imc.test_tile import vector
from verif.layers import start
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import cycle, get, put, stalls, watch, word

TINY = dataclasses.replace(IMC_PRESETS["tiny-ci"], crossbars=2)
ARCHS = {
    "two bits": dataclasses.replace(TINY, rows=8, input_bits=4),
    "one bit": dataclasses.replace(TINY, cols=16, mux=8, cell_bits=1, weight_bits=2, rows=12, group_rows=4, adc_bits=3,
                                   flash_bits=3, average_log2=1, input_bits=4),
}
NOISE = {"verify_noise": 0.02, "wire": 2e-3, "read_noise": 0.2, "comparator_noise": 0.2}


@pytest.mark.parametrize("name", ARCHS)
def test_writable_tile(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(WritableTile(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("tile.grant.eq(control.grant)", "tile.grant.eq(1)", id="computes without a grant"),
    pytest.param("Mux(control.mode_gnt == Mode.COMPUTE, tile.crossbar, crossbar)", "tile.crossbar", id="other cells"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """A tile that computes while cells are written, or writes those of another crossbar, is caught."""
    p = ARCHS["one bit"]
    simulate(mutant(WritableTile, old, new)(p), __name__, parameters=dataclasses.asdict(p), expect_failure=True,
             test_filter="takes_turns")


def test_written_cells_compute_what_is_stored(seed: int) -> None:
    """Golden: SRAM cells that jobs wrote give the products of their weights, whatever was in them before."""
    p, rng = ARCHS["one bit"], random.Random(seed)
    for scheme in SCHEMES:
        cells = cells_of(p, DEVICES["sram"], seed, {})
        for _ in range(2):
            weight = random_weights(rng, p, scheme, full=True)
            ends = [write(cells, DEVICES["sram"].settings(1), job)[1].error for job in row_jobs(levels(p, scheme, weight))]
            assert ends == [WriteError.NONE] * p.rows
            x = np.asarray([[rng.randrange(2) for _ in range(p.rows)] for _ in range(3)])
            assert np.array_equal(compute(cells, Program(scheme=scheme), x).y, x @ weight.T)


def cells_of(p: ImcArch, device: Device, seed: int, effects: dict[str, float], tile: int = 0) -> Cells:
    """Return a crossbar whose cells lie anywhere in their range; those of SRAM at one end."""
    macro = build(p, Adc(bits=p.adc_bits), np.zeros((p.rows, p.cols), np.int64), Effects(seed=seed, **effects), tile=tile)
    cells = Cells(macro, device.response)
    top = (1 << p.cell_bits) - 1
    cells.conductance = np.random.default_rng(seed).integers(0, top << FRACTION, (p.rows, p.cols), endpoint=True)
    if device.name == "sram":
        cells.conductance = (cells.conductance >> FRACTION - 1 & 1) << FRACTION
    return cells


class Bench:
    """A tile with two crossbars of its own beside golden with two just like them."""

    def __init__(self, dut: Any, p: ImcArch, rng: random.Random, stall: float) -> None:
        self.dut, self.p, self.rng, self.stall = dut, p, rng, stall
        self.chip = Chip(lambda ask: self.chosen().verify(ask), lambda pulse: self.chosen().pulse(pulse),
                         late=2 if stall else 0)
        self.cells: dict[int, Cells] = {}
        self.golden: dict[int, Cells] = {}
        self.player = PlayedMacro(p, {})
        self.program = Program(scheme="diff")
        self.writing = DEVICES["sram"].settings(1)

    async def begin(self) -> None:
        """Reset."""
        dut = self.dut
        await start(dut, ["i__valid", "o__ready", "i_job__valid", "o_job__ready", "o_fail__ready", "settings", "writing", "cmp",
                          "cmp_rdy", "calibrate", "write", "therm"])
        dut.rst.value = 0
        for name in ("i", "o", "o_job", "o_fail"):
            cocotb.start_soon(watch(dut, name))
        self.chip.start_tile(dut)
        cocotb.start_soon(self.player.serve(dut))

    def chosen(self) -> Cells:
        """Return the crossbar that is in use."""
        return self.cells[int(self.dut.crossbar.value)]

    def takes(self, device: Device, scheme: str) -> None:
        """Take two crossbars of a device, any settings that go with it, and a way to compute."""
        p, rng, dut, seed = self.p, self.rng, self.dut, self.rng.getrandbits(60)
        self.cells, self.golden = ({n: cells_of(p, device, seed + n, NOISE, n) for n in range(2)} for _ in range(2))
        self.player.cells = self.cells
        self.player.crossbars = {n: cells.macro for n, cells in self.cells.items()}
        self.program = Program(scheme=scheme, bits=rng.randint(1, p.input_bits))
        self.writing = device.settings(p.cell_bits, patience=50, t_guard=rng.randint(0, 3))
        self.chip.guard = max(1, self.writing.t_guard)
        settings = tile_settings(p, scheme, bits=self.program.bits, adc_bits=p.adc_bits)
        dut.settings.value = word(Tile.settings_layout(p), settings)
        dut.writing.value = word(settings_layout(p), dataclasses.asdict(self.writing))

    def pauses(self) -> Iterator[bool]:
        """Return the pauses of a stream."""
        return stalls(self.rng, self.stall)

    async def runs(self, crossbar: int, jobs: Sequence[Job]) -> None:
        """Send jobs and compare what they do, tell, and how they end, with golden."""
        p, dut, layout = self.p, self.dut, outcome_layout(self.p)
        traces, wanted = zip(*(write(self.golden[crossbar], self.writing, job) for job in jobs), strict=True)
        self.chip.wanted += [action for trace in traces for action in trace]
        fails = [word(fail_layout(p), {"row": job.row, "column": column, "entry": entry})
                 for job, outcome in zip(jobs, wanted, strict=True) for column, entry in outcome.fails]
        order = WritableTile.order_layout(p)
        told = cocotb.start_soon(get(dut, "o_fail", len(fails), self.pauses()))
        sent = cocotb.start_soon(put(dut, "i_job", [word(order, {"crossbar": crossbar, "job": dataclasses.asdict(job)})
                                                    for job in jobs], self.pauses()))
        ends = await get(dut, "o_job", len(jobs), self.pauses())
        await sent
        assert await told == fails
        assert len(self.chip.trace) == len(self.chip.wanted)
        for end, outcome in zip(map(layout.from_bits, ends), wanted, strict=True):
            self.ended(end, outcome)

    def ended(self, end: Any, outcome: Outcome) -> None:
        """Assert that a job ended as golden's did."""
        assert (int(end.error), int(end.fail)) == (outcome.error, outcome.mask)
        assert tuple(int(end.levels[n]) for n in range(self.p.cols)) == outcome.levels
        assert {name: int(end.counts[name]) for name in end.counts.shape().members} == dataclasses.asdict(outcome.counts)

    async def computes(self, crossbar: int, count: int) -> None:
        """Send vectors and compare their outputs with golden's."""
        p, rng, dut, program = self.p, self.rng, self.dut, self.program
        x = np.asarray([[rng.randrange(1 << program.bits) for _ in range(p.rows)] for _ in range(count)])
        wanted = compute(self.golden[crossbar], program, x, vector=np.arange(count)).y
        sent = cocotb.start_soon(put(dut, "i", [vector(p, row, crossbar, key) for key, row in enumerate(x)], self.pauses()))
        got = await get(dut, "o", wanted.size, self.pauses())
        await sent
        assert [int(SignedCombine.sums_layout(p).from_bits(value).y) for value in got] == wanted.ravel().tolist()
        assert self.player.errors == []


async def bench_of(dut: Any, stall: float) -> Bench:
    """Return a bench that has been reset."""
    bench = Bench(dut, ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED), stall)
    await bench.begin()
    return bench


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.4])
async def matches_golden(dut: Any, stall: float) -> None:
    """Cells of every device are computed with, written, computed with, read, and computed with again; some jobs fail."""
    bench = await bench_of(dut, stall)
    p, rng = bench.p, bench.rng
    for device in (device for device in DEVICES.values() if p.cell_bits <= device.cell_bits):
        scheme = rng.choice([scheme for scheme in SCHEMES if p.outputs(scheme) > 0])
        bench.takes(device, scheme)
        await bench.computes(0, 2)
        wanted = levels(p, scheme, random_weights(rng, p, scheme, full=True))
        jobs = [*row_jobs(wanted, Op.ERASE), *row_jobs(wanted)]
        await bench.runs(0, jobs if device.name == "sram" else jobs[1 - rng.randrange(2)::3])
        await bench.computes(0, 2)
        await bench.runs(0, [Job(op=Op.READ, row=rng.randrange(p.rows), levels=(0,) * p.cols, mask=(1 << p.cols) - 1)])
        await bench.computes(1, 1)
    assert np.array_equal(written(bench.cells[0]).conductance, bench.golden[0].conductance)


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.4])
async def takes_turns(dut: Any, stall: float) -> None:
    """Jobs on one crossbar and vectors on the other, all waiting at once, equal golden; without stalls they take turns."""
    bench = await bench_of(dut, stall)
    p = bench.p
    bench.takes(DEVICES["sram" if p.cell_bits == 1 else "rram"], "twos")
    modes: list[int] = []
    cocotb.start_soon(follow(dut, modes))
    jobs = [Job(op=Op.TEST, row=n, levels=(1,) * p.cols, mask=(1 << p.cols) - 1) for n in range(4)]
    vectors = cocotb.start_soon(bench.computes(1, 5))
    await bench.runs(0, jobs)
    await vectors
    if not stall:
        assert "".join(map(str, modes)) == "1" + "21" * 4


async def follow(dut: Any, modes: list[int]) -> None:
    """Note the modes of the macro, without rests and repetitions."""
    while True:
        await FallingEdge(dut.clk)
        mode = int(dut.mode.value)
        if mode and (not modes or modes[-1] != mode):
            modes.append(mode)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def calibrates_behind_a_job(dut: Any) -> None:
    """A calibration that is asked for in a job begins behind it, in mode COMPUTE, and finds what golden finds."""
    bench = await bench_of(dut, 0)
    p = bench.p
    bench.takes(DEVICES["rram"], "twos")
    found = offsets(bench.golden[0].macro, pedestal=2, log2=1, limit=5)
    settings = tile_settings(p, "twos", adc_bits=p.adc_bits) | {"log2": 1, "pedestal": 2, "limit": 5}
    dut.settings.value = word(Tile.settings_layout(p), settings)
    running = cocotb.start_soon(bench.runs(0, [Job(op=Op.TEST, row=0, levels=(1,) * p.cols, mask=1)]))
    await RisingEdge(dut.vf_go)
    await RisingEdge(dut.clk)
    dut.calibrate.value = 1
    await RisingEdge(dut.clk)
    dut.calibrate.value = 0
    await running
    began = cycle()
    while not dut.calibrated.value:
        await FallingEdge(dut.clk)
        assert cycle() < began + 2000
    await RisingEdge(dut.clk)
    assert bench.player.errors == []
    bench.program = Program(scheme="twos", correction=Correction(offset=found.numbers))
    await bench.computes(1, 2)


def test_turns_are_golden() -> None:
    """What `compute` gives of cells that were never pulsed is what `run_tile` gives of their macro."""
    p = ARCHS["two bits"]
    cells = cells_of(p, DEVICES["rram"], 3, NOISE)
    x = np.ones((1, p.rows), np.int64)
    cells.conductance = np.asarray(cells.macro.conductance)
    assert np.array_equal(compute(cells, Program(scheme="diff"), x).y, run_tile(cells.macro, Program(scheme="diff"), x).y)
