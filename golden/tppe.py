"""Exact dot products of one row with one column, all word bits at once."""

from collections.abc import Sequence


def tppe(row: Sequence[int], column: Sequence[int], *, t_max: int, steps: int) -> tuple[list[int], int]:
    """Return (dot product of each word bit, corrections) of one output.

    row : [K] words of ``t_max`` bits, 0 is silent
    column : [K] signed weights, 0 is pruned
    steps : 1..t_max, timesteps in use

    ``pseudo = sum_k w[k]`` over the matches (word and weight non-zero), ``correction[b] = sum_k w[k]`` over the
    matches whose bit b is 0, ``dot[b] = pseudo - correction[b]``. ``corrections`` counts the matches with a zero
    among their low ``steps`` bits.

    Source: LoAS section IV-C, pseudo-accumulator and correction accumulators.
    """
    matches = [(word, weight) for word, weight in zip(row, column, strict=True) if word and weight]
    pseudo = sum(weight for _, weight in matches)
    dots = [pseudo - sum(weight for word, weight in matches if not word >> bit & 1) for bit in range(t_max)]
    used = (1 << steps) - 1
    return dots, sum(word & used != used for word, _ in matches)
