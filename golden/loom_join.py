"""Matches of the rows that stay in a lane of the loom with the column chunks that stream past."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from golden.inner_join import inner_join
from golden.spike_buffer import RowChunk


@dataclass(frozen=True, kw_only=True)
class ColumnChunk:
    """One chunk of a column.

    mask : bitmask of ``chunk_bits`` bits
    address : place of its row chunks in the slots; segment : which of the slots of a row holds them
    line : first line of words of its tap in the slot
    lines : lines of weights that came with it, ``weights_of_a_line`` packed weights each
    last : the sums of a pass end with it
    """

    mask: int
    address: int
    segment: int
    line: int
    lines: int
    last: bool


@dataclass(frozen=True, kw_only=True)
class LoomMatch:
    """One match, or the end of a sum without one, whose places are all 0.

    slot : row slot; word : number of the word behind line ``line`` of its words
    weight_line, weight : line of the window and place in that line
    hit : there is a match; end : the sums of all rows end with it
    """

    slot: int = 0
    line: int = 0
    word: int = 0
    weight_line: int = 0
    weight: int = 0
    hit: bool = False
    end: bool = False


def loom_join(slots: Sequence[Mapping[int, RowChunk]], chunks: Iterable[ColumnChunk], *, span_log2: int,
              weights_of_a_line: int, window_lines: int, first_line: int = 0) -> list[list[LoomMatch]]:
    """Return the matches of each chunk: slot after slot, positions from low to high.

    slots : [rows] of row chunks by address; a chunk that is not there is silent
    span_log2 : log2 of the slots of a row; slot s holds segment ``s // (rows >> span_log2)`` of row
        ``s % (rows >> span_log2)``
    window_lines : lines of the ring that weights are written to, the first one at ``first_line``

    The last match of a chunk that is ``last`` ends the sums; where such a chunk has no match, an entry without ``hit`` does.

    Source: DESIGN 4, fiber; LoAS section IV-C, the inner join.
    """
    out, begin = [], first_line
    for chunk in chunks:
        matches = []
        for slot, held in enumerate(slots):
            if slot // (len(slots) >> span_log2) != chunk.segment or chunk.address not in held:
                continue
            for word, weight in inner_join(held[chunk.address], chunk.mask, range(chunk.mask.bit_count())):
                line, place = divmod(weight, weights_of_a_line)
                matches.append(LoomMatch(slot=slot, line=chunk.line, word=word, weight_line=(begin + line) % window_lines,
                                         weight=place, hit=True))
        if chunk.last:
            ended = {**vars(matches[-1] if matches else LoomMatch()), "end": True}
            matches[-1:] = [LoomMatch(**ended)]
        out.append(matches)
        begin += chunk.lines
    return out
