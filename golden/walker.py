"""Convolution walk: which mask bytes make up the rows of a tile, in the order in which they are fetched."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from golden.kept_taps import walked_taps

Fields = Mapping[str, int]


@dataclass(frozen=True)
class ChunkRun:
    """Mask bytes of one chunk of one lane's row.

    address, value_address : bytes from address 0; 0 for a silent chunk
    bytes : 0 for a silent chunk (padding, lane beyond the last pixel, pool member outside the map)
    lane : of the row
    fiber_end : last chunk of its tap; row_end : last chunk of the last lane's row
    """

    address: int
    bytes: int
    lane: int
    value_address: int
    fiber_end: bool
    row_end: bool


def chunk_table(passes: Sequence[Fields], chunk_bits: int) -> list[tuple[int, bool]]:
    """Return (mask bytes, last chunk of its pass) of every chunk of a row; ``passes`` as in `walker`."""
    table = []
    for sweep in passes:
        tap = [chunk_bits // 8] * (sweep["tap_chunks"] - 1) + [sweep["last_bytes"]]
        row = tap * len(walked_taps(sweep))
        table += [(size, n == len(row) - 1) for n, size in enumerate(row)]
    return table


def pixels(layer: Fields, lanes: int) -> Iterator[list[tuple[int, int] | None]]:
    """Yield, tile after tile, the output pixel (y, x) of every lane, row-major; None beyond the last pixel."""
    count = layer["out_height"] * layer["out_width"]
    for tile in range(-(-count // lanes)):
        places = range(tile * lanes, (tile + 1) * lanes)
        yield [divmod(place, layer["out_width"]) if place < count else None for place in places]


def walker(layer: Fields, passes: Sequence[Fields], *, base: int, input_offset: int, lanes: int,
           chunk_bits: int) -> Iterator[list[ChunkRun]]:
    """Yield the walk of every (tile, pool member): per pass, tap (ky, kx) and chunk of the tap, one run per lane.

    layer, passes : fields of `golden.formats.LAYER`, and of `golden.formats.PASS` and `golden.formats.TAPS`
    base : address of offset 0; ``input_offset`` is added for passes with ``input``

    Output pixels are those after pooling; a member is the pixel of the pooling window that stands for them. Tap
    (ky, kx) of output pixel (y, x) is pixel ``(y*stride - padding + ky, x*stride - padding + kx)`` of the operand.
    """
    members = list(product(range(layer["pool_kernel"]), repeat=2))
    for tile in pixels(layer, lanes):
        for member in members:
            centers = [_center(layer, place, member) for place in tile]
            yield [run for sweep in passes
                   for run in _sweep(sweep, centers, origin=base + (input_offset if sweep["input"] else 0),
                                     chunk_bytes=chunk_bits // 8, last_pass=sweep is passes[-1])]


def _center(layer: Fields, place: tuple[int, int] | None, member: tuple[int, ...]) -> tuple[int, int] | None:
    if place is None:
        return None
    y, x = (at * layer["pool_stride"] - layer["pool_padding"] + offset
            for at, offset in zip(place, member, strict=True))
    return (y, x) if 0 <= y < layer["height"] and 0 <= x < layer["width"] else None


def _sweep(sweep: Fields, centers: Sequence[tuple[int, int] | None], *, origin: int, chunk_bytes: int,
           last_pass: bool) -> Iterator[ChunkRun]:
    taps = walked_taps(sweep)
    for tap, chunk in product(taps, range(sweep["tap_chunks"])):
        fiber_end = chunk == sweep["tap_chunks"] - 1
        for lane, center in enumerate(centers):
            row_end = last_pass and fiber_end and tap == taps[-1] and lane == len(centers) - 1
            pixel = None if center is None else _tap_pixel(sweep, center, tap)
            if pixel is None:
                yield ChunkRun(0, 0, lane, 0, fiber_end, row_end)
                continue
            yield ChunkRun(origin + sweep["masks"] + pixel * sweep["mask_stride"] + chunk * chunk_bytes,
                           sweep["last_bytes"] if fiber_end else chunk_bytes, lane,
                           origin + sweep["values"] + pixel * sweep["slot_stride"], fiber_end, row_end)


def _tap_pixel(sweep: Fields, center: tuple[int, int], tap: tuple[int, int]) -> int | None:
    y, x = (at * sweep["stride"] - sweep["padding"] + offset for at, offset in zip(center, tap, strict=True))
    return y * sweep["width"] + x if 0 <= y < sweep["height"] and 0 <= x < sweep["width"] else None
