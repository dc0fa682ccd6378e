"""The spiking layers of AlexNet, VGG16 and ResNet19 as ``published.csv`` says them: shapes, weights and silent words.

Source: LoAS (MICRO 2024, arXiv:2407.14073), its authors' logs; T = 4, neurons that fire once masked. Encoder and fully
connected layers are not in the table. A layer multiplies silent or spiking words [M, K] with weights [K, N].
"""

import csv
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).parent / "published.csv"
NETWORKS = ("alexnet", "vgg16", "resnet19")


@dataclass(frozen=True, kw_only=True)
class Published:
    """One layer.

    layer : from 1, in the order of execution, a shortcut behind the convolution that it adds to
    kernel : side of the window; ``K`` is channels times its square
    nonzeros : weights that are not zero
    silent : share of silent words in the matrix [M, K], padding included
    """

    layer: int
    M: int
    N: int
    K: int
    kernel: int
    nonzeros: int
    silent: float

    @property
    def density(self) -> float:
        """Share of the weights that are not zero."""
        return self.nonzeros / (self.K * self.N)


def published(network: str, width: float = 1.0) -> tuple[Published, ...]:
    """Return the layers of a network of `NETWORKS`, at a share ``width`` of its channels and the same densities."""
    with TABLE.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["net"] == network]
    layers = [Published(silent=float(row["silent_ratio_mask1"]), kernel=kernel(int(row["K"])), nonzeros=int(row["nnzW"]),
                        **{name: int(row[name]) for name in ("layer", "M", "N", "K")}) for row in rows]
    return tuple(_scaled(layer, width) for layer in layers)


def kernel(inner: int) -> int:
    """Return the side of the window of a layer of inner length ``inner``: 1 for the shortcuts, whose K no 3x3 window has."""
    return 1 if inner % 9 else 3


def channels(full: int, width: float) -> int:
    """Return ``full`` channels at a share ``width`` of the published ones, at least one."""
    return max(1, round(full * width))


def _scaled(full: Published, width: float) -> Published:
    taps = full.kernel**2
    inner, columns = channels(full.K // taps, width) * taps, channels(full.N, width)
    return Published(layer=full.layer, M=full.M, N=columns, K=inner, kernel=full.kernel, silent=full.silent,
                     nonzeros=max(1, round(full.density * inner * columns)))
