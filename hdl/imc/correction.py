"""Offset and gain of the codes of a phase."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.imc.converter import codes_layout
from hdl.imc.word_lines import phase_layout


def corrected_layout(p: ImcArch) -> data.StructLayout:
    """Return the signed codes of one column of every group, with their phase; ``end``: the last ones of the phase."""
    return data.StructLayout({
        "code": data.ArrayLayout(signed(p.code_bits), p.adcs), "column": range(max(2, p.mux)), "end": 1,
        "phase": phase_layout(p)})


class Correction(Block):
    """Take the offset of every ADC from its codes, multiply by the gain of their column.

    Twin of `golden.imc.correction.correct`. A word comes 2 cycles after it is taken, a word every cycle, full back-pressure.
    The codes of a skipped phase stay 0.

    Members
    -------
    use_gain : In(1), else gains count as 1; offset : In, [adcs], ``|offset| < 2^adc_bits``; both stand while words pass
    write : In(1), with ``write_adc``, ``write_column`` and ``write_gain``: the gain of column ``write_column`` of an ADC
    i : In(stream), `hdl.imc.converter.codes_layout`; o : Out(stream), `corrected_layout`

    Source: imc 10, B3.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "use_gain": In(1), "offset": In(data.ArrayLayout(signed(p.adc_bits + 1), p.adcs)),
            "write": In(1), "write_adc": In(range(max(2, p.adcs))), "write_column": In(range(max(2, p.mux))),
            "write_gain": In(p.gain_bits + 1),
            "i": In(stream.Signature(codes_layout(p))), "o": Out(stream.Signature(corrected_layout(p))),
        })

    def build(self) -> Module:
        m, p, i, o = Module(), self.params, self.i, self.o
        word, full, advance = Signal(codes_layout(p)), Signal(), Signal()
        m.d.comb += [advance.eq(~o.valid | o.ready), i.ready.eq(~full | advance)]
        with m.If(advance):
            m.d.sync += [o.valid.eq(full), full.eq(0), o.p.column.eq(word.column), o.p.end.eq(word.end),
                         o.p.phase.eq(word.phase)]
        with m.If(i.ready & i.valid):
            m.d.sync += [word.eq(i.payload), full.eq(1)]
        for g in range(p.adcs):
            m.submodules[f"gain_{g}"] = gains = Ram(p.gain_bits + 1, max(2, p.mux))
            less = Signal(signed(p.adc_bits + 2), name=f"less_{g}")
            scaled = Signal(signed(p.adc_bits + 2 + p.gain_bits + 2), name=f"scaled_{g}")
            m.d.comb += [
                gains.w_en.eq(self.write & (self.write_adc == g)), gains.w_addr.eq(self.write_column),
                gains.w_data.eq(self.write_gain), gains.r_en.eq(i.ready & i.valid), gains.r_addr.eq(i.p.column),
                less.eq(word.code[g] - self.offset[g]), scaled.eq(less * gains.r_data + (1 << p.gain_bits - 1)),
            ]
            with m.If(advance):
                m.d.sync += o.p.code[g].eq(Mux(word.phase.skipped, 0, Mux(self.use_gain, scaled >> p.gain_bits, less)))
        return m
