"""Words of one head of one token."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class HeadWord:
    """A non-zero word of a channel of the head; ``none``: the token has none; ``end``: last entry of the token."""

    channel: int
    word: int
    none: bool
    end: bool


def head_words(words: Sequence[int], start: int, columns: int) -> list[HeadWord]:
    """Return the entries of the channels ``start`` to ``start + columns`` of a token's ``words`` [C], in order."""
    found = [(channel, word) for channel, word in enumerate(words[start : start + columns]) if word]
    if not found:
        return [HeadWord(0, 0, True, True)]
    return [HeadWord(channel, word, False, n == len(found) - 1) for n, (channel, word) in enumerate(found)]
