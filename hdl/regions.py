"""Regions of the memory image: where tensors of words and stored currents lie."""

from dataclasses import dataclass, replace

from golden.fiber import mask_bytes, slot_bytes
from golden.formats import CURRENT_BYTES, align


@dataclass(frozen=True)
class Shape:
    """Operand words before they have a place."""

    channels: int
    height: int
    width: int
    word_log2: int

    def view(self, rows: tuple[int, int] | None) -> "Shape":
        """Return the map rows ``(first, stop)`` alone, all for None."""
        return self if rows is None else replace(self, height=rows[1] - rows[0])

    def in_line(self) -> "Shape":
        """Return the same pixels as a map of one line."""
        return replace(self, height=1, width=self.height * self.width)


@dataclass(frozen=True)
class Tensor:
    """Region of one tensor of words: masks, then slots."""

    channels: int
    height: int
    width: int
    word_log2: int
    masks: int
    values: int

    @property
    def mask_stride(self) -> int:
        """Bytes of one mask."""
        return mask_bytes(self.channels)

    @property
    def slot_stride(self) -> int:
        """Bytes of one slot."""
        return slot_bytes(self.channels, self.word_log2)

    @property
    def pixels(self) -> int:
        """Fibers."""
        return self.height * self.width

    def view(self, rows: tuple[int, int] | None) -> "Tensor":
        """Return the map rows ``(first, stop)`` alone, where they lie; all for None."""
        if rows is None:
            return self
        before = rows[0] * self.width
        return replace(self, height=rows[1] - rows[0], masks=self.masks + before * self.mask_stride,
                       values=self.values + before * self.slot_stride)

    def in_line(self) -> "Tensor":
        """Return the same pixels as a map of one line."""
        return replace(self, height=1, width=self.pixels)


@dataclass(frozen=True)
class Currents:
    """Region of stored currents (``depth`` = steps) or of a read-out (``depth`` = 1): int32 [y][x][c][depth]."""

    channels: int
    height: int
    width: int
    depth: int
    base: int

    @property
    def stride(self) -> int:
        """Bytes of one pixel."""
        return self.channels * self.depth * CURRENT_BYTES

    @property
    def size(self) -> int:
        """Bytes of the region."""
        return self.height * self.width * self.stride


class Space:
    """Memory that is handed out from ``start`` on, each region at a multiple of 64 bytes; ``at`` is its end."""

    def __init__(self, start: int) -> None:
        self.at = align(start)

    def take(self, size: int) -> int:
        """Return the offset of ``size`` free bytes."""
        base, self.at = self.at, align(self.at + size)
        return base

    def tensor(self, shape: Shape) -> Tensor:
        """Return a region for words."""
        pixels = shape.height * shape.width
        return Tensor(shape.channels, shape.height, shape.width, shape.word_log2,
                      self.take(pixels * mask_bytes(shape.channels)),
                      self.take(pixels * slot_bytes(shape.channels, shape.word_log2)))
