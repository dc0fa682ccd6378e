"""Periphery of one crossbar macro: word lines, converters, correction, signed sums and calibration."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Member, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.imc.calibrator import Calibrator
from hdl.imc.converter import Converter
from hdl.imc.correction import Correction
from hdl.imc.shift_add import ShiftAdd
from hdl.imc.signed_combine import SignedCombine
from hdl.imc.word_lines import WordLines

KEY_BITS = 24


def compute_members(p: ImcArch) -> dict[str, Member]:
    """Return what computing needs of the macro's contract (imc 10), seen from the periphery.

    crossbar : which of the crossbars behind the periphery is in use
    key, phase_bit, phase_group : what is computed, for models of noise and for traces; a silicon macro leaves them open
    wl_en, wl_go, pre, sample : rows, while ``wl_go``; precharge; capture of all columns
    ref_on, ref_level : ADCs see so many half steps in place of their columns
    trim : of the comparators, the middle moves nothing
    col_sel, cmp_en, cdac : column of every ADC; a comparison of it with a code begins
    cmp, cmp_rdy : 1 where the column is at least the threshold, in the cycle of ``cmp_rdy``
    therm : all thresholds, ``t_flash`` cycles after ``cmp_en``
    """
    members: dict[str, Member] = {
        "crossbar": Out(range(max(2, p.crossbars))), "key": Out(KEY_BITS), "phase_bit": Out(range(max(2, p.input_bits))),
        "phase_group": Out(range(max(2, p.rows))),
        "wl_en": Out(p.rows), "wl_go": Out(1), "pre": Out(1), "sample": Out(1),
        "ref_on": Out(1), "ref_level": Out(p.adc_bits + 1), "trim": Out(data.ArrayLayout(p.trim_bits, p.adcs)),
        "col_sel": Out(range(max(2, p.mux))), "cmp_en": Out(1), "cdac": Out(data.ArrayLayout(p.adc_bits, p.adcs)),
        "cmp": In(p.adcs), "cmp_rdy": In(1)}
    if p.flash_bits:
        members["therm"] = In(data.ArrayLayout((1 << p.flash_bits) - 1, p.adcs))
    return members


class Tile(Block):
    """Run vectors through a crossbar: ``y = W x`` where the macro is ideal and its ADC lossless.

    Twin of `golden.imc.tile.run_tile`. The next vector's word lines are driven while the outputs of the last one leave.

    Members
    -------
    settings : In, `settings_layout`; stands while ``busy``
    i : In(stream), {x, crossbar, key}; key counts the vectors of an image, for the macro
    o : Out(stream), `SignedCombine.sums_layout`
    busy : Out(1), a vector, an output or a calibration is on its way
    asks : Out(1), a vector or a calibration waits; uses : Out(1), one is at the macro; grant : In(1), one may begin; stands
        while ``uses``
    calibrate : In(1), starts a calibration when the vectors ahead are converted; calibrated : Out(1), its last cycle
    failed : Out, [adcs], of the last calibration, which drives no row, or with ``gains`` all of the first group of the
        crossbar that ``i`` shows; droop : Out(1), of the converter
    write : In, {valid, what, adc, column, number}: an offset (what 0), a trim code (1), a gain (2), or the code that a column
        ought to give (3)
    events : Out, {phase, skipped, rows, conversions}: what happens in this cycle, for counters
    macro : `compute_members`, flat

    Source: imc 10, B1 to B5.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "settings": In(self.settings_layout(p)), "i": In(stream.Signature(self.vector_layout(p))),
            "o": Out(stream.Signature(SignedCombine.sums_layout(p))), "busy": Out(1), "asks": Out(1), "uses": Out(1),
            "grant": In(1), "calibrate": In(1), "calibrated": Out(1),
            "failed": Out(p.adcs), "droop": Out(1), "write": In(self.write_layout(p)), "events": Out(self.events_layout(p)),
            **compute_members(p),
        })

    @staticmethod
    def vector_layout(p: ImcArch) -> data.StructLayout:
        """Return a vector: inputs of all rows, the crossbar that holds their weights, what the macro calls it."""
        return data.StructLayout({
            "x": data.ArrayLayout(p.input_bits, p.rows), "crossbar": range(max(2, p.crossbars)), "key": KEY_BITS})

    @staticmethod
    def write_layout(p: ImcArch) -> data.StructLayout:
        """Return a number that the host writes in place of a calibration's."""
        width = max(p.adc_bits + 1, p.trim_bits + 1, p.gain_bits + 2)
        return data.StructLayout({"valid": 1, "what": 2, "adc": range(max(2, p.adcs)), "column": range(max(2, p.mux)),
                                  "number": signed(width)})

    @staticmethod
    def events_layout(p: ImcArch) -> data.StructLayout:
        """Return the events of a cycle: a phase begins, it is skipped, rows it drives; conversions of all ADCs begin."""
        return data.StructLayout({"phase": 1, "skipped": 1, "rows": range(p.group_rows + 1), "conversions": 1})

    @staticmethod
    def settings_layout(p: ImcArch) -> data.StructLayout:
        """Return the run-time settings: those of the blocks, each once, and whether gains count.

        ``bits`` are an input's, ``adc_bits`` the converter's.
        """
        converter = dict(Converter.settings_layout(p).members)
        return data.StructLayout({
            "adc_bits": converter.pop("bits"), **converter, **WordLines.settings_layout(p).members,
            **ShiftAdd.settings_layout(p).members, **SignedCombine.settings_layout(p).members,
            **Calibrator.settings_layout(p).members, "use_gain": 1})

    def build(self) -> Module:
        m, p, settings = Module(), self.params, self.settings
        m.submodules.word_lines = lines = WordLines(p)
        m.submodules.converter = converter = Converter(p)
        m.submodules.correction = correction = Correction(p)
        m.submodules.shift_add = slices = ShiftAdd(p)
        m.submodules.signed_combine = sums = SignedCombine(p)
        m.submodules.calibrator = calibrator = Calibrator(p)
        waiting, count, taken, open_vectors = Signal(), Signal(KEY_BITS), Signal(), Signal(2)
        calibrating, rows = Signal(), Mux(settings.gains, ~Const(0, p.rows * p.input_bits), 0)
        m.d.comb += [
            calibrating.eq(waiting | calibrator.busy), taken.eq(lines.i.valid & lines.i.ready),
            lines.i.valid.eq(Mux(calibrating, calibrator.phase, self.i.valid & (open_vectors != 3))),
            lines.i.p.as_value().eq(Mux(calibrating, rows, self.i.p.x.as_value())),
            self.i.ready.eq(lines.i.ready & ~calibrating & (open_vectors != 3)), lines.grant.eq(self.grant),
            lines.done.eq(converter.done), calibrator.start.eq(waiting & ~lines.busy & self.grant),
            calibrator.taken.eq(taken), self.busy.eq(lines.busy | calibrating | (open_vectors != 0)),
            self.asks.eq(waiting | (self.i.valid & (open_vectors != 3))), self.uses.eq(lines.busy | calibrator.busy),
            self.calibrated.eq(calibrator.done), self.failed.eq(calibrator.failed), self.droop.eq(converter.droop),
        ]
        for block in (lines, converter, slices, sums, calibrator):
            for name in block.settings.shape().members:
                m.d.comb += block.settings[name].eq(settings["adc_bits" if (block, name) == (converter, "bits") else name])
        with m.If(calibrator.busy):
            m.d.comb += [lines.settings.bits.eq(1), lines.settings.groups.eq(1), lines.settings.skip.eq(0)]
        m.d.sync += [
            waiting.eq((waiting | self.calibrate) & ~calibrator.start),
            open_vectors.eq(open_vectors + (self.i.valid & self.i.ready) - (self.o.valid & self.o.ready & self.o.p.last)),
        ]
        with m.If(taken):
            m.d.sync += [self.crossbar.eq(self.i.p.crossbar), self.key.eq(Mux(calibrating, count, self.i.p.key)),
                         count.eq(count + 1)]
        with m.If(calibrator.start):
            m.d.sync += count.eq(0)
        self._flow(m, lines, converter, correction, slices, sums, calibrator)
        self._macro(m, lines, converter, calibrator)
        return m

    def _flow(self, m: Module, lines: WordLines, converter: Converter, correction: Correction, slices: ShiftAdd,
              sums: SignedCombine, calibrator: Calibrator) -> None:
        """Chain the blocks; codes of a calibration go to the calibrator alone."""
        phase, codes, write, gain = converter.i, converter.o, self.write, calibrator.gain
        m.d.comb += [
            phase.valid.eq(lines.o.valid), lines.o.ready.eq(phase.ready), phase.p.eq(lines.o.p),
            correction.i.valid.eq(codes.valid & ~calibrator.busy), correction.i.p.eq(codes.p),
            codes.ready.eq(calibrator.busy | correction.i.ready),
            calibrator.valid.eq(codes.valid), calibrator.codes.eq(codes.p.code), calibrator.last.eq(codes.p.end),
            correction.use_gain.eq(self.settings.use_gain), correction.offset.eq(calibrator.offset),
            correction.write.eq(gain.valid | (write.valid & (write.what == 2))),
            correction.write_adc.eq(Mux(gain.valid, gain.adc, write.adc)),
            correction.write_column.eq(Mux(gain.valid, gain.column, write.column)),
            correction.write_gain.eq(Mux(gain.valid, gain.number, write.number)),
            calibrator.wanted_code.valid.eq(write.valid & (write.what == 3)), calibrator.wanted_code.adc.eq(write.adc),
            calibrator.wanted_code.column.eq(write.column), calibrator.wanted_code.number.eq(write.number),
            calibrator.write.eq(write.valid & (write.what < 2)), calibrator.write_adc.eq(write.adc),
            calibrator.write_trims.eq(write.what[0]), calibrator.write_number.eq(write.number),
            self.events.phase.eq(phase.valid & phase.ready), self.events.skipped.eq(phase.p.skipped),
            self.events.rows.eq(phase.p.count), self.events.conversions.eq(converter.converting),
        ]
        for first, second in ((correction, slices), (slices, sums)):
            m.d.comb += [second.i.valid.eq(first.o.valid), first.o.ready.eq(second.i.ready), second.i.p.eq(first.o.p)]
        m.d.comb += [self.o.valid.eq(sums.o.valid), sums.o.ready.eq(self.o.ready), self.o.p.eq(sums.o.p)]

    def _macro(self, m: Module, lines: WordLines, converter: Converter, calibrator: Calibrator) -> None:
        """Join the macro's ports."""
        ports: dict[str, Any] = {
            "phase_bit": lines.o.p.bit, "phase_group": lines.o.p.group, "wl_en": lines.wl_en, "wl_go": lines.wl_go,
            "pre": lines.pre, "sample": lines.sample, "ref_on": calibrator.ref_on, "ref_level": calibrator.ref_level,
            "trim": calibrator.trim, "col_sel": converter.col_sel, "cmp_en": converter.cmp_en, "cdac": converter.cdac}
        m.d.comb += [getattr(self, name).eq(value) for name, value in ports.items()]
        m.d.comb += [converter.cmp.eq(self.cmp), converter.cmp_rdy.eq(self.cmp_rdy)]
        if self.params.flash_bits:
            m.d.comb += converter.therm.eq(self.therm)
