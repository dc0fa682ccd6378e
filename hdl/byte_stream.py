"""Sequential reader of a packed region of the weight buffer."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from hdl.block import Block


class ByteStream(Block):
    """Window onto a packed stream of units that arrives in words.

    Up to ``window_units`` units are visible; ``take`` of them leave in a cycle. A word is wanted whenever it
    fits, one word on its way counted. Throughput one take and one word a cycle.

    Members
    -------
    clear : In(1)
    want : Out(1), granted : In(1), the wanted word is being read and arrives in the next cycle
    word : In, valid one cycle after ``granted``
    fill : Out, units in the window
    window : Out, next unit lowest
    take : In, units consumed now
    """

    def __init__(self, word_bits: int, window_units: int, unit_bits: int) -> None:
        self.params = (word_bits, window_units, unit_bits)
        self.capacity = window_units + 2 * (word_bits // unit_bits)
        super().__init__({
            "clear": In(1), "want": Out(1), "granted": In(1), "word": In(word_bits),
            "fill": Out(range(self.capacity + 1)), "window": Out(window_units * unit_bits),
            "take": In(range(window_units + 1)),
        })

    def build(self) -> Module:
        m = Module()
        word_bits, window_units, unit_bits = self.params
        units = word_bits // unit_bits
        store, arriving = Signal(self.capacity * unit_bits), Signal()
        kept = Signal(range(self.capacity + 1))
        m.d.comb += [
            self.want.eq(self.fill + Mux(arriving, units, 0) + units <= self.capacity),
            self.window.eq(store[: window_units * unit_bits]),
            kept.eq(self.fill - self.take),
        ]
        rest = Signal(self.capacity * unit_bits)
        m.d.comb += rest.eq(store >> (self.take * Const(unit_bits)))
        m.d.sync += [
            arriving.eq(self.granted),
            store.eq(rest | Mux(arriving, self.word << (kept * Const(unit_bits)), 0)),
            self.fill.eq(kept + Mux(arriving, units, 0)),
        ]
        with m.If(self.clear):
            m.d.sync += [arriving.eq(0), store.eq(0), self.fill.eq(0)]
        return m
