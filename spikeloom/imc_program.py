"""Compile a network for a core of tiles: cells of all crossbars, and what the host writes for every layer."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from golden.arch import ParameterError


def compile_imc(source: str, preset: str, out: Path | str, *, images: int = 1, steps: int | None = None,
                data: Path | None = None, macro: str | None = None, exit_margin: int | None = None,
                leak_nearest: bool = False, force: bool = False) -> dict[str, Any]:
    """Write the program of a workload into the folder ``out`` and return its ``program.json``.

    ``cells.safetensors`` has the levels uint8 [rows, cols] of every crossbar by number, ``jobs.safetensors`` the packets
    uint32 [jobs, words] that write them (`hdl.imc.write_program`), ``images.safetensors`` the words of
    activation memory 0 (uint32 [images, words, parts]), golden's read-outs (int64 [images, classes]), classes and steps.

    macro : see `verif.imc.setting.setting_of`; effects key what golden expects
    exit_margin : an image stops as `golden.imc.early_exit` says. Layers are then those of step 0; another step t has
        LAYER_FIRST_STEP t and LAYER_FRESH 0, and no layer with LAYER_ONCE
    Raises `ParameterError` for bad input, or a folder as `hdl.folder.write_folder` says.
    """
    import numpy as np
    from safetensors.numpy import save

    from golden.imc.arch import load_preset
    from golden.imc.run import place, run
    from hdl.folder import check_folder, write_folder
    from hdl.imc.activation import pack, split
    from hdl.imc.program import programs
    from hdl.imc.write_program import write_packets
    from hdl.program_files import DESCRIPTION
    from verif.imc.setting import setting_of
    from verif.imc.simulate import lowering_arch
    from verif.workload import load_workload

    p = load_preset(preset)
    setting = setting_of(p, macro)
    check_folder(Path(out), DESCRIPTION, force=force)
    workload = load_workload(source, lowering_arch(p), steps=steps, data=data, leak_nearest=leak_nearest)
    workload.check_images(images)
    network = workload.network
    if not network.layers[-1].readout:
        raise ParameterError(f"workload: network that ends in a read-out, not {workload.name}; legal: classifiers; "
                             f"try: spikeloom simulate {workload.name} --top imc")
    placed = place(network, p, setting)
    layers = [*programs(p, network, placed, flash=setting.adc.flash, adc_bits=setting.adc.bits, skip=setting.skip,
                        average_log2=setting.adc.average_log2, exit_margin=exit_margin)]
    layers = [layer if exit_margin is None else layer.only(0) or layer for layer in layers]
    cells = _cells(p, placed)
    first, words, found = placed[0].mapped.layer, [], list[tuple[int, Any]]()
    for index in range(images):
        tensors = workload.words(index)
        words.append(pack(np.concatenate([split(tensors[q.source], len(q.planes)) for q in first.passes]), p.rows))
        trace = run(network, p, setting, tensors, image=index, placed=placed)
        found.append(_expected(trace, exit_margin))
    description = _described(p, workload, layers) | {
        "images": images, "scheme": setting.scheme, "exit_margin": exit_margin, "crossbars": len(cells)}
    files = {
        "cells.safetensors": save(cells),
        "jobs.safetensors": save({"packets": np.asarray([*write_packets(p, placed)], np.uint32)}),
        "images.safetensors": save({
            "memory": np.stack(words), "readouts": np.stack([sums for _, sums in found]),
            "classes": np.asarray([sums.argmax() for _, sums in found]), "steps": np.asarray([ran for ran, _ in found])}),
        DESCRIPTION: (json.dumps(description, indent=2) + "\n").encode()}
    write_folder(Path(out), files, DESCRIPTION, force=force)
    return description


def _described(p: Any, workload: Any, layers: list[Any]) -> dict[str, Any]:
    """Return what ``program.json`` says of the build, the network and its layers."""
    from hdl.generate import VERSION
    from hdl.imc.register_map import OFFSETS

    return {
        "version": VERSION, "workload": workload.name, "preset": p.name, "config_hash": p.hash, "top": "imc",
        "steps": workload.network.steps, "weight_sparsity": workload.network.weight_sparsity, "tiles": p.tiles,
        "registers": OFFSETS, "layers": [dataclasses.asdict(layer) | {"registers": layer.registers} for layer in layers],
        "files": ["cells.safetensors", "jobs.safetensors", "images.safetensors"]}


def _cells(p: Any, placed: Any) -> dict[str, Any]:
    """Return the levels uint8 [rows, cols] of every crossbar, by number."""
    from golden.imc.run import number

    return {str(number(p, entry.crossbar, -(-entry.mapped.column_blocks * p.fan_in // p.tiles), r, c)):
            entry.mapped.cells(p, r, c).astype("uint8") for entry in placed
            for r in range(entry.mapped.row_blocks) for c in range(entry.mapped.column_blocks)}


def _expected(trace: Any, exit_margin: int | None) -> tuple[int, Any]:
    """Return the steps that an image takes, and its sums int64 [classes] after them."""
    import numpy as np

    from golden.imc.early_exit import early_exit, sums_by_step

    sums = np.asarray(sums_by_step(trace))
    steps = len(sums) if exit_margin is None else int(early_exit(sums, exit_margin).steps)
    return steps, sums[steps - 1]
