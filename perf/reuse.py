"""Which encoders reuse: as many as a delay asks for, those whose attention outputs are most like what they would reuse."""

from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from golden.arch import ParameterError

Floats = NDArray[np.float64]
# Sets that are all looked at; beyond, encoders are taken one after the other.
MOST_SETS = 10_000


def reused_encoders(delays: list[int], fraction: float) -> int:
    """Return the smallest number of reusing encoders whose delay is at most a fraction of that of none.

    delays : of 0, 1, ... encoders that reuse

    With ``D(k) = D0 - k (Dattention - Dtransformation)`` it is ``ceil((D0 - target) / (Dattention - Dtransformation))``. Raises
    ParameterError for a fraction that is not above 0 and at most 1, or that no number reaches.

    Source: imc 4.3.
    """
    least = min(delays) / delays[0]
    enough = [count for count, delay in enumerate(delays) if delay <= fraction * delays[0]]
    if not 0 < fraction <= 1 or not enough:
        near = max(0.6, float(np.ceil(least * 100) / 100))
        raise ParameterError("--delay: fraction of the delay without reuse that some number of encoders reaches, not "
                             f"{fraction:g}; legal: {least:.3f}..1; try: --delay {near:g}")
    return enough[0]


def cka(a: Floats, b: Floats) -> float:
    """Return linear centred kernel alignment of two sets of features [samples, features], 0..1; 1 for equal ones."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    both = np.linalg.norm(a.T @ b) ** 2
    own = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    return float(both / own) if own else 0.0


def alignments(outputs: list[Floats]) -> Floats:
    """Return CKA of the attention outputs [samples, features] of all encoders, [encoders, encoders]."""
    return np.asarray([[cka(a, b) for b in outputs] for a in outputs])


def score(table: Floats, reuse: tuple[int, ...]) -> float:
    """Return the sum over encoders j of a set, from 1 on, of how like a_j and a_src(j) are."""
    total, source = 0.0, 1
    for number in range(1, len(table) + 1):
        if number in reuse:
            total += float(table[number - 1, source - 1])
        else:
            source = number
    return total


def choose(table: Floats, count: int) -> tuple[int, ...]:
    """Return the set of ``count`` encoders with the largest score, the first of equal ones; encoder 1 is never in it.

    table : `alignments`

    All sets are scored where there are at most `MOST_SETS`, else each next encoder is the one that adds most.
    """
    others = range(2, len(table) + 1)
    if comb(len(others), count) <= MOST_SETS:
        return max(combinations(others, count), key=lambda reuse: score(table, reuse))
    return greedy(table, count)


def greedy(table: Floats, count: int) -> tuple[int, ...]:
    """Return a set to which one encoder after the other was added, each the best for the score of the set with it."""
    reuse: tuple[int, ...] = ()
    for _ in range(count):
        larger = [(*reuse, number) for number in range(2, len(table) + 1) if number not in reuse]
        reuse = max(larger, key=lambda one: score(table, one))
    return tuple(sorted(reuse))
