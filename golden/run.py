"""Run an integer network: every sum, current, spike word and read-out, in integers only.

The living definition of what the accelerator computes, and the twin of its sequencer.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from golden.network import Layer, Network, Pass, Pool
from golden.neuron import neuron
from golden.or_pool import or_pool

PAD_CURRENT = -(1 << 62)


@dataclass(frozen=True, kw_only=True)
class LayerTrace:
    """What one layer computed for one image.

    sums : int64 [T, N, H, W] after the passes, before the bias
    currents : int64 [T, N, H', W'] after bias, residual and signed max-pool
    words : int64 [N, H', W'] that leave the neuron stage, before mask and OR-pool; None without neurons
    output : int64 [N, H'', W''] after mask and OR-pool, what is stored as fibers; None without neurons
    readout : int64 [N, H', W'] currents summed over t; None if the layer has no read-out
    matches : (row, column, k) triples, over all passes, whose word and weight are both non-zero
    """

    sums: Tensor
    currents: Tensor
    words: Tensor | None
    output: Tensor | None
    readout: Tensor | None
    matches: int


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One image's run: the input words and a `LayerTrace` per layer name, in execution order."""

    inputs: dict[str, Tensor]
    layers: dict[str, LayerTrace]


def run(network: Network, words: dict[str, Tensor]) -> Trace:
    """Execute every layer on one image.

    words : the input tensors of `golden.network.input_words`, int64 [C, H, W] each
    """
    tensors = dict(words)
    stored: dict[str, Tensor] = {}
    layers: dict[str, LayerTrace] = {}
    for layer in network.layers:
        trace = run_layer(layer, network.steps, tensors, stored)
        layers[layer.name] = trace
        if layer.store_currents:
            stored[layer.name] = trace.currents
        if trace.output is not None:
            tensors[layer.name] = trace.output
    return Trace(inputs=words, layers=layers)


def run_layer(layer: Layer, steps: int, tensors: dict[str, Tensor], stored: dict[str, Tensor]) -> LayerTrace:
    """Execute one layer; ``tensors`` holds operand words and ``stored`` currents by name."""
    matches = 0
    if layer.passes:
        partial = []
        for p in layer.passes:
            part, matched = convolve(tensors[p.source], p, steps)
            partial.append(part)
            matches += matched
        sums = torch.stack(partial).sum(0)
    else:
        sums = torch.zeros_like(stored[str(layer.residual)])
    currents = sums + layer.bias[:, None, None]
    if layer.residual is not None:
        currents = currents + stored[layer.residual]
    if layer.max_pool is not None:
        currents = max_pool(currents, layer.max_pool)
    spikes = output = None
    if layer.neuron is not None:
        spikes = pack(neuron(currents, layer.neuron))
        output = mask(spikes, layer.min_spikes, steps)
        if layer.or_pool is not None:
            output = or_pool(output, layer.or_pool)
    return LayerTrace(sums=sums, currents=currents, words=spikes, output=output,
                      readout=currents.sum(0) if layer.readout else None, matches=matches)


def convolve(words: Tensor, p: Pass, steps: int) -> tuple[Tensor, int]:
    """Return one pass's contribution to the sums, and its matches.

    words : int64 [C, H, W], bit b steered by ``p.planes[b]``
    returns int64 [T, N, H', W'] and the number of (row, column, k) with non-zero word and non-zero weight
    """
    columns, _, kh, kw = p.weight.shape
    padded = torch.nn.functional.pad(words, (p.padding,) * 4)
    windows = padded.unfold(1, kh, p.stride).unfold(2, kw, p.stride)
    height, width = windows.shape[1:3]
    weight = p.weight.reshape(columns, -1).T
    bits = len(p.planes)
    fits = weight.shape[0] << (7 + max((plane.shift for plane in p.planes), default=0)) < 1 << 31
    dtype = torch.int32 if fits else torch.int64
    rows = windows.permute(1, 2, 0, 3, 4).reshape(height * width, -1)
    dots = torch.stack([((rows >> b) & 1).to(dtype) for b in range(bits)]).reshape(bits * height * width, -1)
    dots = (dots @ weight.to(dtype)).to(torch.int64).reshape(bits, height, width, columns).permute(0, 3, 1, 2)
    sums = torch.zeros(steps, columns, height, width, dtype=torch.int64)
    for dot, plane in zip(dots, p.planes, strict=True):
        for t in plane.steps:
            sums[t] += (-dot if plane.negate else dot) << plane.shift
    matches = int(((rows != 0).sum(0) * (weight != 0).sum(1)).sum())
    return sums, matches


def max_pool(currents: Tensor, pool: Pool) -> Tensor:
    """Return the signed max-pool of int64 [T, N, H, W]; padding is minus infinity."""
    padded = torch.nn.functional.pad(currents, (pool.padding,) * 4, value=PAD_CURRENT)
    return padded.unfold(2, pool.kernel, pool.stride).unfold(3, pool.kernel, pool.stride).amax((-2, -1))


def pack(spikes: Tensor) -> Tensor:
    """Return words int64 [N, ...] of spikes int64 [T, N, ...]: bit t is step t."""
    weights = (1 << torch.arange(spikes.shape[0])).reshape([-1] + [1] * (spikes.dim() - 1))
    return (spikes * weights).sum(0)


def unpack(words: Tensor, steps: int) -> Tensor:
    """Return spikes int64 [T, N, ...] of words int64 [N, ...]: the inverse of `pack`."""
    return torch.stack([(words >> t) & 1 for t in range(steps)])


def mask(words: Tensor, min_spikes: int, steps: int) -> Tensor:
    """Return ``words`` with every word of fewer than ``min_spikes`` spikes silenced."""
    return torch.where(unpack(words, steps).sum(0) >= min_spikes, words, 0)


def logits(trace: Trace) -> Tensor:
    """Return the read-out of the last layer, int64 flattened to [classes]."""
    readout = list(trace.layers.values())[-1].readout
    assert readout is not None
    return readout.flatten()


def predict(trace: Trace) -> int:
    """Return the class with the largest logit, the lowest index of ties."""
    values = logits(trace)
    return int((values == values.max()).nonzero()[0])
