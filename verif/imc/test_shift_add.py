"""Bit-slice adder against golden: any shifts and signs, weights inside a group and across groups, cycles."""

import dataclasses
import random
from typing import Any

import cocotb
import numpy as np
import pytest

from golden.imc.arch import IMC_PRESETS, SCHEMES, ImcArch
from golden.imc.shift_add import shift_add
from hdl.imc.correction import corrected_layout
from hdl.imc.settings import tile_settings
from hdl.imc.shift_add import ShiftAdd, slices_layout
from verif.layers import start
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import get, put, stalls, watch, word

TINY = IMC_PRESETS["tiny-ci"]
ARCHS = {"tiny-ci": TINY,
         "weights of up to 32 columns": dataclasses.replace(TINY, cols=160, mux=8, cell_bits=1, weight_bits=10),
         "one column per ADC": dataclasses.replace(TINY, cols=24, mux=1, weight_bits=6)}


@pytest.mark.parametrize("name", ARCHS)
def test_shift_add(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(ShiftAdd(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("Mux(place.negate, -shifted, shifted)", "shifted", id="no negative slices"),
    pytest.param("kept.eq(Mux(last, 0, total))", "kept.eq(total)", id="weights run together"),
    pytest.param("g * p.mux % PLACES", "0", id="every group begins a weight"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Signs, ends and places that are wrong are caught."""
    simulate(mutant(ShiftAdd, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def matches_golden(dut: Any, stall: float) -> None:
    """Sums of all weights of a phase equal golden in all schemes; without stalls they come in the cycle after the last code."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    await start(dut, ["i__valid", "o__ready", "settings"])
    dut.rst.value = 0
    for name in ("i", "o"):
        cocotb.start_soon(watch(dut, name))
    most = (1 << p.code_bits - 1) - 1
    for scheme in SCHEMES:
        settings, layout = tile_settings(p, scheme, adc_bits=1), ShiftAdd.settings_layout(p)
        dut.settings.value = word(layout, {name: settings[name] for name in layout.members})
        width = len(p.places(scheme))
        phases = [[rng.choice((0, most, -most, rng.randint(-most, most))) for _ in range(p.cols)] for _ in range(5)]
        words: list[dict[str, Any]] = []
        wanted: list[tuple[Any, ...]] = []
        for number, codes in enumerate(phases):
            phase = {"count": number, "skipped": number == 3}
            for m in range(1 if number == 3 else p.mux):
                column = codes[m::p.mux] if number != 3 else [0] * p.adcs
                words.append({"code": dict(enumerate(column)), "column": m, "end": number == 3 or m == p.mux - 1,
                              "phase": phase})
            sums = shift_add(np.asarray(codes), p.places(scheme)).tolist()
            rows = max(1, p.mux // width)
            wanted += [(row, sums[row::rows], row == rows - 1, number, 0) for row in range(rows)] if number != 3 else [
                (0, [0] * len(sums[::rows]), True, number, 1)]
        at: list[int] = []
        sender = cocotb.start_soon(put(dut, "i", [word(corrected_layout(p), w) for w in words], stalls(rng, stall)))
        got = [slices_layout(p).from_bits(v) for v in await get(dut, "o", len(wanted), stalls(rng, stall), at)]
        assert [(int(g.row), [int(g.sums[n]) for n in range(len(w[1]))], bool(g.end), int(g.phase.count), int(g.phase.skipped))
                for g, w in zip(got, wanted, strict=True)] == wanted
        came = await sender
        if not stall:
            ends = [cycle for cycle, w in zip(came, words, strict=True) if w["end"] or int(w["column"]) % width == width - 1]
            assert at == [cycle + 1 for cycle in ends]
