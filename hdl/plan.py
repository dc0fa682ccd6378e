"""Plan of a layer on a build: map, row and weight tiles, loop order."""

from dataclasses import dataclass, replace
from typing import Any

from golden.arch import Arch, ParameterError
from golden.fiber import mask_bytes, slot_bytes
from golden.formats import PLACE_BITS
from golden.kept_taps import kept_taps
from hdl.column_packing import column_stream
from hdl.loop_order import Part, loop_order
from hdl.regions import Shape
from hdl.row_tiling import RowTiling, row_tiling
from hdl.tile_rows import MAP_BITS
from hdl.weight_tiles import packed_columns, weight_tiles


@dataclass(kw_only=True)
class LayerPlan:
    """What the builder decided for one layer.

    height, width : map before an OR-pool; out_height, out_width : after it
    order, parts : see `hdl.loop_order.LoopOrder`; each part has a descriptor of its own
    moved : most bytes of weights and rows that each legal loop order reads
    needs : sizes that the build must have, by the name of the header field
    tiling : how the loom shares the rows; None with dataflow lockstep
    in_line : its maps are one line of pixels in the descriptors, see `_in_line`
    record : number of the first part's descriptor; weights : offset and bytes of all tiles
    """

    name: str
    lanes: int
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
    needs: dict[str, int]
    tiling: RowTiling | None = None
    in_line: bool = False
    record: int = 0
    weights: tuple[int, int] = (0, 0)

    @property
    def tile_pixels(self) -> int:
        """Output pixels of a row tile."""
        return self.tiling.tile_pixels if self.tiling else self.lanes

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weight tiles."""
        return sum(len(tile) for part in self.parts for tile in part.tiles)

    @property
    def column_tiles(self) -> int:
        """Weight tiles of all parts."""
        return sum(len(part.tiles) for part in self.parts)


def plan_layer(layer: Any, arch: Arch, steps: int, sources: list[Shape], before: list[LayerPlan],
               order: str | None = None) -> LayerPlan:
    """Return sizes and loop order of a layer (`golden.network.Layer`).

    steps : timesteps of the network; sources : operand of each pass; before : plans of the layers before
    order : see `hdl.image.build_image`
    Raises `ParameterError` when the layer does not fit the build.
    """
    if layer.neuron and layer.neuron.share > 1:
        raise ParameterError(f"layer {layer.name}: share, not {layer.neuron.share}; legal: 1 on {arch.name}; try: --top imc")
    columns, slot = len(layer.bias), slot_bytes(len(layer.bias), word_log2(layer.word_width(steps)))
    if layer.passes:
        height, width = _map(layer.passes[0], sources[0])
    else:
        source = layer.residual if layer.attention is None else layer.attention.query
        height, width = next((p.out_height, p.out_width) for p in before if p.name == source)
    pool = layer.max_pool or layer.sum_pool or layer.or_pool
    out_height, out_width = height, width
    if pool:
        out_height, out_width = ((n + 2 * pool.padding - pool.kernel) // pool.stride + 1 for n in (height, width))
    if layer.max_pool or layer.sum_pool:
        height, width = out_height, out_width
    places = [(source.height, source.width) for source in sources] + [(height, width), (out_height, out_width)]
    for what, need in (("rows or columns of a map", max(max(place) for place in places)), ("channels", columns)):
        _check(layer.name, need, (1 << 16) - 1, what)
    for what, need in (("pixels of a map", max(y * x for y, x in places)), ("bytes of a fiber", slot)):
        _check(layer.name, need, (1 << PLACE_BITS) - 1, what)
    logs = {source.word_log2 for source in sources} or {word_log2(steps) if layer.attention else 0}
    if len(logs) != 1:
        raise ParameterError(f"layer {layer.name}: passes read words of {sorted(1 << n for n in logs)} bits; "
                             "legal: one width per layer")
    taps = [int(kept_taps(sweep.weight, arch.skip_taps).sum()) for sweep in layer.passes]
    row_bits = sum(n * s.channels << s.word_log2 for n, s in zip(taps, sources, strict=True))
    mask_row = sum(n * mask_bytes(s.channels) for n, s in zip(taps, sources, strict=True))
    if arch.loom:
        line = _in_line(layer, out_height * out_width)
        tiling = (row_tiling(layer, arch, [source.in_line() for source in sources], (1, out_height * out_width)) if line
                  else row_tiling(layer, arch, sources, (out_height, out_width)))
        parts = tuple(Part(start, stop, (column_stream(layer, arch, start, stop),)) for start, stop in _heads(layer))
        needs = dict.fromkeys(("chunks", "row_lines", "weight_bytes", "pool_channels"), 0)
        needs["resume_tiles"] = tiling.row_tiles if len(parts) > 1 else 0
        _check(layer.name, needs["resume_tiles"], arch.resume_tiles, "open row tiles")
        return LayerPlan(
            name=layer.name, lanes=arch.lanes, height=height, width=width, out_height=out_height, out_width=out_width,
            columns=columns, chunks=sum(n * -(-s.channels // arch.chunk_bits) for n, s in zip(taps, sources, strict=True)),
            needs=needs, operand_log2=logs.pop(), row_tiles=tiling.row_tiles, order="rows", parts=parts,
            moved={"rows": sum(len(part.tiles[0]) for part in parts) * tiling.row_tiles}, tiling=tiling, in_line=line)
    members = pool.kernel ** 2 if layer.or_pool else 1
    row_tiles = -(-out_height * out_width // arch.lanes)
    chosen = loop_order(layer, arch, visits=row_tiles * members, force=order,
                        row_bytes=out_height * out_width * members * (mask_row + -(-row_bits // 8)),
                        resumable=not layer.stores_words or (row_tiles <= arch.resume_tiles and slot < 1 << 16))
    if layer.attention:
        columns_of = packed_columns(layer)
        chosen = replace(chosen, parts=tuple(
            Part(start, stop, tuple(weight_tiles(layer, arch, columns_of, start, stop))) for start, stop in _heads(layer)))
    resumes = layer.stores_words and len(chosen.parts) > 1
    needs = {"chunks": sum(n * -(-s.channels // arch.chunk_bits) for n, s in zip(taps, sources, strict=True)),
             "row_lines": -(-row_bits // arch.chunk_bits),
             "weight_bytes": max(len(tile) for part in chosen.parts for tile in part.tiles),
             "pool_channels": columns if layer.or_pool else 0, "resume_tiles": row_tiles if resumes else 0}
    for name, limit, what in (("chunks", arch.max_chunks, "row chunks"),
                              ("row_lines", arch.row_value_lines, "lines of row words"),
                              ("weight_bytes", arch.weight_bytes, "bytes of a weight tile"),
                              ("pool_channels", arch.pool_channels, "pooled channels"),
                              ("resume_tiles", arch.resume_tiles, "open row tiles")):
        _check(layer.name, needs[name], limit, what)
    return LayerPlan(
        name=layer.name, lanes=arch.lanes, height=height, width=width, out_height=out_height, out_width=out_width,
        columns=columns,
        chunks=needs["chunks"], needs=needs, operand_log2=logs.pop(),
        row_tiles=row_tiles, order=chosen.name, parts=chosen.parts, moved=chosen.moved)


def _heads(layer: Any) -> list[tuple[int, int]]:
    """Return the channels (first, stop) of each descriptor that a layer has whatever its order: one for each head."""
    heads = layer.attention.heads if layer.attention else 1
    width = len(layer.bias) // heads
    return [(head * width, (head + 1) * width) for head in range(heads)]


def word_log2(bits: int) -> int:
    """Return log2 of the stored width (`golden.arch.word_bits`) of a word of ``bits`` bits."""
    return (bits - 1).bit_length()


def _in_line(layer: Any, pixels: int) -> bool:
    """Whether a loom takes the maps of a layer for one line: a tile of 1x1 kernels then loads its own pixels alone."""
    alone = all(sweep.weight.shape[2:] == (1, 1) and (sweep.stride, sweep.padding) == (1, 0) for sweep in layer.passes)
    return bool(layer.passes) and alone and pixels < 1 << MAP_BITS and not (layer.max_pool or layer.sum_pool or layer.or_pool)


def _map(sweep: Any, shape: Shape) -> tuple[int, int]:
    return ((shape.height + 2 * sweep.padding - sweep.weight.shape[2]) // sweep.stride + 1,
            (shape.width + 2 * sweep.padding - sweep.weight.shape[3]) // sweep.stride + 1)


def _check(layer: str, need: int, limit: int, what: str) -> None:
    if need > limit:
        raise ParameterError(f"layer {layer}: needs {need} {what}, not more than {limit}; legal: at most {limit} on this "
                             "build; try: a preset with larger limits or a smaller layer")
