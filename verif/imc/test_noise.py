"""Noise of the macro: the recurrence in Python integers, moments, independence, order, one text for numpy and torch."""

import math
import random
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from golden.imc.noise import FRACTION_BITS, QUANTILE_BITS, QUANTILES, REACH, Kind, draw, gaussian, uniform

MASK = (1 << 64) - 1
DRAWS = 1 << 16
# Five standard errors of a mean of DRAWS draws of variance 1: about one seed in a million lies outside.
FIVE = 5 / math.sqrt(DRAWS)


def plain(seed: int, kind: int, *coordinates: int) -> int:
    """Return h as the docstring of `golden.imc.noise` says it, in Python integers."""
    h = seed
    for c in (kind, *coordinates):
        z = (h + 0x9E3779B97F4A7C15 * (c + 1)) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        h = z ^ (z >> 31)
    return h


def normal(seed: int, *, kind: Kind = Kind.READ) -> NDArray[np.float64]:
    """Return DRAWS Gaussian draws of standard deviation 1, as floats."""
    z: NDArray[np.int64] = gaussian(seed, kind, 0, 0, np.arange(DRAWS), 0, scale=1 << FRACTION_BITS)
    return z / (1 << FRACTION_BITS)


@pytest.mark.parametrize(("key", "coordinates", "h"), [
    (0, (0, 0), 0xA706DD2F4D197E6F),
    (0, (7, 0, 1, 2, 3, 4, 5), 0x6CFA7886B4A861B2),
    ((1 << 63) - 1, (3, 1, 2, 3, 4), 0x23D8EC54EB01BAF8),
])
def test_first_values(key: int, coordinates: tuple[int, ...], h: int) -> None:
    """Literal values; without coordinates behind the kind the first output of SplitMix64 with seed 0."""
    assert plain(0, 0) == 0xE220A8397B1DCDAF
    assert plain(key, *coordinates) == h
    assert int(draw(key, Kind(coordinates[0]), *coordinates[1:-1], np.asarray(coordinates[-1]))) & MASK == h


def test_recurrence(seed: int) -> None:
    """Draws equal those of Python integers, for numpy and for torch, scalars included."""
    rng = random.Random(seed)
    for _ in range(200):
        key, kind = rng.choice((0, 1, (1 << 63) - 1, rng.getrandbits(63))), rng.choice(list(Kind))
        coordinates = [rng.choice((0, 1, rng.getrandbits(8), rng.getrandbits(62))) for _ in range(rng.randint(1, 6))]
        wanted = plain(key, kind, *coordinates)
        for make in (np.asarray, torch.tensor):
            got = draw(key, kind, *coordinates[:-1], make(coordinates[-1]))
            assert got.shape == () and int(got) & MASK == wanted
            assert int(uniform(key, kind, *coordinates[:-1], make(coordinates[-1]), bits=20)) == wanted >> 44
            z = QUANTILES[wanted >> 52 & (1 << QUANTILE_BITS) - 1] * (-1 if wanted >> 63 else 1)
            scale = rng.choice((0, 1, 37, (1 << 49) - 1))
            noise = gaussian(key, kind, *coordinates[:-1], make(coordinates[-1]), scale=scale)
            assert int(noise) == z * scale + 2048 >> 12


def test_order_and_shape(seed: int) -> None:
    """A draw depends on its coordinates alone: a broadcast grid, its transpose, a shuffle and single draws agree."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(0, 1 << 40, 7), rng.integers(0, 256, 11)
    grid = gaussian(seed, Kind.STUCK, 3, rows[:, None], columns[None, :], scale=1000)
    assert grid.shape == (7, 11)
    assert np.array_equal(grid, gaussian(seed, Kind.STUCK, 3, rows[None, :], columns[:, None], scale=1000).T)
    order = rng.permutation(77)
    shuffled = gaussian(seed, Kind.STUCK, 3, np.repeat(rows, 11)[order], np.tile(columns, 7)[order], scale=1000)
    assert np.array_equal(shuffled, grid.reshape(-1)[order])
    single: list[Any] = [gaussian(seed, Kind.STUCK, 3, np.asarray(r), int(c), scale=1000) for r in rows for c in columns]
    assert np.array_equal(np.stack(single), grid.reshape(-1))
    torched = gaussian(seed, Kind.STUCK, 3, torch.tensor(rows)[:, None], torch.tensor(columns), scale=1000)
    assert torched.dtype == torch.int64 and np.array_equal(torched.numpy(), grid)


def test_coordinates_are_not_interchangeable() -> None:
    """Swapped coordinates, other kinds and neighbouring seeds give other draws."""
    n = np.arange(256)
    grid = draw(1, Kind.STUCK, 0, n[:, None], n[None, :])
    assert np.count_nonzero(grid == grid.T) == 256
    others = [draw(1, Kind.DRIFT, 0, n[:, None], n[None, :]), draw(2, Kind.STUCK, 0, n[:, None], n[None, :]),
              draw(1, Kind.STUCK, 1, n[:, None], n[None, :]), grid]
    assert len(np.unique(np.stack(others))) == 4 * 256 * 256


@pytest.mark.parametrize("key", [0, 1, 12345, (1 << 63) - 1])
def test_moments(key: int) -> None:
    """Mean, variance, skewness and kurtosis of draws at consecutive coordinates are the table's within five standard errors."""
    z = normal(key)
    assert abs(z.mean()) < FIVE
    assert abs((z ** 2).mean() - 0.99968) < FIVE * math.sqrt(2)
    assert abs((z ** 3).mean()) < FIVE * math.sqrt(15)
    assert abs((z ** 4).mean() - 2.98956) < FIVE * math.sqrt(96)
    assert len(np.unique(z)) > 4000


@pytest.mark.parametrize("key", [0, 7])
def test_independence(key: int) -> None:
    """No correlation along any coordinate, across kinds, or across seeds; every bit of h is as often 0 as 1."""
    z = normal(key)
    grid = z.reshape(256, 256)
    pairs = [(z[1:], z[:-1]), (z[2:], z[:-2]), (grid[1:].ravel(), grid[:-1].ravel()), (z, normal(key + 1)),
             (z, normal(key, kind=Kind.PROPORTIONAL)), (z[1:] ** 2 - 1, z[:-1] ** 2 - 1)]
    for a, b in pairs:
        assert abs((a * b).mean()) < 1.01 * FIVE * a.std() * b.std()
    h = draw(key, Kind.COMPARE, np.arange(DRAWS))
    ones = np.asarray([np.count_nonzero(h >> bit & 1) for bit in range(64)])
    assert np.all(np.abs(ones / DRAWS - 0.5) < FIVE / 2)


@pytest.mark.parametrize("key", [0, 7])
def test_uniform(key: int) -> None:
    """Chi-squared of 256 cells, 255 degrees of freedom, within five standard deviations of its mean."""
    counts = np.bincount(uniform(key, Kind.STUCK, np.arange(DRAWS), bits=8), minlength=256)
    assert len(counts) == 256
    assert abs(((counts - 256) ** 2 / 256).sum() - 255) < 5 * math.sqrt(2 * 255)


def test_quantiles() -> None:
    """The table rises, ends below REACH, and halves the upper half of the distribution at its middle."""
    assert list(QUANTILES) == sorted(QUANTILES) and QUANTILES[0] >= 0
    assert len(QUANTILES) == 1 << QUANTILE_BITS and REACH // 2 < QUANTILES[-1] / (1 << FRACTION_BITS) < REACH
    assert abs(QUANTILES[1 << QUANTILE_BITS - 1] / (1 << FRACTION_BITS) - NormalDist().inv_cdf(0.75)) < 1e-3
