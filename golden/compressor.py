"""Output fiber: the words of one pixel as pieces of bitmask and pieces of packed words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from golden.fiber import pack

Piece = tuple[int, int]


@dataclass(frozen=True)
class Open:
    """Where the packed words of an open fiber end: whole bytes, bits of the byte begun, that byte."""

    bytes: int = 0
    bits: int = 0
    byte: int = 0


def compress(words: Sequence[int], word_log2: int, chunk_bits: int, before: Open = Open()
             ) -> tuple[list[Piece], list[Piece], Open]:
    """Return mask pieces, value pieces (each (bits, bytes), first bytes lowest) and end of one part of a fiber.

    words : [C] words in channel order, 0..2^(2^word_log2) - 1; 0 is silent and not stored
    chunk_bits : bits of a piece; only the last piece of a kind is shorter, an empty kind has no piece
    before : end of the part before; the byte begun comes again as the first bits of the first value piece

    Source: DESIGN 4, fiber: bitmask rounded to bytes, packed non-zero words, only used bytes move.
    """
    masks, slots = pack(np.array(words, np.int64).reshape(-1, 1, 1), word_log2)
    size = before.bits + (sum(word != 0 for word in words) << word_log2)
    stored = before.byte | int.from_bytes(slots[0].tobytes(), "little") << before.bits
    values = stored.to_bytes(slots.size + 1, "little")[: -(-size // 8)]
    end = Open(before.bytes + size // 8, size % 8, values[-1] if size % 8 else 0)
    return _pieces(masks.tobytes(), chunk_bits // 8), _pieces(values, chunk_bits // 8), end


def _pieces(text: bytes, size: int) -> list[Piece]:
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    return [(int.from_bytes(part, "little"), len(part)) for part in parts]
