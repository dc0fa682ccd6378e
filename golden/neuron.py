"""The neuron step of DESIGN 3, shared by the FTP core and the IMC tile."""

import torch
from torch import Tensor

from golden.network import Neuron


def neuron(x: Tensor, p: Neuron) -> Tensor:
    """Return spikes of neurons that start at rest, all steps.

    x : int64 [T, N, ...] input currents; ``p.threshold`` int64 [N]
    returns int64 [T, N, ...] of 0 and 1

    With ``leak="2^-k"``: ``h = decay_input ? (v+x+r)>>k : ((v+r)>>k)+x``, ``r = strict ? 2^k-1 : 0``.
    With ``leak="1-2^-k"``: ``h = v - v/2^k + x`` on ``k*T`` fraction bits, which is exact.
    Fires on ``h >= threshold`` or ``h > threshold``; hard reset to 0, soft reset ``h - threshold``,
    or soft_delayed: ``threshold`` leaves after the next decay.

    Source: networks F1 and section 8 (nested floor / ceil), snnTorch ``Leaky`` for soft_delayed.
    """
    k, strict = p.leak_shift, p.compare == ">"
    threshold = p.threshold.reshape([-1] + [1] * (x.dim() - 2))
    fraction = k * x.shape[0] if p.leak == "1-2^-k" else 0
    threshold, x = threshold << fraction, x << fraction
    rounding = (1 << k) - 1 if strict else 0
    v, owed, spikes = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
    for current in x:
        if p.leak == "1-2^-k":
            h = v - (v >> k) + current
        elif p.decay_input:
            h = (v + current + rounding) >> k
        else:
            h = ((v + rounding) >> k) + current
        h = h - owed
        fire = h > threshold if strict else h >= threshold
        spikes.append(fire.to(torch.int64))
        if p.reset == "hard":
            v = torch.where(fire, 0, h)
        elif p.reset == "soft":
            v = torch.where(fire, h - threshold, h)
        else:
            v, owed = h, torch.where(fire, threshold, 0)
    return torch.stack(spikes)
