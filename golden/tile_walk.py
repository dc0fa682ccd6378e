"""Which output pixel each lane holds, tile after tile."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Visit:
    """One visit of a row tile.

    tile, member : row tile, member of the OR-pool's window (0 without one)
    present : per lane, whether it holds an output pixel
    inside : per lane, whether that member's pixel lies in the map before the pool
    """

    tile: int
    member: int
    present: tuple[bool, ...]
    inside: tuple[bool, ...]


def tile_walk(lanes: int, out: tuple[int, int], before: tuple[int, int], pool: tuple[int, int, int] | None
              ) -> Iterator[Visit]:
    """Yield the visits of a layer in order.

    out, before : (height, width) after and before the OR-pool
    pool : (kernel, stride, padding), or None

    Lane i of tile n holds pixel ``p = n * lanes + i``, ``y, x = divmod(p, width)``; member (j, k) of its window is the
    pixel ``(y * stride - padding + j, x * stride - padding + k)``.
    """
    kernel, stride, padding = pool or (1, 1, 0)
    pixels = out[0] * out[1]
    for tile in range(-(-pixels // lanes)):
        held = [tile * lanes + lane for lane in range(lanes)]
        present = tuple(p < pixels for p in held)
        for member in range(kernel * kernel):
            row, column = divmod(member, kernel)
            places = [(p // out[1] * stride - padding + row, p % out[1] * stride - padding + column) for p in held]
            inside = tuple(there and 0 <= y < before[0] and 0 <= x < before[1]
                           for there, (y, x) in zip(present, places, strict=True))
            yield Visit(tile, member, present, inside)
