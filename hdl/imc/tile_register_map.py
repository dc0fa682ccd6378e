"""Register map of a tile of its own: one table, and what the host writes from names.

``python -m hdl.imc.tile_register_map`` prints ``docs/imc-tile-registers.md``.
"""

import sys

from amaranth.lib import data

from golden.imc.arch import ImcArch
from hdl.bus.register_map import Register, RegisterField, RegisterMap, markdown
from hdl.imc import register_map as core
from hdl.imc.event_counters import EVENTS
from hdl.imc.layer import MACHINE, LayerField
from hdl.imc.write_registers import write_registers

MAGIC = 0x54494C53
VECTOR, NUMBER = 0x100, 0x3C0
# A tile has no neurons and no activation memories.
COUNTED = {name: text for name, text in EVENTS.items() if name not in ("steps", "spikes", "words")}
FIELDS = (
    LayerField("bits", 4, "planes of a vector, 1 of spikes"),
    LayerField("outputs", 9, "outputs of a vector that are given"),
)
_HEAD = {register.name: register for register in core.HEAD}
HEAD = (
    Register("MAGIC", 0x000, "ro", "0x54494C53, the letters SLIT", (
        RegisterField("value", 0, 32, "0x54494C53, the letters SLIT"),)),
    _HEAD["RTL_VERSION"], _HEAD["CONFIG_HASH"],
    Register("CONTROL", 0x010, "rw", "start, stop and interrupt", (
        RegisterField("start", 0, 1, "write 1 to take vectors and jobs from now on; reads 0; ignored while busy", "write-only"),
        RegisterField("irq_enable", 1, 1, "raise irq while done or error is set"),
        RegisterField("calibrate", 2, 1, "write 1 to calibrate; reads 0; ignored while busy", "write-only"),
        RegisterField("stop", 3, 1, "write 1 to begin no more packets, and end when all is done; once more, to "
                      "end at once, with error 5; reads 0", "write-only"))),
    Register("STATUS", 0x014, "w1c", "state of the tile", (
        RegisterField("busy", 0, 1, "started, or a calibration runs (read-only)", "read-only"),
        RegisterField("done", 1, 1, "it ended; cleared by writing 1 and by start"),
        RegisterField("error", 2, 1, "it stopped, or a job failed, see ERROR; cleared by writing 1 and by start"))),
    _HEAD["ERROR"],
)
# Place of each part of a number that the host writes in place of a calibration's: lowest bit, width.
NUMBER_FIELDS = {"number": (0, 16), "adc": (16, 8), "column": (24, 5), "what": (29, 2)}


def registers() -> tuple[Register, ...]:
    """Return all registers: identity and control, counters, vector, machine, places of a weight, numbers, programming."""
    meanings = {"number": "two's complement", "adc": "of which ADC", "column": "of its column, for gains",
                "what": "0 an offset, 1 a trim code, 2 a gain, 3 the code that a column ought to give"}
    number = Register("NUMBER", NUMBER, "rw", "a number in place of a calibration's; reads 0; ignored while busy", tuple(
        RegisterField(name, *place, meanings[name], "write-only") for name, place in NUMBER_FIELDS.items()))
    return (*HEAD, *core.counter_registers(COUNTED), *core.field_registers("VECTOR", VECTOR, FIELDS),
            *core.field_registers("MACHINE", core.MACHINES, MACHINE), *core.place_registers(), number, *write_registers())


OFFSETS = {register.name: register.offset for register in registers()}


def vector_layout() -> data.StructLayout:
    """Return what a tile has to know of its vectors."""
    return data.StructLayout({field.name: field.width for field in FIELDS})


def register_map(p: ImcArch | None = None) -> RegisterMap:
    """Return the registers of a build, or (None) of all of them."""
    build = p or ImcArch()
    return RegisterMap(p.name if p else "", build.hash, registers(), identity(build), () if p else ("CONFIG_HASH",),
                       title="Registers of a tile" if p is None else "Registers")


def identity(p: ImcArch) -> dict[str, int]:
    """Return the constants of a build."""
    return core.identity(p) | {"MAGIC": MAGIC}


if __name__ == "__main__":
    sys.stdout.write(markdown(register_map()))
