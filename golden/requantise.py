"""Requantiser: the current of one step as an integer of few bits, the word that the next layer reads as planes."""

from array_api_compat import array_namespace

from golden.network import Array, Requantise


def requantise(x: Array, p: Requantise) -> Array:
    """Return words int64 [N, ...]: ``clip((x * multiplier + 2^(shift-1)) >> shift)``, its low ``bits`` bits.

    x : int64 [N, ...] currents, ``|x| < 2^32``

    Rounds half up. Clips to ``0..2^bits - 1``, which is the rectifier, or with ``signed`` to
    ``-2^(bits-1)..2^(bits-1) - 1`` in two's complement. The factor ``multiplier / 2^shift`` of a channel is below 1.

    Source: DESIGN 3, rounding; workloads 5.2, REQ without residual and zero point.
    """
    xp = array_namespace(x)
    multiplier, shift = (xp.reshape(part, (-1, *[1] * (x.ndim - 1))) for part in (p.multiplier, p.shift))
    return xp.clip(half_up(x * multiplier, shift), *p.range) & ((1 << p.bits) - 1)


def half_up(x: Array, shift: Array) -> Array:
    """Return ``x / 2^shift`` rounded half up; int64, ``shift`` in 0..31, ``|x| < 2^62``."""
    xp = array_namespace(x)
    half = xp.bitwise_left_shift(xp.ones_like(shift), shift) >> 1
    return xp.bitwise_right_shift(x + half, shift)
