"""A time-to-first-spike network that finds the source of a wave in the times at which sensors along the edge hear it.

The sensors' times are its spikes: there is no encoder. Skips are concatenated, with delays that it learns.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from golden.arch import tick
from models.datasets import wave, wave_places
from models.training import repeatable
from models.ttfs import TtfsNetwork
from models.ttfs_digits import accuracy, fit
from models.wave import PLACES, middles

__all__ = ["accuracy", "distance", "example", "train"]

WINDOW, RESOLUTION = 18, 1
EPOCHS, RATE = 40, 1e-2
# Error of a sensor's time in training, in ticks.
JITTER = 0.3


def example() -> Tensor:
    """Return the times that capture runs, [N, 1, 8, 8]: all of the training part."""
    return torch.from_numpy(wave()[0])


def distance(classes: Sequence[int]) -> float:
    """Return the mean distance of the middles of these classes from the sources of the test part, in widths of the field."""
    _, at = wave_places()
    return float(np.sqrt(((middles()[list(classes)] - at) ** 2).sum(1)).mean())


def train(seed: int = 0, progress: Callable[[int, int], None] = lambda done, of: None) -> TtfsNetwork:
    """Train from scratch on times with errors; return the network in evaluation mode."""
    x, y, _, _ = map(torch.from_numpy, wave())
    with repeatable(seed):
        model = TtfsNetwork("delay", window=WINDOW, resolution=RESOLUTION, classes=PLACES ** 2, times=True)
        fit(model, x, y, RATE, EPOCHS, _heard, progress)
    return model.eval()


def _heard(t: Tensor) -> Tensor:
    """Return times with errors."""
    return (t + JITTER * tick(RESOLUTION) * torch.randn_like(t)).clamp(min=0)
