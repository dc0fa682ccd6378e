"""Complete comparison of one simulated image with the golden trace."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.fiber import unpack
from golden.formats import STATS, STATS_BYTES
from golden.network import Layer, Network
from golden.run import Trace
from hdl.image import Image
from verif.system import Run, Words


@dataclass
class LayerResult:
    """What the comparison of one layer found.

    neuron_steps : neurons times T, or requantised words, that were compared at the neuron stage
    mismatches : differing spikes or words at the neuron stage, plus differing fibers, currents and read-outs in memory
    first : the first difference with its place, or None; see `_first`
    """

    name: str
    neuron_steps: int = 0
    mismatches: int = 0
    first: dict[str, Any] | None = None
    counters: dict[str, int] = field(default_factory=dict)


def neuron_words(words: Words, number: int, layer: Layer, image: Image, lanes: int
                 ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return (words [N, H, W], times recorded [N, H, W], cycle [N, H, W]) that left the neurons of one layer."""
    plan = image.plans[number]
    shape = (plan.columns, plan.height, plan.width)
    got, seen, cycle = (np.zeros(shape, np.int64) for _ in range(3))
    starts = np.array([part.start for part in plan.parts])
    rows = (words.layer >= plan.record) & (words.layer < plan.record + len(starts))
    pool = layer.or_pool
    kernel, stride, padding = (pool.kernel, pool.stride, pool.padding) if pool else (1, 1, 0)
    for lane in range(lanes):
        use = rows & words.lanes[:, lane]
        row = words.rows[use, lane]
        pixel = words.tile[use] * plan.tile_pixels + row % plan.tile_pixels
        member = words.member[use] + row // plan.tile_pixels
        y = pixel // plan.out_width * stride - padding + member // kernel
        x = pixel % plan.out_width * stride - padding + member % kernel
        place = (words.column[use] + starts[words.layer[use] - plan.record], y, x)
        got[place] = words.data[use, lane]
        cycle[place] = words.cycle[use]
        np.add.at(seen, place, 1)
    return got, seen, cycle


def covered(layer: Layer, image: Image, number: int) -> NDArray[np.bool_]:
    """Return which pixels [H, W] of a layer's map some OR-pool window reads; all without a pool."""
    plan = image.plans[number]
    mask = np.ones((plan.height, plan.width), bool)
    if layer.or_pool:
        pool = layer.or_pool
        for axis, (size, windows) in enumerate(((plan.height, plan.out_height), (plan.width, plan.out_width))):
            reach = np.zeros(size, bool)
            for window in range(windows):
                start = window * pool.stride - pool.padding
                reach[max(0, start) : start + pool.kernel] = True
            mask &= reach[:, None] if axis == 0 else reach[None, :]
    return mask


def compare(network: Network, image: Image, trace: Trace, run: Run, lanes: int) -> list[LayerResult]:
    """Compare every neuron word, every fiber, every current and read-out of one image.

    The counters of a layer run from the completion of the layer before it to its own, the last one's to the end of
    the run, so they sum to the run's. Pixels of a convolution that no pooling window reads are neither computed by the
    accelerator nor counted.
    Raises AssertionError when a neuron stage was not recorded completely, which is a fault of the bench.
    """
    assert run.words is not None
    memory = np.frombuffer(run.dump, np.uint8)
    results = []
    stats = memory[image.stats : image.stats + STATS_BYTES * image.records]
    records = stats.view("<u4").reshape(-1, STATS_BYTES // 4)
    before = dict.fromkeys(STATS, 0)
    for number, layer in enumerate(network.layers):
        result = LayerResult(layer.name)
        expected = trace.layers[layer.name]
        if expected.words is not None:
            golden = np.asarray(expected.words)
            got, seen, cycle = neuron_words(run.words, number, layer, image, lanes)
            wanted = np.broadcast_to(covered(layer, image, number), golden.shape)
            assert (seen[wanted] > 0).all(), f"layer {layer.name}: neuron words are missing in the record"
            differing = np.where(wanted, got ^ golden, 0)
            spikes = layer.spikes
            result.neuron_steps = int(wanted.sum()) * (network.steps if spikes else 1)
            result.mismatches += int((np.bitwise_count(differing) if spikes else differing != 0).sum())
            if differing.any():
                place = min(zip(*np.nonzero(differing), strict=True), key=lambda p: (cycle[p], p))
                first = _first_bit if spikes else _first_word
                result.first = first(layer.name, "spike" if spikes else "word", place, golden=golden, rtl=got,
                                     cycle=int(cycle[place]))
        if layer.name in image.tensors and expected.output is not None:
            tensor = image.tensors[layer.name]
            masks = memory[tensor.masks :][: tensor.pixels * tensor.mask_stride].reshape(tensor.pixels, -1)
            slots = memory[tensor.values :][: tensor.pixels * tensor.slot_stride].reshape(tensor.pixels, -1)
            stored = unpack(masks, slots, tensor.channels, tensor.word_log2, tensor.height, tensor.width)
            _add_fiber(result, layer, np.asarray(expected.output), stored)
        if layer.name in image.currents:
            region = image.currents[layer.name]
            raw = memory[region.base :][: region.size].view("<i4")
            stored = raw.reshape(region.height, region.width, region.channels, region.depth).astype(np.int64)
            golden = (np.asarray(expected.currents).transpose(2, 3, 1, 0) if layer.store_currents
                      else np.asarray(expected.readout).transpose(1, 2, 0)[..., None])
            _add_currents(result, golden, stored, stepwise=layer.store_currents)
        last = number == len(network.layers) - 1
        end = image.plans[number].record + len(image.plans[number].parts) - 1
        after = run.counters if last else dict(zip(STATS, map(int, records[end]), strict=False))
        result.counters = {name: after[name] - before[name] for name in STATS[:-1]}
        before = after
        results.append(result)
    return results


def _first(layer: str, what: str, y: int, x: int, *, channel: int, t: int | None, golden: int, rtl: int,
           cycle: int | None) -> dict[str, Any]:
    """Return a first difference: every kind has the same keys, None where there is no such thing.

    what : ``"spike"`` at the neuron stage or ``"word"`` at the requantiser, or in memory ``"fiber"`` (one bit of a stored
        word of spikes, or a requantised word), ``"current"`` or ``"readout"`` (summed over t)
    cycle : when the word left its neuron; what lies in memory has none
    """
    return {"layer": layer, "in": what, "channel": channel, "y": y, "x": x, "t": t, "golden": golden, "rtl": rtl,
            "cycle": cycle}


def _first_bit(layer: str, what: str, place: tuple[int, ...], *, golden: NDArray[np.int64], rtl: NDArray[np.int64],
               cycle: int | None) -> dict[str, Any]:
    """Return the lowest bit in which two words at ``place`` of [C, H, W] differ, as `_first`."""
    differing = int(golden[place] ^ rtl[place])
    step = (differing & -differing).bit_length() - 1
    channel, y, x = map(int, place)
    return _first(layer, what, y, x, channel=channel, t=step, golden=int(golden[place] >> step & 1),
                  rtl=int(rtl[place] >> step & 1), cycle=cycle)


def _first_word(layer: str, what: str, place: tuple[int, ...], *, golden: NDArray[np.int64], rtl: NDArray[np.int64],
                cycle: int | None) -> dict[str, Any]:
    """Return two requantised words at ``place`` of [C, H, W], as `_first`; they have no t."""
    channel, y, x = map(int, place)
    return _first(layer, what, y, x, channel=channel, t=None, golden=int(golden[place]), rtl=int(rtl[place]), cycle=cycle)


def _add_fiber(result: LayerResult, layer: Layer, golden: NDArray[np.int64], rtl: NDArray[np.int64]) -> None:
    """Add the differences of stored words [C, H, W]."""
    differing = golden ^ rtl
    result.mismatches += int(np.count_nonzero(differing))
    if result.first is None and differing.any():
        first = _first_bit if layer.spikes else _first_word
        result.first = first(result.name, "fiber", tuple(np.argwhere(differing)[0]), golden=golden, rtl=rtl, cycle=None)


def _add_currents(result: LayerResult, golden: NDArray[np.int64], rtl: NDArray[np.int64], *, stepwise: bool) -> None:
    """Add the differences of stored currents [H, W, C, T], or of sums over t [H, W, C, 1]."""
    differing = golden != rtl
    result.mismatches += int(differing.sum())
    if result.first is None and differing.any():
        y, x, channel, step = place = tuple(int(i) for i in np.argwhere(differing)[0])
        result.first = _first(result.name, "current" if stepwise else "readout", y, x, channel=channel,
                              t=step if stepwise else None, golden=int(golden[place]), rtl=int(rtl[place]), cycle=None)
