"""Core against golden on the macro shell: random layers of all kinds, stalls, both orders of time, early exit, errors."""

import dataclasses
import random
import tempfile
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import IMC_PRESETS, SCHEMES, Error, ImcArch
from golden.imc.calibrator import gains, offsets, trims
from golden.imc.correction import Correction
from golden.imc.early_exit import early_exit, sums_by_step
from golden.imc.macro import Adc, Effects, build
from golden.imc.run import Placed, Setting, inputs, place, run
from golden.network import Input, Layer, Network, Pass, spike_planes
from golden.run import LayerTrace, unpack
from hdl.imc.activation import pack, split
from hdl.imc.activation import unpack as unpack_map
from hdl.imc.host_port import Target
from hdl.imc.imc import Imc
from hdl.imc.program import LayerProgram, programs
from hdl.imc.register_map import verdict
from verif.imc.host import CALIBRATE, DONE, ERROR, START, Host
from verif.imc.macro_shell import SOURCES, MacroShell, layer_phases, macro_tables, values, verilog
from verif.imc.networks import random_network
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import stalls

TINY = dataclasses.replace(IMC_PRESETS["tiny-ci"], channels=16, membranes=1024)
ARCHS = {
    "one tile": TINY,
    "two trees of two tiles": dataclasses.replace(TINY, rows=8, cols=16, tiles=4, fan_in=2, channels=64, input_bits=4),
    "three words a line": dataclasses.replace(TINY, rows=64, group_rows=16, adc_bits=6, tiles=2, channels=32),
}


@pytest.mark.parametrize("name", ARCHS)
def test_core(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    p = ARCHS[name]
    simulate(Imc(p), __name__, parameters=dataclasses.asdict(p), more=[verilog(p)], cpp=SOURCES)


@pytest.mark.parametrize(("old", "new", "bench"), [
    pytest.param("self.m_axis_tlast.eq(core.answer.p.last)", "self.m_axis_tlast.eq(1)", "calibrates",
                 id="packets of single words"),
    pytest.param("core.host.p.word.eq(self.s_axis_tdata)", "core.host.p.word.eq(self.s_axis_tdata ^ 256)", "calibrates",
                 id="other words"),
    pytest.param('"misfit", "changed"', '"misfit"', "stops_with", id="addresses of the layer before"),
])
def test_mutants_are_caught(old: str, new: str, bench: str) -> None:
    """A top that is joined in another way is caught."""
    simulate(mutant(Imc, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), more=[verilog(TINY)], cpp=SOURCES,
             test_filter=bench, expect_failure=True)


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
                   late: bool = False, gain: bool = False,
                   placed: tuple[Placed, ...] | None = None) -> LayerProgram:
        """Run a layer, compare it with golden, return its program.

        late : it is started while its operand comes; placed : its crossbars as they are, None: as they ought to be
        """
        p, host, shell = self.p, self.host, self.shell
        placed = placed or place(network, p, setting)
        (program,) = programs(p, network, placed, flash=False, adc_bits=setting.adc.bits, skip=setting.skip,
                              gain=gain, time_inner=time_inner)
        layer, packed = network.layers[0], self.prepare(setting, network, words, placed[0], image)
        await host.load(program)
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

    def prepare(self, setting: Setting, network: Network, words: dict[str, Any], entry: Placed, image: int) -> Any:
        """Tell the macros what they will see of an image; return the words of its operand."""
        p, shell = self.p, self.shell
        shell.context(entry.mapped.operand.bits, p.rows // p.group_rows)
        shell.image(image)
        shell.macros(macro_tables(self.folder / "macros", {m.tile: m for row in entry.macros for m in row}))
        seen = [found for step, x in enumerate(inputs(entry, words, network.steps))
                for found in layer_phases(p, entry, x, step, setting.skip)]
        shell.values(values(self.folder / "values", seen))
        shell.clear()
        return pack(split(words["input.0"], len(network.layers[0].passes[0].planes)), p.rows).ravel()

    async def stops(self, setting: Setting, network: Network, words: dict[str, Any], *, image: int, near: int) -> LayerProgram:
        """Run a read-out step after step until the core says stop, compare it with golden, return its program.

        near : the step, from 0, whose margin the threshold is; beyond the last one all steps are run
        """
        p, host = self.p, self.host
        placed = place(network, p, setting)
        sums = sums_by_step(run(network, p, setting, words, image=image, placed=placed))
        threshold = int(early_exit(sums, 0).margins[near]) // (near + 1) if near < network.steps else (1 << 31) - 1
        exits = early_exit(sums, threshold)
        (program,) = programs(p, network, placed, flash=False, adc_bits=setting.adc.bits, exit_margin=threshold)
        await host.send(Target.MAP_0, 0, self.prepare(setting, network, words, placed[0], image))
        for t in range(int(exits.steps)):
            part = program.only(t)
            assert part is not None
            await host.load(part)
            assert await host.run() == (DONE, 0), (image, t)
            told = verdict(await host.read("EXIT_VERDICT")) | {"margin": await host.read("EXIT_MARGIN")}
            assert told == {"valid": 1, "stop": int(t + 1 == exits.steps), "step": t + 1, "channel": int(exits.labels[t]),
                            "margin": int(exits.margins[t])}, (sums, threshold)
            for _ in range(20):
                await RisingEdge(self.dut.aclk)
            assert sorted(host.answers) == [[c, value & 0xFFFF_FFFF] for c, value in enumerate(sums[t].tolist())]
            host.answers.clear()
        self.shell.report().check(complete=int(exits.steps) == network.steps)
        return program


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


def classifier(rng: random.Random, p: ImcArch) -> tuple[Network, dict[str, Any]]:
    """Return a read-out of spikes, a sum a class and step, and the words of its operand."""
    steps, classes, channels = rng.randint(2, 4), rng.randint(2, 6), rng.choice((3, p.rows + 5))
    weight = np.asarray([rng.randint(-7, 7) for _ in range(classes * channels * 4)]).reshape(classes, channels, 2, 2)
    layer = Layer(name="layer", bias=np.asarray([rng.randint(-9, 9) for _ in range(classes)]), readout=True, passes=(
        Pass(source="input.0", weight=weight, stride=1, padding=0, planes=spike_planes(steps)),))
    network = Network(name="classifier", steps=steps, layers=(layer,), input=Input(
        kind="steps", channels=channels, height=2, width=2, bits=1, scale=1.0, plane_bits=1))
    return network, {"input.0": np.asarray([rng.getrandbits(steps) for _ in range(channels * 4)]).reshape(channels, 2, 2)}


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def exits_early(dut: Any) -> None:
    """Images one after the other stop where golden does, with its sums so far and its verdict on every step; what is not the
    next step of an image, or has no margin, is refused.
    """
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(dut, p, rng, Path(folder))
        await bench.host.begin()
        effects = Effects(seed=rng.getrandbits(62), comparator_noise=0.4, read_noise=0.3)
        setting = Setting(scheme="diff", adc=Adc(bits=p.adc_bits), effects=effects)
        for image, near in enumerate((0, 9, 1, 0)):
            program = await bench.stops(setting, *classifier(rng, p), image=image, near=near)
        before = program.only(0)
        assert before is not None
        for wrong in ({"EXIT_STEPS": 1, "LAYER_FRESH": 0, "LAYER_FIRST_STEP": 1}, {"EXIT_STEPS": p.t_max + 1},
                      {"LAYER_STEPS": 2}, {"LAYER_CHANNELS": 1}, {"LAYER_OUT_HEIGHT": 2}, {"LAYER_OUT_WIDTH": 2},
                      {"LAYER_FIRST_STEP": 1}, {"LAYER_FRESH": 0}, {"LAYER_FRESH": 0, "LAYER_FIRST_STEP": 1}):
            for name, value in (before.registers | wrong).items():
                await bench.host.write(name, value)
            assert await bench.host.run() == (ERROR, Error.SETTINGS), wrong
        await bench.stops(setting, *classifier(rng, p), image=4, near=1)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def calibrates(dut: Any) -> None:
    """All tiles find the trim codes, offsets and gains that golden finds, and the next layer is corrected by them; beyond the
    limit is an error.
    """
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    tiles, lines = range(p.tiles), (np.arange(p.rows) < p.group_rows).astype(np.int64)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(dut, p, rng, Path(folder))
        await bench.host.begin()
        effects = Effects(seed=rng.getrandbits(62), comparator_noise=0.4, offset=1.5, drift_time=300, drift=0.05)
        setting = Setting(scheme="diff", adc=Adc(bits=p.adc_bits), effects=effects)
        references = {n: build(p, setting.adc, np.zeros((p.rows, p.cols), np.int64), effects, tile=n) for n in tiles}
        cells = np.asarray([[rng.randrange(1 << p.cell_bits) for _ in range(p.cols)] for _ in range(p.rows)])
        columns = {n: build(p, setting.adc, cells, effects, tile=p.tiles + n, bank=n) for n in tiles}
        wanted = np.minimum(build(p, setting.adc, cells).convert(lines), (1 << p.adc_bits) - 1)
        bench.shell.context(1, 1)
        bench.shell.image(0)
        bench.shell.macros(macro_tables(Path(folder) / "references", references | {p.tiles + n: columns[n] for n in tiles}))
        phases = np.arange(p.mux << 3)
        bench.shell.values(values(Path(folder) / "columns", [
            (p.tiles + n, columns[n], phases, np.broadcast_to(lines, (len(phases), p.rows))) for n in tiles]))
        bench.shell.clear()
        await bench.host.write("LAYER_CROSSBAR", 1)
        for n in tiles:
            for adc in range(p.adcs):
                await bench.host.send(Target.TILE, n | 3 << 6 | adc << 8, wanted[adc * p.mux : (adc + 1) * p.mux].tolist())
        for name, value in {"LOG2": 3, "PEDESTAL": 8, "ADC_BITS": p.adc_bits, "GROUPS": p.rows // p.group_rows,
                            "GROUP_LOG2": p.group_rows.bit_length() - 1}.items():
            await bench.host.write(f"MACHINE_{name}", value)
        trim: dict[int, Any] = {}
        moved: dict[int, Any] = {}
        most = (1 << p.gain_bits) - 1
        for way, limit in (("trims", 63), ("offsets", 0), ("offsets", 12), ("gains", most)):
            for name, value in (("TRIMS", way == "trims"), ("GAINS", way == "gains"), ("LIMIT", limit)):
                await bench.host.write(f"MACHINE_{name}", int(value))
            found = {n: trims(references[n], pedestal=8, log2=3, limit=limit) if way == "trims"
                     else offsets(references[n], pedestal=8, log2=3, limit=limit, trim=trim[n]) if way == "offsets"
                     else gains(columns[n], lines=lines, reference=wanted, log2=3, limit=limit, trim=trim[n], offset=moved[n])
                     for n in tiles}
            fails = any(f.failed.any() for f in found.values())
            assert await bench.host.run(CALIBRATE) == ((ERROR, Error.CALIBRATION) if fails else (DONE, 0)), way
            trim = {n: f.numbers for n, f in found.items()} if way == "trims" else trim
            moved = {n: f.numbers for n, f in found.items()} if way == "offsets" else moved
        bench.shell.report().check()
        network, words = random_network(rng, p, "diff")
        corrected = dataclasses.replace(setting, trims=trim, corrections={
            n: Correction(offset=moved[n], gain=f.numbers) for n, f in found.items()})
        await bench.runs(corrected, network, words, image=3, time_inner=True, gain=True)


# Those of `wrong_machines` that a calibration is refused for as well.
WRONG_CONVERSIONS = 10


def wrong_machines(p: ImcArch) -> list[dict[str, int]]:
    """Return registers of the machine that no build like this has; of conversions first."""
    wrong = [("ADC_BITS", 0), ("ADC_BITS", p.adc_bits + 1), ("ADC_BITS", 15), ("AVERAGE_LOG2", p.average_log2 + 1),
             ("GROUP_LOG2", 15), ("LOG2", 9), ("LOG2", 15), ("PEDESTAL", 1 << p.adc_bits), ("LIMIT", 2047), ("TRIMS", 1),
             ("GROUPS", 0), ("GROUPS", p.rows + 1), ("WIDTH_LOG2", 6), ("ADC_BITS", 16), ("SKIP", 2)]
    return [{f"MACHINE_{name}": value} for name, value in wrong]


def wrong_layers(p: ImcArch) -> list[dict[str, int]]:
    """Return registers that a layer of neurons has not: beyond the build, beyond its memories, wider than they are."""
    lanes, groups, words = p.tiles // p.fan_in, -(-p.channels // p.rows), p.map_words
    wrong: list[dict[str, int]] = [
        {"CHANNELS": p.channels + 1}, {"STEPS": p.t_max + 1}, {"STEPS": 33},
        {"FIRST_STEP": 15, "STEPS": 2}, {"BITS": p.input_bits + 1}, {"CHANNELS": 1 << 13 | 1}, {"CROSSBAR": p.crossbars},
        {"ONCE": 1, "PER_STEP": 1, "STEPS": 1},
        {"ONCE": 1, "PER_STEP": 0, "STEPS": p.input_bits + 1}, {"IN_SHIFT": 1}, {"IN_SPAN": 1}, {"FACTOR": 1},
        {"OUTPUTS": p.outputs("diff") + 1}, {"OUTPUTS": 0}, {"OUT_BASE": words}, {"OUT_PLANE": words, "FIRST_STEP": 1},
        {"OUT_GROUPS": 0}, {"OUT_GROUPS": groups + 1}, {"IN_BASE": words}, {"IN_PLANE": words, "PER_STEP": 1, "ONCE": 0,
                                                                             "FIRST_STEP": 1},
        {"IN_ROW": words, "IN_HEIGHT": 2}, {"IN_GROUPS": 511, "IN_WIDTH": 4095}, {"MEMBRANE": p.membranes},
        {"TIME_INNER": 0, "ONCE": 0, "OUT_HEIGHT": 4095, "OUT_WIDTH": 4095}, {"CHUNKS": p.rows + 1}, {"CHUNK_LOG2": 9},
        {"POOL_MODE": 3}, {"LEAK_SHIFT": 3}, {"LEAK_SHIFT": 2, "DECAY_INPUT": 1}, {"RESET": 3}, {"SCALE": 1, "READOUT": 1},
        {"WORD_BITS": p.word_bits + 1}, {"STRIDE": 15, "POOL_STRIDE": 15, "OUT_HEIGHT": 4095, "OUT_GROUPS": groups},
        {"BLOCKS": 4095}, {"ROUNDS_OUT": 255, "COLUMN_BLOCKS": 255 * lanes, "ROUNDS_IN": 1023, "BLOCKS": 1023 * p.fan_in},
        {"READOUT": 1, "POOL_KERNEL": 2}, {"SHARE_LOG2": 3}, {"SHARE_LOG2": 1, "CHANNELS": 1},
        {"SHARE_LOG2": 2, "CHANNELS": 2}, {"SHARE_LOG2": 1, "CHANNELS": 2, "READOUT": 1},
        {"SHARE_LOG2": 1, "CHANNELS": 2, "SCALE": 1}, {"SHARE_LOG2": 1, "CHANNELS": 2, "ONCE": 1, "PER_STEP": 0, "STEPS": 1}]
    empty = ("CHANNELS", "STEPS", "IN_GROUPS", "IN_HEIGHT", "IN_WIDTH", "CHUNKS", "BLOCKS", "ROUNDS_IN", "ROUNDS_OUT",
             "COLUMN_BLOCKS", "KERNEL_HEIGHT", "KERNEL_WIDTH", "OUT_HEIGHT", "OUT_WIDTH", "POOL_KERNEL", "WORD_BITS")
    return [{f"LAYER_{name}": value for name, value in fields.items()} for fields in (*wrong, *({name: 0} for name in empty))]


async def refuses(bench: Bench, wrong: dict[str, int], command: int = START) -> None:
    """Write registers, see that a command is refused for its settings, and write what was there before."""
    before = {name: await bench.host.read(name) for name in wrong}
    for name, value in wrong.items():
        await bench.host.write(name, value)
    assert await bench.host.run(command) == (ERROR, Error.SETTINGS), wrong
    for name, value in before.items():
        await bench.host.write(name, value)


@cocotb.test(timeout_time=40, timeout_unit="ms")
async def stops_with_an_error(dut: Any) -> None:
    """Fields beyond the build, packets that are malformed or do not end, and a core in which nothing happens end in an error
    code; the next layer runs.
    """
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(dut, p, rng, Path(folder))
        await bench.host.begin()
        network, words = random_network(rng, p, "diff")
        while network.layers[0].neuron is None:
            network, words = random_network(rng, p, "diff")
        setting = Setting(scheme="diff", adc=Adc(bits=p.adc_bits))
        program = await bench.runs(setting, network, words, image=0, time_inner=True)
        for wrong in (*wrong_layers(p), *wrong_machines(p)):
            await refuses(bench, wrong)
        for wrong in wrong_machines(p)[:WRONG_CONVERSIONS]:
            await refuses(bench, wrong, CALIBRATE)
        await refuses(bench, {"PLACE_0": 32 | p.weight_bits})
        await bench.host.push([Target.SECOND, *[1 << 21] * program.shape[0]])
        await refuses(bench, {"LAYER_SCALE": 1, "LAYER_WORD_BITS": 1, "LAYER_OUT_BASE": 0, "LAYER_OUT_PLANE": 0})
        await bench.host.write("MACHINE_PATIENCE", 40)
        await bench.host.push([Target.BIAS], last=False)
        for _ in range(2):
            assert await bench.host.run() == (ERROR, Error.STALLED)
        await bench.host.push([1, 2])
        wide = [(0, 1 << p.adc_bits), (0, -1 << p.adc_bits), (1, 1 << p.trim_bits), (1, -1), (2, 2 << p.gain_bits), (3, -1)]
        for packet in ([Target.READ_0, 1, 2], [Target.BIAS | p.channels << 4, 1], *(
                [Target.TILE | what << 10, number & 0xFFFF_FFFF] for what, number in wide)):
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
async def outputs_of_a_lane(dut: Any) -> None:
    """A layer that gives a lane more outputs than it keeps ends with the error of its sums; the next layer runs."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    lanes = p.tiles // p.fan_in
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(dut, p, rng, Path(folder))
        await bench.host.begin()
        network, words = random_network(rng, p, "diff")
        setting = Setting(scheme="diff", adc=Adc(bits=p.adc_bits))
        await bench.runs(setting, network, words, image=0, time_inner=True)
        blocks = -(-p.channels // 3)
        if lanes > 1 and p.outputs("diff") >= 3:
            ones = ("BLOCKS", "ROUNDS_IN", "CHUNKS", "IN_GROUPS", "IN_HEIGHT", "IN_WIDTH", "KERNEL_HEIGHT", "KERNEL_WIDTH",
                    "BITS", "OUT_HEIGHT", "OUT_WIDTH", "POOL_KERNEL", "STEPS", "TIME_INNER", "READOUT")
            zeros = ("POOL_MODE", "SCALE", "ONCE", "PER_STEP", "FIRST_STEP", "CROSSBAR", "IN_BASE", "SHARE_LOG2")
            wide = dict.fromkeys(ones, 1) | dict.fromkeys(zeros, 0) | {
                "CHANNELS": p.channels, "OUTPUTS": 3, "COLUMN_BLOCKS": blocks, "ROUNDS_OUT": -(-blocks // lanes)}
            for name, value in wide.items():
                await bench.host.write(f"LAYER_{name}", value)
            assert await bench.host.run() == (ERROR, Error.SUMS)
            bench.host.answers.clear()
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
