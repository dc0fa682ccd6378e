"""Register map of a core of tiles: one table, and what the host writes from names.

``python -m hdl.imc.register_map`` prints ``docs/imc-registers.md``.
"""

import sys
from collections.abc import Iterable, Mapping

from golden.imc.arch import Error, ImcArch
from hdl.bus.register_map import RTL_VERSION, Register, RegisterField, RegisterMap, markdown
from hdl.imc.event_counters import EVENTS
from hdl.imc.layer import EXIT, FIELDS, MACHINE, LayerField
from hdl.imc.shift_add import PLACES
from hdl.imc.transformer_fields import LOAD, WORK
from hdl.imc.write_registers import write_registers

MAGIC = 0x4D494C53
COUNTERS, LAYER, MACHINES, PLACE, WORKS, LOADS, EXITS = 0x040, 0x100, 0x200, 0x300, 0x800, 0x900, 0xA00
VERDICT = (
    RegisterField("valid", 0, 1, "the last layer was a read-out of a step, and EXIT_STEPS is not 0"),
    RegisterField("stop", 1, 1, "the image stops"),
    RegisterField("step", 8, 5, "its steps so far"),
    RegisterField("channel", 16, 13, "its best class, of equal ones the lowest"))
ERRORS = {
    Error.NONE: "none",
    Error.SETTINGS: "a setting is beyond what was built, a word was wider than its register, or a job is illegal",
    Error.CALIBRATION: "an ADC is beyond the limit", Error.DROOP: "columns were held for too long",
    Error.SUMS: "outputs of tiles do not fit together",
    Error.STALLED: "nothing happened for as long as MACHINE_PATIENCE says",
    Error.REUSE: "the reuse buffer holds the attention of another layer",
    Error.CELLS: "a cell is not at the level that was written",
    Error.PACKET: "a packet was malformed, too wide, or for what does not exist",
    Error.SILENT: "a comparison of cells was not answered",
}
HEAD = (
    Register("MAGIC", 0x000, "ro", "0x4D494C53, the letters SLIM", (
        RegisterField("value", 0, 32, "0x4D494C53, the letters SLIM"),)),
    Register("RTL_VERSION", 0x004, "ro", "version of the hardware", (
        RegisterField("patch", 0, 8, "patch version"), RegisterField("minor", 8, 8, "minor version"),
        RegisterField("major", 16, 16, "major version"))),
    Register("CONFIG_HASH", 0x008, "ro", "first 32 bits of the SHA-256 of the build's parameters", (
        RegisterField("value", 0, 32, "first 32 bits of the SHA-256 of the build's parameters"),)),
    Register("CONTROL", 0x010, "rw", "start and interrupt", (
        RegisterField("start", 0, 1, "write 1 to run the layer; reads 0; ignored while busy", "write-only"),
        RegisterField("irq_enable", 1, 1, "raise irq while done or error is set"),
        RegisterField("calibrate", 2, 1, "write 1 to calibrate all tiles; reads 0; ignored while busy", "write-only"),
        RegisterField("operate", 3, 1, "write 1 to run WORK on all tokens; reads 0; ignored while busy", "write-only"),
        RegisterField("store", 4, 1, "write 1 to write LOAD to crossbars; reads 0; ignored while busy", "write-only"))),
    Register("STATUS", 0x014, "w1c", "state of the run", (
        RegisterField("busy", 0, 1, "a layer or a calibration runs (read-only)", "read-only"),
        RegisterField("done", 1, 1, "it ended; cleared by writing 1 and by start"),
        RegisterField("error", 2, 1, "it stopped, or a job failed, see ERROR; cleared by writing 1 and by start"))),
    Register("ERROR", 0x018, "ro", "reason of the last error; 0 after start", (
        RegisterField("code", 0, 8, "; ".join(f"{error.value}: {text}" for error, text in ERRORS.items())),)),
)


def registers() -> tuple[Register, ...]:
    """Return all registers: identity and control, counters, fields of the layer and of the machine, places of a weight."""
    return (*HEAD, *counter_registers(EVENTS), *field_registers("LAYER", LAYER, FIELDS),
            *field_registers("MACHINE", MACHINES, MACHINE), *place_registers(), *write_registers(),
            *field_registers("WORK", WORKS, WORK), *field_registers("LOAD", LOADS, LOAD), *field_registers("EXIT", EXITS, EXIT),
            *verdict_registers())


def counter_registers(events: Mapping[str, str]) -> list[Register]:
    """Return the registers of counters."""
    return [Register(name.upper(), COUNTERS + 4 * n, "ro", text, (RegisterField("value", 0, 32, text),))
            for n, (name, text) in enumerate(events.items())]


def field_registers(prefix: str, base: int, table: Iterable[LayerField]) -> list[Register]:
    """Return the registers of fields, one each."""
    return [Register(f"{prefix}_{field.name.upper()}", base + 4 * n, "rw", f"{field.meaning}; writes are ignored while busy",
                     (RegisterField("value", 0, field.width, field.meaning),)) for n, field in enumerate(table)]


def place_registers() -> list[Register]:
    """Return the registers of the columns of a weight."""
    return [Register(f"PLACE_{n}", PLACE + 4 * n, "rw", f"what column {n} of a weight adds; writes are ignored while busy", (
        RegisterField("shift", 0, 4, "of its code, below the bits of a weight"), RegisterField("negate", 4, 1, "taken away"),
        RegisterField("used", 5, 1, "0: nothing"))) for n in range(PLACES)]


def verdict_registers() -> list[Register]:
    """Return the registers of what early exit tells."""
    margin, first = "how far the best class is above the second", EXITS + 4 * len(EXIT)
    return [Register("EXIT_VERDICT", first, "ro", "whether an image stops, and what it is", VERDICT),
            Register("EXIT_MARGIN", first + 4, "ro", margin, (RegisterField("value", 0, 32, margin),))]


def verdict(word: int) -> dict[str, int]:
    """Return what EXIT_VERDICT says."""
    return {field.name: word >> field.lsb & (1 << field.width) - 1 for field in VERDICT}


OFFSETS = {register.name: register.offset for register in registers()}


def register_map(p: ImcArch | None = None) -> RegisterMap:
    """Return the registers of a build, or (None) of all of them."""
    build = p or ImcArch()
    return RegisterMap(p.name if p else "", build.hash, registers(), identity(build), () if p else ("CONFIG_HASH",),
                       title="Registers of a core of tiles" if p is None else "Registers")


def identity(p: ImcArch) -> dict[str, int]:
    """Return the constants of a build."""
    major, minor, patch = RTL_VERSION
    return {"MAGIC": MAGIC, "RTL_VERSION": major << 16 | minor << 8 | patch, "CONFIG_HASH": int(p.hash, 16)}


if __name__ == "__main__":
    sys.stdout.write(markdown(register_map()))
