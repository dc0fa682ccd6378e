"""Numbers of tokens from the words of activation memories, channel by channel, of one tensor or of two side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TokenMap:
    """Where the numbers of a tensor [tokens, channels] lie.

    bank : of the two memories
    base : word of plane 0, token 0
    plane : words from a plane to the next
    bits : of a number, 1..16, with sign where there are 16
    signed : the highest bit counts negative
    """

    bank: int = 0
    base: int = 0
    plane: int = 0
    bits: int = 8
    signed: bool = True


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A number of each tensor; ``b`` is 0 where only one is read."""

    a: int
    b: int


def address(tensor: TokenMap, token: int, group: int, groups: int, plane: int) -> int:
    """Return the word that holds a plane of ``rows`` channels of a token."""
    return tensor.base + plane * tensor.plane + token * groups + group


def number(tensor: TokenMap, words: Sequence[int], at: int) -> int:
    """Return the number whose bits stand at place ``at`` of the words of its planes."""
    found = sum((word >> at & 1) << plane for plane, word in enumerate(words))
    return found - (1 << tensor.bits) if tensor.signed and found >> tensor.bits - 1 else found


def token_reader(memories: Sequence[Sequence[int]], a: TokenMap, b: TokenMap | None = None, *, tokens: int, channels: int,
                 rows: int) -> Iterator[Pair]:
    """Yield the numbers of all tokens, channel by channel.

    memories : words of the two banks; bit n of a word is channel n of its group of ``rows``

    Source: imc 10, B10 and the row units of workloads 5.2; decision 0015, words.
    """
    groups = -(-channels // rows)
    for token in range(tokens):
        for channel in range(channels):
            group, at = divmod(channel, rows)
            values = [number(t, [memories[t.bank][address(t, token, group, groups, n)] for n in range(t.bits)], at) if t else 0
                      for t in (a, b)]
            yield Pair(a=values[0], b=values[1])
