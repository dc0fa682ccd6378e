"""What happens in a core of tiles while it runs an image: the RTL's counters from golden's trace, and what they leave out."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from golden.imc.arch import ImcArch
from golden.imc.run import Placed, Setting, inputs
from golden.network import Layer, Network
from golden.run import LayerTrace, Trace, unpack

Numbers = NDArray[np.int64]
# Counters of the RTL (`golden.imc.event_counters`) but its cycles.
COUNTED = ("phases", "skipped", "rows", "conversions", "steps", "spikes", "words")
EVENTS = {
    "phases": "activations of a crossbar, those that were skipped left out",
    "skipped": "phases that drove no row and were skipped",
    "zero": "phases that drove no row, skipped or not",
    "rows": "rows that were driven",
    "conversions": "conversions of single columns",
    "comparisons": "comparators that were asked",
    "code_bits": "bits of codes, of all conversions",
    "outputs": "outputs of tiles, sent to a lane",
    "steps": "neuron steps, each an access to the membrane memory",
    "spikes": "spikes",
    "read": "words read from the activation memories",
    "words": "words written to the activation memories",
}


def events(network: Network, arch: ImcArch, setting: Setting, placed: tuple[Placed, ...], trace: Trace
           ) -> dict[str, dict[str, Numbers]]:
    """Return how often what costs energy happens, by layer and names of `EVENTS`, int64 [T]: in each timestep.

    Those that the RTL counts are its counters. ``read`` is a word for each tap that lies on the map; ``outputs`` are all that a
    tile has, for each vector, row block and column block.
    """
    tensors = {name: np.asarray(word) for name, word in trace.inputs.items()}
    found = {}
    for entry in placed:
        layer = trace.layers[entry.mapped.layer.name]
        found[entry.mapped.layer.name] = _layer(arch, setting, entry, tensors, layer, network.steps)
        if layer.output is not None:
            tensors[entry.mapped.layer.name] = np.asarray(layer.output)
    return found


def total(layers: Mapping[str, Mapping[str, Numbers]], steps: int | None = None) -> dict[str, int]:
    """Return the events of all layers in the first ``steps`` timesteps, all by default."""
    return {name: sum(int(layer[name][:steps].sum()) for layer in layers.values()) for name in EVENTS}


def membranes(entry: Placed, trace: LayerTrace, *, time_inner: bool) -> int:
    """Return the words of membrane memory that a layer takes: those of one window, or of all.

    A layer whose input is converted once takes all its steps before the next window, whatever the others do.
    """
    layer, steps = entry.mapped.layer, trace.sums.shape[0]
    if layer.neuron is None or trace.words is None:
        return 0
    count, height, width = trace.words.shape
    channels = int(count) // layer.neuron.share
    pool = layer.or_pool
    if time_inner or entry.converted < steps:
        return channels * (pool.kernel ** 2 if pool else 1)
    return channels * int(_visits(layer, height, width).sum())


def _layer(arch: ImcArch, setting: Setting, entry: Placed, tensors: dict[str, Numbers], trace: LayerTrace, steps: int
           ) -> dict[str, Numbers]:
    mapped, layer = entry.mapped, entry.mapped.layer
    height, width = trace.sums.shape[-2:]
    visits = _visits(layer, height, width).ravel()
    found = {name: np.zeros(steps, np.int64) for name in EVENTS}
    words = int(visits @ _inside(entry, tensors)) * mapped.groups * mapped.operand.bits
    for step, driven in enumerate(_driven(arch, entry, tensors, steps)):
        all_phases = int(visits.sum()) * driven[0].size * mapped.column_blocks
        found["zero"][step] = int(visits @ (driven == 0).reshape(len(visits), -1).sum(axis=1)) * mapped.column_blocks
        found["skipped"][step] = found["zero"][step] * setting.skip
        found["phases"][step] = all_phases - found["skipped"][step]
        found["rows"][step] = int(visits @ driven.reshape(len(visits), -1).sum(axis=1)) * mapped.column_blocks
        found["outputs"][step] = int(visits.sum()) * mapped.row_blocks * mapped.column_blocks * arch.outputs(mapped.scheme)
        found["read"][step] = words
    found["conversions"] = found["phases"] * arch.cols << setting.adc.average_log2
    found["comparisons"] = found["conversions"] * ((1 << setting.adc.bits) - 1 if setting.adc.flash else setting.adc.bits)
    found["code_bits"] = found["conversions"] * setting.adc.bits
    if layer.neuron is not None:
        spikes = np.asarray(unpack(trace.words, steps))
        visited = _visits(layer, *spikes.shape[2:]) if layer.or_pool else np.ones(spikes.shape[2:], np.int64)
        found["steps"] += spikes.shape[1] * int(visited.sum())
        found["spikes"] += (spikes * visited).sum(axis=(1, 2, 3))
    if trace.output is not None:
        channels, *size = trace.output.shape
        planes = layer.requantise.bits if layer.requantise else 1
        found["words"] += planes * size[0] * size[1] * -(-channels // arch.rows)
    return found


def _visits(layer: Layer, height: int, width: int) -> Numbers:
    """Return int64 [H, W], how many pool windows have each pixel of the sums; 1 without a pool."""
    pool = layer.max_pool or layer.sum_pool or layer.or_pool
    kernel, stride = (pool.kernel, pool.stride) if pool else (1, 1)
    rows, columns = (np.bincount([first + member for first in range(0, size - kernel + 1, stride) for member in range(kernel)],
                                 minlength=size) for size in (height, width))
    return rows[:, None] * columns


def _driven(arch: ImcArch, entry: Placed, tensors: dict[str, Numbers], steps: int) -> Iterator[Numbers]:
    """Yield, for each step that is converted, the rows driven in every phase: int64 [pixels, row blocks, bits, groups]."""
    bits = np.arange(entry.mapped.operand.bits)[:, None]
    for x in inputs(entry, tensors, steps):
        yield (x[:, :, None, :] >> bits & 1).reshape(*x.shape[:2], len(bits), -1, arch.group_rows).sum(axis=-1)


def _inside(entry: Placed, tensors: dict[str, Numbers]) -> Numbers:
    """Return int64 [pixels], the taps of each pixel of the sums that lie on the map."""
    first = entry.mapped.layer.passes[0]
    height, width = tensors[first.source].shape[-2:]
    rows, columns = ([sum(0 <= at + tap < size for tap in range(kernel))
                      for at in range(-first.padding, size + first.padding - kernel + 1, first.stride)]
                     for size, kernel in zip((height, width), first.weight.shape[2:], strict=True))
    return np.outer(rows, columns).ravel()
