"""The neuron step of DESIGN 3, shared by the FTP core and the IMC tile."""

import torch
from torch import Tensor

from golden.network import Neuron


def neuron(x: Tensor, p: Neuron) -> Tensor:
    """Return spikes of neurons that start at rest, all steps.

    x : int64 [T, N, ...] input currents, ``|x| < 2^32``; ``p.threshold`` int64 [N], below 2^32
    returns int64 [T, N, ...] of 0 and 1

    With ``leak="2^-k"``: ``h = decay_input ? (v+x+r)>>k : ((v+r)>>k)+x``, ``r = strict ? 2^k-1 : 0``.
    With ``leak="1-2^-k"``: ``h = v - v/2^k + x`` on ``k*T`` fraction bits, which is exact.
    Fires on ``h >= threshold`` or ``h > threshold``; hard reset to 0, soft reset ``h - threshold``,
    or soft_delayed: ``threshold`` leaves after the next decay.

    Source: networks F1 and section 8 (nested floor / ceil), snnTorch ``Leaky`` for soft_delayed.
    """
    threshold = p.threshold.reshape([-1] + [1] * (x.dim() - 2))
    return _complement(x, p, threshold) if p.leak == "1-2^-k" else _shift(x, p, threshold)


def _shift(x: Tensor, p: Neuron, threshold: Tensor) -> Tensor:
    k, strict = p.leak_shift, p.compare == ">"
    rounding = (1 << k) - 1 if strict else 0
    v, owed, spikes = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
    for current in x:
        h = (v + current + rounding) >> k if p.decay_input else ((v + rounding) >> k) + current
        h = h - owed
        fire = h > threshold if strict else h >= threshold
        spikes.append(fire.to(torch.int64))
        v, owed = _reset(h, fire, threshold, p.reset)
    return torch.stack(spikes)


def _complement(x: Tensor, p: Neuron, threshold: Tensor) -> Tensor:
    """Keep the membrane as ``high * 2^fraction + low``, ``0 <= low < 2^fraction``: 48 fraction bits fit no int64."""
    k, strict = p.leak_shift, p.compare == ">"
    fraction = k * x.shape[0]
    carry = 1 << fraction
    high, low, owed, spikes = *(torch.zeros_like(x[0]) for _ in range(3)), []
    for current in x:
        kept = low - (((high & ((1 << k) - 1)) << (fraction - k)) + (low >> k) if k else low)
        borrow = kept < 0
        h = high - (high >> k) - borrow.to(torch.int64) + current - owed
        low = torch.where(borrow, kept + carry, kept)
        fire = (h > threshold) | ((h == threshold) & (low > 0)) if strict else h >= threshold
        spikes.append(fire.to(torch.int64))
        high, owed = _reset(h, fire, threshold, p.reset)
        if p.reset == "hard":
            low = torch.where(fire, 0, low)
    return torch.stack(spikes)


def _reset(h: Tensor, fire: Tensor, threshold: Tensor, reset: str) -> tuple[Tensor, Tensor]:
    nothing = torch.zeros_like(h)
    if reset == "hard":
        return torch.where(fire, 0, h), nothing
    if reset == "soft":
        return torch.where(fire, h - threshold, h), nothing
    return h, torch.where(fire, threshold, nothing)
