"""What the row slots of the loom stand for, tile after tile."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """The row in one slot of one lane: its number in the tile, and the lane of its output pixel."""

    row: int
    target: int


@dataclass(frozen=True)
class Deal:
    """One tile as it is dealt.

    slots : [slots][lanes], the row that lies there, or None
    present : [slots x lanes] whether pixel ``slot * lanes + lane`` of the tile exists
    """

    slots: Sequence[Sequence[Place | None]]
    present: Sequence[bool]


@dataclass(frozen=True)
class View:
    """One tile as the tail sees it.

    tile, first_pixel : number of the tile, of its first output pixel
    held : [slots][teams][lanes], lanes of the team that hold a row in the slot
    slots, present : as in `Deal`
    """

    tile: int
    first_pixel: int
    held: tuple[tuple[tuple[bool, ...], ...], ...]
    slots: Sequence[Sequence[Place | None]]
    present: Sequence[bool]


def slot_walk(deals: Iterable[Deal], *, lanes: int, tile_pixels: int, teams_log2: int) -> Iterator[View]:
    """Yield the tiles of a layer in the order in which they are dealt.

    tile_pixels : output pixels of a tile; teams_log2 : log2 of the teams of lanes, as in `golden.formats.LAYER`

    Team k is the lanes from ``k * (lanes >> teams_log2)`` on. The words of a column come from one team; the others' rows
    are the same and do not count.
    """
    size = lanes >> teams_log2
    for tile, deal in enumerate(deals):
        held = tuple(tuple(tuple(row is not None and lane // size == team for lane, row in enumerate(slot))
                           for team in range(1 << teams_log2)) for slot in deal.slots)
        yield View(tile, tile * tile_pixels, held, deal.slots, deal.present)
