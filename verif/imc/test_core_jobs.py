"""Jobs of the host on a core: cells that they write compute as golden's do; wrong jobs end in codes, and the next one works."""

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

from golden.imc.arch import Error, ImcArch, Op, WriteError
from golden.imc.devices import DEVICES, Cells
from golden.imc.host_port import host_port
from golden.imc.job_port import ending, job_port
from golden.imc.macro import Adc, Effects, build, rewritten
from golden.imc.pulse_sweep import Sweep
from golden.imc.run import Setting, place
from golden.imc.writable_tile import row_jobs, written
from golden.imc.write_verify import Job, Outcome, Settings
from hdl.imc.host_port import Target
from hdl.imc.imc import Imc
from hdl.imc.write_job import OF_JOB
from hdl.imc.write_program import job_words, write_packets
from hdl.imc.write_registers import write_words
from verif.imc.host import CALIBRATE, DONE, ERROR
from verif.imc.macro_shell import SOURCES, actions, told, verilog
from verif.imc.networks import random_network, readings
from verif.imc.test_core import ARCHS, Bench
from verif.sim import parameters_of_bench, simulate

# RRAM whose pulses take a cycle, and as many of them.
RRAM = DEVICES["rram"]
QUICK = dataclasses.replace(
    RRAM, response=dataclasses.replace(RRAM.response, nominal=1),
    **{name: dataclasses.replace(getattr(RRAM, name), width=Sweep(start=1, stop=1), exponent=0) for name in ("set", "reset")})


@pytest.mark.parametrize("name", ARCHS)
def test_core_jobs(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    p = ARCHS[name]
    simulate(Imc(p), __name__, parameters=dataclasses.asdict(p), more=[verilog(p)], cpp=SOURCES)


def test_packets_of_a_network(seed: int) -> None:
    """What the host sends to write a network is, in golden, a job for every row, with the levels of its crossbar."""
    p, rng = ARCHS["two trees of two tiles"], random.Random(seed)
    network, _ = random_network(rng, p, "diff")
    placed = place(network, p, Setting(scheme="diff", adc=Adc(bits=p.adc_bits)))
    found: dict[int, list[Job]] = {}
    for head, *words in write_packets(p, placed):
        (tile, packet), given = host_port(p, [head, *words], ()).job or (0, ()), job_port(p, words)
        assert given is not None and packet == tuple(words)
        found.setdefault(given[0] * p.tiles + tile, []).append(given[1])
    wanted = {macro.tile: list(row_jobs(entry.mapped.cells(p, r, c))) for entry in placed
              for r, row in enumerate(entry.macros) for c, macro in enumerate(row)}
    assert found == wanted


async def writes(bench: Bench, cells: Cells, settings: Settings, jobs: Sequence[Job]) -> list[Outcome]:
    """Write a crossbar by jobs, and compare what they do and how they end with golden; a failed one raises its error."""
    p, host, (crossbar, tile) = bench.p, bench.host, divmod(cells.macro.tile, bench.p.tiles)
    traces = [told(cells, settings, job) for job in jobs]
    bench.shell.actions(actions(bench.folder / "actions", [(cells.macro.tile, trace) for trace, _ in traces], p.cols))
    for job, (_, outcome) in zip(jobs, traces, strict=True):
        await host.write("STATUS", DONE | ERROR)
        await host.send(Target.JOB, tile, job_words(p, crossbar=crossbar, **dataclasses.asdict(job)))
        assert await host.receive() == ending(p, outcome)
        assert await host.read("STATUS") == (ERROR if outcome.error else 0)
        assert not outcome.error or await host.read("ERROR") == OF_JOB[outcome.error]
    return [outcome for _, outcome in traces]


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
        await writes(bench, cells, settings, [*jobs, read, dataclasses.replace(jobs[0], row=jobs[1].row, op=Op.TEST)])
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
        outcomes = await writes(bench, cells, settings, [right, wrong, right, dataclasses.replace(wrong, op=6), right])
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
        await writes(bench, cells, settings, [right])
        shell.report().check(complete=False)
        assert not host.answers
