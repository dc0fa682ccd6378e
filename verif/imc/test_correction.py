"""Offset and gain against golden: corners of codes, offsets and gains, skipped phases, cycles."""

import dataclasses
import itertools
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from golden.imc import correction
from golden.imc.arch import IMC_PRESETS, ImcArch
from hdl.imc.converter import codes_layout
from hdl.imc.correction import Correction, corrected_layout
from verif.layers import start
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import get, put, stalls, watch, word

TINY = IMC_PRESETS["tiny-ci"]
ARCHS = {"tiny-ci": TINY, "one column per ADC": dataclasses.replace(TINY, mux=1, adc_bits=10, gain_bits=12)}


@pytest.mark.parametrize("name", ARCHS)
def test_correction(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Correction(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("less * gains.r_data + (1 << p.gain_bits - 1)", "less * gains.r_data", id="rounds down"),
    pytest.param("Mux(word.phase.skipped, 0, Mux(self.use_gain, scaled >> p.gain_bits, less))",
                 "Mux(self.use_gain, scaled >> p.gain_bits, less)", id="skipped phases get an offset"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Wrong rounding and wrong zeros are caught."""
    simulate(mutant(Correction, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def matches_golden(dut: Any, stall: float) -> None:
    """Corrected codes equal golden with their phase and column; without stalls a word a cycle, 2 cycles after it came."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    await start(dut, ["i__valid", "o__ready", "use_gain", "offset", "write"])
    dut.rst.value = 0
    for name in ("i", "o"):
        cocotb.start_soon(watch(dut, name))
    most, top = (1 << p.adc_bits) - 1, (2 << p.gain_bits) - 1
    for use_gain in (False, True, True):
        offset = [rng.choice((0, most, -most, rng.randint(-most, most))) for _ in range(p.adcs)]
        gain = [rng.choice((0, 1 << p.gain_bits, top, rng.randint(0, top))) for _ in range(p.cols)]
        for c, value in enumerate(gain):
            dut.write.value, dut.write_adc.value, dut.write_column.value = 1, c // p.mux, c % p.mux
            dut.write_gain.value = value
            await RisingEdge(dut.clk)
        dut.write.value, dut.use_gain.value = 0, use_gain
        dut.offset.value = sum((value & (2 << p.adc_bits) - 1) << (p.adc_bits + 1) * g for g, value in enumerate(offset))
        words: list[dict[str, Any]] = [{"code": {g: rng.choice((0, most, rng.randint(0, most))) for g in range(p.adcs)},
                  "column": rng.randrange(p.mux), "end": rng.randrange(2),
                  "phase": {"skipped": rng.random() < 0.2, "count": rng.randint(0, p.group_rows)}} for _ in range(60)]
        at: list[int] = []
        sender = cocotb.start_soon(put(dut, "i", [word(codes_layout(p), w) for w in words], stalls(rng, stall)))
        got = [corrected_layout(p).from_bits(value) for value in await get(dut, "o", len(words), stalls(rng, stall), at)]
        numbers = correction.Correction(offset=np.asarray(offset), gain=np.asarray(gain) if use_gain else None)
        for sent, out in zip(words, got, strict=True):
            codes = np.zeros(p.cols, np.int64)
            columns = np.arange(p.adcs) * p.mux + sent["column"]
            codes[columns] = list(sent["code"].values())
            wanted = correction.correct(p, numbers, codes)[columns] * (not sent["phase"]["skipped"])
            assert [int(out.code[g]) for g in range(p.adcs)] == wanted.tolist()
            assert (int(out.column), int(out.end), int(out.phase.count), int(out.phase.skipped)) == (
                sent["column"], sent["end"], sent["phase"]["count"], sent["phase"]["skipped"])
        came = await sender
        if not stall:
            assert at == [cycle + 2 for cycle in came]
            assert [b - a for a, b in itertools.pairwise(came)] == [1] * 59
