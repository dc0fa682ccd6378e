"""What a core does when: commands of the host, their ends, and errors."""

from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.imc.arch import Error
from hdl.block import Block
from hdl.imc.write_job import OF_JOB

COMMANDS = ("start", "calibrate", "operate", "store")


class CoreControl(Block):
    """Begin a command when the packets ahead of it are taken, and end it, or stop the core with an error.

    A job of the host that failed raises ``error`` too, and stops nothing.

    Members
    -------
    asked : In, a bit for each of `COMMANDS`, high for a cycle, one at a time; begins : Out, the same, when it begins
    legal : In, the same, those that the settings allow; one that runs may turn out not to be
    idle, malformed : In(1), of `hdl.imc.host_port.HostPort`
    over : In(1), the layer's last vector is done; calibrated : In, [tiles], ``Tile.calibrated``; failed : In(1), one of them
    unit_done, unit_error, unit_code : In, of `hdl.imc.transformer.Transformer`
    job : In, {valid, error} of a job of the host that ends; ``error`` is a `golden.imc.arch.WriteError`
    unfit, sums, droop : In(1), errors of what follows the sums, of lanes and of tiles; happens : In(1), something does
    patience : In, cycles in which nothing happens, 0: for ever
    busy, done, error, code : Out, of the core; runs : Out(1), a layer; stop : Out(1), resets all blocks

    Source: imc 10, B0; decision 0015.
    """

    def __init__(self, tiles: int) -> None:
        self.params: int = tiles
        super().__init__({
            "asked": In(len(COMMANDS)), "begins": Out(len(COMMANDS)), "idle": In(1), "malformed": In(1),
            "legal": In(len(COMMANDS)),
            "over": In(1), "calibrated": In(tiles), "failed": In(1), "unit_done": In(1), "unit_error": In(1),
            "unit_code": In(8), "job": In(data.StructLayout({"valid": 1, "error": 2})), "unfit": In(1), "sums": In(1),
            "droop": In(1), "happens": In(1), "patience": In(24), "busy": Out(1),
            "done": Out(1), "error": Out(1), "code": Out(8), "runs": Out(1), "stop": Out(1),
        })

    def build(self) -> Module:
        m = Module()
        waited, calibrated, malformed, calibrating = Signal(24), Signal(self.params), Signal(), Signal()
        held = Signal(len(COMMANDS))
        m.d.sync += [
            malformed.eq(malformed | self.malformed), waited.eq(Mux(self.happens | ~self.busy, 0, waited + 1)),
            calibrated.eq(Mux(calibrating, calibrated | self.calibrated, 0))]

        def fail(why: Error | Value) -> None:
            m.d.sync += self.code.eq(why)
            m.next = "STOP"

        def begin(command: Value) -> None:
            with m.If(~self.idle):
                m.next = "WAIT"
            with m.Elif(malformed):
                m.d.sync += malformed.eq(0)
                fail(Error.PACKET)
            with m.Elif((command & ~self.legal).any()):
                fail(Error.SETTINGS)
            with m.Else():
                m.d.comb += self.begins.eq(command)
                m.next = "TOKENS"
                with m.If(command[0]):
                    m.next = "RUN"
                with m.Elif(command[1]):
                    m.next = "CALIBRATE"

        def errors() -> None:
            with m.If(self.unfit | (self.runs & ~self.legal[0])):
                fail(Error.SETTINGS)
            with m.Elif(self.sums):
                fail(Error.SUMS)
            with m.Elif(self.droop):
                fail(Error.DROOP)
            with m.Elif((self.patience != 0) & (waited == self.patience)):
                fail(Error.STALLED)

        def jobs() -> None:
            with m.If(self.job.valid & (self.job.error != 0)):
                m.d.comb += self.error.eq(1)
                m.d.sync += self.code.eq(Array(OF_JOB)[self.job.error])

        with m.FSM() as states:
            m.d.comb += [self.busy.eq(~states.ongoing("IDLE")), calibrating.eq(states.ongoing("CALIBRATE")),
                         self.runs.eq(states.ongoing("RUN"))]
            with m.State("IDLE"):
                with m.If(self.asked.any()):
                    m.d.sync += [self.code.eq(0), held.eq(self.asked)]
                    begin(self.asked)
                jobs()
            with m.State("WAIT"):
                begin(held)
                errors()
                jobs()
            with m.State("RUN"):
                with m.If(self.over):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
                errors()
            with m.State("CALIBRATE"):
                with m.If(calibrated.all()):
                    m.d.comb += [self.done.eq(~self.failed), self.error.eq(self.failed)]
                    m.d.sync += self.code.eq(Mux(self.failed, Error.CALIBRATION, 0))
                    m.next = "IDLE"
                errors()
            with m.State("TOKENS"):
                with m.If(self.unit_done):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
                with m.Elif(self.unit_error):
                    fail(self.unit_code)
                errors()
            with m.State("STOP"):
                m.d.comb += [self.stop.eq(1), self.error.eq(1)]
                m.next = "IDLE"
        return m
