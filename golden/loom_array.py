"""Array of the loom: which lane holds which row of a tile, and the dots of its rows with all columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from golden.array import array
from golden.column_stream import Chunk, Column
from golden.pixel_loader import Pixel
from golden.tap_table import tap_table
from golden.tile_rows import Place, Row, Tile, deal, row_words

Fields = Mapping[str, int]
Words = dict[tuple[int, int], int]


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
    columns : what `golden.column_stream.layer_columns` returns
    bits : most bits of a word

    A dot is ``sum over k of weights[k] * (words[k] >> b & 1)`` over the taps and channels k of one pass.
    """
    held = seats(layer, passes, tile, pixels, lanes)
    team = lanes >> layer["teams_log2"]
    rows = [[_row(passes, row.center, pixels, layer["operand_log2"], chunk_bits) if row else None for row in group]
            for group in held]
    ends = [tap.end for tap in tap_table(passes, layer["span_log2"], chunk_bits)]
    for at, column in enumerate(columns):
        of_pass = [[chunk for chunk in column.chunks if sum(ends[: chunk.place]) == number] for number in range(len(passes))]
        for (group, held_rows), (number, chunks) in product(enumerate(rows), enumerate(of_pass)):
            pairs = {lane: _pairs(held_rows[lane] or {}, chunks)
                     for lane in range(column.team * team, (column.team + 1) * team)}
            yield Dots(at, group, number, {
                lane: tuple(array([word for word, _ in found], [weight for _, weight in found], bits))
                for lane, found in pairs.items()}, sum(len(found) for found in pairs.values()))


def _row(passes: Sequence[Fields], center: Place, pixels: Sequence[Sequence[Pixel]], word_log2: int,
         chunk_bits: int) -> Words:
    """Return the words of a row by (chunk of the row, position); a set bit of a mask may stand for a word of 0."""
    row: Words = {}
    chunk = 0
    for sweep, loaded in zip(passes, pixels, strict=True):
        there = {(pixel.y, pixel.x): pixel for pixel in loaded}
        y, x = (at * sweep["stride"] - sweep["padding"] for at in center)
        for ky, kx in product(range(sweep["kernel_height"]), range(sweep["kernel_width"])):
            if pixel := there.get((y + ky, x + kx)):
                joined = sum(line << number * chunk_bits for number, line in enumerate(pixel.lines))
                places = [(chunk + n, bit) for n, kept in enumerate(pixel.chunks) for bit in range(chunk_bits)
                          if kept.mask >> bit & 1]
                row.update({place: (joined >> (n << word_log2)) % 2 ** 2**word_log2 for n, place in enumerate(places)})
            chunk += sweep["tap_chunks"]
    return row


def _pairs(row: Words, chunks: Sequence[Chunk]) -> list[tuple[int, int]]:
    """Return (word, weight) of every place where both row and column have one."""
    found = []
    for chunk in chunks:
        bits = (bit for bit in range(chunk.mask.bit_length()) if chunk.mask >> bit & 1)
        found += [(row[chunk.place, bit], weight) for bit, weight in zip(bits, chunk.weights, strict=True)
                  if (chunk.place, bit) in row]
    return found
