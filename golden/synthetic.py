"""Seeded weights of networks whose real ones are not public: any shape, an exact number of non-zeros."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

PEAK = 127


def weights(shapes: Iterable[tuple[int, int, int]], seed: int = 0) -> Iterator[NDArray[np.int8]]:
    """Yield one int8 matrix [K, N] per layer.

    One generator of ``seed`` places the non-zeros of all layers, uniformly; a second one of ``[seed, 1]`` draws their values
    from -127..127 without 0. So positions do not change with what is done to the values.

    shapes : (K, N, non-zeros) per layer, in order
    """
    places, values = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    for inner, columns, count in shapes:
        matrix = np.zeros(inner * columns, np.int8)
        where = places.choice(inner * columns, count, replace=False)
        matrix[where] = values.integers(1, PEAK + 1, count) * values.choice((-1, 1), count)
        yield matrix.reshape(inner, columns)


def skewed(shapes: Iterable[tuple[int, int, int]], sigma: float, seed: int = 0) -> Iterator[NDArray[np.int8]]:
    """Yield matrices as `weights` whose non-zeros are spread unevenly over the columns, as trained masks are.

    A column's share of the non-zeros is log-normal with ``sigma`` (0: uniform), cut where a column is full; its rows are
    uniform.
    """
    rng = np.random.default_rng([seed, 2])
    for inner, columns, count in shapes:
        share = np.exp(sigma * rng.standard_normal(columns))
        order = np.argsort(rng.random((inner, columns)), axis=0).argsort(axis=0)
        low, high = 0.0, inner * share.sum() / share.min()
        while high - low > 1e-9 * high:
            middle = (low + high) / 2
            low, high = (middle, high) if _filled(share, middle, inner).sum() <= count else (low, middle)
        filled = _filled(share, low, inner)
        room = np.argsort(np.where(filled < inner, -share, np.inf), kind="stable")
        filled[room[: count - int(filled.sum())]] += 1
        yield np.where(order < filled, rng.integers(1, PEAK + 1, order.shape), 0).astype(np.int8)


def _filled(share: NDArray[np.float64], scale: float, inner: int) -> NDArray[np.int64]:
    """Return the non-zeros of columns whose shares are scaled and cut at ``inner``."""
    return np.asarray(np.minimum(np.floor(share * scale / share.sum()), inner), np.int64)


def kernel(matrix: NDArray[np.int8], size: int) -> NDArray[np.int8]:
    """Return the convolution weight [N, C, size, size] of a matrix [K, N] whose K is (channel, ky, kx)."""
    return np.ascontiguousarray(matrix.T.reshape(matrix.shape[1], -1, size, size))
