"""Row tiling of the loom: rows fit their slots, every tile fits the loader, fields fit the descriptor and the hardware."""

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from golden.arch import PRESETS, Arch, ParameterError
from golden.formats import LAYER, PASS
from golden.network import Pool
from golden.program_check import layer_code
from golden.tap_table import tap_table
from hdl.regions import Shape
from hdl.row_tiling import RowTiling, Span, row_tiling
from verif.chunks import LOOM, LOOMS

ARCHS = LOOMS | {"preset loom": PRESETS["loom"]}
LAYERS = 150
WIDTHS = {field.name: field.width for field in (*LAYER, *PASS)}
POOLS = (None, None, Pool(kernel=2, stride=2), Pool(kernel=3, stride=2, padding=1), Pool(kernel=2, stride=1))


@dataclass(frozen=True)
class Case:
    """What `row_tiling` is given, and the map before the pool."""

    layer: Any
    sources: list[Shape]
    out: Span
    before: Span


def draw(rng: random.Random, p: Arch) -> Case:
    """Return a random layer of 0 to 6 passes over maps of one output size."""
    size, wide = 2 if p.chunk_bits > 64 else 1, p.chunk_bits
    while True:
        before = (rng.randint(1, 8 * size), rng.randint(1, 20 * size))
        count = rng.choice((0, 1, 1, 1, 2, 3, 6))
        pool = rng.choice(POOLS) if count else None
        window = pool or Pool(kernel=1, stride=1)
        out = [(n + 2 * window.padding - window.kernel) // window.stride + 1 for n in before]
        sources, passes, log = [], [], rng.randrange(p.t_max.bit_length())
        for _ in range(count):
            kernel, stride, padding = (rng.randint(1, 3), rng.randint(1, 3)), rng.randint(1, 2), rng.randrange(2)
            height, width = ((n - 1) * stride + k - 2 * padding + rng.randrange(stride)
                             for n, k in zip(before, kernel, strict=True))
            channels = rng.choice((1, 3, wide // 2, wide - 1, wide, wide + 1, 2 * wide + 3))
            sources.append(Shape(channels, height, width, log))
            passes.append(SimpleNamespace(weight=np.zeros((1, channels, *kernel), np.int8), stride=stride, padding=padding))
        if min(out) >= 1 and all(min(shape.height, shape.width) >= 1 for shape in sources):
            break
    kinds: tuple[str | None, ...] = (None, "readout") if pool else (None, None, "store_currents", "readout", "residual")
    plain = rng.choice(kinds) if passes else "residual"
    layer = SimpleNamespace(name="random", attention=None, passes=tuple(passes), or_pool=pool, readout=plain == "readout",
                            store_currents=plain == "store_currents", residual="before" if plain == "residual" else None)
    return Case(layer, sources, (out[0], out[1]), before)


def tilings(rng: random.Random, p: Arch) -> list[tuple[Case, RowTiling]]:
    """Return random layers that the build takes, with their tiling; what it refuses, it refuses in one clear line."""
    found: list[tuple[Case, RowTiling]] = []
    while len(found) < LAYERS:
        case = draw(rng, p)
        try:
            found.append((case, row_tiling(case.layer, p, case.sources, case.out)))
        except ParameterError as error:
            if not clear(str(error)):
                raise
    return found


def clear(text: str) -> bool:
    """Whether a refusal names the layer, what it needs, what is legal and what to try, in one line."""
    marks = ("layer ", " not more than ", "; legal: ", "; try: ")
    return "\n" not in text and all(mark in text for mark in marks) and text.startswith("layer ")


def tap_fields(case: Case, tiling: RowTiling, p: Arch) -> list[dict[str, int]]:
    """Return the fields of every pass that place a row in its slots."""
    return [{"kernel_height": sweep.weight.shape[2], "kernel_width": sweep.weight.shape[3],
             "tap_chunks": -(-source.channels // p.chunk_bits), "last_bytes": 1,
             "chunk_base": chunk, "line_base": line, "tap_lines": lines}
            for sweep, source, (chunk, line, lines) in zip(case.layer.passes, case.sources, tiling.passes, strict=True)]


def check_slots(case: Case, tiling: RowTiling, p: Arch) -> None:
    """Every chunk and line of a row has a place of its own in one of the row's slots, and there is no slot too few."""
    fields = tap_fields(case, tiling, p)
    taps = tap_table(fields, tiling.span_log2, p.chunk_bits)
    assert len({(tap.segment, tap.address) for tap in taps}) == len(taps)
    assert all(tap.address < p.slot_chunks and tap.segment < 1 << tiling.span_log2 for tap in taps)
    used = []
    for sweep, source in zip(fields, case.sources, strict=True):
        assert sweep["tap_lines"] * p.chunk_bits >= source.channels << source.word_log2
        places = {(tap.segment, tap.line) for tap in tap_table([sweep], tiling.span_log2, p.chunk_bits)}
        used += [(segment, line + n) for segment, line in places for n in range(sweep["tap_lines"])]
    assert len(set(used)) == len(used) and all(line < p.slot_lines for _, line in used)


def check_loader(case: Case, tiling: RowTiling, p: Arch) -> None:
    """The pixels of the rectangle around the rows of each tile, with all words there, fit the loader's three stores."""
    count, pool = case.out[0] * case.out[1], case.layer.or_pool or Pool(kernel=1, stride=1)
    assert tiling.row_tiles == -(-count // tiling.tile_pixels)
    for first in range(0, count, tiling.tile_pixels):
        centers = [(y * pool.stride - pool.padding + dy, x * pool.stride - pool.padding + dx)
                   for y, x in (divmod(n, case.out[1]) for n in range(first, min(first + tiling.tile_pixels, count)))
                   for dy, dx in product(range(pool.kernel), repeat=2)]
        inside = [(y, x) for y, x in centers if 0 <= y < case.before[0] and 0 <= x < case.before[1]]
        pixels = chunks = lines = 0
        for sweep, source in zip(case.layer.passes, case.sources, strict=True):
            ys, xs = ({origin * sweep.stride - sweep.padding + tap for origin in origins for tap in range(kernel)}
                      for origins, kernel in zip(zip(*inside, strict=True), sweep.weight.shape[2:], strict=True))
            taken = max(1, len([y for y in range(min(ys), max(ys) + 1) if 0 <= y < source.height])) * max(
                1, len([x for x in range(min(xs), max(xs) + 1) if 0 <= x < source.width]))
            pixels += taken
            chunks += taken * -(-source.channels // p.chunk_bits)
            lines += taken * -(-(source.channels << source.word_log2) // p.chunk_bits)
        assert max(pixels, chunks) <= p.pixel_chunks and lines <= p.pixel_lines


def check_fields(case: Case, tiling: RowTiling, p: Arch) -> None:
    """Fields fit their descriptor; rows fit groups, groups fit slots, and teams fit lanes."""
    fields = dataclasses.asdict(tiling)
    places = fields.pop("passes")
    assert all(0 <= value < 1 << WIDTHS[name] for name, value in fields.items())
    assert all(0 <= value < 1 << WIDTHS[name]
               for place in places for name, value in zip(("chunk_base", "line_base", "tap_lines"), place, strict=True))
    members = case.layer.or_pool.kernel ** 2 if case.layer.or_pool else 1
    plain = case.layer.store_currents or case.layer.readout or case.layer.residual is not None
    team, rows = p.lanes >> tiling.teams_log2, tiling.tile_pixels * members
    assert team >= 1 and 1 <= tiling.groups <= p.rows and tiling.groups << tiling.span_log2 <= p.rows
    assert team * (tiling.groups - 1) < rows <= team * tiling.groups
    assert tiling.groups == 1 or len(case.layer.passes) <= p.window_columns
    assert tiling.merge == (tiling.tile_pixels <= p.lanes)
    if not tiling.merge:
        assert members == 1 and tiling.teams_log2 == 0 and tiling.tile_pixels % p.lanes == 0
    if plain:
        assert not tiling.deal and not tiling.teams_log2


def check_descriptor(case: Case, tiling: RowTiling, p: Arch) -> None:
    """The build takes a layer with these fields."""
    chunks = sum(s["kernel_height"] * s["kernel_width"] * s["tap_chunks"] for s in tap_fields(case, tiling, p))
    fields = {name: value for name, value in dataclasses.asdict(tiling).items() if name != "passes"}
    ones = dict.fromkeys(("steps", "height", "width", "out_height", "out_width", "columns", "pool_kernel", "pool_stride",
                          "column_tiles"), 1)
    layer = dict.fromkeys((field.name for field in LAYER), 0) | ones | fields | {
        "passes": len(case.layer.passes), "chunks": chunks, "stream_bytes": 64}
    assert layer_code(layer, p) == 0


@pytest.mark.parametrize("check", [check_slots, check_loader, check_fields, check_descriptor])
@pytest.mark.parametrize("name", ARCHS)
def test_random_layers(name: str, check: Callable[[Case, RowTiling, Arch], None], seed: int) -> None:
    """Slots, loader and fields of random layers are as they must be."""
    rng, p = random.Random(seed), ARCHS[name]
    for case, tiling in tilings(rng, p):
        check(case, tiling, p)


def test_random_layers_are_of_every_kind(seed: int) -> None:
    """The layers above have rows of one and of more slots, one and more groups, teams, and rows that are dealt."""
    found = [tiling for p in ARCHS.values() for _, tiling in tilings(random.Random(seed), p)]
    for name in ("span_log2", "teams_log2", "deal", "merge", "groups"):
        values = {1, 2} if name == "groups" else {0, 1}
        assert values <= {getattr(tiling, name) for tiling in found}, name


@pytest.mark.parametrize(("check", "wrong"), [
    pytest.param(check_slots, {"span_log2": 0}, id="too few slots"),
    pytest.param(check_loader, {"tile_pixels": 2}, id="too many pixels"),
    pytest.param(check_fields, {"groups": 1}, id="too few groups"),
    pytest.param(check_fields, {"teams_log2": 1}, id="too many teams"),
    pytest.param(check_fields, {"tile_pixels": 2}, id="too many rows"),
    pytest.param(check_descriptor, {"groups": 5}, id="more groups than slots"),
])
def test_checks_can_fail(check: Callable[[Case, RowTiling, Arch], None], wrong: dict[str, int], seed: int) -> None:
    """A tiling with one field that is wrong (of pixels, eight times as large) fails some layer of the ones above."""
    p, failed = LOOM, 0
    for case, tiling in tilings(random.Random(seed), p):
        new: dict[str, Any] = dict(wrong)
        if "tile_pixels" in wrong:
            new["tile_pixels"] *= 4 * tiling.tile_pixels
            new["row_tiles"] = -(-case.out[0] * case.out[1] // new["tile_pixels"])
        try:
            check(case, replace(tiling, **new), p)
        except AssertionError:
            failed += 1
    assert failed


@pytest.mark.parametrize("name", ARCHS)
def test_tiles_are_as_large_as_they_can_be(name: str, seed: int) -> None:
    """Without a pool, no more rows fit than a tile has: the map ends, the slots are full, or the loader is."""
    rng, p = random.Random(seed), ARCHS[name]
    for case, tiling in tilings(rng, p):
        members = case.layer.or_pool.kernel ** 2 if case.layer.or_pool else 1
        slots = p.rows >> tiling.span_log2 if len(case.layer.passes) <= p.window_columns else 1
        more = tiling.tile_pixels + (1 if tiling.tile_pixels < p.lanes else p.lanes)
        if members == 1 and tiling.row_tiles > 1 and more <= p.lanes * slots:
            with pytest.raises(AssertionError):
                check_loader(case, replace(tiling, tile_pixels=more, row_tiles=-(-case.out[0] * case.out[1] // more)), p)


def single(channels: int, size: tuple[int, int], kernel: int, **fields: Any) -> tuple[Any, list[Shape], Span]:
    """Return layer, source and output map of one pass without padding."""
    layer = SimpleNamespace(name="conv", attention=None, or_pool=None, store_currents=False, readout=False, residual=None)
    layer.passes = (SimpleNamespace(weight=np.zeros((1, channels, kernel, kernel), np.int8), stride=1, padding=0),)
    layer.__dict__.update(fields)
    return layer, [Shape(channels, *size, 2)], (size[0] - kernel + 1, size[1] - kernel + 1)


@pytest.mark.parametrize(("case", "text"), [
    pytest.param(single(33, (9, 9), 6), "layer conv: needs 24 chunks and 60 lines of words of one row in a slot, not more "
                 "than 16 and 32; legal: at most that on this build; try: --preset loas", id="row"),
    pytest.param(single(1, (3000, 4), 1), "layer conv: needs 3000 rows or columns of a map, not more than 2047; legal: at "
                 "most 2047; try: --preset loas", id="map"),
    pytest.param(single(8, (9, 9), 1, or_pool=Pool(kernel=5, stride=1)), "layer conv: pools 25 pixels, not more than 16; "
                 "legal: a window whose rows fit the slots; try: --preset loas", id="pool"),
    pytest.param(single(1, (9, 70), 2, store_currents=True), "layer conv: needs the pixels of 4 rows at once, not more than "
                 "64 chunks and 192 lines; legal: smaller maps or kernels; try: --preset loas", id="pixels"),
])
def test_refusals(case: tuple[Any, list[Shape], Span], text: str) -> None:
    """A row, a map, a pooling window and a tile that do not fit are refused, each in one clear line."""
    layer, sources, out = case
    with pytest.raises(ParameterError) as caught:
        row_tiling(layer, LOOM, sources, out)
    assert str(caught.value) == text and clear(text)


def test_legal_slots_have_fields_that_hold_their_places() -> None:
    """A place in the largest slots that a build can have fits the fields of a pass; larger slots are refused."""
    for rows, name in product((1, 2, 4), ("max_chunks", "row_value_lines")):
        largest = replace(LOOM, rows=rows, max_chunks=128 * rows, row_value_lines=128 * rows, buffer_bytes=1 << 20)
        assert max(largest.slot_chunks, largest.slot_lines) < 1 << min(
            WIDTHS[field] for field in ("chunk_base", "line_base", "tap_lines"))
        larger: dict[str, Any] = {name: 256 * rows}
        with pytest.raises(ParameterError) as caught:
            replace(largest, **larger)
        assert str(caught.value) == f"{name} must be at most 128 for each of the {rows} row slots, not {256 * rows}"
