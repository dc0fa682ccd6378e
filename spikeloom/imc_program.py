"""Compile a network for a core of tiles: cells of all crossbars, and what the host writes for every layer."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from golden.arch import ParameterError


def compile_imc(source: str, preset: str, out: Path | str, *, images: int = 1, steps: int | None = None,
                data: Path | None = None, macro: str | None = None, leak_nearest: bool = False,
                force: bool = False) -> dict[str, Any]:
    """Write the program of a workload into the folder ``out`` and return its ``program.json``.

    ``cells.safetensors`` has the levels uint8 [rows, cols] of every crossbar by number, ``images.safetensors`` the words of
    activation memory 0 (uint32 [images, words, parts]), golden's read-outs (int64 [images, classes]) and classes.

    macro : see `verif.imc.setting.setting_of`; effects key what golden expects
    Raises `ParameterError` for bad input, or a folder as `hdl.folder.write_folder` says.
    """
    import numpy as np
    from safetensors.numpy import save

    from golden.imc.arch import load_preset
    from golden.imc.run import number, place, run
    from golden.run import logits, predict
    from hdl.folder import check_folder, write_folder
    from hdl.generate import VERSION
    from hdl.imc.activation import pack, split
    from hdl.imc.program import programs
    from hdl.imc.register_map import OFFSETS
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
    layers = programs(p, network, placed, flash=setting.adc.flash, adc_bits=setting.adc.bits, skip=setting.skip,
                      average_log2=setting.adc.average_log2)
    cells = {str(number(p, entry.crossbar, -(-entry.mapped.column_blocks * p.fan_in // p.tiles), r, c)):
             entry.mapped.cells(p, r, c).astype(np.uint8) for entry in placed
             for r in range(entry.mapped.row_blocks) for c in range(entry.mapped.column_blocks)}
    first, words, expected, classes = placed[0].mapped.layer, [], [], []
    for index in range(images):
        tensors = workload.words(index)
        words.append(pack(np.concatenate([split(tensors[q.source], len(q.planes)) for q in first.passes]), p.rows))
        trace = run(network, p, setting, tensors, image=index, placed=placed)
        expected.append(np.asarray(logits(trace)))
        classes.append(predict(trace))
    description = {
        "version": VERSION, "workload": workload.name, "preset": p.name, "config_hash": p.hash, "top": "imc",
        "steps": network.steps, "images": images, "weight_sparsity": network.weight_sparsity, "scheme": setting.scheme,
        "crossbars": len(cells), "tiles": p.tiles, "registers": OFFSETS,
        "layers": [dataclasses.asdict(layer) | {"registers": layer.registers} for layer in layers],
        "files": ["cells.safetensors", "images.safetensors"]}
    files = {
        "cells.safetensors": save(cells),
        "images.safetensors": save({"memory": np.stack(words), "readouts": np.stack(expected), "classes": np.asarray(classes)}),
        DESCRIPTION: (json.dumps(description, indent=2) + "\n").encode()}
    write_folder(Path(out), files, DESCRIPTION, force=force)
    return description
