"""Calibration of the ADCs of a tile on a reference: offsets in digits, or trim codes of the comparators."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block

LOG2 = 8


class Calibrator(Block):
    """Convert a reference ``2^log2`` times on all columns, find offsets or trim codes of all ADCs side by side.

    Twin of `golden.imc.calibrator`: offsets (modes 0, zero input, and 1, pedestal) are the mean code less the pedestal, trim
    codes (mode 2) are searched bit by bit. Each of the ``1`` or ``trim_bits + 1`` rounds takes ``2^log2`` phases, and 1 cycle
    before and after them. What is found stands from ``done`` on, also if it has failed.

    Members
    -------
    settings : In, {trims, log2, pedestal, limit}; log2 up to 8; stands while ``busy``
    start : In(1); busy : Out(1); done : Out(1), high for a cycle; failed : Out, ADCs beyond the limit, until the next start
    ref_on, ref_level : Out, to the macro: ADCs see so many half steps instead of their columns
    phase : Out(1), a phase without rows is wanted; taken : In(1), one begins
    valid, codes, last : In, codes of a column of every ADC; the last ones of their phase
    write : In(1), with ``write_adc``, ``write_trims`` and ``write_number``: what the host says in place of a calibration
    offset, trim : Out, [adcs]; after reset 0 and the middle

    Source: imc 10, B3.
    """

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        number = signed(max(p.adc_bits, p.trim_bits) + 1)
        super().__init__({
            "settings": In(self.settings_layout(p)), "start": In(1), "busy": Out(1), "done": Out(1), "failed": Out(p.adcs),
            "ref_on": Out(1), "ref_level": Out(p.adc_bits + 1), "phase": Out(1), "taken": In(1),
            "valid": In(1), "codes": In(data.ArrayLayout(p.adc_bits, p.adcs)), "last": In(1),
            "write": In(1), "write_adc": In(range(max(2, p.adcs))), "write_trims": In(1), "write_number": In(number),
            "offset": Out(data.ArrayLayout(signed(p.adc_bits + 1), p.adcs)),
            "trim": Out(data.ArrayLayout(p.trim_bits, p.adcs), init=[1 << p.trim_bits - 1] * p.adcs),
        })

    @staticmethod
    def settings_layout(p: ImcArch) -> data.StructLayout:
        """Return the run-time settings."""
        return data.StructLayout({"trims": 1, "log2": range(LOG2 + 1), "pedestal": p.adc_bits, "limit": p.adc_bits + 1})

    def build(self) -> Module:
        m, p, settings = Module(), self.params, self.settings
        counted = Signal(range(LOG2 + 6))
        begun, ended, bit = Signal(LOG2 + 1), Signal(LOG2 + 1), Signal(range(p.trim_bits + 1))
        begin, judge, begin_search = Signal(), Signal(), Signal()
        count = Signal(LOG2 + 1)
        m.d.comb += [
            count.eq(1 << settings.log2), counted.eq(settings.log2 + p.mux.bit_length() - 1),
            self.ref_level.eq((settings.pedestal << 1) - settings.trims),
            begin_search.eq(self.start & ~self.busy & settings.trims),
        ]
        with m.FSM() as states:
            m.d.comb += [self.busy.eq(~states.ongoing("IDLE")), self.ref_on.eq(self.busy)]
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [self.failed.eq(0), bit.eq(Mux(settings.trims, p.trim_bits, 0))]
                m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += begin.eq(1)
                m.d.sync += [begun.eq(0), ended.eq(0)]
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += self.phase.eq(begun != count)
                m.d.sync += [begun.eq(begun + (self.phase & self.taken)), ended.eq(ended + (self.valid & self.last))]
                with m.If(ended == count):
                    m.next = "JUDGE"
            with m.State("JUDGE"):
                m.d.comb += [judge.eq(1), self.done.eq(bit == 0)]
                m.d.sync += bit.eq(bit - 1)
                m.next = "BEGIN"
                with m.If(bit == 0):
                    m.next = "IDLE"
        for g in range(p.adcs):
            self._adc(m, g, counted, bit, begin, judge, begin_search)
        return m

    def _adc(self, m: Module, g: int, counted: Signal, bit: Signal, begin: Signal, judge: Signal, begin_search: Signal) -> None:
        """Add up the codes of an ADC and judge them; ``bit``: rounds that are left, the bit of a search plus 1."""
        p, settings = self.params, self.settings
        width = p.adc_bits + LOG2 + p.mux.bit_length()
        total, twice = Signal(width, name=f"total_{g}"), Signal(signed(width + 2), name=f"twice_{g}")
        wanted, found = Signal(signed(width + 2), name=f"wanted_{g}"), Signal(signed(p.adc_bits + 2), name=f"found_{g}")
        beyond = Signal(signed(width + 2), name=f"beyond_{g}")
        trim, keep = self.trim[g], Signal(p.trim_bits, name=f"keep_{g}")
        m.d.comb += [
            wanted.eq(self.ref_level << counted), twice.eq((total << 1) - wanted),
            found.eq(((total + ((1 << counted) >> 1)) >> counted) - settings.pedestal),
            beyond.eq(Mux(settings.trims, twice, found)), keep.eq(Mux(twice >= 0, trim, trim ^ ((1 << bit) >> 1))),
        ]
        with m.If(begin):
            m.d.sync += total.eq(0)
        with m.Elif(self.valid):
            m.d.sync += total.eq(total + self.codes[g])
        with m.If(begin_search):
            m.d.sync += trim.eq(1 << p.trim_bits - 1)
        with m.If(judge & (bit != 0)):
            m.d.sync += trim.eq(Mux(bit == 1, keep, keep | ((1 << bit) >> 2)))
        with m.If(judge & (bit == 0)):
            m.d.sync += self.failed[g].eq(
                Mux(beyond < 0, -beyond, beyond) > Mux(settings.trims, settings.limit << counted, settings.limit))
            with m.If(~settings.trims):
                m.d.sync += self.offset[g].eq(found)
        with m.If(self.write & (self.write_adc == g)):
            with m.If(self.write_trims):
                m.d.sync += trim.eq(self.write_number)
            with m.Else():
                m.d.sync += self.offset[g].eq(self.write_number)
