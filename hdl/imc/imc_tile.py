"""Top of one in-memory-computing tile: AXI4-Lite registers, AXI4 streams of vectors and jobs, a black box as its macro."""

import dataclasses
from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.wiring import In, Member, Out, connect

from golden.imc.arch import ImcArch
from hdl.block import Block, entry
from hdl.bus import axi_lite
from hdl.imc.event_counters import EventCounters
from hdl.imc.job_port import JobPort, words
from hdl.imc.macro import instance
from hdl.imc.packet_port import PacketPort
from hdl.imc.tile import KEY_BITS
from hdl.imc.tile_control import TileControl
from hdl.imc.tile_registers import TileRegisters
from hdl.imc.writable_tile import WritableTile

# Words ahead of the planes of a vector: crossbar, key.
VECTOR_HEAD = 2


def sum_word(p: ImcArch) -> int:
    """Return the bits of an output on its stream, 32 or 64."""
    return 32 * words(p.sum_bits)


class ImcTile(Block):
    """A tile with standard bus names.

    One clock ``aclk``, active-low synchronous reset ``aresetn``, registered once. ``s_axi_ctrl_*`` is an AXI4-Lite slave with
    32-bit data, ``irq`` a level. Streams, of 32-bit words unless said; bits of several words begin with the lowest:

    - ``s_axis_x``: a vector is a packet of crossbar, key, and its planes, the lowest bit first, a bit for each row
    - ``m_axis_y``: its outputs, a packet of signed words of `sum_word` bits
    - ``s_axis_job``: a job is a packet of op | row << 8 | crossbar << 16, the mask, the levels of all columns
    - ``m_axis_fail``: a packet of one word for each cell that failed, row | column << 8 | entry << 16
    - ``m_axis_done``: a packet for each job: error, mask of columns that failed, levels, and the counts of
      `hdl.imc.write_job.COUNTS`, a word each; see `hdl.imc.job_port`

    Twin of `golden.imc.writable_tile`. Vectors and jobs are taken while started. A stream that nothing takes from holds what
    comes behind it. An error cuts packets short; of a packet that came in part, the rest is left out.

    Source: imc 10, B0.
    """

    clocked = False

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        self.slave = axi_lite.slave_members()
        super().__init__({
            "aclk": In(1), "aresetn": In(1), "irq": Out(1),
            **{f"s_axi_ctrl_{name}": member for name, member in self.slave.items()},
            **_stream("s_axis_x", In, Out), **_stream("m_axis_y", Out, In, sum_word(p)), **_stream("s_axis_job", In, Out),
            **_stream("m_axis_fail", Out, In), **_stream("m_axis_done", Out, In)})

    def build(self) -> Module:
        m, p = Module(), self.params
        entry(m, self.aclk, self.aresetn)
        self.halt = Signal(name="halt")
        self.registers, self.control, self.tile = TileRegisters(p), TileControl(p), WritableTile(p)
        self.counters = EventCounters(dataclasses.replace(p, tiles=1, fan_in=1))
        self.plane, self.vectors, self.jobs = words(p.rows), PacketPort(VECTOR_HEAD + p.input_bits * words(p.rows)), JobPort(p)
        self.tile.also_reset = self.halt
        for name in ("registers", "control", "tile", "counters", "vectors", "jobs"):
            m.submodules[name] = getattr(self, name)
        m.submodules.macro = instance(p, self.tile)
        self._settings(m)
        self._vectors(m)
        self._jobs(m)
        self._control(m)
        return m

    def _settings(self, m: Module) -> None:
        """Join the registers."""
        registers, control, tile = self.registers, self.control, self.tile
        for name in self.slave:
            port, inner = getattr(self, f"s_axi_ctrl_{name}"), getattr(registers, name)
            m.d.comb += port.eq(inner) if name in axi_lite.OUTPUTS else inner.eq(port)
        given = {"places": registers.places, **{
            name: group[name] for group in (registers.machine, registers.vector) for name in group.shape().members}}
        m.d.comb += [tile.settings[name].eq(value) for name, value in given.items() if name != "patience"]
        m.d.comb += [getattr(control, name).eq(getattr(registers, name)) for name in (
            "machine", "vector", "misfit", "start", "stop", "calibrate")]
        m.d.comb += [getattr(registers, name).eq(getattr(control, name)) for name in ("busy", "done", "error", "code")]
        m.d.comb += [self.irq.eq(registers.irq), tile.writing.eq(registers.writing), tile.write.eq(registers.write),
                     registers.counters.eq(self.counters.counters)]

    def _vectors(self, m: Module) -> None:
        """Vectors come in, outputs leave."""
        p, tile, port = self.params, self.tile, self.vectors
        planes = [Cat(port.o.p[VECTOR_HEAD + b * self.plane + n] for n in range(self.plane)) for b in range(p.input_bits)]
        self._port(m, port, "s_axis_x")
        self.lost = Signal(name="lost")
        m.d.comb += [
            port.length.eq(VECTOR_HEAD + self.registers.vector.bits * self.plane),
            self.lost.eq(port.o.valid & ((port.o.p[0] >= p.crossbars) | (port.o.p[1] >> KEY_BITS != 0))),
            tile.i.valid.eq(port.o.valid & ~self.lost), port.o.ready.eq(tile.i.ready | self.lost),
            tile.i.p.crossbar.eq(port.o.p[0]), tile.i.p.key.eq(port.o.p[1]),
            *(tile.i.p.x[row][b].eq(planes[b][row]) for row in range(p.rows) for b in range(p.input_bits)),
            self.m_axis_y_tvalid.eq(tile.o.valid), tile.o.ready.eq(self.m_axis_y_tready),
            self.m_axis_y_tdata.eq(tile.o.p.y), self.m_axis_y_tlast.eq(tile.o.p.last),
        ]

    def _jobs(self, m: Module) -> None:
        """Jobs come in, cells that failed and how jobs end leave."""
        tile, port, fail = self.tile, self.jobs, self.tile.o_fail.p
        self._port(m, port, "s_axis_job")
        connect(m, port.o, tile.i_job)
        connect(m, tile.o_job, port.ended)
        m.d.comb += [
            self.m_axis_fail_tvalid.eq(tile.o_fail.valid), tile.o_fail.ready.eq(self.m_axis_fail_tready),
            self.m_axis_fail_tdata.eq(fail.row | fail.column << 8 | fail.entry << 16), self.m_axis_fail_tlast.eq(1),
            self.m_axis_done_tvalid.eq(port.answer.valid), port.answer.ready.eq(self.m_axis_done_tready),
            self.m_axis_done_tdata.eq(port.answer.p.word), self.m_axis_done_tlast.eq(port.answer.p.last),
        ]

    def _port(self, m: Module, port: PacketPort | JobPort, name: str) -> None:
        """Join a stream of packets."""
        m.d.comb += [
            port.i.valid.eq(getattr(self, f"{name}_tvalid")), getattr(self, f"{name}_tready").eq(port.i.ready),
            port.i.p.word.eq(getattr(self, f"{name}_tdata")), port.i.p.last.eq(getattr(self, f"{name}_tlast")),
            port.hold.eq(~self.control.open), port.flush.eq(self.halt)]

    def _control(self, m: Module) -> None:
        """Tell the control what happens."""
        control, tile, registers = self.control, self.tile, self.registers
        leaves = tile.o.valid | self.jobs.answer.valid | tile.o_fail.valid
        m.d.comb += [
            self.halt.eq(control.halt), tile.calibrate.eq(control.calibrates),
            control.packet.eq(self.vectors.error | self.jobs.error | self.lost), control.droop.eq(tile.droop),
            control.job.valid.eq(tile.o_job.valid & tile.o_job.ready), control.job.error.eq(tile.o_job.p.error),
            control.calibrated.eq(tile.calibrated), control.failed.eq(tile.failed.any()), control.waits.eq(tile.busy),
            control.happens.eq(tile.events.phase | tile.events.conversions | tile.writes | leaves),
            control.idle.eq(~(tile.busy | tile.writes | self.vectors.busy | self.jobs.busy | leaves)),
            self.counters.clear.eq((registers.start | registers.calibrate) & ~control.busy),
            self.counters.busy.eq(control.busy), self.counters.tiles[0].eq(tile.events),
        ]


def _stream(name: str, way: Any, back: Any, bits: int = 32) -> dict[str, Member]:
    """Return the ports of an AXI4 stream."""
    return {f"{name}_tdata": way(bits), f"{name}_tlast": way(1), f"{name}_tvalid": way(1), f"{name}_tready": back(1)}
