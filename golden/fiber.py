"""Compressed fibers: bitmask plus packed non-zero words. NumPy only, shared by golden, image and benches."""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.int64]
Bytes = NDArray[np.uint8]


def mask_bytes(channels: int) -> int:
    """Return the bytes of one fiber's bitmask."""
    return -(-channels // 8)


def slot_bytes(channels: int, word_log2: int) -> int:
    """Return the bytes of one fiber's worst-case value slot."""
    return -(-(channels << word_log2) // 8)


def pack(words: Words, word_log2: int) -> tuple[Bytes, Bytes]:
    """Return (masks [P, mask_bytes], slots [P, slot_bytes]) of fibers along the channels.

    words : [C, H, W], each 0..2^(2^word_log2) - 1; pixel p = y * W + x
    Unused slot bytes are 0.
    """
    channels = words.shape[0]
    flat = words.reshape(channels, -1).T
    masks = np.packbits(flat != 0, axis=1, bitorder="little")
    width = 1 << word_log2
    order = np.argsort(flat == 0, axis=1, kind="stable")
    packed = np.take_along_axis(flat, order, axis=1)
    bits = (packed[:, :, None] >> np.arange(width)) & 1
    slots = np.packbits(bits.reshape(len(flat), -1).astype(np.uint8), axis=1, bitorder="little")
    return masks, slots


def unpack(masks: Bytes, slots: Bytes, channels: int, word_log2: int, height: int, width: int) -> Words:
    """Return the words [C, H, W] of fibers; the inverse of `pack`, whatever lies in unused slot bytes."""
    present = np.unpackbits(masks, axis=1, count=channels, bitorder="little").astype(bool)
    bits = 1 << word_log2
    values = np.unpackbits(slots, axis=1, count=channels * bits, bitorder="little").reshape(len(masks), channels, bits)
    packed = (values.astype(np.int64) << np.arange(bits)).sum(axis=2)
    place = np.clip(np.cumsum(present, axis=1) - 1, 0, channels - 1)
    words = np.where(present, np.take_along_axis(packed, place, axis=1), 0)
    return words.T.reshape(channels, height, width)


def used_bytes(masks: Bytes, word_log2: int) -> NDArray[np.int64]:
    """Return the value bytes that each fiber uses."""
    counts = np.unpackbits(masks, axis=1).sum(axis=1).astype(np.int64)
    used: NDArray[np.int64] = -(-(counts << word_log2) // 8)
    return used
