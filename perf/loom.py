"""Cycles of a program on the loom, from its memory image alone: no RTL is run.

Reads are stepped cycle by cycle, as in `perf.machine`, with the two column streams that they feed (`perf.loom_streams`).
The lanes are not (`perf.loom_lanes`): when a column chunk is put, the cycles in which each lane of its team looks it up,
begins it, ends it and frees its weights follow from those of the chunks before, at once or, where the sums of a team wait
for a column of the other stream, when that is put. When the last chunk of a column and all columns before are put, so do
the cycles in which the tail takes the column; tail and writes have a clock of their own, since nothing of a column's way
out depends on what is read behind it.

For layers of one identity pass with a neuron, without pools, residuals or stored currents, on operands that lie in the image.
"""

from collections import deque
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch, ParameterError
from golden.formats import STATS, STATS_BYTES
from perf.loom_lanes import Tail, Writes
from perf.loom_streams import Columns, Pixels, Streams, Tile
from perf.machine import Machine, described
from perf.operand import Operand

# A spread takes SPREAD cycles beside those of its pixels, a walk WALKED beside its rows.
SPREAD, WALKED = 5, 2


class Tiles:
    """The state machines of `hdl.loom_array.LoomArray`: tiles are walked, loaded and dealt, one ahead, spread and streamed.

    make : returns the tile of a number
    """

    def __init__(self, layer: dict[str, int], make: Callable[[int], Tile], pixels: Pixels, stream: Streams, tail: Tail) -> None:
        self.layer, self.make, self.pixels, self.stream, self.tail = layer, make, pixels, stream, tail
        self.loads, self.streams, self.loading, self.dealt = "IDLE", "IDLE", False, False
        self.walked = self.loaded = self.streamed = self.at = self.spread_end = self.dealt_at = 0
        self.tiles = deque[Tile]()

    @property
    def done(self) -> bool:
        """Whether all tiles are streamed."""
        return self.streamed == self.layer["row_tiles"] and self.streams == "IDLE"

    @property
    def taken_at(self) -> int:
        """When the tail takes the rows that were dealt last, 0 while that is not known."""
        drained = self.tail.drained
        if self.loaded - 1 > len(drained):
            return 0
        return max(self.dealt_at, drained[self.loaded - 2] + 1 if self.loaded > 1 else 0)

    def wake(self) -> int:
        """Return the next cycle in which something changes while nothing is read."""
        if (self.loads == "IDLE" and self.walked != self.layer["row_tiles"]) or (self.loads == "SPREAD" and not self.loading):
            return 0
        times = [self.stream.moves_at]
        if self.streams == "SPREAD":
            times.append(self.spread_end)
        if self.loads in {"WALK", "DEAL"}:
            times.append(self.at)
        if self.loads == "COUNT" and (not self.dealt or self.taken_at):
            times.append(self.taken_at if self.dealt else 0)
        return min(times)

    def step(self, now: int) -> bool:
        """End cycle ``now``; return whether the columns of a tile begin."""
        loading, dealt, begin = self.loading, self.dealt, False
        if dealt and self.taken_at and now >= self.taken_at:
            self.dealt = False
        idle = self.stream.idle and now >= self.stream.lanes.idle_at
        if self.streams == "IDLE" and loading and idle:
            tile, begin, self.streams = self.tiles.popleft(), True, "SPREAD"
            self.streamed, self.spread_end = self.streamed + 1, now + SPREAD + tile.spread
            self.stream.open(tile, self.spread_end + 1, self.taken_at + 1)
        elif self.streams == "SPREAD" and now >= self.spread_end:
            self.loading, self.streams = False, "STREAM"
        elif self.streams == "STREAM" and idle:
            self.streams = "IDLE"
        if self.loads == "IDLE" and self.walked != self.layer["row_tiles"]:
            self.tiles.append(self.make(self.walked))
            self.loads, self.walked, self.at = "WALK", self.walked + 1, now + WALKED + self.layer["tile_pixels"]
        elif self.loads == "WALK" and now >= self.at:
            self.pixels.begin, self.loads = self.tiles[-1].pixels, "COUNT"
        elif self.loads == "COUNT" and self.pixels.counted and not dealt:
            self.stream.counted, self.loads, self.at = True, "DEAL", now + 1 + self.tiles[-1].dealing
        elif self.loads == "DEAL" and now >= self.at and self.pixels.loaded:
            self.dealt, self.loading, self.loads = True, True, "SPREAD"
            self.dealt_at, self.loaded = now + 1, self.loaded + 1
        elif self.loads == "SPREAD" and not loading:
            self.loads = "IDLE"
        return begin


class Loom(Machine):
    """The accelerator with the loom, and the memory that it reads.

    latency, bandwidth : of the memory, as `verif.simulate.Memory` has them
    """

    def __init__(self, arch: Arch, image: bytes, latency: int, bandwidth: int) -> None:
        super().__init__(arch, image, latency, bandwidth)
        self.writes = Writes(arch, latency, bandwidth)

    def run(self, layer: dict[str, int], sweep: dict[str, int], stored: NDArray[np.bool_],
            following: tuple[int, int] | None) -> None:
        """Run a layer from its start until array and tail are idle, and ask for the ``following`` record (address, bytes)."""
        arch = self.arch
        operand = Operand(arch, self.image, layer, sweep)
        columns = (Columns(arch, self.image, layer, sweep, 0), Columns(arch, self.image, layer, sweep, 1))
        self.writes.skip(self.now - self.writes.now)
        self.cycle()
        self.asked = following
        tail = Tail(arch, layer, stored, self.writes)
        self.rows = pixels = Pixels(arch, layer, sweep, operand)
        self.weights = stream = Streams(arch, layer, columns, tail, self.now)
        tiles = Tiles(layer, partial(Tile, arch, layer, sweep, operand, columns), pixels, stream, tail)
        while not tiles.done:
            self.cycle(close=tiles.step(self.now))
            if self.quiet:
                ahead = tiles.wake() - self.now
                if ahead > 0:
                    self.skip(ahead)
                    stream.now += ahead
        tail.until(max(self.now, tail.drained[-1] + 2))


def cycles(arch: Arch, image: bytes, stats: int, stored: list[NDArray[np.bool_]], *, latency: int, bandwidth: int) -> int:
    """Return the cycles from start to done of a program at offset 0 of a memory image, as the counter ``cycles`` has them.

    stats : offset of the counter records
    stored : per descriptor, bool [output pixels, columns]: which output words are not silent
    latency, bandwidth : of the memory, as `verif.simulate.Memory` has them
    Raises `ParameterError` for a pass that skips taps, which is another build's.
    """
    machine = Loom(arch, image, latency, bandwidth)
    for number, layer, sweep, following in described(machine, image):
        if sweep["skipped"]:
            raise ParameterError(f"cycle model: layer {number}: a loom walks every tap, not {sweep['skipped']:#x} left out; "
                                 "legal: images of a loom build")
        machine.run(layer, sweep, stored[number], following)
        machine.writes.finish(stats + number * STATS_BYTES, 4 * len(STATS))
        while machine.now < machine.writes.now:
            machine.cycle()
    return machine.now - 1
