"""Random layers for the benches of a core of tiles: fields of `hdl.imc.layer` that fit together, and the builds to run them."""

import dataclasses
import random
from typing import Any

from golden.imc.arch import IMC_PRESETS, ImcArch
from golden.imc.mapping import chunk_of
from golden.imc.vector_walk import Vector
from golden.walker import Fields
from golden.window import extent
from hdl.imc.layer import layer_layout, vector_layout
from hdl.parallel_lif import Reset
from verif.sim import parameters_of_bench
from verif.stream import word

TINY = dataclasses.replace(IMC_PRESETS["tiny-ci"], channels=40, input_bits=3, membranes=2048, map_words=2048)
CORES = {
    "one tile": TINY,
    "two trees of two": dataclasses.replace(TINY, tiles=4, fan_in=2),
    "one tree of four": dataclasses.replace(TINY, tiles=4, fan_in=4),
    "two single tiles": dataclasses.replace(TINY, tiles=2, fan_in=1, rows=8, crossbars=40),
}
# A map, a kernel, pools and steps that a random draw meets too rarely.
CORNERS: tuple[dict[str, Any], ...] = (
    {"kernel": 1, "stride": 1, "padding": 0, "in_channels": 1, "channels": 1, "pool": 1, "steps": 1},
    {"kernel": 3, "stride": 2, "padding": 1, "pool": 2, "in_channels": 3},
    {"kernel": 3, "stride": 1, "padding": 1, "pool": 3, "steps": 2},
    {"kernel": 1, "height": 1, "width": 1, "padding": 0, "stride": 1, "in_channels": 37, "steps": 16},
    {"kernel": 2, "padding": 2, "in_channels": 24, "pool": 1, "steps": 3},
    {"kernel": 2, "stride": 1, "pool": 2, "steps": 3, "per_step": 0, "once": 1, "readout": 0, "scale": 0, "share_log2": 0},
    {"kernel": 2, "stride": 1, "pool": 2, "steps": 2, "channels": 12, "share_log2": 2, "pool_mode": 0, "readout": 0,
     "scale": 0},
    {"kernel": 1, "padding": 0, "pool": 1, "steps": 3, "channels": 2, "share_log2": 1, "readout": 0, "scale": 0, "fresh": 0},
)
TAILS = ("neurons", "scale", "readout")
STRIDES = {1: 1, 2: 2, 3: 2}


def arch() -> ImcArch:
    """Return the build of the block in the simulator."""
    return ImcArch(**parameters_of_bench())


def layer_word(fields: Fields) -> int:
    """Return the value of a block's ``layer`` port."""
    return word(layer_layout(), dict(fields))


def vector_word(p: ImcArch, vector: Vector) -> int:
    """Return the payload of a vector."""
    return word(vector_layout(p), {name: int(value) for name, value in dataclasses.asdict(vector).items()})


def corners(rng: random.Random, p: ImcArch, count: int, *, most: int = 150) -> list[dict[str, int]]:
    """Return a layer of every corner, in both orders of time, then ``count`` random ones."""
    return [*(draw_layer(rng, p, most=most, time_inner=inner, **corner) for corner in CORNERS for inner in (0, 1)),
            *(draw_layer(rng, p, most=most) for _ in range(count))]


def draw_layer(rng: random.Random, p: ImcArch, *, most: int = 150, tail: str | None = None,
               **chosen: int) -> dict[str, int]:
    """Return all fields of a layer that a core of build ``p`` runs, of at most ``most`` vectors.

    tail : of `TAILS`; None: any
    chosen : fields that are given, and height, width, in_channels, kernel (both sides) and pool (its kernel; 1: none)
    """
    while True:
        drawn: dict[str, int] = {
            "height": rng.randint(1, 6), "width": rng.randint(1, 6), "stride": rng.choice((1, 1, 2, 3)),
            "padding": rng.choice((0, 0, 1, 2)), "pool": rng.choice((1, 1, 2, 3)), "steps": rng.choice((1, 2, 3, 4, p.t_max)),
            "in_channels": rng.choice((1, 2, 3, p.rows - 1, p.rows, p.rows + 1, 2 * p.rows + 5)),
            "channels": rng.choice((1, 2, 5, rng.randint(1, p.channels), p.channels)), "time_inner": rng.randrange(2), **chosen}
        kernel = (drawn["kernel"],) * 2 if "kernel" in drawn else (rng.randint(1, 3), rng.randint(1, 3))
        layer = {name: value for name, value in drawn.items() if name in layer_layout().members}
        layer |= {"in_height": drawn["height"], "in_width": drawn["width"]}
        sums = [extent(size, k, drawn["stride"], drawn["padding"])
                for size, k in zip((drawn["height"], drawn["width"]), kernel, strict=True)]
        stride = STRIDES[drawn["pool"]]
        out = [extent(size, drawn["pool"], stride, 0) for size in sums]
        if min(sums) < 1 or min(out) < 1 or out[0] * out[1] * drawn["pool"] ** 2 * drawn["steps"] > most:
            continue
        layer |= {
            "kernel_height": kernel[0], "kernel_width": kernel[1], "conv_width": sums[1], "pixels": sums[0] * sums[1],
            "out_height": out[0], "out_width": out[1], "pool_kernel": drawn["pool"], "pool_stride": stride}
        layer |= _inner(rng, p, drawn["in_channels"], layer) | _tail(rng, p, layer, tail)
        layer |= {name: value for name, value in chosen.items() if name in layer_layout().members}
        layer["share_log2"] = 0 if layer["readout"] or layer["scale"] else chosen.get("share_log2", rng.choice([
            log2 for log2 in (0, 0, 1, 2) if layer["channels"] % (1 << log2) == 0]))
        layer["once"] &= not layer["per_step"] and layer["steps"] <= p.input_bits and layer["share_log2"] == 0
        layer |= _places(rng, p, layer)
        if _fits(p, layer):
            return layer


def _inner(rng: random.Random, p: ImcArch, channels: int, layer: Fields) -> dict[str, int]:
    """Return how the operand is read and where the weights are."""
    chunk = chunk_of(p.rows, channels)
    groups, chunks, outputs = -(-channels // chunk), p.rows // chunk, rng.choice((1, 2, 3, 5, 8))
    blocks, columns = -(-layer["kernel_height"] * layer["kernel_width"] * groups // chunks), -(-layer["channels"] // outputs)
    shift, span = (rng.randrange(p.rows), rng.randint(0, chunk)) if p.tokens and rng.random() < 0.5 else (0, 0)
    return {
        "source": rng.randrange(2), "in_shift": shift, "in_span": span, "in_groups": groups,
        "chunk_log2": chunk.bit_length() - 1, "chunks": chunks,
        "bits": rng.randint(1, p.input_bits), "per_step": rng.randrange(2), "once": rng.randrange(2), "outputs": outputs,
        "blocks": blocks, "rounds_in": -(-blocks // p.fan_in), "column_blocks": columns,
        "rounds_out": -(-columns * p.fan_in // p.tiles)}


def _tail(rng: random.Random, p: ImcArch, layer: Fields, tail: str | None) -> dict[str, int]:
    """Return what follows the sums."""
    pooled, kind = layer["pool_kernel"] > 1, tail or rng.choice(TAILS)
    modes = (0,) if not pooled else (1, 2) if kind == "scale" else (0, 1, 2)
    k = rng.randint(0, 2)
    return {
        "pool_mode": rng.choice(modes), "readout": kind == "readout", "scale": kind == "scale",
        "word_bits": rng.randint(1, p.word_bits), "factor": int(p.tokens > 0 and rng.random() < 0.5),
        "word_signed": rng.randrange(2), "leak_shift": k, "decay_input": rng.randrange(2) if k < 2 else 0,
        "strict": rng.randrange(2), "reset": rng.randrange(len(Reset)),
        "first_step": rng.randint(0, p.t_max - layer["steps"]), "fresh": rng.randrange(2)}


def _places(rng: random.Random, p: ImcArch, layer: Fields) -> dict[str, int]:
    """Return where operand, weights and output lie; nothing when memory or crossbars do not hold them."""
    times, groups = layer["first_step"] + layer["steps"], -(-layer["channels"] // p.rows)
    row, windows = layer["in_width"] * layer["in_groups"], layer["out_height"] * layer["out_width"]
    in_planes = layer["bits"] * (times if layer["per_step"] else 1)
    out_planes = layer["word_bits"] * (times if layer["per_step"] else 1) if layer["scale"] else times
    spare = [p.map_words - in_planes * layer["in_height"] * row, p.map_words - out_planes * windows * groups,
             p.crossbars - layer["rounds_in"] * layer["rounds_out"], p.membranes - membranes(layer)]
    if min(spare) < 0:
        return {}
    in_base, out_base, crossbar, membrane = (rng.choice((0, most, rng.randint(0, most))) for most in spare)
    return {"in_base": in_base, "in_row": row, "in_plane": layer["in_height"] * row, "out_base": out_base,
            "out_plane": windows * groups, "out_groups": groups, "crossbar": crossbar,
            "membrane": membrane}


def membranes(layer: Fields) -> int:
    """Return how many membranes a layer has."""
    windows = 1 if layer["time_inner"] else layer["out_height"] * layer["out_width"]
    return (layer["channels"] >> layer["share_log2"]) * (1 if layer["pool_mode"] else layer["pool_kernel"] ** 2) * windows


def _fits(p: ImcArch, layer: Fields) -> bool:
    """Return whether what lies behind the tiles holds the layer, and its order of time is one that it has."""
    windows, members = layer["out_height"] * layer["out_width"], layer["pool_kernel"] ** 2
    lane = layer["rounds_out"] * layer["outputs"] * p.tiles // p.fan_in
    reads_out = not layer["readout"] or (members == 1 and (layer["time_inner"] or windows == 1))
    return "in_base" in layer and lane <= p.channels and bool(reads_out)
