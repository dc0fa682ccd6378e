"""The shipped VGG9: neurons with soft reset, weights of 4 bits, all steps at once."""

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron as spikingjelly
from torch import nn

from golden.imc.arch import IMC_PRESETS
from golden.imc.run import run
from golden.run import run as plain_run
from golden.store import load
from models.spiking import LIFNode
from models.vgg9_digits import STEPS, WEIGHT_BITS, Rounded, Vgg9Digits
from models.workloads import find
from verif.imc.lowering import lowering_arch
from verif.imc.setting import setting_of
from verif.imc.simulate import simulate
from verif.workload import load_workload

P = IMC_PRESETS["spikesim"]
NAME = "vgg9-digits"


@pytest.mark.parametrize("soft", [True, False])
def test_neuron_is_spikingjellys(soft: bool, seed: int) -> None:
    """Spikes and membranes of both resets are SpikingJelly's; those of the other reset are not."""
    torch.manual_seed(seed)
    own, other = LIFNode(2.0, 0.5, soft=soft), LIFNode(2.0, 0.5, soft=not soft)
    theirs = spikingjelly.LIFNode(tau=2.0, v_threshold=0.5, v_reset=None if soft else 0.0)
    differs = False
    for current in torch.randn(20, 200) * 2:
        spike = own(current)
        assert torch.equal(spike, theirs(current)) and torch.equal(torch.as_tensor(own.v), theirs.v)
        differs |= not torch.equal(spike, other(current))
    assert differs


def test_all_steps_at_once(seed: int) -> None:
    """The mean over all steps at once is a quarter of the sum of one step after the other."""
    torch.manual_seed(seed)
    for share in (1, 2, 4):
        model, x = Vgg9Digits(share).eval(), torch.rand(3, 1, 8, 8)
        with torch.no_grad():
            assert torch.allclose(model.answers(x) * STEPS, model.logits(x, STEPS), atol=1e-5)


def test_shared_steps_are_alike_behind_the_norm(seed: int) -> None:
    """Channels that share a membrane are rounded in steps that are one step behind BatchNorm; alone they are not."""
    torch.manual_seed(seed)
    weight, norm = torch.randn(8, 4, 3, 3), nn.BatchNorm2d(8)
    nn.init.uniform_(norm.weight, 0.25, 2.0)
    assert norm.running_var is not None
    norm.running_var.uniform_(0.5, 3.0)
    gain = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach()[:, None, None, None]
    behind = (Rounded(2, norm)(weight) * gain).reshape(2, 4, -1)
    most = behind.abs().amax((0, 2))
    steps = behind / most[:, None] * ((1 << WEIGHT_BITS - 1) - 1)
    assert (steps - steps.round()).abs().max() < 1e-4
    assert torch.allclose(most, (weight * gain).reshape(2, 4, -1).abs().amax((0, 2)))
    alone = (Rounded()(weight) * gain).reshape(2, 4, -1) / most[:, None] * ((1 << WEIGHT_BITS - 1) - 1)
    assert (alone - alone.round()).abs().max() > 0.1


def test_weights_are_of_four_bits(seed: int) -> None:
    """Rounded weights are at most 7 steps, the largest one stays, gradients pass; so are those of the checkpoint."""
    torch.manual_seed(seed)
    weight = torch.randn(5, 4, 3, 3, requires_grad=True)
    rounded = Rounded()(weight)
    rounded.sum().backward()
    assert weight.grad is not None and torch.equal(weight.grad, torch.ones_like(weight))
    tensors = load(find(NAME).checkpoint).tensors
    shipped = [tensor for name, tensor in tensors.items() if name.endswith("weight") and tensor.ndim > 1]
    assert len(shipped) == 9
    most = (1 << WEIGHT_BITS - 1) - 1
    for tensor in (rounded.detach().numpy(), *shipped):
        rows = tensor.reshape(len(tensor), -1).astype(np.float64)
        steps = rows / np.abs(rows).max(axis=1, keepdims=True) * most
        assert np.abs(steps - steps.round()).max() < 1e-4 and len(np.unique(steps.round())) <= 2 * most + 1


@pytest.mark.parametrize(("name", "right", "right_of_eight"), [(NAME, 356, 357), (f"{NAME}-shared", 360, 359)])
def test_integers_of_four_bits(name: str, right: int, right_of_eight: int) -> None:
    """With weights of 4 bits an image more or less of the 360 is right, and golden on ideal crossbars is that network."""
    workload = load_workload(name, lowering_arch(P))
    assert max(int(abs(layer.passes[0].weight).max()) for layer in workload.network.layers) == 7
    assert workload.accuracy() == right / 360 and find(name).accuracy_golden == right_of_eight / 360
    setting, words = setting_of(P, None), workload.words(0)
    ideal, plain = run(workload.network, P, setting, words), plain_run(workload.network, words)
    assert all(np.array_equal(ideal.layers[name].currents, layer.currents) for name, layer in plain.layers.items())


def test_on_the_rtl() -> None:
    """The whole network on tiles: no mismatch in any layer (what is broken is found: verif/imc/test_simulate.py)."""
    report = simulate(NAME, "spikesim", 1)
    assert [layer["mismatches"] for layer in report["layers"]] == [0] * 9
    assert report["neuron_steps"] == 27_904 and report["accuracy_rtl"] == 1
