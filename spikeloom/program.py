"""Compile a network: everything that a chip or an FPGA needs to run it, in one folder."""

import json
import struct
from pathlib import Path
from typing import Any

from golden.arch import ParameterError, load_preset


def compile_workload(source: str, preset: str, out: Path | str, *, images: int = 1, steps: int | None = None,
                     data: Path | None = None, leak_nearest: bool = False, force: bool = False) -> dict[str, Any]:
    """Write the program of a workload into the folder ``out`` and return its ``program.json``.

    source : shipped name or captured file
    preset : preset name or TOML file
    images : input blocks and expected results of the first images of the data
    steps, data, leak_nearest : as `verif.workload.load_workload`
    force : write into a folder that holds files which are not ours
    Raises `ParameterError` for bad input, or a folder as `hdl.folder.write_folder` says.
    """
    from golden.run import logits, predict, run
    from hdl.folder import check_folder, write_folder
    from hdl.image import build_image
    from hdl.program_files import DESCRIPTION, classes, program_files
    from verif.workload import load_workload

    arch = load_preset(preset)
    check_folder(Path(out), DESCRIPTION, force=force)
    workload = load_workload(source, arch, steps=steps, data=data, leak_nearest=leak_nearest)
    workload.check_images(images)
    if not workload.network.layers[-1].readout:
        raise ParameterError(f"workload: must end in a read-out, which the driver compares, not {workload.name}, which ends in "
                             f"a stream; legal: classifiers; try: spikeloom simulate {workload.name}")
    image = build_image(workload.network, arch)
    workload.check_labels(classes(image))
    inputs, expected = b"", b""
    for index in range(images):
        words = workload.words(index)
        trace = run(workload.network, words)
        values = logits(trace).tolist()
        inputs += image.input_block(words)
        expected += struct.pack(f"<{len(values) + 1}i", *values, predict(trace))
    files = program_files(workload.network, arch, image, inputs=inputs, expected=expected, images=images)
    write_folder(Path(out), files, DESCRIPTION, force=force)
    description: dict[str, Any] = json.loads(files[DESCRIPTION])
    return description
