"""Sums of a block of columns of one head, added row by row, read column by column."""

from collections.abc import Iterable, Sequence

Row = tuple[int, int, Sequence[int]]


def head_sums(rows: Iterable[Row], *, columns: int, lanes: int, steps: int, saturation: int) -> list[list[list[int]]]:
    """Return the sums [column][lane][step] of rows (step, lane, addends of the columns), which stop at ``saturation``.

    Source: networks F3; addends of at least 0 make the same of every order.
    """
    sums = [[[0] * steps for _ in range(lanes)] for _ in range(columns)]
    for step, lane, addends in rows:
        for column, addend in enumerate(addends[:columns]):
            sums[column][lane][step] = min(saturation, sums[column][lane][step] + addend)
    return sums
