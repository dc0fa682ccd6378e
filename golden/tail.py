"""Tail of a layer: from the sums of its passes to what lies in memory."""

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace

from golden import fiber
from golden.digit import digit
from golden.network import Array, Layer
from golden.neuron import neuron
from golden.or_pool import or_pool
from golden.requantise import requantise
from golden.run import mask, max_pool, pack, sooner, sum_pool


@dataclass(frozen=True, kw_only=True)
class Tail:
    """What the tail makes of one layer.

    currents : int64 [T, N, H, W] after bias, residual and signed max-pool
    words : int64 [N, H, W] that leave the neurons, requantiser or digits, None without them
    output : int64 [N, H', W'] after mask and OR-pool, None where ``words`` is
    """

    currents: Array
    words: Array | None
    output: Array | None


def tail(layer: Layer, sums: Array, residual: Array | None) -> Tail:
    """Return the outputs of ``layer``: + bias, + residual, max-pool, neuron, requantiser or digits, mask, OR-pool.

    sums : int64 [T, N, H, W]; residual : the same shape, or None
    """
    currents = sums + layer.bias[:, None, None]
    if residual is not None:
        currents = currents + (residual if layer.ttfs is None else sooner(residual))
    if layer.max_pool is not None:
        currents = max_pool(currents, layer.max_pool)
    if layer.sum_pool is not None:
        currents = sum_pool(currents, layer.sum_pool)
    if layer.requantise is not None:
        words = requantise(currents[layer.requantise.step, ...], layer.requantise)
        return Tail(currents=currents, words=words, output=words)
    if layer.digit is not None:
        words = digit(currents, layer.digit)
        return Tail(currents=currents, words=words, output=words)
    if layer.ttfs is not None and not layer.readout:
        words = array_namespace(currents).clip(currents[0, ...], 0, (1 << layer.ttfs.bits) - 1)
        return Tail(currents=currents, words=words, output=words)
    if layer.neuron is None:
        return Tail(currents=currents, words=None, output=None)
    words = pack(neuron(currents, layer.neuron))
    output = mask(words, layer.min_spikes, currents.shape[0])
    if layer.or_pool is not None:
        output = or_pool(output, layer.or_pool)
    return Tail(currents=currents, words=words, output=output)


def stored_fibers(output: Array, word_log2: int) -> tuple[bytes, dict[int, bytes]]:
    """Return (region of the masks, used bytes of every pixel's slot) of the output words."""
    masks, slots = fiber.pack(np.asarray(output), word_log2)
    used = fiber.used_bytes(masks, word_log2)
    return masks.tobytes(), {pixel: slots[pixel, : used[pixel]].tobytes() for pixel in range(len(slots))}
