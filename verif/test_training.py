"""Training repeats: what is trained twice with one seed is the same, bit for bit, in any number of threads."""

from collections.abc import Callable
from importlib import import_module

import pytest
import torch
from torch import Tensor

from models import digits, training
from models.training import batches, repeatable
from models.workloads import shipped

NAMES = [name for name, facts in shipped().items() if facts.trained]
BATCHES = 2


def short() -> Callable[[int], list[Tensor]]:
    """Return `models.training.batches` of a training that ends after `BATCHES`."""
    left = iter([BATCHES])
    return lambda count: batches(count)[: next(left, 0)]


def weights(name: str, seed: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Return the parameters of a network after `BATCHES`, trained by a program with so many threads."""
    for owner in (training, digits):
        monkeypatch.setattr(owner, "batches", short())
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = import_module(f"models.{name.replace('-', '_')}").train(seed)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    return dict(model.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_training_repeats(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One seed gives the same parameters and statistics with one thread and with two; another seed gives others."""
    one, two, other = (weights(name, *how, monkeypatch) for how in ((3, 1), (3, 2), (4, 1)))
    assert list(one) == list(two) == list(other)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def failing(seed: int, drawn: list[Tensor]) -> None:
    """Draw in a training that fails."""
    with repeatable(seed):
        assert torch.get_num_threads() == 1
        drawn.append(torch.rand(3))
        raise ZeroDivisionError


def test_nothing_is_left_behind() -> None:
    """Draws and threads are what they were, also where training fails; inside there is one thread and the seed's draws."""
    before, state, drawn = torch.get_num_threads(), torch.get_rng_state(), list[Tensor]()
    torch.set_num_threads(2)
    try:
        for seed in (5, 5, 6):
            with pytest.raises(ZeroDivisionError):
                failing(seed, drawn)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])
    assert torch.equal(torch.get_rng_state(), state)
