"""Lowering: exact where the weights are exactly representable, close elsewhere, every limit refused by name."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based import neuron as spikingjelly
from torch import Tensor, nn

from golden.arch import PRESETS, Arch, ParameterError
from golden.capture import load, trace
from golden.float_run import float_run
from golden.limits import check, membrane_bounds
from golden.lower import lower, quantise_input
from golden.network import Array, Input, Layer, Network, Neuron, Pool, input_words
from golden.quantise import COARSEST
from golden.run import Trace, logits, predict, run, unpack
from golden.store import Captured
from golden.to_torch import to_torch
from hdl.image import build_image
from models.datasets import digits
from models.workloads import find

ROOT = Path(__file__).resolve().parent.parent
LOAS, TINY = PRESETS["loas"], PRESETS["tiny"]
DIGITLESS = replace(LOAS, digit=False)
SLOW = Arch(name="slow", leak="1-2^-k", t_max=4)
STEPS = 4


class Body(nn.Module):
    """Two blocks and a read-out around a function that tests vary."""

    def __init__(self, make: Callable[[], nn.Module], join: str) -> None:
        super().__init__()
        self.join = join
        self.conv1, self.n1 = nn.Conv2d(2, 5, 3, padding=1), make()
        self.conv2, self.n2 = nn.Conv2d(5, 5, 3, padding=1), make()
        self.conv3, self.n3 = nn.Conv2d(5, 5, 3, padding=1), make()
        self.short, self.maximum, self.average = nn.Conv2d(5, 5, 1), nn.MaxPool2d(2), nn.AvgPool2d(2)
        self.wide, self.strided, self.kept = nn.MaxPool2d(3, 2, 1), nn.Conv2d(5, 5, 1, 2), nn.AvgPool2d(1)
        self.fine = nn.MaxPool2d(3, 1, 1)
        self.fc = nn.Linear(5 * (16 if join in (*POOLED, OVERLAP) else 64), 3)

    def forward(self, x: Tensor) -> Tensor:
        u = self.conv1(x)
        a = self.n1(u)
        if self.join == "chain":
            b = self.n2(self.conv2(a))
        elif self.join == "or-pool":
            b = self.maximum(self.n2(self.conv2(a)))
        elif self.join == "or-pool and spikes":
            b = self.n3(self.conv3(self.maximum(a)) + self.strided(a))
        elif self.join == "max-pool of currents":
            b = self.n2(self.wide(self.conv2(a)))
        elif self.join == "pool of spikes and of their currents":
            b = self.n2(self.maximum(u) + self.short(self.maximum(a)))
        elif self.join == "average of spikes":
            b = self.n3(self.conv3(self.average(self.n2(self.conv2(a)))))
        elif self.join == "strided convolution and average":
            b = self.n2(self.strided(a) + self.average(a))
        elif self.join == "or-pool behind an average of one":
            b = self.n3(self.strided(a) + self.maximum(self.kept(a)))
        elif self.join == "maximum of averages":
            b = self.n2(self.strided(a) + self.fine(self.average(a)))
        elif self.join == "average before linear":
            b = self.average(self.n2(self.conv2(a)))
        elif self.join == "average of currents":
            b = self.n2(self.average(self.short(a)))
        elif self.join == "average of overlapping currents":
            b = self.n2(self.average(self.conv2(a)))
        elif self.join == "two convolutions":
            b = self.n2(self.conv2(a) + self.short(a))
        elif self.join == "spikes added to currents":
            b = self.n2(self.conv2(a) + a)
        elif self.join == "spikes added to spikes":
            b = self.n3(self.conv3(self.n2(self.conv2(a)) + a))
        else:
            u = u + self.conv2(a)
            b = self.n3(u + self.conv3(self.n2(u)))
        out: Tensor = self.fc(b.flatten(1))
        return out


POOLED = ("or-pool", "or-pool and spikes", "max-pool of currents", "average of spikes", "average before linear",
          "average of currents", "pool of spikes and of their currents", "strided convolution and average",
          "or-pool behind an average of one", "maximum of averages")
OVERLAP = "average of overlapping currents"
JOINS = ("chain", *POOLED, "two convolutions", "spikes added to currents", "spikes added to spikes", "residual stream")

VARIANTS: dict[str, tuple[Callable[[], nn.Module], Arch]] = {
    "if": (spikingjelly.IFNode, LOAS),
    "if soft": (lambda: spikingjelly.IFNode(v_reset=None), LOAS),
    "lif": (lambda: spikingjelly.LIFNode(tau=2.0), LOAS),
    "lif soft": (lambda: spikingjelly.LIFNode(tau=2.0, v_reset=None), LOAS),
    "lif reset": (lambda: spikingjelly.LIFNode(tau=2.0, v_reset=-0.5, v_threshold=0.5), LOAS),
    "lif plain": (lambda: spikingjelly.LIFNode(tau=2.0, decay_input=False), LOAS),
    "leaky": (lambda: snntorch.Leaky(beta=0.5, init_hidden=True), LOAS),
    "leaky quarter": (lambda: snntorch.Leaky(beta=0.25, init_hidden=True), LOAS),
    "leaky zero": (lambda: snntorch.Leaky(beta=0.5, init_hidden=True, reset_mechanism="zero"), LOAS),
    "slow leaky": (lambda: snntorch.Leaky(beta=0.875, init_hidden=True), SLOW),
    "slow lif": (lambda: spikingjelly.LIFNode(tau=4.0, decay_input=True), SLOW),
}


def exact(model: nn.Module, seed: int = 0) -> nn.Module:
    """Return ``model`` with weights and biases that are multiples of 1/64, the largest of a channel 127/64."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            weight = torch.randint(-40, 48, module.weight.shape, generator=generator).float()
            weight *= torch.rand(weight.shape, generator=generator) < 0.5
            weight.flatten(1)[:, 0] = 127
            module.weight.data = weight / 64
            if module.bias is not None:
                module.bias.data = torch.randint(-20, 21, module.bias.shape, generator=generator) / 64
    return model.eval()


def frames(count: int, channels: int = 2, size: int = 8) -> Tensor:
    """Return multiples of 1/4 in -1.5..1.5, exact in 4 bits."""
    return torch.randint(-6, 7, (count, channels, size, size), generator=torch.Generator().manual_seed(3)) / 4


def lowered(captured: Captured, arch: Arch = LOAS) -> Network:
    return lower(captured, STEPS, arch, name="net", input_bits=4, input_scale=1.0)


def execute(network: Network, x: Tensor) -> Trace:
    return run(network, input_words(quantise_input(x, network.input), network.input, network.steps))


def changed(captured: Captured, network: Network, x: Tensor) -> dict[str, int]:
    """Return, per neuron layer, the spikes that differ from the float network's."""
    reference = float_run(captured, x, network.steps)
    counts = dict.fromkeys(reference.spikes, 0)
    for i, image in enumerate(x):
        trace_ = execute(network, image)
        for name, spikes in reference.spikes.items():
            words = trace_.layers[name].words
            assert words is not None
            counts[name] += int((unpack(words, network.steps).flatten(1) != spikes[:, i].flatten(1)).sum())
    return counts


def integral(x: Tensor) -> Tensor:
    return (x * 2).round()


def lower_exact(model: nn.Module, arch: Arch) -> tuple[Captured, Network, Tensor]:
    captured = trace(model, frames(1))
    return captured, lowered(captured, arch), integral(frames(4))


@pytest.mark.parametrize("join", JOINS)
@pytest.mark.parametrize("variant", ["if", "leaky"])
def test_every_join_is_exact(variant: str, join: str) -> None:
    make, arch = VARIANTS[variant]
    captured, network, x = lower_exact(exact(Body(make, join)), arch)
    differing = changed(captured, network, x)
    assert len(differing) >= 2
    assert set(differing.values()) == {0}
    assert build_image(network, LOAS).data
    reference = float_run(captured, x, STEPS)
    assert all(s.any() and not s.all() for s in reference.spikes.values())
    scale = network.float_info[network.layers[-1].name]["scale_max"]
    for i, image in enumerate(x):
        assert torch.equal(logits(execute(network, image)).double() * scale, reference.logits[i].double())


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_exact(variant: str) -> None:
    make, arch = VARIANTS[variant]
    captured, network, x = lower_exact(exact(Body(make, "two convolutions")), arch)
    assert set(changed(captured, network, x).values()) == {0}


def test_tau_four_thirds_folds_three_quarters() -> None:
    body = exact(Body(lambda: spikingjelly.LIFNode(tau=4 / 3, v_threshold=0.75), "chain"))
    captured, network, x = lower_exact(body, LOAS)
    first = network.layers[0].neuron
    assert first is not None
    assert first.leak_shift == 2
    assert not first.decay_input
    assert set(changed(captured, network, x).values()) == {0}


def test_a_wrong_threshold_is_seen() -> None:
    """Control: one threshold off by 10 % changes spikes."""
    captured, network, x = lower_exact(exact(Body(VARIANTS["if"][0], "chain")), LOAS)
    first = network.layers[0]
    assert first.neuron is not None
    wrong = replace(first, neuron=replace(first.neuron, threshold=first.neuron.threshold * 11 // 10))
    assert changed(captured, replace(network, layers=(wrong, *network.layers[1:])), x)["n1"] > 0


@pytest.mark.parametrize("join", JOINS)
@pytest.mark.parametrize("variant", ["lif", "if soft", "leaky zero"])
def test_to_torch_spikes_equal(variant: str, join: str) -> None:
    make, arch = VARIANTS[variant]
    _, network, x = lower_exact(exact(Body(make, join)), arch)
    module = to_torch(network)
    out = module(torch.stack([quantise_input(image, network.input) for image in x]))
    for i, image in enumerate(x):
        trace_ = execute(network, image)
        assert torch.equal(out[i].long(), logits(trace_))
        for name, spikes in module.spikes.items():
            words = trace_.layers[name].words
            assert words is not None
            assert torch.equal(unpack(words, STEPS), spikes[:, i].long())


def test_to_torch_refuses_what_spikingjelly_lacks() -> None:
    _, network, x = lower_exact(exact(Body(VARIANTS["leaky"][0], "chain")), LOAS)
    with pytest.raises(ParameterError) as error:
        to_torch(network)(quantise_input(x, network.input))
    assert str(error.value) == ("to_torch: SpikingJelly has no neuron with reset 'soft_delayed', compare '>', "
                                "leak 0.5; legal: hard, or soft with '>='; try: a neuron factory of your own")


@pytest.mark.parametrize("join", ["two convolutions", OVERLAP])
@pytest.mark.parametrize("bits", [4, 8])
def test_random_weights_stay_close(bits: int, join: str) -> None:
    torch.manual_seed(5)
    model = Body(VARIANTS["lif"][0], join).eval()
    for name in ("conv1", "conv2", "short"):
        model.get_submodule(name).get_parameter("weight").data *= 6
    captured, x = trace(model, frames(1)), integral(frames(4))
    network = lowered(captured, replace(LOAS, weight_bits=bits))
    reference = float_run(captured, x, STEPS)
    for name, count in changed(captured, network, x).items():
        assert 0 < reference.spikes[name].float().mean() < 1
        assert count / reference.spikes[name].numel() < (0.1 if bits == 4 else 0.02)
    for p in (p for layer in network.layers for p in layer.passes):
        assert int(np.abs(p.weight).max()) <= (7 if bits == 4 else 127)


def ending(*modules: nn.Module) -> nn.Module:
    """Return a network of one spiking layer on an 8 x 8 map and an end."""
    return exact(nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), spikingjelly.IFNode(), *modules))


def test_linear_layers_are_multiplied() -> None:
    """Linear layers without a neuron between them are the linear layer of their product, bias included."""
    chain = ending(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(20, 6), nn.Identity(), nn.Linear(6, 7), nn.Linear(7, 3))
    matrices = [(layer.weight.double(), layer.bias.double()) for layer in chain.children() if isinstance(layer, nn.Linear)]
    weight, bias = matrices[0]
    for matrix, offset in matrices[1:]:
        weight, bias = matrix @ weight, matrix @ bias + offset
    fc = nn.Linear(20, 3)
    single = ending(nn.AvgPool2d(4), nn.Flatten(), fc)
    fc.weight.data, fc.bias.data = weight.float(), bias.float()
    assert torch.equal(fc.weight.double(), weight) and torch.equal(fc.bias.double(), bias)
    many, one_ = (lowered(trace(model, frames(1))).layers for model in (chain, single))
    assert len(many) == len(one_) == 2
    assert np.array_equal(many[1].passes[0].weight, one_[1].passes[0].weight) and np.array_equal(many[1].bias, one_[1].bias)
    fc.weight.data[0, 0] += 1
    other = lowered(trace(single, frames(1))).layers
    assert not np.array_equal(many[1].passes[0].weight, other[1].passes[0].weight)


def test_multiplied_layers_of_added_spikes() -> None:
    """The product is taken for every layer that adds to the first one."""
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.n1 = nn.Conv2d(2, 4, 1), spikingjelly.IFNode()
            self.conv2, self.n2 = nn.Conv2d(4, 4, 1), spikingjelly.IFNode()
            self.end = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2))

        def forward(self, x: Tensor) -> Tensor:
            a = self.n1(self.conv1(x))
            out: Tensor = self.end(a + self.n2(self.conv2(a)))
            return out

    model = exact(Sum())
    captured = trace(model, frames(1))
    network = lowered(captured)
    assert [p.source for p in network.layers[-1].passes] == ["n1", "n2"]
    x = integral(frames(4))
    sums = torch.stack([torch.as_tensor(logits(execute(network, image))) for image in x]).double()
    scale = network.float_info["end_3"]["scale_max"]
    error = (sums * scale - float_run(captured, x, STEPS).logits.double()).abs().max()
    assert error <= 64 * 4 * 2 * STEPS * scale / 2


@pytest.mark.parametrize(("adaptive", "fixed"), [(nn.AdaptiveAvgPool2d(2), 4), (nn.AdaptiveAvgPool2d((1, 1)), 8),
                                                 (nn.AdaptiveAvgPool2d(8), 1)])
@pytest.mark.parametrize("spikes", [True, False])
def test_adaptive_average(adaptive: nn.Module, fixed: int, spikes: bool) -> None:
    """A size that divides the map is an average over windows of one size, on spikes and on currents."""
    features = 5 * (8 // fixed) ** 2
    tails: list[list[nn.Module]] = [
        [pool, nn.Flatten(), nn.Linear(features, 3)] if spikes else
        [nn.Conv2d(5, 5, 1), pool, spikingjelly.IFNode(), nn.Flatten(), nn.Linear(features, 3)]
        for pool in (adaptive, nn.AvgPool2d(fixed))]
    captured = [trace(ending(*modules), frames(1)) for modules in tails]
    x = integral(frames(2))
    assert torch.equal(*(float_run(each, x, STEPS).logits for each in captured))
    one_, other = (lowered(each).layers for each in captured)
    for a, b in zip(one_, other, strict=True):
        assert all(np.array_equal(p.weight, q.weight) for p, q in zip(a.passes, b.passes, strict=True))
        assert [p.stride for p in a.passes] == [p.stride for p in b.passes] and np.array_equal(a.bias, b.bias)


def test_groups_dilation_and_batchnorm() -> None:
    torch.manual_seed(6)
    model = nn.Sequential(nn.Conv2d(2, 6, 3, padding=2, dilation=2, groups=2), nn.BatchNorm2d(6),
                          spikingjelly.IFNode(), nn.Flatten(), nn.Linear(384, 4)).eval()
    norm = model.get_submodule("1")
    norm.get_buffer("running_mean").normal_(0, 0.2)
    norm.get_parameter("weight").data.uniform_(1, 3)
    captured, x = trace(model, frames(1)), integral(frames(4))
    network = lowered(captured)
    assert network.layers[0].passes[0].weight.shape == (6, 2, 5, 5)
    assert changed(captured, network, x)["layer2"] < 40


class Streams(nn.Module):
    """A membrane stream that a strong input convolution starts and two blocks go on (MS-ResNet)."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, 1, 1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(2))
        self.nodes = nn.ModuleList(spikingjelly.LIFNode(tau=2.0, v_threshold=0.5) for _ in range(3))
        self.pool, self.fc = nn.MaxPool2d(4), nn.Linear(channels * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        z = self.norm(self.stem(x))
        for node, conv, norm in zip(self.nodes, self.convs, self.norms, strict=False):
            z = z + norm(conv(node(z)))
        out: Tensor = self.fc(self.pool(self.nodes[2](z)).flatten(1))
        return out


def stream(seed: int, uneven: bool = False) -> tuple[Captured, Tensor]:
    """Return a captured `Streams` with the statistics of random images, and images; an integer step is 1/127.

    uneven : the second block writes half of its channels 16 times weaker than the other half
    """
    torch.manual_seed(seed)
    model = Streams()
    for _ in range(20):
        functional.reset_net(model)
        model(torch.rand(8, 3, 8, 8))
    if uneven:
        model.norms[1].get_parameter("weight").data[::2] /= 16
    x = torch.rand(4, 3, 8, 8)
    x[0, 0, 0, 0] = 1
    return trace(model.eval(), x[:1]), x


def share_changed(captured: Captured, network: Network, x: Tensor) -> float:
    """Return the share of all spikes that differ from the float network's."""
    return sum(changed(captured, network, x).values()) / sum(
        spikes.numel() for spikes in float_run(captured, x, STEPS).spikes.values())


def kernel(layer: Layer, channels: int) -> Array:
    """Return the float64 kernel that a layer applies to its first operand of so many channels, in units."""
    first = next(p for p in layer.passes if p.weight.shape[1] == channels)
    return sum(p.weight.astype(np.float64) * 2 ** p.planes[0].shift for p in layer.passes if p.source == first.source)


def pruned_against_the_rule(captured: Captured, network: Network) -> int:
    """Return how many non-zero weights of `Streams` became zero although the rule of `golden.quantise` forbids it."""
    bad = 0
    for number, layer in enumerate(network.layers[:3]):
        conv, norm = [("stem", "norm"), ("convs_0", "norms_0"), ("convs_1", "norms_1")][number]
        gain = captured.tensors[f"{norm}.weight"] / np.sqrt(captured.tensors[f"{norm}.var"] + 1e-5)
        weight = np.abs(captured.tensors[f"{conv}.weight"] * gain[:, None, None, None])
        assert layer.neuron is not None
        own = weight.max((1, 2, 3)) / 127 * (1 + 1 / layer.neuron.threshold)
        zero = kernel(layer, weight.shape[1]) == 0
        bad += int((zero & (weight > COARSEST / 2 * own[:, None, None, None])).sum())
    return bad


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_stream_that_starts_at_the_input_keeps_its_weights(seed: int, uneven: bool) -> None:
    """Writers of one stream have steps of their own: none loses weights, and few spikes change.

    Channels that differ between writers make one of them two passes, one per digit.
    """
    captured, x = stream(seed, uneven)
    network = lower(captured, STEPS, LOAS, name="net", calibration=x)
    stem, *blocks = [layer.passes[0].planes[0].shift for layer in network.layers[:3]]
    assert stem == 0 and min(blocks) >= 4
    assert (sum(len(layer.passes) for layer in network.layers[:3]) > 4) == uneven
    assert pruned_against_the_rule(captured, network) == 0
    assert share_changed(captured, network, x) < 0.025
    assert build_image(network, LOAS).data


def test_one_step_for_a_whole_stream_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with one step for all writers the input convolution loses weights and many spikes change."""
    captured, x = stream(0)
    monkeypatch.setattr("golden.quantise.COARSEST", 1 << 20)
    network = lower(captured, STEPS, LOAS, name="net", calibration=x)
    assert pruned_against_the_rule(captured, network) > 50
    assert share_changed(captured, network, x) > 0.05


@pytest.mark.parametrize("changes", [{"acc_bits": 18, "stream_bits": 18}, {"row_value_lines": 5}])
def test_a_narrow_build_takes_a_coarser_unit(changes: dict[str, Any]) -> None:
    """Sums that do not fit have smaller shifts, rows that do not fit no second digit; neither is a reason to refuse."""
    captured, x = stream(0, uneven=True)
    narrow, wide = (lower(captured, STEPS, arch, name="net", calibration=x) for arch in (replace(LOAS, **changes), LOAS))
    scale, finest = (n.float_info["nodes_0"]["scale_min"] for n in (narrow, wide))
    assert scale > finest
    assert share_changed(captured, narrow, x) < 0.05
    with pytest.raises(ParameterError):
        check(wide, replace(LOAS, **changes))


def test_zero_weights_stay_zero() -> None:
    model = exact(Body(VARIANTS["lif"][0], "chain"))
    captured, network, _ = lower_exact(model, LOAS)
    for name, layer in (("conv1", "n1"), ("conv2", "n2")):
        assert np.array_equal(captured.tensors[f"{name}.weight"] == 0, network.layer(layer).passes[0].weight == 0)


def test_spiking_output_is_counted() -> None:
    model = exact(nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), spikingjelly.IFNode(), nn.Flatten(), nn.Linear(192, 4),
                                spikingjelly.IFNode()))
    captured, x = trace(model, frames(1)), integral(frames(3))
    network = lowered(captured)
    reference = float_run(captured, x, STEPS)
    assert set(changed(captured, network, x).values()) == {0}
    for i, image in enumerate(x):
        assert logits(execute(network, image)).tolist() == reference.logits[i].tolist()
    assert network.layers[-1].name.endswith("_count")


def test_steps_input() -> None:
    model = exact(Body(VARIANTS["lif"][0], "chain"))
    captured = trace(model, frames(1))
    x = (torch.rand(2, STEPS, 2, 8, 8, generator=torch.Generator().manual_seed(4)) < 0.3).float()
    network = lower(captured, STEPS, LOAS, name="net", input_kind="steps", input_bits=1)
    assert len(network.layers[0].passes) == 1
    assert set(changed(captured, network, x).values()) == {0}
    wide = lower(captured, STEPS, LOAS, name="net", input_kind="steps", input_bits=3, input_scale=1.0)
    assert len(wide.layers[0].passes) == STEPS
    assert set(changed(captured, wide, x).values()) == {0}


def test_quantise_input() -> None:
    spec = Input(kind="static", channels=1, height=1, width=1, bits=4, scale=0.5, plane_bits=4)
    x = torch.tensor([-9.0, -0.75, -0.25, 0.24, 0.25, 0.75, 9.0])
    assert quantise_input(x, spec).tolist() == [-8, -1, 0, 0, 1, 2, 7]
    assert quantise_input(x, replace(spec, bits=1)).tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_calibration_uses_the_whole_range() -> None:
    captured, x = trace(exact(Body(VARIANTS["if"][0], "chain")), frames(1)), frames(4)
    network = lower(captured, STEPS, LOAS, name="net", calibration=x)
    assert int(quantise_input(x, network.input).abs().max()) == 127


def strong(scale: float) -> nn.Module:
    """Return a network whose first layer has weights of up to ``200 * scale`` at threshold ``scale``."""
    conv, fc = nn.Conv2d(2, 2, 1), nn.Linear(128, 2)
    conv.weight.data = torch.tensor([[200.0, -150.0], [-40.0, 200.0]]).reshape(2, 2, 1, 1) * scale
    conv.bias = nn.Parameter(torch.tensor([-25.0, 10.0]) * scale)
    return nn.Sequential(conv, spikingjelly.IFNode(v_threshold=scale), nn.Flatten(), fc).eval()


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_weights_far_above_the_threshold_are_not_clipped(scale: float) -> None:
    """A weight beyond 127 thresholds keeps its ratio to the others; clipping it would change spikes."""
    captured, x = trace(strong(scale), frames(1)), integral(frames(8))
    x = x[:, :1].expand(-1, 2, -1, -1)
    network = lowered(captured)
    layer = network.layers[0]
    weight, bias = layer.passes[0].weight, layer.bias
    assert weight[:, :, 0, 0].tolist() == [[127, -95], [-25, 127]]
    assert bias.tolist() == [-16, 6]
    assert layer.neuron is not None and layer.neuron.threshold.tolist() == [1, 1]
    spikes = float_run(captured, x, STEPS).spikes["layer1"].numel()
    assert changed(captured, network, x)["layer1"] == 0
    clipped = np.array([[127, -127], [-40, 127]], np.int8).reshape(2, 2, 1, 1)
    sweeps = tuple(replace(p, weight=clipped) for p in layer.passes)
    wrong = replace(network, layers=(replace(layer, passes=sweeps, bias=np.array([-25, 10])), *network.layers[1:]))
    assert changed(captured, wrong, x)["layer1"] > 0.1 * spikes


@pytest.mark.parametrize("bits", [4, 8])
def test_a_large_identity_is_spread_over_digits(bits: int) -> None:
    """Spikes added to currents weigh one threshold, which takes several passes where the kernel's weights are small."""
    torch.manual_seed(2)
    captured = trace(Body(VARIANTS["if"][0], "spikes added to currents").eval(), frames(1))
    network = lowered(captured, replace(LOAS, weight_bits=bits))
    layer = network.layer("n2")
    digits_ = [p for p in layer.passes if p.weight.shape[2:] == (1, 1)]
    total = sum(p.weight[:, :, 0, 0].astype(np.int64) << p.planes[0].shift for p in digits_)
    assert layer.neuron is not None
    assert len(digits_) > 1 and np.array_equal(total, np.diag(layer.neuron.threshold))


def wide_linear(features: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, features, 1), spikingjelly.IFNode(), nn.Flatten(), nn.Linear(features * 64, 2))


def one(node: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 2, 1), node, nn.Flatten(), nn.Linear(128, 2))


REFUSED: list[tuple[nn.Module, Arch, str]] = [
    (one(spikingjelly.LIFNode(tau=3.0)), LOAS, ("1: LIFNode: tau 3 does not exist with leak 2^-k; "
     "legal nearest: tau 2 and no leak (IFNode); try: --leak nearest")),
    (one(snntorch.Leaky(beta=0.375, init_hidden=True)), LOAS, ("1: Leaky: beta 0.375 does not exist with leak 2^-k; "
     "legal nearest: beta 0.25 and beta 0.5; try: --leak nearest")),
    (one(spikingjelly.IFNode()), SLOW, ("1: IFNode: no leak does not exist with leak 1-2^-k; "
     "legal nearest: tau 4 and tau 8; try: --leak nearest")),
    (one(snntorch.Leaky(beta=0.5, init_hidden=True, reset_delay=False)), LOAS,
     ("1: Leaky: reset_mechanism 'subtract' with reset_delay=False does not exist in hardware; legal: 'zero', or "
     "'subtract' with reset_delay=True; try: train with reset_mechanism='zero'")),
    (one(spikingjelly.IFNode(v_threshold=-1.0)), LOAS, ("1: IFNode: the threshold must be above the reset value, "
     "not -1.0 from it")),
    (ending(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(45, 2)), LOAS,
     ("2: AdaptiveAvgPool2d(3): the map must be square and a multiple of the output, not 8x8; legal: windows of one size")),
    (nn.Sequential(nn.Conv2d(2, 3, 8), nn.MaxPool2d(1), nn.AdaptiveAvgPool2d(1), spikingjelly.IFNode(), nn.Flatten(),
                   nn.Linear(3, 2)), LOAS,
     ("2: AdaptiveAvgPool2d: cannot fold into a residual stream or pooled currents; legal: on spikes, directly after a "
      "convolution, or on a build that sums windows; try: token_sum = true in a preset file")),
    (ending(nn.Conv2d(5, 2, 1), nn.Flatten(), nn.Linear(128, 2)), DIGITLESS,
     ("4: Linear: reads multi-bit currents of 2; legal: the input or spikes; try: a neuron between the two layers, or merge "
      "them, or preset loas")),
    (nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3)), DIGITLESS, ("1: Conv2d: reads multi-bit currents of 0; "
     "legal: the input or spikes; try: a neuron between the two layers, or merge them, or preset loas")),
    (wide_linear(17), replace(TINY, row_value_lines=16), ("layer3 (3): bits of one row's 1088 words, each stored 4 bits "
     "wide: needs 4352; legal: at most 512 on preset tiny; try: a larger preset or a smaller layer")),
    (nn.Sequential(nn.Conv2d(2, 33, 1), spikingjelly.IFNode(), nn.Conv2d(33, 2, 6)), TINY,
     ("layer2 (2): chunks of one row: needs 72; legal: at most 64 on preset tiny; "
     "try: a larger preset or a smaller layer")),
    (nn.Sequential(nn.Conv2d(2, 49, 1), spikingjelly.IFNode(), nn.MaxPool2d(8), nn.Flatten(), nn.Linear(49, 2)), TINY,
     (f"layer1 (0): pooled channels: needs 49; legal: at most {TINY.pool_channels} on preset tiny; "
     "try: a larger preset or a smaller layer")),
    (nn.Sequential(nn.Conv2d(2, 2, 1), spikingjelly.IFNode(), nn.AvgPool2d(2), nn.MaxPool2d(2), nn.Flatten(),
                   nn.Linear(8, 2)), LOAS,
     ("3: MaxPool2d: gives multi-bit currents, not spikes, because it reads averages or currents; legal: a neuron between "
      "it and 5 (Linear); try: MaxPool2d before AvgPool2d")),
    (one(spikingjelly.IFNode(v_threshold=float("nan"))), LOAS,
     "capture: 1: v_threshold must be a finite number, not nan; try: training again"),
    (one(spikingjelly.IFNode(v_threshold=float("inf"))), LOAS,
     "capture: 1: v_threshold must be a finite number, not inf; try: training again"),
    (one(snntorch.Leaky(beta=float("nan"), init_hidden=True)), LOAS,
     "capture: 1: beta must be a finite number, not nan; try: training again"),
    (nn.Sequential(nn.Conv2d(2, 2, 1), spikingjelly.IFNode(), nn.Linear(8, 2)), LOAS,
     "2: Linear(in_features=8): needs a flat input of that size, not 2x8x8; legal: Flatten before Linear"),
]


@pytest.mark.parametrize(("model", "arch", "message"), REFUSED)
def test_refusals(model: nn.Module, arch: Arch, message: str) -> None:
    with pytest.raises(ParameterError) as error:
        lowered(trace(exact(model), frames(1)), arch)
    assert str(error.value) == message


def test_leak_nearest_takes_one() -> None:
    captured = trace(exact(one(spikingjelly.LIFNode(tau=3.0))), frames(1))
    network = lower(captured, STEPS, LOAS, name="net", input_bits=4, input_scale=1.0, leak_nearest=True)
    assert network.layers[0].neuron is not None
    assert network.layers[0].neuron.leak_shift in (0, 1)


def test_widths_are_proven() -> None:
    """Dots, currents and thresholds one bit wider than the build are refused with the need; at the edge they pass."""
    _, network, _ = lower_exact(exact(Body(VARIANTS["if"][0], "chain")), LOAS)
    check(network, LOAS)
    first = network.layers[0]
    big = replace(first, bias=first.bias + (1 << 23))
    with pytest.raises(ParameterError) as error:
        check(replace(network, layers=(big, *network.layers[1:])), LOAS)
    assert str(error.value) == ("n1 (conv1): currents in bits: needs 25; legal: at most 24 on preset loas; "
                                "try: a larger preset or a smaller layer")
    assert first.neuron is not None
    slow = replace(first, neuron=replace(first.neuron, threshold=first.neuron.threshold + (1 << 31)))
    with pytest.raises(ParameterError) as error:
        check(replace(network, layers=(slow, *network.layers[1:])), LOAS)
    assert str(error.value) == ("n1 (conv1): thresholds in bits: needs 33; legal: at most 32 on preset loas; "
                                "try: a larger preset or a smaller layer")
    with pytest.raises(ParameterError) as error:
        check(network, replace(LOAS, acc_bits=16, t_max=3))
    assert str(error.value) == "T: must be in 1..3 for preset loas, not 4"
    weight = np.full((len(first.bias), 259, 1, 1), 127, np.int8)
    for last, need in ((1, 16), (2, 17)):
        weight[:, 258] = last
        dense = replace(first, passes=(replace(first.passes[0], weight=weight),))
        edge = replace(network, layers=(dense, *network.layers[1:]))
        check(edge, replace(LOAS, acc_bits=need))
    with pytest.raises(ParameterError) as error:
        check(edge, replace(LOAS, acc_bits=16))
    assert str(error.value) == ("n1 (conv1): dots in bits: needs 17; legal: at most 16 on preset loas; "
                                "try: a larger preset or a smaller layer")


AGAIN = "on preset loas; try: a larger preset or a smaller layer"
ONE_OF = "neuron: {} must be one of {} with leak 2^-k, not {}; try: --leak nearest"
ILLEGAL: list[tuple[dict[str, Any], str]] = [
    ({"leak_shift": 3}, ONE_OF.format("leak_shift", "0, 1, 2", 3)),
    ({"leak": "1-2^-k"}, ONE_OF.format("leak", "2^-k", "'1-2^-k'")),
    ({"leak_shift": 2, "decay_input": True}, ONE_OF.format("decay_input", "False", True)),
    ({"reset": "none"}, ONE_OF.format("reset", "hard, soft, soft_delayed", "'none'")),
    ({"compare": "<"}, ONE_OF.format("compare", ">=, >", "'<'")),
    ({"min_spikes": 32}, f"min spikes: needs 32; legal: at most 31 {AGAIN}"),
    ({"or_pool": Pool(kernel=300, stride=2)}, f"pool kernel: needs 300; legal: at most 255 {AGAIN}"),
    ({"or_pool": Pool(kernel=2, stride=2, padding=2)},
     ("max-pool: must have its padding in half a window, not Pool(kernel=2, stride=2, padding=2); legal: kernel and "
      "stride from 1, padding up to kernel / 2")),
    ({"or_pool": Pool(kernel=2, stride=2), "store_currents": True},
     ("OR-pool: must follow a neuron on sums alone, not residual or stored currents; legal: a layer of its own behind "
      "the neuron")),
    ({"max_pool": Pool(kernel=2, stride=2)},
     ("signed max-pool: must be alone on stored currents, not with passes or a bias; legal: a layer of its own behind "
      "them")),
    ({"passes": ()}, "sums: must come from passes or stored currents, not from neither"),
]


@pytest.mark.parametrize(("changes", "message"), ILLEGAL)
def test_what_the_build_lacks_is_refused(changes: dict[str, Any], message: str) -> None:
    """`check` refuses neurons, pools and fields that the hardware does not have, by layer."""
    _, network, _ = lower_exact(exact(Body(VARIANTS["if"][0], "chain")), LOAS)
    first = network.layers[0]
    assert first.neuron is not None
    neuron = {name: value for name, value in changes.items() if name in vars(first.neuron)}
    rest = {name: value for name, value in changes.items() if name not in neuron}
    wrong = replace(first, neuron=replace(first.neuron, **neuron), **rest)
    with pytest.raises(ParameterError) as error:
        check(replace(network, layers=(wrong, *network.layers[1:])), LOAS)
    assert str(error.value) == f"n1 (conv1): {message}"


def test_leak_shift_of_the_slow_leak_is_bounded() -> None:
    _, network, _ = lower_exact(exact(Body(VARIANTS["slow leaky"][0], "chain")), SLOW)
    first = network.layers[0]
    assert first.neuron is not None and first.neuron.leak_shift == 3
    wrong = replace(first, neuron=replace(first.neuron, leak_shift=4))
    with pytest.raises(ParameterError) as error:
        check(replace(network, layers=(wrong, *network.layers[1:])), SLOW)
    assert str(error.value) == ("n1 (conv1): neuron: leak_shift must be one of 0, 1, 2, 3 with leak 1-2^-k, not 4; "
                                "try: --leak nearest")


def test_words_of_one_width() -> None:
    """At T = 1 spikes are one bit wide and the input's words four: one layer cannot read both, so there are two."""
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2, self.lif = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1), spikingjelly.IFNode()
            self.n1, self.fc = spikingjelly.IFNode(), nn.Linear(128, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(self.lif(self.conv2(x) + self.conv1(self.n1(self.conv1(x)))).flatten(1))
            return out

    captured = trace(exact(Both()), frames(1))
    assert lowered(captured).layers[1].passes
    network = lower(captured, 1, LOAS, name="net", input_bits=4, input_scale=1.0)
    first, operand, second, last = network.layers
    assert (operand.name, operand.store_currents, second.residual) == ("lif.operand", True, "lif.operand")
    wrong = replace(second, passes=operand.passes + second.passes, residual=None)
    with pytest.raises(ParameterError) as error:
        check(replace(network, layers=(first, wrong, last)), LOAS)
    assert str(error.value) == ("lif (conv2): passes: must read words of one width, not [1, 4] bits; legal: T whose word "
                                "is as wide as the input's; try: --T 4")


def membranes(x: list[int], p: Neuron) -> list[int]:
    """Return ``h`` of every step, rounded down, by exact fractions."""
    v, owed, out = Fraction(0), 0, []
    k, r = p.leak_shift, (1 << p.leak_shift) - 1 if p.compare == ">" else 0
    threshold = int(p.threshold[0])
    for current in x:
        if p.leak == "1-2^-k":
            h = v - v / 2 ** k + current
        else:
            h = Fraction(int(v) + current + r >> k if p.decay_input else (int(v) + r >> k) + current)
        h -= owed
        out.append(h.__floor__())
        fire = h > threshold if p.compare == ">" else h >= threshold
        v, owed = (Fraction(0) if p.reset == "hard" else h - threshold if p.reset == "soft" else h) if fire else h, 0
        owed = threshold if fire and p.reset == "soft_delayed" else 0
    return out


@pytest.mark.parametrize("reset", ["hard", "soft", "soft_delayed"])
@pytest.mark.parametrize("leak", ["2^-k", "1-2^-k"])
def test_membrane_bounds_hold(leak: str, reset: str) -> None:
    """No membrane of random and extreme currents leaves its bounds; a bound one tighter is left where the reset is not late."""
    rng = np.random.default_rng(0)
    reached = 0
    for _ in range(150):
        k = int(rng.integers(0, 3 if leak == "2^-k" else 4))
        p = Neuron(threshold=np.array([rng.integers(1, 40)]), leak_shift=k, compare=str(rng.choice([">=", ">"])), reset=reset,
                   decay_input=leak == "2^-k" and k < 2 and bool(rng.integers(2)), leak=leak)
        low = -rng.integers(0, 30, (5, 1))
        high = low + rng.integers(0, 40, (5, 1))
        least, most = membrane_bounds(p, low, high)
        runs = [low[:, 0], high[:, 0], *(rng.integers(low, high + 1)[:, 0] for _ in range(20))]
        found = [h for x in runs for h in membranes([int(v) for v in x], p)]
        assert int(least[0]) <= min(found) and max(found) <= int(most[0])
        reached += min(found) == int(least[0])
    assert reached > 50 or reset == "soft_delayed"


@pytest.mark.parametrize(("changes", "message"), [
    ({"input_kind": "video"}, "input: kind must be static or steps, not 'video'"),
    ({"input_bits": 1}, "input: bits must be in 2..16, not 1"),
    ({"input_bits": 17}, "input: bits must be in 2..16, not 17"),
    ({"input_scale": 0.0}, "input: scale must be finite and above 0, not 0.0"),
    ({}, "input: scale is not known; legal: a scale, or example inputs to take it from; try: --data x.npz"),
])
def test_input_refusals(changes: dict[str, object], message: str) -> None:
    captured = trace(exact(Body(VARIANTS["if"][0], "chain")), frames(1))
    with pytest.raises(ParameterError) as error:
        lower(captured, STEPS, LOAS, name="net", **changes)  # type: ignore[arg-type]
    assert str(error.value) == message


@pytest.fixture(scope="module")
def shipped() -> Captured:
    return load(find("digits").checkpoint)


@pytest.mark.parametrize("arch", [TINY, LOAS])
def test_digits(shipped: Captured, arch: Arch) -> None:
    (_, _, x, y), facts = digits(), find("digits")
    assert len(x) == 360
    network = lower(shipped, facts.steps, arch, name="digits", input_kind=facts.input_kind,
                    input_bits=facts.input_bits, input_scale=facts.input_scale)
    right = sum(predict(execute(network, image)) == int(label) for image, label in zip(x, y, strict=True))
    assert network.weight_sparsity >= 0.90
    assert right / 360 >= 0.96
    assert (quantise_input(x, network.input) * facts.input_scale == x).all()
