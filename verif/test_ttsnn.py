"""TT-SNN: cores and merged kernels, its neuron in three libraries, lowering, and the shipped networks on the RTL."""

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import snntorch
import torch
from spikingjelly.activation_based import neuron as spikingjelly
from torch import Tensor, nn

import models.ttsnn as recipe
from golden.arch import PRESETS, Arch, ParameterError
from golden.capture import capture, load, trace
from golden.float_run import float_run
from golden.limits import check
from golden.lower import lower, quantise_input
from golden.network import Network, Neuron, input_words
from golden.neuron import neuron
from golden.run import run
from golden.to_torch import to_torch
from models import training
from models.datasets import digits
from models.spiking import Leaky
from models.ttsnn import (
    KINDS,
    STEPS,
    StepConv2d,
    TtConv2d,
    TtSnn,
    evbmf_rank,
    ranks,
)
from spikeloom import catalogue
from spikeloom.cli import run as command_line
from verif.simulate import Memory, run_words
from verif.system import System
from verif.test_verify import WEAVE
from verif.ttsnn_table import LOCKSTEP
from verif.workload import Workload

MODELS = Path(__file__).parents[1] / "models"
PAGE = Path(__file__).parents[1] / "docs" / "ttsnn.md"
SHIPPED = ("dense", "ptt", "htt")
LOAS = PRESETS["loas"]
# Two small builds that hold the shipped networks.
BUILDS = {"lockstep": LOCKSTEP, "loom": WEAVE}
POINTS = 0.02
DIGITS = tuple(map(torch.from_numpy, digits()))


def whole_cores(kind: str) -> TtConv2d:
    """Return a convolution whose cores are small integers, so that float64 is exact."""
    conv = TtConv2d(kind, 5, 6, 4).double()
    generator = torch.Generator().manual_seed(3)
    for core in (conv.g1, conv.g2, conv.g3, conv.g4):
        core.weight = nn.Parameter(2.0 * torch.randint(-3, 4, core.weight.shape, generator=generator).double())
    return conv


@pytest.mark.parametrize("kind", KINDS[1:])
def test_merged_kernels_are_the_cores(kind: str) -> None:
    """Kernels that are merged give the same currents as the cores at every step, and so does the pipeline."""
    conv = whole_cores(kind)
    conv.steps = STEPS
    x = torch.randint(0, 2, (STEPS * 3, 5, 7, 6), generator=torch.Generator().manual_seed(4)).double()
    for other in (conv.merged().double(), conv.pipeline().double()):
        for module in other.modules():
            if isinstance(module, StepConv2d):
                module.steps = STEPS
        assert torch.equal(other(x), conv(x))


def test_parallel_kernels_are_crosses() -> None:
    """Corners of a PTT kernel are 0, other taps are not; the second HTT kernel is one tap; STT fills all nine."""
    (cross,), (full,) = whole_cores("ptt").kernels(), whole_cores("stt").kernels()
    wanted = torch.tensor([[False, True, False], [True, True, True], [False, True, False]])
    assert torch.equal(cross.abs().amax((0, 1)) > 0, wanted)
    assert (full.abs().amax((0, 1)) > 0).all()
    assert [kernel.shape[2:] for kernel in whole_cores("htt").kernels()] == [(3, 3), (1, 1)]


def test_ranks() -> None:
    """A planted rank is found in noise; random weights have rank 0 and are refused with the reason, and so is rank 0."""
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(64, 288, generator=generator).double()
    left, right = torch.randn(64, 9, generator=generator).double(), torch.randn(9, 288, generator=generator).double()
    assert evbmf_rank(noise) == 0
    assert evbmf_rank(left @ right + 0.1 * noise) == 9
    torch.manual_seed(0)
    model = TtSnn("dense", widths=(64, 128), blocks=(1, 1))
    with pytest.raises(ParameterError, match=re.escape("ranks: blocks_0_conv1 of [64, 64, 3, 3] has rank 0: EVBMF tells its")):
        ranks(model.dense_kernels())
    for owner, name in model.convolutions():
        weight = getattr(owner, name).weight
        low = torch.randn(len(weight), 7, generator=generator) @ torch.randn(7, weight[0].numel(), generator=generator)
        weight.data = low.reshape(weight.shape) + 0.05 * weight.data
    assert ranks(model.dense_kernels()) == [7] * 4
    with pytest.raises(ParameterError, match=r"^rank: must be at least 1, not 0: a layer of rank 0 passes nothing on"):
        TtSnn("ptt", ranks=[0] * 6)
    with pytest.raises(ParameterError, match=r"^ranks: must be 6, one for each 3x3 convolution of the blocks, not 2"):
        TtSnn("ptt", ranks=[3, 3])
    with pytest.raises(ParameterError, match=r"^kind: must be one of dense, stt, ptt, htt, not 'tt'"):
        TtSnn("tt")


def test_ranks_of_trained_weights() -> None:
    """EVBMF finds a rank for every convolution of the trained dense network, and cores of these ranks are a network."""
    tensors = load(file_of("dense")).tensors
    found = ranks({name: torch.from_numpy(tensors[f"{name}.weight"].copy()) for name in TtSnn("dense").dense_kernels()})
    assert found == [3, 4, 7, 12, 15, 15]
    assert [getattr(owner, name).g2.in_channels for owner, name in TtSnn("ptt", ranks=found).convolutions()] == found
    assert f"found {', '.join(map(str, found[:-1]))} and {found[-1]}" in " ".join(PAGE.read_text().split())


def test_neuron_is_that_of_three_libraries() -> None:
    """Golden, snnTorch, SpikingJelly with the next threshold above, and the model's neuron fire alike on integers."""
    generator = torch.Generator().manual_seed(6)
    x = torch.randint(-40, 41, (STEPS, 7, 4000), generator=generator)
    for level in (1, 8, 20):
        p = Neuron(threshold=torch.full((7,), level), leak_shift=2, compare=">")
        wanted = neuron(x, p)
        ours = Leaky(0.25, float(level))
        theirs = snntorch.Leaky(beta=0.25, threshold=float(level), reset_mechanism="zero", init_hidden=True)
        above = float(torch.nextafter(torch.tensor(float(level)), torch.tensor(torch.inf)))
        jelly = spikingjelly.LIFNode(tau=4 / 3, decay_input=False, v_threshold=above, v_reset=0.0)
        for t in range(STEPS):
            for made in (ours, theirs, jelly):
                assert torch.equal(made(x[t].float()).long(), wanted[t]), (level, t)
        ours.reset()
        ours.steps = STEPS
        assert torch.equal(ours(x.flatten(0, 1).float()).long(), wanted.flatten(0, 1))
        assert 0.05 < wanted.double().mean() < 0.95


def seeded(kind: str, how: str = "merged") -> TtSnn:
    """Return a small random network, merged or as a pipeline, with statistics of the digits."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = TtSnn(kind, widths=(6, 9), blocks=(1, 1), ranks=None if kind == "dense" else [3] * 4)
        for _ in range(10):
            model.train().logits(DIGITS[0][:64])
        return model.eval().replaced(how)


@cache
def shipped(kind: str, arch: Arch) -> Network:
    """Return a shipped network, lowered."""
    return lower(load(file_of(kind)), STEPS, arch, name=kind, input_bits=6, input_scale=0.0625)


def file_of(kind: str) -> Path:
    """Return the captured file of a kind, merged, or with `` pipeline`` behind it of its cores as layers."""
    return MODELS / f"ttsnn-{kind.replace(' ', '-')}{'' if kind.endswith('pipeline') else '-digits'}.safetensors"


def quantised(network: Network, count: int) -> Tensor:
    """Return the first test images as the network's input."""
    return torch.as_tensor(quantise_input(DIGITS[2][:count].numpy(), network.input))


@pytest.mark.parametrize("kind", [*SHIPPED, "stt", "ptt pipeline", "htt pipeline"])
def test_lowered_networks_are_libraries_networks(kind: str) -> None:
    """Spikes that SpikingJelly makes of the integer network's currents are golden's, through digits and maxima."""
    network = shipped(kind, LOAS)
    images = quantised(network, 2)
    module = to_torch(network)
    logits = module(images)
    for number, image in enumerate(images):
        found = run(network, input_words(image, network.input, STEPS))
        for name, spikes in module.spikes.items():
            words = found.layers[name].words
            assert words is not None
            assert torch.equal(spikes[:, number].long(), torch.stack([words >> t & 1 for t in range(STEPS)])), name
        readout = list(found.layers.values())[-1].readout
        assert readout is not None and torch.equal(logits[number].long(), readout.flatten())


@pytest.mark.parametrize("kind", [*SHIPPED, "stt", "stt pipeline", "ptt pipeline", "htt pipeline"])
def test_shipped_networks_are_accurate(kind: str) -> None:
    """Integers and floats are within two points of the dense network on the whole test split, and as the page has them."""
    network, (_, _, x, y) = shipped(kind, LOAS), DIGITS
    captured = load(file_of(kind))
    real = float((float_run(captured, x.numpy(), STEPS).logits.argmax(1) == y).float().mean())
    whole = Workload(kind, network, captured, x.numpy(), y.numpy()).accuracy()
    assert min(real, whole) >= 0.997 - POINTS
    assert re.search(rf"^\| {file_of(kind).stem} \| .* \| {real:.2%} \| {whole:.2%} \| 0 \|", PAGE.read_text(), re.M)
    assert sum(captured.tensors[name].size for name in captured.tensors) <= 250_000
    assert (file_of(kind)).stat().st_size < 1_000_000


def test_digits_are_the_highest_bits_of_the_stream() -> None:
    """The layer behind the digits adds up exactly the convolution of the currents without their lowest bits."""
    network = shipped("dense", LOAS)
    found = run(network, input_words(quantised(network, 1)[0], network.input, STEPS))
    operand = network.layer("blocks_2_lif1.operand")
    digits = [layer for layer in network.layers if layer.digit and layer.residual == "blocks_1_lif1"]
    assert [layer.name for layer in digits] == [sweep.source for sweep in operand.passes]
    assert digits[0].digit is not None and all(layer.digit and layer.digit.bits == 4 for layer in digits)
    stream = found.layers["blocks_1_lif1"].currents >> digits[0].digit.low
    weight = torch.as_tensor(operand.passes[0].weight).double()
    wanted = nn.functional.conv2d(stream.double(), weight, stride=2).long()
    shift = operand.passes[0].planes[0].shift
    assert torch.equal(found.layers[operand.name].sums, wanted << shift)


def test_narrow_currents_take_fewer_bits_of_the_stream() -> None:
    """Where 12 bits of the stream do not fit the build's currents, fewer are read, the highest ones."""
    for bits, layers in ((24, 3), (19, 2)):
        arch = replace(LOAS, acc_bits=18, stream_bits=bits)
        network = shipped("dense", arch)
        assert len([layer for layer in network.layers if layer.digit and layer.residual == "blocks_2_lif1"]) == layers
        check(network, arch)
    with pytest.raises(ParameterError, match=r"^lif\.operand \(blocks\.2\.conv2\): currents in bits: needs 20; legal: at"):
        shipped("dense", replace(LOAS, acc_bits=18, stream_bits=18))


@pytest.mark.parametrize("kind", ["ptt pipeline", "htt pipeline"])
def test_cores_of_a_pipeline_are_requantised_at_every_step(kind: str) -> None:
    """Each core but the last writes 8-bit numbers of every step, which the next one reads in a pass each."""
    network = shipped(kind, LOAS)
    numbers = [layer for layer in network.layers if layer.requantise]
    assert [layer.requantise.step for layer in numbers if layer.requantise] == [0, 1, 2, 3] * 12
    assert all(layer.requantise and layer.requantise.signed and layer.requantise.bits == 8 for layer in numbers)
    middle = network.layer("blocks_0_conv1_1_currents")
    assert [sweep.source for sweep in middle.passes] == [f"blocks_0_conv1_0_currents.step{t}" for t in range(STEPS)]
    assert [{plane.steps for plane in sweep.planes} for sweep in middle.passes] == [{(t,)} for t in range(STEPS)]
    assert not middle.passes[0].weight[:, :, ::2, ::2].any() and middle.passes[0].weight[:, :, 1].any()
    if kind == "htt pipeline":
        for sweep in middle.passes[STEPS // 2 :]:
            weight = torch.as_tensor(sweep.weight).long()
            assert weight.shape[2:] == (1, 1) and torch.equal(weight[:, :, 0, 0], weight.amax((1, 2, 3)).diag())


def test_kernels_by_step_are_captured() -> None:
    """Both kernels of an HTT layer are captured with their steps; another T is refused, by model and by lowering."""
    model = seeded("htt")
    captured = trace(model, DIGITS[0][:8])
    chosen = [node.args["steps"] for node in captured.nodes if "steps" in node.args]
    assert chosen == [[0, 1], [2, 3]] * 4 and {node.args["of"] for node in captured.nodes if "of" in node.args} == {STEPS}
    network = lower(captured, STEPS, LOAS, name="htt", input_bits=6, input_scale=0.0625)
    wide, narrow = network.layer("blocks_0_lif2").passes
    assert [plane.steps for plane in wide.planes] == [(0,), (1,), (), ()]
    assert [plane.steps for plane in narrow.planes] == [(), (), (2,), (3,)]
    for steps in (3, 5):
        with pytest.raises(ParameterError, match=rf"^blocks\.0\.conv1: T: must be 4, the steps that it .* for, not {steps}"):
            lower(captured, steps, LOAS, name="htt", input_bits=6, input_scale=0.0625)
    conv: Any = model.convolutions()[0][0].conv1
    conv.reset()
    for _ in range(STEPS):
        conv(torch.zeros(1, 6, 8, 8))
    with pytest.raises(ParameterError, match=r"^T: must be at most 4, the steps that have a kernel, not 5"):
        conv(torch.zeros(1, 6, 8, 8))
    conv.kernel_of_step = (0, 0, 0, 0)
    with pytest.raises(ParameterError, match="kernel_of_step must name each of its 2 kernels"):
        trace(model, DIGITS[0][:8])


def test_sums_of_kernels_by_step_are_measured() -> None:
    """The sum of the kernels of an un-merged HTT has the largest output of all steps; sums of other kernels have none."""
    model, x = seeded("htt", "pipeline"), DIGITS[0][:8]
    block: Any = model.convolutions()[0][0]
    middle = block.conv1[1]
    middle.convs[0].weight.data *= 8
    found: list[Tensor] = []
    handle = middle.register_forward_hook(lambda module, given, output: found.append(output))
    with torch.no_grad():
        model.logits(x)
    handle.remove()
    peaks = {node.name: node.args.get("peak") for node in trace(model, x).nodes if node.op == "add"}
    wanted = float(found[0].abs().max())
    assert peaks["blocks_0_conv1_1"] == pytest.approx(wanted, rel=1e-6)
    assert wanted > 1.1 * float(found[0].chunk(2)[1].abs().max())
    assert [name for name, peak in peaks.items() if peak is None] == ["add", "add_1"]

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.flatten = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 8), nn.Flatten()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.flatten(self.c(self.a(x) + self.b(x)))
            return out

    assert all("peak" not in node.args for node in trace(Sum(), x).nodes)


def test_training_learns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A short form of ``spikeloom train`` is far better than chance, and captures the kernels that are shipped."""
    kind = "htt"
    monkeypatch.setattr(recipe, "EPOCHS", 2)
    monkeypatch.setattr(catalogue, "accuracy_golden", lambda path, facts: 0.0)
    seen: list[tuple[int, int]] = []
    path = tmp_path / "net.safetensors"
    report = catalogue.train(f"ttsnn-{kind}-digits", path, 0, lambda done, of: seen.append((done, of)))
    assert seen == [(1, 2), (2, 2)] and report["accuracy_float"] > 0.5
    shapes = [{name: tensor.shape for name, tensor in load(file).tensors.items()} for file in (path, file_of(kind))]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(("asked", "given"), [
    ("8", [8] * 6), ("1,2,3,4,5,64", [1, 2, 3, 4, 5, 64]), ("evbmf", [3, 4, 7, 12, 15, 15]),
    (f"evbmf:{file_of('dense')}", [3, 4, 7, 12, 15, 15]), (None, [5, 5, 10, 10, 19, 19])])
def test_ranks_of_the_command_line(asked: str | None, given: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    """``--ranks`` makes cores of these ranks, and the report has them; merged kernels have no higher rank."""
    monkeypatch.setattr(recipe, "EPOCHS", 1)
    monkeypatch.setattr(training, "batches", lambda count: [torch.arange(count)[:2]])
    monkeypatch.setattr(catalogue, "accuracy_golden", lambda path, facts: 0.0)
    path, words = tmp_path / "net.safetensors", [] if asked is None else ["--ranks", asked]
    assert command_line(["train", "ttsnn-ptt-digits", "-o", str(path), "--json", "-", *words]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["ranks"] == given
    assert f"\nranks {', '.join(map(str, given))}\n" in captured.err
    tensors = load(path).tensors
    for name, rank in zip(TtSnn("dense").dense_kernels(), given, strict=True):
        kernel = torch.from_numpy(tensors[f"{name}.weight"]).double()
        assert torch.linalg.matrix_rank(kernel.flatten(1), rtol=1e-5) == min(rank, *kernel.shape[:2])


def test_ranks_of_random_weights_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """EVBMF of a captured network that is not trained is rank 0: one line with the reason, exit 2, and nothing is written."""
    path = tmp_path / "random.safetensors"
    torch.manual_seed(0)
    capture(TtSnn("dense").eval(), recipe.example()[:2], path)
    words = ["train", "ttsnn-htt-digits", "-o", str(tmp_path / "net.safetensors"), "--ranks", f"evbmf:{path}"]
    assert command_line(words) == 2
    assert capsys.readouterr() == ("", (
        "spikeloom: ranks: blocks_0_conv1 of [16, 16, 3, 3] has rank 0: EVBMF tells its weights from noise in no direction, as "
        "in a network that is not trained; legal: a trained dense network; try: ranks of your own\n"))
    assert [*tmp_path.iterdir()] == [path]


def test_a_build_without_digits_refuses_the_shortcut() -> None:
    """Without digits a convolution of currents is refused in one line, as it was."""
    captured = load(file_of("dense"))
    with pytest.raises(ParameterError, match=r"^blocks\.1\.shortcut\.0: Conv2d: reads multi-bit currents of blocks\.0"):
        lower(captured, STEPS, replace(LOAS, digit=False), name="dense", input_bits=6, input_scale=0.0625)


@pytest.mark.parametrize(("kind", "build"), [("dense", "lockstep"), ("ptt", "lockstep"), ("htt", "lockstep"), ("htt", "loom"),
                                             ("ptt pipeline", "lockstep"), ("htt pipeline", "lockstep")])
def test_shipped_networks_on_the_rtl(kind: str, build: str) -> None:
    """Every spike, digit, current and read-out is golden's."""
    network = shipped(kind, BUILDS[build])
    words = input_words(quantised(network, 1)[0].numpy(), network.input, STEPS)
    done = run_words(network, [words], System(BUILDS[build]), memory=Memory(stall_seed=1))
    assert [layer.name for layers in done.compared for layer in layers if layer.mismatches] == []
