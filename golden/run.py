"""Run an integer network: every sum, current, spike word and read-out, in integers only.

The living definition of what the accelerator computes, and the twin of its sequencer.
"""

from dataclasses import dataclass
from functools import reduce

from array_api_compat import array_namespace

from golden.attention import attention
from golden.digit import digit
from golden.formats import LEAD_BITS, NEVER
from golden.network import Array, Layer, Network, Pass, Pool, map_arrays, operand
from golden.neuron import neuron
from golden.or_pool import or_pool
from golden.requantise import requantise
from golden.ttfs import numbers, race, ttfs
from golden.window import windows

PAD_CURRENT = -(1 << 62)


@dataclass(frozen=True, kw_only=True)
class LayerTrace:
    """What one layer computed for one image.

    sums : int64 [T, N, H, W] after the passes, before the bias; what time-to-first-spike neurons made of them, if there are
    currents : int64 [T, N, H', W'] after bias, residual and signed max-pool
    words : int64 [N, H', W'] that leave the neurons, requantiser or digits, before mask and OR-pool; None without them
    output : int64 [N, H'', W''] after mask and OR-pool, what is stored as fibers; None where ``words`` is
    readout : int64 [N, H', W'] currents summed over t; None if the layer has no read-out
    matches : (row, column, k) triples, over all passes, whose word and weight are both non-zero; of attention its additions
    """

    sums: Array
    currents: Array
    words: Array | None
    output: Array | None
    readout: Array | None
    matches: int


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One image's run: the input words and a `LayerTrace` per layer name, in execution order."""

    inputs: dict[str, Array]
    layers: dict[str, LayerTrace]


def run(network: Network, words: dict[str, Array]) -> Trace:
    """Execute every layer on one image, in the kind of ``words``, whichever kind ``network`` holds.

    words : the input tensors of `golden.network.input_words`, int64 [C, H, W] each
    """
    network = map_arrays(network, array_namespace(*words.values()).asarray)
    tensors = dict(words)
    stored: dict[str, Array] = {}
    layers: dict[str, LayerTrace] = {}
    for layer in network.layers:
        trace = run_layer(layer, network.steps, tensors, stored)
        layers[layer.name] = trace
        if layer.store_currents:
            stored[layer.name] = trace.currents
        if trace.output is not None:
            tensors[layer.name] = trace.output
    return Trace(inputs=words, layers=layers)


def run_layer(layer: Layer, steps: int, tensors: dict[str, Array], stored: dict[str, Array]) -> LayerTrace:
    """Execute one layer; ``tensors`` holds operand words and ``stored`` currents by name."""
    sums, matches = _sums(layer, steps, tensors, stored)
    return run_tail(layer, steps, sums, matches, stored)


def run_tail(layer: Layer, steps: int, sums: Array, matches: int, stored: dict[str, Array]) -> LayerTrace:
    """Execute what follows the sums int64 [T, N, H, W] of a layer."""
    currents = sums + layer.bias[:, None, None]
    if layer.residual is not None:
        currents = currents + (stored[layer.residual] if layer.ttfs is None else sooner(stored[layer.residual]))
    if layer.max_pool is not None:
        currents = max_pool(currents, layer.max_pool)
    if layer.sum_pool is not None:
        currents = sum_pool(currents, layer.sum_pool)
    spikes = output = None
    if layer.neuron is not None:
        spikes = pack(neuron(currents, layer.neuron))
        output = mask(spikes, layer.min_spikes, steps)
        if layer.or_pool is not None:
            output = or_pool(output, layer.or_pool)
    elif layer.requantise is not None:
        spikes = output = requantise(currents[layer.requantise.step, ...], layer.requantise)
    elif layer.digit is not None:
        spikes = output = digit(currents, layer.digit)
    elif layer.ttfs is not None and not layer.readout:
        spikes = output = array_namespace(currents).clip(currents[0, ...], 0, (1 << layer.ttfs.bits) - 1)
    return LayerTrace(sums=sums, currents=currents, words=spikes, output=output,
                      readout=array_namespace(currents).sum(currents, axis=0) if layer.readout else None, matches=matches)


def _sums(layer: Layer, steps: int, tensors: dict[str, Array], stored: dict[str, Array]) -> tuple[Array, int]:
    """Return (sums [T, N, H, W] of all passes or of attention, their matches)."""
    if layer.attention is not None:
        query, key, value = (unpack(tensors[source], steps) for source in layer.attention.sources)
        return attention(query, key, value, layer.attention)
    if not layer.passes:
        before = stored[str(layer.residual)]
        return array_namespace(before).zeros_like(before), 0
    if layer.ttfs is None:
        parts = [convolve(tensors[p.source], p, steps) for p in layer.passes]
    else:
        parts = [arrivals(tensors[p.source], p, layer.ttfs.window) for p in layer.passes]
    sums, matches = sum(part for part, _ in parts), sum(matched for _, matched in parts)
    if layer.ttfs is not None:
        spikes = ttfs(sums, layer.ttfs)
        sums = (race(spikes) if layer.readout else numbers(spikes))[None, ...]
    return sums, matches


def sooner(currents: Array) -> Array:
    """Return stored spike times with `NEVER` for those that are 0 or less."""
    return array_namespace(currents).where(currents > 0, currents, NEVER)


def convolve(words: Array, p: Pass, steps: int) -> tuple[Array, int]:
    """Return one pass's contribution to the sums, and its matches.

    words : int64 [C, H, W], bit b steered by ``p.planes[b]``; an output has fewer than 2^24 inputs
    returns int64 [T, N, H', W'] and the number of (row, column, k) with non-zero word and non-zero weight
    """
    rows, weight, out, matches = _rows(words, p)
    xp = array_namespace(rows)
    bits = xp.reshape(xp.arange(len(p.planes), dtype=xp.int32), (-1, 1, 1))
    dots = _dots(rows[None, ...] >> bits & 1, weight)
    factors = [[(t in plane.steps) * (-1 if plane.negate else 1) << plane.shift for plane in p.planes] for t in range(steps)]
    sums = xp.reshape(xp.asarray(factors, dtype=xp.int64) @ xp.astype(dots, xp.int64), (steps, *out, weight.shape[1]))
    return xp.permute_dims(sums, (0, 3, 1, 2)), matches


def arrivals(words: Array, p: Pass, window: int) -> tuple[Array, int]:
    """Return what one pass brings to every tick of a window, and its matches; the planes of the pass mean nothing.

    words : int64 [C, H, W], 0 or the earliness 1..window
    returns int64 [window, N, H', W'], the sum of weights of the words ``window - n`` at tick n
    """
    rows, weight, out, matches = _rows(words, p)
    xp = array_namespace(rows)
    ticks = xp.reshape(window - xp.arange(window, dtype=xp.int32), (-1, 1, 1))
    sums = xp.reshape(xp.astype(_dots(xp.astype(rows[None, ...] == ticks, xp.int32), weight), xp.int64),
                      (window, *out, weight.shape[1]))
    return xp.permute_dims(sums, (0, 3, 1, 2)), matches


def _rows(words: Array, p: Pass) -> tuple[Array, Array, tuple[int, ...], int]:
    """Return (words int32 [H' W', K] of every row, weights int32 [K, N], (H', W'), matches)."""
    xp = array_namespace(words, p.weight)
    columns, channels, height, width = p.weight.shape
    weight = xp.reshape(p.weight, (columns, channels * height * width)).T
    members = windows(xp.astype(operand(words, p), xp.int32), (height, width), stride=p.stride, padding=p.padding)
    rows = xp.permute_dims(xp.stack(members, axis=1), (2, 3, 0, 1))
    out = tuple(rows.shape[:2])
    rows = xp.reshape(rows, (-1, weight.shape[0]))
    matches = int(xp.sum(xp.count_nonzero(rows, axis=0) * xp.count_nonzero(weight, axis=1)))
    return rows, xp.astype(weight, xp.int32), out, matches


def _dots(planes: Array, weight: Array) -> Array:
    """Return int32 [planes, H' W' N] of planes [planes, H' W', K]."""
    xp = array_namespace(planes)
    return xp.reshape(xp.reshape(planes, (-1, weight.shape[0])) @ weight, (planes.shape[0], -1))


def max_pool(currents: Array, pool: Pool) -> Array:
    """Return the signed max-pool of int64 [T, N, H, W]; padding is minus infinity."""
    members = windows(currents, (pool.kernel, pool.kernel), stride=pool.stride, padding=pool.padding, fill=PAD_CURRENT)
    return reduce(array_namespace(currents).maximum, members)


def sum_pool(currents: Array, pool: Pool) -> Array:
    """Return the sums over the windows of int64 [T, N, H, W]; padding is 0."""
    return sum(windows(currents, (pool.kernel, pool.kernel), stride=pool.stride, padding=pool.padding))


def pack(spikes: Array) -> Array:
    """Return words int64 [N, ...] of spikes int64 [T, N, ...]: bit t is step t."""
    return sum(spikes[t, ...] << t for t in range(spikes.shape[0]))


def unpack(words: Array, steps: int) -> Array:
    """Return spikes int64 [T, N, ...] of words int64 [N, ...]: the inverse of `pack`."""
    return array_namespace(words).stack([(words >> t) & 1 for t in range(steps)])


def mask(words: Array, min_spikes: int, steps: int) -> Array:
    """Return ``words`` with every word of fewer than ``min_spikes`` spikes silenced."""
    xp = array_namespace(words)
    return xp.where(xp.sum(unpack(words, steps), axis=0) >= min_spikes, words, 0)


def logits(trace: Trace) -> Array:
    """Return the read-out of the last layer, int64 flattened to [classes]."""
    readout = list(trace.layers.values())[-1].readout
    assert readout is not None
    return array_namespace(readout).reshape(readout, (-1,))


def decision_tick(network: Network, trace: Trace) -> int | None:
    """Return the tick of the first output spike of a race, its window for none; None for another read-out."""
    race = network.layers[-1].ttfs
    return None if race is None else race.window - (max(logits(trace).tolist()) >> LEAD_BITS)


def predict(trace: Trace) -> int:
    """Return the class with the largest logit, the lowest index of ties."""
    values: list[int] = logits(trace).tolist()
    return values.index(max(values))
