"""The time-to-first-spike network for digits whose skips are concatenated behind delays that it learns."""

from collections.abc import Callable

from models.ttfs import TtfsNetwork
from models.ttfs_digits import accuracy, example, train_skip

__all__ = ["accuracy", "example", "train"]


def train(seed: int = 0, progress: Callable[[int, int], None] = lambda done, of: None) -> TtfsNetwork:
    """Train from scratch; see `models.ttfs_digits.train_skip`."""
    return train_skip("delay", seed, progress)
