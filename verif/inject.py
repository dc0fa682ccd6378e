"""Flip one bit of the stored weights so that the comparison with golden must see it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

import numpy as np
import torch
from numpy.typing import NDArray

from golden.formats import TILE, TILE_HEADER_BYTES, unpack
from golden.network import Layer, Network, map_arrays, operand
from golden.run import LayerTrace, Trace, run_layer
from golden.window import windows
from hdl.image import Image
from hdl.weight_tiles import packed_columns
from verif.compare import covered
from verif.system import SystemFailure


@dataclass(frozen=True)
class WeightBit:
    """One bit of one stored weight.

    layer : number of the layer; sweep : number of its pass; place : (channel, c, ky, kx) in the pass's weights
    stored : number of the weight among the non-zero ones of its channel, as they are stored
    """

    layer: int
    sweep: int
    place: tuple[int, int, int, int]
    stored: int
    bit: int

    def flipped(self, layer: Layer, weight_bits: int) -> Layer:
        """Return only the weight's channel of ``layer``, with the bit flipped."""
        channel, *tap = self.place
        own = slice(channel, channel + 1)
        passes = [replace(sweep, weight=sweep.weight[own]) for sweep in layer.passes]
        weight = torch.clone(passes[self.sweep].weight)
        half = 1 << weight_bits - 1
        weight[0, *tap] = ((int(weight[0, *tap]) ^ 1 << self.bit) + half) % (2 * half) - half
        passes[self.sweep] = replace(passes[self.sweep], weight=weight)
        neuron = layer.neuron and replace(layer.neuron, threshold=layer.neuron.threshold[own])
        scale = layer.requantise and replace(
            layer.requantise, multiplier=layer.requantise.multiplier[own], shift=layer.requantise.shift[own])
        ttfs = layer.ttfs and replace(layer.ttfs, threshold=layer.ttfs.threshold[own])
        return replace(layer, passes=tuple(passes), bias=layer.bias[own], neuron=neuron, requantise=scale, ttfs=ttfs)


def weight_bits_of(number: int, layer: Layer, weight_bits: int) -> Iterator[WeightBit]:
    """Yield every bit of every stored weight of a layer: the highest below the sign first, weights as they are stored."""
    for bit in (weight_bits - 2, weight_bits - 1, *range(weight_bits - 3, -1, -1)):
        for channel in range(len(layer.bias)):
            places = [(sweep, (channel, int(c), int(y), int(x))) for sweep, each in enumerate(layer.passes)
                      for y, x, c in np.argwhere(np.asarray(each.weight[channel]).transpose(1, 2, 0))]
            for stored, (sweep, place) in enumerate(places):
                yield WeightBit(number, sweep, place, stored, bit)


def read_places(layer: Layer, traces: Sequence[Trace]) -> list[NDArray[np.bool_]]:
    """Return, per pass, which weights [C, kh, kw] meet a spike or an operand bit in some image."""
    found = []
    for sweep in layer.passes:
        kernel = sweep.weight.shape[2:]
        met = np.zeros((kernel[0] * kernel[1], sweep.weight.shape[1]), bool)
        for trace in traces:
            words = operand(operands(trace)[sweep.source], sweep)
            met |= np.stack([np.asarray(member != 0).any((1, 2)) for member in windows(
                words, kernel, stride=sweep.stride, padding=sweep.padding)])
        found.append(met.T.reshape(-1, *kernel))
    return found


def operands(trace: Trace) -> dict[str, torch.Tensor]:
    """Return every word tensor that a pass can read, by name."""
    return {**trace.inputs, **{name: layer.output for name, layer in trace.layers.items() if layer.output is not None}}


def changes(found: WeightBit, network: Network, image: Image, trace: Trace, weight_bits: int) -> bool:
    """Return whether the flipped bit changes what `verif.compare.compare` looks at in the weight's own layer.

    What it does not change there it changes nowhere: later layers read nothing else of the layer.
    """
    layer = network.layers[found.layer]
    own = slice(found.place[0], found.place[0] + 1)
    stored = {} if layer.residual is None else {layer.residual: trace.layers[layer.residual].currents[:, own]}
    broken = run_layer(found.flipped(layer, weight_bits), network.steps, operands(trace), stored)
    wanted = torch.from_numpy(covered(layer, image, found.layer))

    def seen(of: LayerTrace, part: slice) -> list[torch.Tensor]:
        arrays = [] if of.words is None or of.output is None else [torch.where(wanted, of.words[part], 0), of.output[part]]
        arrays += [of.currents[:, part]] if layer.store_currents else []
        return arrays + ([of.readout[part]] if of.readout is not None else [])

    return any(not torch.equal(one, other) for one, other in zip(
        seen(broken, slice(None)), seen(trace.layers[layer.name], own), strict=True))


def find_weight_bit(network: Network, image: Image, traces: Sequence[Trace], weight_bits: int) -> WeightBit:
    """Return the first bit, of one weight of each layer in turn, whose flip the comparison of these images must see.

    traces : golden runs in torch
    Raises `SystemFailure` when there is none.
    """
    network = map_arrays(network, torch.asarray)
    met = {number: read_places(layer, traces) for number, layer in enumerate(network.layers)}
    turns = zip_longest(*(weight_bits_of(number, layer, weight_bits) for number, layer in enumerate(network.layers)))
    for found in chain.from_iterable(turns):
        if (found is not None and met[found.layer][found.sweep][found.place[1:]]
                and any(changes(found, network, image, trace, weight_bits) for trace in traces)):
            return found
    raise SystemFailure(f"inject: no weight bit changes what is compared in the first {len(traces)} images; "
                        "try: more --images, or data that makes neurons fire")


def flip(image: Image, found: WeightBit, layer: Layer, weight_bits: int) -> Image:
    """Return ``image`` with one bit of its weights flipped; ``layer`` is the one that ``found`` names."""
    counts = [len(values) for _, values in packed_columns(layer)]
    at, channel = image.plans[found.layer].weights[0], found.place[0]
    tiles = [(part.start, tile) for part in image.plans[found.layer].parts for tile in part.tiles]
    start = stop = 0
    for part_start, tile in tiles:
        head = unpack(TILE, tile[:TILE_HEADER_BYTES])
        start = max(part_start, stop)
        stop = start + head["columns"]
        if channel < stop:
            break
        at += len(tile)
    place = (sum(counts[start:channel]) + found.stored) * weight_bits
    data = bytearray(image.data)
    data[at + head["values"] + place // 8] ^= 1 << place % 8 + found.bit
    return replace(image, data=bytes(data))
