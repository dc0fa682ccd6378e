"""Random weights for a network without training: as many as a table of figures says, at random places."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from golden.arch import ParameterError
from golden.network import Layer, Network, Pass, spike_planes

TOP = 127
PLACES, VALUES, DENSE = range(3)

Weights = NDArray[np.int8]


@dataclass(frozen=True)
class Figures:
    """What is known of a spiking layer: inner length K, columns N, non-zero weights, silent ratio.

    silent : share of silent words in the matrix [rows, K] that the layer multiplies, padding included
    """

    inner: int
    columns: int
    nonzeros: int
    silent: float


def sparse_weights(sizes: Sequence[tuple[int, int, int]]) -> list[Weights]:
    """Return int8 [K, N] for every (K, N, non-zeros), in order; K is (channel, ky, kx) as torch unfolds.

    Places come from one generator (seed 0), ``choice(K * N, non-zeros, replace=False)`` layer after layer; values, from
    -127 to 127 and not zero, from another (seed 1).
    """
    places, values = np.random.default_rng(PLACES), np.random.default_rng(VALUES)
    found = []
    for inner, columns, nonzeros in sizes:
        weights = np.zeros(inner * columns, np.int8)
        weights[places.choice(inner * columns, nonzeros, replace=False)] = _values(values, nonzeros)
        found.append(weights.reshape(inner, columns))
    return found


def _values(generator: np.random.Generator, count: int) -> Weights:
    drawn = generator.integers(-TOP, TOP, count)
    return (drawn + (drawn >= 0)).astype(np.int8)


def skewed(shapes: Iterable[tuple[int, int, int]], sigma: float, seed: int = 0) -> Iterator[Weights]:
    """Yield int8 [K, N] for every (K, N, non-zeros), with the non-zeros spread unevenly over the columns as in trained masks.

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
        yield np.where(order < filled, rng.integers(1, TOP + 1, order.shape), 0).astype(np.int8)


def _filled(share: NDArray[np.float64], scale: float, inner: int) -> NDArray[np.int64]:
    """Return the non-zeros of columns whose shares are scaled and cut at ``inner``."""
    return np.asarray(np.minimum(np.floor(share * scale / share.sum()), inner), np.int64)


def with_weights(network: Network, figures: Sequence[Figures]) -> Network:
    """Return ``network`` with the weights of `sparse_weights` in its spiking layers, dense ones before and behind them.

    figures : one for each of `spiking_passes`, in order
    Dense weights, and the biases of layers that have one, from -127 to 127, come from a third generator (seed 2); a spike
    of an identity pass adds 127. Words of neurons that fire once become silent (``min_spikes`` 2) from the first layer on.
    Raises `ParameterError` naming the layer whose shape is not that of its figures.
    """
    single = replace(network, layers=tuple(replace(layer, passes=_terms(layer)) for layer in network.layers))
    taken = spiking_passes(single)
    if len(taken) != len(figures):
        raise ParameterError(f"{network.name}: figures: must be of {len(taken)} layers, not {len(figures)}")
    for (layer, p), found in zip(taken, figures, strict=True):
        shape = (p.weight[0].size, len(p.weight))
        if shape != (found.inner, found.columns):
            raise ParameterError(f"{layer.name} ({layer.origin}): K and N must be {found.inner} and {found.columns} as in "
                                 f"its figures, not {shape[0]} and {shape[1]}")
    sparse = iter(sparse_weights([(f.inner, f.columns, f.nonzeros) for f in figures]))
    dense, layers, kernels = np.random.default_rng(DENSE), [], []
    for layer in single.layers:
        passes: list[Pass] = []
        for p in layer.passes:
            shape = p.weight.shape
            if p.source.startswith("input.") and passes:
                weight = passes[0].weight
            elif is_identity(p):
                weight = (TOP * np.eye(len(p.weight))).astype(np.int8).reshape(shape)
            else:
                spiking = layer.neuron is not None and not p.source.startswith("input.")
                weight = (next(sparse).T if spiking else _values(dense, p.weight.size)).reshape(shape)
                kernels.append(weight)
            passes.append(replace(p, weight=weight))
        bias = dense.integers(-TOP, TOP + 1, len(layer.bias)) if layer.bias.any() else layer.bias
        layers.append(replace(layer, passes=tuple(passes), bias=bias, min_spikes=2 if layer.neuron else 1))
    zeros, total = sum(int((kernel == 0).sum()) for kernel in kernels), sum(kernel.size for kernel in kernels)
    return replace(network, layers=tuple(layers), weight_sparsity=zeros / total, float_info={})


def with_sparsity(network: Network, zeros: float, gain: int) -> Network:
    """Return ``network`` with random weights, the share ``zeros`` of them zero but where the image is read.

    Places and values are those of `sparse_weights`, dense weights and biases as in `with_weights`. An identity pass adds
    ``gain`` times its operand.
    """
    single = replace(network, layers=tuple(replace(layer, passes=_terms(layer)) for layer in network.layers))
    shapes = [p.weight.shape for layer in single.layers for p in layer.passes if not _of_image(p) and not is_identity(p)]
    sizes = [(c * kh * kw, n, drawn_count(n * c * kh * kw, zeros)) for n, c, kh, kw in shapes]
    sparse, dense, layers, kernels = iter(sparse_weights(sizes)), np.random.default_rng(DENSE), [], []
    for layer in single.layers:
        passes: list[Pass] = []
        for p in layer.passes:
            shape = p.weight.shape
            if _of_image(p) and passes:
                weight = passes[0].weight
            elif is_identity(p):
                weight = (gain * np.eye(len(p.weight))).astype(np.int8).reshape(shape)
            else:
                weight = (_values(dense, p.weight.size) if _of_image(p) else next(sparse).T).reshape(shape)
                kernels.append(weight)
            passes.append(replace(p, weight=weight))
        bias = dense.integers(-TOP, TOP + 1, len(layer.bias)) if layer.bias.any() else layer.bias
        layers.append(replace(layer, passes=tuple(passes), bias=bias))
    gone, total = sum(int((kernel == 0).sum()) for kernel in kernels), sum(kernel.size for kernel in kernels)
    return replace(network, layers=tuple(layers), weight_sparsity=gone / total, float_info={})


def drawn_count(size: int, zeros: float) -> int:
    """Return how many of ``size`` weights `with_sparsity` does not set to zero."""
    return round((1 - zeros) * size)


def _of_image(p: Pass) -> bool:
    return p.source.startswith("input.")


def _terms(layer: Layer) -> tuple[Pass, ...]:
    """Return one pass for every operand and kernel: those that differ in the digit of the weight alone are one."""
    found: dict[tuple[object, ...], Pass] = {}
    for p in layer.passes:
        planes = p.planes if p.source.startswith("input.") else spike_planes(len(p.planes))
        found.setdefault((p.source, p.weight.shape, p.stride, p.padding), replace(p, planes=planes))
    return tuple(found.values())


def spiking_passes(network: Network) -> list[tuple[Layer, Pass]]:
    """Return the passes that `Figures` describe, in order: over spikes, into neurons, not identities."""
    return [(layer, p) for layer in network.layers if layer.neuron is not None for p in layer.passes
            if not p.source.startswith("input.") and not is_identity(p)]


def is_identity(p: Pass) -> bool:
    """Return whether a pass adds the spikes of a channel to the same channel."""
    n, c, kh, kw = p.weight.shape
    square = np.asarray(p.weight).reshape(n, -1)
    return (c, kh, kw) == (n, 1, 1) and bool((square == np.diag(square.diagonal())).all())
