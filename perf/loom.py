"""Cycles of a program on the loom, from its memory image alone: no RTL is run.

Reads are stepped cycle by cycle, as in `perf.machine`, with the two column streams that they feed. The lanes are not: when a
column chunk is put, the cycles in which each lane of its team looks it up, begins it, ends it and frees its weights follow from
those of the chunks before, at once or, where the sums of a team wait for a column of the other stream, when that is put. When
the last chunk of a column and all columns before are put, so do the cycles in which the tail takes the column; tail and writes
have a clock of their own, since nothing of a column's way out depends on what is read behind it.

For layers of one identity pass with a neuron, without pools, residuals or stored currents, on operands that lie in the image.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.arch import BURSTS, COLUMNS_QUEUED, Arch, ParameterError
from golden.formats import COLUMN_BYTES, STATS, STATS_BYTES
from golden.pixel_loader import rectangle
from golden.tile_rows import exchanged, exchanges, first_deal
from perf.bus import Fetch, Fifo, Memory, Store
from perf.fibers import Fibers, Neurons
from perf.machine import Machine, described
from perf.operand import Operand

# Cycles of the pipeline. A payload shows QUEUED cycles after it came to a queue; a chunk's masks are compared LOOKED_UP cycles
# after it left its queue, and its matches begin a cycle later; a spread takes SPREAD cycles beside those of its pixels, a walk
# WALKED beside its rows, and the table of taps TABLE beside its chunks, from the cycle after the layer's start on.
QUEUED, LOOKED_UP, SPREAD, WALKED, TABLE = 2, 1, 5, 2, 3
# No cycle that comes: what is known so far does not tell.
NEVER = 1 << 62


class Columns:
    """The even (``number`` 0) or odd columns as they lie in memory, chunk after chunk.

    masks, sizes, lines : per chunk the bytes of its mask and its weights, and its lines of weights; ends : whether it is the
        last one of its column; places : number of the chunk in its column
    bits : of the masks, [columns, taps, pieces, chunk bits]
    """

    def __init__(self, arch: Arch, memory: bytes, layer: dict[str, int], sweep: dict[str, int], number: int) -> None:
        chunk, count, pieces = arch.chunk_bits // 8, layer["chunks"], sweep["tap_chunks"]
        own = layer["columns"] + 1 - number >> 1
        self.head, at = COLUMN_BYTES + (count + 7) // 8, layer["weights"] + number * layer["stream_bytes"]
        self.masks, self.sizes, self.lines, self.places = (list[int]() for _ in range(4))
        self.ends = list[bool]()
        self.first = []
        raw = np.zeros((own, count, chunk), np.uint8)
        for column in range(own):
            there = int.from_bytes(memory[at + COLUMN_BYTES : at + self.head], "little")
            at += self.head
            places = [place for place in range(count) if there >> place & 1]
            self.first.append(len(self.places))
            for place in places:
                size = sweep["last_bytes"] if place % pieces == pieces - 1 else chunk
                mask = memory[at : at + size]
                weights = (int.from_bytes(mask, "little").bit_count() * arch.weight_bits + 7) // 8
                raw[column, place, :size] = np.frombuffer(mask, np.uint8)
                at += size + weights
                self.masks.append(size)
                self.sizes.append(weights)
                self.lines.append(-(-weights // chunk))
                self.ends.append(place == places[-1])
                self.places.append(place)
        bits = np.unpackbits(raw, axis=2, bitorder="little")
        self.bits = bits.reshape(own, count // pieces, pieces, 8 * chunk).astype(np.float32)
        self.index = np.repeat(np.arange(own), np.diff([*self.first, len(self.places)])), np.array(self.places, np.int64)


class Tile:
    """Rows and pixels of a row tile.

    pixels : the pixels that are read, in order; spread : cycles in which they go to the rows
    dealing : cycles of the deal
    matches : of both streams, int [chunks of all columns, lanes]
    """

    def __init__(self, arch: Arch, layer: dict[str, int], sweep: dict[str, int], operand: Operand,
                 columns: tuple[Columns, Columns], number: int) -> None:
        total, size = layer["out_height"] * layer["out_width"], layer["tile_pixels"]
        rows = np.arange(number * size, (number + 1) * size)
        self.team, self.groups = arch.lanes >> layer["teams_log2"], layer["groups"]
        places = np.full((self.team * self.groups, operand.places.shape[1]), operand.pixels)
        inside = rows < total
        places[: len(rows)][inside] = operand.places[rows[inside]]
        y, x = np.divmod(rows[inside], layer["out_width"])
        low, high = ((int(bound(y)), int(bound(x))) for bound in (np.min, np.max))
        self.pixels = [y * sweep["width"] + x for y, x in rectangle(sweep, low, high)]
        words = operand.ones.sum(1)
        lines = -(-(words[self.pixels] << layer["operand_log2"]) // arch.chunk_bits)
        self.spread = int(np.maximum(lines, sweep["tap_chunks"]).sum())
        counts = words[places].sum(1).tolist()
        dealt = first_deal(layer, counts, arch.lanes)
        changes = exchanges(dealt, counts, arch.lanes) if layer["deal"] else []
        held = places[np.array(exchanged(dealt, changes))]
        self.dealing = self.team * self.groups + (4 * len(changes) + 2 * (len(changes) < arch.lanes) if layer["deal"] else 0)
        self.matches = tuple(self._matches(held, operand, each) for each in columns)

    @staticmethod
    def _matches(held: NDArray[np.int64], operand: Operand, columns: Columns) -> list[list[int]]:
        column, place = columns.index
        found = np.zeros((columns.bits.shape[1] * columns.bits.shape[2], len(columns.bits), held.shape[1]), np.int64)
        for tap in range(columns.bits.shape[1]):
            rows = operand.bits[held[:, :, tap]].sum(0)
            for piece in range(columns.bits.shape[2]):
                found[tap * columns.bits.shape[2] + piece] = columns.bits[:, tap, piece] @ rows[:, piece].T
        return list(found[place, column].tolist())


class Pixels:
    """`hdl.pixel_loader.PixelLoader`; ``begin`` names the tile whose pixels are read from the next cycle on."""

    def __init__(self, arch: Arch, layer: dict[str, int], sweep: dict[str, int], operand: Operand) -> None:
        self.layer, self.sweep, self.ones = layer, sweep, operand.ones.tolist()
        self.masks, self.values = (Fetch(arch, arch.chunk_bits // 8, arch.outstanding) for _ in range(2))
        self.state, self.over, self.left = "IDLE", False, deque[int]()
        self.masks_left = self.values_left = self.piece = self.total = 0
        self.begin: list[int] | None = None

    @property
    def counted(self) -> bool:
        """Whether the words of all rows are counted."""
        return self.state == "IDLE" and self.masks_left == 0

    @property
    def loaded(self) -> bool:
        """Whether everything is there."""
        return self.counted and self.values_left == 0

    @property
    def quiet(self) -> bool:
        """Whether nothing moves before the next tile."""
        return self.loaded and self.begin is None and self.masks.idle and self.values.idle

    def step(self, now: int, grants: tuple[int, int], beats: tuple[bool, bool], *, release: bool) -> None:
        """End cycle ``now``; grants and beats are those of values and masks."""
        masks, values, sweep = self.masks, self.values, self.sweep
        mask_run: tuple[int, int, Any] | None = None
        value_run: tuple[int, int, Any] | None = None
        taken = False
        asked = done = 0
        if masks.valid:
            pixel, last = masks.user, masks.last
            total = self.total + self.ones[pixel][self.piece]
            need = last and total != 0
            taken = not need or values.ready
            if taken:
                if need:
                    value_run = (sweep["values"] + pixel * sweep["slot_stride"],
                                 ((total << self.layer["operand_log2"]) + 7) >> 3, None)
                self.total, self.piece = (0, 0) if last else (total, self.piece + 1)
                done = int(last)
        given = int(values.valid and values.last)
        take_value = values.valid
        if self.state == "WALK":
            if masks.ready:
                pixel, asked = self.left.popleft(), 1
                mask_run = (sweep["masks"] + pixel * sweep["mask_stride"], sweep["mask_stride"], pixel)
                if not self.left:
                    self.state, self.over = "PASS", True
        elif self.state == "FIELDS":
            self.state = "WALK"
        elif self.state == "PASS":
            self.state = "IDLE" if self.over else "FIELDS"
        elif self.begin is not None:
            self.left, self.over, self.state, self.begin = deque(self.begin), False, "PASS", None
        self.masks_left += asked - done
        self.values_left += (value_run is not None) - given
        values.step(value_run, granted=grants[0], beat=beats[0], take=take_value)
        masks.step(mask_run, granted=grants[1], beat=beats[1], take=taken)


@dataclass
class Before:
    """What is known of a team before a chunk: chunks looked up, columns, and of every lane its free lines and cycles."""

    issued: int
    have: int
    lanes: list[tuple[int, int, int, int, int]]


class Lanes:
    """`hdl.loom_join.LoomJoin` and `hdl.loom_sums.LoomSums` of all lanes, chunk after chunk.

    A lane looks a chunk up two ahead of the one that it gives matches of; one without matches leaves after a cycle.
    """

    def __init__(self, arch: Arch, teams: int) -> None:
        self.depth, self.window, self.columns = arch.window_chunks, arch.window_lines, arch.window_columns
        size = arch.lanes // teams
        self.teams = [range(team * size, (team + 1) * size) for team in range(teams)]
        self.left, self.begun, self.done, self.stored = ([-1] * arch.lanes for _ in range(4))
        self.free: list[list[int]] = [[] for _ in range(arch.lanes)]
        self.issued, self.taken, self.have = ([list[int]() for _ in range(teams)] for _ in range(3))
        self.puts: list[list[tuple[int, list[int], int, bool]]] = [[] for _ in range(teams)]
        self.before: list[Before | None] = [None] * teams
        self.chunks_put, self.lines_put, self.opened = [0] * teams, [0] * teams, 0

    @property
    def idle_at(self) -> int:
        """The cycle from which on nothing that was put is in the lanes."""
        return max(self.stored) + 1

    def room(self, team: int, ahead: int = 0) -> int:
        """Return the first cycle in which all lanes of a team take a line and a chunk.

        ahead : lines that came of a chunk that is not complete
        """
        lanes = self.teams[team]
        chunk, line = self.chunks_put[team] - self.depth, self.lines_put[team] + ahead - self.window
        return max(self.issued[team][chunk] + 1 if chunk >= 0 else 0,
                   max(self.free[lane][line] for lane in lanes) + 1 if line >= 0 else 0)

    def put(self, now: int, team: int, matches: list[int], lines: int, *, end: bool) -> None:
        """Take a chunk of ``lines`` lines in cycle ``now``; ``matches`` are those of the lanes of a team."""
        self.chunks_put[team] += 1
        self.lines_put[team] += lines
        self._put(team, (now, matches, lines, end))

    def take(self, now: int, team: int) -> None:
        """Forget the sums of the team's next column in cycle ``now``, and work again on what waited to know that."""
        self.taken[team].append(now)
        before, again = self.before[team], self.puts[team]
        if before is None:
            return
        self.before[team], self.puts[team] = None, []
        del self.issued[team][before.issued :], self.have[team][before.have :]
        for lane, (free, *state) in zip(self.teams[team], before.lanes, strict=True):
            del self.free[lane][free:]
            self.left[lane], self.begun[lane], self.done[lane], self.stored[lane] = state
        for each in again:
            self._put(team, each)

    def _put(self, team: int, each: tuple[int, list[int], int, bool]) -> None:
        """Work on a chunk; from the first one on that ends sums which wait for unknown cycles, all are kept to do it again."""
        now, matches, lines, end = each
        have, taken, lanes = self.have[team], self.taken[team], self.teams[team]
        wait, column = 0, len(have) - self.columns
        if end and column >= 0:
            wait = taken[column] + 1 if column < len(taken) else NEVER
        if wait == NEVER and self.before[team] is None:
            self.before[team] = Before(len(self.issued[team]), len(have), [
                (len(self.free[lane]), self.left[lane], self.begun[lane], self.done[lane], self.stored[lane])
                for lane in lanes])
        if self.before[team] is not None:
            self.puts[team].append(each)
        self._work(now, team, matches, lines, wait, end=end)
        if end:
            have.append(max(self.stored[lane] for lane in lanes) + 1)

    def _work(self, now: int, team: int, matches: list[int], lines: int, wait: int, *, end: bool) -> None:
        latest, size = 0, len(self.teams[team])
        for lane in self.teams[team]:
            count, free = matches[lane % size], self.free[lane]
            issue = max(now + QUEUED, self.left[lane], self.opened)
            leave, done = issue + LOOKED_UP, self.done[lane]
            latest = max(latest, issue)
            if count or end:
                leave = max(leave, self.begun[lane] - 1)
                begun = (leave if leave > done else done) + 1
                now_done = max(begun, self.stored[lane]) + (count or 1) - 1
                free.extend([now_done] * lines)
                self.begun[lane], self.done[lane] = begun, now_done
                if end:
                    self.stored[lane] = max(now_done + 1, wait)
            else:
                free.extend([leave if leave > done else done] * lines)
            self.left[lane] = leave
        self.issued[team].append(latest)


class Tail:
    """`hdl.tail.Tail` with its neurons, fiber writers and the writes, on a clock of its own.

    stored : bool [output pixels, columns] of the layer: which output words are not silent
    popped : when the column that came last is done with
    """

    def __init__(self, arch: Arch, layer: dict[str, int], stored: NDArray[np.bool_], writes: "Writes") -> None:
        self.arch, self.layer, self.writes = arch, layer, writes
        self.neurons, self.group, self.tile = Neurons(arch, layer["steps"]), 0, 0
        writers = 1 if layer["merge"] else layer["groups"]
        resume = {**layer, "resume": 0}
        self.fibers = [Fibers(arch, resume, stored, [[] for _ in range(layer["row_tiles"])]) for _ in range(writers)]
        self.stored, self.popped = stored, 0
        self.drained: list[int] = []
        self._open()

    def _open(self) -> None:
        size = self.layer["tile_pixels"]
        first = self.tile * size
        for number, fibers in enumerate(self.fibers):
            fibers.open(self.tile, first + number * self.arch.lanes, min(len(self.stored), first + size))

    def column(self, valid: int, have: int, ready: int, *, last: bool) -> int:
        """Run until a column is done with, and with the last one until the tile is; return when its sums are taken.

        valid, have, ready : first cycles in which its parameters and its sums are there and the tile is known
        """
        writes, groups = self.writes, self.layer["groups"]
        self.until(max(valid, ready))
        self._step()
        taken = 0
        for _ in range(groups):
            self.until(have + 1)
            taken = writes.now
            self._step()
            while not self._step(fire=True):
                pass
        self.popped = writes.now - 1
        if last:
            while not self.neurons.idle or any(fibers.waiting for fibers in self.fibers):
                self._step()
            self._step()
            self.drained.append(writes.now - 1)
            self.tile += 1
            self._open()
        return taken

    def until(self, cycle: int) -> None:
        """Let cycles before ``cycle`` pass in which no group comes or goes."""
        while self.writes.now < cycle:
            if self._quiet():
                self.writes.skip(cycle - self.writes.now)
            else:
                self._step()

    def _quiet(self) -> bool:
        neurons = self.neurons
        return not neurons.busy and not neurons.word and self.writes.quiet and all(fibers.quiet for fibers in self.fibers)

    def _step(self, *, fire: bool = False) -> bool:
        """End a cycle; return whether neurons started."""
        chosen = 0 if self.layer["merge"] else self.group
        hold = self.fibers[chosen].waiting
        last = self.group + 1 == self.layer["groups"]
        coming = self.neurons.word and not hold and (not self.layer["merge"] or last)
        piece, sender = None, -1
        for number, fibers in enumerate(self.fibers):
            piece = fibers.piece()
            if piece is not None:
                sender = number
                break
        accepted = piece is not None and self.writes.store.accepts(piece)
        for number, fibers in enumerate(self.fibers):
            if not fibers.quiet or (coming and number == chosen):
                fibers.step(accepted=accepted and number == sender, coming=coming and number == chosen)
        fired, put = self.neurons.step(fire=fire, hold=hold)
        if put:
            self.group = 0 if last else self.group + 1
            if coming:
                self.fibers[chosen].put()
        self.writes.cycle(piece=piece)
        return fired


class Writes:
    """`hdl.bus.store.Store` with a memory that is only written; ``now`` is the cycle since start."""

    def __init__(self, arch: Arch, latency: int, bandwidth: int) -> None:
        self.memory = Memory(arch.data_bits // 8, latency, bandwidth)
        self.store, self.now = Store(arch, self.memory), 1

    @property
    def quiet(self) -> bool:
        """Whether nothing moves before the next piece."""
        store = self.store
        return not (store.queue.queue or store.crossing or store.outstanding)

    def cycle(self, *, piece: tuple[int, int] | None = None, flush: bool = False) -> None:
        """End one cycle."""
        address, data = self.store.step(piece, flush=flush)
        self.memory.step(0, read_taken=False, address=address, data=data)
        self.now += 1

    def skip(self, cycles: int) -> None:
        """Pass over cycles in which nothing moves."""
        self.now += cycles
        self.memory.skip(cycles)

    def finish(self, address: int, size: int) -> None:
        """Write words one after the other, then wait for every response."""
        for at in range(address, address + size, 4):
            taken = False
            while not taken:
                taken = self.store.accepts((at, 4))
                self.cycle(piece=(at, 4))
        idle = False
        while not idle:
            idle = self.store.idle
            self.cycle(flush=True)


class Stream:
    """`hdl.column_stream.ColumnStream`: beats in, chunks to the lanes.

    pushed, popped : per column of all tiles, when its parameters go to their queue, and when the tail is done with it
    ended : columns whose last chunk was put, of all tiles
    """

    def __init__(self, arch: Arch, layer: dict[str, int], columns: Columns, lanes: Lanes, number: int) -> None:
        self.columns, self.lanes, self.number, self.teams = columns, lanes, number, 1 << layer["teams_log2"]
        self.unit, self.line = arch.data_bits // 8, arch.chunk_bits // 8
        window = 1 << (COLUMN_BYTES + -(-arch.max_chunks // 8) + arch.chunk_bits // 4 - 1).bit_length()
        self.capacity, depth, self.page = window + 2 * self.unit, arch.weight_bytes // self.unit, 4096 // self.unit
        self.beats, self.credit, self.most = Fifo(depth), depth, min(arch.burst_beats, depth // BURSTS, self.page)
        self.length = layer["stream_bytes"] // self.unit
        self.origin = layer["weights"] // self.unit + number * self.length
        self.asked, self.given, self.rounds = 0, self.length, layer["row_tiles"]
        self.fill, self.arriving, self.state = 0, False, "IDLE"
        self.chunk = self.column = self.team = self.bytes_left = self.ahead = self.room_at = self.ended = 0
        self.matches, self.pushed, self.popped = list[list[int]](), list[int](), list[int]()

    @property
    def burst(self) -> int:
        """Beats of the request that is shown, 0 for none."""
        if not self.rounds:
            return 0
        burst = min(self.length - self.asked, self.most, self.page - (self.origin + self.asked) % self.page)
        return burst if self.credit >= burst else 0

    @property
    def idle(self) -> bool:
        """Whether no tile is read."""
        return self.state == "IDLE" and self.given == self.length

    @property
    def quiet(self) -> bool:
        """Whether nothing moves before the lanes have room, but for requests."""
        if self.arriving or (self.beats.queue and not self.beats.valid) or self.state == "HEAD":
            return False
        if self.state == "IDLE":
            return self.given == self.length or not self.beats.valid
        return self.fill >= self._needed() and not (
            self.beats.valid and self.given != self.length and self.fill + self.unit <= self.capacity)

    @property
    def moves_at(self) -> int:
        """The first cycle in which the lanes take what comes next."""
        if self.room_at >= NEVER:
            self.room_at = self.lanes.room(self.team, self.ahead)
        return self.room_at

    def step(self, now: int, *, granted: int, beat: bool, close: bool, allowed: bool, ready: bool) -> None:
        """End a cycle; with ``close`` the next tile begins, chunks go when it is ``allowed``, heads when taps are ``ready``."""
        arriving = self.unit if self.arriving else 0
        want = self.fill + arriving + self.unit <= self.capacity
        taken = (self.beats.valid and self.given != self.length and not close and (want or self.state == "IDLE"))
        take = 0
        if close:
            self.state = "HEAD" if self.columns.first else "IDLE"
            self.chunk, self.column, self.team = 0, 0, self.number % self.teams
        elif self.state == "HEAD":
            if ready and self._head_seen(now, 0):
                take = self._head(now)
        elif self.state != "IDLE" and allowed:
            take = self._chunk(now, ready)
        self.fill += arriving - take
        self.arriving = taken
        if close:
            self.fill, self.arriving, self.given = 0, False, 0
        self.given += taken
        self.credit += taken - granted
        if granted:
            self.asked += granted
            if self.asked == self.length:
                self.asked, self.rounds = 0, self.rounds - 1
        self.beats.step([True] if beat else [], pop=taken)

    def _head_seen(self, now: int, at: int) -> bool:
        old = len(self.pushed) - COLUMNS_QUEUED
        full = old >= 0 and (old >= len(self.popped) or self.popped[old] >= now)
        return self.fill >= at + self.columns.head and not full

    def _head(self, now: int) -> int:
        self.pushed.append(now)
        self._mask()
        return self.columns.head

    def _mask(self) -> None:
        self.state, self.bytes_left, self.ahead = "MASK", self.columns.sizes[self.chunk], 0
        self.room_at = self.lanes.room(self.team)

    def _needed(self) -> int:
        return min(self.bytes_left, self.line) + (self.columns.masks[self.chunk] if self.state == "MASK" else 0)

    def _chunk(self, now: int, ready: bool) -> int:
        """Give a line, and with the last one the chunk; return the bytes that are taken."""
        columns, chunk, take = self.columns, self.chunk, self._needed()
        if self.fill < take or now < self.moves_at:
            return 0
        if self.bytes_left > self.line:
            self.bytes_left -= self.line
            self.state, self.ahead = "WEIGHTS", self.ahead + 1
            self.room_at = self.lanes.room(self.team, self.ahead)
            return take
        end = columns.ends[chunk]
        self.lanes.put(now, self.team, self.matches[chunk], columns.lines[chunk], end=end)
        self.chunk += 1
        if not end:
            self._mask()
            return take
        self.ended, self.column, self.team = self.ended + 1, self.column + 1, (self.team + 2) % self.teams
        if self.column == len(columns.first):
            self.state = "IDLE"
        elif ready and self._head_seen(now, take):
            take += self._head(now)
        else:
            self.state = "HEAD"
        return take


class Streams:
    """Both streams of `hdl.loom_array.LoomArray` with the lanes, and the way of the columns to the tail.

    now : the cycle; counted : whether the masks of the first tile are there, so that memory is asked from the next cycle on
    """

    def __init__(self, arch: Arch, layer: dict[str, int], columns: tuple[Columns, Columns], tail: Tail, now: int) -> None:
        self.teams, self.columns = 1 << layer["teams_log2"], layer["columns"]
        self.lanes, self.tail, self.now, self.ready_at = Lanes(arch, self.teams), tail, now, now + TABLE + layer["chunks"]
        self.both = [Stream(arch, layer, own, self.lanes, number) for number, own in enumerate(columns)]
        self.beats, self.turn, self.tile_ready = deque[list[int]](), 0, 0
        self.counted = self.read = False
        self.column = 0

    @property
    def burst(self) -> int:
        """Beats of the request that is shown, 0 for none."""
        return next((stream.burst for stream in self.both if stream.burst), 0) if self.read else 0

    @property
    def idle(self) -> bool:
        """Whether no tile is read."""
        return all(stream.idle for stream in self.both)

    @property
    def quiet(self) -> bool:
        """Whether nothing moves before the lanes have room."""
        return not self.burst and all(stream.quiet for stream in self.both)

    @property
    def moves_at(self) -> int:
        """The first cycle in which the lanes take something, or are idle behind a tile."""
        rooms = [stream.moves_at for stream in self.both if stream.state != "IDLE" and self._allowed(stream)]
        return min(rooms) if rooms else self.lanes.idle_at

    def _allowed(self, stream: Stream) -> bool:
        return self.teams > 1 or self.turn == stream.number

    def open(self, tile: Tile, opened: int, ready: int) -> None:
        """Go on with a tile whose rows are complete in cycle ``opened``, and known to the tail in ``ready``."""
        self.lanes.opened, self.tile_ready = opened, ready
        for stream, matches in zip(self.both, tile.matches, strict=True):
            stream.matches = matches

    def step(self, *, granted: int, beat: bool, close: bool) -> None:
        """End a cycle; with ``close`` the next tile begins."""
        now, self.now = self.now, self.now + 1
        asks = next((stream.number for stream in self.both if stream.burst), 0)
        to = self.beats[0][0] if beat else -1
        if beat:
            self.beats[0][1] -= 1
            if not self.beats[0][1]:
                self.beats.popleft()
        if granted:
            self.beats.append([asks, granted])
        ended = sum(stream.ended for stream in self.both)
        for stream in self.both:
            stream.step(now, granted=granted if stream.number == asks else 0, beat=stream.number == to, close=close,
                        allowed=self._allowed(stream), ready=now >= self.ready_at)
        if close:
            self.turn = 0
        elif ended != sum(stream.ended for stream in self.both):
            self.turn ^= 1
            self.both[self.turn].room_at = NEVER
            self._give()
        self.read = self.counted

    def _give(self) -> None:
        """Let the tail take the columns whose sums are known, in their order."""
        while True:
            tile, column = divmod(self.column, self.columns)
            team, stream, own = column % self.teams, self.both[column % 2], column // 2
            number = tile * ((self.columns + self.teams - 1 - team) // self.teams) + column // self.teams
            if number >= len(self.lanes.have[team]) or self.lanes.have[team][number] >= NEVER:
                return
            own += tile * len(stream.columns.first)
            valid = max(stream.pushed[own] + QUEUED, stream.popped[-1] + 1 if own else 0)
            taken = self.tail.column(valid, self.lanes.have[team][number], self.tile_ready, last=column + 1 == self.columns)
            stream.popped.append(self.tail.popped)
            self.column += 1
            self.lanes.take(taken, team)


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
