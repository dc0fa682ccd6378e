"""Residual path: which stored currents are added to the sums of a tile, in the order in which they are needed."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from golden.formats import NEVER
from golden.network import Array, Pool
from golden.walker import pixels
from golden.window import extent


@dataclass(frozen=True)
class Current:
    """One stored current.

    first : of the first pixel of its window
    keep : False for the entry that only ends a column
    end : last entry of the column
    """

    value: int
    lane: int
    step: int
    first: bool
    keep: bool
    end: bool


def residual(currents: Array, pool: Pool | None, lanes: int, ttfs: bool = False) -> Iterator[Current]:
    """Yield the currents of every tile: column, lane, pixel of the window inside the map, timestep.

    currents : int64 [T, N, H, W]
    pool : signed max-pool or sum of a window, or None for a plain addition
    ttfs : they are spike times, of which 0 or less is never

    The last entry of a column has ``end``. When the last lane has no pixel there, or its window ends outside the
    map, an entry without ``keep`` (nothing else in it means anything) carries it.
    """
    steps, columns, height, width = currents.shape
    window = pool or Pool(kernel=1, stride=1)
    sizes = [extent(size, window.kernel, window.stride, window.padding) for size in (height, width)]
    members = list(product(range(window.kernel), repeat=2))
    for tile in pixels({"out_height": sizes[0], "out_width": sizes[1]}, lanes):
        for column, (lane, place) in product(range(columns), enumerate(tile)):
            first = True
            for member in members:
                end = lane == lanes - 1 and member == members[-1]
                y, x = _at(place, member, window)
                if 0 <= y < height and 0 <= x < width:
                    for t in range(steps):
                        value = int(currents[t, column, y, x])
                        yield Current(NEVER if ttfs and value <= 0 else value, lane, t, first, True, end and t == steps - 1)
                    first = False
                elif end:
                    yield Current(0, lane, 0, first, False, True)


def _at(place: tuple[int, int] | None, member: tuple[int, ...], pool: Pool) -> tuple[int, int]:
    if place is None:
        return -1, -1
    return (place[0] * pool.stride - pool.padding + member[0], place[1] * pool.stride - pool.padding + member[1])
