"""Column packing: the golden decoder finds every parameter and weight again, and nothing else."""

import random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from golden.column_stream import Column, column_stream, layer_columns
from golden.formats import ALIGN
from golden.tap_table import tap_table
from hdl.column_packing import column_stream as packed
from verif.chunks import LOOMS
from verif.columns import draw_layer, draw_place

LAYERS = 200


def dense(column: Column, layer: Any, chunk_bits: int, taps: int) -> list[NDArray[np.int64]]:
    """Return the weights [C, kh, kw] of each pass of a layer that a decoded column stands for."""
    chunks: list[dict[int, int]] = [{} for _ in range(taps)]
    for chunk in column.chunks:
        places = [place for place in range(chunk_bits) if chunk.mask >> place & 1]
        chunks[chunk.place] = dict(zip(places, chunk.weights, strict=True))
    found, at = [], 0
    for sweep in layer.passes:
        weight = np.zeros(sweep.weight.shape[1:], np.int64)
        for y, x in np.ndindex(weight.shape[1:]):
            for first in range(0, len(weight), chunk_bits):
                for place, value in chunks[at].items():
                    weight[first + place, y, x] = value
                at += 1
        found.append(weight)
    assert at == taps
    return found


@pytest.mark.parametrize("name", LOOMS)
def test_lossless(name: str, seed: int) -> None:
    """Parameters and weights survive, in the order of columns; chunks that are not there had no weights."""
    p, rng, seen = LOOMS[name], random.Random(seed), set()
    for _ in range(LAYERS):
        place, count = draw_place(rng, p), rng.randint(1, 9)
        layer, taps = draw_layer(rng, p, place, count), tap_table(place.passes, place.span_log2, p.chunk_bits)
        columns = layer_columns(packed(layer, p), count, taps, p.weight_bits)
        assert [c.bias for c in columns] == layer.bias.tolist()
        assert [c.threshold for c in columns] == layer.neuron.threshold.tolist()
        for number, column in enumerate(columns):
            for weight, sweep in zip(dense(column, layer, p.chunk_bits, len(taps)), layer.passes, strict=True):
                assert np.array_equal(weight, sweep.weight[number])
            seen.add((len(place.passes) > 1, any(not chunk.mask for chunk in column.chunks), len(column.chunks) < len(taps)))
    assert {(False, False, True), (False, True, True), (True, True, True)} <= seen


@pytest.mark.parametrize("name", LOOMS)
def test_chunks_that_are_there(name: str, seed: int) -> None:
    """A chunk without weights is there only where it ends the sums of a pass that would have no end without it."""
    p, rng = LOOMS[name], random.Random(seed)
    for _ in range(LAYERS):
        place = draw_place(rng, p, rng.randint(1, 3))
        layer, taps = draw_layer(rng, p, place, 5), tap_table(place.passes, place.span_log2, p.chunk_bits)
        for column in layer_columns(packed(layer, p), 5, taps, p.weight_bits):
            assert sum(chunk.last for chunk in column.chunks) == len(place.passes)
            for chunk in column.chunks:
                assert chunk.mask or (taps[chunk.place].end and (len(place.passes) > 1 or len(column.chunks) == 1))


@pytest.mark.parametrize("name", LOOMS)
def test_size(name: str, seed: int) -> None:
    """Even and odd columns have as many bytes; zeros follow the last column, less than 64 of them in the longer stream."""
    p, rng = LOOMS[name], random.Random(seed)
    for count in (1, 2, 5, 8, 9):
        place = draw_place(rng, p)
        layer, taps = draw_layer(rng, p, place, count), tap_table(place.passes, place.span_log2, p.chunk_bits)
        both, head, left = packed(layer, p), 8 + -(-len(taps) // 8), []
        for number, stream in enumerate((both[: len(both) // 2], both[len(both) // 2 :])):
            used = sum(head + sum(taps[c.place].bytes + -(-len(c.weights) * p.weight_bits // 8) for c in column.chunks)
                       for column in column_stream(stream, count, taps, p.weight_bits, number=number))
            assert len(stream) % ALIGN == 0 and not any(stream[used:])
            left.append(len(stream) - used)
            if used:
                with pytest.raises(IndexError, match="column stream: needs"):
                    column_stream(stream[: used - 1], count, taps, p.weight_bits, number=number)
        assert 0 <= min(left) < ALIGN


def test_changed_byte_is_seen(seed: int) -> None:
    """Each byte of a stream matters: the decoder finds other columns, or none, when a bit of it is turned."""
    p, rng = LOOMS["loom"], random.Random(seed)
    place = draw_place(rng, p, 2)
    layer, taps = draw_layer(rng, p, place, 3, density=0.5), tap_table(place.passes, place.span_log2, p.chunk_bits)
    stream = packed(layer, p)
    good, half = layer_columns(stream, 3, taps, p.weight_bits), len(stream) // 2
    used = [len(part.rstrip(b"\0")) for part in (stream[:half], stream[half:])]
    for at in (*range(used[0]), *range(half, half + used[1])):
        turned = stream[:at] + bytes([stream[at] ^ 1]) + stream[at + 1 :]
        try:
            assert layer_columns(turned, 3, taps, p.weight_bits) != good
        except IndexError:
            continue
