"""Calibration against golden on golden's macros: offsets of both signs, trim codes, failures, what the host writes, cycles."""

import dataclasses
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import IMC_PRESETS, ImcArch
from golden.imc.calibrator import Calibrated, offsets, trims
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
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Rounding, searches and limits that are wrong are caught."""
    simulate(mutant(Calibrator, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True)


async def serve(dut: Any, p: ImcArch, macro: Macro, rng: random.Random) -> None:
    """Take phases and give the codes of the macro to the reference and trim codes that the block shows."""
    column, phase = np.arange(p.cols), 0
    while True:
        await FallingEdge(dut.clk)
        if not dut.phase.value:
            await RisingEdge(dut.clk)
            continue
        assert dut.ref_on.value
        trim = np.asarray([int(dut.trim.value) >> p.trim_bits * g & (1 << p.trim_bits) - 1 for g in range(p.adcs)])
        value = macro.sample(np.full(p.cols, int(dut.ref_level.value) * macro.step >> 1), column, phase=phase)
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
