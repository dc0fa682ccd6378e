"""Capture: what the file holds, that it computes what the model computes, and every refusal's whole message."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import snntorch
import torch
from spikingjelly.activation_based import functional, layer
from spikingjelly.activation_based import neuron as spikingjelly
from torch import Tensor, nn

from golden.arch import ParameterError
from golden.capture import SUPPORTED, capture, layers_markdown, load, trace
from golden.float_run import float_run
from golden.store import Captured, Node, save

ROOT = Path(__file__).resolve().parent.parent
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


def seeded(model: nn.Module) -> nn.Module:
    """Return ``model`` in evaluation mode with fixed weights, some batch statistics, gain enough to spike."""
    generator = torch.Generator().manual_seed(11)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            gain = 3 / module.weight[0].numel() ** 0.5
            module.weight.data = gain * torch.randn(module.weight.shape, generator=generator)
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
    assert torch.allclose(float_run(load(tmp_path / "net.safetensors"), x, 4).logits, expected, atol=1e-4)
    functional.reset_net(model)


def test_spikingjelly_multi_step() -> None:
    model, x = seeded(MultiStep()), images(4, 5, 2, 8, 8)
    captured = trace(model, x)
    assert ops(captured) == ["input", "conv", "batchnorm", "neuron", "conv", "neuron", "flatten", "linear", "output"]
    assert [n.path for n in captured.nodes if n.op == "conv"] == ["front.0", "back.0"]
    assert torch.allclose(float_run(captured, x.movedim(0, 1), 4).logits, 4 * model(x), atol=1e-4)


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
    assert not torch.allclose(float_run(captured, x, 4).logits, expected, atol=1e-4)


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
    (nn.ReLU(), "body.0: ReLU(): its type is not supported"),
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
        return torch.relu(x)


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
    (Function(), f"relu: relu(tensor) is not supported; legal: {SUPPORTED}; try: spikeloom capture --help"),
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
    assert names["right"] >= 85
    assert abs(names["right"] - int((names["reference"] == names["y_test"][:100]).sum())) <= 3
