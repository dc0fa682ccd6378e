"""Registers of how cells are programmed: one table, the settings of `hdl.imc.write_job` that they hold, and words for them."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Const, Module, Value

from golden.imc.arch import BIT_BITS, CONFIRM_BITS, EXPONENT_BITS, MANTISSA_BITS, ORDERS, PULSE_BITS, REFERENCE_BITS, WORD_BITS
from hdl.bus.axi_lite import Access
from hdl.bus.register_map import Register, RegisterField
from hdl.imc.cell_access import TIMES

WRITE, ENTRY, STRIDE = 0x400, 0x500, 0x20
# Levels of the widest cells; FORM and ERASE come behind them, whatever a build has.
LEVELS = 16
ENTRIES = (*(f"LEVEL_{n}" for n in range(LEVELS)), "FORM", "ERASE")
SCALARS = {
    "alternations": (PULSE_BITS, "most changes of polarity after pulses, at one level"),
    "confirm_k": (CONFIRM_BITS, "reads that must find a cell at its level"),
    "confirm_n": (CONFIRM_BITS, "of so many"),
    "ignore_fail": (1, "a job goes on with the next level though cells failed"),
    "t_guard": (TIMES["t_guard"], "least cycles of mode IDLE between two different modes"),
    "t_verify": (TIMES["t_verify"], "cycles from mode VERIFY to a comparison"),
    "t_pre": (TIMES["t_pre"], "cycles from mode PROGRAM to a pulse"),
    "t_cool": (TIMES["t_cool"], "cycles from a pulse to the end of its mode"),
    "patience": (TIMES["patience"], "cycles in which a comparison must be answered"),
}
Field = tuple[tuple[str, ...], int, int, str]


def _sweep(side: str, axis: str, bits: int) -> list[Field]:
    return [((side, axis, name), 8 * n, bits, meaning) for n, (name, meaning) in enumerate((
        ("start", "first"), ("stop", "last"), ("step", "from a pulse to the next")))]


# Fields of each register of an entry: path in the entry, lowest bit, width, meaning.
FIELDS: dict[str, list[Field]] = {"BOUNDS": [
    (("low",), 0, REFERENCE_BITS, "reference that a cell must reach, 0: any does"),
    (("high",), 8, REFERENCE_BITS, "reference that a cell must not reach, 0: none does"),
    (("order",), 16, 3, f"how sweeps are nested, the outermost first: {', '.join(f'{n} {o}' for n, o in enumerate(ORDERS))}")]}
for _side in ("set", "reset"):
    FIELDS |= {
        f"{_side.upper()}_WIDTH": [*_sweep(_side, "width", MANTISSA_BITS), (
            (_side, "exponent"), 24, EXPONENT_BITS, "widths are cycles << exponent")],
        f"{_side.upper()}_WORD": _sweep(_side, "word", WORD_BITS),
        f"{_side.upper()}_BIT": [*_sweep(_side, "bit", BIT_BITS), ((_side, "count"), 24, PULSE_BITS, "most pulses")]}
IGNORED = "writes are ignored while busy"
MEANINGS = {"BOUNDS": "where cells are to be", "WIDTH": "width of {} pulses", "WORD": "word-line code of {} pulses",
            "BIT": "bit-line code of {} pulses"}


def write_registers() -> list[Register]:
    """Return the registers; levels beyond ``2^cell_bits`` of a build read 0."""
    scalars = [Register(f"WRITE_{name.upper()}", WRITE + 4 * n, "rw", f"{meaning}; {IGNORED}", (
        RegisterField("value", 0, bits, meaning),)) for n, (name, (bits, meaning)) in enumerate(SCALARS.items())]
    return scalars + [
        Register(f"{entry}_{name}", offset(entry, name), "rw", f"{_meaning(name)}; {IGNORED}", tuple(
            RegisterField(path[-1], low, bits, meaning) for path, low, bits, meaning in fields))
        for entry in ENTRIES for name, fields in FIELDS.items()]


def offset(entry: str, name: str) -> int:
    """Return the place of a register of an entry."""
    return ENTRY + STRIDE * ENTRIES.index(entry) + 4 * [*FIELDS].index(name)


def _meaning(name: str) -> str:
    side, _, kind = name.rpartition("_")
    return MEANINGS[kind].format(side)


def held(m: Module, access: Access, active: Value, writing: Any, cell_bits: int) -> dict[int, Value]:
    """Let the host write the settings ``writing`` while not ``active``; return what registers read, by offset."""
    states, values = 1 << cell_bits, dict[int, Value]()
    for n, name in enumerate(SCALARS):
        with m.If(access.writes(WRITE + 4 * n) & ~active):
            m.d.sync += writing[name].eq(access.word)
        values[WRITE + 4 * n] = writing[name]
    for number in range(states + 2):
        entry = ENTRIES[number if number < states else LEVELS + number - states]
        for name, fields in FIELDS.items():
            at, parts, reached = offset(entry, name), list[Value](), 0
            for path, low, bits, _ in fields:
                target = writing.entries[number]
                for step in path:
                    target = target[step]
                with m.If(access.writes(at) & ~active):
                    m.d.sync += target.eq(access.word[low:low + bits])
                parts += [Const(0, low - reached), target]
                reached = low + bits
            values[at] = Cat(parts)
    return values


def write_words(settings: Mapping[str, Any], cell_bits: int) -> dict[str, int]:
    """Return registers by name, of the fields of `golden.imc.write_verify.Settings` as nested dicts."""
    states = 1 << cell_bits
    words = {f"WRITE_{name.upper()}": int(settings[name]) for name in SCALARS}
    for number, given in enumerate(settings["entries"]):
        entry = ENTRIES[number if number < states else LEVELS + number - states]
        for name, fields in FIELDS.items():
            words[f"{entry}_{name}"] = 0
            for path, low, _, _ in fields:
                value: Any = given
                for step in path:
                    value = value[step]
                words[f"{entry}_{name}"] |= int(value) << low
    return words
