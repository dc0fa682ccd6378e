"""Access to the cells of a row: one comparison or one pulse at a time, by the rules of the macro's contract."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import BIT_BITS, REFERENCE_BITS, WORD_BITS, ImcArch, Mode
from hdl.block import Block
from hdl.imc.pulse_sweep import WIDTH_BITS

TIMES = {"t_guard": 4, "t_verify": 8, "t_pre": 8, "t_cool": 8, "patience": 16}


def action_layout(p: ImcArch) -> data.StructLayout:
    """Return a comparison of a row with ``reference``, or, where ``pulse`` is 1, a pulse on its masked cells."""
    return data.StructLayout({"pulse": 1, "row": range(p.rows), "reference": REFERENCE_BITS, "mask": p.cols, "reset": 1,
                              "width": WIDTH_BITS, "word": WORD_BITS, "bit": BIT_BITS})


class CellAccess(Block):
    """Do one action after the other; an action is taken when it is over.

    Twin of the actions of `golden.imc.write_verify`. The mode that is asked for follows from the state alone, and is IDLE
    between two actions. A comparison takes a cycle, ``t_verify`` cycles in mode VERIFY, the cycle that asks, and those until
    the answer, at least one, at most ``patience``. A pulse takes a cycle, ``t_guard`` cycles in mode IDLE, ``t_pre`` cycles in
    mode PROGRAM, ``width`` cycles of pulse, ``t_cool`` cycles still in mode PROGRAM, and ``t_guard`` cycles in mode IDLE.
    Times of 0 count as 1. The first cycle and all times but ``patience`` wait for the grant of their mode as long as it takes;
    a grant stands until another mode is asked for.

    Members
    -------
    settings : In, {t_guard, t_verify, t_pre, t_cool, patience}; stands while an action is on its way
    i : In(stream), `action_layout`; answer : Out(cols), of the comparison that is taken in this cycle
    silent : Out(1), it was not answered
    mode_req, mode_gnt : Out, In, a `Mode`; asked for, and what the macro is in
    pg_row, pg_mask, pg_op, pg_vwl, pg_vbl, pg_go : Out, of the macro; ``pg_op`` is 1 for SET, 2 for RESET, ``pg_row`` also the
        row of comparisons; ``pg_mask`` and ``pg_op`` are 0 unless PROGRAM is granted, all stand while
        ``pg_go``
    vf_ref, vf_go, vf_sa, vf_rdy : of the macro; ``vf_sa`` counts in the cycle of ``vf_rdy``, at least one after ``vf_go``

    Source: imc 10, B9 and the macro contract.
    """

    i: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "settings": In(data.StructLayout(TIMES)), "i": In(stream.Signature(action_layout(p))), "answer": Out(p.cols),
            "silent": Out(1), **{name: Out(shape) for name, shape in self.driven(p).items()}, "mode_gnt": In(2),
            "vf_sa": In(p.cols), "vf_rdy": In(1),
        })

    @staticmethod
    def driven(p: ImcArch) -> dict[str, object]:
        """Return the shapes of what the macro takes."""
        return {"mode_req": 2, "pg_row": range(p.rows), "pg_mask": p.cols, "pg_op": 2, "pg_vwl": WORD_BITS, "pg_vbl": BIT_BITS,
                "pg_go": 1, "vf_ref": REFERENCE_BITS, "vf_go": 1}

    def build(self) -> Module:
        m, settings, i = Module(), self.settings, self.i
        timer, granted, over, pulsed = Signal(16), Signal(), Signal(), Signal()
        m.d.comb += [
            granted.eq(self.mode_gnt == self.mode_req), over.eq(granted & (timer <= 1)), self.answer.eq(self.vf_sa),
            self.pg_row.eq(i.p.row), self.pg_vwl.eq(i.p.word), self.pg_vbl.eq(i.p.bit), self.vf_ref.eq(i.p.reference),
        ]
        with m.FSM() as states:
            asks = Cat(states.ongoing(state) for state in ("SETTLE", "ASK", "ANSWER")).any()
            drives = Cat(states.ongoing(state) for state in ("PREPARE", "PULSE", "COOL")).any()
            m.d.comb += [
                self.mode_req.eq(Mux(drives, Mode.PROGRAM, Mux(asks, Mode.VERIFY, Mode.IDLE))),
                self.pg_mask.eq(Mux(drives & granted, i.p.mask, 0)),
                self.pg_op.eq(Mux(drives & granted, Cat(~i.p.reset, i.p.reset), 0)),
                self.pg_go.eq(states.ongoing("PULSE") & granted),
            ]
            m.d.sync += timer.eq(timer - ((timer > 1) & (granted | states.ongoing("ANSWER"))))
            with m.State("IDLE"):
                m.d.sync += [timer.eq(Mux(i.p.pulse, settings.t_guard, settings.t_verify)), pulsed.eq(0)]
                with m.If(i.valid & granted):
                    m.next = "SETTLE"
                    with m.If(i.p.pulse):
                        m.next = "GUARD"
            with m.State("SETTLE"), m.If(over):
                m.next = "ASK"
            with m.State("ASK"):
                m.d.comb += self.vf_go.eq(1)
                m.d.sync += timer.eq(settings.patience)
                m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += [i.ready.eq(self.vf_rdy | (timer <= 1)), self.silent.eq(~self.vf_rdy)]
                with m.If(i.ready):
                    m.next = "IDLE"
            with m.State("GUARD"), m.If(over):
                m.d.comb += i.ready.eq(pulsed)
                m.d.sync += timer.eq(settings.t_pre)
                m.next = "PREPARE"
                with m.If(pulsed):
                    m.next = "IDLE"
            with m.State("PREPARE"), m.If(over):
                m.d.sync += timer.eq(i.p.width)
                m.next = "PULSE"
            with m.State("PULSE"), m.If(over):
                m.d.sync += timer.eq(settings.t_cool)
                m.next = "COOL"
            with m.State("COOL"), m.If(over):
                m.d.sync += [timer.eq(settings.t_guard), pulsed.eq(1)]
                m.next = "GUARD"
        return m
