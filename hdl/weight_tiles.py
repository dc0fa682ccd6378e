"""Weight tiles: the columns of a layer cut to fit half of the weight buffer."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch, ParameterError
from golden.formats import SCALE, TILE, TILE_HEADER_BYTES, align, tile_bytes
from golden.formats import pack as pack_record
from golden.kept_taps import kept_taps

Column = tuple[bytes, NDArray[np.int64]]


def packed_columns(layer: Any, skip: bool = False) -> list[Column]:
    """Return (mask bytes, non-zero weights) of every output channel of a `golden.network.Layer`; ``skip``: see `kept_taps`."""
    kept = [kept_taps(sweep.weight, skip) for sweep in layer.passes]
    return [_column(layer, n, kept) for n in range(len(layer.bias))]


def weight_tiles(layer: Any, arch: Arch, columns: list[Column], start: int = 0, stop: int | None = None) -> list[bytes]:
    """Return the weight tiles of channels ``start`` to ``stop``: header, parameters, masks, values.

    columns : `packed_columns` of the layer; each part of a tile begins at a multiple of 64 bytes
    Raises `ParameterError` when one column does not fit half of the weight buffer.
    """
    stop, tiles = len(columns) if stop is None else stop, []
    params = np.stack([np.asarray(layer.bias).astype("<i4"), column_parameters(layer)], axis=1)
    while start < stop:
        end = _reach(layer, arch, columns, start, stop)
        sections = [params[start:end].tobytes(), b"".join(masks for masks, _ in columns[start:end]),
                    pack_weights(np.concatenate([values for _, values in columns[start:end]]), arch.weight_bits)]
        offsets, body = [], b""
        for section in sections:
            offsets.append(TILE_HEADER_BYTES + len(body))
            body += section.ljust(align(len(section)), b"\0")
        head = pack_record(TILE, TILE_HEADER_BYTES, {
            "bytes": TILE_HEADER_BYTES + len(body), "columns": end - start, "masks": offsets[1], "values": offsets[2]})
        tiles.append(head + body)
        start = end
    return tiles


def column_parameters(layer: Any) -> NDArray[np.int32]:
    """Return int32 [N], the word beside each bias: a threshold, a requantiser's factor, or 0."""
    if layer.requantise:
        scale = np.zeros(len(layer.bias), "<i4")
        for field in SCALE:
            scale |= np.asarray(getattr(layer.requantise, field.name)).astype("<i4") << field.lsb
        return scale
    neuron = layer.neuron or layer.ttfs
    return np.asarray(neuron.threshold).astype("<i4") if neuron else np.zeros(len(layer.bias), "<i4")


def _reach(layer: Any, arch: Arch, columns: list[Column], start: int, stop: int) -> int:
    """Return the end of the longest tile from ``start`` on."""
    masks = values = 0
    for end in range(start, stop):
        masks, values = masks + len(columns[end][0]), values + len(columns[end][1])
        size = tile_bytes(end + 1 - start, masks, values, arch.weight_bits)
        if size > arch.weight_bytes:
            if end == start:
                raise ParameterError(f"layer {layer.name}: column {start} needs {size} bytes of weight buffer, not "
                                     f"{arch.weight_bytes}; legal: at most weight_bytes; try: --preset loas")
            return end
    return stop


def pack_weights(values: NDArray[np.int64], bits: int) -> bytes:
    """Return signed weights of 4 or 8 bits in whole bytes, the first one in the low bits."""
    packed = values & 255
    if bits == 4:
        nibbles = np.append(values & 15, np.zeros(len(values) % 2, np.int64)).reshape(-1, 2)
        packed = nibbles[:, 0] | nibbles[:, 1] << 4
    return bytes(packed.tolist())


def _column(layer: Any, column: int, kept: list[NDArray[np.bool_]]) -> tuple[bytes, NDArray[np.int64]]:
    masks, values = b"", [np.zeros(0, np.int64)]
    for sweep, taken in zip(layer.passes, kept, strict=True):
        taps = np.asarray(sweep.weight)[column].astype(np.int64).transpose(1, 2, 0)
        flat = taps.reshape(-1, taps.shape[-1])[taken]
        masks += np.packbits(flat != 0, axis=1, bitorder="little").tobytes()
        values.append(flat[flat != 0])
    return masks, np.concatenate(values)
