"""Control registers of a core of tiles: the AXI4-Lite block that serves the table of `hdl.imc.register_map`."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib.wiring import In, Out

from golden.imc.arch import Error, ImcArch
from hdl.block import Block
from hdl.bus import axi_lite
from hdl.bus.register_map import Register
from hdl.imc import write_registers
from hdl.imc.early_exit import EarlyExit
from hdl.imc.event_counters import EventCounters
from hdl.imc.layer import exit_layout, layer_layout, machine_layout
from hdl.imc.register_map import OFFSETS, VERDICT, identity, registers
from hdl.imc.shift_add import ShiftAdd
from hdl.imc.transformer import host_ports
from hdl.imc.transformer_fields import leaves
from hdl.imc.write_job import settings_layout

# The first register of a setting.
SETTINGS = 0x100


class Registers(Block):
    """AXI4-Lite slave, 32-bit data, with the timing of `hdl.bus.axi_lite`.

    Byte strobes count for CONTROL and STATUS; settings are written whole. Address bits 1:0 are ignored. A word that is wider
    than its setting in this build is left out, and the next command fails with `Error.SETTINGS`.

    Members
    -------
    aw*, w*, b*, ar*, r* : AXI4-Lite channels; irq : Out(1)
    start, calibrate : Out(1), high for a cycle, never while busy; layer, machine, exits, places : Out, constant while busy
    misfit : Out(1), a word was wider than its setting, which stands until an error has told it, or the code of a place that is
        used is shifted further than weights of the build are wide
    changed : Out(1), a setting is written
    writing : Out, how cells are written, constant while busy and while ``writes``, a job of the host is on its way: In(1)
    operate, store, work, load : Out, `hdl.imc.transformer.host_ports`, like the layer
    busy, done, error : In(1); code : In, stands from ``error`` on; counters : In, see `EventCounters`
    verdict : In, see `EarlyExit`
    """

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            **axi_lite.slave_members(), "irq": Out(1), "start": Out(1), "calibrate": Out(1), "layer": Out(layer_layout()),
            "machine": Out(machine_layout()), "exits": Out(exit_layout()),
            "places": Out(ShiftAdd.settings_layout(p)["places"].shape), "misfit": Out(1), "changed": Out(1),
            "writing": Out(settings_layout(p)), "busy": In(1), "writes": In(1), "done": In(1), "error": In(1), "code": In(8),
            "counters": In(EventCounters.counters_layout()), "verdict": In(EarlyExit.verdict_layout(p)),
            **{name: Out(shape) for name, shape in host_ports(p).items()},
        })

    def build(self) -> Module:
        m, active = Module(), Signal()
        access = axi_lite.writes(m, self)
        given, fits = guarded(m, access)
        commands = {"start": 0, "calibrate": 2, **({"operate": 3, "store": 4} if self.params.tokens else {})}
        m.d.comb += active.eq(Cat(self.busy, *(getattr(self, name) for name in commands)).any())
        places, misplaced = held_places(m, given, active, self.places, self.params.weight_bits, OFFSETS)
        values = {
            **held_fields(m, given, active, {"LAYER": self.layer, "MACHINE": self.machine, "EXIT": self.exits}, OFFSETS),
            "EXIT_MARGIN": self.verdict.margin, "EXIT_VERDICT": sum(
                self.verdict[part.name] << part.lsb for part in VERDICT), **places,
            **controls(m, access, active, self, commands), **identity(self.params),
            **{name.upper(): self.counters[name] for name in self.counters.shape().members}}
        if self.params.tokens:
            values |= held_fields(m, given, active, {"WORK": self.work, "LOAD": self.load}, OFFSETS)
        locked = active | self.writes
        settings = write_registers.held(m, given, locked, self.writing, self.params.cell_bits)
        read = {OFFSETS[name]: value for name, value in values.items()} | settings
        axi_lite.reads(m, self, read)
        m.d.comb += [self.changed.eq(given.write & ~active & (given.address >= SETTINGS >> 2)),
                     fits.eq(has_room(m, access, registers(), read))]
        tell_misfits(m, self, access.write & ~fits & ~active, misplaced)
        return m


def guarded(m: Module, access: axi_lite.Access) -> tuple[axi_lite.Access, Signal]:
    """Return the writes that fit, and the signal that says whether one does, which is to be driven."""
    fits, write = Signal(name="fits"), Signal(name="write_fits")
    m.d.comb += write.eq(access.write & fits)
    return replace(access, write=write), fits


def has_room(m: Module, access: axi_lite.Access, table: Iterable[Register], read: Mapping[int, Any]) -> Value:
    """Return whether a written word has ones only where the build has bits of a setting; words for others fit always.

    read : by offset, what the registers of the build read, with bits as many as they have
    """
    wide, offsets = Signal(32, name="wide"), dict[int, list[int]]()
    for register in table:
        if register.offset >= SETTINGS and register.access == "rw":
            room = sum((1 << field.width) - 1 << field.lsb for field in register.fields)
            built = len(Value.cast(read[register.offset])) if register.offset in read else 0
            offsets.setdefault(room & (1 << built) - 1, []).append(register.offset >> 2)
    with m.Switch(access.address):
        for room, places in offsets.items():
            with m.Case(*places):
                m.d.comb += wide.eq(access.word & ~room)
    return ~wide.any()


def tell_misfits(m: Module, block: Any, wide: Value, misplaced: Value) -> None:
    """Drive misfit of a block with the ports misfit, error and code; ``wide``: a word that does not fit is written."""
    missed = Signal(name="missed")
    with m.If(wide):
        m.d.sync += missed.eq(1)
    with m.Elif(block.error & (block.code == Error.SETTINGS)):
        m.d.sync += missed.eq(0)
    m.d.comb += block.misfit.eq(missed | misplaced)


def controls(m: Module, access: axi_lite.Access, active: Value, block: Any, commands: Mapping[str, int]) -> dict[str, Value]:
    """Serve CONTROL, STATUS and ERROR of a block with the ports irq, done, error and code; return what they read.

    commands : ports of the block that a written bit of CONTROL raises for a cycle unless ``active``; the first one wins, and
        each clears done and error
    """
    irq_enable, done, failed, control = Signal(), Signal(), Signal(), Signal()
    m.d.comb += [control.eq(access.writes(OFFSETS["CONTROL"]) & access.strobe[0]),
                 block.irq.eq(irq_enable & (done | failed))]
    other: Value = ~active
    for name, bit in commands.items():
        m.d.sync += getattr(block, name).eq(control & access.word[bit] & other)
        other = other & ~access.word[bit]
    with m.If(control):
        m.d.sync += irq_enable.eq(access.word[1])
    with m.If(access.writes(OFFSETS["STATUS"]) & access.strobe[0]):
        m.d.sync += [done.eq(done & ~access.word[1]), failed.eq(failed & ~access.word[2])]
    with m.If(Cat(getattr(block, name) for name in commands).any()):
        m.d.sync += [done.eq(0), failed.eq(0)]
    with m.If(block.done):
        m.d.sync += done.eq(1)
    with m.If(block.error):
        m.d.sync += failed.eq(1)
    return {"CONTROL": irq_enable << 1, "STATUS": active | done << 1 | failed << 2, "ERROR": block.code}


def held_fields(m: Module, access: axi_lite.Access, active: Value, groups: Mapping[str, Any],
                offsets: Mapping[str, int]) -> dict[str, Value]:
    """Let the host write fields while not ``active``, by the prefix of their registers; return what those read."""
    held = {f"{prefix}_{name.upper()}": field for prefix, group in groups.items() for name, field in leaves(group).items()}
    for name, target in held.items():
        with m.If(access.writes(offsets[name]) & ~active):
            m.d.sync += target.eq(access.word)
    return held


def held_places(m: Module, access: axi_lite.Access, active: Value, places: Any, weight_bits: int,
                offsets: Mapping[str, int]) -> tuple[dict[str, Value], Value]:
    """Let the host write what the columns of a weight stand for while not ``active``.

    Return what the registers read, and whether one that is used is shifted by ``weight_bits`` or more.
    """
    held, misplaced = dict[str, Value](), list[Value]()
    for number in range(len(places)):
        name, place, shift = f"PLACE_{number}", places[number], Signal(4, name=f"shift_{number}")
        with m.If(access.writes(offsets[name]) & ~active):
            m.d.sync += [shift.eq(access.word[:4]), place.negate.eq(access.word[4]), place.used.eq(access.word[5])]
        m.d.comb += place.shift.eq(shift)
        misplaced.append(place.used & (shift >= weight_bits))
        held[name] = Cat(shift, place.negate, place.used)
    return held, Cat(misplaced).any()
