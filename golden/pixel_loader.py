"""Pixel loader of the loom: masks and packed words of every pixel that the rows of a tile need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from golden.laggy_prefix_sum import laggy_prefix_sum
from golden.spike_buffer import RowChunk

Fields = Mapping[str, int]
Place = tuple[int, int]


@dataclass(frozen=True)
class Pixel:
    """Fiber of one pixel.

    y, x : place in the operand
    chunks : its masks; ``base`` counts from the fiber's first word
    words : how many it has
    lines : its packed words, first word lowest, cut into ``chunk_bits`` bits; 0 behind the last word
    end : last pixel of its pass
    """

    y: int
    x: int
    chunks: tuple[RowChunk, ...]
    words: int
    lines: tuple[int, ...]
    end: bool


def pixel_loader(layer: Fields, passes: Sequence[Fields], low: Place, high: Place, memory: bytes, *, base: int,
                 input_offset: int, chunk_bits: int) -> list[list[Pixel]]:
    """Return the pixels of every pass, row-major.

    layer, passes : fields of `golden.formats.LAYER` and `golden.formats.PASS`
    low, high : (y, x) bounds of the rows' pixels before the first tap, both inside
    memory : bytes from address 0; base : address of offset 0; ``input_offset`` is added for passes with ``input``

    A pass reads the rectangle from the first tap of ``low`` to the last tap of ``high``, as far as its map goes; of one
    that misses the map, the nearest pixels.
    """
    return [_pixels(layer, sweep, low, high, memory, base + (input_offset if sweep["input"] else 0), chunk_bits)
            for sweep in passes]


def rectangle(sweep: Fields, low: Place, high: Place) -> list[Place]:
    """Return the places of the pixels that a pass reads, row-major."""
    bounds = []
    for first, last, size, kernel in zip(low, high, (sweep["height"], sweep["width"]),
                                         (sweep["kernel_height"], sweep["kernel_width"]), strict=True):
        begin = first * sweep["stride"] - sweep["padding"]
        end = last * sweep["stride"] - sweep["padding"] + kernel - 1
        bounds.append(range(min(max(begin, 0), size - 1), min(max(end, 0), size - 1) + 1))
    return [(y, x) for y in bounds[0] for x in bounds[1]]


def _pixels(layer: Fields, sweep: Fields, low: Place, high: Place, memory: bytes, origin: int,
            chunk_bits: int) -> list[Pixel]:
    places = rectangle(sweep, low, high)
    return [_pixel(layer, sweep, place, memory, origin, chunk_bits, place == places[-1]) for place in places]


def _pixel(layer: Fields, sweep: Fields, place: Place, memory: bytes, origin: int, chunk_bits: int, end: bool) -> Pixel:
    number = place[0] * sweep["width"] + place[1]
    at = origin + sweep["masks"] + number * sweep["mask_stride"]
    stored = memory[at : at + sweep["mask_stride"]]
    chunks, words = [], 0
    for start in range(0, len(stored), chunk_bits // 8):
        mask = int.from_bytes(stored[start : start + chunk_bits // 8], "little")
        bases, count = laggy_prefix_sum(mask, chunk_bits)
        chunks.append(RowChunk(mask, words, tuple(bases)))
        words += count
    bits, at = words << layer["operand_log2"], origin + sweep["values"] + number * sweep["slot_stride"]
    packed = int.from_bytes(memory[at : at + (bits + 7) // 8], "little") % 2**bits
    lines = tuple(packed >> start & 2**chunk_bits - 1 for start in range(0, bits, chunk_bits))
    return Pixel(*place, tuple(chunks), words, lines, end)
