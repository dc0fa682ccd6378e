"""Waves in a plane by finite differences, and when sensors at the edge of a field hear a source inside it.

``u_tt = div(c^2 grad u)`` on a square field of width 1 with free edges: cells of one size, second order in space and in time
(leapfrog). A source is an impulse in one cell at rest, a sensor hears a Gaussian spot. The scheme is symmetric, so what a
sensor hears of a cell is what that cell hears of an impulse shaped like the sensor: one run for each sensor gives all sources.

Source: the task of arXiv 2312.00919 (networks 3.3): 64x64 cells, sources in cells 10 to 53 of both directions, classes of
6x6 places. Other than there, sensors hear the wave themselves and say when, and a slow lens bends its paths.
"""

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]

CELLS = 64
# Cells of the sources, and places along a side that they are sorted into.
FIRST, LAST, PLACES = 10, 53, 6
# Sensors along a side, and the width of what each hears, in cells.
SENSORS, SPOT = 8, 1.5
# Steps of time per cell at speed 1, and how many of them are recorded.
CFL, STEPS = 0.6, 150
# What a sensor hears of the wave when it fires, as a share of the loudest that any hears of any source.
LEVEL = 0.02


def speed() -> Field:
    """Return the speed of the waves, [y, x]: 1, and 0.6 in the middle of a lens beside the centre."""
    at = (np.arange(CELLS) + 0.5) / CELLS
    return 1 - 0.4 * np.exp(-((at[:, None] - 0.6) ** 2 + (at - 0.35) ** 2) / (2 * 0.15 ** 2))


def propagate(u: Field, c: Field, steps: int) -> Field:
    """Return the waves at steps 0 to ``steps`` of `CFL` / cells each, [step, ..., y, x].

    u : at step 0 and at rest, [..., y, x]; c : speeds, at most 1, [y, x]
    """
    across = CFL ** 2 * (c[:, 1:] ** 2 + c[:, :-1] ** 2) / 2
    down = CFL ** 2 * (c[1:] ** 2 + c[:-1] ** 2) / 2
    waves = np.empty((steps + 1, *u.shape))
    waves[0] = u
    for step in range(steps):
        now = waves[step]
        flow = np.zeros_like(now)
        over, along = across * np.diff(now, axis=-1), down * np.diff(now, axis=-2)
        flow[..., :-1] += over
        flow[..., 1:] -= over
        flow[..., :-1, :] += along
        flow[..., 1:, :] -= along
        waves[step + 1] = now + flow / 2 if step == 0 else 2 * now - waves[step - 1] + flow
    return waves


def sensors() -> Field:
    """Return what the sensors hear, [sensor, y, x]: evenly along the edge of the field, row by row."""
    at = np.linspace(0, CELLS - 1, SENSORS)
    ring = [(y, x) for y in at for x in at if {y, x} & {at[0], at[-1]}]
    cell = np.arange(CELLS)
    return np.stack([np.exp(-((cell[:, None] - y) ** 2 + (cell - x) ** 2) / (2 * SPOT ** 2)) for y, x in ring])


def arrivals(heard: Field, level: float) -> Field:
    """Return the steps, with fractions, at which waves [step, ...] reach ``level``, infinity where they never do."""
    loud = np.abs(heard) >= level
    after = loud.argmax(0)
    before = (after - 1).clip(0)
    high = np.take_along_axis(np.abs(heard), after[None], 0)[0]
    low = np.take_along_axis(np.abs(heard), before[None], 0)[0]
    part = np.where(after > 0, (high - level) / np.where(high > low, high - low, 1), 0)
    steps: Field = np.where(loud.any(0), after - part, np.inf)
    return steps


def places() -> tuple[NDArray[np.int64], Field]:
    """Return the class of each source, [source], and where it lies, [source, (y, x)] in shares of the field."""
    side = np.arange(FIRST, LAST + 1)
    y, x = (part.ravel() for part in np.meshgrid(side, side, indexing="ij"))
    count = LAST + 1 - FIRST
    classes = (y - FIRST) * PLACES // count * PLACES + (x - FIRST) * PLACES // count
    return classes.astype(np.int64), (np.stack([y, x], 1) + 0.5) / CELLS


def middles() -> Field:
    """Return the middle of each class, [class, (y, x)] in shares of the field."""
    classes, at = places()
    return np.stack([at[classes == place].mean(0) for place in range(PLACES ** 2)])


def heard_times() -> Field:
    """Return when each sensor hears each source, behind the first that does, [source, sensor] in widths at speed 1."""
    waves = propagate(sensors(), speed(), STEPS)[..., FIRST : LAST + 1, FIRST : LAST + 1]
    heard = waves.reshape(*waves.shape[:2], -1)
    steps = arrivals(heard, LEVEL * np.abs(heard).max()).T
    times: Field = (steps - steps.min(1, keepdims=True)) * CFL / CELLS
    return times
