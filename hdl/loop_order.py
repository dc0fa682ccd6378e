"""Loop order of a layer: rows outside, or columns outside, whichever moves fewer bytes."""

from dataclasses import dataclass
from typing import Any

from golden.arch import Arch
from hdl.weight_tiles import packed_columns, weight_tiles

RESIDENT_TILES = 2
CHANNEL_STEP = 8
ORDERS = ("rows", "columns")


@dataclass(frozen=True)
class Part:
    """Channels ``start`` to ``stop`` of a layer, which one descriptor computes for all rows; their weight tiles."""

    start: int
    stop: int
    tiles: tuple[bytes, ...]


@dataclass(frozen=True)
class LoopOrder:
    """What goes around outside.

    name : ``"rows"``: every row tile meets all columns before the next one; ``"columns"``: all rows meet the columns that
        the weight buffer holds before the next ones
    parts : one with rows outside
    moved : most bytes of weights and rows that each legal order reads
    """

    name: str
    parts: tuple[Part, ...]
    moved: dict[str, int]


def loop_order(layer: Any, arch: Arch, *, visits: int, row_bytes: int, resumable: bool, force: str | None = None
               ) -> LoopOrder:
    """Return the order that moves fewer bytes; rows outside where both move the same.

    visits : row tiles times members of the OR-pool's window
    row_bytes : most bytes of all rows of all visits
    resumable : the output fibers can be left open between parts
    force : take this order where it is legal

    With rows outside, weights that exceed the buffer stream once a visit. With columns outside the layer is cut into
    parts whose weights stay in the buffer; rows stream once a part, and a part ends at a whole byte of the bitmask.
    Raises `ParameterError` when one column does not fit half of the weight buffer.
    """
    columns = packed_columns(layer, arch.skip_taps)
    whole = tuple(weight_tiles(layer, arch, columns))
    weights = sum(map(len, whole))
    orders: dict[str, tuple[Part, ...]] = {"rows": (Part(0, len(columns), whole),)}
    moved = {"rows": weights * (1 if len(whole) <= RESIDENT_TILES else visits) + row_bytes}
    parts = _cut(layer, arch, columns) if resumable and len(whole) > RESIDENT_TILES else ()
    if parts:
        orders["columns"] = parts
        moved["columns"] = sum(len(tile) for part in parts for tile in part.tiles) + row_bytes * len(parts)
    name = force if force in orders else min(moved, key=lambda order: moved[order])
    return LoopOrder(name, orders[name], moved)


def _cut(layer: Any, arch: Arch, columns: list[Any]) -> tuple[Part, ...]:
    """Return the fewest parts of at most two tiles each, or none when a step of channels needs more."""
    parts: list[Part] = []
    start = 0
    while start < len(columns):
        best = None
        for stop in range(start + CHANNEL_STEP, len(columns) + CHANNEL_STEP, CHANNEL_STEP):
            tiles = weight_tiles(layer, arch, columns, start, min(stop, len(columns)))
            if len(tiles) > RESIDENT_TILES:
                break
            best = Part(start, min(stop, len(columns)), tuple(tiles))
        if best is None:
            return ()
        parts.append(best)
        start = best.stop
    return tuple(parts)
