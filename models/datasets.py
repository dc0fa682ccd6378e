"""The data of the shipped networks as numpy arrays: one function per data set, each with one fixed split."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Labels = NDArray[np.int64]
Split = tuple[Images, Labels, Images, Labels]


def digits() -> Split:
    """Return ``x_train, y_train, x_test, y_test``: 1,437 and 360 images [N, 1, 8, 8] in 0..1, labels 0..9.

    Source: scikit-learn ``load_digits``; stratified, ``random_state`` 0, the same for all workloads.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    parts = train_test_split(data.images, data.target, test_size=360, stratify=data.target, random_state=0)
    x_train, x_test = ((x / 16).astype(np.float32)[:, None] for x in parts[:2])
    y_train, y_test = (y.astype(np.int64) for y in parts[2:])
    return x_train, y_train, x_test, y_test


def seeded(count: int) -> Images:
    """Return images [N, 3, 32, 32] of normally distributed noise, the same ones for any ``count``."""
    return np.stack([np.random.default_rng(index).standard_normal((3, 32, 32), np.float32) for index in range(count)])


SPLITS: dict[str, Callable[[], Split]] = {"digits": digits}
