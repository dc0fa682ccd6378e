"""Split a layer whose one output row is longer than a lane holds into layers that read some map rows each."""

from collections.abc import Iterator
from dataclasses import replace

from array_api_compat import array_namespace

from golden.arch import Arch, word_bits
from golden.network import Layer


def split_rows(layer: Layer, arch: Arch, operand_bits: int) -> tuple[Layer, ...]:
    """Return layers that together compute ``layer``, which comes last under its own name.

    layer : with an output map of 1 x 1 and no padding, as a linear layer behind a map has
    operand_bits : bits of an operand word
    Each one stores its currents, which the next one adds: sums are exact, so nothing changes. A layer that fits the build,
    or of which not even one map row does, is returned alone.
    """
    heights = {p.weight.shape[2] for p in layer.passes}
    chunks = sum(p.weight.shape[3] * -(-p.weight.shape[1] // arch.chunk_bits) for p in layer.passes)
    bits = sum(p.weight.shape[3] * p.weight.shape[1] for p in layer.passes) * word_bits(operand_bits)
    most = min(arch.max_chunks // chunks, arch.row_value_bits // bits) if layer.passes else 0
    if len(heights) != 1 or not 1 <= most < (height := heights.pop()):
        return (layer,)
    return tuple(_parts(layer, most, height))


def _parts(layer: Layer, most: int, height: int) -> Iterator[Layer]:
    residual = layer.residual
    for number, first in enumerate(range(0, height, most)):
        stop = min(first + most, height)
        passes = tuple(replace(p, weight=p.weight[:, :, first:stop, :], rows=(first, stop)) for p in layer.passes)
        if stop == height:
            yield replace(layer, passes=passes, residual=residual)
        else:
            name = f"{layer.name}.rows{number}"
            yield Layer(name=name, passes=passes, bias=array_namespace(layer.bias).zeros_like(layer.bias),
                        residual=residual, store_currents=True, origin=layer.origin)
            residual = name
