"""Cycle models of the published accelerators against products counted one by one."""

import numpy as np
import pytest

from perf.baselines import BASELINES, ELEMENTS, GAMMA, GOSPA, LOAS, SPARTEN, Tile, matches

STEPS = 3
TILES = {"loas_paper": LOAS, "sparten": SPARTEN, "gospa": GOSPA, "gamma": GAMMA}


def layer(seed: int, rows: int = 70, inner: int = 300, columns: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Return spike words [M, K] and weights [K, N]; no size is a multiple of a tile's."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 1 << STEPS, (rows, inner)) * (rng.random((rows, inner)) < 0.3)
    weights = rng.integers(-128, 128, (inner, columns)) * (rng.random((inner, columns)) < 0.1)
    return words, weights.astype(np.int8)


def one_by_one(words: np.ndarray, weights: np.ndarray, tile: Tile) -> int:
    """Return the cycles of one pass over the tiles: every product adds one to the element that owns it."""
    work: dict[tuple[int, int, int], dict[int, int]] = {}
    for m, k in np.argwhere(words).tolist():
        for n in np.flatnonzero(weights[k]).tolist():
            place = (m // tile.rows, k // tile.inner, n // tile.columns)
            owner = m if tile.owner == "row" else n
            elements = work.setdefault(place, {})
            elements[owner] = elements.get(owner, 0) + 1
    assert all(len(elements) <= ELEMENTS for elements in work.values())
    return sum(max(elements.values()) for elements in work.values())


@pytest.mark.parametrize("name", TILES)
def test_counts_are_those_of_single_products(name: str, seed: int) -> None:
    """Packed designs count words once, the others every step; a product more is a different count."""
    words, weights = layer(seed)
    passes = [words] if name == "loas_paper" else [words >> t & 1 for t in range(STEPS)]
    assert BASELINES[name](words, weights, STEPS) == sum(one_by_one(each, weights, TILES[name]) for each in passes)
    other = weights.copy()
    other[:, 0] = 1
    assert BASELINES[name](words, other, STEPS) != BASELINES[name](words, weights, STEPS)


def test_lockstep(seed: int) -> None:
    """A chunk of a column takes its slowest lane's matches and at least one cycle."""
    words, weights = layer(seed)
    cycles = 0
    for m in range(0, len(words), ELEMENTS):
        for n in range(weights.shape[1]):
            for k in range(0, words.shape[1], 128):
                chunk = weights[k : k + 128, n] != 0
                cycles += max(1, *(int(((row[k : k + 128] != 0) & chunk).sum()) for row in words[m : m + ELEMENTS]))
    assert BASELINES["loas_lockstep"](words, weights, STEPS) == cycles


def test_matches(seed: int) -> None:
    """Matches are all products of packed words, and no design of 16 elements is faster than a sixteenth of them."""
    words, weights = layer(seed)
    counted = sum(int((weights[k] != 0).sum()) for _, k in zip(*np.nonzero(words), strict=True))
    assert matches(words, weights) == counted
    assert all(count(words, weights, STEPS) * ELEMENTS >= counted for count in BASELINES.values())


@pytest.mark.parametrize("name", BASELINES)
def test_nothing_to_do(name: str) -> None:
    """Silent rows cost nothing but the chunks that LoAS broadcasts."""
    words, weights = np.zeros((20, 130), np.int64), np.ones((130, 3), np.int8)
    assert BASELINES[name](words, weights, STEPS) == (2 * 2 * 3 if name == "loas_lockstep" else 0)
