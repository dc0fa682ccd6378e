"""Memory image: an integer network as program, weight tiles and tensor regions. Lossless."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch, ParameterError, word_bits
from golden.fiber import mask_bytes, pack, slot_bytes
from golden.formats import (
    CURRENT_BYTES,
    FEATURES,
    HEADER_BYTES,
    LAYER,
    PASS,
    PLANE,
    PLANE_WORD,
    RECORD_BYTES,
    STATS_BYTES,
    TILE,
    align,
    seal,
)
from golden.formats import (
    pack as pack_record,
)

RESETS = {"hard": 0, "soft": 1, "soft_delayed": 2}
TILE_HEADER_BYTES = 64


@dataclass(frozen=True)
class Tensor:
    """Region of one tensor of words: masks, then slots."""

    channels: int
    height: int
    width: int
    word_log2: int
    masks: int
    values: int

    @property
    def mask_stride(self) -> int:
        """Bytes of one mask."""
        return mask_bytes(self.channels)

    @property
    def slot_stride(self) -> int:
        """Bytes of one slot."""
        return slot_bytes(self.channels, self.word_log2)

    @property
    def pixels(self) -> int:
        """Fibers."""
        return self.height * self.width


@dataclass(frozen=True)
class Currents:
    """Region of stored currents (``depth`` = steps) or of a read-out (``depth`` = 1): int32 [y][x][c][depth]."""

    channels: int
    height: int
    width: int
    depth: int
    base: int

    @property
    def stride(self) -> int:
        """Bytes of one pixel."""
        return self.channels * self.depth * CURRENT_BYTES

    @property
    def size(self) -> int:
        """Bytes of the region."""
        return self.height * self.width * self.stride


@dataclass
class LayerPlan:
    """What the builder decided for one layer."""

    name: str
    height: int
    width: int
    out_height: int
    out_width: int
    columns: int
    row_tiles: int
    column_tiles: int
    weight_bytes: int
    row_bytes_rows_outer: int
    order: str
    weights: tuple[int, int] = (0, 0)


@dataclass
class Image:
    """A network in memory. Offsets are relative to the base register.

    data : program and weights, from offset 0
    inputs : offset of the first image's input block; blocks follow each other every ``input_bytes``
    outputs : offset where regions written by the accelerator begin
    size : bytes of memory in all
    """

    data: bytes
    program_bytes: int
    inputs: int
    input_bytes: int
    outputs: int
    stats: int
    size: int
    input_tensors: dict[str, Tensor] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    currents: dict[str, Currents] = field(default_factory=dict)
    plans: list[LayerPlan] = field(default_factory=list)

    def input_block(self, words: dict[str, NDArray[np.int64]]) -> bytes:
        """Return one image's input block of operand words ``{"input.<j>": [C, H, W]}``."""
        block = bytearray(self.input_bytes)
        for name, tensor in self.input_tensors.items():
            masks, slots = pack(np.asarray(words[name]), tensor.word_log2)
            for base, part in ((tensor.masks, masks.tobytes()), (tensor.values, slots.tobytes())):
                block[base - self.inputs : base - self.inputs + len(part)] = part
        return bytes(block)


class _Allocator:
    def __init__(self, start: int) -> None:
        self.at = align(start)

    def take(self, size: int) -> int:
        base, self.at = self.at, align(self.at + size)
        return base

    def tensor(self, channels: int, height: int, width: int, word_log2: int) -> Tensor:
        pixels = height * width
        return Tensor(channels, height, width, word_log2, self.take(pixels * mask_bytes(channels)),
                      self.take(pixels * slot_bytes(channels, word_log2)))


def _log2(bits: int) -> int:
    return bits.bit_length() - 1


def _pack_weights(values: NDArray[np.int64], bits: int) -> bytes:
    packed = values & 255
    if bits == 4:
        nibbles = np.append(values & 15, np.zeros(len(values) % 2, np.int64)).reshape(-1, 2)
        packed = nibbles[:, 0] | nibbles[:, 1] << 4
    return bytes(packed.tolist())


def _column(layer: Any, column: int) -> tuple[bytes, NDArray[np.int64]]:
    masks, values = b"", [np.zeros(0, np.int64)]
    for sweep in layer.passes:
        taps = np.asarray(sweep.weight)[column].astype(np.int64).transpose(1, 2, 0)
        flat = taps.reshape(-1, taps.shape[-1])
        masks += np.packbits(flat != 0, axis=1, bitorder="little").tobytes()
        values.append(flat[flat != 0])
    return masks, np.concatenate(values)


def weight_tiles(layer: Any, arch: Arch) -> list[bytes]:
    """Return the layer's weight tiles: header, parameters, masks, values, each part at a multiple of 64 bytes.

    Raises `ParameterError` when one column does not fit half of the weight buffer.
    """
    columns = len(layer.bias)
    bias = np.asarray(layer.bias).astype("<i4")
    threshold = np.asarray(layer.neuron.threshold).astype("<i4") if layer.neuron else np.zeros(columns, "<i4")
    params = np.stack([bias, threshold], axis=1)
    parts = [_column(layer, n) for n in range(columns)]
    tiles, start = [], 0

    def size(count: int, masks: int, values: int) -> int:
        return (TILE_HEADER_BYTES + align(8 * count) + align(masks) + align(-(-values * arch.weight_bits // 8)))

    while start < columns:
        stop, masks, values = start, 0, 0
        while stop < columns:
            grown = (masks + len(parts[stop][0]), values + len(parts[stop][1]))
            if size(stop + 1 - start, *grown) > arch.weight_bytes:
                break
            (masks, values), stop = grown, stop + 1
        if stop == start:
            need = size(1, len(parts[start][0]), len(parts[start][1]))
            raise ParameterError(f"layer {layer.name}: column {start} needs {need} bytes of weight buffer, not "
                                 f"{arch.weight_bytes}; legal: at most weight_bytes; try: --preset loas")
        sections = [params[start:stop].tobytes(), b"".join(part[0] for part in parts[start:stop]),
                    _pack_weights(np.concatenate([part[1] for part in parts[start:stop]]), arch.weight_bits)]
        offsets, body = [], b""
        for section in sections:
            offsets.append(TILE_HEADER_BYTES + len(body))
            body += section.ljust(align(len(section)), b"\0")
        head = pack_record(TILE, TILE_HEADER_BYTES, {
            "bytes": TILE_HEADER_BYTES + len(body), "columns": stop - start, "masks": offsets[1], "values": offsets[2]})
        tiles.append(head + body)
        start = stop
    return tiles


def _pass_record(sweep: Any, tensor: Tensor, arch: Arch, is_input: bool) -> bytes:
    chunk = arch.chunk_bits
    kernel_height, kernel_width = sweep.weight.shape[2:]
    planes = list(sweep.planes)
    identity = all(p.shift == 0 and not p.negate and p.steps in ((), (b,)) for b, p in enumerate(planes))
    steps = sum(1 << b for b, plane in enumerate(planes) if plane.steps)
    record = bytearray(pack_record(PASS, RECORD_BYTES, {
        "masks": tensor.masks, "mask_stride": tensor.mask_stride, "values": tensor.values,
        "slot_stride": tensor.slot_stride, "height": tensor.height, "width": tensor.width,
        "kernel_height": kernel_height, "kernel_width": kernel_width, "stride": sweep.stride,
        "padding": sweep.padding, "input": int(is_input), "identity": int(identity),
        "tap_chunks": -(-tensor.channels // chunk),
        "last_bytes": mask_bytes(tensor.channels) - (-(-tensor.channels // chunk) - 1) * (chunk // 8),
        "planes": len(planes), "steps": steps}))
    for bit, plane in enumerate(planes):
        at = 4 * (PLANE_WORD + bit)
        record[at : at + 4] = pack_record(PLANE, 4, {
            "steps": sum(1 << t for t in plane.steps), "shift": plane.shift, "negate": int(plane.negate)})
    return bytes(record)


def build_image(network: Any, arch: Arch) -> Image:
    """Return the memory image of an integer network (`golden.network.Network`) for one build.

    Raises `ParameterError` when a layer does not fit the build.
    """
    steps, spec = network.steps, network.input
    spike_log2 = _log2(word_bits(steps))
    records = sum(1 + len(layer.passes) for layer in network.layers)
    program_bytes = HEADER_BYTES + RECORD_BYTES * records
    space = _Allocator(program_bytes)
    tiles = {layer.name: weight_tiles(layer, arch) for layer in network.layers}
    weights_at = {name: space.take(sum(map(len, parts))) for name, parts in tiles.items()}
    data_end = space.at

    inputs = space.at
    binary = spec.kind == "steps" and spec.bits == 1
    input_log2 = spike_log2 if binary else _log2(word_bits(spec.plane_bits))
    names = dict.fromkeys(s.source for layer in network.layers for s in layer.passes if s.source.startswith("input."))
    tensors = {name: space.tensor(spec.channels, spec.height, spec.width, input_log2) for name in names}
    input_tensors = dict(tensors)
    input_bytes = space.at - inputs
    outputs = space.at

    currents: dict[str, Currents] = {}
    body, plans, largest = b"", [], {"chunks": 0, "row_lines": 0, "weight_bytes": 0, "pool_channels": 0}
    stats = space.take(STATS_BYTES * len(network.layers))
    for layer in network.layers:
        columns = len(layer.bias)
        _check_pools(layer)
        sources = [tensors[sweep.source] for sweep in layer.passes]
        if layer.passes:
            height, width = _map(layer.passes[0], sources[0])
        else:
            before = currents[layer.residual]
            height, width = before.height, before.width
        pool = layer.max_pool or layer.or_pool
        out_height, out_width = height, width
        if layer.max_pool or layer.or_pool:
            out_height, out_width = ((n + 2 * pool.padding - pool.kernel) // pool.stride + 1 for n in (height, width))
        if layer.max_pool:
            height, width = out_height, out_width
        logs = {tensor.word_log2 for tensor in sources} or {0}
        if len(logs) != 1:
            raise ParameterError(f"layer {layer.name}: passes read words of {sorted(1 << n for n in logs)} bits; "
                                 "legal: one width per layer")
        fields = {
            "passes": len(layer.passes), "steps": steps, "min_spikes": layer.min_spikes, "word_log2": spike_log2,
            "operand_log2": logs.pop(), "height": height, "width": width, "out_height": out_height,
            "out_width": out_width, "columns": columns,
            "chunks": sum(t.channels and s.weight.shape[2] * s.weight.shape[3] * -(-t.channels // arch.chunk_bits)
                          for s, t in zip(layer.passes, sources, strict=True)),
            "pool_kernel": pool.kernel if pool else 1, "pool_stride": pool.stride if pool else 1,
            "pool_padding": pool.padding if pool else 0,
            "column_tiles": len(tiles[layer.name]), "row_tiles": -(-out_height * out_width // arch.lanes),
            "weights": weights_at[layer.name],
            "store_currents": int(layer.store_currents), "readout": int(layer.readout),
            "max_pool": int(layer.max_pool is not None), "or_pool": int(layer.or_pool is not None),
        }
        if layer.neuron:
            neuron = layer.neuron
            out = tensors[layer.name] = space.tensor(columns, out_height, out_width, spike_log2)
            fields |= {
                "neuron": 1, "decay_input": int(neuron.decay_input), "strict": int(neuron.compare == ">"),
                "reset": RESETS[neuron.reset], "leak_shift": neuron.leak_shift, "out_masks": out.masks,
                "out_mask_stride": out.mask_stride, "out_values": out.values, "out_slot_stride": out.slot_stride}
        if layer.store_currents or layer.readout:
            depth = steps if layer.store_currents else 1
            size = out_height * out_width * columns * depth * CURRENT_BYTES
            region = currents[layer.name] = Currents(columns, out_height, out_width, depth, space.take(size))
            fields |= {"currents": region.base, "current_stride": region.stride}
        if layer.residual:
            region = currents[layer.residual]
            fields |= {"residual": 1, "residual_base": region.base, "residual_stride": region.stride,
                       "residual_height": region.height, "residual_width": region.width}
        body += pack_record(LAYER, RECORD_BYTES, fields)
        for sweep, tensor in zip(layer.passes, sources, strict=True):
            body += _pass_record(sweep, tensor, arch, sweep.source in input_tensors)
        row_bits = sum(t.channels * s.weight.shape[2] * s.weight.shape[3] << t.word_log2
                       for s, t in zip(layer.passes, sources, strict=True))
        weight_bytes = sum(map(len, tiles[layer.name]))
        _grow(largest, chunks=fields["chunks"], row_lines=-(-row_bits // arch.chunk_bits),
              weight_bytes=max(map(len, tiles[layer.name])), pool_channels=columns if layer.or_pool else 0)
        _check(layer.name, fields["chunks"], arch.max_chunks, "row chunks", "max_chunks")
        _check(layer.name, row_bits, arch.row_value_bits, "bits of row words", "row_value_lines x chunk_bits")
        _check(layer.name, largest["pool_channels"], arch.pool_channels, "pooled channels", "pool_channels")
        _check(layer.name, steps, arch.t_max, "timesteps", "t_max")
        plans.append(LayerPlan(layer.name, height, width, out_height, out_width, columns, fields["row_tiles"],
                               fields["column_tiles"], weight_bytes, row_bits // 8 * out_height * out_width, "rows",
                               (weights_at[layer.name], weight_bytes)))
    features = sum(1 << FEATURES["leak_1m2k"] for layer in network.layers[:1]
                   if any(n.neuron and n.neuron.leak == "1-2^-k" for n in network.layers))
    program = seal(body, {"layers": len(network.layers), "chunk_bits": arch.chunk_bits, "t_max": steps,
                          "weight_bits": arch.weight_bits, "lanes": arch.lanes, "acc_bits": arch.acc_bits,
                          "stream_bits": arch.stream_bits, "membrane_bits": arch.membrane_bits,
                          "features": features, **largest})
    data = bytearray(data_end)
    data[: len(program)] = program
    for name, parts in tiles.items():
        joined = b"".join(parts)
        data[weights_at[name] : weights_at[name] + len(joined)] = joined
    return Image(bytes(data), program_bytes, inputs, input_bytes, outputs, stats, space.at, input_tensors,
                 {name: t for name, t in tensors.items() if name not in input_tensors}, currents, plans)


def _map(sweep: Any, tensor: Tensor) -> tuple[int, int]:
    return ((tensor.height + 2 * sweep.padding - sweep.weight.shape[2]) // sweep.stride + 1,
            (tensor.width + 2 * sweep.padding - sweep.weight.shape[3]) // sweep.stride + 1)


def _grow(largest: dict[str, int], **values: int) -> None:
    for name, value in values.items():
        largest[name] = max(largest[name], value)


def _check_pools(layer: Any) -> None:
    if layer.or_pool and (layer.residual or layer.store_currents):
        raise ParameterError(f"layer {layer.name}: OR-pool must not be with stored currents, not {layer.or_pool}; "
                             "legal: a layer of its own behind it")
    if layer.max_pool and (layer.passes or np.asarray(layer.bias).any() or not layer.residual):
        raise ParameterError(f"layer {layer.name}: signed max-pool must be alone on stored currents, not with passes "
                             "or a bias; legal: a layer of its own behind them")


def _check(layer: str, need: int, limit: int, what: str, field_name: str) -> None:
    if need > limit:
        raise ParameterError(f"layer {layer}: needs {need} {what}, not more than {limit}; legal: {field_name} of the "
                             "build; try: a preset with larger limits")
