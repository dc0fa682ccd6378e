"""Networks of spike times: captured, lowered, equal to the float network's ticks; what has no layer is refused."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from golden.arch import PRESETS, ParameterError, tick
from golden.capture import load, trace
from golden.float_run import float_run
from golden.lower import lower, quantise_input
from golden.network import Network, input_words
from golden.run import Trace, decision_tick, run
from golden.store import Captured, save
from golden.to_torch import to_torch
from models.datasets import digits
from models.ttfs import SKIPS, TtfsAdd, TtfsConv2d, TtfsDelay, TtfsNetwork
from verif.chunks import TTFS
from verif.simulate import spikes_changed
from verif.system import System
from verif.verify import run_network

WINDOW, RESOLUTION, IMAGES = 18, 1, 3


@cache
def images() -> Tensor:
    """Return training digits."""
    return torch.from_numpy(digits()[0])


@cache
def made(skip: str, window: int = WINDOW, resolution: int = RESOLUTION) -> tuple[TtfsNetwork, Captured]:
    """Return a small untrained network, its statistics those of some digits, and what is captured of it."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = TtfsNetwork(skip, window=window, resolution=resolution, width=6)
        with torch.no_grad():
            model(images()[:64])
    return model.eval(), trace(model, images()[:4])


def lowered(captured: Captured) -> Network:
    """Return the integer network on the small build with spike times."""
    return lower(captured, 1, TTFS, name="times", input_bits=6, input_scale=0.0625)


def runs(network: Network, count: int = IMAGES) -> list[Trace]:
    """Return golden's runs of the first digits."""
    return [run(network, input_words(quantise_input(image.numpy(), network.input), network.input, 1))
            for image in images()[:count]]


@pytest.mark.parametrize("skip", SKIPS)
def test_integers_are_the_float_network_on_ticks(skip: str) -> None:
    """The tick of the first output spike is the next one behind the float network's, and most hidden ticks are equal."""
    model, captured = made(skip)
    network = lowered(captured)
    assert {layer.name for layer in network.layers} >= {"encode", "conv1", "conv2", "conv3", "conv4", "fc"}
    times = -float_run(captured, images()[:IMAGES], 1).logits
    assert torch.allclose(times, -model(images()[:IMAGES]), atol=1e-4)
    decided = [decision_tick(network, trace) or 0 for trace in runs(network)]
    expected = np.ceil(times.min(1).values.numpy() / tick(RESOLUTION) - 1e-4)
    assert np.abs(np.array(decided) - expected).max() <= 1


@pytest.mark.parametrize("skip", SKIPS)
def test_changed_ticks_are_counted(skip: str) -> None:
    """Few neurons of each layer but the race fire at another tick than the float ones; a tick later, all of them do."""
    captured = made(skip)[1]
    network = lowered(captured)
    found = [run(network, {name: torch.as_tensor(word) for name, word in input_words(
        quantise_input(image.numpy(), network.input), network.input, 1).items()}) for image in images()[:IMAGES]]
    reference = float_run(captured, images()[:IMAGES], 1)
    changed = spikes_changed(network, found, reference)
    assert set(changed) == {"conv1", "conv2", "conv3", "conv4"}
    for name, count in changed.items():
        assert count < 0.2 * IMAGES * found[0].layers[name].sums[0].numel(), name
    golden = {name: torch.stack([trace.layers[name].sums[0] for trace in found]) for name in changed}
    windows = {layer.name: layer.ttfs.window for layer in network.layers if layer.ttfs}
    for later in (0, 1):
        times = {name: tick(RESOLUTION) * (windows[name] + later - early.clamp(min=0)) for name, early in golden.items()}
        wanted = {name: later * int((early > 0).sum()) for name, early in golden.items()}
        assert spikes_changed(network, found, replace(reference, times=times)) == wanted


@pytest.mark.parametrize(("skip", "window"), [("none", 18), ("add", 9), ("concat", 9), ("delay", 18)])
def test_lowered_networks_are_exact(skip: str, window: int) -> None:
    """Every word, current and score of a lowered digit equals golden on the RTL."""
    network = lowered(made(skip, window, window // 18)[1])
    image = torch.as_tensor(quantise_input(images()[0].numpy(), network.input))
    assert run_network(network, image, System(TTFS)) is None


def test_windows_grow_where_times_are_added() -> None:
    """Two additions make 18 ticks 36 and then 54; a concatenation leaves the window."""
    windows = {layer.name: layer.ttfs.window for layer in lowered(made("add")[1]).layers if layer.ttfs}
    assert windows == {"conv1": 18, "conv2": 18, "conv3": 36, "conv4": 36, "fc": 54}
    assert {layer.ttfs.window for layer in lowered(made("concat")[1]).layers if layer.ttfs} == {18}


def test_a_captured_file_comes_back(tmp_path: Path) -> None:
    """Saving and loading changes no weight and no argument."""
    captured = made("delay")[1]
    save(captured, tmp_path / "net.safetensors")
    again = load(tmp_path / "net.safetensors")
    assert again.nodes == captured.nodes and again.steps == 1
    assert all(np.array_equal(again.tensors[name], tensor) for name, tensor in captured.tensors.items())


class Wrong(nn.Module):
    """A network whose end is something else."""

    def __init__(self, end: Callable[[TtfsNetwork, Tensor], Tensor], body: TtfsNetwork) -> None:
        super().__init__()
        self.body, self.end = body, end
        self.add = TtfsAdd(windows=(18, 18), resolution=1)
        self.wide = TtfsConv2d(6, 3, 1, window=27, resolution=1)
        self.long = TtfsDelay(6, window=18, resolution=1)
        self.pool = nn.MaxPool2d(2)
        nn.init.constant_(self.long.delay, 6.3)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the end makes of the encoder's times."""
        return self.end(self, self.body.encode(x))  # type: ignore[arg-type]


@pytest.mark.parametrize(("end", "text"), [
    pytest.param(lambda m, t: m.wide(t), "wide: window: must be the 18 ticks of what it reads, not 27", id="window"),
    pytest.param(lambda m, t: m.long(t), "TtfsDelay: delays must be in 0..17 ticks, below the window, not 18", id="delay"),
    pytest.param(lambda m, t: m.add(t, t), "add: TtfsAdd: must add to a TtfsConv2d that nothing else reads", id="addition"),
    pytest.param(lambda m, t: m.pool(t), "pool: maxpool: does not take spike times", id="another layer"),
    pytest.param(lambda m, t: m.body.conv1(t), "output: must be a race of spike times", id="no race"),
    pytest.param(lambda m, t: m.body.race(t), "TtfsRace: must be the only reader of a TtfsConv2d", id="race of pixels"),
    pytest.param(lambda m, t: m.body.encode(t[:, :1]), "not supported", id="sliced"),
])
def test_what_has_no_layer_is_refused(end: Callable[[TtfsNetwork, Tensor], Tensor], text: str) -> None:
    """Windows, delays, additions and ends that do not fit are one clear line."""
    with pytest.raises(ParameterError, match=re.escape(text)) as error:
        lowered(trace(Wrong(end, made("none")[0]), images()[:2]))
    assert "\n" not in str(error.value)


def test_builds_and_steps_are_refused() -> None:
    """A build without the unit, a T other than 1, and the way back to a library are one clear line."""
    captured = made("none")[1]
    with pytest.raises(ParameterError, match="to_torch: no library has"):
        to_torch(lowered(captured))
    with pytest.raises(ParameterError, match=r"conv1.*preset loas has none"):
        lower(captured, 1, PRESETS["loas"], name="t", input_bits=6, input_scale=0.0625)
    with pytest.raises(ParameterError, match="T: must be 1 for a network of spike times"):
        lower(captured, 4, TTFS, name="t", input_bits=6, input_scale=0.0625)
