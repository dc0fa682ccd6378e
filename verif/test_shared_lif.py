"""LIF sharing: golden against SpikingJelly's neurons called group by group, capture, lowering, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from array_api_compat import array_namespace
from spikingjelly.activation_based import functional
from spikingjelly.activation_based import neuron as spikingjelly
from torch import Tensor, nn

from golden.arch import PRESETS, ParameterError
from golden.capture import trace
from golden.dynamics import dynamics
from golden.float_run import float_run
from golden.limits import membrane_bounds
from golden.lower import lower, quantise_input
from golden.network import Network, Neuron, input_words
from golden.neuron import joined, neuron, visits
from golden.run import run, unpack
from golden.to_torch import spikingjelly_neuron, to_torch
from spikeloom.cli import run as command_line
from verif.test_neuron import SPIKINGJELLY, currents

ARCH = PRESETS["loas"]


class Shared(nn.Module):
    """Two convolutions, whose neurons take groups of channels one after the other, and a read-out; a step a call."""

    def __init__(self, share: int = 2, node: Callable[[], nn.Module] = spikingjelly.LIFNode, cut: str = "chunk") -> None:
        super().__init__()
        self.share, self.cut = share, cut
        self.conv1, self.norm, self.lif1 = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), node()
        self.conv2, self.lif2, self.pool = nn.Conv2d(8, 8, 3, padding=1, bias=False), node(), nn.MaxPool2d(2)
        self.flatten, self.fc = nn.Flatten(), nn.Linear(32, 3)

    def shared(self, lif: nn.Module, x: Tensor) -> Tensor:
        parts: Any = {"chunk": lambda: x.chunk(self.share, 1), "chunk of torch": lambda: torch.chunk(x, self.share, dim=1),
                      "size": lambda: x.split(8 // self.share, 1), "sizes": lambda: x.split([8 // self.share] * self.share, 1),
                      "tensor_split": lambda: torch.tensor_split(x, self.share, 1)}[self.cut]()
        return self.joined([lif(parts[number]) for number in range(self.share)])

    def joined(self, spikes: list[Tensor]) -> Tensor:
        return torch.cat(spikes, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.lif1, self.norm(self.conv1(x)))
        x = self.pool(self.shared(self.lif2, self.conv2(x)))
        out: Tensor = self.fc(self.flatten(x))
        return out


def example(seed: int = 0) -> Tensor:
    return torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def firing(model: Shared) -> Shared:
    """Return a model whose neurons are busy, in evaluation mode."""
    torch.manual_seed(1)
    for part in (model.conv1, model.conv2):
        nn.init.normal_(part.weight, 0.2, 1.0)
    nn.init.uniform_(model.norm.weight, 0.25, 2.0)
    return model.eval()


def lowered(share: int, **options: Any) -> tuple[Network, Any]:
    captured = trace(firing(Shared(share, **options)), example())
    return lower(captured, 4, ARCH, name="shared", calibration=example().numpy()), captured


@pytest.mark.parametrize("share", [2, 4])
@pytest.mark.parametrize(("k", "decay_input", "compare", "reset"), SPIKINGJELLY)
def test_spikingjelly_group_by_group(k: int, decay_input: bool, compare: str, reset: str, share: int) -> None:
    """Integer spikes are those of one SpikingJelly node called on each group of channels in turn, at every step."""
    x = currents(4, k)
    p = Neuron(threshold=torch.full((64,), 64), leak_shift=k, decay_input=decay_input, compare=compare, reset=reset,
               share=share)
    node = spikingjelly_neuron(64.0, p)
    expected = torch.stack([torch.cat([node(group) for group in step.float().chunk(share)]) for step in x])
    assert expected.any() and not expected.all()
    assert int((neuron(x, p) != expected).sum()) == 0
    assert int((neuron(x, replace(p, share=1)) != expected).sum()) > 0


@pytest.mark.parametrize("kind", [np, torch])
def test_visits(kind: Any) -> None:
    """Group g of step t is visit t * S + g, along any axis, and back; NumPy and torch."""
    x = kind.arange(3 * 8 * 5).reshape(3, 8, 5)
    for share in (1, 2, 4):
        found, wide = visits(x, share), x[:, None, :, :]
        size = 8 // share
        for t in range(3):
            for group in range(share):
                assert (found[t * share + group] == x[t, group * size : (group + 1) * size]).all()
        assert array_namespace(found) is array_namespace(x) and (joined(found, share) == x).all()
        turned = visits(wide, share, 2)
        assert (turned == found[:, None, :, :]).all() and (joined(turned, share, 2) == wide).all()


@pytest.mark.parametrize(("fields", "message"), [
    ({"share": 3}, "neuron: share, not 3; legal: 1, 2, 4 with 12 channels; try: share=1"),
    ({"share": 4, "threshold": np.full(6, 5)}, "neuron: share, not 4; legal: 1, 2 with 6 channels; try: share=1"),
    ({"share": 2, "threshold": np.arange(1, 13)}, "neuron: thresholds of channels that share a membrane, not different ones; "
                                                  "legal: those of the first of 2 groups in all; try: share=1"),
    ({"share": 2, "leak": "1-2^-k"}, "neuron: share, not 2; legal: 1 with leak 1-2^-k; try: leak 2^-k"),
])
def test_other_shares_are_refused(fields: dict[str, Any], message: str) -> None:
    """A share that does not divide, thresholds that differ, and the other leak are errors of one line."""
    with pytest.raises(ParameterError) as error:
        Neuron(**{"threshold": np.full(12, 5), "leak_shift": 1, **fields})
    assert str(error.value) == message


@pytest.mark.parametrize("reset", ["hard", "soft", "soft_delayed"])
def test_membrane_bounds_are_of_all_visits(reset: str) -> None:
    """The bounds of shared membranes are those of as many steps as there are visits, and more than those of T steps."""
    p = Neuron(threshold=np.tile([9, 3], 4), leak_shift=0, reset=reset, share=4)
    low, high = np.tile([[-3, -1, -4, -1, -5, -9, -2, -6]], (3, 1)), np.tile([[5, 3, 5, 8, 9, 7, 9, 3]], (3, 1))
    alone = replace(p, threshold=p.threshold[:2], share=1)
    for found, wanted in zip(membrane_bounds(p, low, high), membrane_bounds(alone, low.reshape(12, 2), high.reshape(12, 2)),
                             strict=True):
        assert found.tolist() == wanted.tolist() * 4
    assert membrane_bounds(p, low, high)[0].min() < membrane_bounds(replace(p, share=1), low, high)[0].min()


@pytest.mark.parametrize("cut", ["chunk", "chunk of torch", "size", "sizes", "tensor_split"])
@pytest.mark.parametrize("share", [2, 4])
def test_capture(share: int, cut: str) -> None:
    """Groups of channels that one LIF takes in order are one node with its share, which makes the model's spikes."""
    model = firing(Shared(share, cut=cut))
    captured = trace(model, example())
    nodes = [node for node in captured.nodes if node.op == "neuron"]
    assert [node.args["share"] for node in nodes] == [share, share] and [dynamics(node).share for node in nodes] == [share] * 2
    found = float_run(captured, example(), 4)
    functional.reset_net(model)
    wanted = torch.stack([model(example()) for _ in range(4)]).sum(0)
    assert torch.allclose(found.logits, wanted, atol=1e-4)
    assert all(0 < spikes.float().mean() < 1 for spikes in found.spikes.values())


@pytest.mark.parametrize("share", [2, 4])
def test_lowering(share: int) -> None:
    """Channels that share a membrane have one scale, so one threshold; golden is SpikingJelly on the same integers."""
    network, captured = lowered(share)
    assert [layer.neuron.share for layer in network.layers if layer.neuron] == [share, share]
    alone = lower(replace(captured, nodes=tuple(
        replace(node, args={name: value for name, value in node.args.items() if name != "share"}) for node in captured.nodes)),
        4, ARCH, name="alone", calibration=example().numpy())
    for layer, other in zip(network.layers[:2], alone.layers, strict=False):
        assert layer.neuron and other.neuron
        groups = layer.neuron.threshold.reshape(share, -1)
        assert (groups == groups[0]).all() and len({*other.neuron.threshold.tolist()}) > 8 // share
        largest = [np.abs(part.passes[0].weight.astype(int)).reshape(8, -1).max(1) for part in (layer, other)]
        assert (largest[1] >= 120).all() and (largest[0].reshape(share, -1).max(0) >= 120).all()
    x = torch.as_tensor(np.stack([quantise_input(image, network.input) for image in example().numpy()]))
    module = to_torch(network)
    logits = module(x)
    for index, image in enumerate(x):
        found = run(network, input_words(image, network.input, 4))
        for layer in network.layers[:2]:
            assert unpack(found.layers[layer.name].words, 4).tolist() == module.spikes[layer.name][:, index].tolist()
        assert np.asarray(found.layers["fc"].readout).ravel().tolist() == logits[index].tolist()
    unshared = replace(network, layers=tuple(replace(layer, neuron=layer.neuron and replace(layer.neuron, share=1))
                                             for layer in network.layers))
    words = input_words(x[0], network.input, 4)
    shared, apart = (np.asarray(run(entry, words).layers["lif1"].words) for entry in (network, unshared))
    assert not np.array_equal(shared, apart)


class Turned(Shared):
    def joined(self, spikes: list[Tensor]) -> Tensor:
        return torch.cat(spikes[::-1], 1)


class Across(Shared):
    def joined(self, spikes: list[Tensor]) -> Tensor:
        return torch.cat(spikes, 2)


class Again(Shared):
    def shared(self, lif: nn.Module, x: Tensor) -> Tensor:
        parts = x.chunk(2, 1)
        lif(parts[1])
        return torch.cat([lif(parts[0]), lif(parts[1])], 1)


class Apart(Shared):
    def shared(self, lif: nn.Module, x: Tensor) -> Tensor:
        return torch.cat([lif(x.chunk(2, 1)[0]), lif(self.norm(x).chunk(2, 1)[1])], 1)


class Half(Shared):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.norm(self.conv1(x)).chunk(2, 1)[0])
        return out


class Short(Shared):
    def shared(self, lif: nn.Module, x: Tensor) -> Tensor:
        parts = x.split(2, 1)
        return torch.cat([lif(parts[0]), lif(parts[1])] * 2, 1)


class Moved(Shared):
    def shared(self, lif: nn.Module, x: Tensor) -> Tensor:
        parts = x.chunk(2, 1)
        return torch.cat([lif(parts[0] + 1.0), lif(parts[1])], 1)


class Fewer(Shared):
    """Two of four groups, or of three."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.norm, self.conv2 = nn.Conv2d(1, channels, 3), nn.BatchNorm2d(channels), nn.Conv2d(4, 8, 3, padding=2)

    def shared(self, lif: nn.Module, x: Tensor) -> Tensor:
        parts = x.split(2 if lif is self.lif1 else 4, 1)
        return torch.cat([lif(parts[0]), lif(parts[1])], 1)


class Together(nn.Module):
    """All steps at once: the second group would go on behind the last step of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.lif = spikingjelly.LIFNode(step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        parts = x.chunk(2, 2)
        return torch.cat([self.lif(parts[0]), self.lif(parts[1])], 2)


JOIN = ("must join, along dimension 1, what the same neurons made of all groups of channels of one tensor in their order, and "
        "of nothing else in between; legal: 2 or 4 groups; try: docs/layers.md, chunk")


@pytest.mark.parametrize(("model", "message"), [
    (Turned(), f"cat: cat([lif1 of part 1, lif1 of part 0], 1): {JOIN}"),
    (Across(), f"cat: cat([lif1 of part 0, lif1 of part 1], 2): {JOIN}"),
    (Again(), f"cat: cat([lif1 of part 0, lif1 of part 1], 1): {JOIN}"),
    (Short(), f"cat: cat([lif1 of part 0, lif1 of part 1, lif1 of part 0, lif1 of part 1], 1): {JOIN}"),
    (Moved(), "add: add(part 0, 1.0) is not supported"),
    (Half(), "conv2: Conv2d(8, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False): its first argument is a part "
             "of the channels of a tensor, not spikes or currents"),
    (Apart(), f"cat: cat([lif1 of part 0, lif1 of part 1], 1): {JOIN}"),
    (Fewer(8), "lif1: LIFNode: makes 8 outputs [2, 2, 2, 2] in the model, not 8 [2, 4, 2, 2]; legal: "),
    (Fewer(5), "lif1: LIFNode: groups of 5 channels that share membranes, not 2; legal: equal ones; try: 4 channels"),
    (Together(), "chunk: chunk(tensor, 2, 2) is not supported; legal: "),
    (Shared(8), f"cat: cat([{', '.join(f'lif1 of part {number}' for number in range(8))}], 1): {JOIN}"),
])
def test_other_programs_are_refused(model: nn.Module, message: str) -> None:
    """What is not the whole pattern, in its order, is refused where it is seen."""
    with pytest.raises(ParameterError) as error:
        trace(model, torch.rand(4, 2, 2, 4, 4) if isinstance(model, Together) else example())
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("words", [["compile", "vgg9-digits-shared", "-o", "out"], ["simulate", "vgg9-digits-shared"]])
def test_the_ftp_core_refuses(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What only a core of tiles runs is one line with the option that runs it."""
    assert command_line(words) == 2
    assert capsys.readouterr() == ("", "spikeloom: layer lif1: share, not 2; legal: 1 on loas; try: --top imc\n")
