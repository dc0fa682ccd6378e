"""Column multiplexer and ADC control: codes of all columns of a phase."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.count_ones import count_ones
from hdl.imc.word_lines import phase_layout


def codes_layout(p: ImcArch) -> data.StructLayout:
    """Return the codes of one column of every group, with their phase; ``end``: the last ones of the phase."""
    return data.StructLayout({
        "code": data.ArrayLayout(p.adc_bits, p.adcs), "bubble": p.adcs, "column": range(max(2, p.mux)), "end": 1,
        "phase": phase_layout(p)})


class Converter(Block):
    """Convert the columns of a phase one after the other, all groups at once.

    Twin of `golden.imc.converter`. A column takes ``t_mux`` cycles, its conversions, and the cycle that offers its codes. A
    conversion by successive approximation takes ``t_dac + 1`` cycles a bit and what the comparators take to answer, at least
    one; by flash ``1 + t_flash``. A time of 0 counts as 1. A skipped phase gives one word of codes 0, the cycle after it comes.

    Members
    -------
    settings : In, {flash, bits, average_log2, t_mux, t_dac, t_flash, hold}; stands while a phase is on its way
    i : In(stream), `phase_layout`; done : Out(1), its last codes are taken in this cycle
    col_sel, cmp_en, cdac, cmp, cmp_rdy, therm : of the macro; ``cmp`` counts in the cycle of ``cmp_rdy``
    o : Out(stream), `codes_layout`
    droop : Out(1), a phase was not converted ``hold`` cycles after it came (0: never); stays until reset
    converting : Out(1), every ADC begins a conversion, for counters

    Source: imc 10, B2 and the macro contract.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "settings": In(self.settings_layout(p)), "i": In(stream.Signature(phase_layout(p))), "done": Out(1),
            "col_sel": Out(range(max(2, p.mux))), "cmp_en": Out(1), "cdac": Out(data.ArrayLayout(p.adc_bits, p.adcs)),
            "cmp": In(p.adcs), "cmp_rdy": In(1), "o": Out(stream.Signature(codes_layout(p))), "droop": Out(1),
            "converting": Out(1),
            **({"therm": In(data.ArrayLayout((1 << p.flash_bits) - 1, p.adcs))} if p.flash_bits else {}),
        })

    @staticmethod
    def settings_layout(p: ImcArch) -> data.StructLayout:
        """Return the run-time settings."""
        return data.StructLayout({
            "flash": 1, "bits": range(p.adc_bits + 1), "average_log2": range(max(2, p.average_log2 + 1)), "t_mux": 4,
            "t_dac": 4, "t_flash": 4, "hold": 16})

    def build(self) -> Module:
        m, p, settings, o = Module(), self.params, self.settings, self.o
        phase, column, timer, over = Signal(phase_layout(p)), Signal(range(max(2, p.mux))), Signal(4), Signal()
        bit, count, age = Signal(range(max(2, p.adc_bits))), Signal(range(1 << p.average_log2)), Signal(16)
        start, add, last, clear = Signal(), Signal(), Signal(), Signal()
        flash = settings.flash if p.flash_bits else 0
        m.d.comb += [
            over.eq(timer <= 1), last.eq(count == (1 << settings.average_log2) - 1), self.col_sel.eq(column),
            o.p.phase.eq(phase), o.p.column.eq(column), o.p.end.eq((column == p.mux - 1) | phase.skipped),
        ]
        m.d.sync += age.eq(age + 1)
        with m.If(~over):
            m.d.sync += timer.eq(timer - 1)

        def begin() -> None:
            m.d.comb += [start.eq(1), self.converting.eq(1)]
            m.d.sync += [bit.eq(settings.bits - 1), timer.eq(settings.t_dac)]
            m.next = "TRIAL"
            with m.If(flash):
                m.next = "STROBE"

        def converted() -> None:
            m.d.comb += add.eq(1)
            m.d.sync += count.eq(count + 1)
            with m.If(last):
                m.d.sync += count.eq(0)
                m.next = "OFFER"
            with m.Else():
                begin()

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [phase.eq(self.i.payload), column.eq(0), timer.eq(settings.t_mux), age.eq(0)]
                with m.If(self.i.valid):
                    m.next = "SELECT"
                    with m.If(self.i.p.skipped):
                        m.next = "OFFER"
            with m.State("SELECT"), m.If(over):
                begin()
            with m.State("TRIAL"), m.If(over):
                m.next = "STROBE"
            with m.State("STROBE"):
                m.d.comb += self.cmp_en.eq(1)
                m.d.sync += timer.eq(settings.t_flash)
                m.next = "ANSWER"
                with m.If(flash):
                    m.next = "THERMOMETER"
            with m.State("ANSWER"), m.If(self.cmp_rdy):
                m.d.sync += [bit.eq(bit - 1), timer.eq(settings.t_dac)]
                m.next = "TRIAL"
                with m.If(bit == 0):
                    converted()
            with m.State("THERMOMETER"), m.If(over):
                converted()
            with m.State("OFFER"):
                m.d.comb += [o.valid.eq(1), clear.eq(o.ready), self.done.eq(o.ready & o.p.end)]
                with m.If(o.ready):
                    m.d.sync += [column.eq(column + 1), timer.eq(settings.t_mux)]
                    m.next = "SELECT"
                    with m.If(o.p.end):
                        m.next = "IDLE"
            waits = ~(self.i.ready | o.valid)
        with m.If(waits & (settings.hold != 0) & (age == settings.hold)):
            m.d.sync += self.droop.eq(1)
        for g in range(p.adcs):
            self._group(m, g, bit, start, add, clear)
        return m

    def _group(self, m: Module, g: int, bit: Signal, start: Signal, add: Signal, clear: Signal) -> None:
        """Keep the code and the sum of the codes of group ``g``."""
        p, settings = self.params, self.settings
        code, trial, kept, new = (Signal(p.adc_bits, name=f"{name}_{g}") for name in ("code", "trial", "kept", "new"))
        total, bubble = Signal(p.adc_bits + p.average_log2, name=f"total_{g}"), Signal(name=f"bubble_{g}")
        half = Signal(1 << p.average_log2, name=f"half_{g}")
        m.d.comb += [
            trial.eq(code | (1 << bit)), kept.eq(Mux(self.cmp[g], trial, code)), self.cdac[g].eq(trial), new.eq(kept),
            half.eq((1 << settings.average_log2) >> 1),
            self.o.p.code[g].eq((total + half) >> settings.average_log2), self.o.p.bubble[g].eq(bubble),
        ]
        seen: Value | int = 0
        if p.flash_bits:
            outputs, mask = Signal((1 << p.flash_bits) - 1, name=f"outputs_{g}"), Cat(
                *((1 << settings.bits) > n + 1 for n in range((1 << p.flash_bits) - 1)))
            m.d.comb += outputs.eq(self.therm[g] & mask)
            seen = settings.flash & (outputs & ~(outputs << 1 | 1)).any()
            with m.If(settings.flash):
                m.d.comb += new.eq(count_ones(m, outputs))
        with m.If(self.cmp_rdy):
            m.d.sync += code.eq(kept)
        with m.If(start):
            m.d.sync += code.eq(0)
        with m.If(clear):
            m.d.sync += [total.eq(0), bubble.eq(0)]
        with m.Elif(add):
            m.d.sync += [total.eq(total + new), bubble.eq(bubble | seen)]
