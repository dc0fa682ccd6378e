"""`models.vgg9_digits` with LIF sharing: in every layer two groups of channels have the same membranes."""

from collections.abc import Callable

from models import vgg9_digits
from models.vgg9_digits import Vgg9Digits, accuracy, example

__all__ = ["accuracy", "example", "train"]

SHARE = 2


def train(seed: int = 0, progress: Callable[[int, int], None] = lambda done, of: None) -> Vgg9Digits:
    """Return `models.vgg9_digits.train` with `SHARE`."""
    return vgg9_digits.train(seed, progress, share=SHARE)
