"""Column stream: the weight columns that lie in its bytes, every other one of a layer."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from golden.byte_stream import byte_stream
from golden.formats import COLUMN_BYTES
from golden.tap_table import Tap


@dataclass(frozen=True)
class Chunk:
    """One chunk of a column.

    place : which chunk of a row it stands beside; mask : bitmask
    weights : packed signed weights of the set bits, in their order
    last : the sums of a pass end with it
    """

    place: int
    mask: int
    weights: tuple[int, ...]
    last: bool


@dataclass(frozen=True)
class Column:
    """One output channel: signed parameters of 32 bits, the team of lanes that it goes to, the chunks that are there."""

    bias: int
    threshold: int
    team: int
    chunks: tuple[Chunk, ...]


def column_stream(stream: bytes, columns: int, taps: Sequence[Tap], weight_bits: int, teams: int = 1,
                  number: int = 0) -> list[Column]:
    """Return the even (``number`` 0) or odd (1) columns of a layer, which teams take in turn.

    stream : of each column bias, threshold, one bit per chunk of a row, lowest bits first, in whole bytes, and for each
        bit that is set a mask and the weights of its set bits, each in whole bytes
    columns : of the layer, 1..65535; taps : the chunks of a row
    weight_bits : 4 or 8; the first weight of a byte is its low nibble

    Sums end with the last chunk of a column and with the last chunk of each pass.
    Raises IndexError when the bytes end before the columns.
    """
    at, half, found = 0, 2 ** (weight_bits - 1), []

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        if at > len(stream):
            raise IndexError(f"column stream: needs {at} bytes or more, not {len(stream)}")
        return stream[at - size : at]

    for column in range(number, columns, 2):
        bias, threshold = struct.unpack("<ii", take(COLUMN_BYTES))
        bits = byte_stream(take(-(-len(taps) // 8)), 8, 1)
        there = [chunk for chunk in range(len(taps)) if bits[chunk]]
        chunks = []
        for place in there:
            mask = int.from_bytes(take(taps[place].bytes), "little")
            count = mask.bit_count()
            units = byte_stream(take(-(-count * weight_bits // 8)), 8, weight_bits)[:count]
            chunks.append(Chunk(place, mask, tuple((unit ^ half) - half for unit in units),
                                place == there[-1] or taps[place].end))
        found.append(Column(bias, threshold, column % teams, tuple(chunks)))
    return found


def layer_columns(streams: bytes, columns: int, taps: Sequence[Tap], weight_bits: int, teams: int = 1) -> list[Column]:
    """Return all columns of a layer, from its even stream and the odd one of the same size behind it; see `column_stream`."""
    size, found = len(streams) // 2, [Column(0, 0, 0, ())] * columns
    for number, stream in enumerate((streams[:size], streams[size:])):
        found[number::2] = column_stream(stream, columns, taps, weight_bits, teams, number)
    return found
