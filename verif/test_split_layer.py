"""A layer longer than a lane's row is split by passes and map rows, computes the same, and only where it must."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from golden.arch import PRESETS, Arch, ParameterError
from golden.capture import trace
from golden.limits import check
from golden.lower import lower, quantise_input
from golden.network import Input, Layer, Network, Neuron, Pass, Pool, input_words, spike_planes
from golden.run import Trace, logits, run
from golden.split_layer import split_layer
from golden.to_torch import to_torch
from hdl.image import build_image
from verif.compare import compare
from verif.simulate import memory_of, run_words
from verif.system import Start, System
from verif.ttsnn_table import LOCKSTEP

TINY = PRESETS["tiny"]
STEPS = 4
SPEC = Input(kind="steps", channels=40, height=5, width=4, bits=1, scale=1.0, plane_bits=STEPS)


def kernel(rng: np.random.Generator, height: int, width: int, share: float) -> np.ndarray:
    """Return weights of 40 channels for 3 columns, of which about ``share`` are not zero."""
    weight = rng.integers(1, 10, (3, 40, height, width)) * (rng.random((3, 40, height, width)) < share)
    return weight.astype(np.int8)


def head(seed: int, share: float = 0.5, residual: str | None = None) -> Layer:
    """Return a read-out over the whole 5 x 4 map of 40 channels: 800 words, more than the 768 of a row on ``tiny``."""
    rng = np.random.default_rng(seed)
    p = Pass(source="input.0", weight=kernel(rng, 5, 4, share), planes=spike_planes(STEPS))
    return Layer(name="fc", passes=(p,), bias=rng.integers(-99, 99, 3), residual=residual, readout=True, origin="fc")


def network(layers: tuple[Layer, ...]) -> Network:
    return Network(name="net", steps=STEPS, input=SPEC, layers=layers)


def words(seed: int) -> dict[str, np.ndarray]:
    x = np.random.default_rng(seed).integers(0, 2, (STEPS, 40, 5, 4))
    return input_words(x, SPEC, STEPS)


def last(trace: Trace) -> np.ndarray:
    return np.asarray(trace.layers["fc"].readout)


@pytest.mark.parametrize(("changes", "parts"), [
    ({}, [(0, 4), (4, 5)]), ({"row_value_lines": 20}, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]),
    ({"max_chunks": 16}, [(0, 2), (2, 4), (4, 5)])])
def test_parts_add_up(changes: dict[str, Any], parts: list[tuple[int, int]], seed: int) -> None:
    """Every part fits, reads its own map rows, and the last one reads out what the whole layer would."""
    arch = replace(TINY, **changes, name="small")
    whole = head(seed)
    with pytest.raises(ParameterError, match=r"^fc \(fc\): (chunks|bits) of one row"):
        check(network((whole,)), arch)
    layers = split_layer(whole, arch, STEPS, flat=True)
    check(network(layers), arch)
    assert [layer.passes[0].rows for layer in layers] == parts
    assert [layer.name for layer in layers] == [*(f"fc.sum{n}" for n in range(len(parts) - 1)), "fc"]
    assert [layer.readout for layer in layers] == [False] * (len(parts) - 1) + [True]
    expected = last(run(network((whole,)), words(seed)))
    assert np.array_equal(last(run(network(layers), words(seed))), expected)
    x = words(seed)["input.0"][None] >> np.arange(STEPS)[:, None, None, None] & 1
    assert to_torch(network(layers))(x[None]).flatten().tolist() == expected.flatten().tolist()


def test_other_rows_are_seen(seed: int) -> None:
    """The check above fails when a part reads the rows of another one, or the chain is broken."""
    first, second = split_layer(head(seed), TINY, STEPS, flat=True)
    expected = last(run(network((first, second)), words(seed)))
    moved = replace(first, passes=(replace(first.passes[0], rows=(1, 5)),))
    assert not np.array_equal(last(run(network((moved, second)), words(seed))), expected)
    assert not np.array_equal(last(run(network((first, replace(second, residual=None))), words(seed))), expected)


@pytest.mark.parametrize("arch", [PRESETS["loas"], replace(TINY, row_value_lines=4, name="short")])
def test_alone(arch: Arch, seed: int) -> None:
    """A layer that fits stays as it is, and so does one of which one map row is too much, which is refused by name."""
    layer = head(seed)
    assert split_layer(layer, arch, STEPS, flat=True) == (layer,)


def test_a_layer_keeps_its_own_residual(seed: int) -> None:
    """Currents that the layer adds anyway are added once, by the first part."""
    first, second = split_layer(head(seed, residual="before"), TINY, STEPS, flat=True)
    assert (first.residual, second.residual) == ("before", "fc.sum0")


def test_passes_are_dealt(seed: int) -> None:
    """Passes over whole maps are not cut but dealt to layers; a layer that pools its spikes cannot be split."""
    rng = np.random.default_rng(seed)
    passes = tuple(Pass(source="input.0", weight=kernel(rng, k, k, 0.5), padding=k // 2, planes=spike_planes(STEPS))
                   for k in (3, 1, 1, 3, 3))
    step = Neuron(threshold=np.array([40, 9, 70]), leak_shift=1)
    whole = Layer(name="fc", passes=passes, bias=rng.integers(-9, 9, 3), neuron=step)
    layers = split_layer(whole, TINY, STEPS, flat=False)
    check(network(layers), TINY)
    assert [[p.weight.shape[2] for p in layer.passes] for layer in layers] == [[3, 1, 1], [3, 3]]
    assert [layer.neuron for layer in layers] == [None, step] and [layer.store_currents for layer in layers] == [True, False]
    expected = run(network((whole,)), words(seed)).layers["fc"]
    found = run(network(layers), words(seed)).layers["fc"]
    assert np.array_equal(np.asarray(found.words), np.asarray(expected.words))
    assert np.array_equal(found.currents, expected.currents)
    pooled = replace(whole, or_pool=Pool(kernel=2, stride=2))
    assert split_layer(pooled, TINY, STEPS, flat=False) == (pooled,)


def test_on_the_rtl(seed: int) -> None:
    """Parts read their map rows in place, and what one stores the next adds: every sum is equal, a wrong row is not.

    The columns are dense: four map rows fit a lane, but their weights do not fit the buffer.
    """
    parts = split_layer(head(seed, 1), TINY, STEPS, flat=True)
    assert [layer.passes[0].rows for layer in parts] == [(0, 3), (3, 5)]
    net = network(parts)
    image = build_image(net, TINY)
    memory, offsets = memory_of(image, [image.input_block(words(seed))])
    finished = System(TINY).run(memory, [Start(offsets[0])], stats_offset=image.stats, dump=(0, image.size)).check().runs[0]
    expected = run(net, words(seed))
    assert [layer.mismatches for layer in compare(net, image, expected, finished, TINY.lanes)] == [0, 0]
    moved = network((replace(parts[0], passes=(replace(parts[0].passes[0], rows=(1, 5)),)), parts[1]))
    assert all(layer.mismatches for layer in compare(moved, image, run(moved, words(seed)), finished, TINY.lanes))


def test_lowering_splits() -> None:
    """A captured linear layer that no row of the build holds is split when it is lowered, and reads out the same."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 20, 1), neuron.IFNode(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(80, 6),
                          nn.Linear(6, 3))
    example = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    captured = trace(model, example)
    small = replace(TINY, row_value_lines=24, name="small")
    found = {arch.name: lower(captured, STEPS, arch, name="net", input_scale=0.05) for arch in (small, TINY)}
    assert {name: [layer.name for layer in net.layers] for name, net in found.items()} == {
        "small": ["layer1", "layer5.sum0", "layer5"], "tiny": ["layer1", "layer5"]}
    seen = [run(net, input_words(quantise_input(example[0].numpy(), net.input), net.input, STEPS)) for net in found.values()]
    assert logits(seen[0]).tolist() == logits(seen[1]).tolist()


def test_taps_that_the_build_skips_take_no_room() -> None:
    """A cross whose nine taps are too long for a lane is lowered whole where its corners are skipped, and runs exactly."""
    torch.manual_seed(0)
    cross = nn.Conv2d(480, 6, 3)
    cross.weight.data[:, :, ::2, ::2] = 0
    model = nn.Sequential(nn.Conv2d(1, 480, 1), neuron.IFNode(), cross, neuron.IFNode(), nn.Flatten(), nn.Linear(6, 3))
    example = torch.randn(1, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    captured = trace(model, example)
    every = replace(LOCKSTEP, skip_taps=False, name="every")
    found = {arch.name: lower(captured, STEPS, arch, name="net", input_scale=0.05) for arch in (LOCKSTEP, every)}
    assert {name: [layer.name for layer in net.layers] for name, net in found.items()} == {
        "lockstep": ["layer1", "layer3", "layer5"], "every": ["layer1", "layer3.sum0", "layer3", "layer5"]}
    with pytest.raises(ParameterError, match=r"^layer3 \(2\): chunks of one row: needs 135; legal: at most 128"):
        check(found["lockstep"], every)
    net = found["lockstep"]
    given = input_words(quantise_input(example[0].numpy(), net.input), net.input, STEPS)
    done = run_words(net, [given], System(LOCKSTEP))
    assert [layer.mismatches for layer in done.compared[0]] == [0, 0, 0]
    assert logits(run(net, given)).tolist() == logits(run(found["every"], given)).tolist()
