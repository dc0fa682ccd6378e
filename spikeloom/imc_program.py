"""Compile a network for a core of tiles: cells of all crossbars, and what the host sends to run every layer."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from golden.arch import ParameterError


def compile_imc(source: str, preset: str, out: Path | str, *, images: int = 1, steps: int | None = None,
                data: Path | None = None, macro: str | None = None, exit_margin: int | None = None,
                leak_nearest: bool = False, force: bool = False) -> dict[str, Any]:
    """Write the program of a workload into the folder ``out`` and return its ``program.json``.

    ``cells.safetensors`` has the levels uint8 [rows, cols] of every crossbar by number, ``jobs.bin`` the packets that write
    them (`hdl.imc.write_program`); ``program.bin``, ``inputs.bin`` and ``expected.bin`` are those of
    `hdl.imc.program_files`, whose C driver sends them.

    macro : see `verif.imc.setting.setting_of`; effects key what golden expects
    exit_margin : an image stops as `golden.imc.early_exit` says. Layers are then those of step 0; another step t has
        LAYER_FIRST_STEP t and LAYER_FRESH 0, and no layer with LAYER_ONCE
    Raises `ParameterError` for bad input, or a folder as `hdl.folder.write_folder` says.
    """
    from safetensors.numpy import save

    from golden.imc.arch import load_preset
    from golden.imc.run import place, run
    from hdl.folder import check_folder, write_folder
    from hdl.imc.activation import operand_words
    from hdl.imc.program import programs
    from hdl.imc.program_files import Compiled, program_files
    from hdl.imc.write_program import write_packets
    from hdl.program_files import DESCRIPTION
    from verif.imc.lowering import lowering_arch
    from verif.imc.setting import calibration_fields, setting_of
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
    words = [workload.words(index) for index in range(images)]
    frames = network.steps if network.input.kind == "steps" else 1
    compiled = Compiled(
        scheme=setting.scheme, layers=[layer if exit_margin is None else layer.only(0) or layer for layer in layers],
        jobs=[*write_packets(p, placed)], inputs=[operand_words(network.layers[0], tensors, p.rows) for tensors in words],
        planes=[(frame, bit) for frame in range(frames) for bit in range(network.input.bits)],
        expected=[_expected(run(network, p, setting, tensors, image=index, placed=placed), exit_margin)
                  for index, tensors in enumerate(words)],
        writings=_writings(p), calibrations={way: calibration_fields(p, setting.adc, way) for way in ("offsets", "trims")},
        steps=network.steps, exit_margin=exit_margin)
    files = program_files(p, workload.name, network, compiled, save(_cells(p, placed)))
    write_folder(Path(out), files, DESCRIPTION, force=force)
    description: dict[str, Any] = json.loads(files[DESCRIPTION])
    return description


def _cells(p: Any, placed: Any) -> dict[str, Any]:
    """Return the levels uint8 [rows, cols] of every crossbar, by number."""
    from golden.imc.run import number

    return {str(number(p, entry.crossbar, -(-entry.mapped.column_blocks * p.fan_in // p.tiles), r, c)):
            entry.mapped.cells(p, r, c).astype("uint8") for entry in placed
            for r in range(entry.mapped.row_blocks) for c in range(entry.mapped.column_blocks)}


def _writings(p: Any) -> dict[str, dict[str, int]]:
    """Return the registers of how cells are written, of every device that has cells of so many bits."""
    from golden.imc.devices import DEVICES
    from hdl.imc.write_registers import write_words

    return {name: write_words(dataclasses.asdict(device.settings(p.cell_bits)), p.cell_bits)
            for name, device in DEVICES.items() if device.cell_bits >= p.cell_bits}


def _expected(trace: Any, exit_margin: int | None) -> tuple[list[int], int, int]:
    """Return the sums of an image over the steps that it takes, their class, and those steps."""
    import numpy as np

    from golden.imc.early_exit import early_exit, sums_by_step

    sums = np.asarray(sums_by_step(trace))
    steps = len(sums) if exit_margin is None else int(early_exit(sums, exit_margin).steps)
    return sums[steps - 1].tolist(), int(sums[steps - 1].argmax()), steps
