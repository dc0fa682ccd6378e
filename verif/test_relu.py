"""Networks with ReLU: captured, lowered to 8-bit values, exact on the RTL beside an integer network in plain torch."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from golden.arch import PRESETS, Arch, ParameterError, load_preset
from golden.capture import load, trace
from golden.float_run import float_run
from golden.limits import check
from golden.lower import lower, quantise_input
from golden.network import Network, Neuron, Pool, Requantise, input_words
from golden.run import Trace, logits, predict, run
from golden.store import Captured, save
from golden.to_torch import to_torch
from hdl.image import Image, build_image
from models.workloads import find
from spikeloom.cli import run as command_line
from verif.compare import LayerResult, compare
from verif.simulate import run_images, simulate
from verif.system import Run, System
from verif.workload import load_workload

LOAS = PRESETS["loas"]
IMAGES = 2
WORDS = {"relu1": 16 * 8 * 8, "relu2": 0, "pool": 32 * 4 * 4, "relu3": 32 * 4 * 4, "fc": 0}
Spelling = Callable[[Tensor], Tensor]
SPELLINGS: dict[str, Spelling] = {
    "module": nn.ReLU(), "in place": nn.ReLU(inplace=True), "functional": F.relu, "torch": torch.relu,
    "method": lambda x: x.relu()}


class Small(nn.Module):
    """Two convolutions with ReLU, joined as tests say, and a read-out of maps 6x6 or 3x3."""

    def __init__(self, join: str = "chain", relu: Spelling = F.relu) -> None:
        super().__init__()
        self.relu, self.join = relu, join
        self.conv1, self.conv2 = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.bn, self.maximum, self.average = nn.BatchNorm2d(6), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2)
        self.fc = nn.Linear(6 * (9 if "pool" in join else 36), 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        a = self.relu(self.bn(self.conv1(x)))
        if self.join == "residual":
            b = self.conv2(a) + a
        elif self.join == "average pool":
            b = self.conv2(self.average(a))
        else:
            b = self.conv2(a)
        b = self.relu(b)
        if self.join == "max-pool":
            b = self.maximum(b)
        elif self.join == "max-pool and shortcut":
            b = self.maximum(b) + self.maximum(a)
        out: Tensor = self.fc(b.flatten(1))
        return out


JOINS = ("chain", "residual", "max-pool", "max-pool and shortcut", "average pool")


def small(join: str = "chain", relu: Spelling = F.relu) -> nn.Module:
    """Return a network with seeded weights."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return Small(join, relu).eval()


def images(count: int, seed: int = 0) -> Tensor:
    """Return random images [N, 2, 6, 6] in -1..1."""
    return 2 * torch.rand(count, 2, 6, 6, generator=torch.Generator().manual_seed(seed)) - 1


def lowered(captured: Captured, arch: Arch = LOAS, steps: int = 1) -> Network:
    """Return the integer network of a captured one whose input has 8 bits."""
    return lower(captured, steps, arch, name="net", input_bits=8, input_scale=1 / 127)


def operands(network: Network, x: Tensor) -> dict[str, Any]:
    """Return the input words of one image."""
    return input_words(quantise_input(x.numpy(), network.input), network.input, network.steps)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_captured(spelling: str, tmp_path: Path) -> None:
    """Each way to write a ReLU is one node with its largest output on the whole example; the file says T = 1."""
    shown = torch.cat([images(3), 3 * images(1, seed=1)])
    captured = trace(small("chain", SPELLINGS[spelling]), shown)
    save(captured, tmp_path / "net.safetensors")
    again = load(tmp_path / "net.safetensors")
    model = small()
    assert isinstance(model, Small)
    first = F.relu(model.bn(model.conv1(shown))).detach()
    assert [node.args["peak"] for node in again.nodes if node.op == "relu"] == [
        float(first.max()), float(F.relu(model.conv2(first)).detach().max())]
    assert float(first.max()) > float(first[:2].max())
    assert again.steps == captured.steps == 1
    assert torch.equal(float_run(again, shown, 1).logits, model(shown).detach())


@pytest.mark.parametrize("join", JOINS)
def test_lowered_networks_stay_close(join: str) -> None:
    """Logits of 8-bit values are within 3 % of the float network's largest, for every way to join two layers."""
    captured = trace(small(join), images(200))
    network = lowered(captured)
    scale = network.float_info[network.layers[-1].name]["scale_max"]
    x = images(20)
    wanted = float_run(captured, x, 1).logits.numpy()
    got = np.stack([np.asarray(logits(run(network, operands(network, image)))) for image in x]) * scale
    assert np.abs(got - wanted).max() < 0.03 * np.abs(wanted).max()
    assert any(layer.requantise for layer in network.layers)
    assert build_image(network, LOAS).plans


def test_less_calibration_data_clips() -> None:
    """Ranges taken from faint images clip what the real ones hold: the logits are far away."""
    x = images(20)
    far = []
    for shown in (images(200), images(200) / 10):
        captured = trace(small(), shown)
        network = lowered(captured)
        wanted = float_run(captured, x, 1).logits.numpy()
        got = np.stack([np.asarray(logits(run(network, operands(network, image)))) for image in x])
        far.append(float(np.abs(got * network.float_info["fc"]["scale_max"] - wanted).max()))
    assert far[1] > 10 * far[0]


def test_factors_stay_below_one() -> None:
    """Where a layer's values are small beside its weights its unit becomes finer, so that the factor is below 1."""
    captured = trace(small(), images(4) / 1000)
    peaks = [replace(node, args={"peak": node.args["peak"] / 1000}) if node.op == "relu" else node
             for node in captured.nodes]
    network = lowered(replace(captured, nodes=tuple(peaks)))
    shifts = [plane.shift for p in network.layers[0].passes for plane in p.planes]
    assert min(shifts) > 0
    for layer in network.layers[:-1]:
        assert layer.requantise is not None
        assert (layer.requantise.multiplier < 1 << layer.requantise.shift).all()


def test_refusals() -> None:
    """A ReLU has one step, and needs a build with requantisers."""
    captured = trace(small(), images(2))
    for arguments, message in (
            ({"steps": 4}, "T: must be 1 for a network with ReLU, which has no time, not 4; try: --T 1"),
            ({"arch": PRESETS["tiny"]}, "relu (conv1): requantiser: preset tiny has none; legal: layers with neurons; "
                                        "try: --preset loas, or requantise = true in a preset file")):
        with pytest.raises(ParameterError) as error:
            lowered(captured, **arguments)
        assert str(error.value) == message


def scaled(**changes: Any) -> Requantise:
    """Return a legal requantiser with changes."""
    legal = {"multiplier": np.full(6, 100), "shift": np.full(6, 7), "bits": 8}
    return Requantise(**{**legal, **changes})


NEURON = Neuron(threshold=np.ones(6, np.int64), leak_shift=0)
FACTORS = "requantiser: multipliers {} with shifts {} do not fit; legal: shifts 1..31, multipliers 0..65535 below 2^shift"
BESIDE = "requantiser: stands in place of the neuron and its mask, not beside them"
ILLEGAL: list[tuple[dict[str, Any], str]] = [
    ({"requantise": scaled(bits=17)},
     "bits of a requantised word: needs 17; legal: 1 to 16 on preset loas; try: a larger preset or a smaller layer"),
    ({"requantise": scaled(bits=0)},
     "bits of a requantised word: needs 0; legal: 1 to 16 on preset loas; try: a larger preset or a smaller layer"),
    ({"requantise": scaled(shift=np.full(6, 0))}, FACTORS.format("100..100", "0..0")),
    ({"requantise": scaled(shift=np.full(6, 32))}, FACTORS.format("100..100", "32..32")),
    ({"requantise": scaled(multiplier=np.arange(6) + 123)}, FACTORS.format("123..128", "7..7")),
    ({"requantise": scaled(multiplier=np.full(6, 65536), shift=np.full(6, 20))}, FACTORS.format("65536..65536", "20..20")),
    ({"requantise": scaled(multiplier=np.full(6, -1))}, FACTORS.format("-1..-1", "7..7")),
    ({"neuron": NEURON}, BESIDE),
    ({"min_spikes": 2}, BESIDE),
    ({"or_pool": Pool(kernel=2, stride=2)},
     ("OR-pool: must follow a neuron on sums alone, not residual or stored currents; legal: a layer of its own behind the "
      "neuron")),
]


@pytest.mark.parametrize(("changes", "message"), ILLEGAL)
def test_what_no_build_has_is_refused(changes: dict[str, Any], message: str) -> None:
    """`check` refuses requantisers that no field or adder holds, by layer; at the edge they pass."""
    network = lowered(trace(small(), images(2)))
    first, rest = network.layers[0], network.layers[1:]
    check(replace(network, layers=(replace(first, requantise=scaled(multiplier=np.full(6, 127))), *rest)), LOAS)
    with pytest.raises(ParameterError) as error:
        check(replace(network, layers=(replace(first, **changes), *rest)), LOAS)
    assert str(error.value) == f"relu (conv1): {message}"


def plain(network: Network, words: dict[str, Any]) -> dict[str, list[int]]:
    """Return the requantised values of every layer, computed by torch on whole numbers, and by fractions: no planes."""
    values = {name: torch.as_tensor(word) for name, word in words.items()}
    stored: dict[str, Tensor] = {}
    found: dict[str, list[int]] = {}
    for layer in network.layers:
        currents = torch.as_tensor(layer.bias)[:, None, None].double()
        for p in layer.passes:
            number = sum((values[p.source] >> b & 1) * (-1 if plane.negate else 1) * 2 ** plane.shift
                         for b, plane in enumerate(p.planes))
            assert isinstance(number, Tensor)
            currents = currents + F.conv2d(number[None].double(), torch.as_tensor(p.weight).double(), None, p.stride,
                                           p.padding)[0]
        if layer.residual is not None:
            currents = currents + stored[layer.residual]
        if layer.max_pool is not None:
            currents = F.max_pool2d(currents[None], layer.max_pool.kernel, layer.max_pool.stride, layer.max_pool.padding)[0]
        stored[layer.name] = currents
        if layer.requantise is not None:
            low, high = layer.requantise.range
            found[layer.name] = [
                min(max(floor(Fraction(int(x) * int(m), 1 << int(k)) + Fraction(1, 2)), low), high)
                for channel, m, k in zip(currents, layer.requantise.multiplier, layer.requantise.shift, strict=True)
                for x in channel.flatten().tolist()]
            values[layer.name] = torch.tensor(found[layer.name]).reshape(currents.shape)
    found["logits"] = [int(x) for x in currents.flatten().tolist()]
    return found


def golden_values(golden: Trace) -> dict[str, list[int]]:
    """Return golden's words and logits in the form of `plain`."""
    found = {name: [int(x) for x in layer.words.reshape(-1)] for name, layer in golden.layers.items()
             if layer.words is not None}
    return {**found, "logits": logits(golden).tolist()}


@pytest.mark.parametrize("join", JOINS)
def test_golden_equals_plain_arithmetic(join: str) -> None:
    """Every value of every layer is what convolutions of whole numbers and exact fractions give; to_torch agrees."""
    network = lowered(trace(small(join), images(50)))
    module = to_torch(network)
    for x in images(4, seed=5):
        words = operands(network, x)
        golden = golden_values(run(network, words))
        assert golden == plain(network, words)
        assert module(quantise_input(x.numpy(), network.input)[None])[0].tolist() == golden["logits"]


def test_a_multiplier_off_by_one_is_seen() -> None:
    """The comparison with plain arithmetic sees the last bit of one factor."""
    network = lowered(trace(small(), images(50)))
    first = network.layers[0]
    assert first.requantise is not None
    wrong = replace(first, requantise=replace(first.requantise, multiplier=first.requantise.multiplier - 64))
    words = operands(network, images(1)[0])
    assert golden_values(run(replace(network, layers=(wrong, *network.layers[1:])), words)) != plain(network, words)


def test_cnn_digits() -> None:
    """The shipped network is exact on the RTL: every requantised value is compared; so is every plain value."""
    report = simulate("cnn-digits", "loas", IMAGES)
    assert {layer["name"]: layer["neuron_steps"] for layer in report["layers"]} == {
        name: count * IMAGES for name, count in WORDS.items()}
    assert (report["mismatches"], report["first_mismatch"], report["T"]) == (0, None, 1)
    assert report["accuracy_rtl"] == report["accuracy_golden"] == 1
    workload = load_workload("cnn-digits", LOAS)
    golden = run(workload.network, workload.words(0))
    assert golden_values(golden) == plain(workload.network, workload.words(0))
    assert find("cnn-digits").checkpoint.stat().st_size < 1 << 20


def test_four_bit_values_on_a_small_build(tmp_path: Path) -> None:
    """``tiny`` with requantisers runs the same network with words of 4 bits, as accurate on the whole test split."""
    path = tmp_path / "small.toml"
    path.write_text('base = "tiny"\nrequantise = true\n')
    report = simulate("cnn-digits", str(path), 1)
    assert (report["mismatches"], report["neuron_steps"]) == (0, sum(WORDS.values()))
    workload = load_workload("cnn-digits", load_preset(str(path)))
    assert {layer.requantise.bits for layer in workload.network.layers if layer.requantise} == {4}
    assert workload.y is not None
    right = sum(predict(run(workload.network, workload.words(n))) == int(label) for n, label in enumerate(workload.y))
    shipped = find("cnn-digits").accuracy_golden
    assert shipped is not None and right / len(workload.y) >= shipped - 0.005


@cache
def one_image() -> tuple[Network, Image, Run, Trace]:
    """Return network, image, run and golden trace of the first digit."""
    workload = load_workload("cnn-digits", LOAS)
    done = run_images(workload, System(LOAS), 1)
    return workload.network, done.image, done.result.runs[0], run(workload.network, workload.words(0))


def compared(found: Run) -> dict[str, LayerResult]:
    """Return what the comparison finds in a run, by layer."""
    network, image, _, golden = one_image()
    return {layer.name: layer for layer in compare(network, image, golden, found, LOAS.lanes)}


def test_one_flipped_bit_of_a_value() -> None:
    """Two flipped bits of one recorded word are one mismatch, a word; so is a flipped bit of the stored fiber."""
    network, image, found, golden = one_image()
    assert found.words is not None and golden.layers["relu3"].words is not None
    number = [layer.name for layer in network.layers].index("relu3")
    row = int(np.nonzero((found.words.layer == number) & (found.words.column == 9))[0][0])
    data = found.words.data.copy()
    data[row, 6] ^= 0b1000_0001
    results = compared(dataclasses.replace(found, words=dataclasses.replace(found.words, data=data)))
    value = int(golden.layers["relu3"].words[9, 1, 2])
    assert {name: result.mismatches for name, result in results.items()} == {name: int(name == "relu3") for name in WORDS}
    assert results["relu3"].first == {
        "layer": "relu3", "in": "word", "channel": 9, "y": 1, "x": 2, "t": None, "golden": value,
        "rtl": value ^ 0b1000_0001, "cycle": int(found.words.cycle[row])}
    tensor, output = image.tensors["pool"], np.asarray(golden.layers["pool"].output)
    channel = int(np.nonzero(output[:, 0, 0])[0][0])
    memory = bytearray(found.dump)
    memory[tensor.values] ^= 1
    first = compared(dataclasses.replace(found, dump=bytes(memory)))["pool"].first
    value = int(output[channel, 0, 0])
    assert first == {"layer": "pool", "in": "fiber", "channel": channel, "y": 0, "x": 0, "t": None, "golden": value,
                     "rtl": value ^ 1, "cycle": None}


def test_an_injected_weight_bit_is_found(tmp_path: Path) -> None:
    """A flipped weight bit of a ReLU network is found at a value."""
    words = ["simulate", "cnn-digits", "--preset", "loas", "--images", "1", "--inject", "weight-bit", "--quiet"]
    assert command_line([*words, "--json", str(tmp_path / "report.json")]) == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["mismatches"] > 0
    assert (report["first_mismatch"]["layer"], report["first_mismatch"]["in"]) == ("relu1", "word")
