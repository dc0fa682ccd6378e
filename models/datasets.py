"""The data of the shipped networks as numpy arrays: one function per data set, each with one fixed split."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Labels = NDArray[np.int64]
# Units of a spike time in which a wave of speed 1 crosses the field, and the time of what never spikes.
WAVE_PACE, WAVE_NEVER = 4.5, 100.0
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


def seeded(count: int, shape: tuple[int, int, int] = (3, 32, 32)) -> Images:
    """Return images [N, *shape] of normally distributed noise, the same ones for any ``count``."""
    return np.stack([np.random.default_rng(index).standard_normal(shape, np.float32) for index in range(count)])


def wave() -> Split:
    """Return ``x_train, y_train, x_test, y_test``: 1,548 and 388 waves [N, 1, 8, 8], sources 0..35 in 6x6 places.

    x is when the sensors along the edge of the field hear the wave, behind the first that does, in units of ``exp(t)``;
    inside is nothing, which is never.
    Source: `models.wave`; stratified, ``random_state`` 0.
    """
    x_train, x_test, y_train, y_test, _, _ = _wave()
    return x_train, y_train, x_test, y_test


def wave_places() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where the sources of the two parts of `wave` lie, [N, (y, x)] in shares of the field."""
    *_, train, test = _wave()
    return train, test


@cache
def _wave() -> list[NDArray[Any]]:
    from sklearn.model_selection import train_test_split

    from models.wave import SENSORS, heard_times, places

    classes, at = places()
    edge = np.ones((SENSORS, SENSORS), bool)
    edge[1:-1, 1:-1] = False
    x = np.full((len(classes), 1, SENSORS, SENSORS), WAVE_NEVER, np.float32)
    x[:, 0, edge] = heard_times() * WAVE_PACE
    parts: list[NDArray[Any]] = train_test_split(x, classes, at, test_size=0.2, stratify=classes, random_state=0)
    return parts


SACCADE = (0, 1, 1, 0, -1, -1, -1, 0, 1, 1, 0), (0, 0, 1, 1, 1, 0, -1, -1, -1, 0, 0)
EVENT = 0.2


def saccades() -> Split:
    """Return `digits` as events [N, 10, 2, 8, 8] of 0 and 1: each image moves along `SACCADE` before an 8x8 sensor.

    Where a pixel becomes brighter than at the step before by more than `EVENT` it sends an ON event (channel 0), where it
    becomes darker an OFF event, as the sensor of N-MNIST does; what leaves the sensor sends nothing more.
    """
    x_train, y_train, x_test, y_test = digits()
    return _events(x_train), y_train, _events(x_test), y_test


def _events(images: Images) -> Images:
    framed = np.pad(images[:, 0], ((0, 0), (1, 1), (1, 1)))
    shown = np.stack([framed[:, 1 - y : 9 - y, 1 - x : 9 - x] for y, x in zip(*SACCADE, strict=True)], axis=1)
    change = np.diff(shown, axis=1)
    return np.stack([change > EVENT, change < -EVENT], axis=2).astype(np.float32)


SPLITS: dict[str, Callable[[], Split]] = {"digits": digits, "saccades": saccades, "wave": wave}
