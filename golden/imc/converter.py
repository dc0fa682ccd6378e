"""ADCs: codes of the columns of a phase, from the answers of comparators."""

from collections.abc import Callable

from array_api_compat import array_namespace

from golden.network import Array


def sar(compare: Callable[[Array], Array], zero: Array, bits: int) -> Array:
    """Return int64 codes of successive approximation: a bit stays when the column is at least the threshold of the trial.

    compare : trial codes to bool of the same shape
    zero : int64 zeros, one per column
    """
    code = zero
    for bit in reversed(range(bits)):
        trial = code + (1 << bit)
        code = code + compare(trial) * (1 << bit)
    return code


def flash(thermometer: Array, bits: int) -> tuple[Array, Array]:
    """Return (codes, whether a bubble was seen): the number of ones among the lowest ``2^bits - 1`` outputs.

    thermometer : bool [..., outputs], output j is 1 when the column is at least threshold j + 1
    """
    xp = array_namespace(thermometer)
    outputs = xp.astype(thermometer[..., : (1 << bits) - 1], xp.int64)
    rises = outputs[..., 1:] > outputs[..., :-1]
    return xp.sum(outputs, axis=-1), xp.any(rises, axis=-1)


def mean(total: Array, average_log2: int) -> Array:
    """Return the mean of ``2^average_log2`` codes, whose sum is ``total``, rounded half up.

    Source: imc 10, B2.
    """
    return total if average_log2 == 0 else (total + (1 << average_log2 - 1)) >> average_log2
