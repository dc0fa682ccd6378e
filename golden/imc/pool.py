"""Pools behind the sums of tiles: the largest, the sum, or the OR of the members of a window."""

from functools import reduce
from operator import add, or_

from array_api_compat import array_namespace

from golden.arch import require
from golden.network import Array, Pool
from golden.window import windows

MODES = ("none", "max", "sum", "or")


def pool(x: Array, mode: str, window: Pool) -> Array:
    """Return int64 [..., `extent` of H, `extent` of W], one value per window, or x itself with ``none``.

    x : int64 [..., H, W], ``|x| < 2^32``; members outside of the map do not count
    mode : of `MODES`; ``or`` takes the low bit of a member, a spike. A mean is the sum, scaled

    Source: imc 10, B7.
    """
    require(mode in MODES, "mode", mode, f"one of {', '.join(MODES)}")
    if mode == "none":
        return x
    xp = array_namespace(x)
    members = windows(x, (window.kernel, window.kernel), stride=window.stride, padding=window.padding,
                      fill=-(1 << 32) if mode == "max" else 0)
    if mode == "or":
        return reduce(or_, [member & 1 for member in members])
    return reduce(xp.maximum if mode == "max" else add, members)
