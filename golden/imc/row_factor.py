"""Factor of a row: sums made with the exponentials of a row, divided by the sum of these."""

from golden.network import Array


def row_factor(x: Array, factor: Array) -> Array:
    """Return int64 ``(x * factor + 2^15) >> 16``, half a unit goes up; behind it comes `golden.imc.scale.scale`.

    x : int64 [...], ``|x| <= 2^(stream_bits - 2)``
    factor : int64 that broadcasts, F of `golden.imc.softmax`, 0..65793; so the result fits ``stream_bits``

    With ``e`` of a row and int8 values, ``x = sum(e * v)``, the result is the mean of v with weights e in 256ths.

    Source: workloads 5.2, REQ with a factor of a row.
    """
    return (x * factor + (1 << 15)) >> 16
