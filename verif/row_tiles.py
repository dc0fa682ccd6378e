"""Layers for the benches of the loom: random shapes, and how their row tiles share lanes and slots."""

import random
from dataclasses import replace

from golden.arch import Arch
from verif.layers import Case, draw_case


def draw_tiles(rng: random.Random, p: Arch, *, steps: int | None = None) -> Case:
    """Return a layer of `verif.layers.draw_case` with the fields of the loom: any legal tile, not only the largest."""
    while True:
        case = draw_case(rng, p, steps=steps)
        spans = [span for span in range(p.rows.bit_length()) if _taken(case, p, span) is not None]
        if not spans:
            continue
        span = rng.choice(spans)
        tiled = _tiled(rng, p, case, span)
        if tiled is not None:
            return tiled


def _tiled(rng: random.Random, p: Arch, case: Case, span: int) -> Case | None:
    layer, bases = case.layer, _taken(case, p, span)
    assert bases is not None
    members = layer["pool_kernel"] ** 2 if layer["or_pool"] else 1
    teams_log2 = rng.randrange(p.lanes.bit_length())
    team, slots = p.lanes >> teams_log2, p.rows >> span
    most = min(team * slots // members, p.lanes if members > 1 else p.lanes * p.rows)
    if most == 0:
        return None
    pixels = layer["out_height"] * layer["out_width"]
    tile = rng.choice((1, most, rng.randint(1, most)))
    fields = {"tile_pixels": tile, "groups": -(-tile * members // team), "span_log2": span, "teams_log2": teams_log2,
              "deal": rng.randrange(2), "merge": int(members > 1), "row_tiles": -(-pixels // tile)}
    passes = [{**sweep, "chunk_base": chunk, "line_base": line, "tap_lines": lines}
              for sweep, (chunk, line, lines) in zip(case.passes, bases, strict=True)]
    if sum(s["height"] * s["width"] * s["tap_chunks"] for s in passes) > p.pixel_chunks:
        return None
    if sum(s["height"] * s["width"] * s["tap_lines"] for s in passes) > p.pixel_lines:
        return None
    return replace(case, layer={**layer, **fields}, passes=passes)


def _taken(case: Case, p: Arch, span: int) -> list[tuple[int, int, int]] | None:
    """Return (first chunk, first line, lines of a tap) of every pass in a slot; None when the slot is too small."""
    chunk = line = 0
    bases = []
    for sweep, channels in zip(case.passes, case.channels, strict=True):
        lines = -(-(channels << case.layer["operand_log2"]) // p.chunk_bits)
        bases.append((chunk, line, lines))
        taps = -(-sweep["kernel_height"] // (1 << span)) * sweep["kernel_width"]
        chunk, line = chunk + taps * sweep["tap_chunks"], line + taps * lines
    return bases if chunk <= p.slot_chunks and line <= p.slot_lines else None
