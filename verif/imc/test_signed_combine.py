"""Signed sums against golden: all schemes, signed inputs, skipped phases, cycles."""

import dataclasses
import random
from typing import Any

import cocotb
import numpy as np
import pytest

from golden.imc.arch import IMC_PRESETS, SCHEMES, ImcArch
from golden.imc.signed_combine import signed_combine
from hdl.imc.settings import tile_settings
from hdl.imc.shift_add import slices_layout
from hdl.imc.signed_combine import SignedCombine
from verif.layers import start
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import get, put, stalls, watch, word

TINY = IMC_PRESETS["tiny-ci"]
ARCHS = {"tiny-ci": TINY, "neurosim": IMC_PRESETS["neurosim"],
         "one column per ADC": dataclasses.replace(TINY, cols=24, mux=1, weight_bits=6)}


@pytest.mark.parametrize("name", ARCHS)
def test_signed_combine(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(SignedCombine(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("Mux(negative, -added, added)", "added", id="the highest bit counts positive"),
    pytest.param("Mux(negative, -counted, counted)", "counted", id="the popcount forgets the sign"),
    pytest.param("Mux(settings.dummy, dummy_group, 0)", "0", id="another dummy"),
    pytest.param("totals.w_en.eq(~word.phase.skipped)", "totals.w_en.eq(1)", id="skipped phases count"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Signs, dummies and phases that are wrong are caught."""
    simulate(mutant(SignedCombine, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True)


@cocotb.test(timeout_time=3, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def matches_golden(dut: Any, stall: float) -> None:
    """Outputs of vectors of random slice sums equal golden; without stalls they come in the documented cycles."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    await start(dut, ["i__valid", "o__ready", "settings"])
    dut.rst.value = 0
    for name in ("i", "o"):
        cocotb.start_soon(watch(dut, name))
    most, groups = (1 << p.slice_bits - 1) - 1, p.rows // p.group_rows
    for scheme in (*SCHEMES, *SCHEMES):
        bits, signed = rng.randint(1, p.input_bits), rng.random() < 0.5
        outputs, total = rng.randint(1, p.outputs(scheme)), p.cols // len(p.places(scheme))
        settings = tile_settings(p, scheme, adc_bits=1, bits=bits, signed=signed, outputs=outputs)
        layout = SignedCombine.settings_layout(p)
        dut.settings.value = word(layout, {name: settings[name] for name in layout.members})
        rows = max(1, p.mux // len(p.places(scheme)))
        words, wanted, starts = [], [], []
        for _ in range(5):
            sums = np.asarray([[rng.choice((0, most, -most, rng.randint(-most, most))) for _ in range(total)]
                               for _ in range(bits * groups)])
            driven = np.asarray([rng.choice((0, p.group_rows, rng.randint(0, p.group_rows))) for _ in range(bits * groups)])
            skipped = (driven == 0).tolist()
            sums[skipped] = 0
            for n, count in enumerate(driven.tolist()):
                phase = {"bit": n // groups, "count": count, "skipped": skipped[n], "first": n == 0,
                         "last": n == bits * groups - 1}
                for row in range(1 if skipped[n] else rows):
                    number = [rng.randint(-most, most)] * p.adcs if skipped[n] else sums[n, row::rows].tolist()
                    words.append({"sums": dict(enumerate(number)), "row": row, "end": skipped[n] or row == rows - 1,
                                  "phase": phase})
            starts.append(len(words) - 1)
            wanted += signed_combine(p, scheme, sums, driven, bits=bits, signed=signed)[:outputs].tolist()
        at: list[int] = []
        sender = cocotb.start_soon(put(dut, "i", [word(slices_layout(p), w) for w in words], stalls(rng, stall)))
        got = [SignedCombine.sums_layout(p).from_bits(v) for v in await get(dut, "o", len(wanted), stalls(rng, stall), at)]
        assert [int(g.y) for g in got] == wanted
        assert [int(g.last) for g in got] == [int(n % outputs == outputs - 1) for n in range(len(wanted))]
        came = await sender
        if not stall:
            delay = 4 if scheme == "dummy" else 3
            assert at == [came[last] + delay + n for last in starts for n in range(outputs)]
