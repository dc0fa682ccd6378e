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
    align,
    seal,
)
from golden.formats import (
    pack as pack_record,
)
from hdl.loop_order import Part, loop_order

RESETS = {"hard": 0, "soft": 1, "soft_delayed": 2}


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


@dataclass(kw_only=True)
class LayerPlan:
    """What the builder decided for one layer.

    height, width : map before an OR-pool; out_height, out_width : after it
    order, parts : see `hdl.loop_order.LoopOrder`; each part has a descriptor of its own
    moved : most bytes of weights and rows that each legal loop order reads
    record : number of the first part's descriptor; weights : offset and bytes of all tiles
    """

    name: str
    height: int
    width: int
    out_height: int
    out_width: int
    columns: int
    chunks: int
    operand_log2: int
    row_tiles: int
    order: str
    parts: tuple[Part, ...]
    moved: dict[str, int]
    record: int = 0
    weights: tuple[int, int] = (0, 0)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weight tiles."""
        return sum(len(tile) for part in self.parts for tile in part.tiles)

    @property
    def column_tiles(self) -> int:
        """Weight tiles of all parts."""
        return sum(len(part.tiles) for part in self.parts)


@dataclass
class Image:
    """A network in memory. Offsets are relative to the base register.

    data : program and weights, from offset 0
    inputs : offset of the first image's input block; blocks follow each other every ``input_bytes``
    outputs : offset where regions written by the accelerator begin
    stats : offset of the counter records, one per descriptor
    records : layer descriptors
    size : bytes of memory in all
    """

    data: bytes
    program_bytes: int
    inputs: int
    input_bytes: int
    outputs: int
    stats: int
    records: int
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

    def tensor(self, shape: "_Shape") -> Tensor:
        pixels = shape.height * shape.width
        return Tensor(shape.channels, shape.height, shape.width, shape.word_log2,
                      self.take(pixels * mask_bytes(shape.channels)),
                      self.take(pixels * slot_bytes(shape.channels, shape.word_log2)))


@dataclass(frozen=True)
class _Shape:
    """Operand words before they have a place."""

    channels: int
    height: int
    width: int
    word_log2: int


def _log2(bits: int) -> int:
    return bits.bit_length() - 1


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


def build_image(network: Any, arch: Arch, order: str | None = None) -> Image:
    """Return the memory image of an integer network (`golden.network.Network`) for one build.

    order : loop order of every layer where it is legal, ``"rows"`` or ``"columns"``; None takes the better one
    Raises `ParameterError` when a layer does not fit the build.
    """
    return _Builder(network, arch, order).build()


class _Builder:
    """Plans the layers, places their regions, and writes the descriptors."""

    def __init__(self, network: Any, arch: Arch, order: str | None) -> None:
        self.network, self.arch, self.order = network, arch, order
        self.spike_log2 = _log2(word_bits(network.steps))
        self.tensors: dict[str, Tensor] = {}
        self.currents: dict[str, Currents] = {}
        self.most = dict.fromkeys(("chunks", "row_lines", "weight_bytes", "pool_channels", "resume_tiles"), 0)

    def build(self) -> Image:
        network, arch, spec = self.network, self.arch, self.network.input
        binary = spec.kind == "steps" and spec.bits == 1
        input_log2 = self.spike_log2 if binary else _log2(word_bits(spec.plane_bits))
        names = dict.fromkeys(s.source for layer in network.layers for s in layer.passes if s.source.startswith("input."))
        shapes: dict[str, _Shape] = {name: _Shape(spec.channels, spec.height, spec.width, input_log2) for name in names}
        plans: list[LayerPlan] = []
        for layer in network.layers:
            plan = self._plan(layer, [shapes[sweep.source] for sweep in layer.passes], plans)
            plans.append(plan)
            shapes[layer.name] = _Shape(plan.columns, plan.out_height, plan.out_width, self.spike_log2)

        records = sum(len(plan.parts) for plan in plans)
        passes = sum(len(layer.passes) * len(plan.parts) for layer, plan in zip(network.layers, plans, strict=True))
        program_bytes = HEADER_BYTES + RECORD_BYTES * (records + passes)
        space = _Allocator(program_bytes)
        for plan in plans:
            plan.weights = (space.take(plan.weight_bytes), plan.weight_bytes)
        data_end = inputs = space.at
        self.tensors = {name: space.tensor(shapes[name]) for name in names}
        input_tensors, outputs = dict(self.tensors), space.at
        stats = space.take(STATS_BYTES * records)
        body, record = b"", 0
        for layer, plan in zip(network.layers, plans, strict=True):
            self._place(layer, plan, space)
            plan.record, record = record, record + len(plan.parts)
            body += self._descriptors(layer, plan, input_tensors)

        features = sum(1 << FEATURES["leak_1m2k"] for layer in network.layers[:1]
                       if any(n.neuron and n.neuron.leak == "1-2^-k" for n in network.layers))
        program = seal(body, {"layers": records, "chunk_bits": arch.chunk_bits, "t_max": network.steps,
                              "weight_bits": arch.weight_bits, "lanes": arch.lanes, "acc_bits": arch.acc_bits,
                              "stream_bits": arch.stream_bits, "membrane_bits": arch.membrane_bits,
                              "features": features, **self.most})
        data = bytearray(data_end)
        data[: len(program)] = program
        for plan in plans:
            joined = b"".join(tile for part in plan.parts for tile in part.tiles)
            data[plan.weights[0] : plan.weights[0] + len(joined)] = joined
        spikes = {name: tensor for name, tensor in self.tensors.items() if name not in input_tensors}
        return Image(bytes(data), program_bytes, inputs, outputs - inputs, outputs, stats, records, space.at,
                     input_tensors, spikes, self.currents, plans)

    def _plan(self, layer: Any, sources: list["_Shape"], before: list[LayerPlan]) -> LayerPlan:
        """Return sizes and loop order of a layer; raise `ParameterError` when it does not fit."""
        arch, columns = self.arch, len(layer.bias)
        _check_pools(layer)
        if layer.passes:
            height, width = _map(layer.passes[0], sources[0])
        else:
            height, width = next((p.out_height, p.out_width) for p in before if p.name == layer.residual)
        pool = layer.max_pool or layer.or_pool
        out_height, out_width = height, width
        if pool:
            out_height, out_width = ((n + 2 * pool.padding - pool.kernel) // pool.stride + 1 for n in (height, width))
        if layer.max_pool:
            height, width = out_height, out_width
        logs = {source.word_log2 for source in sources} or {0}
        if len(logs) != 1:
            raise ParameterError(f"layer {layer.name}: passes read words of {sorted(1 << n for n in logs)} bits; "
                                 "legal: one width per layer")
        taps = [sweep.weight.shape[2] * sweep.weight.shape[3] for sweep in layer.passes]
        row_bits = sum(n * s.channels << s.word_log2 for n, s in zip(taps, sources, strict=True))
        mask_row = sum(n * mask_bytes(s.channels) for n, s in zip(taps, sources, strict=True))
        members = pool.kernel ** 2 if layer.or_pool else 1
        row_tiles = -(-out_height * out_width // arch.lanes)
        slot = slot_bytes(columns, self.spike_log2)
        order = loop_order(layer, arch, visits=row_tiles * members, force=self.order,
                           row_bytes=out_height * out_width * members * (mask_row + -(-row_bits // 8)),
                           resumable=layer.neuron is None or (row_tiles <= arch.resume_tiles and slot < 1 << 16))
        plan = LayerPlan(
            name=layer.name, height=height, width=width, out_height=out_height, out_width=out_width, columns=columns,
            chunks=sum(n * -(-s.channels // arch.chunk_bits) for n, s in zip(taps, sources, strict=True)),
            operand_log2=logs.pop(), row_tiles=row_tiles, order=order.name, parts=order.parts, moved=order.moved)
        resumes = layer.neuron is not None and len(order.parts) > 1
        for name, need, limit, what, legal in (
                ("chunks", plan.chunks, arch.max_chunks, "row chunks", "max_chunks"),
                ("row_lines", -(-row_bits // arch.chunk_bits), arch.row_value_lines, "lines of row words", "row_value_lines"),
                ("weight_bytes", max(len(tile) for part in order.parts for tile in part.tiles), arch.weight_bytes,
                 "bytes of a weight tile", "weight_bytes"),
                ("pool_channels", columns if layer.or_pool else 0, arch.pool_channels, "pooled channels", "pool_channels"),
                ("resume_tiles", row_tiles if resumes else 0, arch.resume_tiles, "open row tiles", "resume_tiles")):
            _check(layer.name, need, limit, what, legal)
            self.most[name] = max(self.most[name], need)
        _check(layer.name, self.network.steps, arch.t_max, "timesteps", "t_max")
        return plan

    def _place(self, layer: Any, plan: LayerPlan, space: _Allocator) -> None:
        if layer.neuron:
            self.tensors[layer.name] = space.tensor(
                _Shape(plan.columns, plan.out_height, plan.out_width, self.spike_log2))
        if layer.store_currents or layer.readout:
            depth = self.network.steps if layer.store_currents else 1
            size = plan.out_height * plan.out_width * plan.columns * depth * CURRENT_BYTES
            self.currents[layer.name] = Currents(plan.columns, plan.out_height, plan.out_width, depth, space.take(size))

    def _descriptors(self, layer: Any, plan: LayerPlan, inputs: dict[str, Tensor]) -> bytes:
        steps, pool = self.network.steps, layer.max_pool or layer.or_pool
        fields = {
            "passes": len(layer.passes), "steps": steps, "min_spikes": layer.min_spikes, "word_log2": self.spike_log2,
            "operand_log2": plan.operand_log2, "height": plan.height, "width": plan.width,
            "out_height": plan.out_height, "out_width": plan.out_width, "chunks": plan.chunks,
            "pool_kernel": pool.kernel if pool else 1, "pool_stride": pool.stride if pool else 1,
            "pool_padding": pool.padding if pool else 0, "row_tiles": plan.row_tiles,
            "store_currents": int(layer.store_currents), "readout": int(layer.readout),
            "max_pool": int(layer.max_pool is not None), "or_pool": int(layer.or_pool is not None),
        }
        if layer.neuron:
            neuron = layer.neuron
            fields |= {"neuron": 1, "decay_input": int(neuron.decay_input), "strict": int(neuron.compare == ">"),
                       "reset": RESETS[neuron.reset], "leak_shift": neuron.leak_shift}
        if layer.residual:
            region = self.currents[layer.residual]
            fields |= {"residual": 1, "residual_stride": region.stride,
                       "residual_height": region.height, "residual_width": region.width}
        sweeps = b"".join(_pass_record(sweep, self.tensors[sweep.source], self.arch, sweep.source in inputs)
                          for sweep in layer.passes)
        body, weights = b"", plan.weights[0]
        for part in plan.parts:
            own = {"columns": part.stop - part.start, "column_tiles": len(part.tiles), "weights": weights}
            weights += sum(map(len, part.tiles))
            if layer.neuron:
                out = self.tensors[layer.name]
                own |= {"resume": int(part.start > 0), "out_masks": out.masks + part.start // 8,
                        "out_mask_stride": out.mask_stride, "out_values": out.values, "out_slot_stride": out.slot_stride}
            if layer.store_currents or layer.readout:
                region = self.currents[layer.name]
                own |= {"currents": region.base + part.start * region.depth * CURRENT_BYTES,
                        "current_stride": region.stride}
            if layer.residual:
                region = self.currents[layer.residual]
                own["residual_base"] = region.base + part.start * region.depth * CURRENT_BYTES
            body += pack_record(LAYER, RECORD_BYTES, fields | own) + sweeps
        return body


def _map(sweep: Any, shape: "_Shape") -> tuple[int, int]:
    return ((shape.height + 2 * sweep.padding - sweep.weight.shape[2]) // sweep.stride + 1,
            (shape.width + 2 * sweep.padding - sweep.weight.shape[3]) // sweep.stride + 1)


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
