"""Row tiles of a layer for the loom: how many rows a tile has, and how lanes and slots share them."""

from dataclasses import dataclass
from typing import Any

from golden.arch import Arch, ParameterError
from hdl.regions import Shape
from hdl.tile_rows import MAP_BITS

Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class RowTiling:
    """Fields of a layer's descriptor that the loom reads, and of its passes.

    tile_pixels, groups, span_log2, teams_log2, deal, merge : as in `golden.formats.LAYER`
    row_tiles : tiles of the layer
    passes : (chunk_base, line_base, tap_lines) of every pass
    """

    tile_pixels: int
    groups: int
    span_log2: int
    teams_log2: int
    deal: int
    merge: int
    row_tiles: int
    passes: tuple[tuple[int, int, int], ...]


def row_tiling(layer: Any, arch: Arch, sources: list[Shape], out: Span) -> RowTiling:
    """Return the largest row tiles of a `golden.network.Layer` that the stores hold.

    sources : operand of each pass; out : height and width of the output map
    Rows take the fewest slots that hold them. Where a tile has at most half of the rows that the slots hold, lanes are
    split into teams that share the columns. Layers that add or store currents, and attention, keep the order of their
    rows; attention has one group.
    Raises `ParameterError` when a row does not fit all slots of a lane, or the pixels of the smallest tile the loader.
    """
    members = layer.or_pool.kernel ** 2 if layer.or_pool else 1
    span_log2, passes = _span(layer, arch, sources)
    slots = arch.rows >> span_log2 if len(layer.passes) <= arch.window_columns and not layer.attention else 1
    plain = layer.store_currents or layer.readout or layer.residual is not None or layer.attention is not None
    limit = max(max(shape.height, shape.width) for shape in [*sources, Shape(0, *out, 0)])
    if limit >= 1 << MAP_BITS:
        raise ParameterError(f"layer {layer.name}: needs {limit} rows or columns of a map, not more than "
                             f"{(1 << MAP_BITS) - 1}; legal: at most {(1 << MAP_BITS) - 1}; try: --preset loas")
    pixels = out[0] * out[1]
    if members == 1 and (plain or pixels > arch.lanes):
        choices = [arch.lanes * n for n in range(slots, 0, -1)]
    else:
        choices = list(range(min(arch.lanes, arch.lanes * slots // members, pixels), 0, -1))
    for tile in choices:
        tile_pixels = min(tile, -(-pixels // arch.lanes) * arch.lanes) if members == 1 and tile >= arch.lanes else tile
        if _fits(layer, arch, sources, passes, out, tile_pixels):
            return _shared(arch, tile_pixels, members, slots, span_log2, plain, -(-pixels // tile_pixels), passes)
    if not choices:
        raise ParameterError(f"layer {layer.name}: pools {members} pixels, not more than {arch.lanes * slots}; legal: a "
                             "window whose rows fit the slots; try: --preset loas")
    raise ParameterError(f"layer {layer.name}: needs the pixels of {choices[-1]} rows at once, not more than "
                         f"{arch.pixel_chunks} chunks and {arch.pixel_lines} lines; legal: smaller maps or kernels; "
                         "try: --preset loas")


def _shared(arch: Arch, tile_pixels: int, members: int, slots: int, span_log2: int, plain: bool, row_tiles: int,
            passes: tuple[tuple[int, int, int], ...]) -> RowTiling:
    rows, merge, teams_log2 = tile_pixels * members, tile_pixels <= arch.lanes, 0
    groups = -(-rows // arch.lanes)
    if merge and not plain:
        groups = min(slots, max(groups, rows // 8, 1))
        team = 1 << (-(-rows // groups) - 1).bit_length()
        teams_log2 = (arch.lanes // team).bit_length() - 1
        groups = -(-rows // team)
    return RowTiling(tile_pixels=tile_pixels, groups=groups, span_log2=span_log2, teams_log2=teams_log2,
                     deal=int(groups > 1 and not plain), merge=int(merge), row_tiles=row_tiles, passes=passes)


def _span(layer: Any, arch: Arch, sources: list[Shape]) -> tuple[int, tuple[tuple[int, int, int], ...]]:
    """Return log2 of the slots that one row takes, and the place of every pass in them."""
    for span_log2 in range(arch.rows.bit_length()):
        chunk = line = 0
        passes = []
        for sweep, source in zip(layer.passes, sources, strict=True):
            height, width = sweep.weight.shape[2:]
            lines = -(-(source.channels << source.word_log2) // arch.chunk_bits)
            passes.append((chunk, line, lines))
            taps = -(-height // (1 << span_log2)) * width
            chunk, line = chunk + taps * -(-source.channels // arch.chunk_bits), line + taps * lines
        if chunk <= arch.slot_chunks and line <= arch.slot_lines:
            return span_log2, tuple(passes)
    raise ParameterError(f"layer {layer.name}: needs {chunk} chunks and {line} lines of words of one row in a slot, not more "
                         f"than {arch.slot_chunks} and {arch.slot_lines}; legal: at most that on this build; "
                         "try: --preset loas")


def _fits(layer: Any, arch: Arch, sources: list[Shape], passes: tuple[tuple[int, int, int], ...], out: Span,
          tile_pixels: int) -> bool:
    """Whether the pixels of every tile fit the loader."""
    for start in range(0, out[0] * out[1], tile_pixels):
        chunks = lines = pixels = 0
        for sweep, source, (_, _, tap_lines) in zip(layer.passes, sources, passes, strict=True):
            count = _rectangle(layer, sweep, source, out, start, min(start + tile_pixels, out[0] * out[1]))
            chunks, lines, pixels = (chunks + count * -(-source.channels // arch.chunk_bits), lines + count * tap_lines,
                                     pixels + count)
        if chunks > arch.pixel_chunks or lines > arch.pixel_lines or pixels > arch.pixel_chunks:
            return False
    return True


def _rectangle(layer: Any, sweep: Any, source: Shape, out: Span, start: int, stop: int) -> int:
    """Return the pixels of the operand that lie between the taps of output pixels ``start`` to ``stop``."""
    pool = layer.or_pool
    kernel, stride, padding = (pool.kernel, pool.stride, pool.padding) if pool else (1, 1, 0)
    rows = (start // out[1], (stop - 1) // out[1])
    columns = (start % out[1], (stop - 1) % out[1]) if rows[0] == rows[1] else (0, out[1] - 1)
    count = 1
    height, width = sweep.weight.shape[2:]
    for (low, high), taps, size in ((rows, height, source.height), (columns, width, source.width)):
        first = (low * stride - padding) * sweep.stride - sweep.padding
        last = (high * stride - padding + kernel - 1) * sweep.stride - sweep.padding + taps - 1
        count *= max(1, min(last, size - 1) - max(first, 0) + 1)
    return count
