"""Lockstep array: the dots of a tile of rows with all columns, and the cycles its chunks take."""

from collections.abc import Sequence

Masks = Sequence[int]


def lockstep_cycles(rows: Sequence[Masks], columns: Sequence[Masks]) -> int:
    """Return ``sum over columns and chunks of max(1, most matches of any lane)``.

    rows : masks of every lane, one per chunk; columns : masks of every column, cut the same way
    """
    return sum(max(1, *((row[chunk] & mask).bit_count() for row in rows))
               for column in columns for chunk, mask in enumerate(column))


def array(words: Sequence[int], weights: Sequence[int], bits: int) -> list[int]:
    """Return the dot of every bit of a row's words with a column: ``sum over k of weights[k] * (words[k] >> b & 1)``.

    words : 0..2^bits - 1, silent inputs are 0; weights : signed, pruned inputs are 0; both of one length
    """
    return [sum(weight for word, weight in zip(words, weights, strict=True) if word >> b & 1) for b in range(bits)]
