"""Calibration against golden on golden's macros: offsets of both signs, trim codes, gains, failures, what the host writes."""

import dataclasses
import random
from itertools import pairwise
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import IMC_PRESETS, ImcArch
from golden.imc.calibrator import Calibrated, gains, offsets, trims
from golden.imc.correction import Correction, correct
from golden.imc.macro import Adc, Effects, Macro, build, convert
from hdl.imc.calibrator import Calibrator
from verif.layers import start
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import cycle, word

TINY = IMC_PRESETS["tiny-ci"]
ARCHS = {"tiny-ci": TINY, "wide codes, one column per ADC": dataclasses.replace(TINY, mux=1, adc_bits=8, trim_bits=8)}


@pytest.mark.parametrize("name", ARCHS)
def test_calibrator(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Calibrator(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("((1 << counted) >> 1)", "0", id="rounds down"),
    pytest.param("Mux(twice >= 0, trim,", "Mux(twice > 0, trim,", id="a balanced bit falls"),
    pytest.param("Mux(beyond < 0, -beyond, beyond) >", "beyond >", id="negative offsets never fail"),
    pytest.param("(settings.pedestal << 1) - settings.trims", "settings.pedestal << 1", id="a search between no codes"),
    pytest.param("+ (measured >> 1)", "", id="a gain rounds down"),
    pytest.param("(column == self.gain.column)", "(column != self.gain.column)", id="gains of other columns"),
    pytest.param("Mux(settings.gains, self.offset[g], 0)", "0", id="gains with the offset in them"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Rounding, searches, limits and what is measured, where they are wrong, are caught."""
    simulate(mutant(Calibrator, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True)


def test_gains_undo_drift(seed: int) -> None:
    """A crossbar that lost a tenth to a third of its conductance gives its old codes again, every one."""
    p = IMC_PRESETS["spikesim"]
    levels = np.random.default_rng(seed).integers(0, 2, (p.rows, p.cols))
    lines = np.ones(p.rows, np.int64)
    young, old = (build(p, Adc(bits=7), levels, Effects(seed=seed, drift=0.06, drift_time=time)) for time in (1, 200))
    wanted, drifted = young.convert(lines), old.convert(lines)
    found = gains(old, lines=lines, reference=wanted, log2=2, limit=128)
    assert not found.failed.any() and np.abs(drifted - wanted).max() >= 5
    assert np.abs(correct(p, Correction(gain=found.numbers), drifted) - wanted).max() == 0
    assert gains(old, lines=lines, reference=wanted, log2=2, limit=60).failed.any()


async def serve(dut: Any, p: ImcArch, macro: Macro, rng: random.Random, lines: Any = None) -> None:
    """Take phases and give the codes of the macro to the reference, or word lines, and trim codes that the block shows."""
    column, phase = np.arange(p.cols), 0
    while True:
        await FallingEdge(dut.clk)
        if not dut.phase.value:
            await RisingEdge(dut.clk)
            continue
        assert dut.ref_on.value == (lines is None)
        trim = np.asarray([int(dut.trim.value) >> p.trim_bits * g & (1 << p.trim_bits) - 1 for g in range(p.adcs)])
        shown = np.full(p.cols, int(dut.ref_level.value) * macro.step >> 1) if lines is None else macro.columns(lines)
        value = macro.sample(shown, column, phase=phase)
        codes = convert(macro, value, column, phase=phase, trim=trim)
        dut.taken.value = 1
        await RisingEdge(dut.clk)
        dut.taken.value = 0
        for m in range(p.mux):
            for _ in range(rng.choice((0, 0, 3))):
                await RisingEdge(dut.clk)
            dut.valid.value, dut.last.value = 1, m == p.mux - 1
            dut.codes.value = sum(int(codes[g * p.mux + m]) << p.adc_bits * g for g in range(p.adcs))
            await RisingEdge(dut.clk)
            dut.valid.value = 0
        phase += 1


def numbers(dut: Any, p: ImcArch, what: str) -> list[int]:
    """Return the offsets or the trim codes."""
    width, value = (p.adc_bits + 1, int(dut.offset.value)) if what == "offset" else (p.trim_bits, int(dut.trim.value))
    parts = [value >> width * g & (1 << width) - 1 for g in range(p.adcs)]
    return [part - (part >> width - 1 << width) for part in parts] if what == "offset" else parts


@cocotb.test(timeout_time=3, timeout_unit="ms")
@cocotb.parametrize(search=[False, True])
async def matches_golden(dut: Any, search: bool) -> None:
    """What is found and what has failed equals golden, the other numbers stay, the host writes both."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    await start(dut, ["start", "taken", "valid", "write", "settings", "last"])
    dut.rst.value = 0
    assert numbers(dut, p, "trim") == [1 << p.trim_bits - 1] * p.adcs
    for number in range(6):
        effects = Effects(seed=rng.getrandbits(62), offset=(0, 1.5, 3)[number % 3], comparator_noise=(0.0, 0.5)[number % 2],
                          trim_step=0.25)
        macro = build(p, Adc(bits=p.adc_bits), np.zeros((p.rows, p.cols), np.int64), effects)
        log2, limit, pedestal = rng.randint(0, 4), rng.randint(0, 3), rng.randint(2, 8) if search else rng.choice((0, 3, 8))
        dut.settings.value = word(Calibrator.settings_layout(p), {
            "trims": search, "log2": log2, "pedestal": pedestal, "limit": limit})
        kept = [rng.randrange(1 << p.trim_bits) for _ in range(p.adcs)], [rng.randint(-9, 9) for _ in range(p.adcs)]
        for g, pair in enumerate(zip(*kept, strict=True)):
            for trim, value in zip((1, 0), pair, strict=True):
                dut.write.value, dut.write_adc.value, dut.write_trims.value, dut.write_number.value = 1, g, trim, value
                await RisingEdge(dut.clk)
        dut.write.value = 0
        found: Calibrated = (trims(macro, pedestal=pedestal, log2=log2, limit=limit) if search else
                             offsets(macro, pedestal=pedestal, log2=log2, limit=limit, trim=np.asarray(kept[0])))
        server = cocotb.start_soon(serve(dut, p, macro, rng))
        dut.start.value = 1
        await RisingEdge(dut.clk)
        dut.start.value = 0
        await FallingEdge(dut.clk)
        assert dut.busy.value
        while not dut.done.value:
            await FallingEdge(dut.clk)
        await RisingEdge(dut.clk)
        await FallingEdge(dut.clk)
        assert not dut.busy.value and not dut.ref_on.value
        assert numbers(dut, p, "trim" if search else "offset") == found.numbers.tolist(), (number, cycle())
        assert numbers(dut, p, "offset" if search else "trim") == kept[search]
        assert [int(dut.failed.value) >> g & 1 for g in range(p.adcs)] == found.failed.astype(int).tolist()
        server.cancel()
        await RisingEdge(dut.clk)


@cocotb.test(timeout_time=8, timeout_unit="ms")
async def gains_match_golden(dut: Any) -> None:
    """Gains of drifted crossbars behind their offsets and what has failed equal golden; offsets and trim codes stay."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    await start(dut, ["start", "taken", "valid", "write", "settings", "last", "wanted_code"])
    dut.rst.value = 0
    digits = p.adc_bits + p.gain_bits + 12
    for number in range(6):
        effects = Effects(seed=rng.getrandbits(62), offset=(0, 1.5, 3)[number % 3], comparator_noise=(0.0, 0.5)[number % 2],
                          drift=0.06, drift_time=200, drift_spread=0.02)
        levels = np.array([[rng.randrange(1 << p.cell_bits) for _ in range(p.cols)] for _ in range(p.rows)])
        macro, ideal = build(p, Adc(bits=p.adc_bits), levels, effects), build(p, Adc(bits=p.adc_bits), levels)
        lines = np.array([int(r < p.group_rows and rng.random() < 0.9) for r in range(p.rows)])
        wanted = ideal.convert(lines) * np.array([rng.random() < 0.8 for _ in range(p.cols)])
        offset = np.array([rng.randint(-4, 4) for _ in range(p.adcs)])
        log2, limit = rng.randint(0, 4), rng.choice((20, 100, (1 << p.gain_bits) - 1))
        dut.settings.value = word(Calibrator.settings_layout(p), {
            "gains": 1, "trims": number % 2, "log2": log2, "limit": limit})
        for g, value in enumerate(offset.tolist()):
            dut.write.value, dut.write_adc.value, dut.write_trims.value, dut.write_number.value = 1, g, 0, value
            await RisingEdge(dut.clk)
        dut.write.value = 0
        for column, code in enumerate(wanted.tolist()):
            dut.wanted_code.value = word(Calibrator.number_layout(p, p.adc_bits), {
                "valid": 1, "adc": column // p.mux, "column": column % p.mux, "number": code})
            await RisingEdge(dut.clk)
        dut.wanted_code.value = 0
        trim = numbers(dut, p, "trim")
        found = gains(macro, lines=lines, reference=wanted, log2=log2, limit=limit, offset=offset, trim=np.asarray(trim))
        server = cocotb.start_soon(serve(dut, p, macro, rng, lines))
        dut.start.value = 1
        await RisingEdge(dut.clk)
        dut.start.value = 0
        got, at = dict[int, int](), list[int]()
        while True:
            await FallingEdge(dut.clk)
            if dut.gain.value:
                gain = Calibrator.number_layout(p, p.gain_bits + 1).from_bits(int(dut.gain.value))
                if gain.valid:
                    got[int(gain.adc) * p.mux + int(gain.column)] = int(gain.number)
                    at.append(cycle())
            if dut.done.value:
                break
        assert [got[column] for column in range(p.cols)] == found.numbers.tolist(), (number, cycle())
        assert all(b - a == digits for n, (a, b) in enumerate(pairwise(at)) if (n + 1) % p.adcs), (at, digits)
        await RisingEdge(dut.clk)
        await FallingEdge(dut.clk)
        assert not dut.busy.value
        failed = found.failed.reshape(p.adcs, p.mux).any(axis=1)
        assert [int(dut.failed.value) >> g & 1 for g in range(p.adcs)] == failed.astype(int).tolist()
        assert numbers(dut, p, "offset") == offset.tolist() and numbers(dut, p, "trim") == trim
        server.cancel()
        await RisingEdge(dut.clk)
