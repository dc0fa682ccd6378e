"""Core against golden on the macro shell: random layers of all kinds, stalls, both orders of time, calibration, errors."""

import dataclasses
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import IMC_PRESETS, SCHEMES, Error, ImcArch, Op, WriteError
from golden.imc.calibrator import offsets
from golden.imc.correction import Correction
from golden.imc.devices import DEVICES, Cells
from golden.imc.job_port import ending
from golden.imc.macro import Adc, Effects, build, rewritten
from golden.imc.pulse_sweep import Sweep
from golden.imc.run import Placed, Setting, inputs, place, run
from golden.imc.writable_tile import row_jobs, written
from golden.imc.write_verify import Job, Outcome, Settings
from golden.network import Network
from golden.run import LayerTrace, unpack
from hdl.imc.activation import pack, split
from hdl.imc.activation import unpack as unpack_map
from hdl.imc.host_port import Target
from hdl.imc.imc import Imc
from hdl.imc.job_port import OF_JOB
from hdl.imc.program import LayerProgram, programs
from hdl.imc.write_program import job_words
from hdl.imc.write_registers import write_words
from verif.imc.host import CALIBRATE, DONE, ERROR, Host
from verif.imc.macro_shell import SOURCES, MacroShell, actions, layer_phases, macro_tables, told, values, verilog
from verif.imc.networks import random_network, readings
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import stalls

TINY = dataclasses.replace(IMC_PRESETS["tiny-ci"], channels=16, membranes=1024)
ARCHS = {
    "one tile": TINY,
    "two trees of two tiles": dataclasses.replace(TINY, rows=8, cols=16, tiles=4, fan_in=2, channels=64, input_bits=4),
    "three words a line": dataclasses.replace(TINY, rows=64, group_rows=16, adc_bits=6, tiles=2, channels=32),
}
# RRAM whose pulses take a cycle, and as many of them.
RRAM = DEVICES["rram"]
QUICK = dataclasses.replace(
    RRAM, response=dataclasses.replace(RRAM.response, nominal=1),
    **{name: dataclasses.replace(getattr(RRAM, name), width=Sweep(start=1, stop=1), exponent=0) for name in ("set", "reset")})


@pytest.mark.parametrize("name", ARCHS)
def test_core(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    p = ARCHS[name]
    simulate(Imc(p), __name__, parameters=dataclasses.asdict(p), more=[verilog(p)], cpp=SOURCES)


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("self.m_axis_tlast.eq(core.answer.p.last)", "self.m_axis_tlast.eq(1)", id="packets of single words"),
    pytest.param("core.host.p.word.eq(self.s_axis_tdata)", "core.host.p.word.eq(self.s_axis_tdata ^ 256)", id="other words"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """A top that is joined in another way is caught."""
    simulate(mutant(Imc, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), more=[verilog(TINY)], cpp=SOURCES,
             test_filter="calibrates", expect_failure=True)


def check(network: Network, trace: LayerTrace, program: LayerProgram, got: Any, answers: list[list[int]]) -> None:
    """Compare what is stored, or read out, with golden."""
    layer = network.layers[0]
    if layer.readout:
        wanted = np.asarray(trace.readout)
        sums: dict[int, list[int]] = {c: [] for c in range(wanted.shape[0])}
        for channel, value in answers:
            sums[channel].append(value - (value >> 31 << 32))
        assert [sums[c] for c in sums] == wanted.reshape(len(wanted), -1).tolist()
        return
    output = np.asarray(trace.output)
    wanted = np.asarray(unpack(output, network.steps)) if layer.neuron else split(output, program.planes)
    assert np.array_equal(got, wanted)


class Bench:
    """A core, its host and its macros; files of the macros in a folder."""

    def __init__(self, dut: Any, p: ImcArch, rng: random.Random, folder: Path) -> None:
        self.dut, self.p, self.rng, self.folder = dut, p, rng, folder
        self.host, self.shell = Host(dut, p, stalls(rng, 0.2)), MacroShell()

    async def runs(self, setting: Setting, network: Network, words: dict[str, Any], *, image: int, time_inner: bool,
                   late: bool = False, placed: tuple[Placed, ...] | None = None) -> LayerProgram:
        """Run a layer, compare it with golden, return its program.

        late : it is started while its operand comes; placed : its crossbars as they are, None: as they ought to be
        """
        p, host, shell = self.p, self.host, self.shell
        placed = placed or place(network, p, setting)
        (program,) = programs(p, network, placed, flash=False, adc_bits=setting.adc.bits, skip=setting.skip,
                              time_inner=time_inner)
        (entry,) = placed
        layer, operand = network.layers[0], words["input.0"]
        shell.context(entry.mapped.operand.bits, p.rows // p.group_rows)
        shell.image(image)
        shell.macros(macro_tables(self.folder / "macros", {m.tile: m for row in entry.macros for m in row}))
        seen = [found for step, x in enumerate(inputs(entry, words, network.steps))
                for found in layer_phases(p, entry, x, step, setting.skip)]
        shell.values(values(self.folder / "values", seen))
        shell.clear()
        await host.load(program)
        packed = pack(split(operand, len(layer.passes[0].planes)), p.rows).ravel()
        sender = cocotb.start_soon(host.send(Target.MAP_0, 0, packed))
        if not late:
            await sender
        assert await host.run() == (DONE, 0), (image, network)
        got = None
        if program.planes:
            channels, height, width = program.shape
            count = program.planes * height * width * -(-channels // p.rows)
            got = unpack_map(await host.fetch(1, count), program.planes, *program.shape, p.rows)
        for _ in range(20):
            await FallingEdge(self.dut.aclk)
        shell.report().check(complete=not (layer.or_pool or layer.max_pool or layer.sum_pool))
        trace = run(network, p, setting, words, image=image, placed=placed).layers["layer"]
        check(network, trace, program, got, host.answers)
        host.answers.clear()
        return program


    async def writes(self, cells: Cells, settings: Settings, jobs: Sequence[Job]) -> list[Outcome]:
        """Write a crossbar by jobs, and compare what they do and how they end with golden; a failed one raises its error."""
        p, host, (crossbar, tile) = self.p, self.host, divmod(cells.macro.tile, self.p.tiles)
        traces = [told(cells, settings, job) for job in jobs]
        self.shell.actions(actions(self.folder / "actions", [(cells.macro.tile, trace) for trace, _ in traces], p.cols))
        for job, (_, outcome) in zip(jobs, traces, strict=True):
            await host.write("STATUS", DONE | ERROR)
            await host.send(Target.JOB, tile, job_words(p, crossbar=crossbar, **dataclasses.asdict(job)))
            assert await host.receive() == ending(p, outcome)
            assert await host.read("STATUS") == (ERROR if outcome.error else 0)
            assert not outcome.error or await host.read("ERROR") == OF_JOB[outcome.error]
        return [outcome for _, outcome in traces]


@cocotb.test(timeout_time=80, timeout_unit="ms")
async def matches_golden(dut: Any) -> None:
    """Layers of all kinds equal golden, in both orders of time, with noise."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(dut, p, rng, Path(folder))
        await bench.host.begin()
        for case in range(8):
            network, words = random_network(rng, p, SCHEMES[case % 4], numbers=case == 1 or None)
            effects = Effects(seed=rng.getrandbits(62), comparator_noise=0.4, read_noise=0.3) if case % 3 else Effects()
            setting = Setting(scheme=SCHEMES[case % 4], adc=Adc(bits=p.adc_bits), effects=effects, skip=rng.random() < 0.5,
                              once=case < 6)
            await bench.runs(setting, network, words, image=case, time_inner=case % 2 == 0 or network.layers[0].readout)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def calibrates(dut: Any) -> None:
    """All tiles find the offsets that golden finds, and the next layer is corrected by them; beyond the limit is an error."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(dut, p, rng, Path(folder))
        await bench.host.begin()
        effects = Effects(seed=rng.getrandbits(62), comparator_noise=0.4, offset=1.5)
        setting = Setting(scheme="diff", adc=Adc(bits=p.adc_bits), effects=effects)
        macros = {n: build(p, setting.adc, np.zeros((p.rows, p.cols), np.int64), effects, tile=n) for n in range(p.tiles)}
        bench.shell.image(0)
        bench.shell.macros(macro_tables(Path(folder) / "references", macros))
        asked = {"trims": 0, "log2": 3, "pedestal": 8, "adc_bits": p.adc_bits}
        for name, value in asked.items():
            await bench.host.write(f"MACHINE_{name.upper()}", value)
        for limit in (0, 12):
            await bench.host.write("MACHINE_LIMIT", limit)
            found = {n: offsets(macro, pedestal=8, log2=3, limit=limit) for n, macro in macros.items()}
            fails = any(f.failed.any() for f in found.values())
            assert await bench.host.run(CALIBRATE) == ((ERROR, Error.CALIBRATION) if fails else (DONE, 0)), limit
            assert fails == (limit == 0)
        network, words = random_network(rng, p, "diff")
        corrected = dataclasses.replace(setting, corrections={n: Correction(offset=f.numbers) for n, f in found.items()})
        await bench.runs(corrected, network, words, image=3, time_inner=True)


@cocotb.test(timeout_time=40, timeout_unit="ms")
async def computes_with_written_cells(dut: Any) -> None:
    """Cells that jobs of the host wrote are golden's, pulse by pulse, and a layer on them is, too; a start waits for a job."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(dut, p, rng, Path(folder))
        host, shell = bench.host, bench.shell
        await host.begin()
        setting = Setting(scheme="diff", adc=Adc(bits=p.adc_bits), effects=Effects(
            seed=rng.getrandbits(62), comparator_noise=0.4, verify_noise=0.02))
        network, words = random_network(rng, p, "diff")
        while network.layers[0].readout or readings(p, network) > 800:
            network, words = random_network(rng, p, "diff")
        (entry,) = place(network, p, setting)
        r, c = rng.randrange(len(entry.macros)), rng.randrange(len(entry.macros[0]))
        cells = Cells(rewritten(entry.macros[r][c], np.zeros((p.rows, p.cols), np.int64)), QUICK.response)
        settings = QUICK.settings(p.cell_bits, patience=20, t_guard=rng.randint(0, 3))
        for name, value in write_words(dataclasses.asdict(settings), p.cell_bits).items():
            await host.write(name, value)
        shell.clear()
        rows = rng.sample(range(p.rows), 2)
        jobs = [job for job in row_jobs(np.asarray(entry.mapped.cells(p, r, c))) if job.row in rows]
        read = dataclasses.replace(jobs[0], op=Op.READ)
        await bench.writes(cells, settings, [*jobs, read, dataclasses.replace(jobs[0], row=jobs[1].row, op=Op.TEST)])
        report = shell.report().check(complete=False)
        assert report.actions == report.actions_expected > 0
        assert await host.read("PULSES") + await host.read("READS") == report.actions
        macros = [[written(cells) if (r, c) == (n, k) else macro for k, macro in enumerate(row)]
                  for n, row in enumerate(entry.macros)]
        placed = (dataclasses.replace(entry, macros=tuple(map(tuple, macros))),)
        await bench.runs(setting, network, words, image=5, time_inner=True, placed=placed)
        await RisingEdge(dut.aclk)
        trace, outcome = told(cells, settings, read)
        shell.actions(actions(bench.folder / "actions", [(cells.macro.tile, trace)], p.cols))
        crossbar, tile = divmod(cells.macro.tile, p.tiles)
        await host.send(Target.JOB, tile, job_words(p, crossbar=crossbar, **dataclasses.asdict(read)))
        assert await host.run() == (DONE, 0)
        assert host.answers == [ending(p, outcome)]
        shell.report().check(complete=False)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def refuses_jobs(dut: Any) -> None:
    """Cells that fail, jobs that do not exist and comparisons without an answer end in their codes, and the next job works; a
    packet of another length, or for no tile, fails the next start.
    """
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(dut, p, rng, Path(folder))
        host, shell = bench.host, bench.shell
        await host.begin()
        settings = QUICK.settings(p.cell_bits, patience=20)
        for name, value in write_words(dataclasses.asdict(settings), p.cell_bits).items():
            await host.write(name, value)
        shell.clear()
        crossbar, tile = rng.randrange(p.crossbars), rng.randrange(p.tiles)
        empty = build(p, Adc(bits=p.adc_bits), np.zeros((p.rows, p.cols), np.int64), Effects(), tile=crossbar * p.tiles + tile)
        cells = Cells(empty, QUICK.response)
        wrong = Job(op=Op.TEST, row=1, levels=(3,) * p.cols, mask=5)
        right = dataclasses.replace(wrong, levels=(0,) * p.cols)
        outcomes = await bench.writes(cells, settings, [right, wrong, right, dataclasses.replace(wrong, op=6), right])
        assert [outcome.error for outcome in outcomes] == [0, 1, 0, 2, 0] and outcomes[1].mask == 5
        packet = job_words(p, crossbar=crossbar, **dataclasses.asdict(right))
        for head in (packet[0] | p.rows << 8, packet[0] & 0xFFFF | p.crossbars << 16):
            await host.send(Target.JOB, tile, [head, *packet[1:]])
            assert (await host.receive())[0] == WriteError.SETTINGS
            assert (await host.read("STATUS"), await host.read("ERROR")) == (ERROR, Error.SETTINGS)
        await host.send(Target.JOB, tile, packet)
        assert (await host.receive())[0] == WriteError.SILENT
        assert (await host.read("STATUS"), await host.read("ERROR")) == (ERROR, Error.SILENT)
        assert {*shell.report().errors} == {"another comparison"}
        shell.clear()
        for target, given in ((tile, packet[:-1]), (tile, [*packet, 0, 0]), (p.tiles, packet)):
            await host.send(Target.JOB, target, given)
            assert await host.run(CALIBRATE) == (ERROR, Error.PACKET)
        await bench.writes(cells, settings, [right])
        shell.report().check(complete=False)
        assert not host.answers


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def stops_with_an_error(dut: Any) -> None:
    """Fields beyond the build, packets that are malformed or do not end, and a core in which nothing happens end in an error
    code; the next layer runs.
    """
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(dut, p, rng, Path(folder))
        await bench.host.begin()
        network, words = random_network(rng, p, "diff")
        setting = Setting(scheme="diff", adc=Adc(bits=p.adc_bits))
        program = await bench.runs(setting, network, words, image=0, time_inner=True)
        for wrong in ({"CHANNELS": p.channels + 1}, {"CHANNELS": 0}, {"STEPS": 0}, {"BITS": p.input_bits + 1},
                      {"CROSSBAR": p.crossbars}, {"ONCE": 1, "PER_STEP": 1, "STEPS": 1},
                      {"ONCE": 1, "PER_STEP": 0, "STEPS": p.input_bits + 1}, {"IN_SHIFT": 1}, {"IN_SPAN": 1}, {"FACTOR": 1}):
            before = {name: await bench.host.read(f"LAYER_{name}") for name in wrong}
            for name, value in wrong.items():
                await bench.host.write(f"LAYER_{name}", value)
            assert await bench.host.run() == (ERROR, Error.SETTINGS), wrong
            for name, value in before.items():
                await bench.host.write(f"LAYER_{name}", value)
        await bench.host.write("PLACE_0", 32 | p.weight_bits)
        assert await bench.host.run() == (ERROR, Error.SETTINGS)
        await bench.host.write("MACHINE_PATIENCE", 40)
        await bench.host.push([Target.BIAS], last=False)
        for _ in range(2):
            assert await bench.host.run() == (ERROR, Error.STALLED)
        await bench.host.push([1, 2])
        for packet in ([Target.READ_0, 1, 2], [Target.BIAS | p.channels << 4, 1]):
            await bench.host.push(packet)
            assert await bench.host.run(CALIBRATE) == (ERROR, Error.PACKET), packet
        await bench.host.load(program)
        await bench.host.write("MACHINE_PATIENCE", 2)
        assert await bench.host.run() == (ERROR, Error.STALLED)
        await bench.host.write("MACHINE_HOLD", 1)
        await bench.host.write("MACHINE_PATIENCE", 0)
        assert await bench.host.run() == (ERROR, Error.DROOP)
        await bench.runs(setting, network, words, image=1, time_inner=True)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def starts_behind_a_packet(dut: Any) -> None:
    """A start waits for the end of the packet that is under way, and nothing of it is lost."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(dut, p, rng, Path(folder))
        await bench.host.begin()
        for image in range(2):
            network, words = random_network(rng, p, "diff", numbers=False)
            while network.steps * words["input.0"][0].size < 40:
                network, words = random_network(rng, p, "diff", numbers=False)
            await bench.runs(Setting(scheme="diff", adc=Adc(bits=p.adc_bits)), network, words, image=image, time_inner=True,
                             late=True)
