"""Weight tile: the columns that lie in its bytes."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from golden.byte_stream import byte_stream
from golden.formats import ALIGN, TILE, unpack

PARAMETER_BYTES = 8


@dataclass(frozen=True)
class Column:
    """One output channel of a tile.

    bias, threshold : signed, 32 bits
    chunks : (bitmask, packed signed weights) of each chunk of the column, in the order of the row's chunks
    """

    bias: int
    threshold: int
    chunks: tuple[tuple[int, tuple[int, ...]], ...]


def weight_buffer(tile: bytes, chunk_bytes: Sequence[int], weight_bits: int) -> list[Column]:
    """Return the columns of one tile: parameters of all columns, then all masks, then all weights.

    tile : header, parameters, masks, values, each part at a multiple of 64 bytes
    chunk_bytes : [chunks of a column] mask bytes of each chunk
    weight_bits : 4 or 8; the first weight of a byte is its low nibble

    Source: DESIGN 4, fiber; `golden.formats.TILE`.
    """
    head = unpack(TILE, tile[:ALIGN])
    units = byte_stream(tile[head["values"] :], 8, weight_bits)
    half, mask_at, value_at, columns = 1 << (weight_bits - 1), head["masks"], 0, []
    for number in range(head["columns"]):
        bias, threshold = struct.unpack_from("<ii", tile, ALIGN + PARAMETER_BYTES * number)
        chunks = []
        for size in chunk_bytes:
            mask = int.from_bytes(tile[mask_at : mask_at + size], "little")
            raw = units[value_at : value_at + mask.bit_count()]
            chunks.append((mask, tuple((unit ^ half) - half for unit in raw)))
            mask_at, value_at = mask_at + size, value_at + mask.bit_count()
        columns.append(Column(bias, threshold, tuple(chunks)))
    return columns
