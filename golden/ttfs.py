"""Time-to-first-spike neuron in ticks, and the race that its read-out runs."""

from dataclasses import dataclass

from array_api_compat import array_namespace

from golden.arch import FRACTION_BITS, MANTISSA_BITS, mantissas
from golden.formats import LEAD_BITS, NEVER
from golden.network import Array, Ttfs


@dataclass(frozen=True, kw_only=True)
class Spikes:
    """What every neuron did.

    earliness : int64 [N, ...], ``window - n`` of the first spike's tick n, 0 of a neuron that never fired
    membrane, fraction : int64 [N, ...], ``z(n) * (B - threshold) - A`` of that tick, or of the last one, in units of
        ``2^(n div 2^resolution)``: whole part, and what is left of it times ``2^FRACTION_BITS``
    """

    earliness: Array
    membrane: Array
    fraction: Array


def ttfs(arrivals: Array, p: Ttfs) -> Spikes:
    """Return the first spike of every neuron: at the first tick n with ``z(n) * (B - threshold) >= A``.

    arrivals : int64 [window, N, ...], sum of the weights w of the inputs that arrive at each tick
    ``A = sum of w * z`` and ``B = sum of w`` go over the arrivals up to n, ``z(n) = M[n mod 2^resolution] << (n div
    2^resolution)`` with the mantissas M of `golden.arch.mantissas`.

    ``D(n) = z(n) * (B - threshold) - A`` is kept in units of the octave, ``D / 2^(n div 2^resolution)``: within an octave
    a tick adds ``(M[i + 1] - M[i]) * (B - threshold)``, because what arrives at a tick adds nothing to D at that tick;
    the octave's end halves. Only integers are added, so the floor of the halves keeps the sign of D for any window
    (a floor of a floor), and the bits that fall out, which no sum ever changes, are D's fraction.

    Source: networks 3.1 and 3.4 (b); arXiv 2312.00919, neuron with synaptic current and no leak. Unlike the authors'
    code a neuron that needs all of its inputs does fire (their "next input" of the last one is 1).
    """
    xp = array_namespace(arrivals)
    table = mantissas(p.resolution)
    parts = len(table) - 1
    threshold = xp.reshape(p.threshold, (-1, *[1] * (arrivals.ndim - 2)))
    drive = xp.zeros_like(arrivals[0, ...]) - threshold
    membrane, fraction, earliness = drive << MANTISSA_BITS, xp.zeros_like(drive), xp.zeros_like(drive)
    for tick, arriving in enumerate(xp.unstack(arrivals)):
        drive = drive + arriving
        earliness = xp.where((earliness == 0) & (membrane >= 0), p.window - tick, earliness)
        if tick == p.window - 1:
            break
        place, waits = tick % parts, earliness == 0
        after = membrane + (table[place + 1] - table[place]) * drive
        if place == parts - 1:
            fraction = xp.where(waits, (after & 1) << FRACTION_BITS - 1 | fraction >> 1, fraction)
            after = after >> 1
        membrane = xp.where(waits, after, membrane)
    return Spikes(earliness=earliness, membrane=membrane, fraction=fraction)


def numbers(spikes: Spikes) -> Array:
    """Return what a lane hands to the tail: the earliness, `NEVER` for none."""
    return array_namespace(spikes.earliness).where(spikes.earliness > 0, spikes.earliness, NEVER)


def race(spikes: Spikes) -> Array:
    """Return the scores int64 [N, ...] of a read-out, whose largest (the lowest index of equals) is the answer.

    Columns are judged one after the other. One that is ahead of all before it, by the earlier spike, then by the larger
    ``z * (B - threshold) - A``, scores ``earliness << LEAD_BITS | times that the lead has changed``; any other scores 0.
    The first column leads without a change. So the first output spike wins, ties go to the larger membrane, then to the
    lowest index; when no neuron fires the largest membrane at the last tick wins.
    """
    xp = array_namespace(spikes.earliness)
    columns = [xp.unstack(part) for part in (spikes.earliness, spikes.membrane, spikes.fraction)]
    best, scores = [part[0] for part in columns], [columns[0][0] << LEAD_BITS]
    changes = xp.zeros_like(best[0])
    for now in zip(*(part[1:] for part in columns), strict=True):
        leads = now[2] > best[2]
        for a, b in ((now[1], best[1]), (now[0], best[0])):
            leads = (a > b) | ((a == b) & leads)
        changes = changes + xp.astype(leads, xp.int64)
        best = [xp.where(leads, a, b) for a, b in zip(now, best, strict=True)]
        scores.append(xp.where(leads, now[0] << LEAD_BITS | changes, 0))
    return xp.stack(scores)
