"""Priority encoder: position of the lowest set bit, combinational."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from hdl.block import Block


class PriorityEncoder(Block):
    """Find the lowest set bit of a chunk and take it away.

    Twin of `golden.priority_encoder.priority_encoder`. Combinational: latency 0, no handshake.

    Parameters
    ----------
    chunk_bits : int
        Width of the bitmask, a power of two.

    Members
    -------
    mask : In(chunk_bits)
        Positions still to be visited.
    position : Out(log2(chunk_bits))
        Lowest set position; 0 when there is none.
    none : Out(1)
        ``mask`` is empty.
    single : Out(1)
        At most one bit of ``mask`` is set: ``rest`` is empty.
    rest : Out(chunk_bits)
        ``mask`` without its lowest set bit.

    Source: LoAS section IV-C, one matched position a cycle.
    """

    clocked = False
    mask: Signal
    position: Signal
    none: Signal
    single: Signal
    rest: Signal

    def __init__(self, chunk_bits: int) -> None:
        self.params = chunk_bits
        super().__init__({
            "mask": In(chunk_bits),
            "position": Out((chunk_bits - 1).bit_length()),
            "none": Out(1),
            "single": Out(1),
            "rest": Out(chunk_bits),
        })

    def build(self) -> Module:
        """Return the contents: the first word of 64 bits that is not empty, and its lowest bit."""
        m = Module()
        word_bits = min(64, self.params)
        low_bits, count = (word_bits - 1).bit_length(), self.params // word_bits
        words = [self.mask.word_select(index, word_bits) for index in range(count)]
        first, index = words[-1], count - 1
        for earlier in reversed(range(count - 1)):
            first = Mux(words[earlier].any(), words[earlier], first)
            index = Mux(words[earlier].any(), earlier, index)
        word = Signal(word_bits)
        less = Signal(word_bits)
        lowest = Signal(word_bits)
        m.d.comb += [word.eq(first), less.eq(word - 1), lowest.eq(word & ~less)]
        ones = [sum(1 << place for place in range(word_bits) if place >> bit & 1) for bit in range(low_bits)]
        rests, empty_before = [], 1
        for place, each in enumerate(words):
            rest = Signal(word_bits, name=f"rest_{place}")
            m.d.comb += rest.eq(Mux(empty_before, each & less, each))
            rests.append(rest)
            empty_before = empty_before & ~each.any()
        m.d.comb += [
            self.position.eq(Cat((lowest & pattern).any() for pattern in ones)),
            self.none.eq(~self.mask.any()),
            self.rest.eq(Cat(rests)),
            self.single.eq(~self.rest.any()),
        ]
        if count > 1:
            m.d.comb += self.position[low_bits:].eq(Mux(self.none, 0, index))
        return m
