"""Digits: bits of the currents as the word that the next layer reads as planes, an operand made of currents."""

from array_api_compat import array_namespace

from golden.network import Array, Digit


def digit(x: Array, p: Digit) -> Array:
    """Return words int64 [N, ...]: of each step taken, ``(x >> low) & (2^bits - 1)``, the first step lowest.

    x : int64 [T, N, ...] currents, ``|x| < 2^32``

    With ``clip``, ``min(max(x >> low, 0), 2^bits - 1)`` instead. Shifts round down, so the words of ``low, low + bits, ...``
    up to a current's sign are together the current without its lowest ``low`` bits, exactly.

    Source: networks 2.1, the 1x1 stride-2 shortcuts, which read the residual stream itself.
    """
    xp, top = array_namespace(x), (1 << p.bits) - 1
    shifted = xp.stack([x[t, ...] for t in p.taken(x.shape[0])]) >> p.low
    parts = xp.unstack(xp.clip(shifted, 0, top) if p.clip else shifted & top)
    return sum(part << n * p.bits for n, part in enumerate(parts))
