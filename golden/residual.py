"""Residual path: which stored currents are added to the sums of a tile, in the order in which they are needed."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from golden.formats import NEVER
from golden.network import Array, Pool
from golden.walker import pixels
from golden.window import extent


@dataclass(frozen=True)
class Currents:
    """What is added to the sums of one lane.

    values : one per timestep, 0 for a lane without a pixel
    end : of the last lane
    """

    values: tuple[int, ...]
    lane: int
    end: bool


def residual(currents: Array, pool: tuple[str, Pool] | None, lanes: int, ttfs: bool = False,
             groups: int = 1) -> Iterator[Currents]:
    """Yield the currents of every tile of ``groups * lanes`` pixels: column after column, lane after lane.

    currents : int64 [T, N, H, W]
    pool : ``"max"`` (signed max-pool) or ``"sum"`` with its window, whose members inside the map count; None: one pixel each
    ttfs : they are spike times, of which 0 or less is never
    """
    steps, columns, height, width = currents.shape
    kind, window = pool or ("sum", Pool(kernel=1, stride=1))
    sizes = [extent(size, window.kernel, window.stride, window.padding) for size in (height, width)]
    members = list(product(range(window.kernel), repeat=2))
    for tile in pixels({"out_height": sizes[0], "out_width": sizes[1]}, lanes * groups):
        for column, (slot, place) in product(range(columns), enumerate(tile)):
            inside = [(y, x) for y, x in (_at(place, member, window) for member in members)
                      if 0 <= y < height and 0 <= x < width]
            values = [[int(currents[t, column, y, x]) for y, x in inside] for t in range(steps)]
            if ttfs:
                values = [[NEVER if value <= 0 else value for value in step] for step in values]
            one = [sum(step) if kind == "sum" else max(step, default=0) for step in values]
            yield Currents(tuple(one), slot % lanes, slot % lanes == lanes - 1)


def _at(place: tuple[int, int] | None, member: tuple[int, ...], pool: Pool) -> tuple[int, int]:
    if place is None:
        return -1, -1
    return (place[0] * pool.stride - pool.padding + member[0], place[1] * pool.stride - pool.padding + member[1])
