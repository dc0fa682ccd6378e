"""The TT-SNN for handwritten digits with its cores in parallel (PTT), merged into cross-shaped kernels."""

from collections.abc import Callable, Sequence

from models import ttsnn
from models.ttsnn import TtSnn, accuracy, example

__all__ = ["accuracy", "example", "train"]


def train(seed: int = 0, progress: Callable[[int, int], None] = lambda done, of: None,
          ranks: Sequence[int] | None = None) -> TtSnn:
    """Return `models.ttsnn.train` of this kind."""
    return ttsnn.train("ptt", seed, progress, ranks)
