"""Array of the loom: which lane holds which row of a tile, and the dots of its rows with all columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from golden.array import array
from golden.column_stream import Column
from golden.pixel_loader import Pixel
from golden.tap_table import tap_table
from golden.tile_rows import Place, Row, Tile, deal, row_words

Fields = Mapping[str, int]
Words = list[dict[int, int]]


@dataclass(frozen=True)
class Dots:
    """Dots of one pass of a column with the rows of one group.

    lanes : per lane of the column's team, by the lane's number, the dot of every word bit; of no row: 0
    matches : of all these lanes
    """

    column: int
    group: int
    number: int
    lanes: Mapping[int, tuple[int, ...]]
    matches: int


def seats(layer: Fields, passes: Sequence[Fields], tile: Tile, pixels: Sequence[Sequence[Pixel]],
          lanes: int) -> list[list[Row | None]]:
    """Return the row of every group and lane, None without one; arguments as in `loom_array`."""
    words = {(pixel.y, pixel.x): pixel.words for pixel in pixels[0]}
    dealt = deal(layer, row_words(tile, passes[0], words), lanes)
    return [[tile.rows[number] if number < len(tile.rows) else None
             for number in (numbers[lane % len(numbers)] for lane in range(lanes))] for numbers in dealt]


def loom_array(layer: Fields, passes: Sequence[Fields], tile: Tile, pixels: Sequence[Sequence[Pixel]],
               columns: Sequence[Column], *, lanes: int, chunk_bits: int, bits: int) -> Iterator[Dots]:
    """Yield the dots of a tile in their order: columns, groups, passes.

    layer, passes : fields of `golden.formats.LAYER` and `golden.formats.PASS`
    tile : of `golden.tile_rows.tile_rows`
    pixels : of every pass, what `golden.pixel_loader.pixel_loader` returns for the tile
    columns : what `golden.column_stream.column_stream` returns
    bits : most bits of a word

    A dot is ``sum over k of weights[k] * (words[k] >> b & 1)`` over the taps and channels k of one pass.
    """
    held = seats(layer, passes, tile, pixels, lanes)
    team = lanes >> layer["teams_log2"]
    rows = [[_row(passes, row.center, pixels, layer["operand_log2"]) if row else [] for row in group] for group in held]
    ends = [tap.end for tap in tap_table(passes, layer["span_log2"], chunk_bits)]
    for at, column in enumerate(columns):
        for group in range(len(held)):
            for number in range(len(passes)):
                dots, matches = {}, 0
                for lane in range(column.team * team, (column.team + 1) * team):
                    words, weights = _pairs(rows[group][lane], column, [sum(ends[: c.place]) == number for c in column.chunks])
                    dots[lane] = tuple(array(words, weights, bits))
                    matches += sum(word != 0 for word in words)
                yield Dots(at, group, number, dots, matches)


def _row(passes: Sequence[Fields], center: Place, pixels: Sequence[Sequence[Pixel]], word_log2: int) -> Words:
    """Return the words of every chunk of a row by their position."""
    row: Words = []
    for sweep, loaded in zip(passes, pixels, strict=True):
        there = {(pixel.y, pixel.x): pixel for pixel in loaded}
        corner = [at * sweep["stride"] - sweep["padding"] for at in center]
        for ky in range(sweep["kernel_height"]):
            for kx in range(sweep["kernel_width"]):
                pixel = there.get((corner[0] + ky, corner[1] + kx))
                row += _words(pixel, word_log2) if pixel else [{} for _ in range(sweep["tap_chunks"])]
    return row


def _words(pixel: Pixel, word_log2: int) -> Words:
    joined, chunk_bits = 0, 0
    for line in reversed(pixel.lines):
        joined = joined << chunk_bits | line
    return []


def _pairs(row: Words, column: Column, kept: Sequence[bool]) -> tuple[list[int], list[int]]:
    """Return the row's words where the column's chunks that are kept have weights, and those weights."""
    words, weights = [], []
    for chunk, keep in zip(column.chunks, kept, strict=True):
        if keep and row:
            places = [place for place in range(chunk.mask.bit_length()) if chunk.mask >> place & 1]
            words += [row[chunk.place].get(place, 0) for place in places]
            weights += chunk.weights
    return words, weights
