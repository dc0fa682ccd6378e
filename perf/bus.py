"""Cycle models of the blocks of `hdl.bus` and of the memory behind them, a step per cycle."""

from collections import deque
from typing import Any

from golden.arch import WRITES_OUTSTANDING, Arch


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

    def __init__(self, arch: Arch, piece: int, queued: int = 16) -> None:
        self.beat, self.piece, self.page = arch.data_bits // 8, piece, 4096 // (arch.data_bits // 8)
        self.most = min(arch.burst_beats, arch.outstanding, self.page)
        self.beats, self.runs, self.credit = Fifo(arch.outstanding), Fifo(queued), arch.outstanding
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
        self.beat, self.memory, self.addresses, self.queue = arch.data_bits // 8, memory, Fifo(4), Fifo(4)
        self.held, self.address, self.crossing = False, 0, False
        self.outstanding = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is held and every response has come."""
        return not (self.held or self.crossing or self.queue.queue or self.addresses.queue or self.outstanding)

    @property
    def room(self) -> bool:
        """Whether a beat can leave what is held."""
        return self.addresses.ready and self.queue.ready

    def accepts(self, piece: tuple[int, int]) -> bool:
        """Return whether a piece (address, bytes) is taken in this cycle."""
        if self.crossing:
            return False
        return not piece[1] or not self.held or self.address == piece[0] // self.beat or self.room

    def step(self, piece: tuple[int, int] | None, *, flush: bool = False) -> tuple[bool, bool]:
        """End a cycle; return whether a write's address and its data were accepted."""
        push: list[bool] = []
        if self.crossing:
            if self.room:
                push, self.crossing, self.address = [True], False, self.address + 1
        elif piece is not None:
            if piece[1] and self.accepts(piece):
                first = piece[0] // self.beat
                if self.held and self.address != first:
                    push = [True]
                self.crossing = piece[0] % self.beat + piece[1] > self.beat
                self.held, self.address = True, first
        elif flush and self.held and self.room:
            push, self.held = [True], False
        address = self.addresses.valid and self.outstanding != WRITES_OUTSTANDING
        data = self.queue.valid and self.memory.wready
        self.outstanding += address - self.memory.answer_busy
        self.addresses.step(push, pop=address)
        self.queue.step(push, pop=data)
        return address, data
