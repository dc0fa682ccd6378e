"""The network that locates the source of a wave: exact on the RTL, as good as promised, near where it misses."""

import pytest
import torch

import models.ttfs_wave as recipe
from golden.run import predict, run
from models.datasets import wave
from models.ttfs_wave import distance
from models.workloads import find
from verif.chunks import TTFS
from verif.simulate import run_images
from verif.system import System
from verif.workload import load_workload

FACTS = find("ttfs-wave")
# Mean distance of the sources from the middle of their own place, and what the network may add to it, in widths of the field.
BEST, MORE = 0.045, 0.015


def test_waves_are_exact_on_the_rtl() -> None:
    """Every word, current and score of a wave's arrivals equals golden, and the place is golden's."""
    workload = load_workload("ttfs-wave", TTFS)
    done = run_images(workload, System(TTFS), 1)
    assert sum(layer.mismatches for layers in done.compared for layer in layers) == 0
    assert sum(layer.neuron_steps for layer in done.compared[0]) > 2000
    assert done.rtl == done.golden


def test_the_source_is_found() -> None:
    """Accuracy on all test waves is what the registry says; the place that is named lies next to the source."""
    workload = load_workload("ttfs-wave", FACTS.arch)
    assert workload.y is not None
    found = [predict(run(workload.network, {name: torch.as_tensor(word) for name, word in workload.words(index).items()}))
             for index in range(len(workload.x))]
    right = sum(place == label for place, label in zip(found, workload.y.tolist(), strict=True))
    assert right / len(found) == FACTS.accuracy_golden
    assert distance(workload.y.tolist()) < BEST < distance(found) < BEST + MORE
    assert distance([0] * len(found)) > 5 * BEST


def test_training_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short form of the recipe is far better than chance, one in 36."""
    monkeypatch.setattr(recipe, "EPOCHS", 4)
    _, _, x, y = map(torch.from_numpy, wave())
    assert recipe.accuracy(recipe.train(), x, y) > 0.2
