"""Words of the lanes of the loom, brought to the pixels that they belong to."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Words of one group of rows: per lane the word, whether the lane holds a row, and the pixel that the row belongs to."""

    words: tuple[int, ...]
    held: tuple[bool, ...]
    target: tuple[int, ...]


def word_route(groups: Sequence[Group], *, merge: bool) -> list[list[int]]:
    """Return the words of the pixels after each group of a column: [groups, lanes].

    ``routed[q] = OR of words[n] over the lanes n with held[n] and target[n] = q``; with ``merge`` of this group and of all
    before, without it of this group alone. Rows with one target are the members of a pooling window.

    Source: `golden.or_pool.or_pool`, DESIGN 4, OR-pool of the tail.
    """
    out: list[list[int]] = []
    for number, group in enumerate(groups):
        routed = list(out[number - 1]) if merge and number else [0] * len(group.words)
        for word, held, target in zip(group.words, group.held, group.target, strict=True):
            routed[target] |= word if held else 0
        out.append(routed)
    return out
