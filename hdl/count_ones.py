"""Number of set bits of a word, as an expression."""

from amaranth.hdl import Cat, Const, Module, Signal, Value


def count_ones(m: Module, word: Signal) -> Value:
    """Return the number of set bits of ``word``.

    Fields of 2, 4, 8, ... bits are added side by side in one word. No field carries into its neighbour, since a
    field twice as wide as an addend holds the sum. A tree of single adders takes as many cells and simulates
    an order of magnitude slower.
    """
    name, width, bits = word.name, 1 << (len(word) - 1).bit_length(), 1
    if width > len(word):
        word = Cat(word, Const(0, width - len(word)))
    while bits < width:
        fields = sum(((1 << bits) - 1) << place for place in range(0, width, 2 * bits))
        total = Signal(width, name=f"{name}_sum_{2 * bits}")
        low, high = word & fields, (word >> bits) & fields
        m.d.comb += total.eq((low ^ high) | ((low & high) << 1) if bits == 1 else low + high)
        word, bits = total, 2 * bits
    return word[:width.bit_length()]
