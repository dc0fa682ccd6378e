"""STAtten: the trained networks as integers, beside SpikingJelly's neurons, and on the accelerator."""

from dataclasses import replace
from functools import cache
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based.neuron import LIFNode

from golden.arch import PRESETS, Arch, ParameterError
from golden.attention import attention
from golden.capture import trace
from golden.limits import check
from golden.lower import lower, quantise_input
from golden.network import Attention, Network, Neuron, Pool, input_words, map_arrays
from golden.neuron import neuron
from golden.run import Trace, logits, predict, run, unpack
from golden.store import load
from golden.to_torch import to_torch
from hdl.image import build_image
from models import statten_imagenet_block
from models.datasets import SPLITS, seeded
from models.statten import SpatialTemporalAttention, STAtten, frames
from models.statten_sizes import CONFIGS, Config
from models.workloads import find
from spikeloom.cli import run as command_line
from spikeloom.program import compile_workload
from verif import simulate
from verif.heads import HEADS, STATTEN
from verif.simulate import memory_of, run_words
from verif.synthetic_workload import synthetic_network
from verif.system import Start, System
from verif.workload import Workload

MODELS = Path(__file__).parents[1] / "models"
INPUTS: dict[str, dict[str, Any]] = {
    "digits": {"input_kind": "static", "input_bits": 6, "input_scale": 0.0625},
    "saccades": {"input_kind": "steps", "input_bits": 1, "input_scale": 1.0},
}
REDUCED, SIDE, POINTS = 1 / 12, 7, 0.07
LEAST = {"digits": 0.96, "saccades": 0.93}
# loas with the units, which holds every network, and small builds: one that just holds 48 channels and T = 4, lockstep, and
# a loom for both.
LOAS = replace(PRESETS["loas"], attention=True, token_sum=True, buffer_bytes=1 << 19)
BUILDS = {
    "digits": replace(HEADS, name="heads-digits", attention_bits=4, attention_rows=160),
    "saccades": STATTEN,
}


@cache
def lowered(name: str, build: Arch = LOAS) -> Network:
    """Return a trained network as integers, in tensors."""
    captured = load(MODELS / f"statten-{name}.safetensors")
    network = lower(captured, CONFIGS[name].steps, build, name=f"statten-{name}", **INPUTS[name])
    return map_arrays(network, torch.asarray)


def images(name: str, network: Network, count: int | None = None) -> tuple[torch.Tensor, list[int]]:
    """Return the first quantised images of the test split, and their classes."""
    _, _, x, y = SPLITS[name]()
    return torch.from_numpy(np.asarray(quantise_input(x[:count], network.input))), [int(label) for label in y[:count]]


def differing(network: Network, x: torch.Tensor, build: Arch) -> list[str]:
    """Return the layers in which the accelerator differs from golden on one image."""
    words = {key: word.numpy() for key, word in input_words(x, network.input, network.steps).items()}
    return [layer.name for layer in run_words(network, [words], System(build)).compared[0] if layer.mismatches]


def same_spikes(network: Network, x: torch.Tensor) -> tuple[torch.Tensor, list[Trace]]:
    """Assert that SpikingJelly's neurons make golden's spikes in every layer; return their answers and golden's runs."""
    library = to_torch(network)
    answers, traces = library(x), []
    for number, image in enumerate(x):
        found = run(network, input_words(image, network.input, network.steps))
        for layer in network.layers:
            words = found.layers[layer.name].words
            if words is not None:
                spikes = library.spikes[layer.name][:, number].to(torch.int64)
                assert torch.equal(unpack(words, network.steps), spikes), layer.name
        traces.append(found)
    return answers, traces


@pytest.mark.parametrize("name", LEAST)
def test_accuracy(name: str) -> None:
    """The integer network classifies the whole test split as well as promised."""
    network = lowered(name)
    x, y = images(name, network)
    right = sum(predict(run(network, input_words(image, network.input, network.steps))) == label
                for image, label in zip(x, y, strict=True))
    assert right / len(y) >= LEAST[name], right


@pytest.mark.parametrize("name", LEAST)
def test_spikingjelly_makes_the_same_spikes(name: str) -> None:
    """SpikingJelly's neurons with integer thresholds, on plain matrix products of the integers, give every spike."""
    network = lowered(name)
    x, _ = images(name, network, 4)
    answers, traces = same_spikes(network, x)
    for answer, found in zip(answers, traces, strict=True):
        assert torch.equal(logits(found).float(), answer)


@pytest.mark.parametrize(("steps", "chunk_steps", "tokens", "size", "saturation"), [
    (4, 2, 8, 32, 8), (4, 2, 14, 64, 14), (10, 5, 16, 32, 1280), (16, 4, 16, 32, 1024)])
def test_spikingjelly_attends_without_saturation(steps: int, chunk_steps: int, tokens: int, size: int, saturation: int) -> None:
    """The published module with scale 1, in front of SpikingJelly's neuron, fires as golden's counters that stop at S do."""
    generator = torch.Generator().manual_seed(0)
    shape, p = (steps, 2 * size, tokens, tokens), Attention(
        query="q", key="k", value="v", heads=2, chunk_steps=chunk_steps, saturation=saturation)
    for density in (0.02, 0.1, 0.5):
        q, k, v = ((torch.rand(shape, generator=generator) < density).long() for _ in range(3))
        whole = SpatialTemporalAttention(2, chunk_steps, 1)(*(spikes.float()[:, None] for spikes in (q, k, v)))
        library = LIFNode(tau=2.0, v_threshold=saturation / 2, v_reset=0.0, step_mode="m")
        sums, _ = attention(q, k, v, p)
        fired = neuron(sums, Neuron(threshold=torch.full((2 * size,), saturation // 2), leak_shift=1, decay_input=True))
        assert torch.equal(library(whole)[:, 0].long(), fired)
    assert whole.max() > saturation and fired.any()


@pytest.mark.parametrize("name", LEAST)
def test_every_spike_on_the_accelerator(name: str) -> None:
    """One image, no difference in any word, fiber, current or read-out."""
    network = lowered(name, BUILDS[name])
    x, _ = images(name, network, 1)
    assert differing(network, x[0], BUILDS[name]) == []


def test_reduced_block_on_the_accelerator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A block of 64 channels on 49 tokens with random weights: silent as calibrated, and no difference."""
    build, shown = BUILDS["saccades"], statten_imagenet_block.example(REDUCED, SIDE)
    network = synthetic_network(find("statten-imagenet-block"), build, 4, REDUCED, example=shown)
    images = seeded(1, (shown.shape[2], SIDE, SIDE))
    x = torch.from_numpy(np.asarray(quantise_input(images[0], network.input)))
    trace_of = run(network, input_words(x, network.input, 4))
    for layer in network.layers:
        output = trace_of.layers[layer.name].output
        assert output is None or (output != 0).double().mean() == pytest.approx(0.25, abs=POINTS), layer.name
    assert network.layers[-1].store_currents and not network.layers[-1].readout
    workload = Workload("block", network, None, images, np.zeros(1, np.int64), 1)
    monkeypatch.setattr(simulate, "load_preset", lambda name: build)
    monkeypatch.setattr(simulate, "load_workload", lambda *given, **options: workload)
    report = simulate.simulate("block", "small")
    assert (report["mismatches"], report["accuracy_rtl"], report["accuracy_golden"]) == (0, None, None)
    monkeypatch.setattr("verif.workload.load_workload", lambda *given, **options: workload)
    with pytest.raises(ParameterError, match=r"^workload: must end in a read-out, which the driver compares, not block"):
        compile_workload("block", "tiny", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("changes", "message"), [
    ({"steps": 4, "chunk_steps": 3}, "chunk_steps must divide T = 4, not 3"),
    ({"heads": 5}, "heads must divide the width 48, not 5"),
    ({"pool": "011"}, "pool four digits 0 or 1"),
])
def test_bad_sizes(changes: dict[str, Any], message: str) -> None:
    """Sizes that do not divide are refused in one line."""
    with pytest.raises(ParameterError, match=message) as error:
        Config(**{**vars(CONFIGS["digits"]), **changes})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("heads", "chunk_steps", "message"), [
    (2, 3, "chunk_steps must divide T = 4, not 3; legal: 1, 2, 4"), (5, 2, "heads must divide the width 16, not 5; legal: 1,"),
])
def test_bad_parts(heads: int, chunk_steps: int, message: str) -> None:
    """The module refuses parts that do not divide what it is given, and so does capture, in one line."""
    spikes = torch.zeros(4, 2, 16, 3, 3)
    module = SpatialTemporalAttention(heads, chunk_steps, 4)
    with pytest.raises(ParameterError, match=message):
        module(spikes, spikes, spikes)
    model = STAtten(CONFIGS["digits"])
    unit = model.get_submodule("blocks.0.attn.attention")
    assert isinstance(unit, SpatialTemporalAttention)
    unit.heads, unit.chunk_steps = heads, chunk_steps
    with pytest.raises(ParameterError, match=message.replace("16", "48")) as error:
        trace(model.eval(), frames(torch.rand(2, 1, 8, 8), 4))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("unit", "message"), [
    ("attention", "attention: preset loas has none"), ("token_sum", "sum over a window: preset loas has none")])
def test_build_without_the_unit(unit: str, message: str) -> None:
    """A build that lacks a unit refuses the network in one line."""
    lacking = replace(LOAS, attention=unit != "attention", token_sum=unit != "token_sum")
    with pytest.raises(ParameterError, match=message):
        check(lowered("digits"), lacking)


def test_the_accelerator_without_the_unit_says_so() -> None:
    """A program that needs attention ends in error code 5 on tiny, which has none."""
    image = build_image(map_arrays(lowered("digits", BUILDS["digits"]), np.asarray), BUILDS["digits"])
    memory, offsets = memory_of(image, [b""])
    result = System(PRESETS["tiny"]).run(memory, [Start(offset) for offset in offsets], stats_offset=image.stats)
    assert result.runs[0].error_code == 5


@pytest.mark.parametrize(("words", "message"), [
    (["--T", "3"], "attention: chunk_steps must divide T = 3, not 2; legal: 1, 3"),
    (["--preset", "tiny"], "try: token_sum = true in a preset file"),
])
def test_bad_command(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Steps that chunks do not divide, and a build without the unit, are one line and exit code 2."""
    assert command_line(["simulate", "statten-digits", *words]) == 2
    found = capsys.readouterr()
    assert found.out == "" and found.err.count("\n") == 1 and found.err.endswith(f"{message}\n")


@pytest.mark.parametrize(("changes", "message"), [
    ({"chunk_steps": 3}, "chunk_steps must divide T = 4, not 3; legal: 1, 2, 4"),
    ({"heads": 4}, "heads must be in parts of whole bytes of 48 channels, not 4"),
    ({"saturation": 1 << 11}, "saturation: needs 2048; legal: 1 to 2047"),
])
def test_bad_attention(changes: dict[str, Any], message: str) -> None:
    """Integer networks whose attention does not fit are refused in one line."""
    network = lowered("digits")
    layers = [layer if layer.attention is None else replace(layer, attention=replace(layer.attention, **changes))
              for layer in network.layers]
    with pytest.raises(ParameterError, match=message):
        check(replace(network, layers=tuple(layers)), LOAS)


@pytest.mark.parametrize(("name", "millions", "tokens"), [
    ("cifar-2-256", 2.567, 64), ("cifar-2-512", 10.234, 64), ("imagenet-8-512", 29.690, 196), ("imagenet-8-768", 66.339, 196),
    ("dvs-2-256-t10", 2.567, 256), ("dvs-2-256-t16", 2.567, 256)])
def test_sizes_as_published(name: str, millions: float, tokens: int) -> None:
    """Configurations have the published parameters (with 8 x 8 of each block that the published code does not use), and S."""
    config, unused = CONFIGS[name], 64 * CONFIGS[name].depth
    with torch.device("meta"):
        model = STAtten(config)
    assert round((sum(parameter.numel() for parameter in model.parameters()) + unused) / 1e6, 3) == millions
    unit = model.get_submodule("blocks.0.attn.attention")
    assert isinstance(unit, SpatialTemporalAttention)
    assert unit.scale == (tokens * config.chunk_steps if config.dvs else isqrt(tokens))


def test_captured_as_published() -> None:
    """The stem pools currents before its last neurons, the head sums the tokens, and S is twice the threshold."""
    network = lowered("digits")
    by_name = {layer.name: layer for layer in network.layers}
    assert by_name["lif3"].max_pool == Pool(kernel=3, stride=2, padding=1) and by_name["lif3"].store_currents
    assert by_name["head_lif"].sum_pool == Pool(kernel=4, stride=4)
    heads = by_name["blocks_0_attn_attn_lif"]
    assert heads.attention is not None and heads.neuron is not None
    assert (heads.attention.saturation, set(heads.neuron.threshold.tolist())) == (4, {2})


def test_odd_scale_is_refused() -> None:
    """A scale whose half is no whole number has no integer threshold."""
    model = STAtten(replace(CONFIGS["digits"], shape=(1, 6, 6))).eval()
    captured = trace(model, frames(torch.rand(2, 1, 6, 6), 4))
    with pytest.raises(ParameterError, match="threshold x scale must be a whole number"):
        lower(captured, 4, LOAS, name="odd", **INPUTS["digits"])
