"""Early exit: a network stops at the timestep at which its two best classes are far enough apart."""

from dataclasses import dataclass

from array_api_compat import array_namespace

from golden.arch import require
from golden.network import Array
from golden.run import Trace


@dataclass(frozen=True, kw_only=True)
class Exit:
    """When a network stops, and with what.

    steps : int64 [...], timesteps that are run, from 1
    label : int64 [...], the class after them
    labels : int64 [..., T], the class after each step; of equal sums the lowest
    margins : int64 [..., T], the largest sum less the second, of equal ones 0
    """

    steps: Array
    label: Array
    labels: Array
    margins: Array


def early_exit(sums: Array, threshold: int) -> Exit:
    """Return where the margin of the sums over t steps is at least ``t * threshold`` for the first time, else the last step.

    That is a margin of ``threshold`` between mean outputs, so one threshold serves all steps.

    sums : int64 [..., T, classes], the outputs of steps 1 to t added up, ``|sums| < 2^31``, 2 classes or more
    threshold : 0..2^31 - 1, in the units of the outputs; 0 stops after the first step

    Source: imc 10, B12 (integer margin in place of the entropy of DT-SNN).
    """
    require(threshold >= 0, "threshold", threshold, "0 or more")
    require(sums.shape[-1] >= 2, "classes", sums.shape[-1], "2 or more, for a margin is between two")
    xp = array_namespace(sums)
    steps, classes = sums.shape[-2:]
    order = xp.sort(sums, axis=-1)
    margins = order[..., -1] - order[..., -2]
    count = xp.arange(1, steps + 1, dtype=xp.int64)
    stops = (margins >= count * threshold) | (count == steps)
    end = xp.min(xp.where(stops, count, steps), axis=-1)
    best = xp.min(xp.where(sums == order[..., -1:], xp.arange(classes, dtype=xp.int64), classes), axis=-1)
    label = xp.sum(xp.where(count == end[..., None], best, 0), axis=-1)
    return Exit(steps=end, label=label, labels=best, margins=margins)


def sums_by_step(trace: Trace) -> Array:
    """Return int64 [T, classes], the read-out of the last layer over steps 1 to t; what later steps do does not change it."""
    currents = list(trace.layers.values())[-1].currents
    xp = array_namespace(currents)
    return xp.cumulative_sum(xp.reshape(currents, (currents.shape[0], -1)), axis=0)
