"""Write-verify programming: which pulses bring the cells of a row to their levels, as a function of comparators' answers."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

from golden.arch import require
from golden.imc.arch import CONFIRM_BITS, ORDERS, PULSE_BITS, REFERENCE_BITS, ImcArch, Op, WriteError
from golden.imc.pulse_sweep import NO_PULSES, Pulses, pulse_sweep


@dataclass(frozen=True, kw_only=True)
class Entry:
    """How cells get to one level.

    low : reference that a cell must reach; 0: any cell does
    high : reference that a cell must not reach; 0: no cell does
    set, reset : pulses that make a cell conduct more, and less
    order : of `ORDERS`
    """

    low: int
    high: int
    set: Pulses = NO_PULSES
    reset: Pulses = NO_PULSES
    order: int = 0

    def __post_init__(self) -> None:
        most = (1 << REFERENCE_BITS) - 1
        require(0 <= self.low <= most and 0 <= self.high <= most, "low and high", (self.low, self.high), f"in 0..{most}")
        require(self.low < self.high or not self.high, "high", self.high, f"0, or above low ({self.low})")
        require(0 <= self.order < len(ORDERS), "order", self.order, f"in 0..{len(ORDERS) - 1}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a tile programs; run-time settings.

    entries : one for each level, then those of FORM and of ERASE
    alternations : most changes of polarity after pulses, failed confirmations included, at one level
    confirm_k, confirm_n : a cell is at its level when k of n more reads say so
    ignore_fail : a job goes on with the next level though cells failed
    t_guard : cycles without a mode between two modes
    t_verify, t_pre, t_cool : cycles from the mode to a comparison, to a pulse, and from a pulse to the end of its mode
    patience : cycles in which a comparison must be answered

    The times change no action. One of 0 counts as 1.
    """

    entries: tuple[Entry, ...]
    alternations: int = 20
    confirm_k: int = 2
    confirm_n: int = 3
    ignore_fail: bool = True
    t_guard: int = 1
    t_verify: int = 2
    t_pre: int = 2
    t_cool: int = 2
    patience: int = 1000

    def __post_init__(self) -> None:
        reads = (1 << CONFIRM_BITS) - 1
        require(1 <= self.confirm_n <= reads, "confirm_n", self.confirm_n, f"in 1..{reads}")
        require(1 <= self.confirm_k <= self.confirm_n, "confirm_k", self.confirm_k, f"in 1..confirm_n ({self.confirm_n})")
        for name, value, bits in (("alternations", self.alternations, PULSE_BITS), ("t_guard", self.t_guard, 4),
                                  ("t_verify", self.t_verify, 8), ("t_pre", self.t_pre, 8), ("t_cool", self.t_cool, 8),
                                  ("patience", self.patience, 16)):
            require(0 <= value < 1 << bits, name, value, f"in 0..{(1 << bits) - 1}")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row to work on.

    op : an `Op`; other numbers end in an error
    levels : of every column, for PROG and TEST
    mask : columns that take part, the lowest bit is column 0; no other cell is ever pulsed
    """

    op: int
    row: int
    levels: tuple[int, ...]
    mask: int


@dataclass(frozen=True)
class Verify:
    """Ask for the columns of a row that conduct at least a reference; the answer is their mask, or None: there is none."""

    row: int
    reference: int


@dataclass(frozen=True)
class Pulse:
    """Drive the masked columns of a row, all with one polarity; ``width`` in cycles."""

    row: int
    mask: int
    reset: bool
    width: int
    word: int
    bit: int


@dataclass
class Counts:
    """What a job took: pulses, comparisons, alternations, and cells pulsed summed over pulses.

    A level takes at most 64 visits of 63 pulses, so 16 levels of 256 columns stay below 2^24.
    """

    set: int = 0
    reset: int = 0
    reads: int = 0
    alternations: int = 0
    set_bits: int = 0
    reset_bits: int = 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended.

    fails : (column, entry) of each cell that is not where it should be, in the order in which they are told
    levels : those of the job, or those that were read so far, 0 outside the mask
    """

    error: WriteError
    fails: tuple[tuple[int, int], ...] = ()
    levels: tuple[int, ...]
    counts: Counts = field(default_factory=Counts)

    @property
    def mask(self) -> int:
        """Columns that failed."""
        return sum(1 << column for column, _ in self.fails)


class _SilentError(Exception):
    """A comparison was not answered."""


Actions = Generator[Verify | Pulse, int | None, int]


def write_verify(arch: ImcArch, settings: Settings, job: Job) -> Generator[Verify | Pulse, int | None, Outcome]:
    """Yield what a job asks of the macro, take the answers to comparisons, return how it ended.

    Each level that a masked cell is to have takes its turn, from the lowest on; FORM and ERASE have one turn for all. In a
    turn SET and RESET alternate: compare with the bound of the polarity, pulse the cells beyond it, compare again. Cells still
    beyond it after ``count`` pulses fail. When neither polarity found a cell, or ``alternations`` are used up, reads confirm:
    a cell that is confirmed is never pulsed again, the others go round once more, or fail.

    READ takes the highest level whose low reference is reached.

    Raises ParameterError unless there are ``2^cell_bits + 2`` entries.

    Source: imc 10, B9; imc 7.
    """
    require(len(settings.entries) == (1 << arch.cell_bits) + 2, "entries", len(settings.entries),
            f"{(1 << arch.cell_bits) + 2}, one for each level, FORM and ERASE")
    run = _Run(settings, job, Counts(), list(job.levels))
    if job.op not in {*Op} or not 0 <= job.row < arch.rows:
        return Outcome(error=WriteError.SETTINGS, levels=job.levels)
    fails: list[tuple[int, int]] = []
    error = WriteError.NONE
    try:
        if job.op in (Op.READ, Op.REFRESH):
            yield from _read(run, 1 << arch.cell_bits)
        for entry, live in _turns(arch, job, run.levels):
            failed = yield from (_test if job.op == Op.TEST else _turn)(run, settings.entries[entry], live)
            fails += [(column, entry) for column in range(arch.cols) if failed >> column & 1]
            if failed and not settings.ignore_fail:
                break
        error = WriteError.CELLS if fails else WriteError.NONE
    except _SilentError:
        error = WriteError.SILENT
    return Outcome(error=error, fails=tuple(fails), levels=tuple(run.levels), counts=run.counts)


@dataclass(frozen=True)
class _Run:
    """What all parts of a job share."""

    settings: Settings
    job: Job
    counts: Counts
    levels: list[int]


def _turns(arch: ImcArch, job: Job, levels: Sequence[int]) -> list[tuple[int, int]]:
    """Return (entry, columns) of each turn."""
    states = 1 << arch.cell_bits
    if job.op == Op.READ:
        return []
    if job.op in (Op.FORM, Op.ERASE):
        return [(states + job.op, job.mask)] if job.mask else []
    masks = [sum(1 << column for column, level in enumerate(levels) if level == n) & job.mask for n in range(states)]
    return [(n, mask) for n, mask in enumerate(masks) if mask]


def _outside(run: _Run, entry: Entry, high: bool) -> Actions:
    """Return the columns beyond a bound."""
    reference = entry.high if high else entry.low
    if reference == 0:
        return 0
    run.counts.reads += 1
    answer = yield Verify(run.job.row, reference)
    if answer is None:
        raise _SilentError
    return answer if high else ~answer


def _read(run: _Run, states: int) -> Generator[Verify | Pulse, int | None, None]:
    """Replace the levels by what the cells are read at."""
    run.levels[:] = [0] * len(run.levels)
    for level in range(1, states):
        reached = ~(yield from _outside(run, run.settings.entries[level], high=False)) & run.job.mask
        run.levels[:] = [level if reached >> column & 1 else before for column, before in enumerate(run.levels)]


def _turn(run: _Run, entry: Entry, live: int) -> Actions:
    """Return which of the ``live`` columns did not get to a level."""
    counts, first = run.counts, run.counts.alternations
    failed, high, quiet = 0, False, False
    while live:
        pulses, given_up = yield from _visit(run, entry, live, high)
        failed, live = failed | given_up, live & ~given_up
        used_up = counts.alternations - first == run.settings.alternations
        if not live:
            break
        if not pulses and not quiet:
            high, quiet = not high, True
        elif pulses and not used_up:
            high, quiet = not high, False
            counts.alternations += 1
        else:
            live &= ~(yield from _confirm(run, entry, live))
            if not live or used_up:
                break
            high, quiet = False, False
            counts.alternations += 1
    return failed | live


def _visit(run: _Run, entry: Entry, live: int, high: bool) -> Generator[Verify | Pulse, int | None, tuple[int, int]]:
    """Return (pulses, columns given up) of one polarity."""
    pulses, counts = entry.reset if high else entry.set, run.counts
    for number, (width, word, bit) in enumerate(pulse_sweep(pulses, entry.order)):
        mask = live & (yield from _outside(run, entry, high))
        if mask == 0 or number == pulses.count:
            return number, mask
        yield Pulse(run.job.row, mask, high, width, word, bit)
        if high:
            counts.reset, counts.reset_bits = counts.reset + 1, counts.reset_bits + mask.bit_count()
        else:
            counts.set, counts.set_bits = counts.set + 1, counts.set_bits + mask.bit_count()
    raise AssertionError("a sweep does not end")


def _confirm(run: _Run, entry: Entry, live: int) -> Actions:
    """Return which of the ``live`` columns are at a level by ``confirm_k`` of ``confirm_n`` reads."""
    columns = [column for column in range(live.bit_length()) if live >> column & 1]
    tally = dict.fromkeys(columns, 0)
    for _ in range(run.settings.confirm_n):
        outside = (yield from _outside(run, entry, high=False)) | (yield from _outside(run, entry, high=True))
        for column in columns:
            tally[column] += not outside >> column & 1
    return sum(1 << column for column in columns if tally[column] >= run.settings.confirm_k)


def _test(run: _Run, entry: Entry, live: int) -> Actions:
    """Return which of the ``live`` columns are not at a level."""
    return live & ~(yield from _confirm(run, entry, live))
