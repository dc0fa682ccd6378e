"""Noise of the macro: draws keyed by coordinates, the same whatever their order and wherever they are computed.

The recurrence, modulo 2^64 with logical shifts, for a seed and the coordinates ``c[0]``, ``c[1]``, ... (the first is the
kind of the draw, how many follow is fixed for each kind, `Kind`)::

    mix(z):  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
             z = (z ^ (z >> 27)) * 0x94d049bb133111eb
             return z ^ (z >> 31)
    h = seed
    for each c:  h = mix(h + 0x9e3779b97f4a7c15 * (c + 1))

A uniform draw is the top bits of h. A Gaussian draw is `QUANTILES` at bits 62 to 52 of h, negated where bit 63 is 1.

Source: Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014, section 3 (SplitMix64: the mix and
the increment); imc 1.2, keyed by coordinates.
"""

from enum import IntEnum
from statistics import NormalDist
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from golden.network import Array

# Fraction bits of a Gaussian draw, and bits of h that choose its size.
FRACTION_BITS = 12
QUANTILE_BITS = 11
# Smallest power of two above all draws, in standard deviations: the table ends at 3.67.
REACH = 4
GAMMA = 0x9E3779B97F4A7C15
# The shifts and factors of the mix.
ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))


class Kind(IntEnum):
    """What a draw is for, and the coordinates that follow."""

    PROPORTIONAL = 0    # tile, write, row, column
    INDEPENDENT = 1     # tile, write, row, column
    STUCK = 2           # tile, row, column
    DRIFT = 3           # tile, write, row, column
    OFFSET = 4          # bank, adc
    CAPACITOR = 5       # bank, adc, bit
    READ = 6            # tile, image, phase, column
    COMPARE = 7         # tile, image, phase, column, conversion, trial code
    VERIFY = 8          # tile, row, column, occasion
    SWITCH = 9          # tile, row, column
    PULSE = 10          # tile, row, column, pulse


def _quantiles() -> tuple[int, ...]:
    parts = 2 << QUANTILE_BITS
    middles = ((parts + 2 * n + 1) / (2 * parts) for n in range(parts // 2))
    return tuple(round(NormalDist().inv_cdf(middle) * (1 << FRACTION_BITS)) for middle in middles)


# The middles of the upper 2^QUANTILE_BITS of 2^(QUANTILE_BITS + 1) equally likely parts of the normal distribution.
QUANTILES = _quantiles()
_TABLE = np.asarray(QUANTILES, dtype=np.int64)


def _signed(word: int) -> int:
    """Return the int64 with the bits of a word below 2^64."""
    return word - (word >> 63 << 64)


def _logical(z: Array, shift: int) -> Array:
    """Return int64 ``z`` shifted right with zeros from the left; ``shift`` in 1..63."""
    return (z >> shift) & ((1 << 64 - shift) - 1)


def draw(seed: int, kind: Kind, *coordinates: Any) -> Array:
    """Return int64 words whose 64 bits are h of the recurrence, in the broadcast shape of the coordinates.

    seed : in 0..2^63 - 1
    coordinates : int64 arrays or integers of at least 0 that broadcast, one of them an array, which says which library computes

    Products wrap: int64 arrays, unlike scalars, do so in silence, so nothing here is ever without a dimension.
    """
    xp = array_namespace(*coordinates)
    shape = np.broadcast_shapes(*(tuple(getattr(c, "shape", ())) for c in coordinates))
    h = xp.asarray([seed], dtype=xp.int64)
    for coordinate in (int(kind), *coordinates):
        c = xp.asarray(coordinate, dtype=xp.int64)
        h = h + (xp.reshape(c, (1,)) if c.ndim == 0 else c) * _signed(GAMMA) + _signed(GAMMA)
        for shift, factor in ROUNDS:
            h = (h ^ _logical(h, shift)) * _signed(factor)
    return xp.reshape(h, shape)


def uniform(seed: int, kind: Kind, *coordinates: Any, bits: int) -> Array:
    """Return int64 draws in ``0..2^bits - 1``, all equally likely; ``bits`` in 1..63."""
    return _logical(draw(seed, kind, *coordinates), 64 - bits)


def gaussian(seed: int, kind: Kind, *coordinates: Any, scale: int) -> Array:
    """Return int64 draws of a normal distribution of mean 0 and standard deviation ``scale``, rounded half up.

    scale : below 2^49, so that ``REACH * scale * 2^FRACTION_BITS`` is below 2^63

    ``(z * scale + 2^(FRACTION_BITS - 1)) >> FRACTION_BITS`` with z the Gaussian draw. The table ends at 3.67 standard
    deviations, the standard deviation of z is 0.9998, its kurtosis 2.99.
    """
    h = draw(seed, kind, *coordinates)
    xp = array_namespace(h)
    size = xp.take(xp.asarray(_TABLE), xp.reshape(_logical(h, 63 - QUANTILE_BITS) & ((1 << QUANTILE_BITS) - 1), (-1,)))
    z = xp.where(h < 0, -xp.reshape(size, h.shape), xp.reshape(size, h.shape))
    return (z * scale + (1 << FRACTION_BITS - 1)) >> FRACTION_BITS
