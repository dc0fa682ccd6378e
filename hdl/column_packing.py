"""Column stream of a layer for the loom: the bytes that `hdl.column_stream` reads."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch
from golden.formats import align
from hdl.weight_tiles import column_parameters, pack_weights


def column_stream(layer: Any, arch: Arch, start: int = 0, stop: int | None = None) -> bytes:
    """Return columns ``start`` to ``stop`` of a `golden.network.Layer`, by default all: the even ones, then the odd ones.

    A column is bias, threshold, one bit per chunk, and its chunks.

    A chunk is its mask and its weights, each in whole bytes; chunks without weights are left out and their bit is 0. Each
    pass has at least one chunk, so the last chunk of a pass is there even when it is empty, unless the layer has one pass
    and the column another chunk. Both streams have the size of the longer one, a multiple of 64 bytes.
    """
    single = len(layer.passes) == 1
    heads = np.stack([np.asarray(layer.bias).astype("<i4"), column_parameters(layer)], axis=1)
    cut = [_chunks(np.asarray(sweep.weight), arch.chunk_bits) for sweep in layer.passes]
    streams: list[list[bytes]] = [[], []]
    for column in range(start, len(heads) if stop is None else stop):
        chunks = [(chunk, number == len(sweep[column]) - 1) for sweep in cut for number, chunk in enumerate(sweep[column])]
        full = [bool(chunk.any()) for chunk, _ in chunks]
        there = np.array([some or (end and not (single and any(full)))
                          for some, (_, end) in zip(full, chunks, strict=True)], bool)
        parts = streams[(column - start) % 2]
        parts += [heads[column].tobytes(), np.packbits(there, bitorder="little").tobytes()]
        for (chunk, _), kept in zip(chunks, there, strict=True):
            if kept:
                parts += [np.packbits(chunk != 0, bitorder="little").tobytes(),
                          pack_weights(chunk[chunk != 0], arch.weight_bits)]
    joined = [b"".join(parts) for parts in streams]
    return b"".join(stream.ljust(align(max(map(len, joined))), b"\0") for stream in joined)


def _chunks(weight: NDArray[np.integer], bits: int) -> list[list[NDArray[np.int64]]]:
    """Return the chunks of every column of weights [N, C, kh, kw]: taps (ky, kx), each cut into ``bits`` channels."""
    taps = weight.astype(np.int64).transpose(0, 2, 3, 1).reshape(len(weight), -1, weight.shape[1])
    return [[tap[at : at + bits] for tap in column for at in range(0, len(tap), bits)] for column in taps]
