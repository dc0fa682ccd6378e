"""The published layers and their seeded weights."""

import numpy as np
import pytest

from golden import synthetic
from golden.window import windows
from perf.layers import NETWORKS, layers, weights


@pytest.mark.parametrize("network", NETWORKS)
def test_geometry(network: str) -> None:
    """Kernel, stride, padding and map of each layer give the rows and the inner length of its row."""
    for layer in layers(network):
        channels, height, width = layer.shape
        members = windows(np.ones((1, height, width), np.int64), (layer.kernel, layer.kernel), stride=layer.stride,
                          padding=layer.padding)
        assert members[0].size == layer.rows and len(members) * channels == layer.inner


@pytest.mark.parametrize("network", NETWORKS)
def test_weights(network: str) -> None:
    """Every layer has its published number of non-zeros; another seed puts them elsewhere."""
    for layer, matrix, other in zip(layers(network), weights(network), weights(network, 1), strict=True):
        assert matrix.shape == (layer.inner, layer.columns) and np.count_nonzero(matrix) == layer.weights
        assert ((matrix != 0) != (other != 0)).any()
        assert round(1 - layer.weights / matrix.size, 5) == layer.published["weight_sparsity"]


def test_places_are_those_of_one_generator() -> None:
    """Positions come from one default generator, layer after layer, whatever the values are."""
    rng = np.random.default_rng(0)
    for layer, matrix in zip(layers("alexnet"), weights("alexnet"), strict=True):
        places = rng.choice(layer.inner * layer.columns, layer.weights, replace=False)
        assert np.array_equal(np.sort(places), np.flatnonzero(matrix))


def test_kernel_order() -> None:
    """The inner dimension is channel, ky, kx."""
    matrix = np.arange(18 * 2, dtype=np.int8).reshape(18, 2)
    assert synthetic.kernel(matrix, 3)[1, 1, 2, 0] == matrix[9 + 2 * 3 + 0, 1]
