"""Row loader: the masks and packed words that every lane gets for a tile."""

from collections.abc import Sequence
from dataclasses import dataclass

from golden.walker import ChunkRun


@dataclass(frozen=True)
class Row:
    """One lane's row.

    masks : one per chunk, silent chunks are 0
    words : the packed words of all its fibers, first word lowest, ``bits`` bits in all
    """

    masks: tuple[int, ...]
    words: int
    bits: int


def row_loader(walk: Sequence[ChunkRun], memory: bytes, *, lanes: int, word_log2: int) -> list[Row]:
    """Return the rows of one tile.

    walk : what `golden.walker.walker` yields for the tile
    memory : bytes from address 0
    word_log2 : log2 of the stored width of a word

    The words of a fiber follow those of the fiber before without a gap; a silent fiber has none.
    """
    rows = []
    for lane in range(lanes):
        masks: list[int] = []
        words = bits = count = 0
        for run in (run for run in walk if run.lane == lane):
            mask = int.from_bytes(memory[run.address : run.address + run.bytes], "little")
            masks.append(mask)
            count += mask.bit_count()
            if run.fiber_end:
                size = count << word_log2
                stored = memory[run.value_address : run.value_address + (size + 7) // 8]
                words |= (int.from_bytes(stored, "little") & (1 << size) - 1) << bits
                bits, count = bits + size, 0
        rows.append(Row(tuple(masks), words, bits))
    return rows
