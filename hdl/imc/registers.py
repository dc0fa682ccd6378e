"""Control registers of a core of tiles: the AXI4-Lite block that serves the table of `hdl.imc.register_map`."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
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
    misplaced : Out(1), the code of a place that is used is shifted further than weights of the build are wide
    busy, done, error : In(1); code : In, stands from ``error`` on; counters : In, see `EventCounters`
    """

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            **axi_lite.slave_members(), "irq": Out(1), "start": Out(1), "calibrate": Out(1), "layer": Out(layer_layout()),
            "machine": Out(machine_layout()), "places": Out(ShiftAdd.settings_layout(p)["places"].shape),
            "misplaced": Out(1), "busy": In(1), "done": In(1), "error": In(1), "code": In(8),
            "counters": In(EventCounters.counters_layout()),
        })

    def build(self) -> Module:
        m = Module()
        access, irq_enable, done, failed = axi_lite.writes(m, self), Signal(), Signal(), Signal()
        held: dict[str, Any] = {
            **{f"LAYER_{name.upper()}": self.layer[name] for name in self.layer.shape().members},
            **{f"MACHINE_{name.upper()}": self.machine[name] for name in self.machine.shape().members}}
        active = Signal()
        control, status = access.writes(OFFSETS["CONTROL"]), access.writes(OFFSETS["STATUS"])
        m.d.comb += [active.eq(self.busy | self.start | self.calibrate), self.irq.eq(irq_enable & (done | failed))]
        for name, target in held.items():
            with m.If(access.writes(OFFSETS[name]) & ~active):
                m.d.sync += target.eq(access.word)
        misplaced = []
        for number in range(len(self.places)):
            place, shift = self.places[number], Signal(4, name=f"shift_{number}")
            with m.If(access.writes(OFFSETS[f"PLACE_{number}"]) & ~active):
                m.d.sync += [shift.eq(access.word[:4]), place.negate.eq(access.word[4]), place.used.eq(access.word[5])]
            m.d.comb += place.shift.eq(shift)
            misplaced.append(place.used & (shift >= self.params.weight_bits))
            held[f"PLACE_{number}"] = shift | place.negate << 4 | place.used << 5
        m.d.comb += self.misplaced.eq(Cat(*misplaced).any())
        m.d.sync += [
            self.start.eq(control & access.strobe[0] & access.word[0] & ~active),
            self.calibrate.eq(control & access.strobe[0] & access.word[2] & ~access.word[0] & ~active),
        ]
        with m.If(control & access.strobe[0]):
            m.d.sync += irq_enable.eq(access.word[1])
        with m.If(status & access.strobe[0]):
            m.d.sync += [done.eq(done & ~access.word[1]), failed.eq(failed & ~access.word[2])]
        with m.If(self.start | self.calibrate):
            m.d.sync += [done.eq(0), failed.eq(0)]
        with m.If(self.done):
            m.d.sync += done.eq(1)
        with m.If(self.error):
            m.d.sync += failed.eq(1)
        values = {
            **identity(self.params), **held, "CONTROL": irq_enable << 1, "STATUS": active | done << 1 | failed << 2,
            "ERROR": self.code, **{name.upper(): self.counters[name] for name in self.counters.shape().members}}
        axi_lite.reads(m, self, {OFFSETS[name]: value for name, value in values.items()})
        return m
