"""Time-indexed sums of one lane: the weights that arrive at each tick, for one row and one column."""

from collections.abc import Sequence


def ttfs_sums(row: Sequence[int], column: Sequence[int], *, slots: int) -> list[int]:
    """Return the sum of weights of every slot: ``out[e] = sum of column[k] over the matches with row[k] = e``.

    row : [K] earliness words, 0 is silent; column : [K] signed weights, 0 is pruned
    slots : one more than the largest word; slot 0 stays 0

    An earliness ``e = window - n`` names the tick n, so slots from the window down to 1 are the ticks in their order.
    """
    sums = [0] * slots
    for word, weight in zip(row, column, strict=True):
        if word:
            sums[word] += weight
    return sums
