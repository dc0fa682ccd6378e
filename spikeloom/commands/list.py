"""``spikeloom list``."""

from collections.abc import Collection, Iterable
from math import prod
from typing import TYPE_CHECKING, Any

import click

from spikeloom.commands import top_option
from spikeloom.output import Output, common

if TYPE_CHECKING:
    from golden.imc.arch import ImcArch


@click.command("list", epilog="Example: spikeloom list --json -")
@top_option
@common
def command(output: Output, top: str) -> None:
    """Show workloads, presets and blocks."""
    from golden.arch import PRESETS
    from golden.imc.arch import IMC_PRESETS
    from spikeloom.blocks import blocks
    from spikeloom.catalogue import workloads

    shipped = workloads()
    output.table(["workload", "preset", "T", "golden accuracy", "weight sparsity", "source"], [
        [w["name"], w["preset"], w["steps"], "-" if w["accuracy_golden"] is None else f"{w['accuracy_golden']:.2%}",
         f"{w['weight_sparsity']:.2%}", w["source"]] for w in shipped])
    output.say("")
    output.table(["workload", "input", "weight layers", "columns", "inputs", "parameters"], [
        [w["name"], "x".join(map(str, w["input"])), *_sizes(w["shapes"].values())] for w in shipped if not w["layers"]])
    output.say("")
    output.table(["workload", "spiking layers", "rows", "columns", "inputs", "weight sparsity", "silent words"], [
        [w["name"], len(w["layers"]), *(_span(layer[side] for layer in w["layers"]) for side in "MNK"),
         _span((1 - layer["nonzeros"] / (layer["K"] * layer["N"]) for layer in w["layers"]), ".1%"),
         _span((layer["silent"] for layer in w["layers"]), ".1%")] for w in shipped if w["layers"]])
    output.say(f"\npresets  {', '.join(PRESETS)}")
    output.say(f"blocks   {', '.join(blocks())}\n")
    tiles = [_tiles(p) for p in IMC_PRESETS.values()]
    output.table([name.replace("_", " ") for name in ("preset of --top imc", *[*tiles[0]][1:])], [
        [" x ".join(map(str, value)) if isinstance(value, list) else value for value in entry.values()] for entry in tiles])
    output.result({"workloads": shipped, "presets": list(IMC_PRESETS if top == "imc" else PRESETS), "blocks": blocks(),
                   "imc_presets": tiles})


def _tiles(p: "ImcArch") -> dict[str, Any]:
    """Return what there is to know of a preset of tiles: scheme, bits, sizes."""
    return {"preset": p.name, "scheme": p.scheme, "crossbar": [p.rows, p.cols], "tiles": p.tiles,
            "crossbars_a_tile": p.crossbars, "cell_bits": p.cell_bits, "weight_bits": p.weight_bits, "input_bits": p.input_bits,
            "SAR_bits": p.adc_bits, "flash_bits": p.flash_bits, "lossless_bits": p.lossless_bits}


def _sizes(shapes: Collection[list[int]]) -> list[str]:
    """Return number of layers, spans of their columns and inputs, and how many weights there are."""
    return [str(len(shapes)), _span(shape[0] for shape in shapes), _span(prod(shape[1:]) for shape in shapes),
            f"{sum(map(prod, shapes)):,}"]


def _span(values: Iterable[float], form: str = ",") -> str:
    """Return the smallest and the largest value."""
    found = sorted(values)
    return f"{found[0]:{form}} to {found[-1]:{form}}"
