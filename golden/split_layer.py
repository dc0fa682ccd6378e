"""Split a layer whose rows are longer than a lane holds into layers that add up."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from array_api_compat import array_namespace

from golden.arch import Arch, word_bits
from golden.fiber import mask_bytes
from golden.formats import tile_bytes
from golden.kept_taps import kept_taps
from golden.network import Layer, Pass


def split_layer(layer: Layer, arch: Arch, operand_bits: int, *, flat: bool) -> tuple[Layer, ...]:
    """Return layers that together compute ``layer``, which comes last under its own name.

    operand_bits : bits of an operand word
    flat : the output map is 1 x 1 and no pass pads, as behind a flattened map: a pass may be cut between map rows
    Each one takes some of the passes, or of the map rows of a pass, and stores its currents, which the next one adds: sums
    are exact, so nothing changes. A layer whose rows and columns fit the build, or that no cut makes fit, is
    returned alone.
    """
    width = word_bits(operand_bits)
    groups: list[list[Pass]] = [[]]
    for p in layer.passes:
        for piece in _pieces(p, arch, width) if flat and not _fits([p], arch, width) else (p,):
            if not _fits([piece], arch, width) or layer.or_pool is not None:
                return (layer,)
            if not _fits([*groups[-1], piece], arch, width):
                groups.append([])
            groups[-1].append(piece)
    return tuple(_chain(layer, groups))


def _fits(passes: list[Pass], arch: Arch, width: int) -> bool:
    """Return whether a lane holds a row of the passes, and half of the weight buffer any column (dataflow lockstep)."""
    sizes = [(p.weight.shape[1], int(kept_taps(p.weight, arch.skip_taps).sum())) for p in passes]
    if (sum(taps * -(-c // arch.chunk_bits) for c, taps in sizes) > arch.max_chunks
            or sum(taps * c for c, taps in sizes) * width > arch.row_value_bits):
        return False
    if arch.loom:
        return True
    values = sum((np.asarray(p.weight) != 0).sum((1, 2, 3)) for p in passes)
    masks = sum(taps * mask_bytes(c) for c, taps in sizes)
    return tile_bytes(1, masks, int(np.max(values)), arch.weight_bits) <= arch.weight_bytes


def _pieces(p: Pass, arch: Arch, width: int) -> Iterator[Pass]:
    """Yield the fewest parts of a pass that fit, one map row at least."""
    height, first = p.weight.shape[2], 0
    while first < height:
        pieces = (replace(p, weight=p.weight[:, :, first:stop, :], rows=(first, stop)) for stop in range(height, first, -1))
        piece = next((piece for piece in pieces if _fits([piece], arch, width)), None)
        piece = piece or replace(p, weight=p.weight[:, :, first : first + 1, :], rows=(first, first + 1))
        yield piece
        assert piece.rows is not None
        first = piece.rows[1]


def _chain(layer: Layer, groups: list[list[Pass]]) -> Iterator[Layer]:
    residual = layer.residual
    for number, passes in enumerate(groups[:-1]):
        name = f"{layer.name}.sum{number}"
        yield Layer(name=name, passes=tuple(passes), bias=array_namespace(layer.bias).zeros_like(layer.bias),
                    residual=residual, store_currents=True, origin=layer.origin)
        residual = name
    yield replace(layer, passes=tuple(groups[-1]), residual=residual)
