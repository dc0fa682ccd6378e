"""Thresholds by calibration: one integer per layer, such that the words it makes are as often silent as wanted."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from golden.network import Array, Layer, Network, Pass, map_arrays
from golden.run import run_layer
from golden.synthetic import Figures, spiking_passes
from golden.tail import tail
from golden.window import extent

NEAR = 1e-3
UNBOUNDED = 1 << 40

# How often each pixel [H, W] of an operand is read, the words of the matrix, and the silent ratio wanted.
Reader = tuple[NDArray[np.int64], int, float]


def calibrated(network: Network, words: dict[str, Array], figures: Sequence[Figures]) -> Network:
    """Return ``network`` with one threshold per layer, such that the silent ratios on one image are those of ``figures``.

    words : operand words of the image, which decide the kind of array that computes
    figures : one for each of `golden.synthetic.spiking_passes`, in order
    Layers follow each other in execution order, each on the words that the ones before really make. A layer that several
    such passes read meets the mean of what they ask for; one that none reads takes the ratio of the last figures.
    """
    wanted: dict[str, list[tuple[Pass, float]]] = {}
    for (_, p), found in zip(spiking_passes(network), figures, strict=True):
        wanted.setdefault(p.source, []).append((p, found.silent))
    return _with_thresholds(network, words, wanted, figures[-1].silent)


def calibrated_evenly(network: Network, words: dict[str, Array], silent: float) -> Network:
    """Return ``network`` with one threshold per layer, such that the share ``silent`` of its output words is silent.

    words : as `calibrated` takes them
    Sums of attention are calibrated unbounded; where they then stop, at twice the threshold, changes no spike of neurons that
    halve and reset to 0.
    """
    def stopped(layer: Layer, at: int) -> Layer:
        return layer if layer.attention is None else replace(layer, attention=replace(layer.attention, saturation=at))

    unbounded = replace(network, layers=tuple(stopped(layer, UNBOUNDED) for layer in network.layers))
    found = _with_thresholds(unbounded, words, {}, silent)
    return replace(found, layers=tuple(stopped(layer, 2 * int(layer.neuron.threshold[0]) if layer.neuron else 0)
                                       for layer in found.layers))


def _with_thresholds(network: Network, words: dict[str, Array], wanted: dict[str, list[tuple[Pass, float]]],
                     otherwise: float) -> Network:
    """Return ``network`` with thresholds for what the readers of a layer want, ``otherwise`` of its words where none does."""
    xp = array_namespace(*words.values())
    tensors, stored, thresholds = dict(words), dict[str, Array](), {}
    for layer in map_arrays(network, xp.asarray).layers:
        trace = run_layer(layer, network.steps, tensors, stored)
        if layer.store_currents:
            stored[layer.name] = trace.currents
        if trace.output is not None:
            shape = trace.output.shape
            readers = [(*_readings(shape, p), silent) for p, silent in wanted.get(layer.name, ())]
            readers = readers or [(np.ones(shape[1:], np.int64), math.prod(shape), otherwise)]
            thresholds[layer.name], tensors[layer.name] = _threshold(layer, trace.sums, stored, readers)
    return replace(network, layers=tuple(
        layer if layer.neuron is None else replace(layer, neuron=replace(
            layer.neuron, threshold=np.full(len(layer.bias), thresholds[layer.name]))) for layer in network.layers))


def silent_ratio(words: Array, p: Pass) -> float:
    """Return the share of silent words in the matrix [rows, K] of a pass over ``words`` [C, H, W], padding included."""
    return _silent(words, *_readings(words.shape, p))


def _silent(words: Array, readings: NDArray[np.int64], total: int) -> float:
    xp = array_namespace(words)
    active = xp.sum(xp.astype(words != 0, xp.int64), axis=0)
    return 1 - int(xp.sum(active * xp.asarray(readings))) / total


def _readings(shape: tuple[int, int, int], p: Pass) -> tuple[NDArray[np.int64], int]:
    """Return how often a pass reads each pixel [H, W] of ``shape`` (C, H, W), and the words of its matrix."""
    sides, total = [], shape[0]
    for size, kernel in zip(shape[1:], p.weight.shape[2:], strict=True):
        side = np.zeros(size + 2 * p.padding, np.int64)
        count = extent(size, kernel, p.stride, p.padding)
        for tap in range(kernel):
            side[tap : tap + count * p.stride : p.stride] += 1
        sides.append(side[p.padding : p.padding + size])
        total *= count * kernel
    return np.outer(*sides), total


def _threshold(layer: Layer, sums: Array, stored: dict[str, Array], readers: list[Reader]) -> tuple[int, Array]:
    """Return the threshold that gives what the readers ask for to a thousandth, or the nearest, and the output words."""
    xp = array_namespace(sums)
    residual = None if layer.residual is None else stored[layer.residual]
    assert layer.neuron is not None
    step = layer.neuron

    def output(threshold: int) -> Array:
        changed = replace(layer, neuron=replace(step, threshold=xp.zeros_like(layer.bias) + threshold))
        return tail(changed, sums, residual).output

    def excess(words: Array) -> float:
        return sum(_silent(words, readings, total) - silent for readings, total, silent in readers)

    currents = tail(replace(layer, neuron=None), sums, residual).currents
    high = 2 * int(xp.max(xp.abs(currents))) + 1
    low, threshold, words = -high, 0, output(0)
    while high - low > 1 and abs(excess(words)) > NEAR:
        low, high = (low, threshold) if excess(words) > 0 else (threshold, high)
        threshold = (low + high) // 2
        words = output(threshold)
    return threshold, words
