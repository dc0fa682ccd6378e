"""The waves: an analytic solution of the scheme, second order of it, symmetry, arrival times, and the data set."""

import numpy as np
import pytest

from models.datasets import WAVE_NEVER, WAVE_PACE, wave, wave_places
from models.wave import (
    CELLS,
    CFL,
    FIRST,
    LAST,
    LEVEL,
    PLACES,
    STEPS,
    Field,
    arrivals,
    heard_times,
    middles,
    places,
    propagate,
    sensors,
    speed,
)


def mode(cells: int, waves: int) -> tuple[Field, float]:
    """Return a standing wave of a field with free edges, [y, x], and ``sin^2(k h / 2)`` summed over both directions."""
    at = np.cos(waves * np.pi * (np.arange(cells) + 0.5) / cells)
    return at[:, None] * at, 2 * np.sin(waves * np.pi / (2 * cells)) ** 2


@pytest.mark.parametrize("waves", [1, 3, 10])
def test_standing_waves_are_those_of_the_scheme(waves: int) -> None:
    """``u = cos(kx) cos(ky) cos(omega t)`` with ``sin^2(omega dt / 2) = CFL^2 sum of sin^2(k h / 2)``, to rounding."""
    u, curl = mode(CELLS, waves)
    angle = 2 * np.arcsin(CFL * np.sqrt(curl))
    steps = np.arange(101)
    found = propagate(u, np.ones((CELLS, CELLS)), 100)
    assert np.allclose(found, np.cos(angle * steps)[:, None, None] * u, rtol=0, atol=1e-10)


def test_the_wave_equation_is_met_to_second_order() -> None:
    """Half the cell, a quarter of the error against ``cos(sqrt(2) k t)``; another speed is seen."""
    errors = []
    for cells in (32, 64):
        u, _ = mode(cells, 3)
        found = propagate(u, np.ones((cells, cells)), cells)[-1]
        errors.append(np.abs(found - np.cos(np.sqrt(2) * 3 * np.pi * CFL) * u).max())
        slower = propagate(u, np.full((cells, cells), 0.95), cells)[-1]
        assert np.abs(slower - found).max() > 10 * errors[-1]
    assert 3.8 < errors[0] / errors[1] < 4.2


def test_a_sensor_hears_a_source_as_the_source_would_hear_it() -> None:
    """The wave of an impulse, weighted by a sensor, is the wave of an impulse of the sensor's shape, at the source."""
    ear, impulse = sensors()[9], np.zeros((CELLS, CELLS))
    impulse[20, 45] = 1
    there, back = propagate(impulse, speed(), 120), propagate(ear, speed(), 120)
    assert np.allclose((there * ear).sum((1, 2)), back[:, 20, 45], rtol=0, atol=1e-12)
    assert np.abs(back[:, 20, 45]).max() > 0.01


def test_a_wave_of_speed_one_arrives_with_the_distance() -> None:
    """Without the lens, twice the way along an axis takes twice as long: at most a cell more or less."""
    u = np.zeros((CELLS, CELLS))
    u[8, 8] = 1
    heard = propagate(u, np.ones((CELLS, CELLS)), STEPS)[:, 8, 8:]
    steps = arrivals(heard, 0.02 * np.abs(heard[:, 5:]).max())
    way = steps[10:50] * CFL
    assert np.abs(np.diff(way) - 1).max() < 0.1
    assert np.abs((way - way[0]) - np.arange(40)).max() < 1


def test_arrivals() -> None:
    """The first crossing counts, in either direction, with the fraction of the step; silence is never."""
    heard = np.array([[0.0, 0.5, 0.0, 0.0], [0.25, 0.0, -0.5, 0.1], [0.75, 0.0, 0.0, 0.2]])
    assert arrivals(heard, 0.5).tolist() == [1.5, 0.0, 1.0, np.inf]


def test_the_lens_delays_what_is_behind_it() -> None:
    """A wave through the lens comes later than one around it; everything is heard, within the steps that are run."""
    times, (classes, at) = heard_times(), places()
    assert times.shape == (len(classes), 28) and np.isfinite(times).all() and (times.min(1) == 0).all()
    assert speed().min() < 0.62 and speed().max() <= 1
    straight = np.array([[y, x] for y, x in at])[:, None, :]
    ears = np.array([np.unravel_index(ear.argmax(), ear.shape) for ear in sensors()]) / CELLS
    way = np.sqrt(((straight - ears) ** 2).sum(-1))
    lag = times - (way - np.take_along_axis(way, times.argmin(1)[:, None], 1))
    assert lag.max() > 0.15 > np.median(lag)
    assert 0 < LEVEL < 1


def test_the_data_set_is_fixed_and_whole() -> None:
    """1,936 sources in 36 classes of about one size, none in both parts; inside the ring nothing spikes."""
    x, y, x_test, y_test = wave()
    train, test = wave_places()
    assert (x.shape, x_test.shape) == ((1548, 1, 8, 8), (388, 1, 8, 8)) and x.dtype == np.float32 and y.dtype == np.int64
    assert len(x) + len(x_test) == (LAST + 1 - FIRST) ** 2
    assert not {tuple(at) for at in train} & {tuple(at) for at in test}
    counts = np.bincount(np.concatenate([y, y_test]))
    assert len(counts) == PLACES ** 2 and counts.min() >= 49 and counts.max() <= 64
    both = np.concatenate([x, x_test])
    assert (both[:, 0, 1:-1, 1:-1] == WAVE_NEVER).all()
    edge = both[both < WAVE_NEVER].reshape(len(both), 28)
    assert (edge.min(1) == 0).all() and edge.max() < 1.3 * WAVE_PACE
    near = np.abs(middles()[np.concatenate([y, y_test])] - np.concatenate([train, test])).max()
    assert near <= 0.5 * 8 / CELLS
