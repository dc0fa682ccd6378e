"""What the loom's lanes and its tail do, cycle by cycle of their own clocks: `perf.loom` tells when columns come to them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch
from perf.bus import Memory, Store
from perf.fibers import Fibers, Neurons

# A payload shows QUEUED cycles after it came to a queue; a chunk's masks are compared LOOKED_UP cycles after it left its queue,
# and its matches begin a cycle later.
QUEUED, LOOKED_UP = 2, 1
# No cycle that comes: what is known so far does not tell.
NEVER = 1 << 62


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
