"""Calibration of a tile: on a reference offsets of ADCs or trim codes of comparators, on a vector gains of columns."""

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.imc.root_divide import RootDivide

LOG2 = 8


class Calibrator(Block):
    """Convert a reference ``2^log2`` times on all columns, find offsets or trim codes of all ADCs side by side, or gains.

    Twin of `golden.imc.calibrator`: offsets (modes 0, zero input, and 1, pedestal) are the mean code less the pedestal, trim
    codes (mode 2) are searched bit by bit, gains (mode 3) are what the codes of a vector ought to be over what they are, column
    after column. Each of the ``1``, ``trim_bits + 1`` or ``mux`` rounds takes ``2^log2`` phases, and 1 cycle before and after
    them; a round of gains then takes ``adc_bits + gain_bits + 12`` cycles for each ADC. What is found stands from ``done`` on,
    also if it has failed; a gain that has failed is 1.

    Members
    -------
    settings : In, {trims, gains, log2, pedestal, limit}; log2 up to 8; stands while ``busy``
    start : In(1); busy : Out(1); done : Out(1), high for a cycle
    failed : Out, ADCs beyond the limit, or with such a column, until the next start
    ref_on, ref_level : Out, to the macro: ADCs see so many half steps instead of their columns; not while gains are measured
    phase : Out(1), a phase is wanted, without rows, or with those of the vector for gains; taken : In(1), one begins
    wanted_code : In, {valid, adc, column, number}: the host writes what a column ought to give; 0: its gain is 1
    gain : Out, {valid, adc, column, number}: a gain is found, high for a cycle
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
            "wanted_code": In(self.number_layout(p, p.adc_bits)), "gain": Out(self.number_layout(p, p.gain_bits + 1)),
            "write": In(1), "write_adc": In(range(max(2, p.adcs))), "write_trims": In(1), "write_number": In(number),
            "offset": Out(data.ArrayLayout(signed(p.adc_bits + 1), p.adcs)),
            "trim": Out(data.ArrayLayout(p.trim_bits, p.adcs), init=[1 << p.trim_bits - 1] * p.adcs),
        })

    @staticmethod
    def settings_layout(p: ImcArch) -> data.StructLayout:
        """Return the run-time settings."""
        return data.StructLayout({"trims": 1, "gains": 1, "log2": range(LOG2 + 1), "pedestal": p.adc_bits,
                                  "limit": max(p.adc_bits + 1, p.gain_bits)})

    @staticmethod
    def number_layout(p: ImcArch, bits: int) -> data.StructLayout:
        """Return a number of a column."""
        return data.StructLayout({"valid": 1, "adc": range(max(2, p.adcs)), "column": range(max(2, p.mux)), "number": bits})

    def build(self) -> Module:
        m, p, settings = Module(), self.params, self.settings
        counted = Signal(range(LOG2 + 6))
        begun, ended, bit = Signal(LOG2 + 1), Signal(LOG2 + 1), Signal(range(max(p.trim_bits + 1, p.mux)))
        begin, judge, begin_search, counts = Signal(), Signal(), Signal(), Signal()
        count, column = Signal(LOG2 + 1), Signal(range(max(2, p.mux)))
        m.d.comb += [
            count.eq(1 << settings.log2), counted.eq(settings.log2 + p.mux.bit_length() - 1),
            self.ref_level.eq((settings.pedestal << 1) - settings.trims),
            begin_search.eq(self.start & ~self.busy & settings.trims & ~settings.gains),
            self.gain.column.eq(p.mux - 1 - bit), counts.eq(~settings.gains | (column == self.gain.column)),
        ]
        with m.If(self.valid):
            m.d.sync += column.eq(Mux(self.last, 0, column + 1))
        totals = [self._adc(m, g, counted, bit, begin, judge, begin_search, counts) for g in range(p.adcs)]
        with m.FSM() as states:
            m.d.comb += [self.busy.eq(~states.ongoing("IDLE")), self.ref_on.eq(self.busy & ~settings.gains)]
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [self.failed.eq(0), column.eq(0),
                             bit.eq(Mux(settings.gains, p.mux - 1, Mux(settings.trims, p.trim_bits, 0)))]
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
                m.d.comb += judge.eq(~settings.gains)
                self._over(m, bit)
                with m.If(settings.gains):
                    m.d.comb += self.done.eq(0)
                    m.d.sync += bit.eq(bit)
                    m.next = "REFERENCE"
            self._gains(m, totals, bit)
        return m

    def _over(self, m: Module, bit: Signal) -> None:
        """Go on to the next round, or end behind the last one."""
        m.d.comb += self.done.eq(bit == 0)
        m.d.sync += bit.eq(bit - 1)
        m.next = "BEGIN"
        with m.If(bit == 0):
            m.next = "IDLE"

    def _gains(self, m: Module, totals: list[Signal], bit: Signal) -> None:
        """Divide the reference of a column of every ADC, one after the other, by what is measured."""
        p, settings, gain = self.params, self.settings, self.gain
        m.submodules.references = references = Ram(p.adc_bits, p.cols)
        m.submodules.unit = unit = RootDivide(p.adc_bits + p.gain_bits + LOG2 + 1)
        adc, one = Signal(range(max(2, p.adcs))), 1 << p.gain_bits
        total, measured, apart, bad = Array(totals)[adc], Signal.like(unit.i.p.d), Signal.like(unit.o.p.q), Signal()
        m.d.comb += [
            references.w_en.eq(self.wanted_code.valid), references.w_data.eq(self.wanted_code.number),
            references.w_addr.eq(self.wanted_code.adc * p.mux + self.wanted_code.column),
            references.r_addr.eq(adc * p.mux + gain.column),
            measured.eq(Mux(total < 0, 0, total)), unit.i.p.d.eq(measured),
            unit.i.p.n.eq((references.r_data << settings.log2 << p.gain_bits) + (measured >> 1)),
            apart.eq(Mux(unit.o.p.q > one, unit.o.p.q - one, one - unit.o.p.q)),
            bad.eq((measured == 0) | (apart > settings.limit)), gain.adc.eq(adc),
            gain.number.eq(Mux(bad | (references.r_data == 0), one, unit.o.p.q)),
        ]
        with m.State("REFERENCE"):
            m.d.comb += references.r_en.eq(1)
            m.next = "DIVIDE"
        with m.State("DIVIDE"):
            m.d.comb += unit.i.valid.eq(1)
            m.next = "GAIN"
        with m.State("GAIN"):
            m.d.comb += [unit.o.ready.eq(1), gain.valid.eq(unit.o.valid)]
            with m.If(unit.o.valid):
                m.d.sync += [adc.eq(adc + 1), self.failed.eq(self.failed | ((bad & (references.r_data != 0)) << adc))]
                m.next = "REFERENCE"
                with m.If(adc == p.adcs - 1):
                    m.d.sync += adc.eq(0)
                    self._over(m, bit)

    def _adc(self, m: Module, g: int, counted: Signal, bit: Signal, begin: Signal, judge: Signal, begin_search: Signal,
             counts: Signal) -> Signal:
        """Add up the codes of an ADC and judge them; ``bit``: rounds that are left, the bit of a search plus 1."""
        p, settings = self.params, self.settings
        width = p.adc_bits + LOG2 + p.mux.bit_length()
        total, twice = Signal(signed(width + 1), name=f"total_{g}"), Signal(signed(width + 2), name=f"twice_{g}")
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
        with m.Elif(self.valid & counts):
            m.d.sync += total.eq(total + self.codes[g] - Mux(settings.gains, self.offset[g], 0))
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
        return total
