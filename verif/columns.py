"""Random layers for the column side of the loom: passes in row slots, weights, and the stream that is made of them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch
from verif.chunks import DENSITIES, draw_weights

PARAMETERS = (0, -1, -(1 << 31), (1 << 31) - 1)


@dataclass(frozen=True)
class Place:
    """Passes as descriptor fields, the channels of each, and log2 of the slots of a row."""

    passes: Sequence[dict[str, int]]
    channels: Sequence[int]
    span_log2: int

    @property
    def chunks(self) -> int:
        """Chunks of a row."""
        return sum(s["kernel_height"] * s["kernel_width"] * s["tap_chunks"] for s in self.passes)


def draw_place(rng: random.Random, p: Arch, count: int | None = None) -> Place:
    """Return 0 to 4 passes (or ``count``) whose chunks and lines fit the slots of a row."""
    while True:
        span_log2, passes, channels, chunk, line = rng.randrange(p.rows.bit_length()), [], [], 0, 0
        for _ in range(rng.choice((0, 1, 1, 2, 3, 4)) if count is None else count):
            height, width = rng.choice(((1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 3), (5, 1)))
            size = rng.choice((1, 7, 8, 9, p.chunk_bits - 1, p.chunk_bits, p.chunk_bits + 1, 2 * p.chunk_bits + 9))
            tap_chunks, lines = -(-size // p.chunk_bits), rng.randint(0, 3)
            passes.append({
                "kernel_height": height, "kernel_width": width, "tap_chunks": tap_chunks,
                "last_bytes": -(-size // 8) - (tap_chunks - 1) * p.chunk_bits // 8,
                "chunk_base": chunk, "line_base": line, "tap_lines": lines})
            channels.append(size)
            taps = (height + (1 << span_log2) - 1 >> span_log2) * width
            chunk, line = chunk + taps * tap_chunks, line + taps * lines
        place = Place(passes, channels, span_log2)
        if chunk <= p.slot_chunks and line < p.slot_lines and place.chunks <= p.max_chunks:
            return place


def draw_layer(rng: random.Random, p: Arch, place: Place, columns: int, density: float | None = None) -> Any:
    """Return a `golden.network.Layer` as far as packing reads it: weights of ``density``, or of every one, column by column.

    Some columns, and some chunks of others, have no weights.
    """
    passes: list[Any] = []
    for fields, channels in zip(place.passes, place.channels, strict=True):
        shape = (columns, channels, fields["kernel_height"], fields["kernel_width"])
        passes.append(SimpleNamespace(weight=np.zeros(shape, np.int8)))
    for column in range(columns):
        often = rng.choice((0.0, *DENSITIES)) if density is None else density
        for sweep in passes:
            chosen: NDArray[np.int8] = sweep.weight[column]
            for y, x in np.ndindex(chosen.shape[1:]):
                for at in range(0, len(chosen), p.chunk_bits):
                    if density is not None or rng.random() < 0.7:
                        chosen[at : at + p.chunk_bits, y, x] = _chunk(rng, p, len(chosen[at : at + p.chunk_bits]), often)
    bias, threshold = (np.array([rng.choice((*PARAMETERS, rng.randint(-999, 999))) for _ in range(columns)])
                       for _ in range(2))
    return SimpleNamespace(name="random", passes=tuple(passes), bias=bias, neuron=SimpleNamespace(threshold=threshold),
                           requantise=None)


def _chunk(rng: random.Random, p: Arch, size: int, density: float) -> list[int]:
    return [weight if rng.random() < density else 0 for weight in draw_weights(rng, p.weight_bits, size)]
