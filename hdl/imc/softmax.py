"""Softmax of a row of scores: exponentials from a table, their sum and its reciprocal."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.imc.lookup import Lookup
from hdl.imc.root_divide import RootDivide
from hdl.imc.row_factor import FACTOR_BITS

INVERSE_BITS = 32


class Softmax(Block):
    """Give ``e = table[m - z]`` of a row of scores z with the maximum m, then m, the sum S of the e and ``F = 2^24 // S``.

    Twin of `golden.imc.softmax`: exponentials of `softmax`, or with ``normalised`` the probabilities of `normalised`. A row is
    taken a score a cycle and kept; its first e is offered 5 cycles after its last score is accepted, the first probability
    ``count + 44``, then one a cycle, full back-pressure. The sums of the row are offered 36 cycles after its last e, or in the
    cycle after its last probability. The next row is taken when they have left.

    Parameters
    ----------
    length : int
        Most scores of a row, 1..65536.

    Members
    -------
    settings : In, {count, normalised}; 1..length scores of a row; stands while a row is inside
    write : In, {valid, x, y}: the host writes the exponential y of the distance x from the maximum; of 0 it is 255
    i : In(stream), {z}; o : Out(stream), {e, last}, 8 bits without sign; o_row : Out(stream), {largest, total, factor}

    Source: workloads 5.2, EXPSUM.
    """

    i: stream.Interface
    o: stream.Interface
    o_row: stream.Interface

    def __init__(self, length: int) -> None:
        self.params: int = length
        super().__init__({
            "settings": In(self.settings_layout(length)), "write": In(Lookup.write_layout()),
            "i": In(stream.Signature(data.StructLayout({"z": signed(8)}))),
            "o": Out(stream.Signature(data.StructLayout({"e": 8, "last": 1}))),
            "o_row": Out(stream.Signature(self.row_layout(length))),
        })

    @staticmethod
    def settings_layout(length: int) -> data.StructLayout:
        """Return the run-time settings."""
        return data.StructLayout({"count": range(length + 1), "normalised": 1})

    @staticmethod
    def row_layout(length: int) -> data.StructLayout:
        """Return what a row has beside its exponentials."""
        return data.StructLayout({"largest": signed(8), "total": range(255 * length + 1), "factor": FACTOR_BITS})

    def build(self) -> Module:
        m, length, settings, row = Module(), self.params, self.settings, self.o_row.p
        m.submodules.scores = scores = Ram(8, max(2, length))
        m.submodules.unit = unit = RootDivide(INVERSE_BITS + 1)
        n, inverse, ended, gives = Signal(range(length + 1)), Signal(FACTOR_BITS + 8), Signal(), Signal()
        reading, summing, empty = self._exponentials(m, scores, n, inverse, gives)
        m.d.comb += [
            scores.w_addr.eq(n), scores.w_data.eq(self.i.p.z), scores.w_en.eq(self.i.valid & self.i.ready),
            unit.i.p.n.eq(1 << INVERSE_BITS), unit.i.p.d.eq(row.total), row.factor.eq(inverse >> 8),
            ended.eq((n == settings.count) & empty),
        ]
        with m.FSM() as states:
            m.d.comb += summing.eq(states.ongoing("READ"))
            with m.State("TAKE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += row.total.eq(0)
                with m.If(self.i.valid):
                    m.d.sync += n.eq(n + 1)
                    with m.If((n == 0) | (self.i.p.z > row.largest)):
                        m.d.sync += row.largest.eq(self.i.p.z)
                    with m.If(n + 1 == settings.count):
                        m.d.sync += [n.eq(0), gives.eq(~settings.normalised)]
                        m.next = "READ"
            with m.State("READ"):
                m.d.comb += reading.eq(n != settings.count)
                with m.If(ended):
                    m.d.sync += n.eq(0)
                    m.next = "DIVIDE"
            with m.State("DIVIDE"):
                m.d.comb += unit.i.valid.eq(1)
                m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += unit.o.ready.eq(1)
                m.d.sync += [inverse.eq(unit.o.p.q), gives.eq(1)]
                with m.If(unit.o.valid):
                    m.next = "SUMS"
                    with m.If(settings.normalised):
                        m.next = "NORMALISE"
            with m.State("NORMALISE"):
                m.d.comb += reading.eq(n != settings.count)
                with m.If(ended):
                    m.d.sync += n.eq(0)
                    m.next = "SUMS"
            with m.State("SUMS"):
                m.d.comb += self.o_row.valid.eq(1)
                with m.If(self.o_row.ready):
                    m.next = "TAKE"
        return m

    def _exponentials(self, m: Module, scores: Ram, n: Signal, inverse: Signal, gives: Signal) -> tuple[Signal, Signal, Signal]:
        """Read the row again and look its exponentials up, in stages that move together; they leave while ``gives``.

        Return what is to be driven, whether the row is being read and whether the sum grows, and whether all stages are empty.
        """
        settings, o, row = self.settings, self.o, self.o_row.p
        m.submodules.table = table = Lookup(1)
        reading, summing, empty, move = Signal(), Signal(), Signal(), Signal()
        there, full, e, last = Signal(), Signal(), Signal(8), Signal()
        last_read, product, rounded = Signal(), Signal(8 + len(inverse)), Signal(9)
        m.d.comb += [
            move.eq(~o.valid | o.ready), empty.eq(~there & ~table.o.valid & ~full), table.write.eq(self.write),
            scores.r_en.eq(reading & move), scores.r_addr.eq(n),
            table.i.valid.eq(there), table.o.ready.eq(move), table.i.p.x.eq(row.largest - scores.r_data.as_signed()),
            table.i.p.tag.eq(last_read), rounded.eq((product + (1 << 23)) >> 24),
        ]
        with m.If(move):
            m.d.sync += [
                n.eq(n + reading), there.eq(reading), last_read.eq(n + 1 == settings.count), full.eq(table.o.valid),
                e.eq(table.o.p.y), last.eq(table.o.p.tag), product.eq(table.o.p.y * inverse), o.valid.eq(full & gives),
                o.p.e.eq(Mux(settings.normalised, Mux(rounded[-1], 255, rounded), e)), o.p.last.eq(last),
            ]
            with m.If(table.o.valid & summing):
                m.d.sync += row.total.eq(row.total + table.o.p.y)
        return reading, summing, empty
