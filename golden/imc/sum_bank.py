"""Sums of the parts that tiles send for the outputs of a vector, in whatever order they come."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Sums:
    """What the bank makes of one vector.

    sums : (key, sum), in the order of their last parts
    miss : other than ``keys`` sums were complete when the vector ended
    dup : a key got more than its parts
    """

    sums: tuple[tuple[int, int], ...]
    miss: bool
    dup: bool


def sum_bank(words: Sequence[tuple[int, int]], *, parts: int, keys: int) -> Sums:
    """Return the sums of one vector; vectors know nothing of each other.

    words : (key, part) as they arrive
    parts : of each key, at least 1
    keys : that the vector has

    A key is complete with the last of its parts. What comes for it later is left out, what is incomplete at the end is dropped.
    The order of parts changes no sum.

    Source: imc 10, B6, mode BANK.
    """
    arrived: defaultdict[int, list[int]] = defaultdict(list)
    sums, dup = [], False
    for key, part in words:
        if len(arrived[key]) == parts:
            dup = True
            continue
        arrived[key].append(part)
        if len(arrived[key]) == parts:
            sums.append((key, sum(arrived[key])))
    return Sums(sums=tuple(sums), miss=len(sums) != keys, dup=dup)
