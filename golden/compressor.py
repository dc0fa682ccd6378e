"""Output fiber: the words of one pixel as pieces of bitmask and pieces of packed words."""

from collections.abc import Sequence

import numpy as np

from golden.fiber import pack, used_bytes

Piece = tuple[int, int]


def compress(words: Sequence[int], word_log2: int, chunk_bits: int) -> tuple[list[Piece], list[Piece]]:
    """Return (mask pieces, value pieces) of one fiber, each piece as (bits, bytes), first bytes lowest.

    words : [C] words in channel order, 0..2^(2^word_log2) - 1; 0 is silent and not stored
    chunk_bits : bits of a piece; only the last piece of a kind is shorter, an empty kind has no piece

    Source: DESIGN 4, fiber: bitmask rounded to bytes, packed non-zero words, only used bytes move.
    """
    masks, slots = pack(np.array(words, np.int64).reshape(-1, 1, 1), word_log2)
    values = slots[0, : int(used_bytes(masks, word_log2)[0])]
    return _pieces(masks.tobytes(), chunk_bits // 8), _pieces(values.tobytes(), chunk_bits // 8)


def _pieces(text: bytes, size: int) -> list[Piece]:
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    return [(int.from_bytes(part, "little"), len(part)) for part in parts]
