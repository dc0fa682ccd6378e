"""The published layers and their seeded weights."""

import numpy as np
import pytest

from golden.window import windows
from models.published import NETWORKS
from verif.loas_layers import layers, weights


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
    """Every layer has its published number of non-zeros."""
    for layer, matrix in zip(layers(network), weights(layers(network)), strict=True):
        assert matrix.shape == (layer.inner, layer.columns) and np.count_nonzero(matrix) == layer.weights
        assert round(1 - layer.weights / matrix.size, 5) == layer.published["weight_sparsity"]
