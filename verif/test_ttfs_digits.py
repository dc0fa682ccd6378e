"""The shipped networks of spike times: exact on the RTL, as accurate as promised, decided early, made again by their recipe."""

from collections import Counter

import pytest
import torch

from golden.arch import PRESETS, ParameterError
from models.datasets import digits
from models.ttfs_digits import accuracy, held_out, train_skip
from models.workloads import find, shipped
from verif.chunks import TTFS
from verif.simulate import run_images, simulate
from verif.system import System
from verif.ttfs_table import decided
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
    race = workload.network.layers[-1].ttfs
    assert race is not None
    right, ticks = decided(workload)
    assert right == facts.accuracy_golden
    assert 0 < ticks < 0.8 * race.window


def test_other_builds_refuse_them() -> None:
    """A build without the unit refuses the network by name, before anything is simulated."""
    assert [name for name, preset in PRESETS.items() if preset.ttfs] == ["times"]
    with pytest.raises(ParameterError, match=r"conv1 \(conv1\): time-to-first-spike neurons: preset loas has none"):
        simulate(NAMES[0], "loas", 1)


def test_training_learns() -> None:
    """A short form of the recipe, on the part that is there to choose it by, is far better than chance."""
    seen: list[tuple[int, int]] = []
    data = held_out()
    assert (len(data[0]), len(data[2])) == (1149, 288)
    model = train_skip("delay", 0, lambda done, of: seen.append((done, of)), window=9, resolution=0, epochs=6, data=data)
    assert seen == [(n, 6) for n in range(1, 7)] and not model.training
    assert accuracy(model, *map(torch.from_numpy, data[2:])) > 0.3


def test_what_chooses_the_recipe_is_not_the_test_split() -> None:
    """The images held out, and those learnt beside them, are all of the training part and none of the test part."""
    x, _, x_test, _ = digits()
    parts = held_out()
    images = [Counter(image.tobytes() for image in part) for part in (x, x_test, parts[0], parts[2])]
    assert images[2] + images[3] == images[0]
    assert not images[3] & images[1]
