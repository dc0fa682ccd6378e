"""The macro that lives in a simulated design: its sources, the files it reads, and how a program talks to it.

``macro_shell.sv`` is the black box of the generated Verilog, ``macro_shell.cpp`` what it does: no Python runs per strobe. The
checker that is generated with the black box, `hdl.imc.macro_checks`, is bound to it; a broken rule is an error of the `Report`.

Files, little endian. Macros: int64 {"IMACROS1", number of crossbars, `QUANTILES`, then for each crossbar {id, coordinate of its
draws, seed, read_scale, compare_scale, trim_scale, step, bits, flash, adcs, thresholds [adcs, 2^bits]}}. Values:
int64 {"IMVALUS1", phases, rows, cols, keys [phases], rising}, uint32 word lines [phases, rows / 32, up], int32 [phases, cols];
a key is ``id << PHASE_BITS | phase``. Jobs: int64 {"IACTION1", actions, words of a mask, then for each action {id, pulse, row,
reference or RESET, width, codes of word line and bit lines}}, uint32 [actions, words], answers and masks. Log: records of
int64, `RECORD`.

The id of a crossbar is ``crossbar * tiles + tile``; with a reference in place of columns it is crossbar 0 of the tile.
"""

import ctypes
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.arch import ParameterError
from golden.imc.arch import ImcArch
from golden.imc.devices import Cells, play
from golden.imc.macro import Macro
from golden.imc.noise import QUANTILES
from golden.imc.run import Placed, number
from golden.imc.word_lines import lines
from golden.imc.write_verify import Job, Outcome, Pulse, Settings, Verify, write_verify
from golden.network import Array
from hdl.imc.macro import parameters as sizes
from hdl.imc.macro_checks import checks

HERE = Path(__file__).parent
SHELL = HERE / "macro_shell.sv"
SOURCES = tuple(HERE / name for name in ("macro_shell.cpp", "macro_writes.cpp", "macro_shell.h", "macro_shared.h"))
MACROS_MAGIC = int.from_bytes(b"IMACROS1", "little")
ACTIONS_MAGIC = int.from_bytes(b"IACTION1", "little")
VALUES_MAGIC = int.from_bytes(b"IMVALUS1", "little")
PHASE_BITS = 40
# Kind of a record that is a sampled column value, not a draw; its `conversion` is the id of the crossbar.
SAMPLE = -1
RECORD = np.dtype([(name, "<i8") for name in (
    "kind", "seed", "tile", "image", "phase", "column", "conversion", "code", "value")])


class MacroShellError(AssertionError):
    """A file that the shell refuses, or what it found wrong in a run."""


@dataclass(frozen=True)
class Report:
    """What the macros of a design saw.

    samples, comparisons : phases that were sampled, and answers of single comparators
    phases, expected : phases of the values files that were sampled at least once, and all of them
    actions, actions_expected : pulses and comparisons of jobs that came as golden has them, and all that are to come
    errors : by kind, their number and the first one: cycle, tile, crossbar (id), phase, what was expected and found
    """

    samples: int
    comparisons: int
    phases: int
    expected: int
    actions: int
    actions_expected: int
    errors: dict[str, tuple[int, str]]

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> "Report":
        """Return the report of a parsed table of the shell."""
        return cls(**{**table, "errors": {kind: (count, first) for kind, (count, first) in table["errors"].items()}})

    def check(self, *, complete: bool = True) -> "Report":
        """Return self; raise `MacroShellError` on any error, and, if ``complete``, on phases that were not sampled."""
        for kind, (count, first) in self.errors.items():
            raise MacroShellError(f"macro: {kind}, {count} times; first: {first}")
        if complete and self.phases != self.expected:
            raise MacroShellError(f"macro: {self.phases} of {self.expected} phases were sampled")
        if complete and self.actions != self.actions_expected:
            raise MacroShellError(f"macro: {self.actions} of {self.actions_expected} actions of jobs came")
        return self


def verilog(p: ImcArch, prefix: str = "spikeloom") -> str:
    """Return the text of module ``<prefix>_imc_macro``, which generated Verilog has once per tile, and of its checker."""
    macro, flash = f"{prefix}_imc_macro", "`define IMC_FLASH\n" if p.flash_bits else "`undef IMC_FLASH\n"
    told = f"`define {macro.upper()}_BROKEN(rule) imc_broken(TILE, cycle, rule)\n"
    return f"`define IMC_MACRO {macro}\n{flash}{SHELL.read_text()}{told}{checks(p, macro)}"


def parameters(p: ImcArch, tile: int = 0) -> dict[str, int]:
    """Return the parameters of the instance of a tile."""
    return {"TILE": tile, **sizes(p)}


def macro_tables(path: Path, macros: Mapping[int, Macro]) -> Path:
    """Write crossbars by id; return the path. Conductances are not in it: `values` has what they give."""
    parts: list[Any] = [[MACROS_MAGIC, len(macros)], QUANTILES]
    for crossbar, macro in macros.items():
        parts += [[crossbar, macro.tile, macro.effects.seed, macro.read_scale, macro.compare_scale, macro.trim_scale,
                   macro.step, macro.adc.bits, macro.adc.flash, macro.arch.adcs],
                  np.ravel(np.asarray(macro.thresholds))]
    np.concatenate([np.asarray(part, dtype="<i8") for part in parts]).tofile(path)
    return path


def values(path: Path, entries: Iterable[tuple[int, Macro, Array, Array]]) -> Path:
    """Write what the phases of an image drive and what their columns give; return the path.

    entries : (id of the crossbar, its macro, phase int64 [n], word lines int64 [n, rows] in 0..1), as many as there are; phases
        that are skipped may be left out, and are then refused when they are sampled. See `phases_of`.

    Raises ParameterError for a phase that is given twice.
    """
    keys: list[NDArray[np.int64]] = []
    rows: list[NDArray[np.int64]] = []
    columns: list[NDArray[np.int64]] = []
    for crossbar, macro, phase, driven in entries:
        keys.append(crossbar << PHASE_BITS | np.asarray(phase, dtype=np.int64))
        rows.append(np.asarray(driven))
        columns.append(np.asarray(macro.columns(driven)))
    key, line, column = np.concatenate(keys), np.concatenate(rows), np.concatenate(columns)
    order = np.argsort(key, kind="stable")
    twice = np.flatnonzero(np.diff(key[order]) == 0)
    if len(twice):
        first = int(key[order][twice[0]])
        raise ParameterError(f"values: phase {first & (1 << PHASE_BITS) - 1} of crossbar {first >> PHASE_BITS}, not given "
                             f"twice; legal: once; try: other vectors")
    packed = np.packbits(line[order].astype(np.uint8), axis=1, bitorder="little")
    packed = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 4)))
    with path.open("wb") as file:
        np.asarray([VALUES_MAGIC, len(key), line.shape[1], column.shape[1]], dtype="<i8").tofile(file)
        key[order].astype("<i8").tofile(file)
        packed.tofile(file)
        column[order].astype("<i4").tofile(file)
    return path


def told(cells: Cells, settings: Settings, job: Job) -> tuple[list[tuple[Verify | Pulse, int]], Outcome]:
    """Return what a job asks of a crossbar, with the answers to comparisons and the masks of pulses, and how it ended."""
    answers: list[int] = []

    def verify(ask: Verify) -> int:
        answers.append(cells.verify(ask))
        return answers[-1]

    trace, outcome = play(write_verify(cells.macro.arch, settings, job), verify, cells.pulse)
    given = iter(answers)
    return [(action, action.mask if isinstance(action, Pulse) else next(given)) for action in trace], outcome


def actions(path: Path, entries: Iterable[tuple[int, list[tuple[Verify | Pulse, int]]]], cols: int) -> Path:
    """Write what the jobs of crossbars do, (id, what `told` returns) in their order; return the path."""
    words = -(-cols // 32)
    fields: list[tuple[int, ...]] = []
    masks: list[int] = []
    for crossbar, trace in entries:
        for action, mask in trace:
            fields.append((crossbar, 1, action.row, action.reset, action.width, action.word, action.bit)
                          if isinstance(action, Pulse) else (crossbar, 0, action.row, action.reference, 0, 0, 0))
            masks += [mask >> 32 * n & 0xFFFF_FFFF for n in range(words)]
    with path.open("wb") as file:
        np.asarray([ACTIONS_MAGIC, len(fields), words], dtype="<i8").tofile(file)
        np.asarray(fields, dtype="<i8").tofile(file)
        np.asarray(masks, dtype="<u4").tofile(file)
    return path


def phases_of(driven: Array, keys: Array | None = None, *, skip: bool = False) -> tuple[NDArray[np.int64], Array]:
    """Return (phase [n], word lines [n, rows]) of vectors, int64 [vectors, phases, rows] as `golden.imc.word_lines.lines` has.

    keys : int64 [vectors], what the macro calls them; None: 0 and on
    skip : leave out the phases that drive no row
    """
    vectors, phases, rows = driven.shape
    first = np.arange(vectors) if keys is None else np.asarray(keys)
    phase = (first[:, None] * phases + np.arange(phases)).reshape(-1)
    flat = driven.reshape(-1, rows)
    if skip:
        works = np.flatnonzero(np.asarray(flat).any(axis=1))
        return phase[works], flat[works]
    return phase, flat


def layer_phases(p: ImcArch, entry: Placed, x: Any, step: int, skip: bool) -> Iterator[tuple[Any, ...]]:
    """Yield what `values` takes, for the vectors [pixels, row blocks, rows] of a step."""
    mapped = entry.mapped
    lanes = p.tiles // p.fan_in
    for r, row in enumerate(entry.macros):
        driven = lines(x[:, r, :], rows=p.rows, bits=mapped.operand.bits, group_log2=p.group_rows.bit_length() - 1,
                       groups=p.rows // p.group_rows)
        phase, flat = phases_of(driven, np.arange(len(x)) + step * len(x), skip=skip)
        for c, macro in enumerate(row):
            yield number(p, entry.crossbar, -(-mapped.column_blocks // lanes), r, c), macro, phase, flat


def read_log(path: Path) -> NDArray[Any]:
    """Return the records of a log, in order, as a structured array of `RECORD`."""
    return np.fromfile(path, dtype=RECORD)


class MacroShell:
    """The shell as a library of C functions: of this process (a bench inside the simulator), or of a file."""

    def __init__(self, library: Path | None = None) -> None:
        self._library = ctypes.CDLL(None if library is None else str(library))
        for name in ("imc_macros", "imc_values", "imc_actions", "imc_log", "imc_report"):
            getattr(self._library, name).restype = ctypes.c_char_p
        self._library.imc_image.argtypes = [ctypes.c_int64]
        self._library.imc_draw.restype = self._library.imc_gaussian.restype = ctypes.c_int64
        self._library.imc_draw.argtypes = [ctypes.c_int64, ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
        self._library.imc_gaussian.argtypes = [ctypes.c_int64, ctypes.c_int64]

    def context(self, bits: int, groups: int) -> None:
        """Set the bits of inputs and the row groups from which phases are counted."""
        self._library.imc_context(bits, groups)

    def image(self, number: int) -> None:
        """Set the coordinate of noise."""
        self._library.imc_image(number)

    def macros(self, path: Path) -> None:
        """Load what `macro_tables` wrote."""
        self._done(self._library.imc_macros(str(path).encode()))

    def values(self, path: Path) -> None:
        """Load what `values` wrote, in place of the phases before."""
        self._done(self._library.imc_values(str(path).encode()))

    def actions(self, path: Path) -> None:
        """Load what `actions` wrote, behind the jobs that are to come."""
        self._done(self._library.imc_actions(str(path).encode()))

    def log(self, path: Path | None) -> None:
        """Begin a log of samples and draws; None: end it."""
        self._done(self._library.imc_log(str(path or "").encode()))

    def clear(self) -> None:
        """Forget what was counted, and jobs that are to come."""
        self._library.imc_clear()

    def report(self) -> Report:
        """Return what was counted."""
        return Report.of(json.loads(self._library.imc_report()))

    def draw(self, seed: int, kind: int, coordinates: Iterable[int]) -> int:
        """Return h of `golden.imc.noise`, as int64."""
        array = np.asarray(list(coordinates), dtype=np.int64)
        return int(self._library.imc_draw(seed, kind, array.ctypes.data, len(array)))

    def gaussian(self, h: int, scale: int) -> int:
        """Return the Gaussian draw of h; the table of a file of macros must be loaded."""
        return int(self._library.imc_gaussian(h, scale))

    @staticmethod
    def _done(message: bytes | None) -> None:
        if message is not None:
            raise MacroShellError(message.decode())
