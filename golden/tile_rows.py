"""Rows of a tile of the loom: where they lie, how many words they have, and which lane and slot gets which."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

Fields = Mapping[str, int]
Place = tuple[int, int]


@dataclass(frozen=True)
class Row:
    """One row of a tile.

    number : its place in the tile
    target : lane of its output pixel
    center : (y, x) of its pixel in the map before the pool
    corner : (y, x) of its first tap in the operand of the first pass; negative in the silent border
    """

    number: int
    target: int
    center: Place
    corner: Place


@dataclass(frozen=True)
class Tile:
    """Rows of one tile.

    rows : by number; None beyond the last output pixel and outside the map before the pool
    present : per pixel of the tile, whether it exists
    low, high : bounds of the rows' centers, both inside
    """

    rows: tuple[Row | None, ...]
    present: tuple[bool, ...]
    low: Place
    high: Place


def tile_rows(layer: Fields, sweep: Fields, lanes: int) -> Iterator[Tile]:
    """Yield the tiles of a layer in order.

    layer, sweep : fields of `golden.formats.LAYER`, and of `golden.formats.PASS` of the first pass

    Row ``m * tile_pixels + q`` is member m of the pooling window of the tile's pixel q, row-major in both; without an
    OR-pool a window has one member, its own pixel. Tile n holds the output pixels from ``n * tile_pixels`` on.
    """
    kernel, stride, padding = ((layer["pool_kernel"], layer["pool_stride"], layer["pool_padding"]) if layer["or_pool"]
                               else (1, 1, 0))
    size = layer["tile_pixels"]
    for tile in range(layer["row_tiles"]):
        pixels = [divmod(tile * size + q, layer["out_width"]) for q in range(size)]
        present = tuple(y < layer["out_height"] for y, _ in pixels)
        rows: list[Row | None] = []
        for member in product(range(kernel), repeat=2):
            for q, pixel in enumerate(pixels):
                y, x = (at * stride - padding + offset for at, offset in zip(pixel, member, strict=True))
                inside = present[q] and (not layer["or_pool"] or (0 <= y < layer["height"] and 0 <= x < layer["width"]))
                corner = (y * sweep["stride"] - sweep["padding"], x * sweep["stride"] - sweep["padding"])
                rows.append(Row(len(rows), q % lanes, (y, x), corner) if inside else None)
        held = [row.center for row in rows if row]
        low, high = ((f(y for y, _ in held), f(x for _, x in held)) for f in (min, max))
        yield Tile(tuple(rows), present, low, high)


def row_words(tile: Tile, sweep: Fields, words: Mapping[Place, int]) -> list[int]:
    """Return how many words every row has in the first pass; ``words`` : words of each pixel of its operand."""
    taps = list(product(range(sweep["kernel_height"]), range(sweep["kernel_width"])))
    return [sum(words.get((row.corner[0] + y, row.corner[1] + x), 0) for y, x in taps) if row else 0 for row in tile.rows]


def deal(layer: Fields, words: Sequence[int], lanes: int) -> list[list[int]]:
    """Return, per group and lane of a team, the number of the row in that lane's slot; numbers beyond the rows: none.

    words : what `row_words` returns

    A team has ``lanes >> teams_log2`` lanes, a group as many rows; all teams hold the same rows. With ``deal`` the rows of
    a group, most words first, go to the lanes with the fewest words of the groups before; of equals the lowest is first.
    Then lanes exchange rows as `exchanges` says. Without ``deal`` row n of a group goes to lane n.
    """
    held = first_deal(layer, words, lanes)
    return exchanged(held, exchanges(held, words, lanes)) if layer["deal"] else held


def exchanged(held: Sequence[Sequence[int]], changes: Sequence[tuple[int, int, int]]) -> list[list[int]]:
    """Return what lanes hold after they exchanged rows as `exchanges` says."""
    after = [list(group) for group in held]
    for group, high, low in changes:
        after[group][high], after[group][low] = after[group][low], after[group][high]
    return after


def exchanges(held: Sequence[Sequence[int]], words: Sequence[int], lanes: int) -> list[tuple[int, int, int]]:
    """Return which (group, lane, other lane) exchange their rows after `first_deal`, one after the other.

    The first lane is the one with most words; of all exchanges that leave less than that to both, the one that leaves least
    to the fuller of the two; of equals the first of the lowest group and lane. There are at most ``lanes`` of them.
    """
    sizes = [[words[number] if number < len(words) else 0 for number in group] for group in held]
    found: list[tuple[int, int, int]] = []
    while len(found) < lanes:
        loads = [sum(own) for own in zip(*sizes, strict=True)]
        high, most, best = loads.index(max(loads)), max(loads), max(loads)
        for group, size in enumerate(sizes):
            for lane, load in enumerate(loads):
                fuller = max(most - size[high] + size[lane], load + size[high] - size[lane])
                if fuller < best:
                    best, chosen = fuller, (group, high, lane)
        if best == most:
            break
        group, high, lane = chosen
        sizes[group][high], sizes[group][lane] = sizes[group][lane], sizes[group][high]
        found.append(chosen)
    return found


def first_deal(layer: Fields, words: Sequence[int], lanes: int) -> list[list[int]]:
    """Return what `deal` returns before any exchange."""
    team = lanes >> layer["teams_log2"]
    loads, held = [0] * team, []
    for group in range(layer["groups"]):
        numbers = list(range(group * team, (group + 1) * team))
        size = {number: words[number] if number < len(words) else 0 for number in numbers}
        order = list(range(team))
        if layer["deal"]:
            numbers.sort(key=lambda number: -size[number])
            order.sort(key=lambda lane: loads[lane])
        slot = [0] * team
        for number, lane in zip(numbers, order, strict=True):
            slot[lane] = number
            loads[lane] += size[number]
        held.append(slot)
    return held
