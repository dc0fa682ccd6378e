"""Units of a packed region that is read in words."""

from collections.abc import Iterable


def byte_stream(words: Iterable[int], word_bits: int, unit_bits: int) -> list[int]:
    """Return the units of ``words``, lowest bits first: unit n lies at bit ``n * unit_bits`` of the joined words.

    words : ``word_bits`` bits each, first word lowest
    unit_bits : a divisor of ``word_bits``

    Source: DESIGN 4, fiber: little-endian, packed.
    """
    return [word >> place & ((1 << unit_bits) - 1) for word in words for place in range(0, word_bits, unit_bits)]
