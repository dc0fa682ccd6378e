"""Row spread of the loom: what every row slot holds of the pixels of a tile."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from golden.pixel_loader import Pixel
from golden.spike_buffer import RowChunk
from golden.tap_table import tap_table

Fields = Mapping[str, int]
Place = tuple[int, int]


@dataclass
class Slot:
    """One row slot of a lane: row chunks and lines of words by their address; what is not there is silent."""

    chunks: dict[int, RowChunk] = field(default_factory=dict)
    lines: dict[int, int] = field(default_factory=dict)


def row_spread(layer: Fields, passes: Sequence[Fields], centers: Sequence[Place | None], pixels: Sequence[Sequence[Pixel]],
               rows: int, chunk_bits: int) -> list[Slot]:
    """Return the ``rows`` slots of one lane.

    layer, passes : fields of `golden.formats.LAYER` and `golden.formats.PASS`
    centers : per group, (y, x) of the pixel before the first tap of the lane's row, None without a row
    pixels : of every pass, what `golden.pixel_loader.pixel_loader` returns

    Tap (ky, kx) of a row is the pixel ``(y * stride - padding + ky, x * stride - padding + kx)``, and lies where
    `golden.tap_table.tap_table` says; segment s of group g is slot ``s * (rows >> span_log2) + g``.
    """
    slots = [Slot() for _ in range(rows)]
    taps = iter(tap_table(passes, layer["span_log2"], chunk_bits))
    for sweep, loaded in zip(passes, pixels, strict=True):
        there = {(pixel.y, pixel.x): pixel for pixel in loaded}
        for ky in range(sweep["kernel_height"]):
            for kx in range(sweep["kernel_width"]):
                tap = [next(taps) for _ in range(sweep["tap_chunks"])]
                for group, center in enumerate(centers):
                    if center is None:
                        continue
                    corner = [at * sweep["stride"] - sweep["padding"] for at in center]
                    pixel = there.get((corner[0] + ky, corner[1] + kx))
                    if pixel is None:
                        continue
                    slot = slots[tap[0].segment * (rows >> layer["span_log2"]) + group]
                    slot.chunks.update({of.address: chunk for of, chunk in zip(tap, pixel.chunks, strict=True)})
                    slot.lines.update({tap[0].line + n: line for n, line in enumerate(pixel.lines)})
    return slots
