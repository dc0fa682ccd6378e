"""Membrane memory against golden: any order of neurons, time outside and inside, membranes at the end of their width."""

import dataclasses
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from numpy.typing import NDArray

from golden.arch import LifParams
from golden.imc.arch import IMC_PRESETS, ImcArch
from golden.imc.membrane import membrane
from golden.limits import membrane_bounds, width_of
from golden.network import Neuron
from golden.neuron import neuron
from golden.parallel_lif import RESETS
from hdl.imc.membrane import Membrane
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, get, idle, put, reset, stalls, word
from verif.test_parallel_lif import variants

TINY = dataclasses.replace(IMC_PRESETS["tiny-ci"], membranes=8, stream_bits=16, membrane_bits=20, t_max=8)
ARCHS = {"tiny-ci": TINY, "five wide words": dataclasses.replace(TINY, membranes=5, stream_bits=32, membrane_bits=32)}
TAG_BITS = 6
VARIANTS = variants(LifParams())
Step = dict[str, int]


@pytest.mark.parametrize("name", ARCHS)
def test_membrane(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Membrane(ARCHS[name], TAG_BITS), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("Mux(held.first, 0, old.v)", "old.v", id="does not start at rest"),
    pytest.param("Cat(v_next, owed_next)", "v_next", id="debt is forgotten"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Neurons that start with what lies in memory, or never pay, are caught."""
    outcome = simulate(mutant(Membrane, old, new)(TINY, TAG_BITS), __name__, parameters=dataclasses.asdict(TINY),
                       expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def test_word_on_its_way_is_caught() -> None:
    """A step that misses the write of the step before it is caught, with time inside and never with time outside."""
    outcome = simulate(Membrane(TINY, TAG_BITS), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True,
                       all_tests=True, replace=(r"word = same \? written :", "word = 1'h0 ? written :"))
    assert "orders_give_the_same_spikes/inside=True" in " ".join(outcome.failed), outcome.failed
    assert "orders_give_the_same_spikes/inside=False" in " ".join(outcome.passed), outcome.passed


def neuron_of(variant: dict[str, Any], threshold: Any) -> Neuron:
    """Return golden's words for a variant."""
    return Neuron(threshold=threshold, leak_shift=variant["leak_shift"], decay_input=variant["decay_input"],
                  compare=">" if variant["strict"] else ">=", reset=RESETS[variant["reset"]])


def test_steps_are_those_of_the_neuron(kind: Any, seed: int) -> None:
    """Golden with its state outside gives the spikes of golden, whatever lay in memory before."""
    rng = np.random.default_rng(seed)
    x, threshold = kind.asarray(rng.integers(-20, 30, (8, 300))), kind.asarray(rng.integers(-3, 25, 300))
    for variant in VARIANTS:
        p = neuron_of(variant, threshold)
        v, owed, spikes = kind.asarray(rng.integers(-9, 9, 300)), kind.asarray(rng.integers(0, 2, 300)), []
        for t, current in enumerate(x):
            first = kind.full((300,), t == 0)
            spike, v, owed = membrane(current, v, owed, threshold=threshold, first=first, p=p)
            spikes.append(spike.tolist())
        assert spikes == neuron(x, p).tolist()


def reach(p: ImcArch, variant: dict[str, Any], ratio: float, steps: int) -> tuple[int, int]:
    """Return the largest currents, and the threshold at that ratio, for which lowering proves that membranes fit."""
    low, high = 0, (1 << p.stream_bits - 1) - 1
    while low < high:
        most = (low + high + 1) // 2
        threshold = max(1, int(ratio * most))
        bound = np.full((steps, 1), most)
        floor, ceiling = membrane_bounds(neuron_of(variant, np.array([threshold])), -bound, bound)
        fits = max(width_of(floor, ceiling), threshold.bit_length() + 1) <= p.membrane_bits
        low, high = (most, high) if fits else (low, most - 1)
    return low, max(1, int(ratio * low))


def currents(rng: random.Random, p: ImcArch, variant: dict[str, Any], neurons: int) -> tuple[NDArray[np.int64], Any]:
    """Return currents [t_max, neurons] and thresholds: small ones, ones at the threshold, the largest that fit, their ends."""
    x, thresholds = np.zeros((p.t_max, neurons), np.int64), np.zeros(neurons, np.int64)
    for n in range(neurons):
        most, threshold = reach(p, variant, rng.choice((0.01, 0.5, 1, 2)), p.t_max)
        if rng.randrange(2):
            most, threshold = min(most, 40), rng.randint(1, min(threshold, 50))
        low, high = rng.choice(((-most, most), (0, most), (most, most), (-most, -most), (threshold - 1, threshold + 1)))
        x[:, n] = [max(-most, min(most, rng.choice((low, high, rng.randint(low, high))))) for _ in range(p.t_max)]
        thresholds[n] = threshold
    return x, thresholds


async def spikes_of(dut: Any, p: ImcArch, variant: dict[str, Any], steps: list[Step], rng: random.Random,
                    density: float) -> list[int]:
    """Run the steps and return their spikes; tags come back, without stalls in the documented cycles."""
    dut.settings.value = word(Membrane.settings_layout(), variant)
    sent = [word(Membrane.i_layout(p, TAG_BITS), step) for step in steps]
    pauses = [stalls(rng, density) if density else NEVER for _ in range(2)]
    sender, left = cocotb.start_soon(put(dut, "i", sent, pauses[0])), list[int]()
    got = [Membrane.o_layout(TAG_BITS).from_bits(bits) for bits in await get(dut, "o", len(steps), pauses[1], left)]
    taken = await sender
    assert [int(out.tag) for out in got] == [step["tag"] for step in steps]
    if not density:
        assert taken == [*range(taken[0], taken[0] + len(steps))]
        assert left == [at + 2 for at in taken]
    return [int(out.spike) for out in got]


@cocotb.test(timeout_time=150, timeout_unit="us")
@cocotb.parametrize(density=[0.0, 0.5])
async def matches_golden(dut: Any, density: float) -> None:
    """Neurons in any order, each with steps in their order, starting anew now and then: all variants of the step."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    dut.settings.value = 0
    await reset(dut)
    for variant in VARIANTS:
        x, thresholds = currents(rng, p, variant, p.membranes)
        at, state, wanted = [p.t_max] * p.membranes, [(0, 0)] * p.membranes, list[int]()
        steps: list[Step] = []
        for _ in range(60):
            address = rng.choice((rng.randrange(p.membranes), steps[-1]["address"] if steps else 0))
            first = at[address] == p.t_max or rng.random() < 0.1
            at[address] = 1 if first else at[address] + 1
            steps.append({"address": address, "x": int(x[at[address] - 1, address]), "threshold": int(thresholds[address]),
                          "first": int(first), "tag": rng.getrandbits(TAG_BITS)})
            spike, *after = membrane(
                *(np.array([value]) for value in (steps[-1]["x"], *state[address])), threshold=thresholds[address],
                first=np.array([first]), p=neuron_of(variant, thresholds))
            state[address] = (int(after[0][0]), int(after[1][0]))
            wanted.append(int(spike[0]))
        assert await spikes_of(dut, p, variant, steps, rng, density) == wanted, variant
    await idle(dut, "o", 10)


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(inside=[False, True])
async def orders_give_the_same_spikes(dut: Any, inside: bool) -> None:
    """All steps of a layer, time outside or inside, equal golden's neuron; membranes reach as far as they are proven to."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    dut.settings.value = 0
    await reset(dut)
    for variant in VARIANTS:
        x, thresholds = currents(rng, p, variant, p.membranes)
        wanted = neuron(x, neuron_of(variant, thresholds))
        outside = [(t, n) for t in range(p.t_max) for n in range(p.membranes)]
        order = sorted(outside, key=lambda place: place[::-1]) if inside else outside
        steps = [{"address": n, "x": int(x[t, n]), "threshold": int(thresholds[n]), "first": int(t == 0),
                  "tag": (t * p.membranes + n) % (1 << TAG_BITS)} for t, n in order]
        got = await spikes_of(dut, p, variant, steps, rng, 0.0)
        assert got == [int(wanted[place]) for place in order], variant
