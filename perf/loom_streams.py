"""What the loom reads, cycle by cycle: two streams of columns, the pixels of a tile, and when the lanes have room for them."""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.arch import BURSTS, COLUMNS_QUEUED, Arch
from golden.formats import COLUMN_BYTES
from golden.pixel_loader import rectangle
from golden.tile_rows import exchanged, exchanges, first_deal
from perf.bus import Fetch, Fifo
from perf.loom_lanes import NEVER, QUEUED, Lanes, Tail
from perf.operand import Operand

# Cycles of the table of taps beside its chunks, from the cycle after the layer's start on.
TABLE = 3


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
