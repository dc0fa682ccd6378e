"""Sums of what tiles that work on different inputs send for the same outputs."""

from array_api_compat import array_namespace

from golden.network import Array


def sum_tree(y: Array, last: Array, active: Array) -> tuple[Array, Array, bool]:
    """Return (sums, lasts, error): the n-th word of all inputs that take part, added up.

    y : int64 [inputs, words]
    last : bool [inputs, words]
    active : bool [inputs], which take part, at least one
    returns int64 [words], bool [words], and whether inputs disagreed on ``last``, which one of them suffices to set

    Source: imc 10, B6, mode TREE.
    """
    xp = array_namespace(y)
    some = xp.any(last & active[:, None], axis=0)
    every = xp.all(last | ~active[:, None], axis=0)
    return xp.sum(xp.where(active[:, None], y, 0), axis=0), some, bool(xp.any(some != every))
