"""An injected weight bit is one that the comparison must see, and what the RTL then does is golden's run with that bit."""

import random
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch

from golden.arch import PRESETS, Arch
from golden.network import Network, input_words, map_arrays
from golden.run import Trace, run
from hdl.image import Image, build_image
from verif.compare import compare, covered
from verif.inject import WeightBit, changes, find_weight_bit, flip, read_places, weight_bits_of
from verif.simulate import run_images
from verif.system import System, SystemFailure
from verif.verify import Maker
from verif.workload import Workload, load_workload

ARCH = PRESETS["tiny"]
FOUR_BITS = replace(ARCH, name="four", weight_bits=4)


def whole(network: Network, found: WeightBit, weight_bits: int) -> Network:
    """Return the network with one weight bit flipped."""
    layer = network.layers[found.layer]
    channel, sweep = found.flipped(layer, weight_bits), layer.passes[found.sweep]
    weight = torch.clone(sweep.weight)
    weight[found.place[0]] = channel.passes[found.sweep].weight[0]
    passes = [*layer.passes]
    passes[found.sweep] = replace(sweep, weight=weight)
    layers = [*network.layers]
    layers[found.layer] = replace(layer, passes=tuple(passes))
    return replace(network, layers=tuple(layers))


def weight_of(network: Network, found: WeightBit) -> int:
    """Return the weight that a bit belongs to."""
    return int(network.layers[found.layer].passes[found.sweep].weight[found.place])


def differs(network: Network, image: Image, one: Trace, other: Trace) -> bool:
    """Return whether the comparison would tell two golden runs apart, in any layer."""
    for number, layer in enumerate(network.layers):
        a, b = one.layers[layer.name], other.layers[layer.name]
        pairs: list[tuple[Any, Any]] = [(a.output, b.output)] if layer.neuron else []
        if a.words is not None and b.words is not None:
            wanted = torch.from_numpy(covered(layer, image, number))
            pairs.append((torch.where(wanted, a.words, 0), torch.where(wanted, b.words, 0)))
        pairs += [(a.currents, b.currents)] * layer.store_currents + [(a.readout, b.readout)] * layer.readout
        if any(not torch.equal(x, y) for x, y in pairs):
            return True
    return False


def drawn(arch: Arch, seed: int) -> tuple[Network, Image, Trace]:
    """Return a random network, its image and its golden run on a random input."""
    maker = Maker(arch, seed)
    network = maker.network("drawn")
    words = input_words(maker.image(network.input, network.steps), network.input, network.steps)
    return network, build_image(network, arch), run(network, words)


def digits(**layers: object) -> Workload:
    """Return the shipped workload with every layer's field replaced, such as ``bias`` by a function of the layer."""
    workload = load_workload("digits", ARCH)
    changed = tuple(replace(layer, **{name: make(layer) for name, make in layers.items()})  # type: ignore[operator]
                    for layer in workload.network.layers)
    return replace(workload, network=replace(workload.network, layers=changed))


@pytest.mark.parametrize("arch", [ARCH, FOUR_BITS], ids=["8 bits", "4 bits"])
@pytest.mark.parametrize("number", range(6))
def test_a_flip_is_found_exactly_where_it_shows(arch: Arch, number: int, seed: int) -> None:
    """The look at one channel agrees with the whole golden run, and the flipped image is that of the flipped network."""
    network, image, trace = drawn(arch, seed + number)
    chooser = random.Random(seed + number)
    for layer_number, layer in enumerate(network.layers):
        met = read_places(layer, [trace])
        bits = [*weight_bits_of(layer_number, layer, arch.weight_bits)]
        for found in chooser.sample(bits, min(6, len(bits))):
            broken = whole(network, found, arch.weight_bits)
            seen = differs(network, image, trace, run(broken, trace.inputs))
            assert changes(found, network, image, trace, arch.weight_bits) == seen
            assert met[found.sweep][found.place[1:]] or not seen
            if weight_of(broken, found):
                assert flip(image, found, layer, arch.weight_bits).data == build_image(broken, arch).data


def test_todays_choice_is_the_first() -> None:
    """Of digits it is bit 6 of the first stored weight, and every stored weight has all its bits."""
    workload = load_workload("digits", ARCH)
    network = map_arrays(workload.network, torch.asarray)
    trace = run(network, {name: torch.from_numpy(word) for name, word in workload.words(0).items()})
    image = build_image(workload.network, ARCH)
    found = find_weight_bit(workload.network, image, [trace], 8)
    assert (found.layer, found.stored, found.bit, weight_of(network, found) != 0) == (0, 0, 6, True)
    bits = [*weight_bits_of(0, network.layers[0], 8)]
    assert len({*bits}) == len(bits) == 8 * sum(int((sweep.weight != 0).sum()) for sweep in network.layers[0].passes)
    assert {bit.bit for bit in islice(bits, len(bits) // 8)} == {6}


def test_the_rtl_runs_the_flipped_network() -> None:
    """With silent first layers the bit is one of a later layer; the RTL then equals golden with that bit."""
    workload = digits(bias=lambda layer: layer.bias * 0 + (1000 if layer.name == "lif1" else 0),
                      passes=lambda layer: tuple(replace(p, weight=p.weight * (layer.name != "lif1")) for p in layer.passes))
    done = run_images(workload, System(ARCH), 1, inject="weight-bit")
    assert done.compared[0][0].mismatches == 0
    assert sum(layer.mismatches for layer in done.compared[0]) > 0
    network = map_arrays(workload.network, torch.asarray)
    found = find_weight_bit(workload.network, build_image(workload.network, ARCH), done.traces, 8)
    assert found.layer > 0
    expected = run(whole(network, found, 8), done.traces[0].inputs)
    again = compare(workload.network, done.image, expected, done.result.runs[0], ARCH.lanes)
    assert [layer.mismatches for layer in again] == [0, 0, 0]


def test_no_bit_that_shows() -> None:
    """A network whose neurons never fire has no bit to flip, which is a failure in one line and not a pass."""
    workload = digits(passes=lambda layer: tuple(replace(p, weight=p.weight * 0) for p in layer.passes))
    with pytest.raises(SystemFailure) as error:
        run_images(workload, System(ARCH), 2, inject="weight-bit")
    assert str(error.value) == ("inject: no weight bit changes what is compared in the first 2 images; "
                                "try: more --images, or data that makes neurons fire")
