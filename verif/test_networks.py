"""AlexNet, VGG16 and ResNet19, image to class on the RTL of ``tiny`` at a share of their channels: every spike compared."""

from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from golden.arch import PRESETS
from golden.capture import capture
from golden.network import Network
from golden.run import logits, run
from models.datasets import seeded
from models.published import NETWORKS
from models.workloads import find
from verif.compare import compare
from verif.simulate import Simulated, run_images, simulate
from verif.synthetic_workload import synthetic_network
from verif.system import System
from verif.workload import Workload

ARCH = PRESETS["tiny"]
WIDTHS = {"alexnet": 1 / 8, "vgg16": 1 / 16, "resnet19": 1 / 16}
HEADS = {"alexnet": "fc", "vgg16": "fc", "resnet19": "fc2"}


@cache
def shown(name: str) -> tuple[Network, Simulated]:
    """Return a network with random weights and its run on one seeded image."""
    network = synthetic_network(find(name), ARCH, 4, WIDTHS[name])
    return network, run_images(Workload(name, network, None, seeded(1), None), System(ARCH), 1)


@pytest.mark.parametrize("name", NETWORKS)
def test_random_weights(name: str) -> None:
    """Encoder, spiking layers, shortcuts, pools and head: all neuron steps are compared and equal, and the class is."""
    _, done = shown(name)
    layers = done.compared[0]
    assert [layer.mismatches for layer in layers] == [0] * len(layers)
    assert done.rtl == done.golden
    trace = done.traces[0].layers
    neurons = {key: found.words.numel() for key, found in trace.items() if found.words is not None}
    assert {layer.name: layer.neuron_steps for layer in layers if layer.neuron_steps} == {
        key: 4 * count for key, count in neurons.items()}
    assert [layer.name for layer in layers if not layer.neuron_steps] == [HEADS[name]]
    outputs = [found.output for found in trace.values() if found.output is not None]
    assert all(0 < int((output != 0).sum()) < output.numel() for output in outputs)
    assert len({*logits(done.traces[0]).tolist()}) > 1


def test_another_network_is_seen() -> None:
    """Golden with one threshold that is one higher differs from what ran, in that layer first."""
    network, done = shown("alexnet")
    layers = list(network.layers)
    step = layers[3].neuron
    assert step is not None
    layers[3] = replace(layers[3], neuron=replace(step, threshold=step.threshold + 1))
    other = replace(network, layers=tuple(layers))
    compared = compare(other, done.image, run(other, done.traces[0].inputs), done.result.runs[0], ARCH.lanes)
    assert [layer.mismatches > 0 for layer in compared][:4] == [False, False, False, True]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_captured_network_of_the_same_shape(name: str, tmp_path: Path) -> None:
    """The float module itself, captured and lowered, is exact too; without labels there is no accuracy."""
    module = import_module(f"models.{name}")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = module.Model(1 / 16)
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.constant_(layer.weight, 1.5)
                assert layer.running_mean is not None and layer.running_var is not None
                nn.init.uniform_(layer.running_mean, -0.5, 0.5)
                nn.init.constant_(layer.running_var, 0.05)
            elif isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.uniform_(layer.bias, 0, 0.6)
                layer.weight.data.mul_(3)
    capture(model, torch.from_numpy(seeded(1)), tmp_path / "net.safetensors")
    np.savez(tmp_path / "x.npz", x=seeded(1))
    report = simulate(str(tmp_path / "net.safetensors"), "tiny", data=tmp_path / "x.npz")
    assert (report["mismatches"], report["images"], report["T"]) == (0, 1, 4)
    assert report["matches"] > 0
    assert all(layer["spikes_changed"] for layer in report["layers"] if layer["neuron_steps"])
    assert (report["accuracy_rtl"], report["accuracy_golden"], report["accuracy_float"]) == (None, None, None)
