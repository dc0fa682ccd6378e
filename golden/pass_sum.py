"""Step sums of one lane: what one operation of the tail does to them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation on the sums.

    kind : ``"identity"`` (dot b is added to step b), ``"plane"`` (one dot is added to several steps), ``"load"``
    first : start from ``bias`` instead of the sums so far; load always does
    steps : bitmask of the steps that are added to
    bit, shift, negate : plane only: the dot, its left shift, whether it is subtracted
    bias : signed, ``stream_bits``
    """

    kind: str
    first: bool = False
    steps: int = 0
    bit: int = 0
    shift: int = 0
    negate: bool = False
    bias: int = 0


def pass_sum(sums: Sequence[int], dots: Sequence[int], op: Operation) -> list[int]:
    """Return the sums [t_max] after one operation of a pass.

    sums : [t_max] signed, ``stream_bits``
    dots : [t_max] signed, ``acc_bits``, one dot per word bit

    ``sums[t] = (first ? bias : sums[t]) + steps[t] * (identity ? dots[t] : (-1)^negate * dots[bit] << shift)``

    The caller keeps every sum inside ``stream_bits``; lowering proves it for every channel.

    Source: DESIGN 4, passes.
    """
    plane = (-dots[op.bit] if op.negate else dots[op.bit]) << op.shift
    start = [op.bias if op.first or op.kind == "load" else total for total in sums]
    added = [0 if op.kind == "load" or not op.steps >> t & 1 else dot if op.kind == "identity" else plane
             for t, dot in enumerate(dots)]
    return [a + b for a, b in zip(start, added, strict=True)]


def add_currents(sums: Sequence[int], currents: Sequence[int]) -> list[int]:
    """Return the sums [t_max] after the stored currents of all timesteps: ``sums[t] += currents[t]``.

    Source: DESIGN 4, tail.
    """
    return [total + current for total, current in zip(sums, currents, strict=True)]
