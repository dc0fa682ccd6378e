"""Capture: what the file holds, that it computes what the model computes, and every refusal's whole message."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import snntorch
import torch
from spikingjelly.activation_based import functional, layer
from spikingjelly.activation_based import neuron as spikingjelly
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from golden.arch import PRESETS, ParameterError
from golden.capture import STEPS, capture, load, trace
from golden.float_run import SAME, Protocol, compare, float_run
from golden.layers import SUPPORTED, layers_markdown
from golden.store import Captured, Node, save
from verif.workload import load_workload

ROOT = Path(__file__).resolve().parent.parent
GRID = 256
FLAT = "legal: a .safetensors file written by spikeloom.capture; try: spikeloom capture --help"
LIMITS = f"legal: {SUPPORTED}; try: docs/layers.md for the limits of each"


class SingleStep(nn.Module):
    """SpikingJelly, stepped by the caller, with a residual add and every flattening spelling."""

    def __init__(self, spelling: str = "module") -> None:
        super().__init__()
        self.spelling = spelling
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), spikingjelly.IFNode())
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.short = nn.Conv2d(4, 4, 1)
        self.lif = spikingjelly.LIFNode(tau=2.0, v_reset=None)
        self.pool, self.drop, self.average = nn.MaxPool2d(2), nn.Dropout(0.5), nn.AvgPool2d(2)
        self.flatten, self.fc = nn.Flatten(), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.lif(self.conv(x) + self.short(x))
        x = self.drop(self.average(self.pool(x)))
        if self.spelling == "function":
            x = torch.flatten(x, 1)
        elif self.spelling == "method":
            x = x.flatten(1)
        elif self.spelling == "view":
            x = x.view(x.size(0), -1)
        else:
            x = self.flatten(x)
        out: Tensor = self.fc(x)
        return out


class MultiStep(nn.Module):
    """SpikingJelly, all steps at once, plain layers in a container beside its own layer wrappers."""

    def __init__(self) -> None:
        super().__init__()
        self.front = layer.SeqToANNContainer(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.lif1 = spikingjelly.LIFNode(tau=4 / 3, decay_input=True, step_mode="m")
        self.back = nn.Sequential(layer.Conv2d(4, 3, 3, padding=1, step_mode="m"), spikingjelly.IFNode(step_mode="m"),
                                  layer.Flatten(step_mode="m"), layer.Linear(192, 5, step_mode="m"))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.back(self.lif1(self.front(x)))
        return out.mean(0)


class Loop(nn.Module):
    """snnTorch as its tutorials write it: states and the loop over steps inside ``forward``."""

    def __init__(self, static: bool = True) -> None:
        super().__init__()
        self.static = static
        self.conv1, self.lif1 = nn.Conv2d(2, 4, 3, padding=1), snntorch.Leaky(beta=0.5)
        self.fc, self.lif2 = nn.Linear(256, 5), snntorch.Leaky(beta=0.25, reset_mechanism="zero")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, memories = [], []
        for step in range(4):
            spk1, mem1 = self.lif1(self.conv1(x if self.static else x[step]), mem1)
            spk2, mem2 = self.lif2(self.fc(spk1.flatten(1)), mem2)
            spikes.append(spk2)
            memories.append(mem2)
        return torch.stack(spikes, dim=0), torch.stack(memories, dim=0)


class Hidden(nn.Module):
    """snnTorch with hidden states in a Sequential."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), snntorch.Leaky(beta=0.5, init_hidden=True),
                                 nn.Flatten(), nn.Linear(256, 5),
                                 snntorch.Leaky(beta=0.5, init_hidden=True, output=True))

    def forward(self, x: Tensor) -> Any:
        return self.net(x)


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(7)) * 2


def rounded(module: nn.Module) -> None:
    """Round the parameters to a grid on which float32 sums of spikes are exact, in whatever order they are taken."""
    for parameter in module.parameters():
        parameter.data = (parameter.data * GRID).round() / GRID


def seeded(model: nn.Module) -> nn.Module:
    """Return ``model`` in evaluation mode with fixed weights, some batch statistics, gain enough to spike."""
    generator = torch.Generator().manual_seed(11)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            gain = 3 / module.weight[0].numel() ** 0.5
            module.weight.data = gain * torch.randn(module.weight.shape, generator=generator)
            rounded(module)
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.1, generator=generator)
    return model.eval()


def ops(captured: Captured) -> list[str]:
    return [node.op for node in captured.nodes]


@pytest.mark.parametrize("spelling", ["module", "function", "method", "view"])
def test_spikingjelly_single_step(spelling: str, tmp_path: Path) -> None:
    model, x = seeded(SingleStep(spelling)), images(5, 2, 8, 8)
    captured = capture(model, x[:1], tmp_path / "net.safetensors")
    assert ops(captured) == ["input", "conv", "batchnorm", "neuron", "conv", "conv", "add", "neuron", "maxpool",
                             "avgpool", "flatten", "linear", "output"]
    expected = sum(model(x) for _ in range(4))
    assert isinstance(expected, Tensor)
    assert expected.std() > 0
    assert torch.equal(float_run(load(tmp_path / "net.safetensors"), x, 4).logits, expected)
    functional.reset_net(model)


def test_spikingjelly_multi_step() -> None:
    model, x = seeded(MultiStep()), images(4, 5, 2, 8, 8)
    captured = trace(model, x)
    assert ops(captured) == ["input", "conv", "batchnorm", "neuron", "conv", "neuron", "flatten", "linear", "output"]
    assert [n.path for n in captured.nodes if n.op == "conv"] == ["front.0", "back.0"]
    assert torch.equal(float_run(captured, x.movedim(0, 1), 4).logits, 4 * model(x))


@pytest.mark.parametrize("static", [True, False])
def test_snntorch_loop_is_folded(static: bool) -> None:
    model = seeded(Loop(static))
    x = images(5, 2, 8, 8) if static else images(4, 5, 2, 8, 8)
    captured = trace(model, x)
    assert ops(captured) == ["input", "conv", "neuron", "flatten", "linear", "neuron", "output"]
    expected = model(x)[0].sum(0)
    assert 0 < expected.mean() < 4
    assert torch.equal(float_run(captured, x if static else x.movedim(0, 1), 4).logits, expected)


def test_snntorch_hidden_states() -> None:
    model, x = seeded(Hidden()), images(5, 2, 8, 8)
    captured = trace(model, x)
    expected = sum(model(x)[0] for _ in range(4))
    assert isinstance(expected, Tensor)
    assert torch.equal(float_run(captured, x, 4).logits, expected)
    assert captured.nodes[1].name == "net_0"
    assert captured.nodes[2].args == {
        "class": "Leaky", "beta": 0.5, "threshold": 1.0, "reset_mechanism": "subtract", "reset_delay": True}


def test_a_changed_weight_is_seen() -> None:
    """Control: the comparisons above notice one different weight."""
    model, x = seeded(SingleStep()), images(5, 2, 8, 8)
    captured = trace(model, x)
    captured.tensors["fc.weight"][0] += 1.0
    expected = sum(model(x) for _ in range(4))
    assert isinstance(expected, Tensor)
    assert not torch.equal(float_run(captured, x, 4).logits, expected)


@pytest.mark.parametrize(("given", "stored"), [
    (torch.float16, "float32"), (torch.bfloat16, "float32"), (torch.float32, "float32"), (torch.float64, "float64")])
def test_precision(given: torch.dtype, stored: str, tmp_path: Path) -> None:
    """No precision that numpy or the file lacks gets into it, and none is lost."""
    model = seeded(SingleStep()).to(given)
    capture(model, images(1, 2, 8, 8), tmp_path / "net.safetensors")
    tensors = load(tmp_path / "net.safetensors").tensors
    assert {str(tensor.dtype) for tensor in tensors.values()} == {stored}
    assert torch.equal(torch.from_numpy(tensors["conv.weight"]), model.get_parameter("conv.weight").to(torch.float64).to(
        torch.from_numpy(tensors["conv.weight"]).dtype))


def test_short_floats_of_another_program_are_refused(tmp_path: Path) -> None:
    """A file whose tensors numpy does not have is refused in one line."""
    bad = tmp_path / "bad.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(2, dtype=torch.bfloat16)}, str(bad), {"format": "spikeloom-captured"})
    with pytest.raises(ParameterError) as error:
        load(bad)
    assert str(error.value) == f"captured file: {bad}: cannot be read (data type 'bfloat16' not understood); {FLAT}"


def test_training_mode_is_kept() -> None:
    model = SingleStep().train()
    trace(model, images(1, 2, 8, 8))
    assert all(module.training for module in model.modules())


class Wrap(nn.Module):
    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


def inhibited() -> nn.Module:
    node: nn.Module = snntorch.Leaky(beta=0.5, init_hidden=True)
    vars(node)["inhibition"] = True
    return node


REFUSED = [
    (nn.Sigmoid(), "body.0: Sigmoid(): its type is not supported"),
    (nn.Conv2d(2, 4, 3, padding="same"),
     "body.0: Conv2d(2, 4, kernel_size=(3, 3), stride=(1, 1), padding=same): padding must be numbers, with zeros"),
    (nn.Conv2d(2, 4, 3, stride=(1, 2)), ("body.0: Conv2d(2, 4, kernel_size=(3, 3), stride=(1, 2)): "
     "stride and padding must be the same both ways")),
    (nn.BatchNorm2d(2, track_running_stats=False), ("body.0: BatchNorm2d(2, eps=1e-05, momentum=0.1, affine=True, "
     "bias=True, "
     "track_running_stats=False): it has no running statistics")),
    (nn.MaxPool2d(2, ceil_mode=True), ("body.0: MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, "
     "ceil_mode=True): ceil_mode must be False")),
    (nn.MaxPool2d(2, dilation=2), ("body.0: MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=2, "
     "ceil_mode=False): dilation must be 1 and return_indices False")),
    (nn.AvgPool2d(3, 2), ("body.0: AvgPool2d(kernel_size=3, stride=2, padding=0): stride must be the kernel, "
     "padding 0, no divisor_override")),
    (nn.AdaptiveAvgPool2d((2, 4)), ("body.0: AdaptiveAvgPool2d(output_size=(2, 4)): output_size must be one number, the "
     "same both ways")),
    (nn.AdaptiveAvgPool2d((None, None)), ("body.0: AdaptiveAvgPool2d(output_size=(None, None)): output_size must be one "
     "number, the same both ways")),
    (nn.Flatten(1, 2), "body.0: Flatten(start_dim=1, end_dim=2): it must flatten everything but the batch"),
    (inhibited(), "body.0: Leaky(): inhibition is not supported"),
    (snntorch.Leaky(beta=torch.rand(4), init_hidden=True), "body.0: Leaky(): beta must be one number, not 4"),
]


@pytest.mark.parametrize(("module", "message"), REFUSED)
def test_refusals(module: nn.Module, message: str) -> None:
    with pytest.raises(ParameterError) as error:
        trace(Wrap(module), images(1, 2, 8, 8))
    assert str(error.value) == f"{message}; {LIMITS}"


def test_other_neurons_are_refused_by_type() -> None:
    with pytest.raises(ParameterError) as error:
        trace(Wrap(spikingjelly.ParametricLIFNode()), images(1, 2, 8, 8))
    assert str(error.value).startswith("body.0: ParametricLIFNode(")
    assert str(error.value).endswith(f": its type is not supported; {LIMITS}")


class Function(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lif = spikingjelly.IFNode()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.lif(self.lif(x))
        return out


class Membrane(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lif = snntorch.Leaky(beta=0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.lif(x, self.lif.init_leaky())[1]
        return out


@pytest.mark.parametrize(("model", "message"), [
    (Function(), f"sigmoid: sigmoid(tensor) is not supported; legal: {SUPPORTED}; try: spikeloom capture --help"),
    (Branch(), ("capture: torch.fx cannot trace Branch.forward (symbolically traced variables cannot be used as "
     f"inputs to control flow); legal: module calls, loops of fixed length and {SUPPORTED}; "
     "try: move data-dependent code out of forward")),
    (Twice(), ("lif: IFNode(v_threshold=1.0, v_reset=0.0, detach_reset=False, step_mode=s): "
     f"called on 2 different inputs, which would share a membrane; {LIMITS}")),
    (Membrane(), ("output: the first thing that forward returns must be spikes or logits, not a membrane; "
     "legal: logits, spikes, (spikes, membrane) or lists of them per step")),
])
def test_refused_programs(model: nn.Module, message: str) -> None:
    with pytest.raises(ParameterError) as error:
        trace(model, images(1, 2, 8, 8))
    assert str(error.value) == message


class Plain(nn.Module):
    """A convolution, a neuron, a read-out; `forward` is one step."""

    def __init__(self, node: nn.Module | None = None) -> None:
        super().__init__()
        self.conv: Any = nn.Conv2d(2, 4, 3, padding=1)
        self.lif: Any = node or spikingjelly.IFNode()
        self.fc = nn.Linear(256, 3)
        rounded(self.fc)
        self.offset = nn.Parameter(torch.ones(3))

    def step(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.lif(self.conv(x)).flatten(1))
        return out

    def forward(self, x: Tensor) -> Any:
        return self.step(x)


class Membranes(Plain):
    """snnTorch with membranes in the hands of `forward`; ``kind`` says what is done with them, and with the outputs."""

    def __init__(self, kind: str, steps: int = 8) -> None:
        super().__init__(snntorch.Leaky(beta=0.5))
        self.kind, self.steps = kind, steps

    def forward(self, x: Tensor) -> Any:
        mem: Any = torch.full((1, 4, 8, 8), 0.45) if self.kind == "start" else self.lif.reset_mem()
        before, out, every = None, 0, []
        for step in range(self.steps):
            spikes, mem = self.lif(self.conv(x[step] if self.kind == "frames" else x), mem)
            mem = mem + 0.3 if self.kind == "changed" else mem
            late = spikes if before is None else before
            out = self.fc((late if self.kind == "late" else spikes).flatten(1))
            every.append(out)
            before = spikes
        total: Any = 0 if self.kind == "late" else sum(every[-2:] if self.kind == "last steps" else every)
        ends: dict[str, Callable[[], Any]] = {
            "last": lambda: every[-1], "every": lambda: every, "stack": lambda: torch.stack(every),
            "late": lambda: (torch.stack(every), mem),
            "mean": lambda: torch.stack(every).mean(0), "divided": lambda: total / self.steps,
            "negative": lambda: total / -4, "twice": lambda: total + out}
        return ends.get(self.kind, lambda: total)()


class Stepped(nn.Module):
    """snnTorch stepped by the caller, who passes the membranes and takes them back, in turned order if ``turned``."""

    def __init__(self, turned: bool = False) -> None:
        super().__init__()
        self.body, self.turned = Plain(snntorch.Leaky(beta=0.5)), turned
        self.last = snntorch.Leaky(beta=0.25, threshold=0.5)

    def forward(self, x: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        spikes, first = self.body.lif(self.body.conv(x), first)
        spikes, second = self.last(self.body.fc(spikes.flatten(1)), second)
        return spikes, (second, first) if self.turned else (first, second)


class Optional(Plain):
    """Arguments with defaults."""

    def forward(self, x: Tensor, mem: Any = None, gain: int = 1) -> Any:
        return self.step(x)


class Ending(Plain):
    """One step with an ending of its own."""

    def __init__(self, ending: Callable[[Plain, Tensor], Any], node: nn.Module | None = None) -> None:
        super().__init__(node)
        self.ending = ending

    def forward(self, x: Tensor) -> Any:
        return self.ending(self, self.step(x))


class Merged(Plain):
    """Multi-step; flattens all but the steps, not all but steps and batch."""

    def __init__(self) -> None:
        super().__init__(spikingjelly.IFNode(step_mode="m"))
        self.conv = layer.Conv2d(2, 4, 3, padding=1, step_mode="m")


class Conv2d(nn.Conv2d):
    """A class under a supported name that does something else."""

    def forward(self, x: Tensor) -> Tensor:
        return 3 * super().forward(x)


class LIFNode(nn.Module):
    """A class under a supported name without its attributes."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def hooked() -> nn.Module:
    model = Plain()
    model.conv.register_forward_hook(lambda module, args, output: 2 * output)
    return model


def replaced() -> nn.Module:
    model = Plain()
    model.conv = Conv2d(2, 4, 3, padding=1)
    return model


def graded() -> nn.Module:
    model = Plain()
    model.lif.register_forward_hook(lambda module, args, output: 0.5 * output)
    return model


@pytest.mark.parametrize(("model", "shape", "start"), [
    (hooked(), (2, 2, 8, 8), "lif: IFNode: the model's spikes are not those of the captured network in "),
    (replaced(), (2, 2, 8, 8), "lif: IFNode: the model's spikes are not those of the captured network in "),
    (graded(), (2, 2, 8, 8), "lif: IFNode: the model's spikes are not those of the captured network in "),
    (Membranes("start"), (1, 2, 8, 8), "lif: Leaky: the model's spikes are not those of the captured network in "),
    (Membranes("changed"), (2, 2, 8, 8), "lif: Leaky: the model's spikes are not those of the captured network in "),
    (Ending(lambda m, out: (m.lif.reset(), out)[1]), (2, 2, 8, 8),
     "lif: IFNode: the model's spikes are not those of the captured network in "),
    (Stepped(turned=True), (1, 2, 8, 8), "body.lif: Leaky: the model's spikes are not those of the captured network in "),
    (Merged(), (4, 1, 2, 8, 8), "output: the model returns [3], not [1, 3] (images, classes); "),
])
def test_a_model_that_does_more_than_its_graph_is_refused(model: nn.Module, shape: tuple[int, ...], start: str) -> None:
    """What torch.fx does not show is found by running the model."""
    with pytest.raises(ParameterError) as error:
        trace(seeded(model), images(*shape))
    assert str(error.value).startswith(start)
    assert str(error.value).endswith(SAME)


@pytest.mark.parametrize(("kind", "message"), [
    ("last", "output: forward returns steps [7] of layer fc, not each of 0..7 once"),
    ("last steps", "output: forward returns steps [6, 7] of layer fc, not each of 0..7 once"),
    ("late", "output: forward returns steps [0, 0, 1, 2, 3, 4, 5, 6] of layer fc, not each of 0..7 once"),
    ("twice", "output: forward returns steps [0, 1, 2, 3, 4, 5, 6, 7, 7] of layer fc, not each of 0..7 once"),
])
def test_other_sums_over_steps_are_refused(kind: str, message: str) -> None:
    with pytest.raises(ParameterError) as error:
        trace(seeded(Membranes(kind)), images(1, 2, 8, 8))
    assert str(error.value) == f"{message}; legal: every step's output, or the sum or mean over all steps"


@pytest.mark.parametrize(("model", "shape", "message"), [
    (Membranes("negative"), (1, 2, 8, 8), "truediv: a sum over steps may be divided by a number above 0, not -4; "
     "legal: the number of steps, written as a number"),
    (Ending(lambda m, out: out.mean(0)), (1, 2, 8, 8), "mean: mean over dimension 0 is over the images of a batch, not over "
     "timesteps; legal: the stacked steps of one layer, or a [T, N, ...] tensor; try: no such mean, outputs of all steps "
     "are summed anyway"),
    (Ending(lambda m, out: out + m.offset), (1, 2, 8, 8), "output: the first thing that forward returns must be spikes or "
     "logits, not a sum with the parameter offset; legal: logits, spikes, (spikes, membrane) or lists of them per step"),
    (Ending(lambda m, out: torch.cat([out, out], 1)), (1, 2, 8, 8), f"cat: cat([tensor, tensor], 1) is not supported; "
     f"legal: {SUPPORTED}; try: spikeloom capture --help"),
    (Ending(lambda m, out: m.fc(m.offset)), (1, 2, 8, 8), "fc: Linear(in_features=256, out_features=3, bias=True): its first "
     f"argument is the parameter offset, not spikes or currents; {LIMITS}"),
    (Membranes("frames"), (4, 1, 2, 8, 8), "example: has 4 timesteps, not the 8 of forward"),
    (Wrap(LIFNode()), (1, 2, 8, 8), "body.0: LIFNode(): not the LIFNode of its library ('LIFNode' object has no attribute "
     f"'v_threshold'); {LIMITS}"),
    (Wrap(nn.Conv2d(3, 4, 3)), (1, 2, 8, 8), "capture: Wrap cannot be run on inputs [1, 2, 8, 8] (Given groups=1, weight of "
     "size [4, 3, 3, 3], expected input[1, 2, 8, 8] to have 3 channels, but got 2 channels instead); legal: an example that "
     "it takes with one or two images, membranes returned in the order in which they are taken; try: model(example)"),
    (Wrap(spikingjelly.IFNode(v_threshold=float("inf"))), (1, 2, 8, 8),
     "capture: body.0: v_threshold must be a finite number, not inf; try: training again"),
])
def test_other_programs_are_refused(model: nn.Module, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ParameterError) as error:
        trace(seeded(model), images(*shape))
    assert str(error.value) == message


@pytest.mark.parametrize(("model", "shape", "steps"), [
    (Membranes("sum"), (1, 2, 8, 8), 8), (Membranes("every"), (1, 2, 8, 8), 8), (Membranes("stack"), (3, 2, 8, 8), 8),
    (Membranes("mean", 4), (1, 2, 8, 8), 4), (Membranes("divided"), (1, 2, 8, 8), 8),
    (Membranes("frames", 4), (4, 1, 2, 8, 8), 4), (MultiStep(), (5, 2, 2, 8, 8), 5),
    (Plain(), (1, 2, 8, 8), None), (Stepped(), (2, 2, 8, 8), None), (Optional(), (2, 2, 8, 8), None)])
def test_steps_are_kept(model: nn.Module, shape: tuple[int, ...], steps: int | None, tmp_path: Path) -> None:
    """A model that runs all its steps in one call gives T to the file."""
    capture(seeded(model), images(*shape), tmp_path / "net.safetensors")
    assert load(tmp_path / "net.safetensors").steps == steps


@pytest.mark.parametrize(("model", "given", "frames", "steps"), [
    (Membranes("sum"), None, None, 8), (Membranes("sum"), 2, None, 2), (Membranes("sum"), None, 3, 3),
    (Plain(), None, None, 4), (Plain(), None, 3, 3)])
def test_default_steps(model: nn.Module, given: int | None, frames: int | None, steps: int, tmp_path: Path) -> None:
    """T is the explicit one, or that of the data's frames, or that of the file, or 4."""
    capture(seeded(model), images(1, 2, 8, 8), tmp_path / "net.safetensors")
    np.savez(tmp_path / "x.npz", x=(images(2, 2, 8, 8) if frames is None else images(2, frames, 2, 8, 8)).numpy())
    workload = load_workload(str(tmp_path / "net.safetensors"), PRESETS["loas"], steps=given, data=tmp_path / "x.npz")
    assert workload.network.steps == steps


def test_files_of_version_1_0_load(tmp_path: Path) -> None:
    """A file written before T was kept has none."""
    capture(Plain(), images(1, 2, 8, 8), tmp_path / "net.safetensors")
    with safetensors.safe_open(str(tmp_path / "net.safetensors"), "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in list(file.keys())}
    graph = json.loads(metadata["graph"])
    assert graph["version"] == [1, 2] and graph.pop("steps", 0) is None
    metadata["graph"] = json.dumps(graph | {"version": [1, 0]})
    safetensors.torch.save_file(tensors, str(tmp_path / "old.safetensors"), metadata)
    assert load(tmp_path / "old.safetensors").nodes == load(tmp_path / "net.safetensors").nodes
    assert load(tmp_path / "old.safetensors").steps is None
    assert load(ROOT / "models" / "digits.safetensors").steps is None


def pruned() -> Plain:
    model = Plain()
    for part in (model.conv, model.fc):
        prune.l1_unstructured(part, "weight", 0.9)
        with torch.no_grad():
            part.get_parameter("weight_orig").mul_(3)
    return model


def loaded() -> Plain:
    model = Plain()
    for part in (model.conv, model.fc):
        prune.identity(part, "weight")
    model.load_state_dict(pruned().state_dict())
    return model


def weight_norm(module: nn.Module) -> nn.Module:
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(module)


def normalised(norm: Callable[..., nn.Module], *parameters: str) -> Plain:
    model = Plain()
    norm(model.conv)
    with torch.no_grad():
        for name in parameters:
            model.conv.get_parameter(name).mul_(3)
    return model


@pytest.mark.parametrize(("model", "zeros"), [
    (pruned(), 65 / 72), (loaded(), 65 / 72), (normalised(weight_norm, "weight_g"), 0),
    (normalised(nn.utils.spectral_norm, "weight_orig"), 0),
    (normalised(parametrizations.weight_norm, "parametrizations.weight.original0"), 0)])
def test_weights_are_those_of_the_next_call(model: Plain, zeros: float) -> None:
    """Pruned and normalised weights are read as the model would use them, however stale its attribute is."""
    model, x = model.eval(), images(5, 2, 8, 8)
    stale = model.conv.weight.detach().clone()
    captured = trace(model, x)
    left = model.conv.weight.detach().clone()
    with torch.no_grad():
        expected = sum(model(x) for _ in range(4))
    assert isinstance(expected, Tensor)
    assert torch.equal(float_run(captured, x, 4).logits, expected)
    assert torch.equal(torch.from_numpy(captured.tensors["conv.weight"]), model.conv.weight)
    assert (captured.tensors["conv.weight"] == 0).mean() == zeros
    assert torch.equal(left, stale)


def test_stale_weights_are_seen() -> None:
    """Control: before the next call, the attribute is not what the model computes with."""
    for model in (pruned(), loaded(), normalised(weight_norm, "weight_g")):
        stale = model.conv.weight.detach().clone()
        model(images(1, 2, 8, 8))
        assert not torch.equal(stale, model.conv.weight)


@pytest.mark.parametrize("node", [spikingjelly.LIFNode(tau=2.0), snntorch.Leaky(beta=0.5, init_hidden=True)])
def test_the_model_stays_as_it_was(node: Any) -> None:
    """Modes, buffers, membranes in mid-run, attributes, gradients' graph and the random generator are untouched."""
    class Seen(Plain):
        def forward(self, x: Tensor) -> Any:
            self.seen = self.step(x)
            return self.seen

    model: Any = seeded(Seen(node)).train()
    model.lif.eval()
    model.fc.register_buffer("count", torch.zeros(1))
    model.fc.register_forward_hook(lambda module, args, output: module.count.add_(torch.rand(1)) and None)
    out = model(images(1, 2, 8, 8))
    name = "v" if isinstance(node, spikingjelly.LIFNode) else "mem"
    membrane, keys = getattr(node, name), list(vars(model))
    before, copy = {k: v.clone() for k, v in model.state_dict().items()}, membrane.clone()
    torch.manual_seed(5)
    trace(model, images(1, 2, 8, 8))
    assert getattr(node, name) is membrane and torch.equal(membrane, copy)
    assert model.seen is out and list(vars(model)) == keys
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (model.training, model.fc.training, model.lif.training) == (True, True, False)
    assert not model.lif._forward_hooks
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    out.sum().backward()


def test_ties_are_excused_and_nothing_else() -> None:
    """A spike that only rounding decides may differ; one a hundredth of the threshold away may not."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), spikingjelly.IFNode()).eval()
    with torch.no_grad():
        model[0].get_parameter("weight").fill_(1.0)
    x, protocol = torch.ones(1, 1, 2, 2), Protocol(steps=STEPS, whole=False)
    captured = trace(model, x)
    for threshold, excused in ((1 + 1e-6, True), (1.01, False)):
        node = replace(captured.nodes[2], args={**captured.nodes[2].args, "v_threshold": threshold})
        other = replace(captured, nodes=(*captured.nodes[:2], node, *captured.nodes[3:]))
        assert not float_run(other, x.numpy(), 1).spikes["layer1"].any()
        if excused:
            compare(model, other, x, protocol)
        else:
            with pytest.raises(ParameterError, match=r"^1: IFNode: the model's spikes are not those .* in 16 of 16 neuron "
                                                     r"steps, first at step 0; legal: "):
                compare(model, other, x, protocol)


@pytest.mark.parametrize("name", ["conv.weight", "fc.weight", "fc.bias"])
def test_one_different_weight_is_refused(name: str) -> None:
    """Control: the comparison notices any tensor."""
    model, x = seeded(Plain()), images(2, 2, 8, 8)
    captured = trace(model, x)
    compare(model, captured, x, Protocol(steps=STEPS, whole=False))
    captured.tensors[name][0] += 1.0
    with pytest.raises(ParameterError, match="^lif: IFNode: " if name == "conv.weight" else "^output: the model's is up to "):
        compare(model, captured, x, Protocol(steps=STEPS, whole=False))


@pytest.mark.parametrize(("example", "message"), [
    (np.zeros((1, 2, 8, 8)), "example: must be a torch tensor, not numpy.ndarray; try: torch.as_tensor(example)"),
    (torch.full((1, 2, 8, 8), torch.nan), "example: must be finite numbers, not nan or inf"),
    (torch.zeros(0, 2, 8, 8), "example: must be [N, C, H, W] or [T, N, C, H, W], not shape [0, 2, 8, 8]")])
def test_examples_that_are_none(example: Any, message: str) -> None:
    with pytest.raises(ParameterError) as error:
        trace(Plain(), example)
    assert str(error.value) == message


def test_example_shape() -> None:
    with pytest.raises(ParameterError) as error:
        trace(SingleStep(), images(2, 8, 8))
    assert str(error.value) == "example: must be [N, C, H, W] or [T, N, C, H, W], not shape [2, 8, 8]"


def test_truncated_and_foreign_files(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    capture(SingleStep(), images(1, 2, 8, 8), good)
    content = good.read_bytes()
    for size in (0, 7, 100, len(content) - 1):
        bad = tmp_path / "bad.safetensors"
        bad.write_bytes(content[:size])
        with pytest.raises(ParameterError) as error:
            load(bad)
        assert str(error.value).startswith(f"captured file: {bad}: cannot be read (")
        assert str(error.value).endswith(f"); {FLAT}")
    safetensors.torch.save_file({"a": torch.zeros(1)}, str(bad))
    with pytest.raises(ParameterError) as error:
        load(bad)
    assert str(error.value) == f"captured file: {bad}: format must be spikeloom-captured, not None; {FLAT}"


@pytest.mark.parametrize(("graph", "message"), [
    ({"version": [2, 0], "nodes": [], "example_shape": [1, 1, 1]}, "version must be 1.x, not 2.0"),
    ({"version": [1, 0], "nodes": []}, "graph is damaged (KeyError('example_shape'))"),
    ({"version": [1, 0], "nodes": [], "example_shape": [1, 1, 1]}, "graph is damaged (no input or no output)"),
    ({"version": [1, 0], "example_shape": [1, 1, 1],
      "nodes": [{"name": "a", "op": "eval", "inputs": [], "path": "", "args": {}}]},
     "graph is damaged (unknown operation 'eval')"),
    ({"version": [1, 0], "example_shape": [1, 1, 1],
      "nodes": [{"name": "a", "op": "add", "inputs": ["b"], "path": "", "args": {}}]},
     "graph is damaged (a reads a later node)"),
])
def test_damaged_graphs(graph: dict[str, Any], message: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.safetensors"
    metadata = {"format": "spikeloom-captured", "graph": json.dumps(graph)}
    safetensors.torch.save_file({}, str(bad), metadata)
    with pytest.raises(ParameterError) as error:
        load(bad)
    assert str(error.value) == f"captured file: {bad}: {message}; {FLAT}"


def damage(part: Any, key: Any, value: Any = None) -> Callable[[dict[str, Any], dict[str, Tensor]], None]:
    """Return what removes, or sets, a node's argument or field (by node number) or a tensor (by name)."""
    def change(graph: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        where: Any = tensors if part is None else graph if part == "graph" else graph["nodes"][part]
        where = where["args"] if key in ("stride", "v_threshold", "class") else where
        if value is None:
            del where[key]
        else:
            where[key] = value
    return change


@pytest.mark.parametrize(("change", "message"), [
    (damage(1, "args"), "KeyError('args')"),
    (damage(1, "args", 3), "conv: args must be an object, not 3"),
    (damage(1, "stride"), "conv: stride is missing"),
    (damage(1, "stride", 0), "conv: stride must be an integer of at least 1, not 0"),
    (damage(1, "stride", "1"), "conv: stride must be an integer of at least 1, not '1'"),
    (damage(2, "v_threshold"), "lif: v_threshold is missing"),
    (damage(2, "v_threshold", float("nan")), "lif: v_threshold must be a finite number, not nan"),
    (damage(2, "class", "Alpha"), "lif: unknown neuron 'Alpha'"),
    (damage(1, "inputs", []), "conv: conv must read 1 nodes, not 0"),
    (damage(1, "inputs", ["input", "input"]), "conv: conv must read 1 nodes, not 2"),
    (damage(2, "name", "conv"), "two nodes are called conv"),
    (damage(3, "op", "output"), "more than one input or output"),
    (damage(None, "conv.weight"), "conv.weight: the tensor is missing"),
    (damage(None, "conv.weight", torch.zeros(4)), "conv.weight: must be [4, any, any, any], not [4]"),
    (damage(None, "conv.bias", torch.zeros(3)), "conv.bias: must be [4], not [3]"),
    (damage(None, "fc.weight", torch.zeros(0, 256)), "fc.weight: must be [N, any], not [0, 256]"),
    (damage(None, "fc.bias", torch.full((3,), torch.inf)), "fc.bias: must be finite floating point numbers"),
    (damage(None, "fc.bias", torch.ones(3, dtype=torch.int64)), "fc.bias: must be finite floating point numbers"),
    (damage("graph", "example_shape", [2, 8, 0]), "example_shape must be three sizes, not [2, 8, 0]"),
    (damage("graph", "steps", 0), "steps must be a number of timesteps, not 0"),
])
def test_damaged_nodes_and_tensors(change: Callable[..., None], message: str, tmp_path: Path) -> None:
    """Each operand, argument and tensor that lowering needs is there and has its kind, or the file is refused."""
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    capture(Plain(), images(1, 2, 8, 8), good)
    with safetensors.safe_open(str(good), "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in list(file.keys())}
    graph = json.loads(metadata["graph"])
    change(graph, tensors)
    metadata["graph"] = json.dumps(graph)
    safetensors.torch.save_file(tensors, str(bad), metadata)
    with pytest.raises(ParameterError) as error:
        load(bad)
    assert str(error.value) == f"captured file: {bad}: graph is damaged ({message}); {FLAT}"


def test_nothing_half_written(tmp_path: Path) -> None:
    target = tmp_path / "none" / "net.safetensors"
    nodes = (Node(name="input", op="input"), Node(name="output", op="output", inputs=("input",)))
    with pytest.raises(ParameterError) as error:
        save(Captured(nodes=nodes, tensors={}, example_shape=(1, 1, 1)), target)
    assert str(error.value) == (f"captured file: {target}: cannot be written (No such file or directory); "
                                "legal: a file in a writable folder")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ParameterError):
        save(Captured(nodes=nodes, tensors={}, example_shape=(1, 1, 1)), tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_equal_networks_are_equal_files(tmp_path: Path) -> None:
    """The same network gives the same bytes each time; another weight gives others."""
    captured, files = trace(SingleStep().eval(), torch.zeros(1, 2, 8, 8)), set()
    for number in range(8):
        save(captured, tmp_path / f"{number}.safetensors")
        files.add((tmp_path / f"{number}.safetensors").read_bytes())
    assert len(files) == 1 and load(tmp_path / "0.safetensors").nodes == captured.nodes
    captured.tensors[next(iter(captured.tensors))].reshape(-1)[0] += 1
    save(captured, tmp_path / "other.safetensors")
    assert (tmp_path / "other.safetensors").read_bytes() not in files


def test_layers_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "layers.md").read_text() == layers_markdown()


def test_own_network_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = (ROOT / "docs" / "own-network.md").read_text().split("```python\n")[1:]
    program = "\n".join(block.split("```")[0] for block in blocks)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(program, "docs/own-network.md", "exec"), names)
    assert len(blocks) == 5
    assert (tmp_path / "x.npz").exists()
    assert 0.9 <= names["network"].weight_sparsity < 0.95
    assert names["right"] >= 85
    assert abs(names["right"] - int((names["reference"] == names["y_test"][:100]).sum())) <= 3
