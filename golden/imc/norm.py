"""Normalisation of a row: less its mean, over its deviation, times a gain and plus a bias of each channel."""

from array_api_compat import array_namespace

from golden.arch import require
from golden.imc.root_divide import divide, root
from golden.imc.scale import scale
from golden.network import Array

# Fraction bits of a normalised value and of the root that it is divided by, and those of 1 over the root.
Z_BITS, ROOT_BITS, INVERSE_BITS = 12, 8, 40
SHIFT = INVERSE_BITS - ROOT_BITS - Z_BITS


def norm(x: Array, *, gain: Array, bias: Array, shift: int, eps: int, centred: bool = True) -> Array:
    """Return int64 [..., D] in -128..127, each row of x normalised: ``sat8((z * gain + bias + half) >> shift)``.

    ``z = ((D * x - A) * inv) >> 20`` has 12 fraction bits. ``A = sum(x)``, ``Q = sum(x^2)``, ``V = D * Q - A^2 + eps``, which
    is ``D^2`` times the variance: no mean is divided out. ``r = isqrt(V << 16)`` and ``inv = 2^40 // r``. ``half`` is half a
    unit, 0 with a shift of 0.

    x : int64 [..., D], ``-2^15 <= x < 2^15``, D up to 4096
    gain, bias : int64 [D], of 16 and 32 bits with sign
    shift : 0..31
    eps : 1..2^31 - 1, in the units of V; so r is at least 256 and nothing is divided by 0
    centred : else ``A = 0`` and D counts as 1: the row over its length

    Source: workloads 5.2, NORM; ``inv`` has 8 bits more than there, since 2^32 // r keeps too few of a row of 16 bits (a
    deviation of 2300 over 64 values leaves it 7 bits).
    """
    require(1 <= eps < 1 << 31, "eps", eps, "in 1..2147483647")
    require(0 <= shift <= 31, "shift", shift, "in 0..31")
    xp = array_namespace(x)
    total, squares = (xp.sum(part, axis=-1, keepdims=True) for part in (x, x * x))
    count = x.shape[-1]
    if not centred:
        count, total = 1, xp.zeros_like(total)
    inverse = divide(xp.asarray(1 << INVERSE_BITS), root(count * squares - total * total + eps, places=ROOT_BITS),
                     bits=INVERSE_BITS + 1)
    z = ((count * x - total) * inverse) >> SHIFT
    return scale(z * gain, mult=xp.asarray(1), shift=xp.asarray(shift), bias=bias, bits=8, signed=True)
