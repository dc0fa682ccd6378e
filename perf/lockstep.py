"""Cycles of a program on the lockstep array, from its memory image alone: no RTL is run.

What waits for memory is stepped cycle by cycle, state machine by state machine, as the RTL has it: the sequencer's reads, the
loaders of rows and weights, the read port, the memory, the tail, the writes. The array, where most of the time goes, is not:
a chunk takes the matches of its busiest lane, and cycles between two columns in which nothing else moves are passed over at
once. The lanes are stepped only while a result waits for the tail, which is when their FIFOs fill.

For layers of one identity pass with a neuron, without pools, residuals or stored currents, on operands that lie in the image.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch, ParameterError
from golden.formats import HEADER, HEADER_BYTES, LAYER, PASS, RECORD_BYTES, STATS, STATS_BYTES, TILE, unpack

TILE_HEADER_BYTES = 64
WRITES_OUTSTANDING = 64
SETTLED = 64
UNKNOWN = ("store_currents", "readout", "residual", "max_pool", "or_pool", "ttfs")


class Fifo:
    """`hdl.bus.fifo.Fifo`: two cycles from an empty queue, then one entry a cycle."""

    def __init__(self, depth: int) -> None:
        self.depth, self.queue, self.valid = depth, deque[Any](), False

    @property
    def ready(self) -> bool:
        """Whether an entry fits."""
        return len(self.queue) != self.depth

    @property
    def head(self) -> Any:
        """The oldest entry; only while ``valid``."""
        return self.queue[0]

    def step(self, push: list[Any], *, pop: bool) -> None:
        """End a cycle in which ``push`` (one entry or none) came and the head, if ``pop``, was taken."""
        total = len(self.queue)
        load = total > 1 if self.valid and pop else not self.valid and total != 0
        if self.valid and pop:
            self.queue.popleft()
            self.valid = False
        self.queue.extend(push)
        self.valid = self.valid or load


class Memory:
    """The harness's memory: order of reads and writes, latency, bytes a cycle."""

    def __init__(self, beat: int, latency: int, bandwidth: int) -> None:
        self.beat, self.latency, self.bandwidth, self.now = beat, latency, bandwidth, 0
        self.most = beat + bandwidth - 1
        self.read_credit = self.write_credit = self.most
        self.reads: deque[list[int]] = deque()
        self.waiting: deque[int] = deque()
        self.answers: deque[int] = deque()
        self.read_busy = self.answer_busy = self.last = self.wready = False

    def step(self, length: int, *, read_taken: bool, address: bool, data: bool) -> None:
        """End a cycle: a read of ``length`` beats (0: none) and a write's address or data are accepted, a beat is taken."""
        self.now += 1
        self.read_credit = min(self.most, self.read_credit + self.bandwidth)
        self.write_credit = min(self.most, self.write_credit + self.bandwidth)
        due = self.now + self.latency - 1
        if length:
            self.reads.append([length, due])
        if read_taken:
            self.read_busy = False
        if (not self.read_busy and self.reads and self.reads[0][1] <= self.now
                and (not self.bandwidth or self.read_credit >= self.beat)):
            self.reads[0][0] -= 1
            self.last = self.reads[0][0] == 0
            if self.last:
                self.reads.popleft()
            if self.bandwidth:
                self.read_credit -= self.beat
            self.read_busy = True
        if address:
            self.waiting.append(0)
        if data:
            self.waiting.popleft()
            self.answers.append(due)
            if self.bandwidth:
                self.write_credit -= self.beat
        self.answer_busy = False
        if self.answers and self.answers[0] <= self.now:
            self.answers.popleft()
            self.answer_busy = True
        self.wready = bool(self.waiting) and (
            not self.bandwidth or min(self.most, self.write_credit + self.bandwidth) >= self.beat)

    @property
    def idle(self) -> bool:
        """Whether no read is on its way."""
        return not self.reads and not self.read_busy

    def skip(self, cycles: int) -> None:
        """Let idle cycles pass."""
        self.now += cycles
        self.read_credit = min(self.most, self.read_credit + cycles * self.bandwidth)
        self.write_credit = min(self.most, self.write_credit + cycles * self.bandwidth)


class Fetch:
    """`hdl.bus.fetch.Fetch`: runs of bytes in, requests and pieces out."""

    def __init__(self, arch: Arch, piece: int) -> None:
        self.beat, self.piece, self.page = arch.data_bits // 8, piece, 4096 // (arch.data_bits // 8)
        self.most = min(arch.burst_beats, arch.outstanding, self.page)
        self.beats, self.runs, self.credit = Fifo(arch.outstanding), Fifo(16), arch.outstanding
        self.next_beat, self.held, self.left = 0, False, 0
        self.running = self.have = self.empty = False
        self.offset = self.after = 0
        self.user: Any = None

    @property
    def ready(self) -> bool:
        """Whether a run is taken."""
        return self.runs.ready and not self.left

    @property
    def burst(self) -> int:
        """Beats of the request that is shown, 0 for none."""
        if not self.left:
            return 0
        burst = min(self.left, self.most, self.page - self.next_beat % self.page)
        return burst if self.credit >= burst else 0

    @property
    def size(self) -> int:
        """Bytes of the piece."""
        return 0 if self.empty else min(self.piece, self.after + 1)

    @property
    def valid(self) -> bool:
        """Whether a piece is there."""
        return self.running and (self.empty or (
            self.have and (self.offset + self.size <= self.beat or self.beats.valid)))

    @property
    def last(self) -> bool:
        """Whether the piece ends its run."""
        return self.empty or self.after < self.piece

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight."""
        return not (self.left or self.running or self.runs.queue or self.beats.queue)

    @property
    def quiet(self) -> bool:
        """Whether nothing moves before a piece is taken or a beat comes."""
        return self.idle or (self.valid and not self.left)

    def step(self, run: tuple[int, int, Any] | None, *, granted: int, beat: bool, take: bool, forget: bool = False) -> None:
        """End a cycle: a run (address, bytes, user) was accepted, a request granted, a beat came, the piece was taken."""
        pop_beat = pop_run = False
        size, last, empty = self.size, self.last, self.empty
        running, have = self.running, self.have
        if take:
            stop = self.offset + size
            self.after -= self.piece
            if last:
                self.running = False
            if not empty:
                if stop > self.beat or (stop == self.beat and not last):
                    pop_beat = True
                    self.have = self.have if stop > self.beat else self.beats.valid
                    self.offset = stop - self.beat
                else:
                    self.offset = stop
        if running and not have and not empty:
            pop_beat, self.have = True, self.beats.valid
        if (not running or (take and last)) and self.runs.valid:
            pop_run = True
            address, length, self.user, reuse = self.runs.head
            self.running, self.offset, self.after, self.empty = True, address % self.beat, length - 1, length == 0
            if length:
                self.have = reuse
        accepted = []
        if run is not None:
            address, length, user = run
            first = address // self.beat
            reuse = self.held and self.next_beat == first + 1 and not forget
            before = address % self.beat + (-1 if reuse else self.beat - 1)
            self.left = (before + length) // self.beat if length else 0
            if length:
                self.held = True
                if not reuse:
                    self.next_beat = first
            accepted.append((address, length, user, reuse))
        elif forget:
            self.held = False
        if granted:
            self.next_beat += granted
            self.left -= granted
        self.credit += (self.beats.valid and pop_beat) - granted
        self.beats.step([True] if beat else [], pop=pop_beat)
        self.runs.step(accepted, pop=pop_run)


class Store:
    """`hdl.bus.store.Store` and the write side of the memory."""

    def __init__(self, arch: Arch, memory: Memory) -> None:
        self.beat, self.memory, self.queue = arch.data_bits // 8, memory, Fifo(4)
        self.held, self.address, self.crossing = False, 0, False
        self.outstanding, self.aw_done, self.w_done = 0, False, False
        self.go = self.leave = False

    @property
    def idle(self) -> bool:
        """Whether nothing is held and every response has come."""
        return not (self.held or self.crossing or self.queue.queue or self.outstanding)

    def accepts(self, piece: tuple[int, int]) -> bool:
        """Return whether a piece (address, bytes) is taken in this cycle."""
        if self.crossing:
            return False
        return not piece[1] or not self.held or self.address == piece[0] // self.beat or self.queue.ready

    def step(self, piece: tuple[int, int] | None, *, flush: bool = False) -> tuple[bool, bool]:
        """End a cycle; return whether a write's address and its data were accepted."""
        push: list[bool] = []
        if self.crossing:
            if self.queue.ready:
                push, self.crossing, self.address = [True], False, self.address + 1
        elif piece is not None:
            if piece[1] and self.accepts(piece):
                first = piece[0] // self.beat
                if self.held and self.address != first:
                    push = [True]
                self.crossing = piece[0] % self.beat + piece[1] > self.beat
                self.held, self.address = True, first
        elif flush and self.held and self.queue.ready:
            push, self.held = [True], False
        go = self.queue.valid and self.outstanding != WRITES_OUTSTANDING
        address, data = go and not self.aw_done, go and not self.w_done and self.memory.wready
        leave = go and (self.w_done or self.memory.wready)
        self.outstanding += leave - self.memory.answer_busy
        self.aw_done, self.w_done = (False, False) if leave else (self.aw_done or address, self.w_done or data)
        self.queue.step(push, pop=leave)
        return address, data


class Rows:
    """`hdl.row_loader.RowLoader` with its walker: the rows of a tile into the lanes, one tile ahead.

    steps : per tile the walk as (mask address, bytes, set bits, lane, value address, fiber end, row end)
    """

    def __init__(self, arch: Arch, word_log2: int, steps: Callable[[int], Iterator[tuple[Any, ...]]], tiles: int) -> None:
        self.arch, self.word_log2, self.steps = arch, word_log2, steps
        self.masks, self.values = Fetch(arch, arch.chunk_bits // 8), Fetch(arch, arch.chunk_bits // 8)
        self.left, self.tile, self.filled, self.busy = tiles, 0, 0, False
        self.walk: Iterator[tuple[Any, ...]] = iter(())
        self.fields = 0
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
        if self.fields:
            self.fields -= 1
            if not self.fields:
                self.next = next(self.walk)
        elif self.next is not None and masks.ready:
            address, size, ones, lane, value_address, fiber_end, row_end = self.next
            mask_run = (address, size, (lane, ones, value_address, fiber_end, row_end))
            self.next = None if row_end else next(self.walk)
        if self.left and not self.busy and self.filled != 2:
            self.walk, self.fields, self.busy = self.steps(self.tile), 16, True
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


class Neurons:
    """`hdl.parallel_lif.ParallelLif` of all lanes, and how many words are on their way."""

    def __init__(self, arch: Arch, steps: int) -> None:
        self.unrolled, self.steps = min(arch.steps_per_cycle, arch.t_max), steps
        self.busy, self.left, self.word, self.in_flight = False, 0, False, 0

    @property
    def idle(self) -> bool:
        """Whether no word is on its way."""
        return self.in_flight == 0

    def step(self, *, fire: bool, hold: bool) -> tuple[bool, bool]:
        """End a cycle; return whether a neuron started and whether a word left."""
        put, last = self.word and not hold, self.left <= self.unrolled
        advance = self.busy and (not last or not self.word or put)
        fired = fire and (not self.busy or (advance and last))
        self.in_flight += fired - put
        if put:
            self.word = False
        if advance:
            self.left -= self.unrolled
            if last:
                self.busy, self.word = False, True
        if fired:
            self.busy, self.left = True, self.steps
        return fired, put


class Fibers:
    """`hdl.fiber_writer.FiberWriter`: the output fibers of the pixels from ``first`` to ``stop``, one a lane.

    stored : bool [output pixels, columns] of the descriptor: which output words are not silent
    ends : per row tile the bits that each lane's open output fiber holds; kept between the parts of a layer
    """

    def __init__(self, arch: Arch, layer: dict[str, int], stored: NDArray[np.bool_], ends: list[list[int]]) -> None:
        self.arch, self.layer, self.stored, self.ends = arch, layer, stored, ends
        lanes = arch.lanes
        self.tile, self.first, self.stop = 0, 0, len(stored)
        self.column, self.closing, self.loaded = 0, False, False
        self.sending, self.lane, self.of_mask, self.channels = False, 0, False, 0
        self.masks, self.values, self.fill, self.begin = [False] * lanes, [False] * lanes, [0] * lanes, [0] * lanes
        self.mask_index, self.value_index, self.ended = [0] * lanes, [0] * lanes, [False] * lanes

    @property
    def waiting(self) -> bool:
        """Whether pieces hold the neurons."""
        return self.closing or True in self.masks or True in self.values

    @property
    def quiet(self) -> bool:
        """Whether nothing moves before the next word comes."""
        return not self.sending and not self.waiting and True not in self.ended and self.loaded

    @property
    def wanted(self) -> bool:
        """Whether the lane whose piece is sent holds a pixel."""
        return self.first + self.lane < self.stop

    def open(self, tile: int, first: int, stop: int) -> None:
        """Go on with the pixels of another row tile."""
        self.tile, self.first, self.stop, self.loaded = tile, first, stop, False

    def piece(self) -> tuple[int, int] | None:
        """Return (address, bytes) of the piece that is offered to the store."""
        if not self.sending or not self.wanted:
            return None
        lane, layer = self.lane, self.layer
        pixel, size = self.first + lane, self.arch.chunk_bits // 8
        if self.of_mask:
            return (layer["out_masks"] + pixel * layer["out_mask_stride"] + self.mask_index[lane] * size,
                    (self.channels + 7) >> 3)
        return (layer["out_values"] + self.begin[lane] + pixel * layer["out_slot_stride"] + self.value_index[lane] * size,
                (self.fill[lane] + 7) >> 3)

    def put(self) -> None:
        """Take a column of words."""
        bits, width = self.arch.chunk_bits, 1 << self.layer["word_log2"]
        self.channels += 1
        if self.channels == bits:
            self.masks = [True] * self.arch.lanes
        last = min(self.first + self.arch.lanes, self.stop)
        for lane, stored in enumerate(self.stored[self.first : last, self.column].tolist()):
            if stored:
                self.fill[lane] += width
                self.values[lane] = self.fill[lane] == bits
        self.column += 1
        if self.column == self.layer["columns"]:
            self.column, self.closing = 0, True

    def step(self, *, accepted: bool, coming: bool) -> None:
        """End a cycle: send pieces, close fibers, begin new ones.

        accepted : the store takes the piece that is offered; coming : `put` is called for this cycle
        """
        lanes, bytes_of_piece, waiting = self.arch.lanes, self.arch.chunk_bits // 8, self.waiting
        pending = True in self.masks or True in self.values
        ending = self.closing and not pending
        done = self.sending and (accepted or not self.wanted)
        for lane in range(lanes):
            if self.ended[lane] and not self.masks[lane] and not self.values[lane]:
                self.ended[lane], self.mask_index[lane], self.value_index[lane] = False, 0, 0
        if self.column == 0 and not waiting and not coming:
            kept = self.ends[self.tile] if self.layer["resume"] and self.tile < len(self.ends) else [0] * lanes
            self.begin = [bits >> 3 for bits in kept]
            self.fill, self.channels, self.loaded = [bits & 7 for bits in kept], 0, True
        if ending:
            self.closing = False
            self.ends[self.tile] = [8 * (self.begin[n] + self.value_index[n] * bytes_of_piece) + self.fill[n]
                                    for n in range(lanes)]
            self.masks = [self.channels != 0] * lanes
            self.values = [fill != 0 for fill in self.fill]
            self.ended = [True] * lanes
        elif done:
            lane, self.sending = self.lane, False
            if self.of_mask:
                self.masks[lane] = False
                self.mask_index[lane] += 1
                if True not in self.masks:
                    self.channels = 0
            else:
                self.values[lane], self.fill[lane] = False, 0
                self.value_index[lane] += 1
        elif not self.sending and pending:
            self.sending, self.of_mask = True, True in self.masks
            self.lane = (self.masks if self.of_mask else self.values).index(True)


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


class Operand:
    """The rows and columns of one layer as they lie in memory.

    memory : the image with its inputs; layer, sweep : fields of the layer's and its only pass's descriptor
    """

    def __init__(self, arch: Arch, memory: bytes, layer: dict[str, int], sweep: dict[str, int]) -> None:
        self.arch, self.layer, self.sweep = arch, layer, sweep
        chunk, self.channels = arch.chunk_bits // 8, sweep["mask_stride"]
        pixels = sweep["height"] * sweep["width"]
        raw = np.frombuffer(memory, np.uint8, pixels * sweep["mask_stride"], sweep["masks"]).reshape(pixels, -1)
        pieces = sweep["tap_chunks"]
        padded = np.zeros((pixels + 1, pieces * chunk), np.uint8)
        padded[:-1, : raw.shape[1]] = raw
        self.bits = np.unpackbits(padded, axis=1, bitorder="little").reshape(pixels + 1, pieces, -1).astype(np.float32)
        self.ones = self.bits.sum(2).astype(np.int64)
        y, x = np.divmod(np.arange(-(-layer["out_height"] * layer["out_width"] // arch.lanes) * arch.lanes),
                         layer["out_width"])
        taps = []
        for ky in range(sweep["kernel_height"]):
            for kx in range(sweep["kernel_width"]):
                at_y, at_x = y * sweep["stride"] - sweep["padding"] + ky, x * sweep["stride"] - sweep["padding"] + kx
                inside = ((y < layer["out_height"]) & (at_y >= 0) & (at_y < sweep["height"]) & (at_x >= 0)
                          & (at_x < sweep["width"]))
                taps.append(np.where(inside, at_y * sweep["width"] + at_x, pixels))
        self.places = np.stack(taps, 1)
        self.pixels = pixels

    def steps(self, tile: int) -> Iterator[tuple[Any, ...]]:
        """Yield the walk over one tile of rows, as `Rows` takes it."""
        sweep, size, lanes = self.sweep, self.arch.chunk_bits // 8, self.arch.lanes
        places = self.places[tile * lanes : (tile + 1) * lanes].T.tolist()
        pieces = sweep["tap_chunks"]
        for tap, row in enumerate(places):
            for piece in range(pieces):
                end = piece == pieces - 1
                length = sweep["last_bytes"] if end else size
                for lane, pixel in enumerate(row):
                    inside = pixel < self.pixels
                    yield (sweep["masks"] + pixel * sweep["mask_stride"] + piece * size, length if inside else 0,
                           int(self.ones[pixel, piece]), lane, sweep["values"] + pixel * sweep["slot_stride"], end,
                           end and tap == len(places) - 1 and lane == lanes - 1)

    def matches(self, columns: NDArray[np.float32]) -> NDArray[np.int16]:
        """Return the matches [row tiles, columns x chunks, lanes] of every broadcast chunk.

        columns : [columns, taps, pieces, chunk bits] of 0 and 1
        """
        lanes, found = self.arch.lanes, []
        for tap in range(columns.shape[1]):
            rows = self.bits[self.places[:, tap]]
            for piece in range(columns.shape[2]):
                product = rows[:, piece] @ columns[:, tap, piece].T
                found.append(product.astype(np.int16).reshape(-1, lanes, len(columns)))
        every = np.stack(found, 3)
        return np.moveaxis(every, 1, 3).reshape(len(every), -1, lanes)


class WeightTile:
    """A weight tile as it lies in memory; ``at`` is its offset.

    bits : of the masks, [columns, taps, pieces, chunk bits]; mask_bytes, ones : of every chunk
    """

    def __init__(self, arch: Arch, memory: bytes, at: int, sweep: dict[str, int]) -> None:
        head = unpack(TILE, memory[at : at + TILE_HEADER_BYTES])
        self.arch, self.beats, self.columns = arch, head["bytes"] * 8 // arch.data_bits, head["columns"]
        self.next = at + head["bytes"]
        taps, pieces, size = sweep["kernel_height"] * sweep["kernel_width"], sweep["tap_chunks"], arch.chunk_bits // 8
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


class RowReads(Protocol):
    """What reads rows: a fetch of masks, one of values."""

    masks: Fetch
    values: Fetch

    @property
    def quiet(self) -> bool:
        """Whether nothing moves before the array does something."""

    def step(self, now: int, grants: tuple[int, int], beats: tuple[bool, bool], *, release: bool) -> None:
        """End cycle ``now``; grants and beats are those of values and masks."""


class WeightReads(Protocol):
    """What reads weights."""

    @property
    def burst(self) -> int:
        """Beats of the request that is shown, 0 for none."""

    @property
    def quiet(self) -> bool:
        """Whether nothing moves before the array does something."""

    def step(self, *, granted: int, beat: bool, close: bool) -> None:
        """End a cycle."""


class Machine:
    """The accelerator and its memory; ``now`` is the cycle since start.

    latency, bandwidth : of the memory, as `verif.simulate.Memory` has them
    """

    def __init__(self, arch: Arch, image: bytes, latency: int, bandwidth: int) -> None:
        self.arch, self.image, self.now = arch, image, 1
        self.memory = Memory(arch.data_bits // 8, latency, bandwidth)
        self.order = Fifo(arch.outstanding)
        self.request = 0
        self.sequencer = Fetch(arch, 4)
        self.asked: tuple[int, int] | None = None
        self.store = Store(arch, self.memory)
        self.rows: RowReads | None = None
        self.weights: WeightReads | None = None

    def cycle(self, *, take: bool = False, close: bool = False, release: bool = False,
              piece: tuple[int, int] | None = None, flush: bool = False) -> None:
        """End one cycle; ``take`` is the sequencer's, ``close`` and ``release`` are the array's."""
        rows, weights, memory, order = self.rows, self.weights, self.memory, self.order
        bursts = (self.sequencer.burst, weights.burst if weights else 0, rows.values.burst if rows else 0,
                  rows.masks.burst if rows else 0)
        grants = [0, 0, 0, 0]
        chosen = next((number for number, burst in enumerate(bursts) if burst), None) if order.ready else None
        if chosen is not None:
            grants[chosen] = bursts[chosen]
        beat = memory.read_busy and order.valid
        to = order.head if beat else -1
        address, data = self.store.step(piece, flush=flush)
        ended, length = beat and memory.last, self.request
        if rows:
            rows.step(self.now, (grants[2], grants[3]), (to == 2, to == 3), release=release)
        if weights:
            weights.step(granted=grants[1], beat=to == 1, close=close)
        run = (*self.asked, None) if self.asked and self.sequencer.ready else None
        self.asked = None if run else self.asked
        self.sequencer.step(run, granted=grants[0], beat=to == 0, take=take)
        order.step([] if chosen is None else [chosen], pop=ended)
        memory.step(length, read_taken=beat, address=address, data=data)
        self.request = 0 if chosen is None else grants[chosen]
        self.now += 1

    def words(self, count: int, following: tuple[int, int] | None = None) -> None:
        """Take words that the sequencer asked for; with the second it asks for the ``following`` run (address, bytes)."""
        taken = 0
        while taken < count:
            take = self.sequencer.valid
            taken += take
            self.cycle(take=take)
            if take and taken == 2 and following:
                self.asked = following

    def program(self, size: int) -> None:
        """Read a program of ``size`` bytes for its checks, and ask for the record of its first layer."""
        self.asked = (0, HEADER_BYTES)
        self.words(HEADER_BYTES // 4)
        self.cycle()
        self.asked, left, ahead = (HEADER_BYTES, size - HEADER_BYTES), size - HEADER_BYTES, True
        while left:
            take, ask = self.sequencer.valid, ahead and not self.asked
            left -= 4 * take
            self.cycle(take=take)
            if ask:
                self.asked, ahead = (HEADER_BYTES, RECORD_BYTES), False
        self.cycle()

    def settle(self) -> None:
        """Write what is held and wait for every response."""
        while True:
            idle = self.store.idle
            self.cycle(flush=True)
            if idle:
                return

    def write(self, address: int, size: int) -> None:
        """Write words one after the other."""
        for at in range(address, address + size, 4):
            while True:
                taken = self.store.accepts((at, 4))
                self.cycle(piece=(at, 4))
                if taken:
                    break

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

    @property
    def quiet(self) -> bool:
        """Whether nothing moves before array or tail do something."""
        assert self.rows is not None
        assert self.weights is not None
        return (self.rows.quiet and self.weights.quiet and not self.asked and self.sequencer.quiet and not self.request
                and not self.order.queue and self.memory.idle
                and not self.store.queue.queue and not self.store.crossing and not self.store.outstanding)

    def skip(self, cycles: int) -> None:
        """Pass over cycles in which nothing moves."""
        if cycles > 0:
            self.now += cycles
            self.memory.skip(cycles)


def check_layer(number: int, layer: dict[str, int], sweep: dict[str, int]) -> None:
    """Raise `ParameterError` for a layer that the cycle models do not know: fields of its and its first pass's descriptor."""
    if (not sweep["identity"] or not sweep["input"] or layer["passes"] != 1 or any(layer[name] for name in UNKNOWN)
            or not layer["neuron"]):
        raise ParameterError(f"cycle model: layer {number}: must have a neuron and one pass of input spikes, not "
                             f"{layer['passes']} passes, pools, currents or what a layer stored; legal: the programs of "
                             "spikeloom bench loas; try: spikeloom bench loas")


def described(machine: Machine, image: bytes
              ) -> Iterator[tuple[int, dict[str, int], dict[str, int], tuple[int, int] | None]]:
    """Read a program at offset 0 as the sequencer does, and stop where each layer starts.

    Yields (number, layer, its only pass, offset and bytes of the next layer's record, None behind the last one).
    """
    header = unpack(HEADER, image[:HEADER_BYTES])
    machine.program(header["length"])
    at = HEADER_BYTES
    for number in range(header["layers"]):
        layer = unpack(LAYER, image[at : at + RECORD_BYTES])
        sweep = unpack(PASS, image[at + RECORD_BYTES : at + 2 * RECORD_BYTES])
        check_layer(number, layer, sweep)
        machine.words(RECORD_BYTES // 4, (at + RECORD_BYTES, RECORD_BYTES))
        machine.words(RECORD_BYTES // 4)
        at += 2 * RECORD_BYTES
        yield number, layer, sweep, (at, RECORD_BYTES) if number + 1 < header["layers"] else None


def cycles(arch: Arch, image: bytes, stats: int, stored: list[NDArray[np.bool_]], *, latency: int, bandwidth: int) -> int:
    """Return the cycles from start to done of a program at offset 0 of a memory image, as the counter ``cycles`` has them.

    stats : offset of the counter records
    stored : per descriptor, bool [output pixels, columns]: which output words are not silent
    latency, bandwidth : of the memory, as `verif.simulate.Memory` has them
    """
    machine = Machine(arch, image, latency, bandwidth)
    ends = list[list[int]]()
    for number, layer, sweep, following in described(machine, image):
        ends += [[0] * arch.lanes for _ in range(layer["row_tiles"] - len(ends))]
        machine.layer(layer, sweep, stored[number], ends, following)
        machine.cycle()
        machine.write(stats + number * STATS_BYTES, 4 * len(STATS))
        machine.settle()
    return machine.now - 1
