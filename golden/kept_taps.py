"""Taps that a pass keeps: those of a cross-shaped kernel, where the build skips taps that are 0 in all columns."""

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.formats import TAPS


def kept_taps(weight: Any, skip: bool) -> NDArray[np.bool_]:
    """Return which taps of weights [N, C, kh, kw] are loaded, row-major.

    skip : leave out the taps that are 0 in all columns; one tap stays, and all of a kernel of more than 31
    """
    used: NDArray[np.bool_] = (np.asarray(weight) != 0).any(axis=(0, 1)).reshape(-1)
    if not skip or len(used) >= TAPS[0].width:
        return np.ones(len(used), bool)
    used[0] |= not used.any()
    return used


def skipped(kept: NDArray[np.bool_]) -> int:
    """Return the field ``skipped`` of `golden.formats.TAPS`."""
    if kept.all():
        return 0
    return sum(1 << n for n in range(TAPS[0].width) if n >= len(kept) or not kept[n])


def walked_taps(sweep: Mapping[str, int]) -> list[tuple[int, int]]:
    """Return the taps (ky, kx) that are not skipped, of the fields of a pass; without ``skipped`` all."""
    taps = product(range(sweep["kernel_height"]), range(sweep["kernel_width"]))
    return [tap for number, tap in enumerate(taps) if not sweep.get("skipped", 0) >> min(number, TAPS[0].width - 1) & 1]
