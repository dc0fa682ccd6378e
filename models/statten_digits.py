"""STAtten on the 8x8 handwritten digits of scikit-learn, each shown at 4 steps; attention over 2 steps and 16 tokens."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from models.datasets import digits
from models.statten import STAtten, accuracy, fit, frames, validated
from models.statten_sizes import CONFIGS
from models.training import moved

__all__ = ["accuracy", "example", "held_out", "train"]

CONFIG = CONFIGS["digits"]
EPOCHS = 40


def example() -> Tensor:
    """Return images as the network takes them, [T, N, 1, 8, 8]."""
    return frames(torch.from_numpy(digits()[0][:2]), CONFIG.steps)


def train(seed: int = 0, progress: Callable[[int, int], None] = lambda done, of: None) -> STAtten:
    """Train from scratch on the training part, images moved by up to one pixel; return the network in evaluation mode."""
    x, y, _, _ = map(torch.from_numpy, digits())
    return fit(CONFIG, x, y, EPOCHS, moved, seed, progress)


def held_out(epochs: int, attention: str, seed: int, progress: Callable[[int, int], None]) -> float:
    """Return the accuracy of this recipe, with other epochs and attention, on a part of the training part held out of it."""
    return validated(replace(CONFIG, attention=attention), "digits", epochs, moved, seed, progress)
