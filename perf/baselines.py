"""Cycles of the published accelerators on one spMspM layer, as their authors count them: matches only.

LoAS (MICRO 2024, arXiv:2407.14073) compares itself with SparTen, GoSPA and Gamma adapted to spikes. All have 16 processing
elements; an element needs a cycle for each product of two non-zeros, a tile takes as long as its slowest element, and tiles
follow each other. There are no scan cycles, latencies, stalls or conflicts. Rows, columns and the inner dimension are cut
into tiles without padding; the inner dimension is in the order of `torch.nn.functional.unfold` (channel, ky, kx).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ELEMENTS = 16
CHUNK = 128

Words = NDArray[np.integer]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Tile:
    """Rows, inner length and columns of a tile, and what one processing element owns: a ``"row"`` or a ``"column"``."""

    rows: int
    inner: int
    columns: int
    owner: str


LOAS = Tile(ELEMENTS, CHUNK, 32, "row")
SPARTEN = Tile(32, 128, ELEMENTS, "column")
GOSPA = Tile(64, 256, ELEMENTS, "column")
GAMMA = Tile(ELEMENTS, 64, 64, "row")


def matches(words: Words, weights: NDArray[np.int8]) -> int:
    """Return the pairs of a word that is not silent and a weight that is not zero: what any design must add up.

    words : [M, K] spike words; weights : [K, N]
    """
    return int(_present(words).sum(0) @ _present(weights).sum(1))


def loas_paper(words: Words, weights: NDArray[np.int8], steps: int) -> int:
    """Return the cycles of LoAS as its simulator counts: every element holds 32 open outputs of one row.

    words : [M, K] spike words; weights : [K, N]; steps : T, which packed words hide
    """
    return tiled(_present(words), _present(weights), LOAS)


def loas_lockstep(words: Words, weights: NDArray[np.int8], steps: int) -> int:
    """Return the cycles of LoAS as its hardware would run: columns are broadcast chunk by chunk.

    A chunk takes as long as the lane with most matches, and a cycle when there is none. Arguments as `loas_paper`.
    """
    rows, columns = _present(words), _present(weights)
    total = 0
    for first in range(0, rows.shape[1], CHUNK):
        most = _grouped(rows[:, first : first + CHUNK] @ columns[first : first + CHUNK], ELEMENTS, np.maximum, 0)
        total += int(np.maximum(most, 1).sum())
    return total


def sparten(words: Words, weights: NDArray[np.int8], steps: int) -> int:
    """Return the cycles of SparTen-SNN: inner products, one column per element, step after step."""
    return _step_by_step(words, weights, steps, SPARTEN)


def gospa(words: Words, weights: NDArray[np.int8], steps: int) -> int:
    """Return the cycles of GoSPA-SNN: outer products, one column per element, step after step."""
    return _step_by_step(words, weights, steps, GOSPA)


def gamma(words: Words, weights: NDArray[np.int8], steps: int) -> int:
    """Return the cycles of Gamma-SNN: Gustavson, one row per element, step after step."""
    return _step_by_step(words, weights, steps, GAMMA)


BASELINES: dict[str, Callable[[Words, NDArray[np.int8], int], int]] = {
    "loas_paper": loas_paper, "loas_lockstep": loas_lockstep, "sparten": sparten, "gospa": gospa, "gamma": gamma}


def tiled(rows: Counts, columns: Counts, tile: Tile) -> int:
    """Return the sum over all tiles of the products of the slowest element.

    rows : [M, K] of 0 and 1; columns : [K, N] of 0 and 1
    """
    total = 0
    for first in range(0, rows.shape[1], tile.inner):
        a, b = rows[:, first : first + tile.inner], columns[first : first + tile.inner]
        if tile.owner == "row":
            products = a @ _grouped(b, tile.columns, np.add, 1)
            total += int(_grouped(products, tile.rows, np.maximum, 0).sum())
        else:
            products = _grouped(a, tile.rows, np.add, 0) @ b
            total += int(_grouped(products, tile.columns, np.maximum, 1).sum())
    return total


def _step_by_step(words: Words, weights: NDArray[np.int8], steps: int, tile: Tile) -> int:
    columns = _present(weights)
    return sum(tiled(np.asarray(words).astype(np.int64) >> t & 1, columns, tile) for t in range(steps))


def _present(values: NDArray[np.integer]) -> Counts:
    """Return 1 where a value is not zero."""
    return np.asarray(np.asarray(values) != 0, np.int64)


def _grouped(values: Counts, size: int, combine: np.ufunc, axis: int) -> Counts:
    """Return ``combine`` over groups of ``size`` along an axis; the last group may be short."""
    grouped: Counts = combine.reduceat(values, np.arange(0, values.shape[axis], size), axis=axis)
    return grouped
