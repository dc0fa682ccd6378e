"""The neuron step of DESIGN 3, shared by the FTP core and the IMC tile."""

from array_api_compat import array_namespace

from golden.network import Array, Neuron


def neuron(x: Array, p: Neuron) -> Array:
    """Return spikes of neurons that start at rest, all steps.

    x : int64 [T, N, ...] input currents, ``|x| < 2^32``; ``p.threshold`` int64 [N], below 2^32
    returns int64 [T, N, ...] of 0 and 1

    With ``leak="2^-k"``: ``h = decay_input ? (v+x+r)>>k : ((v+r)>>k)+x``, ``r = strict ? 2^k-1 : 0``.
    With ``leak="1-2^-k"``: ``h = v - v/2^k + x`` on ``k*T`` fraction bits, which is exact.
    Fires on ``h >= threshold`` or ``h > threshold``; hard reset to 0, soft reset ``h - threshold``,
    or soft_delayed: ``threshold`` leaves after the next decay.

    With ``share`` S these are T * S steps of N / S neurons: `visits`.

    Source: networks F1 and section 8 (nested floor / ceil), snnTorch ``Leaky`` for soft_delayed.
    """
    x = visits(x, p.share)
    threshold = array_namespace(x, p.threshold).reshape(p.threshold[: x.shape[1]], (-1, *[1] * (x.ndim - 2)))
    return joined(_complement(x, p, threshold) if p.leak == "1-2^-k" else _shift(x, p, threshold), p.share)


def visits(x: Array, share: int, axis: int = 1) -> Array:
    """Return [T * S, ...] of [T, ...]: the ``share`` groups of channels, which lie along ``axis``, one after the other."""
    xp = array_namespace(x)
    parts = xp.reshape(x, (*x.shape[:axis], share, x.shape[axis] // share, *x.shape[axis + 1:]))
    turned = xp.moveaxis(parts, axis, 1)
    return xp.reshape(turned, (-1, *turned.shape[2:]))


def joined(x: Array, share: int, axis: int = 1) -> Array:
    """Return [T, ...] of [T * S, ...]: the inverse of `visits`."""
    xp = array_namespace(x)
    parts = xp.moveaxis(xp.reshape(x, (-1, share, *x.shape[1:])), 1, axis)
    return xp.reshape(parts, (*parts.shape[:axis], -1, *parts.shape[axis + 2:]))


def step(x: Array, v: Array, owed: Array, threshold: Array, p: Neuron) -> tuple[Array, Array, Array]:
    """Return (spikes, membranes, owed) of one timestep with ``leak="2^-k"``.

    x, v : int64 currents and membranes, ``|x|, |v| < 2^32``
    owed : int64, 1 where the threshold is still to leave, 0 at rest and without ``soft_delayed``
    threshold : int64 that broadcasts with x; that of ``p`` is not read
    """
    k, strict = p.leak_shift, p.compare == ">"
    rounding = (1 << k) - 1 if strict else 0
    h = (v + x + rounding) >> k if p.decay_input else ((v + rounding) >> k) + x
    h = h - owed * threshold
    fire = h > threshold if strict else h >= threshold
    return _reset(h, fire, threshold, p.reset)


def _shift(x: Array, p: Neuron, threshold: Array) -> Array:
    xp = array_namespace(x)
    v, owed, spikes = xp.zeros_like(x[0, ...]), xp.zeros_like(x[0, ...]), []
    for current in xp.unstack(x):
        spike, v, owed = step(current, v, owed, threshold, p)
        spikes.append(spike)
    return xp.stack(spikes)


def _complement(x: Array, p: Neuron, threshold: Array) -> Array:
    """Keep the membrane as ``high * 2^fraction + low``, ``0 <= low < 2^fraction``: 48 fraction bits fit no int64."""
    xp, k, strict = array_namespace(x), p.leak_shift, p.compare == ">"
    fraction = k * x.shape[0]
    carry = 1 << fraction
    high, low, owed, spikes = *(xp.zeros_like(x[0, ...]) for _ in range(3)), []
    for current in xp.unstack(x):
        kept = low - (((high & ((1 << k) - 1)) << (fraction - k)) + (low >> k) if k else low)
        borrow = kept < 0
        h = high - (high >> k) - xp.astype(borrow, xp.int64) + current - owed * threshold
        low = xp.where(borrow, kept + carry, kept)
        fire = (h > threshold) | ((h == threshold) & (low > 0)) if strict else h >= threshold
        spike, high, owed = _reset(h, fire, threshold, p.reset)
        spikes.append(spike)
        if p.reset == "hard":
            low = xp.where(fire, 0, low)
    return xp.stack(spikes)


def _reset(h: Array, fire: Array, threshold: Array, reset: str) -> tuple[Array, Array, Array]:
    xp = array_namespace(h)
    spike, nothing = xp.astype(fire, xp.int64), xp.zeros_like(h)
    if reset == "hard":
        return spike, xp.where(fire, 0, h), nothing
    if reset == "soft":
        return spike, xp.where(fire, h - threshold, h), nothing
    return spike, h, spike
