"""Spike-driven attention (``attention="SDT"``): the float module beside others, as integers, and on the accelerator."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.layer.attention import SpikeDrivenSelfAttention
from spikingjelly.activation_based.neuron import LIFNode
from torch import Tensor, nn
from torch.nn import functional as F

from golden.arch import Arch, ParameterError
from golden.capture import trace
from golden.limits import check
from golden.lower import lower
from golden.network import Network, input_words, map_arrays
from golden.run import run, unpack
from models.datasets import SPLITS
from models.spiking import LIFNode as Neuron
from models.statten import Attention, SpikeDrivenAttention, STAtten, frames, logits
from models.statten_digits import held_out
from models.statten_sizes import CONFIGS, Config
from verif.heads import STATTEN
from verif.statten_epochs import main
from verif.test_statten import INPUTS, LOAS, differing, images, same_spikes

NAMES = ("digits", "saccades")


@cache
def model(name: str) -> STAtten:
    """Return a network with random weights and the statistics of some examples, whose neurons fire now and then."""
    x = torch.from_numpy(SPLITS[name]()[0][:64])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = STAtten(replace(CONFIGS[name], attention="SDT"))
    norms = [module for module in made.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.data.fill_(1.2)
        norm.bias.data.fill_(0.4)
        norm.momentum = None
    with torch.no_grad():
        logits(made.train(), x)
    return made.eval()


@cache
def lowered(name: str, build: Arch) -> Network:
    """Return the network as integers, in tensors."""
    x = torch.from_numpy(SPLITS[name]()[0][:2])
    captured = trace(model(name), frames(x, CONFIGS[name].steps))
    return map_arrays(lower(captured, CONFIGS[name].steps, build, name=f"sdt-{name}", **INPUTS[name]), torch.asarray)


def published(q: Tensor, k: Tensor, v: Tensor, heads: int, *, widened: bool) -> Tensor:
    """Return the attention of the published code on spikes [T, N, C, H, W], head by head, by SpikingJelly's neuron.

    widened : spikes of event-based networks, maxima over 3x3 pixels of the map
    """
    def split(x: Tensor) -> Tensor:
        return torch.unflatten(x.flatten(3), 2, (heads, -1))

    def wide(x: Tensor) -> Tensor:
        pooled = F.max_pool2d(x.flatten(0, 2).unflatten(-1, q.shape[3:]), 3, 1, 1)
        return torch.reshape(pooled, x.shape)

    both = split(k) * split(v)
    both = wide(both.flatten(2, 3)).reshape(both.shape) if widened else both
    fired = LIFNode(tau=2.0, v_threshold=0.5, step_mode="m")(both.sum(-1, keepdim=True))
    out = (split(q) * fired).flatten(2, 3)
    sent: Tensor = (wide(out) if widened else out).reshape(q.shape)
    return sent


def test_module_as_spikingjelly() -> None:
    """SpikingJelly's whole attention block with the same weights sends the same currents to the stream."""
    d, own = CONFIGS["digits"].width, model("digits").blocks[0]
    assert isinstance(own.attn, Attention)
    library = SpikeDrivenSelfAttention(d, CONFIGS["digits"].heads).eval()
    for letter, container in (("q", own.attn.q_conv), ("k", own.attn.k_conv), ("v", own.attn.v_conv), ("proj", own.attn.proj)):
        for role, of in zip(("conv", "bn"), container, strict=True):
            library.get_submodule(f"{letter}_{role}").load_state_dict(of.state_dict())
    assert library.attn_lif.v_threshold == 0.5
    u = 1.5 * torch.randn(4, 3, d, 4, 4, generator=torch.Generator().manual_seed(0))
    functional.reset_net(library)
    for module in own.modules():
        if isinstance(module, Neuron):
            module.reset()
    with torch.no_grad():
        expected, found = library(u), u + own.attn(u)
    assert torch.equal(found, expected) and (found != u).any()


@pytest.mark.parametrize("density", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("widened", [False, True])
def test_module_as_published(widened: bool, density: float) -> None:
    """Sums per head and channel, and for events the maxima ahead of the sums too, which change nothing behind them."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = ((torch.rand(6, 3, 16, 5, 5, generator=generator) < density).float() for _ in range(3))
    found = SpikeDrivenAttention()(q, k, v)
    if widened:
        found = F.max_pool2d(found.flatten(0, 1), 3, 1, 1).reshape(q.shape)
    assert torch.equal(found, published(q, k, v, 4, widened=widened)) and found.any()


@pytest.mark.parametrize("build", [LOAS, STATTEN], ids=lambda build: str(build.name))
@pytest.mark.parametrize("name", NAMES)
def test_integers_are_exact(name: str, build: Arch) -> None:
    """From the spikes of queries, keys and values on, the integers make the spikes of the published attention."""
    network, p = lowered(name, build), CONFIGS[name]
    x, _ = images(name, network, 3)
    for image in x:
        found = run(network, input_words(image, network.input, network.steps))
        spikes = {}
        for layer in ("blocks_0_attn_q_lif", "blocks_0_attn_k_lif", "blocks_0_attn_v_lif", "mul_1"):
            output = found.layers[layer].output
            assert output is not None and output.any()
            spikes[layer] = unpack(output, network.steps).float()[:, None]
        query, key, value, sent = spikes.values()
        assert torch.equal(published(query, key, value, p.heads, widened=p.dvs), sent)


@pytest.mark.parametrize("name", NAMES)
def test_spikingjelly_makes_the_same_spikes(name: str) -> None:
    """SpikingJelly's neurons with integer thresholds, on plain products of the integers, give every spike."""
    network = lowered(name, LOAS)
    same_spikes(network, images(name, network, 2)[0])


@pytest.mark.parametrize("name", NAMES)
def test_every_spike_on_the_accelerator(name: str) -> None:
    """One image, no difference in any word, fiber, current or read-out; a build without the attention unit takes it too."""
    network = lowered(name, STATTEN)
    check(network, replace(STATTEN, attention=False))
    x, _ = images(name, network, 1)
    trace_of = run(network, input_words(x[0], network.input, network.steps))
    for layer in network.layers:
        words = trace_of.layers[layer.name].words
        assert words is None or (words != 0).any(), layer.name
    assert differing(network, x[0], STATTEN) == []


def test_sums_over_the_map_are_or_pools() -> None:
    """No layer adds the tokens: AND of keys and values has OR-pools, and small kernels spread the pixel that is left."""
    layers = {layer.name: layer for layer in lowered("digits", LOAS).layers}
    pool = layers["mul"].or_pool
    assert pool is not None and (pool.kernel, pool.stride) == (4, 4)
    assert [p.weight.shape[2] for p in layers["mul_1_spread"].passes] == [4]
    assert not {"blocks_0_attn_attention_attn_lif", "mul_spread"} & {*layers}
    build = replace(STATTEN, lanes=4)
    pools = [layer.or_pool for layer in lowered("digits", build).layers if layer.or_pool and layer.or_pool.kernel == 2]
    assert len(pools) == 2


class Gathered(nn.Module):
    """Spikes of two layers, ANDed, gathered over a map and spread over it again; ``level`` and ``reset`` of the neuron."""

    def __init__(self, side: int, level: float, reset: float | None) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 3, 1), nn.Conv2d(1, 3, 1)
        self.first, self.second = LIFNode(tau=2.0), LIFNode(tau=2.0)
        self.anywhere, self.flatten = LIFNode(tau=2.0, v_threshold=level, v_reset=reset), nn.Flatten()
        self.out = nn.Linear(3 * side * side, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step."""
        a, b = self.first(self.one(x)), self.second(self.two(x))
        mask = self.anywhere((a * b).sum((2, 3), keepdim=True))
        out: Tensor = self.out(self.flatten(mask * a))
        return out


@pytest.mark.parametrize("side", [2, 3, 5, 7, 9])
@pytest.mark.parametrize(("level", "reset"), [(0.5, 0.0), (0.75, 0.0), (0.5, None)])
def test_maps_of_any_size(side: int, level: float, reset: float | None) -> None:
    """Windows that do not divide the map, and neurons that need two spikes or keep a rest, which stay sums."""
    with torch.random.fork_rng():
        torch.manual_seed(side)
        module = Gathered(side, level, reset)
        for conv in (module.one, module.two):
            conv.weight.data.fill_(2.5)
            assert conv.bias is not None
            conv.bias.data.fill_(0.0)
        captured = trace(module.eval(), torch.rand(2, 1, side, side))
        x = torch.randint(-8, 3, (1, side, side))
    network = map_arrays(lower(captured, 4, LOAS, name="gathered", input_bits=4, input_scale=0.25), torch.asarray)
    adds = any(layer.name == "anywhere" for layer in network.layers)
    assert adds == (level > 0.5 or reset is None)
    found = run(network, input_words(x, network.input, 4)).layers
    first, second = (unpack(found[name].words, 4).float()[:, None] for name in ("first", "second"))
    anywhere = LIFNode(tau=2.0, v_threshold=level, v_reset=reset, step_mode="m")
    expected = first * anywhere((first * second).sum((-2, -1), keepdim=True))
    last = [name for name in found if name.startswith("mul_1")][-1]
    assert torch.equal(unpack(found[last].words, 4).float()[:, None], expected)


def test_unknown_kind(capsys: pytest.CaptureFixture[str]) -> None:
    """Another attention is refused in one line, by the command with exit code 2."""
    with pytest.raises(ParameterError, match="attention must be one of STAtten, SDT, not 'QK'"):
        Config(**{**vars(CONFIGS["digits"]), "attention": "QK"})
    assert main(["statten-digits", "--epochs", "1", "--attention", "QK"]) == 2
    assert main(["statten-digits", "--epochs", "0"]) == 2
    found = capsys.readouterr()
    assert found.out == "" and found.err.splitlines() == [
        "spikeloom: statten: attention must be one of STAtten, SDT, not 'QK'",
        "spikeloom: statten: epochs must be at least 1, not 0"]


def test_the_command_measures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It trains on four fifths of a training part, a network for each seed, and says how many of the rest are right."""
    x, y, _, _ = SPLITS["digits"]()
    monkeypatch.setitem(SPLITS, "digits", lambda: (x[:120], y[:120], x[:0], y[:0]))
    accuracies = [held_out(2, "SDT", seed, lambda done, of: None) for seed in (0, 1)]
    assert main(["statten-digits", "--epochs", "2", "--attention", "SDT", "--seeds", "0", "1"]) == 0
    for seed, (line, accuracy) in enumerate(zip(capsys.readouterr().out.splitlines(), accuracies, strict=True)):
        assert line.startswith(f"statten-digits, SDT, 2 epochs, seed {seed}: {accuracy:.2%} in ")


@pytest.mark.parametrize(("forward", "message"), [
    (lambda self, x: self.out(self.flatten(self.one(x).sum((2, 3), keepdim=True))), r"sum: must read spikes of a map"),
    (lambda self, x: self.out(self.flatten(self.first(self.one(x)).sum((1, 2), keepdim=True))), "sum.* is not supported"),
    (lambda self, x: self.out(self.flatten(self.first(self.one(x)) * self.second(self.two(x[:, :, ::2])))), "getitem"),
])
def test_other_sums_are_refused(forward: object, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of currents, over channels, and products of other parts of maps are refused in one line."""
    monkeypatch.setattr(Gathered, "forward", forward)
    with pytest.raises(ParameterError, match=message) as error:
        lower(trace(Gathered(1, 0.5, 0.0).eval(), torch.rand(2, 1, 1, 1)), 4, LOAS, name="x", input_bits=4, input_scale=0.25)
    assert "\n" not in str(error.value)
