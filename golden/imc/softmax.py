"""Softmax of a row: exponentials from a table, their sum, and the factor that is left to the sums made with them."""

from dataclasses import dataclass

from array_api_compat import array_namespace

from golden.arch import require
from golden.imc.root_divide import divide
from golden.network import Array

# The exponential of the largest value; bits behind the point of the two reciprocals of their sum.
ONE, FACTOR_BITS, INVERSE_BITS = 255, 24, 32


@dataclass(frozen=True, kw_only=True)
class Softmax:
    """Rows of exponentials.

    e : int64 [..., N] in 0..255, without sign; the largest value's is 255
    largest : int64 [...], m
    total : int64 [...], S, the sum of e; at least 255
    factor : int64 [...], F = 2^24 // S, at most 65793; ``golden.imc.row_factor`` takes it to sums with e as weights
    """

    e: Array
    largest: Array
    total: Array
    factor: Array


def softmax(z: Array, table: Array) -> Softmax:
    """Return what becomes of rows of scores: ``e = table[m - z]`` with ``m = max(z)``.

    z : int64 [..., N] in -128..127, N up to 2^16
    table : int64 [256] in 0..255, ``table[0] = 255``: the exponential of a distance, as a loaded table

    Source: workloads 5.2, EXPSUM.
    """
    xp = array_namespace(z)
    require(int(table[0]) == ONE, "table[0]", int(table[0]), f"{ONE}, the exponential of 0")
    largest = xp.max(z, axis=-1)
    distance = largest[..., None] - z
    e = xp.reshape(xp.take(table, xp.reshape(distance, (-1,))), z.shape)
    total = xp.sum(e, axis=-1)
    return Softmax(e=e, largest=largest, total=total, factor=divide(xp.asarray(1 << FACTOR_BITS), total, bits=FACTOR_BITS + 1))


def normalised(z: Array, table: Array) -> Array:
    """Return int64 [..., N] in 0..255, the probabilities in 256ths: ``min(255, (e * (2^32 // S) + 2^23) >> 24)``.

    ``2^24 // S`` is ``2^32 // S`` without its low 8 bits, so one division serves both.

    Source: workloads 5.2, EXPSUM, normalised mode.
    """
    xp = array_namespace(z)
    row = softmax(z, table)
    inverse = divide(xp.asarray(1 << INVERSE_BITS), row.total, bits=INVERSE_BITS + 1)[..., None]
    return xp.clip((row.e * inverse + (1 << FACTOR_BITS - 1)) >> FACTOR_BITS, None, ONE)
