"""Memory image: an integer network as program, weight tiles and tensor regions. Lossless."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch, ParameterError
from golden.fiber import mask_bytes, pack
from golden.formats import (
    CURRENT_BYTES,
    FEATURES,
    HEADER_BYTES,
    LAYER,
    MAX_PROGRAM_BYTES,
    PASS,
    PLANE,
    PLANE_WORD,
    RECORD_BYTES,
    STATS_BYTES,
    TAPS,
    seal,
)
from golden.formats import (
    pack as pack_record,
)
from golden.kept_taps import kept_taps, skipped
from hdl.plan import LayerPlan, plan_layer, word_log2
from hdl.regions import Currents, Shape, Space, Tensor

RESETS = {"hard": 0, "soft": 1, "soft_delayed": 2}


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


def _pass_record(sweep: Any, tensor: Tensor, arch: Arch, is_input: bool, place: dict[str, int], ttfs: bool) -> bytes:
    chunk = arch.chunk_bits
    kernel_height, kernel_width = sweep.weight.shape[2:]
    planes = [] if ttfs else list(sweep.planes)
    identity = all(p.shift == 0 and not p.negate and p.steps in ((), (b,)) for b, p in enumerate(planes))
    steps = 1 if ttfs else sum(1 << b for b, plane in enumerate(planes) if plane.steps)
    record = bytearray(pack_record(PASS + TAPS, RECORD_BYTES, {
        "skipped": skipped(kept_taps(sweep.weight, arch.skip_taps)),
        "masks": tensor.masks, "mask_stride": tensor.mask_stride, "values": tensor.values,
        "slot_stride": tensor.slot_stride, "height": tensor.height, "width": tensor.width,
        "kernel_height": kernel_height, "kernel_width": kernel_width, "stride": sweep.stride,
        "padding": sweep.padding, "input": int(is_input), "identity": int(identity),
        "tap_chunks": -(-tensor.channels // chunk),
        "last_bytes": mask_bytes(tensor.channels) - (-(-tensor.channels // chunk) - 1) * (chunk // 8),
        "planes": len(planes), "steps": steps, **place}))
    for bit, plane in enumerate(planes):
        at = 4 * (PLANE_WORD + bit)
        record[at : at + 4] = pack_record(PLANE, 4, {
            "steps": sum(1 << t for t in plane.steps), "shift": plane.shift, "negate": int(plane.negate)})
    return bytes(record)


def build_image(network: Any, arch: Arch, order: str | None = None) -> Image:
    """Return the memory image of an integer network (`golden.network.Network`) for one build.

    network : one that `golden.limits.check` accepts
    order : loop order of every layer where it is legal, ``"rows"`` or ``"columns"``; None takes the better one
    Raises `ParameterError` when a layer does not fit the build.
    """
    return _Builder(network, arch, order).build()


class _Builder:
    """Plans the layers, places their regions, and writes the descriptors."""

    def __init__(self, network: Any, arch: Arch, order: str | None) -> None:
        self.network, self.arch, self.order = network, arch, order
        self.spike_log2 = word_log2(network.steps)
        self.tensors: dict[str, Tensor] = {}
        self.currents: dict[str, Currents] = {}

    def build(self) -> Image:
        network, arch, spec = self.network, self.arch, self.network.input
        binary = spec.kind == "steps" and spec.bits == 1
        input_log2 = self.spike_log2 if binary else word_log2(spec.plane_bits)
        names = dict.fromkeys(s.source for layer in network.layers for s in layer.passes if s.source.startswith("input."))
        shapes: dict[str, Shape] = {name: Shape(spec.channels, spec.height, spec.width, input_log2) for name in names}
        plans: list[LayerPlan] = []
        for layer in network.layers:
            sources = [shapes[sweep.source].view(sweep.rows) for sweep in layer.passes]
            order = "rows" if layer.ttfs and layer.readout else self.order
            plan = plan_layer(layer, arch, network.steps, sources, plans, order)
            plans.append(plan)
            shapes[layer.name] = self._shape(layer, plan)

        records = sum(len(plan.parts) for plan in plans)
        passes = sum(len(layer.passes) * len(plan.parts) for layer, plan in zip(network.layers, plans, strict=True))
        program_bytes = HEADER_BYTES + RECORD_BYTES * (records + passes)
        space = Space(program_bytes)
        for plan in plans:
            plan.weights = (space.take(plan.weight_bytes), plan.weight_bytes)
        data_end = inputs = space.at
        self.tensors = {name: space.tensor(shapes[name]) for name in names}
        input_tensors, outputs = dict(self.tensors), space.at
        stats = space.take(STATS_BYTES * records)
        record = 0
        for layer, plan in zip(network.layers, plans, strict=True):
            self._place(layer, plan, space)
            plan.record, record = record, record + len(plan.parts)
        for what, need, limit in (("bytes of program", program_bytes, MAX_PROGRAM_BYTES),
                                  ("bytes of memory", space.at, 1 << 32)):
            if need > limit:
                raise ParameterError(f"network: needs {need} {what}, not more than {limit}; legal: at most {limit}; "
                                     "try: fewer layers or smaller maps")
        body = b"".join(self._descriptors(layer, plan, input_tensors)
                        for layer, plan in zip(network.layers, plans, strict=True))

        used = {"leak_1m2k": any(n.neuron and n.neuron.leak == "1-2^-k" for n in network.layers),
                "requantise": any(n.requantise or n.ttfs for n in network.layers),
                "digit": any(n.digit or (n.requantise and n.requantise.step) for n in network.layers),
                "attention": any(n.attention for n in network.layers), "token_sum": any(n.sum_pool for n in network.layers),
                "ttfs": any(n.ttfs for n in network.layers)}
        used["skip_taps"] = any(skipped(kept_taps(sweep.weight, arch.skip_taps))
                                for layer in network.layers for sweep in layer.passes)
        features = sum(needed << FEATURES[feature] for feature, needed in used.items())
        most = {name: max(plan.needs[name] for plan in plans) for name in plans[0].needs}
        program = seal(body, {"layers": records, "chunk_bits": arch.chunk_bits, "t_max": self._widest(),
                              "weight_bits": arch.weight_bits, "lanes": arch.lanes, "acc_bits": arch.acc_bits,
                              "stream_bits": arch.stream_bits, "membrane_bits": arch.membrane_bits,
                              "features": features, **most})
        data = bytearray(data_end)
        data[: len(program)] = program
        for plan in plans:
            joined = b"".join(tile for part in plan.parts for tile in part.tiles)
            data[plan.weights[0] : plan.weights[0] + len(joined)] = joined
        spikes = {name: tensor for name, tensor in self.tensors.items() if name not in input_tensors}
        return Image(bytes(data), program_bytes, inputs, outputs - inputs, outputs, stats, records, space.at,
                     input_tensors, spikes, self.currents, plans)

    def _widest(self) -> int:
        stored: int = max(layer.word_width(self.network.steps) for layer in self.network.layers)
        return max([stored, *(len(sweep.planes) for layer in self.network.layers for sweep in layer.passes)])

    def _shape(self, layer: Any, plan: LayerPlan) -> Shape:
        return Shape(plan.columns, plan.out_height, plan.out_width, word_log2(layer.word_width(self.network.steps)))

    def _place(self, layer: Any, plan: LayerPlan, space: Space) -> None:
        if layer.stores_words:
            self.tensors[layer.name] = space.tensor(self._shape(layer, plan))
        if layer.store_currents or layer.readout:
            depth = self.network.steps if layer.store_currents else 1
            size = plan.out_height * plan.out_width * plan.columns * depth * CURRENT_BYTES
            self.currents[layer.name] = Currents(plan.columns, plan.out_height, plan.out_width, depth, space.take(size))

    def _descriptors(self, layer: Any, plan: LayerPlan, inputs: dict[str, Tensor]) -> bytes:
        steps, pool = self.network.steps, layer.max_pool or layer.sum_pool or layer.or_pool
        fields = {
            "passes": len(layer.passes), "steps": steps, "min_spikes": layer.min_spikes,
            "word_log2": word_log2(layer.word_width(steps)), "operand_log2": plan.operand_log2,
            "height": plan.height, "width": plan.width, "out_height": plan.out_height, "out_width": plan.out_width,
            "chunks": plan.chunks, "pool_kernel": pool.kernel if pool else 1, "pool_stride": pool.stride if pool else 1,
            "pool_padding": pool.padding if pool else 0, "row_tiles": plan.row_tiles,
            "store_currents": int(layer.store_currents), "readout": int(layer.readout),
            "max_pool": int(layer.max_pool is not None), "or_pool": int(layer.or_pool is not None),
            "sum_pool": int(layer.sum_pool is not None),
        }
        if layer.neuron:
            neuron = layer.neuron
            fields |= {"neuron": 1, "decay_input": int(neuron.decay_input), "strict": int(neuron.compare == ">"),
                       "reset": RESETS[neuron.reset], "leak_shift": neuron.leak_shift}
        if layer.requantise:
            fields |= {"neuron": 1, "requantise": 1, "signed_words": int(layer.requantise.signed),
                       "word_bits": layer.requantise.bits, "word_step": layer.requantise.step}
        if layer.digit:
            fields |= {"neuron": 1, "digit": 1, "digit_low": layer.digit.low, "digit_bits": layer.digit.bits,
                       "digit_clip": int(layer.digit.clip), "digit_one": int(layer.digit.step is not None),
                       "word_step": layer.digit.step or 0}
        if layer.ttfs:
            last = plan.out_height * plan.out_width - (plan.row_tiles - 1) * self.arch.lanes - 1
            fields |= {"neuron": int(layer.stores_words), "requantise": 1, "word_bits": layer.ttfs.bits, "ttfs": 1,
                       "window": layer.ttfs.window, "resolution": layer.ttfs.resolution, "last_lanes": last}
        if layer.residual:
            region = self.currents[layer.residual]
            fields |= {"residual": 1, "residual_stride": region.stride,
                       "residual_height": region.height, "residual_width": region.width}
        if layer.attention:
            fields |= self._attention(layer.attention, plan)
        places: list[dict[str, int]] = [{} for _ in layer.passes]
        if plan.tiling:
            fields |= {name: getattr(plan.tiling, name)
                       for name in ("tile_pixels", "groups", "span_log2", "teams_log2", "deal", "merge")}
            places = [dict(zip(("chunk_base", "line_base", "tap_lines"), place, strict=True)) for place in plan.tiling.passes]
        views = [self.tensors[sweep.source].view(sweep.rows) for sweep in layer.passes]
        if plan.in_line:
            views = [view.in_line() for view in views]
            for name in (name for name in ("", "out_", "residual_") if f"{name}width" in fields):
                fields |= {f"{name}height": 1, f"{name}width": fields[f"{name}height"] * fields[f"{name}width"]}
        sweeps = b"".join(
            _pass_record(sweep, view, self.arch, sweep.source in inputs, place,
                         layer.ttfs is not None)
            for sweep, view, place in zip(layer.passes, views, places, strict=True))
        body, weights = b"", plan.weights[0]
        for part in plan.parts:
            own = {"columns": part.stop - part.start, "column_tiles": len(part.tiles), "weights": weights}
            weights += sum(map(len, part.tiles))
            if plan.tiling:
                own["stream_bytes"] = len(part.tiles[0]) // 2
            if layer.attention:
                own["head_start"] = part.start
            if layer.stores_words:
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

    def _attention(self, p: Any, plan: LayerPlan) -> dict[str, int]:
        """Return the fields of a layer's descriptor that say where queries, keys and values lie."""
        query, key, value = (self.tensors[name] for name in p.sources)
        return {"attention": 1, "chunk_steps": p.chunk_steps, "saturation": p.saturation,
                "head_blocks": -(-(plan.columns // p.heads) // self.arch.attention_columns),
                "query_masks": query.masks, "key_masks": key.masks, "value_masks": value.masks,
                "to_words": query.values - query.masks}
