"""Write-verify programming: brings the cells of a row to their levels by comparisons and pulses."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import CONFIRM_BITS, ORDERS, PULSE_BITS, ImcArch, Op, WriteError
from hdl.block import Block
from hdl.count_ones import count_ones
from hdl.imc.cell_access import TIMES, CellAccess
from hdl.imc.pulse_sweep import PulseSweep
from hdl.imc.write_job import fail_layout, job_layout, outcome_layout, settings_layout


class WriteVerify(Block):
    """Program one row after the other.

    Twin of `golden.imc.write_verify.write_verify`; `CellAccess` has the times of comparisons and pulses. Where grants do not
    wait, a pulse begins ``4 + t_guard + t_pre`` cycles after the question behind which it stands, when that is answered in the
    next cycle, and the next question comes ``2 + t_cool + t_guard + t_verify`` cycles after a pulse. The end of an illegal job
    is offered 2 cycles after it came, that of a job without an answer ``2 + patience`` cycles after the question, which the
    macro must not answer any more.

    Members
    -------
    settings : In, `settings_layout`; stands while ``busy``
    i : In(stream), `job_layout`; o : Out(stream), `outcome_layout`; o_fail : Out(stream), `fail_layout`, before ``o``
    busy : Out(1), a job is on its way, no other unit may use the macro
    others : of `CellAccess`; ``pg_mask`` has never a column that the job masks out

    Source: imc 10, B9 and the macro contract.
    """

    i: stream.Interface
    o: stream.Interface
    o_fail: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "settings": In(settings_layout(p)), "i": In(stream.Signature(job_layout(p))),
            "o": Out(stream.Signature(outcome_layout(p))), "o_fail": Out(stream.Signature(fail_layout(p))), "busy": Out(1),
            **{name: Out(shape) for name, shape in CellAccess.driven(p).items()}, "mode_gnt": In(2), "vf_sa": In(p.cols),
            "vf_rdy": In(1),
        })

    def build(self) -> Module:
        m, p, settings, i, o = Module(), self.params, self.settings, self.i, self.o
        states, job, levels = 1 << p.cell_bits, Signal(job_layout(p), name="job"), o.p.levels
        number, entry = Signal(range(states + 2)), Signal(settings.entries[0].shape())
        high, quiet, reading, confirming = (Signal(name=name) for name in ("high", "quiet", "reading", "confirming"))
        allowed, live, outside, mask, chosen, failing, below, passed = (Signal(p.cols, name=name) for name in (
            "allowed", "live", "outside", "mask", "chosen", "failing", "below", "passed"))
        pulses, alternations, reads = Signal(PULSE_BITS), Signal(PULSE_BITS), Signal(CONFIRM_BITS)
        whole, used_up, tally = Signal(), Signal(), Signal(data.ArrayLayout(CONFIRM_BITS, p.cols))
        ones = count_ones(m, mask)
        m.submodules.sweep = sweep = PulseSweep()
        m.submodules.access = access = CellAccess(p)
        action = access.i.p
        m.d.comb += [
            entry.eq(Array(settings.entries[n].as_value() for n in range(states + 2))[number]), allowed.eq(job.mask),
            mask.eq(live & outside), whole.eq((job.op == Op.FORM) | (job.op == Op.ERASE)),
            chosen.eq(Cat(whole | (levels[n] == number) for n in range(p.cols)) & allowed),
            passed.eq(Cat(tally[n] >= settings.confirm_k for n in range(p.cols))),
            used_up.eq(alternations == settings.alternations), sweep.order.eq(entry.order),
            sweep.pulses.eq(Mux(high, entry.reset, entry.set)), action.reference.eq(Mux(high, entry.high, entry.low)),
            action.row.eq(job.row), action.mask.eq(mask), action.reset.eq(high), action.width.eq(sweep.width),
            action.word.eq(sweep.vwl), action.bit.eq(sweep.vbl), *(access.settings[name].eq(settings[name]) for name in TIMES),
            *(getattr(self, name).eq(getattr(access, name)) for name in CellAccess.driven(p)),
            self.pg_mask.eq(access.pg_mask & allowed), access.mode_gnt.eq(self.mode_gnt), access.vf_sa.eq(self.vf_sa),
            access.vf_rdy.eq(self.vf_rdy), self.o_fail.p.row.eq(job.row), self.o_fail.p.entry.eq(number),
        ]

        def count(name: str, more: Value | int = 1) -> None:
            m.d.sync += o.p.counts[name].eq(o.p.counts[name] + more)

        def look(*, side: Value | int = 0, silently: int = 0, alternates: bool = False) -> None:
            m.d.sync += [high.eq(side), quiet.eq(silently), pulses.eq(0), reads.eq(0), tally.eq(0)]
            m.next = "LOOK"
            if alternates:
                m.d.sync += alternations.eq(alternations + 1)
                count("alternations")

        def following() -> None:
            m.d.sync += number.eq(number + 1)
            m.next = "TURN"
            with m.If(whole | (number == states - 1)):
                m.next = "END"

        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.comb += i.ready.eq(1)
                m.d.sync += [job.eq(i.payload), levels.eq(i.p.levels), o.p.counts.eq(0), o.p.fail.eq(0),
                             o.p.error.eq(WriteError.NONE)]
                with m.If(i.valid):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += [reading.eq(0), number.eq(Mux(whole, states + job.op, 0))]
                m.next = "TURN"
                with m.If(self._illegal(job)):
                    m.d.sync += o.p.error.eq(WriteError.SETTINGS)
                    m.next = "OFFER"
                with m.Elif((job.op == Op.READ) | (job.op == Op.REFRESH)):
                    m.d.sync += [reading.eq(1), number.eq(1), levels.eq(0)]
                    look()
            with m.State("TURN"):
                m.d.sync += [live.eq(chosen), alternations.eq(0), failing.eq(0), confirming.eq(job.op == Op.TEST)]
                with m.If(chosen.any()):
                    look()
                with m.Else():
                    following()
            with m.State("LOOK"):
                m.d.comb += sweep.start.eq(pulses == 0)
                m.d.sync += outside.eq(0)
                m.next = "DECIDE"
                with m.If(action.reference != 0):
                    m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.comb += access.i.valid.eq(1)
                m.d.sync += outside.eq(Mux(high, access.answer, ~access.answer))
                with m.If(access.i.ready):
                    count("reads")
                    m.next = "DECIDE"
                    with m.If(access.silent):
                        m.d.sync += o.p.error.eq(WriteError.SILENT)
                        m.next = "END"
            with m.State("DECIDE"):
                with m.If(reading):
                    for n in range(p.cols):
                        with m.If(allowed[n] & ~outside[n]):
                            m.d.sync += levels[n].eq(number)
                    m.d.sync += number.eq(number + 1)
                    m.next = "LOOK"
                    with m.If(number == states - 1):
                        m.d.sync += [reading.eq(0), number.eq(0)]
                        m.next = "TURN"
                        with m.If(job.op == Op.READ):
                            m.next = "END"
                with m.Elif(confirming):
                    m.d.sync += [below.eq(outside), high.eq(~high)]
                    m.next = "LOOK"
                    with m.If(high):
                        m.d.sync += [reads.eq(reads + 1), *(
                            tally[n].eq(tally[n] + ~(below[n] | outside[n])) for n in range(p.cols))]
                        with m.If(reads + 1 == settings.confirm_n):
                            m.next = "CONFIRMED"
                with m.Elif((mask == 0) | (pulses == sweep.pulses.count)):
                    m.d.sync += [failing.eq(failing | mask), live.eq(live & ~mask)]
                    m.next = "FLIP"
                with m.Else():
                    for side, name in enumerate(("set", "reset")):
                        with m.If(high == side):
                            count(name)
                            count(f"{name}_bits", ones)
                    m.next = "PULSE"
            with m.State("PULSE"):
                m.d.comb += [access.i.valid.eq(1), action.pulse.eq(1), sweep.step.eq(access.i.ready)]
                with m.If(access.i.ready):
                    m.d.sync += pulses.eq(pulses + 1)
                    m.next = "LOOK"
            with m.State("FLIP"):
                with m.If(live == 0):
                    m.next = "OVER"
                with m.Elif((pulses == 0) & ~quiet):
                    look(side=~high, silently=1)
                with m.Elif((pulses != 0) & ~used_up):
                    look(side=~high, alternates=True)
                with m.Else():
                    m.d.sync += confirming.eq(1)
                    look()
            with m.State("CONFIRMED"):
                m.d.sync += [confirming.eq(0), live.eq(live & ~passed)]
                with m.If((live & ~passed == 0) | used_up | (job.op == Op.TEST)):
                    m.d.sync += failing.eq(failing | (live & ~passed))
                    m.next = "OVER"
                with m.Else():
                    look(alternates=True)
            with m.State("OVER"):
                m.d.sync += [o.p.fail.eq(o.p.fail | failing), self.o_fail.p.column.eq(0)]
                m.next = "REPORT"
                with m.If(failing == 0):
                    following()
            with m.State("REPORT"):
                m.d.comb += self.o_fail.valid.eq(failing[0])
                with m.If(self.o_fail.ready | ~failing[0]):
                    m.d.sync += [failing.eq(failing >> 1), self.o_fail.p.column.eq(self.o_fail.p.column + 1)]
                    with m.If(failing >> 1 == 0):
                        following()
                        with m.If(~settings.ignore_fail):
                            m.next = "END"
            with m.State("END"):
                with m.If((o.p.error == WriteError.NONE) & o.p.fail.any()):
                    m.d.sync += o.p.error.eq(WriteError.CELLS)
                m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += o.valid.eq(1)
                with m.If(o.ready):
                    m.next = "IDLE"
        return m

    def _illegal(self, job: data.View) -> Value:
        """Return whether the job or the settings are."""
        settings, rows = self.settings, self.params.rows
        orders = Cat(settings.entries[n].order >= len(ORDERS) for n in range((1 << self.params.cell_bits) + 2))
        reads = (settings.confirm_k == 0) | (settings.confirm_k > settings.confirm_n)
        return (job.op > max(Op)) | (job.row >= rows if rows < 1 << len(job.row) else 0) | reads | orders.any()
