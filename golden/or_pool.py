"""Max-pool of spikes: the OR of the words in a window."""

from functools import reduce
from operator import or_

from golden.network import Array, Pool
from golden.window import windows


def or_pool(words: Array, pool: Pool) -> Array:
    """Return ``out[n, y, x] = OR over the window of words[n, y*stride - padding + i, x*stride - padding + j]``.

    words : int64 [N, H, W] spike words; padding is silent
    returns int64 [N, (H + 2 padding - kernel) // stride + 1, ...], windows that do not fit are dropped
    """
    return reduce(or_, windows(words, (pool.kernel, pool.kernel), stride=pool.stride, padding=pool.padding))
