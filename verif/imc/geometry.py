"""Random tiles and weights for the benches of the IMC tile."""

import random

import numpy as np
from numpy.typing import NDArray

from golden.arch import ParameterError
from golden.imc.arch import SCHEMES, ImcArch
from golden.imc.cells import weight_range


def random_arch(rng: random.Random, scheme: str | None = None, *, rows: int = 16, cell_bits: int | None = None) -> ImcArch:
    """Return a small tile on which a scheme (or any) stores at least one output; its converters tell all values apart."""
    while True:
        cols, mux = rng.choice((8, 12, 16, 24, 32)), rng.choice((1, 2, 4, 8))
        height, group = rng.choice([n for n in (2, 6, 8, 16, 64) if n <= rows]), rng.choice((1, 2, 4, 8, 16, 64))
        cell = cell_bits or rng.randint(1, 4)
        lossless = (group * ((1 << cell) - 1)).bit_length()
        try:
            return ImcArch(rows=height, cols=cols, mux=mux, group_rows=group, cell_bits=cell, weight_bits=rng.randint(2, 8),
                           adc_bits=lossless, flash_bits=min(6, lossless), input_bits=rng.randint(1, 8),
                           scheme=scheme or rng.choice(SCHEMES))
        except ParameterError:
            continue


def random_weights(rng: random.Random, arch: ImcArch, scheme: str, *, full: bool = False) -> NDArray[np.int64]:
    """Return weights [outputs, inputs] that the tile holds, its extremes among them; ``full``: as many as it holds."""
    low, high = weight_range(arch, scheme)
    outputs = arch.outputs(scheme) if full else rng.randint(1, arch.outputs(scheme))
    inputs = arch.rows if full else rng.randint(1, arch.rows)
    values = rng.choice(((low, high), (low, 0, high), range(low, high + 1), range(low, high + 1)))
    return np.asarray([[rng.choice(values) for _ in range(inputs)] for _ in range(outputs)], dtype=np.int64)
