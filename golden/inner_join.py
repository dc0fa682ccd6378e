"""Matches of one row chunk with one column chunk."""

from collections.abc import Sequence

from golden.fast_prefix_sum import fast_prefix_sum
from golden.laggy_prefix_sum import GROUP_BITS
from golden.priority_encoder import priority_encoder
from golden.spike_buffer import RowChunk


def inner_join(row: RowChunk, mask_b: int, weights: Sequence[int]) -> list[tuple[int, int]]:
    """Return (place of the word in the row, weight) of each position set in both masks, lowest position first.

    row : chunk of the row
    mask_b : bitmask of the column's chunk
    weights : [popcount(mask_b)] packed weights of the chunk, signed

    ``place = base + bases[position // 16] + set bits of the row's group below position``;
    ``weight = weights[set bits of mask_b below position]``.

    Source: LoAS section IV-C, the inner join with one fast and one laggy prefix sum.
    """
    matches = []
    left = row.mask & mask_b
    while left:
        position, left = priority_encoder(left)
        group, within = divmod(position, GROUP_BITS)
        below = fast_prefix_sum(row.mask >> (group * GROUP_BITS), within)
        matches.append((row.base + (0, *row.bases)[group] + below, weights[fast_prefix_sum(mask_b, position)]))
    return matches
