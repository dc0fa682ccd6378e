"""Bit-slice adder: the codes of the columns of a weight, shifted to their place and added."""

from amaranth.hdl import Array, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.imc.correction import corrected_layout
from hdl.imc.word_lines import phase_layout

# Most columns of a weight.
PLACES = 32


def slices_layout(p: ImcArch) -> data.StructLayout:
    """Return the sums of one weight of every group, with their phase; ``end``: the last ones of the phase.

    A weight of up to ``mux`` columns is number ``row`` of its group; a wider one spans groups, and the sum of weight n is
    ``sums[n]``.
    """
    return data.StructLayout({
        "sums": data.ArrayLayout(signed(p.slice_bits), p.adcs), "row": range(max(2, p.mux)), "end": 1,
        "phase": phase_layout(p)})


class ShiftAdd(Block):
    """Add ``+-code << shift`` over the columns of a weight, in all groups at once.

    Twin of `golden.imc.shift_add.shift_add`. Sums come in the cycle after the last code of a weight is taken (of a phase, where
    a weight is as wide as a group or wider), a word of codes every cycle, full back-pressure. A skipped phase gives one word of
    zeros.

    Members
    -------
    settings : In, {width_log2, places}: columns of a weight, and what each of them adds; stands while words pass
    i : In(stream), `hdl.imc.correction.corrected_layout`; o : Out(stream), `slices_layout`

    Source: imc 10, B4; decision 0014.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "settings": In(self.settings_layout(p)), "i": In(stream.Signature(corrected_layout(p))),
            "o": Out(stream.Signature(slices_layout(p))),
        })

    @staticmethod
    def settings_layout(p: ImcArch) -> data.StructLayout:
        """Return the run-time settings."""
        place = data.StructLayout({"shift": range(p.weight_bits), "negate": 1, "used": 1})
        return data.StructLayout({"width_log2": range(PLACES.bit_length()), "places": data.ArrayLayout(place, PLACES)})

    def build(self) -> Module:
        m, p, i, o, settings = Module(), self.params, self.i, self.o, self.settings
        mux_log2 = p.mux.bit_length() - 1
        wide, last, mask = Signal(), Signal(), Signal(range(PLACES))
        columns = Signal(range(max(2, p.mux)))
        totals = [Signal(signed(p.slice_bits), name=f"total_{g}") for g in range(p.adcs)]
        m.d.comb += [
            mask.eq((1 << settings.width_log2) - 1), wide.eq(settings.width_log2 >= mux_log2 if mux_log2 else 1),
            columns.eq(mask & (p.mux - 1)), last.eq(((i.p.column & columns) == columns) | i.p.end),
            i.ready.eq(~last | ~o.valid | o.ready),
        ]
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(i.valid & i.ready & last):
            m.d.sync += [o.valid.eq(1), o.p.row.eq(Mux(wide, 0, i.p.column >> settings.width_log2)), o.p.end.eq(i.p.end),
                         o.p.phase.eq(i.p.phase), *(o.p.sums[n].eq(total) for n, total in enumerate(self._spans(totals)))]
        for g, total in enumerate(totals):
            kept, shifted = (Signal(signed(p.slice_bits), name=f"{name}_{g}") for name in ("kept", "shifted"))
            place = Signal.like(settings.places[0], name=f"place_{g}")
            m.d.comb += [
                place.eq(Array(settings.places)[(i.p.column | g * p.mux % PLACES) & mask]),
                shifted.eq(Mux(place.used, i.p.code[g] << place.shift, 0)),
                total.eq(kept + Mux(place.negate, -shifted, shifted)),
            ]
            with m.If(i.valid & i.ready):
                m.d.sync += kept.eq(Mux(last, 0, total))
        return m

    def _spans(self, totals: list[Signal]) -> list[Value]:
        """Return the sums of all weights of a word: of single groups, or of as many neighbours as a weight spans."""
        p, level = self.params, list[Value](totals)
        spans = [level]
        while len(level) > 1 and p.mux << len(spans) <= PLACES:
            level = [a + b for a, b in zip(level[::2], level[1::2], strict=False)]
            spans.append(level)
        span = [Mux(self.settings.width_log2 >= p.mux.bit_length() - 1 + n, 1, 0) for n in range(1, len(spans))]
        return [self._widest(spans, span, n) for n in range(p.adcs)]

    @staticmethod
    def _widest(spans: list[list[Value]], span: list[Value], number: int) -> Value:
        """Return sum ``number`` of the widest span that is chosen."""
        chosen = spans[0][number]
        for level, wanted in zip(spans[1:], span, strict=True):
            if number < len(level):
                chosen = Mux(wanted, level[number], chosen)
        return chosen
