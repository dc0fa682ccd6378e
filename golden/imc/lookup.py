"""Any function of a byte, as a table."""

from array_api_compat import array_namespace

from golden.network import Array


def lookup(x: Array, table: Array) -> Array:
    """Return int64 ``table[x & 0xff]``: a value with sign finds its two's complement.

    x : int64 [...], of which 8 bits count
    table : int64 [256] of 8 bits, as the host wrote it, with or without sign

    Source: workloads 5.2, LUT256.
    """
    xp = array_namespace(x)
    return xp.reshape(xp.take(table, xp.reshape(x & 0xFF, (-1,))), x.shape)
