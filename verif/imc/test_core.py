"""Core against golden on the macro shell: random layers of all kinds, stalls, both orders of time, calibration, errors."""

import dataclasses
import random
import tempfile
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge

from golden.imc.arch import IMC_PRESETS, SCHEMES, ImcArch
from golden.imc.macro import Adc, Effects
from golden.imc.run import Setting, inputs, place, run
from golden.network import Network
from golden.run import LayerTrace, unpack
from hdl.imc.activation import pack, split
from hdl.imc.activation import unpack as unpack_map
from hdl.imc.host_port import Target
from hdl.imc.imc import Imc
from hdl.imc.program import LayerProgram, programs
from verif.imc.host import DONE, Host
from verif.imc.macro_shell import SOURCES, MacroShell, layer_phases, macro_tables, values, verilog
from verif.imc.networks import random_network
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


@cocotb.test(timeout_time=80, timeout_unit="ms")
async def matches_golden(dut: Any) -> None:
    """Layers of all kinds equal golden, in both orders of time, with noise."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    host, shell = Host(dut, p, stalls(rng, 0.2)), MacroShell()
    await host.begin()
    with tempfile.TemporaryDirectory() as folder:
        for case in range(12):
            scheme = SCHEMES[case % 4]
            network, words = random_network(rng, p, scheme)
            effects = Effects(seed=rng.getrandbits(62), comparator_noise=0.4, read_noise=0.3) if case % 3 else Effects()
            adc = Adc(bits=p.adc_bits)
            setting = Setting(scheme=scheme, adc=adc, effects=effects, skip=rng.random() < 0.5)
            placed = place(network, p, setting)
            (program,) = programs(p, network, placed, flash=False, adc_bits=adc.bits, skip=setting.skip,
                                  time_inner=case % 2 == 0 or network.layers[0].readout)
            (entry,) = placed
            shell.context(entry.mapped.operand.bits, p.rows // p.group_rows)
            shell.image(case)
            shell.macros(macro_tables(Path(folder) / "macros", {m.tile: m for row in entry.macros for m in row}))
            seen = [found for step, x in enumerate(inputs(entry.mapped, words, network.steps))
                    for found in layer_phases(p, entry, x, step, setting.skip)]
            shell.values(values(Path(folder) / "values", seen))
            shell.clear()
            await host.load(program)
            operand = words["input.0"]
            await host.send(Target.MAP_0, 0, pack(split(operand, len(network.layers[0].passes[0].planes)), p.rows).ravel())
            status, code = await host.run()
            assert (status, code) == (DONE, 0), (case, program.fields, program.machine)
            planes, shape = program.planes, program.shape
            got = None
            if planes:
                count = planes * shape[1] * shape[2] * -(-shape[0] // p.rows)
                got = unpack_map(await host.fetch(1, count), planes, *shape, p.rows)
            for _ in range(20):
                await FallingEdge(dut.aclk)
            layer = network.layers[0]
            shell.report().check(complete=not (layer.or_pool or layer.max_pool or layer.sum_pool))
            trace = run(network, p, setting, words, image=case, placed=placed).layers["layer"]
            check(network, trace, program, got, host.answers)
            host.answers.clear()
