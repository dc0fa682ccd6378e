"""Which crossbar of which tile gets which row block of a vector, and in which order."""

from collections.abc import Iterator
from dataclasses import dataclass

from golden.imc.arch import ImcArch
from golden.imc.run import number
from golden.walker import Fields


@dataclass(frozen=True, kw_only=True)
class Send:
    """One crossbar's part of a vector: its row block goes to a tile, for a column block."""

    tile: int
    crossbar: int
    row_block: int
    column_block: int


def dispatch(arch: ImcArch, layer: Fields) -> Iterator[tuple[Send, ...]]:
    """Yield what is sent side by side, round after round; a round ends when all of its tiles have taken theirs.

    layer : blocks, column_blocks, rounds_out, crossbar, as in the register map of a core

    ``fan_in`` row blocks, fewer in the last round, go to as many tiles of every lane that still has a column block; all column
    blocks come before the next row blocks. Crossbars are those of `golden.imc.run.place`.

    Source: imc 10, B0; decision 0014.
    """
    lanes = arch.tiles // arch.fan_in
    for rows in range(0, layer["blocks"], arch.fan_in):
        for columns in range(0, layer["column_blocks"], lanes):
            sends = []
            for column in range(columns, min(columns + lanes, layer["column_blocks"])):
                for row in range(rows, min(rows + arch.fan_in, layer["blocks"])):
                    crossbar, tile = divmod(number(arch, layer["crossbar"], layer["rounds_out"], row, column), arch.tiles)
                    sends.append(Send(tile=tile, crossbar=crossbar, row_block=row, column_block=column))
            yield tuple(sends)
