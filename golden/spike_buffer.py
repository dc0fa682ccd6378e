"""Row store of a lane: what it keeps of each row chunk, and the packed words cut into lines."""

from collections.abc import Sequence
from dataclasses import dataclass

from golden.laggy_prefix_sum import laggy_prefix_sum


@dataclass(frozen=True)
class RowChunk:
    """One chunk of a row.

    mask : bitmask of ``chunk_bits`` bits
    base : place of the chunk's first word among the packed words of the row
    bases : set bits of ``mask`` below position 16 g, for g = 1, 2, ... chunk_bits / 16 - 1
    """

    mask: int
    base: int
    bases: tuple[int, ...]


def spike_buffer(masks: Sequence[int], words: Sequence[int], word_log2: int,
                 chunk_bits: int) -> tuple[list[RowChunk], list[int]]:
    """Return (row chunks, lines) of one row: ``base[c] = popcount(masks[0]) + ... + popcount(masks[c - 1])``.

    masks : [chunks], ``chunk_bits`` bits each
    words : [non-zero inputs of the row], packed in position order, 0..2^(2^word_log2) - 1 each
    returns lines of ``chunk_bits`` bits: word n lies at bit ``n << word_log2`` of the joined lines, first line lowest

    Source: DESIGN 4, fiber; LoAS section IV-C, group bases of the laggy prefix sum.
    """
    chunks, base = [], 0
    for mask in masks:
        bases, count = laggy_prefix_sum(mask, chunk_bits)
        chunks.append(RowChunk(mask, base, tuple(bases)))
        base += count
    joined = sum(word << (place << word_log2) for place, word in enumerate(words))
    count = -(-(len(words) << word_log2) // chunk_bits)
    return chunks, [joined >> (line * chunk_bits) & ((1 << chunk_bits) - 1) for line in range(count)]
