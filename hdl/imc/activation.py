"""Activation memories: planes of channels as words, and back. NumPy only."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Planes = NDArray[np.int64]
Words = NDArray[np.uint32]


def pack(planes: Planes, rows: int) -> Words:
    """Return uint32 [words, ceil(rows / 32)] of planes [P, C, H, W] of 0 and 1: plane, pixel, group of ``rows`` channels.

    Channel c of a pixel is bit ``c % rows`` of its word ``c // rows``; what no channel fills is 0.
    """
    count, channels, height, width = planes.shape
    groups = -(-channels // rows)
    flat = np.moveaxis(planes, 1, 3).reshape(count * height * width, channels)
    wide = np.zeros((len(flat), groups * rows), np.uint8)
    wide[:, :channels] = flat
    lines = wide.reshape(-1, rows)
    padded = np.zeros((len(lines), -(-rows // 32) * 32), np.uint8)
    padded[:, :rows] = lines
    return np.packbits(padded, axis=1, bitorder="little").view("<u4")


def unpack(words: Words, planes: int, channels: int, height: int, width: int, rows: int) -> Planes:
    """Return the planes int64 [P, C, H, W] of words; the inverse of `pack`."""
    groups = -(-channels // rows)
    bits = np.unpackbits(np.ascontiguousarray(words, "<u4").view(np.uint8), axis=1, bitorder="little")[:, :rows]
    flat = bits.reshape(planes, height, width, groups * rows)[..., :channels]
    return np.moveaxis(flat, 3, 1).astype(np.int64)


def split(words: Planes, bits: int) -> Planes:
    """Return the planes [bits, C, H, W] of words [C, H, W], the lowest bit first."""
    return np.stack([words >> b & 1 for b in range(bits)])


def operand_words(layer: Any, tensors: Mapping[str, Planes], rows: int) -> Words:
    """Return the words, as `pack` gives them, of what a layer (`golden.network.Layer`) reads: the planes of all its passes."""
    return pack(np.concatenate([split(tensors[q.source], len(q.planes)) for q in layer.passes]), rows)
