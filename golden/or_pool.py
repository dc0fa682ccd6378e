"""Max-pool of spikes: the OR of the words in a window."""

import torch
from torch import Tensor

from golden.network import Pool


def or_pool(words: Tensor, pool: Pool) -> Tensor:
    """Return ``out[n, y, x] = OR over the window of words[n, y*stride - padding + i, x*stride - padding + j]``.

    words : int64 [N, H, W] spike words; padding is silent
    returns int64 [N, (H + 2 padding - kernel) // stride + 1, ...], windows that do not fit are dropped
    """
    p, k, s = pool.padding, pool.kernel, pool.stride
    padded = torch.nn.functional.pad(words, (p, p, p, p))
    windows = padded.unfold(1, k, s).unfold(2, k, s)
    out = torch.zeros_like(windows[..., 0, 0])
    for i in range(k):
        for j in range(k):
            out = out | windows[..., i, j]
    return out
