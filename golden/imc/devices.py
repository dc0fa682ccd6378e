"""Devices that a tile programs: what drives them, and how their cells move, for tests and simulation."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from golden.arch import require
from golden.imc.arch import ORDERS, REFERENCE_BITS
from golden.imc.macro import FRACTION, Macro
from golden.imc.noise import Kind, gaussian
from golden.imc.pulse_sweep import NO_PULSES, Pulses, Sweep
from golden.imc.write_verify import Entry, Pulse, Settings, Verify

T = TypeVar("T")
# Bits below a code of the bit-line DAC, and below 1 of what a pulse moves.
CODE, RATE = 8, 16


@dataclass(frozen=True, kw_only=True)
class Response:
    """How a pulse moves a cell; a model of this project, with the published devices' ranges.

    A pulse moves a cell by ``rate * overdrive * width / nominal`` of the way that is left to the end of its range, where the
    overdrive is what the code of the bit line, with that of the word line, is above the cell's threshold. A pulse below it
    moves nothing; one that would go beyond the end stops there.

    set, reset : thresholds, in codes of the bit line
    rate : of the way, for one code and the nominal width, times ``2^RATE``
    nominal : cycles
    beyond : how far above the highest level the range ends, in levels times 4
    word : code of the word line that neither adds nor takes; 16 codes of it are worth one of the bit line
    cells : spread of thresholds over cells, in codes times ``2^CODE``
    pulses : spread of what pulses move, times ``2^RATE``
    """

    set: int
    reset: int
    rate: int
    nominal: int
    beyond: int = 0
    word: int = 0
    cells: int = 0
    pulses: int = 0


@dataclass(frozen=True, kw_only=True)
class Device:
    """A kind of cell.

    set, reset, form, erase : pulses of PROG in both polarities, of FORM and of ERASE
    order : how they are swept
    cell_bits : most bits that a cell stores
    window : how far a cell may be from its level, in levels, times 4; 2 leaves no gap between levels
    limits : further settings
    response : of its cells
    """

    name: str
    set: Pulses
    reset: Pulses
    form: Pulses
    erase: Pulses
    order: str
    cell_bits: int
    window: int
    limits: dict[str, int] = field(default_factory=dict)
    response: Response

    def settings(self, cell_bits: int, **changes: Any) -> Settings:
        """Return the settings of a tile with cells of so many bits; ``changes`` replace fields of `Settings`.

        A level is ``2^REFERENCE_BITS / 2^cell_bits`` references wide. The lowest has no lower bound, the highest no upper one.
        A formed cell conducts half a level; an erased one is in the window of level 0.
        """
        require(1 <= cell_bits <= self.cell_bits, "cell_bits", cell_bits, f"in 1..{self.cell_bits} for {self.name}")
        states, level = 1 << cell_bits, 1 << REFERENCE_BITS - cell_bits
        order, near = ORDERS.index(self.order), level * self.window >> 2
        entries = [Entry(low=n * level - near if n else 0, high=n * level + near if n < states - 1 else 0, set=self.set,
                         reset=self.reset, order=order) for n in range(states)]
        entries += [Entry(low=level >> 1, high=0, set=self.form, order=order),
                    Entry(low=0, high=near, reset=self.erase, order=order)]
        return Settings(**{"entries": tuple(entries), **self.limits, **changes})


def _rise(start: int, stop: int, *, cycles: int, word: int, count: int, step: int = 1) -> Pulses:
    """Return pulses of one width and one word-line code whose bit-line code rises."""
    exponent = max(0, cycles.bit_length() - 5)
    return Pulses(width=Sweep(start=cycles >> exponent, stop=cycles >> exponent), exponent=exponent,
                  word=Sweep(start=word, stop=word), bit=Sweep(start=start, stop=stop, step=step), count=count)


DEVICES: dict[str, Device] = {
    # NeuRRAM: 1.2 V to 3.3 V in steps of 0.1 V (codes 0 to 21), 1 us (100 cycles of 10 ns), word line 2.5 V (steps of 10 mV),
    # 30 pulses a polarity, 20 alternations; forming at 3.3 V and more is not published there. Confirmed by 2 of 3 reads (NIST).
    "rram": Device(
        name="rram", cell_bits=4, window=1, order="PWB",
        set=_rise(0, 21, cycles=100, word=250, count=30), reset=_rise(0, 21, cycles=100, word=250, count=30),
        form=_rise(16, 31, cycles=100, word=250, count=20), erase=_rise(13, 21, cycles=100, word=250, count=30),
        limits={"alternations": 20, "confirm_k": 2, "confirm_n": 3},
        response=Response(set=3, reset=3, rate=2400, nominal=100, beyond=4, word=250, cells=1 << CODE, pulses=1 << RATE - 2)),
    # Erased as a whole, then raised by pulses of one width whose amplitude rises by one step each (ISPP): what is too high
    # stays so until the next ERASE.
    "fefet": Device(
        name="fefet", cell_bits=2, window=1, order="PWB",
        set=_rise(0, 31, cycles=20, word=128, count=48), reset=NO_PULSES, form=NO_PULSES,
        erase=_rise(31, 31, cycles=80, word=128, count=8), limits={"alternations": 0, "confirm_k": 2, "confirm_n": 3},
        response=Response(set=4, reset=8, rate=500, nominal=20, beyond=4, word=128, cells=1 << CODE, pulses=1 << RATE - 3)),
    # A write is one pulse, and a read must equal it.
    "sram": Device(
        name="sram", cell_bits=1, window=2, order="PWB", set=_rise(1, 1, cycles=1, word=1, count=1),
        reset=_rise(1, 1, cycles=1, word=1, count=1), form=NO_PULSES, erase=_rise(1, 1, cycles=1, word=1, count=1),
        limits={"alternations": 1, "confirm_k": 1, "confirm_n": 1},
        response=Response(set=0, reset=0, rate=1 << RATE, nominal=1, word=1)),
}


class Cells:
    """A crossbar whose cells move; its comparisons are those of a macro, whose seed and tile key all draws.

    conductance : int64 [rows, cols], `golden.imc.macro.FRACTION` bits below a level
    stuck : bool [rows, cols], cells that never move

    Draws are keyed by the number of pulses and of comparisons that the row has had.
    """

    def __init__(self, macro: Macro, response: Response, stuck: Any = None) -> None:
        arch = macro.arch
        self.macro, self.response = macro, response
        self.conductance = np.array(macro.conductance, dtype=np.int64)
        self.moves = np.ones((arch.rows, arch.cols), dtype=bool) if stuck is None else ~np.asarray(stuck)
        self.pulses, self.reads = [0] * arch.rows, [0] * arch.rows

    def verify(self, ask: Verify) -> int:
        """Return the mask of columns that conduct at least the reference."""
        occasion = self.reads[ask.row]
        self.reads[ask.row] += 1
        reached = self.macro.verify(self.conductance[ask.row], ask.reference, row=ask.row, occasion=occasion)
        return sum(int(one) << column for column, one in enumerate(reached))

    def pulse(self, pulse: Pulse) -> None:
        """Move the cells that a pulse drives."""
        p, macro, row = self.response, self.macro, pulse.row
        at = (macro.tile, row, np.arange(macro.arch.cols))
        seed, number = macro.effects.seed, self.pulses[row]
        self.pulses[row] += 1
        code = (pulse.bit << CODE) + ((pulse.word - p.word) << CODE - 4)
        threshold = ((p.reset if pulse.reset else p.set) << CODE) + gaussian(seed, Kind.SWITCH, *at, scale=p.cells)
        over = np.maximum(code - threshold, 0) * p.rate * pulse.width // p.nominal >> CODE
        over = over + (over * gaussian(seed, Kind.PULSE, *at, number, scale=p.pulses) >> RATE)
        part = np.clip(over, 0, 1 << RATE)
        here = self.conductance[row]
        end = 0 if pulse.reset else ((4 << macro.arch.cell_bits) - 4 + p.beyond) << FRACTION - 2
        driven = np.asarray([pulse.mask >> column & 1 for column in range(macro.arch.cols)], dtype=bool) & self.moves[row]
        self.conductance[row] = np.where(driven, here + ((end - here) * part >> RATE), here)


def play(actions: Generator[Verify | Pulse, int | None, T], verify: Callable[[Verify], int | None],
         pulse: Callable[[Pulse], None]) -> tuple[list[Verify | Pulse], T]:
    """Return (actions, how it ended) of a job whose comparisons ``verify`` answers and whose pulses ``pulse`` feels."""
    trace: list[Verify | Pulse] = []
    answer: int | None = None
    try:
        while True:
            action = actions.send(answer)
            trace.append(action)
            answer = None
            if isinstance(action, Verify):
                answer = verify(action)
            else:
                pulse(action)
    except StopIteration as ended:
        return trace, ended.value
