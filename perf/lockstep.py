"""Cycles of a program on the lockstep array, from its memory image alone: no RTL is run.

What waits for memory is stepped cycle by cycle, state machine by state machine, as the RTL has it: the sequencer's reads, the
loaders of rows and weights, the read port, the memory, the tail, the writes. The array, where most of the time goes, is not:
a chunk takes the matches of its busiest lane, and cycles between two columns in which nothing else moves are passed over at
once. The lanes are stepped only while a result waits for the tail, which is when their FIFOs fill.

For layers of one identity pass with a neuron, without pools, residuals or stored currents, on operands that lie in the image.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch
from golden.formats import STATS, STATS_BYTES, TILE, TILE_HEADER_BYTES, unpack
from golden.kept_taps import walked_taps
from perf.bus import Fetch
from perf.fibers import Fibers, Neurons
from perf.machine import Machine, described
from perf.operand import Operand

SETTLED = 64
# Of the walker, before the first step of a tile.
FIELD_CYCLES = 16


class Rows:
    """`hdl.row_loader.RowLoader` with its walker: the rows of a tile into the lanes, one tile ahead.

    steps : per tile the walk as (mask address, bytes, set bits, lane, value address, fiber end, row end, skipped taps in front)
    """

    def __init__(self, arch: Arch, word_log2: int, steps: Callable[[int], Iterator[tuple[Any, ...]]], tiles: int) -> None:
        self.arch, self.word_log2, self.steps = arch, word_log2, steps
        self.masks, self.values = Fetch(arch, arch.chunk_bits // 8), Fetch(arch, arch.chunk_bits // 8)
        self.left, self.tile, self.filled, self.busy = tiles, 0, 0, False
        self.walk: Iterator[tuple[Any, ...]] = iter(())
        self.wait = 0
        self.next: tuple[Any, ...] | None = None
        self.ready_at, self.counts = [0] * arch.lanes, [0] * arch.lanes
        self.idle_at, self.given, self.flush = 0, 0, False

    @property
    def quiet(self) -> bool:
        """Whether nothing moves before the array releases a tile."""
        return not self.busy and (not self.left or self.filled == 2)

    def step(self, now: int, grants: tuple[int, int], beats: tuple[bool, bool], *, release: bool) -> None:
        """End cycle ``now``; grants and beats are those of values and masks."""
        n = self.arch.chunk_bits // 16
        masks, values = self.masks, self.values
        value_run = None
        taken = False
        if masks.valid:
            lane, ones, value_address, fiber_end, row_end = masks.user
            total = self.counts[lane] + ones
            need = fiber_end and (total != 0 or row_end)
            if self.ready_at[lane] <= now:
                taken = not need or values.ready
                if need and values.ready:
                    bits = total << self.word_log2
                    value_run = (value_address, (bits + 7) >> 3, (bits, row_end))
                if taken:
                    self.counts[lane] = 0 if fiber_end else total
                    self.ready_at[lane] = now + n
                    self.idle_at = now + n + 1
        done = take_value = False
        if self.flush:
            done = now >= self.idle_at
            self.flush = not done
        elif values.valid:
            take_value = True
            bits, row_end = values.user
            size = min(self.arch.chunk_bits, bits - self.given)
            self.given = 0 if values.last else self.given + size
            self.flush = values.last and row_end
        mask_run: tuple[int, int, Any] | None = None
        if self.wait:
            self.wait -= 1
        elif self.next is not None and masks.ready:
            address, size, ones, lane, value_address, fiber_end, row_end, _ = self.next
            mask_run = (address, size, (lane, ones, value_address, fiber_end, row_end))
            self.next = None if row_end else next(self.walk)
            self.wait = self.next[-1] if self.next else 0
        if self.left and not self.busy and self.filled != 2:
            self.walk, self.busy = self.steps(self.tile), True
            self.next = next(self.walk)
            self.wait = FIELD_CYCLES + self.next[-1]
            self.left, self.tile = self.left - 1, self.tile + 1
        if done:
            self.busy = False
        self.filled += done - release
        values.step(value_run, granted=grants[0], beat=beats[0], take=take_value)
        masks.step(mask_run, granted=grants[1], beat=beats[1], take=taken)


class Weights:
    """The loading side of `hdl.weight_buffer.WeightBuffer`.

    sizes : beats of each tile; address : of the first one
    """

    def __init__(self, arch: Arch, sizes: list[int], address: int, rounds: int) -> None:
        self.beat, self.burst_beats, self.head = arch.data_bits // 8, arch.burst_beats, TILE_HEADER_BYTES * 8 // arch.data_bits
        self.sizes, self.start = sizes, address
        self.resident = len(sizes) <= 2
        self.rounds_left = 1 if self.resident else rounds
        self.full, self.load_half, self.read_half, self.tile, self.address = [False, False], 0, 0, 0, address
        self.loading, self.asked, self.got, self.want = False, 0, 0, 0

    @property
    def burst(self) -> int:
        """Beats of the request that is shown, 0 for none."""
        if not self.loading or self.asked == self.want:
            return 0
        page = 4096 // self.beat
        return min(self.want - self.asked, self.burst_beats, page - (self.address // self.beat + self.asked) % page)

    @property
    def ready(self) -> bool:
        """Whether the tile to be read next is in the buffer."""
        return self.full[self.read_half]

    @property
    def quiet(self) -> bool:
        """Whether nothing moves before the array closes a tile."""
        return not self.loading and (not self.rounds_left or self.full[self.load_half])

    def step(self, *, granted: int, beat: bool, close: bool) -> None:
        """End a cycle."""
        got, want, full = self.got, self.want, list(self.full)
        if not self.loading:
            if self.rounds_left and not self.full[self.load_half]:
                self.asked, self.got, self.want, self.loading = 0, 0, self.head, True
                self.rounds_left -= self.tile == len(self.sizes) - 1
        else:
            self.got += beat
            self.asked += granted
            if got == self.head == want:
                self.want = self.sizes[self.tile]
            elif got == want and want != self.head:
                full[self.load_half] = True
                self.load_half ^= 1
                last = self.tile == len(self.sizes) - 1
                self.address = self.start if last else self.address + self.sizes[self.tile] * self.beat
                self.tile = 0 if last else self.tile + 1
                self.loading = False
        if close:
            if not self.resident:
                full[self.read_half] = False
            if len(self.sizes) != 1:
                self.read_half ^= 1
        self.full = full


class Tail:
    """`hdl.tail.Tail` with its neurons and fiber writer, for layers of one identity pass.

    stored, ends : of `Fibers`
    results : cycles in which the dots of a column are shown
    """

    def __init__(self, arch: Arch, layer: dict[str, int], stored: NDArray[np.bool_], ends: list[list[int]]) -> None:
        self.arch, self.layer = arch, layer
        self.neurons, self.fibers = Neurons(arch, layer["steps"]), Fibers(arch, layer, stored, ends)
        self.state, self.column, self.results = "COLUMN", 0, deque[int]()
        self.walk_ready_in, self.walk_left, self.tile = arch.lanes + 1, layer["row_tiles"], 0

    @property
    def quiet(self) -> bool:
        """Whether nothing moves before the next result comes."""
        return (self.state == "PASS" and not self.neurons.busy and not self.neurons.word and self.walk_ready_in == 0
                and self.fibers.quiet)

    @property
    def idle(self) -> bool:
        """Whether no tile is left."""
        return self.walk_left == 0

    def step(self, now: int, *, accepted: bool) -> bool:
        """End cycle ``now``; return whether a column is done with.

        accepted : the store takes the piece that the fibers offer
        """
        waiting, idle = self.fibers.waiting, self.neurons.idle
        self.fibers.step(accepted=accepted, coming=self.neurons.word and not waiting)
        fired, put = self.neurons.step(fire=self.state == "FIRE", hold=waiting)
        walk_next = False
        if self.state == "COLUMN":
            self.state = "COLUMN" if self.walk_ready_in else "PASS"
        elif self.state == "PASS":
            if self.results and self.results[0] <= now:
                self.results.popleft()
                self.state = "FIRE"
        elif fired:
            self.column += 1
            self.state = "COLUMN"
            if self.column == self.layer["columns"]:
                self.column, self.state = 0, "DRAIN"
        elif self.state == "DRAIN" and idle and not waiting:
            walk_next = True
            self.state = "COLUMN"
        if put:
            self.fibers.put()
        if walk_next:
            self.walk_left, self.tile, self.walk_ready_in = self.walk_left - 1, self.tile + 1, self.arch.lanes + 1
            self.fibers.open(self.tile, self.tile * self.arch.lanes, len(self.fibers.stored))
        elif self.walk_ready_in and self.walk_left:
            self.walk_ready_in -= 1
        return fired


class WeightTile:
    """A weight tile as it lies in memory; ``at`` is its offset.

    bits : of the masks, [columns, kept taps, pieces, chunk bits]; mask_bytes, ones : of every chunk
    """

    def __init__(self, arch: Arch, memory: bytes, at: int, sweep: dict[str, int]) -> None:
        head = unpack(TILE, memory[at : at + TILE_HEADER_BYTES])
        self.arch, self.beats, self.columns = arch, head["bytes"] * 8 // arch.data_bits, head["columns"]
        self.next = at + head["bytes"]
        taps, pieces, size = len(walked_taps(sweep)), sweep["tap_chunks"], arch.chunk_bits // 8
        raw = np.frombuffer(memory, np.uint8, self.columns * taps * sweep["mask_stride"], at + head["masks"])
        padded = np.zeros((self.columns, taps, pieces * size), np.uint8)
        padded[:, :, : sweep["mask_stride"]] = raw.reshape(self.columns, taps, -1)
        self.bits = np.unpackbits(padded, axis=2, bitorder="little").reshape(
            self.columns, taps, pieces, -1).astype(np.float32)
        self.chunks = taps * pieces
        self.mask_bytes = ([size] * (pieces - 1) + [sweep["last_bytes"]]) * taps * self.columns
        self.ones = self.bits.sum(3).astype(np.int64).reshape(-1)
        self.demand = (8 * np.array(self.mask_bytes) + self.ones * arch.weight_bits + 64 / self.chunks) / arch.data_bits

    def starts(self, cycles: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return when every chunk starts, counted from the cycle in which the tile is opened.

        cycles : of every chunk, from its start to the next one's

        The reading side of the weight buffer is stepped, a beat a cycle, for parameters before masks before values, until
        it is ahead; from then on chunks follow each other, if none needs more than a beat for each of its cycles.
        """
        p, busy = self.arch, bool((self.demand > cycles).any())
        units = (p.data_bits // 64, p.data_bits // 8, p.data_bits // p.weight_bits)
        capacity = [window + 2 * n for window, n in zip((1, p.chunk_bits // 8, p.chunk_bits), units, strict=True)]
        fill, arriving, known, ahead, chunk, rest, now = [0, 0, 0], [0, 0, 0], 0, 0, 0, 0, 0
        ones, length, ends = self.ones.tolist(), cycles.tolist(), deque[int]()
        found = np.zeros(len(length), np.int64)
        while chunk < len(length) and (busy or now < SETTLED):
            now += 1
            take = [0, 0, 0]
            if rest == 0 and ahead and fill[1] >= self.mask_bytes[chunk] and fill[2] >= ones[chunk]:
                found[chunk], rest = now, length[chunk]
            if rest:
                rest -= 1
                if not rest:
                    take[1:] = self.mask_bytes[chunk], ones[chunk]
                    chunk += 1
                    if chunk % self.chunks == 0:
                        ahead -= 1
                        ends.append(now + 6)
            granted = [0, 0, 0]
            for number in range(3):
                if fill[number] + arriving[number] + units[number] <= capacity[number]:
                    granted[number] = units[number]
                    break
            while ends and ends[0] < now:
                ends.popleft()
            if fill[0] and known < self.columns and ahead + len(ends) < p.fifo_depth:
                take[0], known, ahead = 1, known + 1, ahead + 1
            fill = [have + more - less for have, more, less in zip(fill, arriving, take, strict=True)]
            arriving = granted
        if chunk < len(length):
            first = now + 1 - (length[chunk] - rest if rest else 0)
            found[chunk:] = first + np.cumsum(cycles[chunk:]) - cycles[chunk:]
        return found


class Lanes:
    """The lanes behind the array: what of their FIFOs stops it while a result waits for the tail.

    Until a result waits nothing does: a match leaves its FIFO after 2 cycles and is done in the third, and `entries` knows
    what each lane pushed. From the cycle in which one waits the lanes are stepped, until they hold no more than that again.
    """

    def __init__(self, arch: Arch) -> None:
        self.depth, self.count = arch.fifo_depth, arch.lanes
        self.matches: list[list[int]] = []
        self.starts: NDArray[np.int64] = np.zeros(0, np.int64)
        self.cycles: NDArray[np.int64] = np.zeros(0, np.int64)
        self.chunks, self.chunk, self.pending = 1, 0, [0] * arch.lanes
        self.stepping = False
        self.queues: list[deque[tuple[int, bool]]] = []
        self.out: list[bool] = []
        self.busy: list[tuple[int, bool] | None] = []
        self.shown: list[bool] = []
        self.lasts: list[int] = []

    def open(self, matches: NDArray[np.int16], starts: NDArray[np.int64], cycles: NDArray[np.int64], chunks: int) -> None:
        """Begin a tile: matches [chunks of all columns, lanes], and when every chunk starts and how long it takes."""
        self.matches, self.starts, self.cycles, self.chunks = matches.tolist(), starts, cycles, chunks
        self.chunk, self.pending = 0, list(self.matches[0])

    def entries(self, now: int) -> list[tuple[int, bool] | None]:
        """Return what each lane pushed in a cycle: (cycle, whether a column ended), or None."""
        chunk = int(np.searchsorted(self.starts, now, "right")) - 1
        if chunk < 0 or now >= self.starts[chunk] + self.cycles[chunk]:
            return [None] * self.count
        since = now - int(self.starts[chunk])
        last = since == self.cycles[chunk] - 1 and (chunk + 1) % self.chunks == 0
        return [(now, last) if matched > since or last else None for matched in self.matches[chunk]]

    def begin(self, now: int) -> None:
        """Step from cycle ``now`` on, in which a result is shown and not taken."""
        before, older, oldest = (self.entries(now - n) for n in (1, 2, 3))
        self.queues = [deque(entry for entry in pair if entry) for pair in zip(older, before, strict=True)]
        self.out = [entry is not None for entry in older]
        self.busy, self.shown, self.stepping = oldest, [True] * self.count, True
        self.lasts = [sum(entry[1] for entry in queue) + bool(busy and busy[1])
                      for queue, busy in zip(self.queues, self.busy, strict=True)]
        self.chunk = int(np.searchsorted(self.starts, now, "right")) - 1
        since = now - int(self.starts[self.chunk]) if self.chunk >= 0 else 0
        if self.chunk >= 0 and since >= self.cycles[self.chunk]:
            self.chunk, since = self.chunk + 1, 0
        elif self.chunk < 0:
            self.chunk = 0
        if self.chunk < len(self.matches):
            self.pending = [max(0, matched - since) for matched in self.matches[self.chunk]]

    def step(self, now: int, *, taken: bool) -> bool:
        """End a cycle in which the tail took the results or not; return whether a column ended."""
        pushes: list[tuple[int, bool] | None] = [None] * self.count
        ended = False
        if self.chunk < len(self.matches) and now >= self.starts[self.chunk] and all(
                len(queue) != self.depth and lasts != self.depth
                for queue, lasts in zip(self.queues, self.lasts, strict=True)):
            advance = max(self.pending) <= 1
            ended = advance and (self.chunk + 1) % self.chunks == 0
            pushes = [(now, ended) if left or ended else None for left in self.pending]
            self.pending = [max(0, left - 1) for left in self.pending]
            if advance:
                self.chunk += 1
                self.pending = list(self.matches[self.chunk]) if self.chunk < len(self.matches) else self.pending
        for lane, push in enumerate(pushes):
            self._lane(lane, push, taken=taken)
        return ended

    def _lane(self, lane: int, push: tuple[int, bool] | None, *, taken: bool) -> None:
        queue, busy, out = self.queues[lane], self.busy[lane], self.out[lane]
        retire = busy is not None and (not busy[1] or not self.shown[lane] or taken)
        accept, length = busy is None or retire, len(queue)
        if taken:
            self.shown[lane] = False
        if retire and busy is not None and busy[1]:
            self.shown[lane] = True
            self.lasts[lane] -= 1
        if accept:
            self.busy[lane] = queue.popleft() if out else None
        load = accept and length > 1 if out else length != 0
        self.out[lane] = load or (out and not accept)
        if push:
            queue.append(push)
            self.lasts[lane] += push[1]

    def settled(self, now: int) -> bool:
        """Return whether nothing is left of the wait, before cycle ``now``."""
        return not any(self.shown) and all(
            (not queue or queue[0][0] >= now - 2) and (busy is None or busy[0] == now - 3)
            for queue, busy in zip(self.queues, self.busy, strict=True))

    def end(self, now: int) -> list[int]:
        """Stop stepping before cycle ``now``; return when the results on their way are shown."""
        self.stepping = False
        way = {entry[0] for queue in self.queues for entry in queue if entry[1]} | {
            busy[0] for busy in self.busy if busy and busy[1]}
        self.retime(now)
        return sorted(cycle + 4 for cycle in way)

    def retime(self, now: int) -> None:
        """Move the starts of the chunks that are left, the one begun included."""
        if self.chunk >= len(self.matches):
            return
        rest = self.cycles[self.chunk :].copy()
        rest[0] = max(1, *self.pending)
        before = np.cumsum(rest) - rest
        begun = max(now, int(self.starts[self.chunk]))
        moved = np.maximum.accumulate(np.maximum(self.starts[self.chunk :] - before, begun)) + before
        self.starts = self.starts.copy()
        self.starts[self.chunk :] = moved
        if rest[0] != self.cycles[self.chunk]:
            self.starts[self.chunk] = moved[0] + rest[0] - self.cycles[self.chunk]

    def ends(self, now: int) -> "deque[int]":
        """Return when the columns end that have not ended before ``now``."""
        ends = (self.starts + self.cycles - 1)[self.chunks - 1 :: self.chunks]
        return deque(ends[ends >= now].tolist())


class Lockstep(Machine):
    """The accelerator with the lockstep array."""

    def layer(self, layer: dict[str, int], sweep: dict[str, int], stored: NDArray[np.bool_], ends: list[list[int]],
              following: tuple[int, int] | None) -> None:
        """Run a layer from its start until array and tail are idle, and ask for the ``following`` record (address, bytes)."""
        arch = self.arch
        operand, tiles, at = Operand(arch, self.image, layer, sweep), [], layer["weights"]
        for _ in range(layer["column_tiles"]):
            tiles.append(WeightTile(arch, self.image, at, sweep))
            at = tiles[-1].next
        matches = [operand.matches(tile.bits) for tile in tiles]
        self.cycle()
        self.asked = following
        self.rows = rows = Rows(arch, layer["operand_log2"], operand.steps, layer["row_tiles"])
        self.weights = weights = Weights(arch, [tile.beats for tile in tiles], layer["weights"], layer["row_tiles"])
        tail, lanes = Tail(arch, layer, stored, ends), Lanes(arch)
        state, row_tile, column_tile, left = "IDLE", 0, 0, deque[int]()
        columns = 0
        while not (state == "IDLE" and row_tile == layer["row_tiles"] and tail.idle):
            close = release = ended = False
            if not lanes.stepping and tail.results and tail.results[0] <= self.now and tail.state != "PASS":
                lanes.begin(self.now)
            elif lanes.stepping and lanes.settled(self.now):
                tail.results = deque(lanes.end(self.now))
                left = lanes.ends(self.now) if state == "RUN" else left
            if lanes.stepping:
                tail.results = deque([self.now] if all(lanes.shown) else [])
            if state == "IDLE":
                state = "WAIT" if row_tile < layer["row_tiles"] else "IDLE"
            elif state == "WAIT":
                if rows.filled and weights.ready:
                    tile, own = tiles[column_tile], matches[column_tile][row_tile]
                    took = np.maximum(own.max(1), 1).astype(np.int64)
                    lanes.open(own, tile.starts(took) + self.now, took, tile.chunks)
                    left, state = lanes.ends(self.now), "RUN"
            elif state == "DRAIN" and columns == 0:
                release, state = True, "IDLE"
            elif state == "RUN" and not lanes.stepping and left[0] == self.now:
                left.popleft()
                tail.results.append(self.now + 4)
                ended = True
            piece, running = tail.fibers.piece(), state == "RUN"
            accepted = piece is not None and self.store.accepts(piece)
            results = len(tail.results)
            fired = tail.step(self.now, accepted=accepted)
            if lanes.stepping:
                ended = lanes.step(self.now, taken=len(tail.results) < results)
            columns += ended - fired
            if ended and running and (lanes.chunk == len(lanes.matches) if lanes.stepping else not left):
                close, column_tile, state = True, column_tile + 1, "WAIT"
                if column_tile == len(tiles):
                    column_tile, row_tile, state = 0, row_tile + 1, "DRAIN"
            self.cycle(close=close, release=release, piece=piece)
            if state == "RUN" and not lanes.stepping and not tail.results and tail.quiet and self.quiet:
                self.skip(left[0] - self.now)


def cycles(arch: Arch, image: bytes, stats: int, stored: list[NDArray[np.bool_]], *, latency: int, bandwidth: int) -> int:
    """Return the cycles from start to done of a program at offset 0 of a memory image, as the counter ``cycles`` has them.

    stats : offset of the counter records
    stored : per descriptor, bool [output pixels, columns]: which output words are not silent
    latency, bandwidth : of the memory, as `verif.simulate.Memory` has them
    """
    machine = Lockstep(arch, image, latency, bandwidth)
    ends = list[list[int]]()
    for number, layer, sweep, following in described(machine, image):
        ends += [[0] * arch.lanes for _ in range(layer["row_tiles"] - len(ends))]
        machine.layer(layer, sweep, stored[number], ends, following)
        machine.cycle()
        machine.write(stats + number * STATS_BYTES, 4 * len(STATS))
        machine.settle()
    return machine.now - 1
