"""Sequential reader of a packed region of the weight buffer."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from hdl.block import Block


def ring_units(word_bits: int, window_units: int, unit_bits: int) -> int:
    """Return the units of the ring behind a window: enough words for the window and two more, a power of two."""
    words = -(-window_units * unit_bits // word_bits) + 2
    return (1 << (words - 1).bit_length()) * (word_bits // unit_bits)


class ByteStream(Block):
    """Window onto a packed stream of units that arrives in words.

    Words lie in a ring; nothing moves when units are taken. Up to ``window_units`` units are visible; ``take`` of them
    leave in a cycle. A word is wanted whenever it fits beside the window and one word more, one word on its way
    counted. Throughput one take and one word a cycle.

    Parameters
    ----------
    word_bits, window_units, unit_bits : int
        Powers of two.
    turned : bool
        Whether ``window`` begins with the next unit. Otherwise it is the whole ring: unit n of the window is found at
        ``head + n`` modulo `ring_units`, which costs no shifter here and one addition for each reader.

    Members
    -------
    clear : In(1)
    want : Out(1), granted : In(1), the wanted word is being read and arrives in the next cycle
    word : In, valid one cycle after ``granted``
    fill : Out, units in the window
    window : Out
    head : Out, place of the next unit in the ring
    take : In, units consumed now
    """

    def __init__(self, word_bits: int, window_units: int, unit_bits: int, turned: bool = True) -> None:
        self.params = (word_bits, window_units, unit_bits, turned)
        self.ring = ring_units(word_bits, window_units, unit_bits)
        units = word_bits // unit_bits
        self.capacity = window_units + 2 * units
        super().__init__({
            "clear": In(1), "want": Out(1), "granted": In(1), "word": In(word_bits),
            "fill": Out(range(self.capacity + 1)), "head": Out(range(self.ring)),
            "window": Out((window_units if turned else self.ring) * unit_bits), "take": In(range(window_units + 1)),
        })

    def build(self) -> Module:
        m = Module()
        word_bits, window_units, unit_bits, turned = self.params
        units = word_bits // unit_bits
        words = [Signal(word_bits, name=f"word_{n}", reset_less=True) for n in range(self.ring // units)]
        arriving, place = Signal(), Signal(range(len(words)))
        ring = Cat(words)
        m.d.comb += [
            self.want.eq(self.fill + Mux(arriving, units, 0) + units <= self.capacity),
            self.window.eq(self._turn(ring, window_units * unit_bits, unit_bits) if turned else ring),
        ]
        m.d.sync += [
            arriving.eq(self.granted),
            self.head.eq(self.head + self.take),
            self.fill.eq(self.fill - self.take + Mux(arriving, units, 0)),
        ]
        with m.If(arriving):
            m.d.sync += place.eq(place + 1)
        for n, each in enumerate(words):
            with m.If(arriving & (place == n)):
                m.d.sync += each.eq(self.word)
        with m.If(self.clear):
            m.d.sync += [arriving.eq(0), self.fill.eq(0), self.head.eq(0), place.eq(0)]
        return m

    def _turn(self, ring: Value, window_bits: int, unit_bits: int) -> Value:
        """Return the window that begins at ``head``; the longest way first, so that every step keeps fewer bits."""
        window = Cat(ring, ring)
        for bit in reversed(range(len(self.head))):
            away = unit_bits << bit
            kept = window_bits + away - unit_bits
            window = Mux(self.head[bit], window[away : away + kept], window[:kept])
        return window
