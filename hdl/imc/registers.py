"""Control registers of a core of tiles: the AXI4-Lite block that serves the table of `hdl.imc.register_map`."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.bus import axi_lite
from hdl.imc.event_counters import EventCounters
from hdl.imc.layer import layer_layout, machine_layout
from hdl.imc.register_map import OFFSETS, identity
from hdl.imc.shift_add import ShiftAdd


class Registers(Block):
    """AXI4-Lite slave, 32-bit data, with the timing of `hdl.bus.axi_lite`.

    Byte strobes count for CONTROL and STATUS; settings are written whole. Address bits 1:0 are ignored.

    Members
    -------
    aw*, w*, b*, ar*, r* : AXI4-Lite channels; irq : Out(1)
    start, calibrate : Out(1), high for a cycle, never while busy; layer, machine, places : Out, constant while busy
    busy, done, error : In(1); code : In, stands from ``error`` on; counters : In, see `EventCounters`
    """

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            **axi_lite.slave_members(), "irq": Out(1), "start": Out(1), "calibrate": Out(1), "layer": Out(layer_layout()),
            "machine": Out(machine_layout()), "places": Out(ShiftAdd.settings_layout(p)["places"].shape),
            "busy": In(1), "done": In(1), "error": In(1), "code": In(8), "counters": In(EventCounters.counters_layout()),
        })

    def build(self) -> Module:
        m, active = Module(), Signal()
        access = axi_lite.writes(m, self)
        m.d.comb += active.eq(self.busy | self.start | self.calibrate)
        values = {
            **held_fields(m, access, active, {"LAYER": self.layer, "MACHINE": self.machine}, OFFSETS),
            **held_places(m, access, active, self.places, OFFSETS),
            **controls(m, access, active, self, {"start": 0, "calibrate": 2}), **identity(self.params),
            **{name.upper(): self.counters[name] for name in self.counters.shape().members}}
        axi_lite.reads(m, self, {OFFSETS[name]: value for name, value in values.items()})
        return m


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
    held = {f"{prefix}_{name.upper()}": group[name] for prefix, group in groups.items() for name in group.shape().members}
    for name, target in held.items():
        with m.If(access.writes(offsets[name]) & ~active):
            m.d.sync += target.eq(access.word)
    return held


def held_places(m: Module, access: axi_lite.Access, active: Value, places: Any,
                offsets: Mapping[str, int]) -> dict[str, Value]:
    """Let the host write what the columns of a weight stand for while not ``active``; return what the registers read."""
    held = {f"PLACE_{number}": places[number] for number in range(len(places))}
    for name, place in held.items():
        with m.If(access.writes(offsets[name]) & ~active):
            m.d.sync += [place.shift.eq(access.word[:4]), place.negate.eq(access.word[4]), place.used.eq(access.word[5])]
    return {name: place.shift | place.negate << 4 | place.used << 5 for name, place in held.items()}
