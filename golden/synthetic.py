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


def kernel(matrix: NDArray[np.int8], size: int) -> NDArray[np.int8]:
    """Return the convolution weight [N, C, size, size] of a matrix [K, N] whose K is (channel, ky, kx)."""
    return np.ascontiguousarray(matrix.T.reshape(matrix.shape[1], -1, size, size))
