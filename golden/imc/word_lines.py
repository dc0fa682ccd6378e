"""Word lines of a vector: which rows are driven in which phase."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """One activation of the crossbar.

    bit : of the inputs, 0 is the lowest
    group : rows ``group * 2^group_log2`` and on
    rows : mask of the rows that are driven
    skipped : no row is driven and the macro rests; every code counts as 0
    first, last : of the vector
    """

    bit: int
    group: int
    rows: int
    skipped: bool
    first: bool
    last: bool

    @property
    def count(self) -> int:
        """Rows that are driven."""
        return self.rows.bit_count()


def word_lines(x: Sequence[int], *, bits: int, group_log2: int, groups: int, skip: bool) -> Iterator[Phase]:
    """Yield the phases of a vector, bit after bit from the lowest on, row group after row group.

    x : [rows] inputs, ``bits`` bits each; two's complement numbers as their low bits

    A row is driven when it lies in the group and its bit is set. Skipping is exact only where no row gives code 0, which
    an offset that is not calibrated away breaks.

    Source: imc 10, B1.
    """
    for bit in range(bits):
        for group in range(groups):
            low, high = group << group_log2, (group + 1) << group_log2
            rows = sum((value >> bit & 1) << row for row, value in enumerate(x) if low <= row < high)
            yield Phase(bit, group, rows, skip and rows == 0, bit == group == 0, bit == bits - 1 and group == groups - 1)
