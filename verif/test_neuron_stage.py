"""Neuron stage against golden: neurons, spike-count mask and OR-pool of all lanes."""

import random
from dataclasses import replace
from typing import Any

import cocotb
import numpy as np
import pytest
from amaranth.lib import data
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import PRESETS, Arch
from golden.digit import digit
from golden.network import Digit, Neuron, Requantise
from golden.neuron import neuron
from golden.requantise import requantise
from hdl.image import RESETS
from hdl.neuron_stage import NeuronStage
from verif.layers import layer_word
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import reset, stalls

P: Arch = replace(PRESETS["tiny"], t_max=4, lanes=2, steps_per_cycle=2, requantise=True, digit=True)
WORDS = data.ArrayLayout(P.t_max, P.lanes)
MEMBERS = 4


def test_neuron_stage() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(NeuronStage(P), __name__)


@pytest.mark.parametrize("broken", [
    pytest.param((r"in_map\[0\]", "1'h1"), id="lane mask ignored"),
    pytest.param((r"last_member, first_member, column,", "last_member, 1'h1, column,"), id="pool forgets"),
])
def test_mutants_are_caught(broken: tuple[str, str]) -> None:
    """A lane mask that is ignored and a pool that starts anew with every member are caught."""
    simulate(NeuronStage(P), __name__, replace=broken, expect_failure=True)


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("self.sums[lane][step]", "self.sums[lane][0]", id="another step"),
    pytest.param("unit.o.ready.eq(self.word_valid),\n            unit.i.p.mul", "unit.o.ready.eq(1),\n            unit.i.p.mul",
                 id="words do not wait"),
    pytest.param("unit.o.ready.eq(self.word_valid), unit.i.p.x.eq", "unit.o.ready.eq(1), unit.i.p.x.eq",
                 id="digits do not wait"),
    pytest.param("fire & ~layer.digit if p.digit else fire", "fire", id="neurons fire beside digits"),
    pytest.param("self.fire & ~layer.requantise if p.requantise else self.fire", "self.fire", id="neurons fire too"),
])
def test_mutants_of_what_stands_in_are_caught(old: str, new: str) -> None:
    """Another step's current, words that are lost while the stage is held, and neurons that run too are caught."""
    simulate(mutant(NeuronStage, old, new)(P), __name__, expect_failure=True)


def scaled(rng: random.Random, count: int, inside: list[bool]
           ) -> tuple[Requantise, list[list[list[int]]], list[list[int]], list[list[int]]]:
    """Return a requantiser with what `columns` returns: one step counts, the others are noise."""
    scale = Requantise(multiplier=np.array([rng.randint(1, 7) for _ in range(count)]), bits=rng.randint(1, P.t_max),
                       shift=np.array([rng.randint(3, 6) for _ in range(count)]), signed=rng.random() < 0.5,
                       step=rng.randrange(P.t_max))
    x = np.array([[[rng.randint(-60, 90) for _ in range(P.t_max)] for _ in range(P.lanes)] for _ in range(count)])
    words = requantise(x[:, :, scale.step], scale)
    return scale, x.tolist(), words.tolist(), np.where(np.array(inside), words, 0).tolist()


def cut(rng: random.Random, count: int, inside: list[bool]
        ) -> tuple[Digit, list[list[list[int]]], list[list[int]], list[list[int]]]:
    """Return digits with what `columns` returns."""
    step = rng.choice((None, rng.randrange(P.t_max)))
    bits = 1 if step is None else rng.randint(1, P.t_max)
    taken = Digit(low=rng.randint(0, 5), bits=bits, step=step, clip=rng.random() < 0.5)
    x = np.array([[[rng.randint(-60, 90) for _ in range(P.t_max)] for _ in range(P.lanes)] for _ in range(count)])
    words = digit(x.transpose(2, 0, 1), taken)
    return taken, x.tolist(), words.tolist(), np.where(np.array(inside), words, 0).tolist()


def columns(rng: random.Random, count: int, sweep: Neuron, min_spikes: int, inside: list[bool]
            ) -> tuple[list[list[list[int]]], list[list[int]], list[list[int]]]:
    """Return (currents [column][lane][t], words [column][lane], words after the mask)."""
    x = np.array([[[rng.randint(-60, 90) for _ in range(P.t_max)] for _ in range(P.lanes)] for _ in range(count)])
    spikes = neuron(x.transpose(2, 0, 1), sweep)
    words = (spikes << np.arange(P.t_max)[:, None, None]).sum(0)
    keep = (spikes.sum(0) >= min_spikes) & np.array(inside)
    return x.tolist(), words.tolist(), np.where(keep, words, 0).tolist()


async def run(dut: Any, rng: random.Random, pool: bool, hold: bool, instead: str = "") -> None:
    """Play one tile (all members of a window with ``pool``) and compare what leaves the neurons and the stage.

    instead : what stands in for the neurons, ``"requantise"`` or ``"digit"``
    """
    count, members = rng.randint(1, 7), MEMBERS if pool else 1
    sweep = Neuron(threshold=np.array([rng.randint(10, 80) for _ in range(count)]), leak_shift=rng.randint(0, 2),
                   compare=rng.choice((">=", ">")), reset=rng.choice(("hard", "soft", "soft_delayed")))
    min_spikes = 1 if instead else rng.randint(1, 3)
    dut.layer.value = layer_word({"columns": count, "steps": P.t_max, "min_spikes": min_spikes, "leak_shift": sweep.leak_shift,
                                 "strict": int(sweep.compare == ">"), "reset": RESETS[sweep.reset], "or_pool": int(pool)})
    put: list[list[int]] = []
    expected = [[0] * P.lanes for _ in range(count)]
    pauses = stalls(rng)
    for member in range(members):
        inside = [rng.random() < 0.8 for _ in range(P.lanes)]
        x, words, kept = columns(rng, count, sweep, min_spikes, inside)
        threshold = sweep.threshold
        if instead == "digit":
            taken, x, words, kept = cut(rng, count, inside)
            dut.layer.value = layer_word({
                "columns": count, "steps": P.t_max, "min_spikes": 1, "digit": 1, "digit_low": taken.low,
                "digit_bits": taken.bits, "digit_clip": int(taken.clip), "digit_one": int(taken.step is not None),
                "word_step": taken.step or 0})
        elif instead:
            scale, x, words, kept = scaled(rng, count, inside)
            threshold = scale.multiplier | scale.shift << 16
            dut.layer.value = layer_word({"columns": count, "steps": P.t_max, "min_spikes": 1, "requantise": 1,
                                         "word_bits": scale.bits, "signed_words": int(scale.signed), "word_step": scale.step})
        expected = [[a | b for a, b in zip(*pair, strict=True)] for pair in zip(expected, kept, strict=True)]
        dut.in_map.value = sum(1 << lane for lane, there in enumerate(inside) if there)
        dut.first_member.value, dut.last_member.value = int(member == 0), int(member == members - 1)
        seen: list[list[int]] = []
        sent = 0
        for _ in range(3):
            await RisingEdge(dut.clk)
        for _ in range(2000):
            dut.hold.value = int(hold and next(pauses))
            dut.fire.value = int(sent < count)
            if sent < count:
                flat = sum((value & ((1 << P.stream_bits) - 1)) << (P.stream_bits * place) for place, value in
                           enumerate(value for lane in x[sent] for value in lane))
                dut.sums.value, dut.threshold.value = flat, int(threshold[sent])
            await FallingEdge(dut.clk)
            sent += int(dut.fire.value) & int(dut.ready.value)
            if dut.word_valid.value:
                assert int(dut.column.value) == len(seen)
                seen.append(list(WORDS.from_bits(int(dut.words.value))))
            if dut.put.value:
                put.append(list(WORDS.from_bits(int(dut.kept.value))))
            await RisingEdge(dut.clk)
            if sent == count and dut.idle.value and len(seen) == count:
                break
        dut.fire.value = 0
        assert seen == words
    assert put == expected


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(pool=[False, True], hold=[False, True])
async def matches_golden(dut: Any, pool: bool, hold: bool) -> None:
    """Words, masked words and pooled words of all lanes equal golden, with and without waiting."""
    rng = random.Random(cocotb.RANDOM_SEED)
    for name in ("layer", "fire", "sums", "threshold", "in_map", "first_member", "last_member", "hold"):
        getattr(dut, name).value = 0
    await reset(dut, ())
    for _ in range(30):
        for instead in ("",) if pool else ("", "requantise", "", "digit"):
            await run(dut, rng, pool, hold, instead)
