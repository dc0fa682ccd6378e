"""The TT-SNN for handwritten digits with cores in half of the steps (HTT), merged into a kernel for each half."""

from collections.abc import Callable, Sequence

from models import ttsnn
from models.ttsnn import TtSnn, accuracy, example

__all__ = ["accuracy", "example", "train"]


def train(seed: int = 0, progress: Callable[[int, int], None] = lambda done, of: None,
          ranks: Sequence[int] | None = None) -> TtSnn:
    """Return `models.ttsnn.train` of this kind."""
    return ttsnn.train("htt", seed, progress, ranks)
