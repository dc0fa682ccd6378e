"""What a cycle model reads in a memory image: the operand of a layer, and how its rows are matched."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch
from golden.kept_taps import walked_taps


class Operand:
    """The rows and columns of one layer as they lie in memory.

    memory : the image with its inputs; layer, sweep : fields of the layer's and its only pass's descriptor, with `TAPS`
    places, ahead : pixel of every lane at every tap that is kept; how many taps are skipped right in front of it
    """

    def __init__(self, arch: Arch, memory: bytes, layer: dict[str, int], sweep: dict[str, int]) -> None:
        self.arch, self.layer, self.sweep = arch, layer, sweep
        chunk, self.channels = arch.chunk_bits // 8, sweep["mask_stride"]
        pixels = sweep["height"] * sweep["width"]
        raw = np.frombuffer(memory, np.uint8, pixels * sweep["mask_stride"], sweep["masks"]).reshape(pixels, -1)
        pieces = sweep["tap_chunks"]
        padded = np.zeros((pixels + 1, pieces * chunk), np.uint8)
        padded[:-1, : raw.shape[1]] = raw
        self.bits = np.unpackbits(padded, axis=1, bitorder="little").reshape(pixels + 1, pieces, -1).astype(np.float32)
        self.ones = self.bits.sum(2).astype(np.int64)
        y, x = np.divmod(np.arange(-(-layer["out_height"] * layer["out_width"] // arch.lanes) * arch.lanes),
                         layer["out_width"])
        kept, taps = walked_taps(sweep), []
        for ky, kx in kept:
            at_y, at_x = y * sweep["stride"] - sweep["padding"] + ky, x * sweep["stride"] - sweep["padding"] + kx
            inside = ((y < layer["out_height"]) & (at_y >= 0) & (at_y < sweep["height"]) & (at_x >= 0)
                      & (at_x < sweep["width"]))
            taps.append(np.where(inside, at_y * sweep["width"] + at_x, pixels))
        self.places = np.stack(taps, 1)
        numbers = [ky * sweep["kernel_width"] + kx for ky, kx in kept]
        self.ahead = [number - before - 1 for before, number in pairwise([-1, *numbers])]
        self.pixels = pixels

    def steps(self, tile: int) -> Iterator[tuple[Any, ...]]:
        """Yield the walk over one tile of rows, as `Rows` takes it."""
        sweep, size, lanes = self.sweep, self.arch.chunk_bits // 8, self.arch.lanes
        places = self.places[tile * lanes : (tile + 1) * lanes].T.tolist()
        pieces = sweep["tap_chunks"]
        for tap, row in enumerate(places):
            for piece in range(pieces):
                end = piece == pieces - 1
                length = sweep["last_bytes"] if end else size
                for lane, pixel in enumerate(row):
                    inside = pixel < self.pixels
                    yield (sweep["masks"] + pixel * sweep["mask_stride"] + piece * size, length if inside else 0,
                           int(self.ones[pixel, piece]), lane, sweep["values"] + pixel * sweep["slot_stride"], end,
                           end and tap == len(places) - 1 and lane == lanes - 1,
                           self.ahead[tap] if piece == lane == 0 else 0)

    def matches(self, columns: NDArray[np.float32]) -> NDArray[np.int16]:
        """Return the matches [row tiles, columns x chunks, lanes] of every broadcast chunk.

        columns : [columns, taps, pieces, chunk bits] of 0 and 1
        """
        lanes, found = self.arch.lanes, []
        for tap in range(columns.shape[1]):
            rows = self.bits[self.places[:, tap]]
            for piece in range(columns.shape[2]):
                product = rows[:, piece] @ columns[:, tap, piece].T
                found.append(product.astype(np.int16).reshape(-1, lanes, len(columns)))
        every = np.stack(found, 3)
        return np.moveaxis(every, 1, 3).reshape(len(every), -1, lanes)
