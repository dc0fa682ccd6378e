"""Tile whose cells are written at run time: compute periphery, write-verify, and the mode of the macro that they share."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.imc.arch import ImcArch, Mode
from hdl.block import Block
from hdl.imc.macro import macro_members
from hdl.imc.mode_control import ModeControl
from hdl.imc.signed_combine import SignedCombine
from hdl.imc.tile import Tile, compute_members
from hdl.imc.write_job import fail_layout, job_layout, outcome_layout, settings_layout
from hdl.imc.write_verify import WriteVerify


class WritableTile(Block):
    """Run vectors through crossbars, and jobs that write their cells; one of both is at the macro at a time.

    Twin of `golden.imc.writable_tile`. A job waits until the vector at the macro is converted, vectors wait until a job is
    over; where both wait they take turns (`ModeControl`, whose rest between modes is ``t_guard`` of ``writing``). Outputs of
    vectors that are converted leave while a job is on its way. What a vector finds in the cells is what all jobs left that
    ended before it was taken.

    Members
    -------
    settings, i, o, busy, calibrate, calibrated, failed, droop, write : of `Tile`
    writing : In, `hdl.imc.write_job.settings_layout`; stands while ``writes``
    i_job : In(stream), `order_layout`; o_job, o_fail : Out(stream), of `WriteVerify`
    uses : Out(1), a vector or a calibration is at the macro; writes : Out(1), a job is on its way
    events : Out, `events_layout`: what happens in this cycle, for counters
    macro : `hdl.imc.macro.macro_members`, flat

    Source: imc 10, B0, B9 and the macro contract.
    """

    i: stream.Interface
    o: stream.Interface
    i_job: stream.Interface
    o_job: stream.Interface
    o_fail: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "settings": In(Tile.settings_layout(p)), "i": In(stream.Signature(Tile.vector_layout(p))),
            "o": Out(stream.Signature(SignedCombine.sums_layout(p))), "busy": Out(1), "calibrate": In(1), "calibrated": Out(1),
            "failed": Out(p.adcs), "droop": Out(1), "write": In(Tile.write_layout(p)), "writing": In(settings_layout(p)),
            "i_job": In(stream.Signature(self.order_layout(p))), "o_job": Out(stream.Signature(outcome_layout(p))),
            "o_fail": Out(stream.Signature(fail_layout(p))), "uses": Out(1), "writes": Out(1),
            "events": Out(self.events_layout(p)),
            **macro_members(p),
        })

    @staticmethod
    def order_layout(p: ImcArch) -> data.StructLayout:
        """Return a job and the crossbar that it is for."""
        return data.StructLayout({"crossbar": range(max(2, p.crossbars)), "job": job_layout(p)})

    @staticmethod
    def events_layout(p: ImcArch) -> data.StructLayout:
        """Return the events of a cycle: those of `Tile`, and that a pulse or a comparison of cells begins."""
        return data.StructLayout({**Tile.events_layout(p).members, "pulse": 1, "read": 1})

    def build(self) -> Module:
        m, p = Module(), self.params
        m.submodules.tile = tile = Tile(p)
        m.submodules.write_verify = writer = WriteVerify(p)
        m.submodules.mode_control = control = ModeControl()
        crossbar, pulsed = Signal.like(self.crossbar), Signal()
        for name in ("i", "o"):
            connect(m, flipped(getattr(self, name)), getattr(tile, name))
        connect(m, flipped(self.o_job), writer.o)
        connect(m, flipped(self.o_fail), writer.o_fail)
        inner: dict[str, Any] = dict.fromkeys(compute_members(p), tile) | {
            name: writer for name in macro_members(p) if name.startswith(("pg_", "vf_"))}
        for name, member in macro_members(p).items():
            if name in inner:
                there = getattr(inner[name], name)
                m.d.comb += getattr(self, name).eq(there) if member.flow is Out else there.eq(getattr(self, name))
        m.d.comb += [
            tile.settings.eq(self.settings), tile.calibrate.eq(self.calibrate), tile.write.eq(self.write),
            *(getattr(self, name).eq(getattr(tile, name)) for name in ("busy", "uses", "calibrated", "failed", "droop")),
            writer.settings.eq(self.writing), self.writes.eq(writer.busy), writer.i.valid.eq(self.i_job.valid),
            self.i_job.ready.eq(writer.i.ready), writer.i.p.eq(self.i_job.p.job),
            control.guard.eq(self.writing.t_guard), control.asks.eq(tile.asks), control.uses.eq(tile.uses),
            tile.grant.eq(control.grant), control.claims.eq(writer.busy), control.mode_req.eq(writer.mode_req),
            writer.mode_gnt.eq(control.mode_gnt), self.mode.eq(control.mode),
            self.crossbar.eq(Mux(control.mode_gnt == Mode.COMPUTE, tile.crossbar, crossbar)),
            *(self.events[name].eq(tile.events[name]) for name in tile.events.shape().members),
            self.events.pulse.eq(self.pg_go & ~pulsed), self.events.read.eq(self.vf_go),
        ]
        m.d.sync += pulsed.eq(self.pg_go)
        with m.If(self.i_job.valid & self.i_job.ready):
            m.d.sync += crossbar.eq(self.i_job.p.crossbar)
        return m
