"""The spMspM layers of AlexNet, VGG16 and ResNet19 that LoAS (MICRO 2024) publishes figures of.

``loas_layers.csv`` holds the figures of its authors' logs: shape, non-zeros and silent ratios per layer, and the cycles and
traffic of five accelerators. Networks are for CIFAR10 at T=4; the encoder and the heads are not among the layers. Layers of
ResNet19 are convolutions in execution order, the 1x1 shortcut behind the block's two convolutions.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from golden import synthetic

TABLE = Path(__file__).parent / "loas_layers.csv"
NETWORKS = ("alexnet", "vgg16", "resnet19")
STEPS = 4
# Layers whose output map is half as high and wide as their input: the first convolution and the shortcut of a stage.
HALVING = {"resnet19": (1, 3, 8, 10, 15, 17)}


@dataclass(frozen=True)
class Layer:
    """One row of the table.

    network, index : ``"alexnet"``, ``"vgg16"`` or ``"resnet19"``, and the layer's number from 1
    rows, inner, columns : M output pixels, K (channels times taps), N output channels
    weights : weights that are not zero
    kernel, stride, padding : of the convolution; maps are square
    spike_sparsity, silent_ratio_mask1 : shares of the im2col matrix with padding: of its bits that are 0, and of its words
        that are silent once words with one spike are
    published : every figure of the row by its column name
    """

    network: str
    index: int
    rows: int
    inner: int
    columns: int
    weights: int
    spike_sparsity: float
    silent_ratio_mask1: float
    published: dict[str, float]

    @property
    def name(self) -> str:
        """``conv<index>``, which is also the name of the layer's array in a data file."""
        return f"conv{self.index}"

    @property
    def kernel(self) -> int:
        """3, and 1 for shortcuts (whose K no 3x3 kernel has)."""
        return 3 if self.inner % 9 == 0 else 1

    @property
    def padding(self) -> int:
        """1 around a 3x3 kernel, else none."""
        return self.kernel // 2

    @property
    def stride(self) -> int:
        """2 where the map is halved."""
        return 2 if self.index in HALVING.get(self.network, ()) else 1

    @property
    def channels(self) -> int:
        """Input channels."""
        return self.inner // self.kernel**2

    @property
    def size(self) -> int:
        """Height and width of the input map."""
        return int(self.rows**0.5) * self.stride

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape [C, H, W] of the input words."""
        return self.channels, self.size, self.size


@cache
def layers(network: str) -> tuple[Layer, ...]:
    """Return the layers of a network of `NETWORKS`, in order."""
    with TABLE.open() as file:
        rows = [row for row in csv.DictReader(file) if row["net"] == network]
    return tuple(_layer(network, {name: float(value) for name, value in row.items() if name != "net"}) for row in rows)


def _layer(network: str, row: dict[str, float]) -> Layer:
    return Layer(network=network, index=int(row["layer"]), rows=int(row["M"]), inner=int(row["K"]), columns=int(row["N"]),
                 weights=int(row["nnzW"]), spike_sparsity=row["spike_sparsity"],
                 silent_ratio_mask1=row["silent_ratio_mask1"], published=row)


def weights(network: str, seed: int = 0) -> Iterator[NDArray[np.int8]]:
    """Yield the seeded int8 weights [K, N] of every layer, as `golden.synthetic.weights` draws them."""
    return synthetic.weights(((layer.inner, layer.columns, layer.weights) for layer in layers(network)), seed)
