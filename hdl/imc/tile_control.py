"""Control of a tile of its own: starts, stops, checks settings, ends with an error code."""

from typing import Any

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.imc.arch import Error, ImcArch
from hdl.block import Block
from hdl.imc import legal
from hdl.imc.layer import machine_layout
from hdl.imc.tile_register_map import vector_layout
from hdl.imc.write_job import OF_JOB


class TileControl(Block):
    """Open the ports of a tile, close them, and end a calibration.

    Settings beyond the build end a start, or a calibration, with an error. A packet that does not fit, columns that were held
    for too long, and a vector with which nothing happens for ``patience`` cycles stop the tile: ``halt`` resets it for a cycle,
    calibrated numbers included; so does a second stop. A job that failed raises ``error`` too, and the next one goes on.

    Members
    -------
    machine, vector, misfit : In, settings, stand while ``busy``; see `hdl.imc.tile_registers.TileRegisters`
    start, stop, calibrate : In(1); busy, done, error : Out(1), ``done`` and ``error`` high for a cycle; code : Out, an `Error`
    open : Out(1), packets may begin; halt : Out(1); calibrates : Out(1), high for a cycle
    packet, droop : In(1), what stops the tile; job : In, {valid, error} of a job that ends
    calibrated, failed : In(1), of the tile; waits : In(1), a vector is on its way; happens : In(1), something happens
    idle : In(1), nothing is on its way

    Source: imc 10, B0.
    """

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "machine": In(machine_layout()), "vector": In(vector_layout()), "misfit": In(1), "start": In(1),
            "stop": In(1), "calibrate": In(1), "busy": Out(1), "done": Out(1), "error": Out(1), "code": Out(8),
            "open": Out(1), "halt": Out(1), "calibrates": Out(1), "packet": In(1), "droop": In(1),
            "job": In(data.StructLayout({"valid": 1, "error": 2})), "calibrated": In(1), "failed": In(1), "waits": In(1),
            "happens": In(1), "idle": In(1)})

    def build(self) -> Module:
        m, p, computes, converts, waited = Module(), self.params, Signal(), Signal(), Signal(24)
        m.d.comb += [
            converts.eq(legal.converts(p, self.machine) & ~self.misfit),
            computes.eq(converts & legal.computes(p, self.machine, self.vector.bits, self.vector.outputs))]
        m.d.sync += waited.eq(Mux(self.waits & ~self.happens, waited + 1, 0))

        def fail(code: Error) -> None:
            m.d.sync += self.code.eq(code)
            m.next = "STOP"

        with m.FSM() as states:
            m.d.comb += [self.busy.eq(~states.ongoing("IDLE")), self.open.eq(states.ongoing("OPEN")),
                         self.halt.eq(states.ongoing("STOP"))]
            with m.State("IDLE"):
                with m.If(self.start | self.calibrate):
                    m.d.sync += [self.code.eq(0), waited.eq(0)]
                with m.If(self.start):
                    m.next = "OPEN"
                    with m.If(~computes):
                        fail(Error.SETTINGS)
                with m.Elif(self.calibrate):
                    m.d.comb += self.calibrates.eq(converts)
                    m.next = "CALIBRATE"
                    with m.If(~converts):
                        fail(Error.SETTINGS)
            with m.State("OPEN"):
                with m.If(self.stop):
                    m.next = "DRAIN"
                self._errors(m, fail, waited)
            with m.State("DRAIN"):
                with m.If(self.idle):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
                with m.Elif(self.stop):
                    fail(Error.STALLED)
                self._errors(m, fail, waited)
            with m.State("CALIBRATE"):
                with m.If(self.calibrated):
                    m.next = "JUDGE"
                self._errors(m, fail, waited)
            with m.State("JUDGE"):
                m.d.comb += [self.done.eq(~self.failed), self.error.eq(self.failed)]
                m.d.sync += self.code.eq(Mux(self.failed, Error.CALIBRATION, 0))
                m.next = "IDLE"
            with m.State("STOP"):
                m.d.comb += self.error.eq(1)
                m.next = "IDLE"
        return m

    def _errors(self, m: Module, fail: Any, waited: Signal) -> None:
        """Stop at what cannot go on; tell of a job that failed."""
        with m.If(self.job.valid & (self.job.error != 0)):
            m.d.comb += self.error.eq(1)
            m.d.sync += self.code.eq(Array(OF_JOB)[self.job.error])
        with m.If(self.packet):
            fail(Error.PACKET)
        with m.Elif(self.droop):
            fail(Error.DROOP)
        with m.Elif((self.machine.patience != 0) & (waited == self.machine.patience)):
            fail(Error.STALLED)
