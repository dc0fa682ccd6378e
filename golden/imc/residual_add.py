"""What a block of an encoder adds to the residual stream."""

from array_api_compat import array_namespace

from golden.network import Array

LOW, HIGH = -(1 << 15), (1 << 15) - 1


def residual_add(x: Array, a: Array) -> Array:
    """Return int64 ``x + a`` held in 16 bits with sign.

    x, a : int64 that broadcast, ``-2^15 <= x, a < 2^15``

    Source: imc 10, B10 (``x' = sat16(x + A)``).
    """
    return array_namespace(x, a).clip(x + a, LOW, HIGH)
