"""Word lines of a vector: which rows are driven in which phase."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace

from golden.network import Array


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


def lines(x: Array, *, rows: int, bits: int, group_log2: int, groups: int) -> Array:
    """Return int64 [vectors, bits * groups, rows], 1 where a row is driven: it lies in the group and its bit is set.

    x : int64 [vectors, inputs], at most ``rows`` inputs

    Source: imc 10, B1.
    """
    xp = array_namespace(x)
    vectors, inputs = x.shape
    wide = xp.concat([x, xp.zeros((vectors, rows - inputs), dtype=xp.int64)], axis=1)
    bit = xp.arange(bits, dtype=xp.int64)[:, None, None]
    group = xp.arange(groups, dtype=xp.int64)[:, None]
    member = xp.astype(xp.arange(rows, dtype=xp.int64) >> group_log2 == group, xp.int64)
    return xp.reshape((wide[:, None, None, :] >> bit & 1) * member, (vectors, -1, rows))


def word_lines(x: Sequence[int], *, bits: int, group_log2: int, groups: int, skip: bool) -> Iterator[Phase]:
    """Yield the phases of a vector, bit after bit from the lowest on, row group after row group.

    x : [rows] inputs, ``bits`` bits each; two's complement numbers as their low bits

    Skipping is exact only where no row gives code 0, which an offset that is not calibrated away breaks.
    """
    driven = lines(np.array([x], np.int64), rows=len(x), bits=bits, group_log2=group_log2, groups=groups)[0]
    for number, row in enumerate(driven.tolist()):
        mask = sum(one << place for place, one in enumerate(row))
        yield Phase(number // groups, number % groups, mask, skip and mask == 0, number == 0, number == bits * groups - 1)
