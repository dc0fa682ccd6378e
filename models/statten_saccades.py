"""STAtten on events of digits that move before a sensor: T = 10, attention over 5 steps and 16 tokens, widened spikes."""

from collections.abc import Callable

from torch import Tensor

from models import statten
from models.statten import CONFIGS, STAtten, accuracy, fit, frames

__all__ = ["accuracy", "example", "split", "train"]

CONFIG = CONFIGS["saccades"]
EPOCHS = 20


def split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the four parts of `models.datasets.saccades` as tensors."""
    return statten.split("saccades")


def example() -> Tensor:
    """Return events as the network takes them, [T, N, 2, 8, 8]."""
    return frames(split()[0][:2], CONFIG.steps)


def train(seed: int = 0, progress: Callable[[int, int], None] = lambda done, of: None) -> STAtten:
    """Train from scratch on the training part; return the network in evaluation mode."""
    x, y, _, _ = split()
    return fit(CONFIG, x, y, EPOCHS, lambda shown: shown, seed, progress)
