"""The spMspM layers of AlexNet, VGG16 and ResNet19 as programs of their own: shapes, seeded spikes, seeded weights.

``models/published.csv`` holds the figures of its authors' logs: shape, non-zeros and silent ratios per layer, and the cycles
and traffic of five accelerators. Networks are for CIFAR10 at T=4; the encoder and the heads are not among the layers. Layers of
ResNet19 are convolutions in execution order, the 1x1 shortcut behind the block's two convolutions.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from golden.synthetic import sparse_weights
from golden.window import windows
from models.published import TABLE, kernel

Words = NDArray[np.int64]

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
        """Side of the window."""
        return kernel(self.inner)

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

    @property
    def present(self) -> float:
        """Share of the im2col matrix with padding that holds a word of two spikes or more."""
        return self.published["nnz_packed_mask1"] / (self.published["M"] * self.published["K"])

    @property
    def mean_spikes(self) -> float:
        """Spikes of a word of two or more, on average: what one-spike words do not bring of all spikes."""
        figures = self.published
        singles = figures["nnz_packed"] - figures["nnz_packed_mask1"]
        return (figures["nnz_spikes_all_t"] - singles) / figures["nnz_packed_mask1"]

    def reduced(self, divisor: int) -> "Layer":
        """Return the layer with ``1 / divisor`` of its channels on both sides, same map and densities."""
        channels, columns = self.channels // divisor, self.columns // divisor
        inner = channels * self.kernel**2
        weights = round(self.weights * inner * columns / (self.inner * self.columns))
        return replace(self, inner=inner, columns=columns, weights=weights)


@cache
def layers(network: str) -> tuple[Layer, ...]:
    """Return the layers of a network of `models.published.NETWORKS`, in order."""
    with TABLE.open() as file:
        rows = [row for row in csv.DictReader(file) if row["net"] == network]
    return tuple(_layer(network, {name: float(value) for name, value in row.items() if name != "net"}) for row in rows)


def _layer(network: str, row: dict[str, float]) -> Layer:
    return Layer(network=network, index=int(row["layer"]), rows=int(row["M"]), inner=int(row["K"]), columns=int(row["N"]),
                 weights=int(row["nnzW"]), spike_sparsity=row["spike_sparsity"],
                 silent_ratio_mask1=row["silent_ratio_mask1"], published=row)


def weights(of: Iterable[Layer]) -> list[NDArray[np.int8]]:
    """Return the seeded int8 weights [K, N] of all layers of a network, as `golden.synthetic.sparse_weights` draws them."""
    return sparse_weights(sizes(of))


def sizes(of: Iterable[Layer]) -> list[tuple[int, int, int]]:
    """Return (K, N, non-zero weights) of layers."""
    return [(layer.inner, layer.columns, layer.weights) for layer in of]


def im2col(words: Words, layer: Layer) -> Words:
    """Return the matrix [M, K] of input words [C, H, W]; K is (channel, ky, kx), padding is silent."""
    members = windows(words, (layer.kernel, layer.kernel), stride=layer.stride, padding=layer.padding)
    return np.stack(members, axis=1).reshape(layer.inner, layer.rows).T


def seeded_words(layer: Layer, seed: int = 0) -> Words:
    """Return input words int64 [C, H, W] with the published share of silent words and average of spikes.

    Places are drawn one after the other, all alike, until the words in the im2col matrix with padding (where a word counts
    as often as windows read it) reach `Layer.present`; the last word that would exceed it is left out, so that at most one
    word's windows are missing. Places that no window reads follow the same draw. A word holds all four spikes or two of
    them at random, in the proportion that gives `Layer.mean_spikes`; none has one.
    """
    rng = np.random.default_rng([seed, *layer.network.encode(), layer.index])
    places = rng.permutation(int(np.prod(layer.shape)))
    reads = np.zeros((layer.size, layer.size), np.int64)
    numbers = np.arange(reads.size).reshape(1, *reads.shape) + 1
    for member in windows(numbers, (layer.kernel, layer.kernel), stride=layer.stride, padding=layer.padding):
        np.add.at(reads.reshape(-1), member[member > 0] - 1, 1)
    wanted = round(layer.present * layer.rows * layer.inner)
    count = int((np.cumsum(reads.reshape(-1)[places % reads.size]) <= wanted).sum())
    full = round((layer.mean_spikes - 2) / 2 * count)
    pairs = np.array([1 << a | 1 << b for a in range(STEPS) for b in range(a)])
    drawn = np.concatenate([np.full(full, (1 << STEPS) - 1), rng.choice(pairs, count - full)])
    words = np.zeros(int(np.prod(layer.shape)), np.int64)
    words[places[:count]] = rng.permutation(drawn)
    return words.reshape(layer.shape)
