"""Mode of a macro, and who has it: compute or programming."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from golden.imc.arch import Mode
from hdl.block import Block

GUARD_BITS = 4


class ModeControl(Block):
    """Give the macro to one of its two users at a time, with a rest in mode IDLE between two different modes.

    Twin of `golden.imc.mode_control.mode_control`. A vector begins in the cycle that grants it, and its mode comes in the
    next one, so that compute alone loses no cycle. A mode that programming asks for comes in the next cycle, or behind the
    rest.

    Members
    -------
    guard : In(4), least cycles of IDLE between two different modes; 0 counts as 1
    asks : In(1), a vector or a calibration waits; uses : In(1), one is on its way; grant : Out(1), it may begin, or go on
    claims : In(1), a job of programming is on its way, falls in mode IDLE; mode_req : In, a `Mode` but COMPUTE
    mode_gnt : Out, the `Mode` that is granted to it; COMPUTE: none, the macro is not its own
    mode : Out, of the macro

    Source: imc 10, B0 and the macro contract.
    """

    def __init__(self) -> None:
        super().__init__({"guard": In(GUARD_BITS), "asks": In(1), "uses": In(1), "grant": Out(1), "claims": In(1),
                          "mode_req": In(2), "mode_gnt": Out(2), "mode": Out(2)})

    def build(self) -> Module:
        m = Module()
        rest, last, wrote, waited = Signal(GUARD_BITS), Signal(2), Signal(), Signal()
        m.d.comb += waited.eq((rest + 1 >= self.guard) | (last == Mode.IDLE))
        m.d.sync += rest.eq(rest + ~rest.all())
        with m.If(self.mode != Mode.IDLE):
            m.d.sync += [rest.eq(0), last.eq(self.mode)]
        with m.FSM() as user:
            m.d.comb += self.mode_gnt.eq(Mux(user.ongoing("PROGRAM"), self.mode, Mode.COMPUTE))
            with m.State("NONE"):
                m.d.comb += self.grant.eq((wrote | ~self.claims) & (waited | (last == Mode.COMPUTE)))
                m.d.sync += self.mode.eq(Mode.IDLE)
                with m.If(self.grant & self.asks):
                    m.d.sync += [self.mode.eq(Mode.COMPUTE), wrote.eq(0)]
                    m.next = "COMPUTE"
                with m.Elif(self.claims & ~(wrote & self.asks)):
                    m.next = "PROGRAM"
            with m.State("COMPUTE"):
                m.d.comb += self.grant.eq(self.uses | ~self.claims)
                m.d.sync += self.mode.eq(Mode.COMPUTE)
                with m.If(~self.uses & (self.claims | ~self.asks)):
                    m.d.sync += self.mode.eq(Mode.IDLE)
                    m.next = "NONE"
            with m.State("PROGRAM"):
                with m.If(~self.claims & (self.mode == Mode.IDLE)):
                    m.d.sync += wrote.eq(1)
                    m.next = "NONE"
                with m.Elif(self.mode != self.mode_req):
                    m.d.sync += self.mode.eq(Mode.IDLE)
                    with m.If((self.mode == Mode.IDLE) & (waited | (last == self.mode_req))):
                        m.d.sync += self.mode.eq(self.mode_req)
        return m
