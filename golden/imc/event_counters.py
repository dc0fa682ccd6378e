"""Counts of what costs energy."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

MOST = (1 << 32) - 1


@dataclass(frozen=True, kw_only=True)
class TileEvents:
    """What happens in a tile in a cycle: a phase begins, it is skipped, rows that it drives; conversions of all ADCs begin;
    a pulse, or a comparison of cells, begins.
    """

    phase: bool
    skipped: bool
    rows: int
    conversions: bool
    pulse: bool = False
    read: bool = False


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """What happens in a core in one cycle; ``clear``: counters begin anew after it, and nothing of it counts."""

    clear: bool
    busy: bool
    steps: bool
    spikes: bool
    words: bool
    tiles: Sequence[TileEvents]


def event_counters(counters: Mapping[str, int], cycles: Iterable[Cycle], *, adcs: int) -> dict[str, int]:
    """Return the counters after some cycles: cycles, phases, skipped, rows, conversions, steps, spikes, words,
    pulses, reads.

    counters : before them, ``0..2^32 - 1``, where they stop
    adcs : of a tile, which convert together

    ``phases`` leaves out what is skipped, ``rows`` counts those of phases that begin.

    Source: imc 10, B13.
    """
    now = dict(counters)
    for cycle in cycles:
        if cycle.clear:
            now = dict.fromkeys(now, 0)
            continue
        begun = [tile for tile in cycle.tiles if tile.phase]
        added = {
            "cycles": cycle.busy, "steps": cycle.steps, "spikes": cycle.spikes, "words": cycle.words,
            "phases": sum(not tile.skipped for tile in begun), "skipped": sum(tile.skipped for tile in begun),
            "rows": sum(tile.rows for tile in begun), "conversions": sum(tile.conversions for tile in cycle.tiles) * adcs,
            "pulses": sum(tile.pulse for tile in cycle.tiles), "reads": sum(tile.read for tile in cycle.tiles)}
        now = {name: min(MOST, total + added[name]) for name, total in now.items()}
    return now
