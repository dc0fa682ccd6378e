"""STAtten on events of digits that move before a sensor: T = 10, attention over 5 steps and 16 tokens, widened spikes."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from models.datasets import saccades
from models.statten import STAtten, accuracy, fit, frames, validated
from models.statten_sizes import CONFIGS

__all__ = ["accuracy", "example", "held_out", "train"]

CONFIG = CONFIGS["saccades"]
EPOCHS = 30


def example() -> Tensor:
    """Return events as the network takes them, [T, N, 2, 8, 8]."""
    return frames(torch.from_numpy(saccades()[0][:2]), CONFIG.steps)


def train(seed: int = 0, progress: Callable[[int, int], None] = lambda done, of: None) -> STAtten:
    """Train from scratch on the training part; return the network in evaluation mode."""
    x, y, _, _ = map(torch.from_numpy, saccades())
    return fit(CONFIG, x, y, EPOCHS, _as_recorded, seed, progress)


def held_out(epochs: int, attention: str, seed: int, progress: Callable[[int, int], None]) -> float:
    """Return the accuracy of this recipe, with other epochs and attention, on a part of the training part held out of it."""
    return validated(replace(CONFIG, attention=attention), "saccades", epochs, _as_recorded, seed, progress)


def _as_recorded(x: Tensor) -> Tensor:
    return x
