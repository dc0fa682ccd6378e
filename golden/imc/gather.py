"""Inputs of a vector from the words of the activation memory: the rows of one crossbar after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from golden.imc.vector_walk import Vector
from golden.walker import Fields


@dataclass(frozen=True, kw_only=True)
class RowBlock:
    """What the rows of a crossbar get.

    x : [rows] inputs of ``bits`` bits
    addresses : of the words that make it up, all planes of one after those of the other; None: outside of the map, 0
    last : of the vector
    """

    x: tuple[int, ...]
    addresses: tuple[int | None, ...]
    last: bool


def gather(layer: Fields, vector: Vector, memory: Sequence[int], *, rows: int) -> Iterator[RowBlock]:
    """Yield the row blocks of a vector.

    layer : in_base, in_plane, in_row, in_groups, in_height, in_width, in_shift, in_span, chunk_log2, chunks, kernel_height,
        kernel_width, bits, per_step, as in the register map of a core; ``chunks << chunk_log2`` is ``rows``, or there is one
        chunk
    memory : words; bit n of a word is channel n of its group, 0 where there is none; those from ``in_shift`` on are read, at
        most ``in_span`` unless that is 0

    Taps (ky, kx) row-major, the groups of channels of a tap, ``chunks`` words side by side in a block, each ``2^chunk_log2``
    rows further; the rest of the last block is 0. Bit b of an input is that of plane b, with ``per_step`` of plane
    ``step * bits + b``. Word ``group`` of pixel (y, x) of a plane lies at
    ``in_base + plane * in_plane + y * in_row + x * in_groups + group``.

    Source: imc 10, B1; DESIGN 4, order (ky, kx, channel).
    """
    first = vector.step * layer["bits"] if layer["per_step"] else 0
    places = [_place(layer, vector, *entry) for entry in product(
        range(layer["kernel_height"]), range(layer["kernel_width"]), range(layer["in_groups"]))]
    for at in range(0, len(places), layer["chunks"]):
        x, addresses = [0] * rows, list[int | None]()
        for slot, place in enumerate(places[at : at + layer["chunks"]]):
            for bit in range(layer["bits"]):
                addresses.append(None if place is None else place + (first + bit) * layer["in_plane"])
                word = 0 if place is None else memory[place + (first + bit) * layer["in_plane"]] >> layer["in_shift"]
                word &= (1 << (layer["in_span"] or rows)) - 1
                for row in range(slot << layer["chunk_log2"], rows):
                    x[row] |= (word >> row - (slot << layer["chunk_log2"]) & 1) << bit
        yield RowBlock(x=tuple(x), addresses=tuple(addresses), last=at + layer["chunks"] >= len(places))


def _place(layer: Fields, vector: Vector, ky: int, kx: int, group: int) -> int | None:
    """Return the address of a word in plane 0."""
    row, column = vector.top + ky, vector.left + kx
    if not (0 <= row < layer["in_height"] and 0 <= column < layer["in_width"]):
        return None
    return layer["in_base"] + row * layer["in_row"] + column * layer["in_groups"] + group
