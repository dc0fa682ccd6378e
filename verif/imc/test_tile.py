"""Tile against golden, with Python as the macro: all schemes, all that is not ideal, both converters; noise draw by draw."""

import dataclasses
import itertools
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import IMC_PRESETS, SCHEMES, ImcArch
from golden.imc.calibrator import gains, offsets, trims
from golden.imc.cells import levels
from golden.imc.correction import Correction
from golden.imc.macro import Adc, Effects, Macro, build
from golden.imc.noise import Kind, gaussian
from golden.imc.tile import Program, run_tile
from hdl.imc.settings import Times, tile_settings
from hdl.imc.signed_combine import SignedCombine
from hdl.imc.tile import Tile
from verif.imc.effects import EFFECTS
from verif.imc.geometry import random_weights
from verif.imc.played_macro import PlayedMacro
from verif.layers import start
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, get, put, stalls, watch, word

TINY = IMC_PRESETS["tiny-ci"]
ARCHS = {
    "tiny-ci": TINY,
    "one column per ADC": dataclasses.replace(TINY, mux=1, cols=8, weight_bits=3, input_bits=2),
    "weights that span groups": dataclasses.replace(TINY, cols=32, mux=2, cell_bits=1, weight_bits=5, rows=8, adc_bits=4,
                                                    flash_bits=4, input_bits=1),
    "single levels": dataclasses.replace(TINY, cols=16, mux=8, cell_bits=1, weight_bits=2, rows=12, group_rows=4, adc_bits=3,
                                         flash_bits=3, average_log2=2),
    "deep cells": dataclasses.replace(TINY, cols=12, mux=4, cell_bits=4, weight_bits=6, rows=6, group_rows=2, flash_bits=4,
                                      crossbars=1, input_bits=2, average_log2=1),
    "one group of rows": dataclasses.replace(TINY, rows=16, group_rows=16, mux=4, cols=16, adc_bits=6, flash_bits=6),
}
ALL = list(itertools.product(SCHEMES, EFFECTS, (False, True)))


def configurations(number: int) -> list[tuple[str, str, bool]]:
    """Return (scheme, effect, by flash) that build ``number`` runs: half of all, so that six builds run each three times."""
    return ALL[number % 2::2]


@pytest.mark.parametrize("name", ARCHS)
def test_tile(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog; six builds run 216 configurations."""
    number = list(ARCHS).index(name)
    simulate(Tile(ARCHS[name]), __name__, parameters={"number": number, **dataclasses.asdict(ARCHS[name])})


def test_configurations() -> None:
    """Every scheme meets every effect and both converters in three builds."""
    met = [c for number in range(len(ARCHS)) for c in configurations(number)]
    assert len(met) == 216 and all(met.count(c) == 3 for c in ALL)


@pytest.mark.parametrize(("old", "new", "bench"), [
    pytest.param("Mux(calibrating, count, self.i.p.key)", "count", "matches_golden", id="another key"),
    pytest.param("correction.offset.eq(calibrator.offset)", "correction.offset.eq(0)", "matches_golden", id="no offset"),
    pytest.param("codes.valid & ~calibrator.busy", "codes.valid", "calibrates", id="a calibration gives outputs"),
    pytest.param("gain.valid | (write.valid", "(write.valid", "calibrates", id="gains that are found are lost"),
])
def test_mutants_are_caught(old: str, new: str, bench: str) -> None:
    """Blocks that are joined in another way are caught."""
    outcome = simulate(mutant(Tile, old, new)(TINY), __name__, parameters={"number": 0, "most": 8, **dataclasses.asdict(TINY)},
                       expect_failure=True, test_filter=bench)
    assert any(bench in name for name in outcome.failed), outcome.failed


def draw(rng: random.Random, p: ImcArch, scheme: str, effect: str, by_flash: bool) -> tuple[Adc, Program, Effects]:
    """Return how a tile converts and runs, and its effects with a seed of their own."""
    adc = Adc(flash=by_flash, bits=rng.randint(2, p.flash_bits if by_flash else p.adc_bits),
              average_log2=rng.choice((0, 0, 0, 1, p.average_log2)))
    bits = rng.randint(1, p.input_bits)
    correction = Correction(
        offset=np.asarray([rng.randint(-3, 3) for _ in range(p.adcs)]),
        gain=np.asarray([rng.randrange(2 << p.gain_bits) for _ in range(p.cols)]) if rng.random() < 0.5 else None)
    trim = np.asarray([rng.randrange(1 << p.trim_bits) for _ in range(p.adcs)])
    return adc, Program(scheme=scheme, bits=bits, signed=rng.random() < 0.5, skip=rng.random() < 0.5, correction=correction,
                        trim=trim), Effects(seed=rng.getrandbits(62), **EFFECTS[effect])


async def write(dut: Any, p: ImcArch, what: int, adc: int, column: int, number: int) -> None:
    """Write an offset (0), a trim code (1) or a gain (2)."""
    dut.write.value = word(Tile.write_layout(p), {"valid": 1, "what": what, "adc": adc, "column": column, "number": number})
    await RisingEdge(dut.clk)
    dut.write.value = 0


async def correct(dut: Any, p: ImcArch, program: Program) -> None:
    """Write offsets, trim codes and gains."""
    assert program.correction.offset is not None and program.trim is not None
    for g in range(p.adcs):
        await write(dut, p, 0, g, 0, int(program.correction.offset[g]))
        await write(dut, p, 1, g, 0, int(program.trim[g]))
    for c, gain in enumerate([] if program.correction.gain is None else program.correction.gain):
        await write(dut, p, 2, c // p.mux, c % p.mux, int(gain))


async def begin(dut: Any, p: ImcArch) -> None:
    """Reset."""
    await start(dut, ["i__valid", "o__ready", "settings", "cmp", "cmp_rdy", "calibrate", "write",
                      "grant", *(["therm"] if p.flash_bits else [])])
    dut.rst.value, dut.grant.value = 0, 1
    for name in ("i", "o"):
        cocotb.start_soon(watch(dut, name))


def vector(p: ImcArch, x: Any, crossbar: int, key: int) -> int:
    """Return the payload of a vector."""
    return word(Tile.vector_layout(p), {
        "x": {r: int(v) & (1 << p.input_bits) - 1 for r, v in enumerate(x)}, "crossbar": crossbar, "key": key})


def noise_is_golden(player: PlayedMacro, macros: list[Macro], program: Program, x: Any, keys: list[int]) -> None:
    """Every sampled value and every draw of a comparison equals what the vectorised run draws, and none is missing."""
    p, traces = player.p, [run_tile(macro, program, x, image=player.image, vector=np.asarray(keys)) for macro in macros]
    phases = traces[0].lines.shape[1]
    for (crossbar, phase), values in player.sampled.items():
        assert phase // phases in keys
        macro, n = macros[crossbar], keys.index(phase // phases)
        lines = traces[crossbar].lines[n, phase % phases]
        assert np.array_equal(values, macro.sample(macro.columns(lines), np.arange(p.cols), image=player.image, phase=phase))
    works = sum(int((t.lines[n].sum(axis=1) > 0).sum()) if program.skip else phases
                for n in range(len(keys)) for t in [traces[n % len(macros)]])
    assert len(player.sampled) == works
    macro = macros[0]
    if macro.compare_scale and not macro.adc.flash:
        asked = np.asarray(player.compared)
        assert len(asked) == works * p.cols * macro.adc.bits << macro.adc.average_log2
        together = gaussian(macro.effects.seed, Kind.COMPARE, asked[:, 0], player.image, *asked[:, 1:].T,
                            scale=macro.compare_scale)
        single = [int(gaussian(macro.effects.seed, Kind.COMPARE, c[0], player.image, np.asarray(c[1:2]), *c[2:],
                               scale=macro.compare_scale)[0]) for c in player.compared[::37]]
        assert together[::37].tolist() == single


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def matches_golden(dut: Any) -> None:
    """Outputs of every configuration equal golden; what the macro saw and drew is what golden's macro draws."""
    parameters = parameters_of_bench()
    number, most = parameters.pop("number"), parameters.pop("most", None)
    p, rng = ImcArch(**parameters), random.Random(cocotb.RANDOM_SEED)
    await begin(dut, p)
    for scheme, effect, by_flash in configurations(number)[:most]:
        adc, program, effects = draw(rng, p, scheme, effect, by_flash)
        weights = [random_weights(rng, p, scheme, full=True) for _ in range(min(2, p.crossbars))]
        macros = [build(p, adc, levels(p, scheme, w), effects, tile=n) for n, w in enumerate(weights)]
        low, high = (-(1 << program.bits - 1), (1 << program.bits - 1) - 1) if program.signed else (0, (1 << program.bits) - 1)
        x = np.asarray([[rng.choice((0, 0, low, high, rng.randint(low, high))) for _ in range(p.rows)] for _ in range(3)])
        x[rng.randrange(3)] = rng.choice((0, high))
        outputs, keys = rng.randint(1, p.outputs(scheme)), rng.sample(range(50), 3)
        times = Times(t_flash=rng.randint(1, 2), **{
            name: rng.randint(0, 3) for name in ("t_pre", "t_settle", "t_guard", "t_mux", "t_dac")})
        settings = tile_settings(p, scheme, bits=program.bits, signed=program.signed, skip=program.skip, flash=by_flash,
                                 adc_bits=adc.bits, average_log2=adc.average_log2, outputs=outputs,
                                 gain=program.correction.gain is not None, times=times)
        dut.settings.value = word(Tile.settings_layout(p), settings)
        await correct(dut, p, program)
        player = PlayedMacro(p, dict(enumerate(macros)), image=rng.randrange(9), late=rng.choice((0, 2)))
        server = cocotb.start_soon(player.serve(dut))
        chosen = [n % len(macros) for n in range(3)]
        sender = cocotb.start_soon(put(dut, "i", [vector(p, *entry) for entry in zip(x, chosen, keys, strict=True)]))
        got = await get(dut, "o", 3 * outputs, stalls(rng, rng.choice((0.0, 0.5, 0.97))))
        await sender
        sums = [SignedCombine.sums_layout(p).from_bits(value) for value in got]
        where = f"{scheme}, {effect}, {'flash' if by_flash else 'SAR'}, {adc}, {program}, seed {cocotb.RANDOM_SEED}"
        wanted = [run_tile(macros[c], program, x[n:n + 1], image=player.image, vector=keys[n]).y[0, :outputs].tolist()
                  for n, c in enumerate(chosen)]
        assert [int(s.y) for s in sums] == list(itertools.chain(*wanted)), where
        assert [int(s.last) for s in sums] == [int(n % outputs == outputs - 1) for n in range(3 * outputs)]
        assert player.errors == []
        noise_is_golden(player, macros, program, x, keys)
        server.cancel()
        while dut.busy.value:
            await RisingEdge(dut.clk)


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(mode=["zero", "pedestal", "trim", "gain"])
async def calibrates(dut: Any, mode: str) -> None:
    """Offsets, trim codes and gains equal golden's, failures are told, and the next vector is corrected by what was found."""
    parameters = parameters_of_bench()
    p = ImcArch(**{name: value for name, value in parameters.items() if name not in ("number", "most")})
    rng = random.Random(cocotb.RANDOM_SEED)
    await begin(dut, p)
    scheme = rng.choice(SCHEMES)
    adc = Adc(bits=p.adc_bits)
    weight = random_weights(rng, p, scheme, full=True)
    effects = Effects(seed=rng.getrandbits(62), offset=1.5, comparator_noise=0.4, trim_step=0.25,
                      **({"drift": 0.06, "drift_time": 200} if mode == "gain" else {}))
    macro = build(p, adc, levels(p, scheme, weight), effects)
    log2, limit, pedestal = rng.randint(0, 3), rng.randint(0, 2), 0 if mode == "zero" else rng.randint(2, 6)
    lines, wanted_codes = np.arange(p.rows) < p.group_rows, np.zeros(p.cols, np.int64)
    if mode == "gain":
        limit = 120
        wanted_codes = build(p, adc, levels(p, scheme, weight)).convert(lines.astype(np.int64))
        found = gains(macro, lines=lines.astype(np.int64), reference=wanted_codes, log2=log2, limit=limit,
                      phases=p.rows // p.group_rows)
        found = dataclasses.replace(found, failed=found.failed.reshape(p.adcs, p.mux).any(axis=1))
    else:
        found = (trims if mode == "trim" else offsets)(macro, pedestal=pedestal, log2=log2, limit=limit)
    settings = tile_settings(p, scheme, adc_bits=adc.bits, gain=mode == "gain") | {
        "trims": mode == "trim", "gains": mode == "gain", "log2": log2, "pedestal": pedestal, "limit": limit}
    dut.settings.value = word(Tile.settings_layout(p), settings)
    player = PlayedMacro(p, {0: macro})
    cocotb.start_soon(player.serve(dut))
    program = Program(scheme=scheme)
    x = np.asarray([[rng.randrange(2) for _ in range(p.rows)] for _ in range(2)])
    for column, code in enumerate(wanted_codes.tolist()):
        for what, number in ((2, 1 << p.gain_bits), (3, code)):
            dut.write.value = word(Tile.write_layout(p), {
                "valid": 1, "what": what, "adc": column // p.mux, "column": column % p.mux, "number": number})
            await RisingEdge(dut.clk)
    dut.write.value = 0
    first = cocotb.start_soon(put(dut, "i", [vector(p, x[0], 0, 0)]))
    getter = cocotb.start_soon(get(dut, "o", 2 * p.outputs(scheme), NEVER))
    await first
    dut.calibrate.value = 1
    await RisingEdge(dut.clk)
    dut.calibrate.value = 0
    while not dut.calibrated.value:
        await FallingEdge(dut.clk)
    await RisingEdge(dut.clk)
    await FallingEdge(dut.clk)
    assert [int(dut.failed.value) >> g & 1 for g in range(p.adcs)] == found.failed.astype(int).tolist()
    await RisingEdge(dut.clk)
    await put(dut, "i", [vector(p, x[1], 0, 7)])
    got = [int(SignedCombine.sums_layout(p).from_bits(value).y) for value in await getter]
    after = dataclasses.replace(program, **({"trim": found.numbers} if mode == "trim" else {
        "correction": Correction(gain=found.numbers) if mode == "gain" else Correction(offset=found.numbers)}))
    wanted = [run_tile(macro, program, x[:1]).y[0], run_tile(macro, after, x[1:], vector=7).y[0]]
    assert got == np.concatenate(wanted).tolist()
    assert player.errors == []
