"""Control registers of a core of tiles: the AXI4-Lite block that serves the table of `hdl.imc.register_map`."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.bus import axi_lite
from hdl.imc import write_registers
from hdl.imc.early_exit import EarlyExit
from hdl.imc.event_counters import EventCounters
from hdl.imc.layer import exit_layout, layer_layout, machine_layout
from hdl.imc.register_map import OFFSETS, VERDICT, identity
from hdl.imc.shift_add import ShiftAdd
from hdl.imc.transformer import host_ports
from hdl.imc.transformer_fields import leaves


class Registers(Block):
    """AXI4-Lite slave, 32-bit data, with the timing of `hdl.bus.axi_lite`.

    Byte strobes count for CONTROL and STATUS; settings are written whole. Address bits 1:0 are ignored.

    Members
    -------
    aw*, w*, b*, ar*, r* : AXI4-Lite channels; irq : Out(1)
    start, calibrate : Out(1), high for a cycle, never while busy; layer, machine, exits, places : Out, constant while busy
    misplaced : Out(1), the code of a place that is used is shifted further than weights of the build are wide
    operate, store, work, load, writing : Out, `hdl.imc.transformer.host_ports`, like these
    busy, done, error : In(1); code : In, stands from ``error`` on; counters : In, see `EventCounters`
    verdict : In, see `EarlyExit`
    """

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            **axi_lite.slave_members(), "irq": Out(1), "start": Out(1), "calibrate": Out(1), "layer": Out(layer_layout()),
            "machine": Out(machine_layout()), "exits": Out(exit_layout()),
            "places": Out(ShiftAdd.settings_layout(p)["places"].shape), "misplaced": Out(1), "busy": In(1), "done": In(1),
            "error": In(1), "code": In(8), "counters": In(EventCounters.counters_layout()),
            "verdict": In(EarlyExit.verdict_layout(p)),
            **{name: Out(shape) for name, shape in host_ports(p).items()},
        })

    def build(self) -> Module:
        m, active = Module(), Signal()
        access = axi_lite.writes(m, self)
        commands = {"start": 0, "calibrate": 2, **({"operate": 3, "store": 4} if self.params.tokens else {})}
        m.d.comb += active.eq(Cat(self.busy, *(getattr(self, name) for name in commands)).any())
        values = {
            **held_fields(m, access, active, {"LAYER": self.layer, "MACHINE": self.machine, "EXIT": self.exits}, OFFSETS),
            "EXIT_MARGIN": self.verdict.margin, "EXIT_VERDICT": sum(
                self.verdict[part.name] << part.lsb for part in VERDICT),
            **held_places(m, access, active, self, self.params.weight_bits, OFFSETS),
            **controls(m, access, active, self, commands), **identity(self.params),
            **{name.upper(): self.counters[name] for name in self.counters.shape().members}}
        axi_lite.reads(m, self, {OFFSETS[name]: value for name, value in values.items()} | self._tokens(m, access, active))
        return m

    def _tokens(self, m: Module, access: axi_lite.Access, active: Value) -> dict[int, Value]:
        """Let the host write what a build with tokens has; return what is read, by offset."""
        if not self.params.tokens:
            return {}
        held = held_fields(m, access, active, {"WORK": self.work, "LOAD": self.load}, OFFSETS)
        return {OFFSETS[name]: value for name, value in held.items()} | write_registers.held(
            m, access, active, self.writing, self.params.cell_bits)


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


def held_places(m: Module, access: axi_lite.Access, active: Value, block: Any, weight_bits: int,
                offsets: Mapping[str, int]) -> dict[str, Value]:
    """Let the host write what the columns of a weight stand for while not ``active``; return what the registers read.

    block : has the ports places, and misplaced: one that is used is shifted by ``weight_bits`` or more
    """
    held, misplaced = dict[str, Value](), list[Value]()
    for number in range(len(block.places)):
        name, place, shift = f"PLACE_{number}", block.places[number], Signal(4, name=f"shift_{number}")
        with m.If(access.writes(offsets[name]) & ~active):
            m.d.sync += [shift.eq(access.word[:4]), place.negate.eq(access.word[4]), place.used.eq(access.word[5])]
        m.d.comb += place.shift.eq(shift)
        misplaced.append(place.used & (shift >= weight_bits))
        held[name] = shift | place.negate << 4 | place.used << 5
    m.d.comb += block.misplaced.eq(Cat(misplaced).any())
    return held
