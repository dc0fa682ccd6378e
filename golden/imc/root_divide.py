"""Square roots and quotients of integers, exact, rounded down."""

from array_api_compat import array_namespace

from golden.network import Array


def root(n: Array, *, places: int = 0) -> Array:
    """Return int64 ``floor(sqrt(n * 4^places))``, digit by digit, so that ``n * 4^places`` itself need not fit.

    n : int64, not negative
    places : 0..29, binary digits behind the point of the root

    Source: workloads 5.2, DIV/ISQRT.
    """
    xp = array_namespace(n)
    found = rest = xp.zeros_like(n)
    for digit in reversed(range(32 + places)):
        pair = n >> 2 * (digit - places) & 3 if digit >= places else 0
        rest, tried = (rest << 2) + pair, (found << 2) + 1
        fits = rest >= tried
        rest, found = xp.where(fits, rest - tried, rest), (found << 1) + xp.astype(fits, xp.int64)
    return found


def divide(n: Array, d: Array, *, bits: int) -> Array:
    """Return int64 ``floor(n / d)``; all ``bits`` ones where d is 0.

    n, d : int64 that broadcast, ``0 <= n < 2^bits``, d not negative
    bits : 1..62, digits of the quotient

    Source: workloads 5.2, DIV/ISQRT.
    """
    xp = array_namespace(n, d)
    nothing = d == 0
    return xp.where(nothing, (1 << bits) - 1, n // xp.where(nothing, 1, d))
