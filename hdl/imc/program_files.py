"""The files of a program for a core of tiles: words that the C driver sends, description, C header, C driver."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from golden.imc.arch import Error, ImcArch
from hdl.bus.register_map import c_header
from hdl.generate import LICENCE, VERSION
from hdl.imc.host_port import Target
from hdl.imc.job_port import words
from hdl.imc.program import LayerProgram
from hdl.imc.register_map import ERRORS, OFFSETS, register_map
from hdl.imc.write_job import COUNTS
from hdl.program_files import c_files, described, initialiser

PREFIX = "SPIKELOOM_IMC"
ONCE, READOUT = 1, 2
# A word of the files.
WORD = np.dtype("<u4")
DRIVER = ("spikeloom_imc_driver.h", "spikeloom_imc_driver.c")


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A network on a core of tiles, and what comes with it.

    scheme : of signed weights
    layers : in their order; with early exit those of step 0
    jobs : packets that write all cells (`hdl.imc.write_program`)
    inputs : planes of an image as words (`hdl.imc.activation.pack`), of the first images
    planes : frame and bit of each plane of the values that an image is
    expected : per image the sums [channel][y][x] over the steps that run, their class, those steps
    writings : registers of how cells are written, by device
    calibrations : fields of MACHINE of a calibration, by what it finds
    """

    scheme: str
    layers: Sequence[LayerProgram]
    jobs: Sequence[Sequence[int]]
    inputs: Sequence[Any]
    planes: Sequence[tuple[int, int]]
    expected: Sequence[tuple[Sequence[int], int, int]]
    writings: Mapping[str, Mapping[str, int]]
    calibrations: Mapping[str, Mapping[str, int]]
    steps: int
    exit_margin: int | None


def layer_words(layer: LayerProgram) -> list[int]:
    """Return what the host does to run a layer, as the driver reads it.

    Flags (1 only in the first step of an image with early exit, 2 a read-out), number of registers, words of the packet of
    biases, of the packet of second parameters; offset and value of each register; both packets.
    """
    registers = [(OFFSETS[name], value) for name, value in layer.registers.items()]
    bias, second = ([int(target), *numbers] for target, numbers in (
        (Target.BIAS, layer.biases), (Target.SECOND, layer.seconds)))
    flags = ONCE * layer.fields["once"] | READOUT * layer.fields["readout"]
    return [flags, len(registers), len(bias), len(second), *(word for pair in registers for word in pair), *bias, *second]


def input_block(image: Any) -> bytes:
    """Return the packet that writes the planes of an image into memory 0."""
    return np.concatenate([[int(Target.MAP_0)], np.asarray(image).ravel()]).astype(WORD).tobytes()


def binary(numbers: Sequence[Any]) -> bytes:
    """Return words of 32 bits, little endian; negative ones as two's complement."""
    return (np.asarray(numbers, np.int64).ravel() & 0xFFFF_FFFF).astype(WORD).tobytes()


def sizes(p: ImcArch, compiled: Compiled, program: bytes) -> dict[str, int]:
    """Return the members of a ``spikeloom_imc_network`` of the driver, by name."""
    channels, height, width = compiled.layers[-1].shape
    return {
        "CONFIG_HASH": int(p.hash, 16), "PROGRAM_WORDS": len(program) // WORD.itemsize, "LAYERS": len(compiled.layers),
        "INPUT_WORDS": 1 + np.asarray(compiled.inputs[0]).size, "CHANNELS": channels, "HEIGHT": height, "WIDTH": width,
        "STEPS": compiled.steps, "EXITS": int(compiled.exit_margin is not None), "JOBS": len(compiled.jobs),
        "JOB_WORDS": len(compiled.jobs[0]),
        "ANSWER_WORDS": 1 + words(p.cols) + words(p.cols * p.cell_bits) + len(COUNTS)}


def program_header(p: ImcArch, network: Any, compiled: Compiled, program: bytes) -> str:
    """Return ``spikeloom_imc_program.h``: register map, error texts, sizes of one network, devices, calibrations."""
    spec, network_sizes = network.input, sizes(p, compiled, program)
    logits = network_sizes["CHANNELS"] * network_sizes["HEIGHT"] * network_sizes["WIDTH"]
    form = [spec.channels, spec.height, spec.width, p.rows, len(compiled.planes)]
    texts = [json.dumps(ERRORS[error]) for error in Error]
    lines = [
        f"#ifndef {PREFIX}_PROGRAM_H", f"#define {PREFIX}_PROGRAM_H", "",
        c_header(register_map(p), PREFIX.lower()).rstrip(), "",
        "/* Meanings of the register ERROR, by code. */", initialiser(f"{PREFIX}_ERROR_TEXTS", texts),
        f"#define {PREFIX}_ERROR_CELLS {int(Error.CELLS)}", "",
        "/* This network. Initialiser of a spikeloom_imc_network of spikeloom_imc_driver.h. */",
        *(f"#define {PREFIX}_NETWORK_{name} {value}u" for name, value in network_sizes.items()),
        f"#define {PREFIX}_NETWORK_LOGITS {logits}u",
        *(f"#define {PREFIX}_NETWORK_LAYER_{n} {json.dumps(layer.name)}" for n, layer in enumerate(compiled.layers)),
        initialiser(f"{PREFIX}_NETWORK", [f"{PREFIX}_NETWORK_{name}" for name in network_sizes]), "",
        "/* A real value x becomes floor(x / SCALE + 1/2), clipped to BITS signed bits (to 0 and 1 for one bit). */",
        f"#define {PREFIX}_INPUT_SCALE {spec.scale!r}", f"#define {PREFIX}_INPUT_BITS {spec.bits}u",
        f"#define {PREFIX}_INPUT {{ {', '.join(f'{value}u' for value in form)} }}",
        initialiser(f"{PREFIX}_PLANES", [f"{{ {frame}u, {bit}u }}" for frame, bit in compiled.planes]), ""]
    for name, fields in compiled.calibrations.items():
        values = [fields[field] for field in ("trims", "log2", "pedestal", "limit")]
        lines.append(f"#define {PREFIX}_{name.upper()} {{ {', '.join(f'{value}u' for value in values)} }}")
    for device, registers in compiled.writings.items():
        lines += ["", f"/* How cells of {device} are written. */", initialiser(f"{PREFIX}_WRITE_{device.upper()}", [
            f"{{ 0x{OFFSETS[name]:03X}u, 0x{value:08X}u }}" for name, value in registers.items()])]
    return "\n".join([*lines, "", "#endif", ""])


def describe(p: ImcArch, workload: str, network: Any, compiled: Compiled, program: bytes) -> dict[str, Any]:
    """Return what ``program.json`` says of the build, the network and its layers, files excepted."""
    spec, network_sizes = network.input, sizes(p, compiled, program)
    logits = len(compiled.expected[0][0])
    return {
        "license": LICENCE, "version": VERSION, "workload": workload, "preset": p.name, "config_hash": p.hash, "top": "imc",
        "steps": network.steps, "exit_margin": compiled.exit_margin, "weight_sparsity": network.weight_sparsity,
        "tiles": p.tiles, "scheme": compiled.scheme, "program_bytes": len(program), "registers": OFFSETS,
        "input": {"kind": spec.kind, "shape": [spec.channels, spec.height, spec.width], "bits": spec.bits,
                  "scale": spec.scale, "planes": [list(plane) for plane in compiled.planes]},
        "inputs": {"images": len(compiled.inputs), "block_bytes": WORD.itemsize * network_sizes["INPUT_WORDS"]},
        "expected": {"images": len(compiled.expected), "record_bytes": 4 * logits + 8, "logits": logits,
                     "record": "int32 logits[channel][y][x], int32 class, int32 steps, little-endian"},
        "jobs": {"packets": network_sizes["JOBS"], "packet_bytes": WORD.itemsize * network_sizes["JOB_WORDS"],
                 "answer_bytes": WORD.itemsize * network_sizes["ANSWER_WORDS"]},
        "layers": [dataclasses.asdict(layer) | {"registers": layer.registers} for layer in compiled.layers]}


def program_files(p: ImcArch, workload: str, network: Any, compiled: Compiled, cells: bytes) -> dict[str, bytes]:
    """Return every file of the folder of a compiled program; the same bytes from run to run.

    cells : the file with the levels of every crossbar
    """
    program = binary([word for layer in compiled.layers for word in layer_words(layer)])
    files = c_files(p, DRIVER, {"spikeloom_imc_program.h": program_header(p, network, compiled, program)})
    files |= {
        "program.bin": program, "jobs.bin": binary(compiled.jobs), "cells.safetensors": cells,
        "inputs.bin": b"".join(input_block(image) for image in compiled.inputs),
        "expected.bin": binary([number for sums, label, steps in compiled.expected for number in (*sums, label, steps)])}
    return described(files, describe(p, workload, network, compiled, program))
