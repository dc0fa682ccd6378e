"""The shipped networks of spike times: exact on the RTL, as accurate as promised, decided early, made again by their recipe."""

from pathlib import Path

import pytest
import torch

import models.ttfs_digits as recipe
from golden.arch import PRESETS, ParameterError
from golden.run import decision_tick, predict, run
from models.datasets import digits
from models.ttfs_digits import PHASES, Phase, accuracy
from models.workloads import find, shipped
from verif.chunks import TTFS
from verif.simulate import run_images, simulate
from verif.system import System
from verif.workload import load_workload

NAMES = [name for name in shipped() if name.startswith("ttfs-digits")]
IMAGES = 1
PROMISED = 0.94


@pytest.mark.parametrize("name", NAMES)
def test_digits_are_exact_on_the_rtl(name: str) -> None:
    """Every word, current and score of a test digit equals golden, and the class is golden's."""
    workload = load_workload(name, TTFS)
    done = run_images(workload, System(TTFS), IMAGES)
    assert sum(layer.mismatches for layers in done.compared for layer in layers) == 0
    assert sum(layer.neuron_steps for layer in done.compared[0]) > 2000
    assert done.rtl == done.golden


@pytest.mark.parametrize("name", NAMES)
def test_shipped_networks_are_what_they_promise(name: str) -> None:
    """Accuracy on the whole test split, on the preset that they name; the first spike comes before the window ends."""
    facts = find(name)
    assert facts.accuracy_golden is not None and facts.accuracy_golden >= PROMISED
    assert facts.checkpoint.stat().st_size < 1 << 20
    workload = load_workload(name, facts.arch)
    assert workload.y is not None
    race = workload.network.layers[-1].ttfs
    assert race is not None
    traces = [run(workload.network, {name: torch.as_tensor(word) for name, word in workload.words(index).items()})
              for index in range(len(workload.x))]
    right = sum(predict(trace) == int(label) for trace, label in zip(traces, workload.y, strict=True))
    assert right / len(traces) == facts.accuracy_golden
    ticks = [decision_tick(workload.network, trace) or 0 for trace in traces]
    assert 0 < sum(ticks) / len(ticks) < 0.8 * race.window


def test_other_builds_refuse_them() -> None:
    """A build without the unit refuses the network by name, before anything is simulated."""
    assert [name for name, preset in PRESETS.items() if preset.ttfs] == ["times"]
    with pytest.raises(ParameterError, match=r"conv1 \(conv1\): time-to-first-spike neurons: preset loas has none"):
        simulate(NAMES[0], "loas", 1)


def test_training_learns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A short form of the recipe runs both phases and is far better than chance."""
    monkeypatch.setattr(recipe, "PHASES", (Phase(4, 6e-3, exact=True), Phase(1, 1e-3, exact=False)))
    seen: list[tuple[int, int]] = []
    model = recipe.train_skip("none", 0, lambda done, of: seen.append((done, of)), window=9, resolution=0)
    assert seen == [(n, 5) for n in range(1, 6)] and sum(phase.epochs for phase in PHASES) == 50
    _, _, x, y = map(torch.from_numpy, digits())
    assert accuracy(model, x, y) > 0.2
    assert model.fc.exact and not model.training
