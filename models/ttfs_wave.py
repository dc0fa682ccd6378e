"""A time-to-first-spike network that finds the source of a wave in the times at which sensors along the edge hear it.

The sensors' times are its spikes: there is no encoder. Skips are concatenated, with delays that it learns.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from models.datasets import wave
from models.ttfs import TtfsNetwork, tick
from models.ttfs_digits import accuracy, fit
from models.wave import PLACES

__all__ = ["accuracy", "split", "train"]

WINDOW, RESOLUTION = 36, 2
EPOCHS = 100
# Error of a sensor's time in training, in ticks.
JITTER = 0.5


def split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the four parts of `models.datasets.wave` as tensors."""
    x_train, y_train, x_test, y_test = map(torch.from_numpy, wave())
    return x_train, y_train, x_test, y_test


def train(seed: int = 0, progress: Callable[[int, int], None] = lambda done, of: None) -> TtfsNetwork:
    """Train from scratch on times with errors; return the network in evaluation mode."""
    x, y, _, _ = split()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = TtfsNetwork("delay", window=WINDOW, resolution=RESOLUTION, classes=PLACES ** 2, times=True)
        fit(model, x, y, EPOCHS, _heard, progress)
    return model.eval()


def _heard(t: Tensor) -> Tensor:
    """Return times with errors."""
    return (t + JITTER * tick(RESOLUTION) * torch.randn_like(t)).clamp(min=0)
