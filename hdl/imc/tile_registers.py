"""Control registers of a tile of its own: the AXI4-Lite block that serves the table of `hdl.imc.tile_register_map`."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.bus import axi_lite
from hdl.imc import write_registers
from hdl.imc.event_counters import EventCounters
from hdl.imc.layer import machine_layout
from hdl.imc.legal import tile_number
from hdl.imc.registers import controls, guarded, has_room, held_fields, held_places, tell_misfits
from hdl.imc.shift_add import ShiftAdd
from hdl.imc.tile import Tile
from hdl.imc.tile_register_map import COUNTED, NUMBER_FIELDS, OFFSETS, identity, registers, vector_layout
from hdl.imc.write_job import settings_layout


class TileRegisters(Block):
    """AXI4-Lite slave, 32-bit data, with the timing of `hdl.bus.axi_lite`.

    Byte strobes count for CONTROL and STATUS; settings are written whole. Address bits 1:0 are ignored. A word that is wider
    than its setting in this build, and a NUMBER that is, or is for no ADC or column, is left out, and the next command fails
    with `Error.SETTINGS`.

    Members
    -------
    aw*, w*, b*, ar*, r* : AXI4-Lite channels; irq : Out(1)
    start, calibrate : Out(1), high for a cycle, never while busy; stop : Out(1), high for a cycle
    vector, machine, places, writing : Out, constant while busy; write : Out, to the tile
    misfit : Out(1), a word did not fit, which stands until an error has told it, or a place that is used is shifted by
        ``weight_bits`` or more
    busy, done, error : In(1); code : In, stands from ``error`` on; counters : In, see `EventCounters`
    """

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            **axi_lite.slave_members(), "irq": Out(1), "start": Out(1), "calibrate": Out(1), "stop": Out(1),
            "vector": Out(vector_layout()), "machine": Out(machine_layout()),
            "places": Out(ShiftAdd.settings_layout(p)["places"].shape), "misfit": Out(1),
            "writing": Out(settings_layout(p)),
            "write": Out(Tile.write_layout(p)), "busy": In(1), "done": In(1), "error": In(1), "code": In(8),
            "counters": In(EventCounters.counters_layout()),
        })

    def build(self) -> Module:
        m, p, active = Module(), self.params, Signal()
        access = axi_lite.writes(m, self)
        given, fits = guarded(m, access)
        m.d.comb += active.eq(self.busy | self.start | self.calibrate)
        places, misplaced = held_places(m, given, active, self.places, p.weight_bits, OFFSETS)
        values = {
            **held_fields(m, given, active, {"VECTOR": self.vector, "MACHINE": self.machine}, OFFSETS), **places,
            **controls(m, access, active, self, {"start": 0, "calibrate": 2}), **identity(p),
            **{name.upper(): self.counters[name] for name in COUNTED}}
        m.d.sync += [self.stop.eq(access.writes(OFFSETS["CONTROL"]) & access.strobe[0] & access.word[3]),
                     self.write.valid.eq(given.writes(OFFSETS["NUMBER"]) & ~active)]
        number = {name: access.word[low:low + width] for name, (low, width) in NUMBER_FIELDS.items()}
        m.d.sync += [self.write[name].eq(part) for name, part in number.items()]
        read = {OFFSETS[name]: value for name, value in values.items()} | write_registers.held(
            m, given, active, self.writing, p.cell_bits)
        axi_lite.reads(m, self, read)
        m.d.comb += fits.eq(
            has_room(m, access, registers(), read | {OFFSETS["NUMBER"]: access.word})
            & ((access.address != OFFSETS["NUMBER"] >> 2) | (
                tile_number(p, number["what"], number["number"]) & (number["adc"] < p.adcs)
                & (number["column"] < Mux(number["what"][1], p.mux, 1)))))
        tell_misfits(m, self, access.write & ~fits & ~active, misplaced)
        return m
