"""Fast prefix sum: number of set bits below a position, combinational."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from hdl.block import Block
from hdl.count_ones import count_ones


def places_below(position: Value) -> Value:
    """Return one bit for each place that ``position`` can name, set where the place is below it."""
    below: Value = Const(0, 1)
    for bit in position:
        every = bit.replicate(len(below))
        below = Cat(below | every, below & every)
    return below


class FastPrefixSum(Block):
    """Count the set bits of a chunk strictly below a position.

    Twin of `golden.fast_prefix_sum.fast_prefix_sum`. Combinational: latency 0, one result a cycle, no handshake.

    Parameters
    ----------
    chunk_bits : int
        Width of the chunk's bitmask, a power of two.

    Members
    -------
    mask : In(chunk_bits)
        Bitmask of the chunk.
    position : In(log2(chunk_bits))
        Position whose offset among the packed values is wanted.
    offset : Out(chunk_bits.bit_length())
        Number of set bits of ``mask`` below ``position``.

    Source: LoAS section IV-C, the fast prefix-sum circuit of the inner join.
    """

    clocked = False
    mask: Signal
    position: Signal
    offset: Signal

    def __init__(self, chunk_bits: int) -> None:
        self.params = chunk_bits
        super().__init__({
            "mask": In(chunk_bits),
            "position": In((chunk_bits - 1).bit_length()),
            "offset": Out(chunk_bits.bit_length()),
        })

    def build(self) -> Module:
        """Return the contents: per word of 64 bits, the bits below the position, then their count in packed fields."""
        m = Module()
        word_bits = min(64, self.params)
        low, high = self.position[:(word_bits - 1).bit_length()], self.position[(word_bits - 1).bit_length():]
        below_low = Signal(word_bits)
        m.d.comb += below_low.eq(places_below(low))
        counts = []
        last = self.params // word_bits - 1
        for index in range(last + 1):
            word = self.mask.word_select(index, word_bits)
            below = Signal(word_bits, name=f"below_{index}")
            partly = Mux(high == index, word & below_low, 0)
            m.d.comb += below.eq(partly if index == last else Mux(high > index, word, partly))
            counts.append(count_ones(m, below))
        while len(counts) > 1:
            counts = [a + b for a, b in zip(counts[::2], counts[1::2], strict=True)]
        m.d.comb += self.offset.eq(counts[0])
        return m
