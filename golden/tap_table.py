"""Tap table: where the row slots of a lane hold every chunk of a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True)
class Tap:
    """One chunk of a row.

    bytes : of its mask
    segment : which of the ``2^span_log2`` slots of the row holds it; address : place among the chunks of that slot
    line : first line of words of its tap in that slot
    end : last chunk of its pass
    """

    bytes: int
    segment: int
    address: int
    line: int
    end: bool


def tap_table(passes: Sequence[Mapping[str, int]], span_log2: int, chunk_bits: int) -> list[Tap]:
    """Return the chunks of a row in the order of the weight columns: passes, taps (ky, kx), chunks of the tap.

    passes : fields of `golden.formats.PASS`
    Tap row ky lies in segment ``ky mod 2^span_log2``, where the taps of a pass follow each other from ``chunk_base`` and
    ``line_base`` on, row-major, with ``tap_chunks`` chunks and ``tap_lines`` lines each.
    """
    table = []
    for sweep in passes:
        height, width, chunks = sweep["kernel_height"], sweep["kernel_width"], sweep["tap_chunks"]
        for y, x, chunk in product(range(height), range(width), range(chunks)):
            depth, segment = divmod(y, 2**span_log2)
            before, last = depth * width + x, chunk == chunks - 1
            table.append(Tap(
                bytes=sweep["last_bytes"] if last else chunk_bits // 8, segment=segment,
                address=sweep["chunk_base"] + before * chunks + chunk,
                line=sweep["line_base"] + before * sweep["tap_lines"], end=last and (y, x) == (height - 1, width - 1)))
    return table
