"""The published networks with random weights: their shapes, weights and silent ratios are those of the table."""

from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from golden.arch import PRESETS, ParameterError
from golden.calibrate import calibrated, silent_ratio
from golden.lower import quantise_input
from golden.network import Network, Pass, input_words, spike_planes
from golden.run import Trace, convolve, run, unpack
from golden.synthetic import Figures, is_identity, sparse_weights, spiking_passes, with_weights
from golden.to_torch import to_torch
from models.datasets import seeded
from models.published import NETWORKS, published
from models.statten import frames
from models.workloads import find, shipped
from spikeloom.catalogue import workloads
from spikeloom.cli import run as command_line
from verif.synthetic_workload import synthetic_network
from verif.workload import load_workload

LOAS = PRESETS["loas"]
POINTS = 0.05
WIDTH, QUARTER = 1 / 16, 1 / 4
HEADED = replace(LOAS, attention=True, token_sum=True, buffer_bytes=1 << 19)
SIZES = [(18, 5, 20), (64, 8, 100), (9, 3, 27)]


@cache
def full(name: str) -> tuple[Network, Trace]:
    """Return a network at full width and its run on the first seeded image."""
    network = synthetic_network(find(name), LOAS, find(name).steps)
    return network, run(network, {key: torch.from_numpy(word) for key, word in image(network).items()})


def image(network: Network, index: int = 0) -> dict[str, Any]:
    """Return the operand words of one seeded image."""
    return input_words(quantise_input(seeded(index + 1)[index], network.input), network.input, network.steps)


def figures(name: str, width: float) -> list[Figures]:
    return [Figures(layer.K, layer.N, layer.nonzeros, layer.silent) for layer in published(name, width)]


def misses(network: Network, trace: Trace, name: str) -> list[float]:
    """Return how far the silent ratio of each published layer's input is from the table."""
    return [abs(silent_ratio(trace.layers[p.source].output, p) - layer.silent)
            for (_, p), layer in zip(spiking_passes(network), published(name), strict=True)]


def test_places_and_values() -> None:
    """Exactly the counts asked for; places follow each other in one generator, values are int8 and never zero."""
    found = sparse_weights(SIZES)
    places = np.random.default_rng(0)
    for weights, (inner, columns, nonzeros) in zip(found, SIZES, strict=True):
        expected = np.zeros(inner * columns, bool)
        expected[places.choice(inner * columns, nonzeros, replace=False)] = True
        assert weights.dtype == np.int8 and weights.shape == (inner, columns)
        assert np.array_equal(weights != 0, expected.reshape(inner, columns)) and np.count_nonzero(weights) == nonzeros
        assert weights.min() >= -127
    assert all(np.array_equal(a, b) for a, b in zip(found, sparse_weights(SIZES), strict=True))
    assert not np.array_equal(sparse_weights(SIZES[1:])[0], found[1])
    many = sparse_weights([(300, 300, 90_000)])[0]
    assert {*np.unique(many)} == {*range(-127, 128)} - {0}


def test_inner_order_is_that_of_torch_unfold() -> None:
    """A convolution with the reshaped matrix is the product of torch's unfolded rows with it."""
    words = np.random.default_rng(1).integers(0, 2, (7, 6, 5))
    matrix = sparse_weights([(63, 4, 100)])[0]
    p = Pass(source="a", weight=matrix.T.reshape(4, 7, 3, 3), padding=1, planes=spike_planes(1))
    rows = F.unfold(torch.from_numpy(words).double()[None], 3, padding=1)[0].T
    expected = (rows @ torch.from_numpy(matrix).double()).T.reshape(1, 4, 6, 5)
    assert torch.equal(torch.from_numpy(convolve(words, p, 1)[0]).double(), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_table_is_that_of_the_modules(name: str) -> None:
    """Rows, columns and inner length of every convolution behind the first, as the module runs them at full width."""
    module = import_module(f"models.{name}")
    seen: list[tuple[int, int, int]] = []

    def record(layer: nn.Conv2d, inputs: Any, output: Tensor) -> None:
        seen.append((output.shape[2] * output.shape[3], output.shape[1], layer.weight[0].numel()))

    model = module.Model().eval()
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(record)
    with torch.no_grad():
        assert model.logits(torch.zeros(module.EXAMPLE_SHAPE), 1).shape == (1, 10)
    assert seen[1:] == [(layer.M, layer.N, layer.K) for layer in published(name)]
    assert [layer.layer for layer in published(name)] == [*range(1, len(seen))]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_modules_learn(name: str) -> None:
    """Gradients reach every parameter of the float networks, and a step along them lowers the loss."""
    torch.manual_seed(0)
    module = import_module(f"models.{name}")
    model = module.Model(WIDTH).train()
    x, y = torch.randn(8, 3, 32, 32), torch.arange(8)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.mul_(4)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        loss = F.cross_entropy(model.logits(x, 2), y)
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(bool((p.grad != 0).any()) for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", NETWORKS)
def test_full_width(name: str) -> None:
    """Silent ratios within five points of the table, exact counts, int8 dense ends, neurons that fire once silent."""
    network, trace = full(name)
    assert max(misses(network, trace, name)) <= POINTS
    matrices = sparse_weights([(layer.K, layer.N, layer.nonzeros) for layer in published(name)])
    for (_, p), matrix in zip(spiking_passes(network), matrices, strict=True):
        assert np.array_equal(p.weight.reshape(len(p.weight), -1).T, matrix)
    assert network.weight_sparsity == find(name).weight_sparsity
    for layer in network.layers:
        assert layer.neuron is None or (layer.min_spikes, layer.neuron.leak_shift, layer.neuron.compare) == (2, 2, ">=")
        if layer.neuron is None or layer.passes[0].source.startswith("input."):
            assert all(np.abs(p.weight.astype(int)).min() > 0 for p in layer.passes)
    assert network.layers[-1].readout and len(network.layers[-1].bias) == 10


def test_other_thresholds_are_seen() -> None:
    """A threshold that is 30 % higher takes a layer out of its five points."""
    network, _ = full("alexnet")
    first = network.layers[0]
    step = first.neuron
    assert step is not None
    raised = replace(first, neuron=replace(step, threshold=step.threshold * 13 // 10))
    changed = replace(network, layers=(raised, *network.layers[1:]))
    words = {key: torch.from_numpy(word) for key, word in image(network).items()}
    assert max(misses(changed, run(changed, words), "alexnet")) > POINTS


@pytest.mark.parametrize("name", NETWORKS)
def test_numpy_and_torch_calibrate_alike(name: str) -> None:
    """Thresholds are integers of integers: the kind of array and a second run change nothing."""
    network = synthetic_network(find(name), LOAS, 4, WIDTH)
    again = calibrated(network, image(network), figures(name, WIDTH))
    neurons = [[layer.neuron for layer in each.layers if layer.neuron] for each in (network, again)]
    assert all(np.array_equal(one.threshold, other.threshold) for one, other in zip(*neurons, strict=True))
    changed = calibrated(network, image(network, 1), figures(name, WIDTH))
    steps = [each.layers[0].neuron for each in (network, changed)]
    assert len({int(step.threshold[0]) for step in steps if step}) == 2


@pytest.mark.parametrize("name", NETWORKS)
def test_spikingjelly_agrees(name: str) -> None:
    """Calibrated thresholds, negative ones too, mean the same to SpikingJelly's neurons; another threshold does not."""
    network = synthetic_network(find(name), LOAS, 4, WIDTH)
    x = quantise_input(seeded(1)[0], network.input)
    trace = run(network, input_words(x, network.input, 4))
    first = network.layers[0]
    assert first.neuron is not None
    raised = replace(first, neuron=replace(first.neuron, threshold=first.neuron.threshold + 500))
    differ = []
    for each in (network, replace(network, layers=(raised, *network.layers[1:]))):
        module = to_torch(each)
        module(torch.from_numpy(x)[None])
        differ.append(sum(int((module.spikes[key][:, 0].numpy() != unpack(layer.words, 4)).sum())
                          for key, layer in trace.layers.items() if layer.words is not None))
    assert differ[0] == 0 < differ[1]


def test_silent_ratio_is_that_of_the_unfolded_matrix() -> None:
    """Counting how often each pixel is read gives the ratio of the matrix itself, padding included."""
    words = np.random.default_rng(2).integers(0, 2, (3, 7, 6))
    for kernel, stride, padding in ((3, 1, 1), (3, 2, 1), (1, 2, 0), (2, 2, 0), (5, 3, 2)):
        p = Pass(source="", weight=np.zeros((1, 3, kernel, kernel), np.int8), stride=stride, padding=padding, planes=())
        matrix = F.unfold(torch.from_numpy(words).float()[None], kernel, padding=padding, stride=stride)
        assert silent_ratio(words, p) == pytest.approx(float((matrix == 0).double().mean()), abs=1e-12)


def test_other_figures_are_refused() -> None:
    """Figures of another layer, or of too few, are refused by name."""
    network, given = synthetic_network(find("alexnet"), LOAS, 4, WIDTH), figures("alexnet", WIDTH)
    with pytest.raises(ParameterError) as error:
        with_weights(network, [given[1], *given[1:]])
    assert str(error.value) == "lif2 (conv2): K and N must be 108 and 24 as in its figures, not 36 and 12"
    with pytest.raises(ParameterError) as error:
        with_weights(network, given[1:])
    assert str(error.value) == "alexnet: figures: must be of 4 layers, not 3"


def test_refusals(capsys: pytest.CaptureFixture[str]) -> None:
    """One step, a build that is too small, and training are refused in one line each."""
    with pytest.raises(ParameterError) as error:
        load_workload("alexnet", LOAS, steps=1)
    assert str(error.value) == ("T: must be in 2..16 for alexnet, whose neurons that fire once are silent, not 1; "
                                "try: --T 4")
    assert command_line(["compile", "alexnet", "--preset", "tiny", "-o", "out"]) == 2
    assert capsys.readouterr() == (
        "", "spikeloom: lif1 (conv1): pooled channels: needs 64; legal: at most 32 on preset tiny; try: a larger preset or a "
            "smaller layer\n")
    trained = [entry.name for entry in shipped().values() if entry.trained]
    assert {"digits", "cnn-digits", "statten-digits", "statten-saccades"} <= {*trained}
    assert command_line(["train", "vgg16"]) == 2
    assert capsys.readouterr() == ("", "spikeloom: workload: must have been trained on data of its own, not 'vgg16'; "
                                       f"legal: {', '.join(trained)}; try: spikeloom list\n")


def test_data_of_ones_own(tmp_path: Path) -> None:
    """One seeded image is shown by default; images and labels of one's own take their place, others are refused."""
    given = load_workload("alexnet", LOAS)
    assert (given.shown, len(given.x), given.y, given.captured) == (1, 20, None, None)
    path = tmp_path / "x.npz"
    x = seeded(3)[1:].clip(-3, 3)
    np.savez(path, x=x, y=np.array([3, 9]))
    own = load_workload("alexnet", LOAS, data=path)
    assert own.y is not None and own.y.tolist() == [3, 9] and np.array_equal(own.x, x)
    for one, other in zip(given.network.layers, own.network.layers, strict=True):
        assert all(np.array_equal(p.weight, q.weight) for p, q in zip(one.passes, other.passes, strict=True))
    np.savez(path, x=np.zeros((1, 4, 3, 32, 32)))
    with pytest.raises(ParameterError) as error:
        load_workload("alexnet", LOAS, data=path)
    assert str(error.value) == f"data: {path}: x must be real numbers [N, 3, 32, 32], not float64 [1, 4, 3, 32, 32]"


def test_even_sparsity() -> None:
    """A tenth of the weights of every layer that does not read the image, thresholds for one ratio, S twice the threshold."""
    network = synthetic_network(find("statten-cifar-2-256"), HEADED, 4, QUARTER)
    assert network.weight_sparsity == pytest.approx(0.9, abs=0.005)
    assert len(network.layers) == 22
    trace = run(network, {key: torch.from_numpy(word) for key, word in image(network).items()})
    for layer in network.layers:
        for p in layer.passes:
            kept = np.count_nonzero(p.weight) / p.weight.size
            assert kept == 1 if p.source.startswith("input.") else kept == pytest.approx(0.1, abs=0.01), layer.name
        output = trace.layers[layer.name].output
        if output is not None and output.numel() > 64:
            assert (output != 0).double().mean() == pytest.approx(0.25, abs=POINTS), layer.name
        if layer.attention is not None and layer.neuron is not None:
            assert {layer.attention.saturation} == {2 * threshold for threshold in layer.neuron.threshold.tolist()}
    module = to_torch(network)
    module(torch.from_numpy(quantise_input(seeded(1)[0], network.input))[None])
    for key, found in trace.layers.items():
        if found.words is not None:
            assert np.array_equal(module.spikes[key][:, 0].numpy(), unpack(found.words, 4).numpy()), key


@pytest.mark.parametrize(("name", "side"), [("statten-cifar-2-256", 8), ("statten-imagenet-block", 4)])
def test_the_list_has_what_is_drawn(name: str, side: int) -> None:
    """Layers, shapes and sparsity of the list are those of the module and of the built network, on a small map."""
    facts = find(name)
    (entry,) = (entry for entry in workloads() if entry["name"] == name)
    with torch.device("meta"):
        parameters = import_module(f"models.{name.replace('-', '_')}").Model().named_parameters()
    assert entry["shapes"] == {
        key.removesuffix(".weight").replace(".", "_"): [*weight.shape] for key, weight in parameters
        if weight.ndim > 1 and not key.startswith("stream.")}
    shown = frames(torch.zeros(1, entry["input"][0], side, side), facts.steps)
    network = synthetic_network(facts, facts.arch, facts.steps, example=shown)
    drawn = {p.weight.shape for layer in network.layers for p in layer.passes if not is_identity(p)}
    assert drawn == {(*shape, 1, 1)[:4] for shape in map(tuple, entry["shapes"].values())}
    assert network.weight_sparsity == entry["weight_sparsity"]


def test_seeded_images() -> None:
    """The first images do not depend on how many there are; all differ."""
    few, many = seeded(2), seeded(5)
    assert few.shape == (2, 3, 32, 32) and few.dtype == np.float32 and np.array_equal(few, many[:2])
    assert len({x.tobytes() for x in many}) == 5
