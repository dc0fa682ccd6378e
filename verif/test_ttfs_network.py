"""Networks of time-to-first-spike neurons on the RTL: skips by addition and concatenation, delays, pools, races; limits."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from golden.arch import PRESETS, Arch, ParameterError
from golden.formats import NEVER
from golden.limits import check
from golden.network import Layer, Network, input_words
from golden.run import logits, run
from hdl.image import build_image
from verif.chunks import TTFS
from verif.system import Start, System
from verif.times_network import Times, times_network, zeros
from verif.verify import Maker, run_network

CLASSES = 10
CASES = {"9 ticks": (9, 0), "18 ticks": (18, 1), "20 ticks in quarters": (20, 2), "21 ticks of a whole octave": (21, 0)}


def network(window: int, resolution: int, seed: int) -> Network:
    """Return a network with all kinds of skips."""
    generator = torch.Generator().manual_seed(seed)

    def weight(*shape: int) -> Tensor:
        drawn = torch.randint(-60, 90, shape, generator=generator)
        return torch.where(torch.rand(shape, generator=generator) < 0.5, drawn, 0).to(torch.int8)

    return times_network("times", Times(window=window, resolution=resolution, classes=CLASSES), generator, weight)


def image(seed: int) -> Tensor:
    """Return one quantised image."""
    return torch.randint(-16, 16, (1, 8, 8), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", CASES)
def test_networks_are_exact(case: str) -> None:
    """Every word, current and score of networks with all kinds of skips equals golden on the RTL, with stalls."""
    system, seen = System(TTFS), set[int]()
    for seed in range(3):
        net = network(*CASES[case], seed)
        if CASES[case][0] == 21:
            net = replace(net, layers=net.layers[:-1])
        check(net, TTFS)
        assert run_network(net, image(seed), system, stall_seed=seed) is None
        trace = run(net, input_words(image(seed), net.input, 1))
        seen |= set(trace.layers["added"].currents.flatten().tolist())
    assert any(value < NEVER // 2 for value in seen)
    assert max(seen) > CASES[case][0]


def test_random_networks_are_exact() -> None:
    """The networks that `Maker` draws for a build with spike times have some, of other shapes, and run exactly."""
    system, drawn = System(TTFS), []
    for seed in range(100):
        net = Maker(TTFS, seed).network("random")
        if any(layer.ttfs for layer in net.layers):
            drawn.append(net)
            assert run_network(net, Maker(TTFS, seed).image(net.input, 1), system, stall_seed=seed % 2 and seed) is None
        if len(drawn) == 5:
            break
    assert len(drawn) == 5 and len({net.layers[-1].ttfs.window for net in drawn if net.layers[-1].ttfs}) > 1


def test_a_wrong_threshold_shows() -> None:
    """The RTL with another threshold, delay or window than golden differs."""
    system, net = System(TTFS), network(18, 1, 0)

    def altered(name: str, **fields: Any) -> Network:
        return replace(net, layers=tuple(
            replace(n, ttfs=replace(n.ttfs, **fields)) if n.name == name and n.ttfs else n for n in net.layers))

    threshold = net.layer("first").ttfs
    assert threshold is not None
    words = input_words(image(0), net.input, 1)
    right = build_image(net, TTFS)
    block = right.input_block({name: word.numpy() for name, word in words.items()})
    for other in (net, altered("first", threshold=threshold.threshold + 40), altered("joined", window=30),
                  altered("joined", resolution=0)):
        built = build_image(other, TTFS)
        memory = bytearray(built.size)
        memory[: len(built.data)] = built.data
        memory[built.inputs : built.inputs + len(block)] = block
        done = system.run(bytes(memory), [Start(0)], stats_offset=built.stats, dump=(0, built.size), max_cycles=500_000).check()
        spans = [(r.base, r.size) for r in right.currents.values()]
        golden = run(net, words)
        stored = [int.from_bytes(done.runs[0].dump[base + at : base + at + 4], "little", signed=True)
                  for base, size in spans[-1:] for at in range(0, size, 4)]
        assert (stored == logits(golden).tolist()) == (other is net), other


def refused(layer: Layer, text: str, arch: Arch = TTFS, steps: int = 1) -> None:
    """Assert that a network that ends in ``layer`` is refused, in one line."""
    net = network(18, 1, 0)
    kept = [n for n in net.layers[:-1] if n.name != layer.name]
    with pytest.raises(ParameterError, match=text) as error:
        check(replace(net, steps=steps, layers=(*kept, layer)), arch)
    assert "\n" not in str(error.value)


def test_what_does_not_fit_is_refused() -> None:
    """Builds without the unit, windows and resolutions beyond it, drives, thresholds, races and joins are named."""
    net = network(18, 1, 0)
    joined, race = net.layer("joined"), net.layer("race")
    ttfs = joined.ttfs
    assert ttfs is not None and race.ttfs is not None
    refused(joined, "preset loas has none", PRESETS["loas"])
    refused(replace(joined, ttfs=replace(ttfs, window=64)), "window in ticks: needs 64; legal: 1 to 63")
    refused(replace(joined, ttfs=replace(ttfs, resolution=4)), "resolution: needs 5; legal: 1 to 4")
    refused(replace(joined, ttfs=replace(ttfs, bits=7)), "bits of a spike time: needs 7; legal: 1 to 6")
    refused(replace(joined, ttfs=replace(ttfs, threshold=zeros(6))), "thresholds: must be at least 1, not 0")
    refused(replace(joined, ttfs=replace(ttfs, threshold=zeros(6) + (1 << 23))), "drives in bits: needs 25; legal: at most 24")
    refused(joined, "must stand alone behind passes of a network of T 1, not T 4", steps=4)
    refused(replace(race, bias=zeros(CLASSES) + 1), "race: must be of spike times alone")
    refused(replace(race, ttfs=replace(race.ttfs, resolution=0)), "octaves of a race: needs 35; legal: at most 32")


def test_arch() -> None:
    """A build with spike times is lockstep with requantisers; its hash is its own."""
    with pytest.raises(ParameterError, match="ttfs must be false with dataflow loom"):
        replace(PRESETS["loom"], ttfs=True)
    with pytest.raises(ParameterError, match="ttfs must be false without requantise"):
        replace(PRESETS["tiny"], ttfs=True)
    smaller = replace(PRESETS["loas"], weight_bytes=24576)
    assert replace(smaller, ttfs=True).hash != smaller.hash


def test_a_build_without_the_unit_says_so() -> None:
    """A program of spike times ends in error code 5, before any layer, on hardware that has no unit for them."""
    without, net = replace(TTFS, name="no_times", ttfs=False), network(9, 0, 0)
    built = build_image(net, TTFS)
    memory = built.data.ljust(built.size, b"\0")
    done = System(without).run(bytes(memory), [Start(0)], stats_offset=built.stats)
    assert (done.runs[0].error_code, done.runs[0].error_layer, done.runs[0].timeout) == (5, 0, False)
    with pytest.raises(ParameterError, match="preset no_times has none"):
        check(net, without)
