"""The files of a compiled program: binary and hex image, description, C header, C driver."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from golden.arch import Arch
from golden.formats import ERRORS, FORMAT_MAJOR, FORMAT_MINOR, STATS, STATS_BYTES
from golden.imc.arch import ImcArch
from hdl.bus.register_map import c_header, register_map
from hdl.generate import LICENCE, VERSION, origin_of
from hdl.image import Image
from hdl.plan import LayerPlan
from hdl.regions import Tensor

DESCRIPTION = "program.json"
TEMPLATES = Path(__file__).parent / "templates"


def hex_image(data: bytes, data_bits: int) -> str:
    """Return ``data`` for ``$readmemh``: one word of ``data_bits`` a line, the last one filled up with zeros."""
    step = data_bits // 8
    padded = data.ljust(-(-len(data) // step) * step, b"\0")
    return "".join(padded[at:at + step][::-1].hex() + "\n" for at in range(0, len(padded), step))


def readout(image: Image) -> dict[str, int]:
    """Return offset, channels, height and width of the last layer's read-out, int32 ``[y][x][c]``."""
    region = image.currents[image.plans[-1].name]
    return {"offset": region.base, "channels": region.channels, "height": region.height, "width": region.width}


def classes(image: Image) -> int:
    """Return how many sums the last layer reads out."""
    result = readout(image)
    return result["channels"] * result["height"] * result["width"]


def memory_map(image: Image) -> list[dict[str, Any]]:
    """Return every region by offset: name, offset, bytes, who writes it."""
    regions = [("program", 0, image.program_bytes, "host"),
               *((f"{plan.name}.weights", *plan.weights, "host") for plan in image.plans),
               ("input", image.inputs, image.input_bytes, "host"),
               ("stats", image.stats, STATS_BYTES * image.records, "accelerator")]
    for name, tensor in image.tensors.items():
        regions += [(f"{name}.masks", tensor.masks, tensor.pixels * tensor.mask_stride, "accelerator"),
                    (f"{name}.values", tensor.values, tensor.pixels * tensor.slot_stride, "accelerator")]
    for name, region in image.currents.items():
        kind = "readout" if region.depth == 1 and name == image.plans[-1].name else "currents"
        regions.append((f"{name}.{kind}", region.base, region.size, "accelerator"))
    return [{"name": name, "offset": offset, "bytes": size, "written_by": writer}
            for name, offset, size, writer in sorted(regions, key=lambda region: region[1:3])]


def describe(network: Any, arch: Arch, image: Image, *, images: int) -> dict[str, Any]:
    """Return what ``program.json`` says of a network (`golden.network.Network`) and its image, files excepted."""
    spec = network.input
    result, logits = readout(image), classes(image)
    return {
        "license": LICENCE, "version": VERSION, "workload": network.name, "preset": arch.name,
        "config_hash": arch.hash, "format": f"{FORMAT_MAJOR}.{FORMAT_MINOR}", "steps": network.steps,
        "data_bits": arch.data_bits, "weight_sparsity": network.weight_sparsity,
        "program_bytes": len(image.data), "memory_bytes": image.size,
        "memory_map": memory_map(image),
        "input": {
            "kind": spec.kind, "shape": [spec.channels, spec.height, spec.width], "bits": spec.bits,
            "scale": spec.scale, "plane_bits": spec.plane_bits, "offset": image.inputs,
            "block_bytes": image.input_bytes,
            "tensors": {name: _tensor(tensor) for name, tensor in image.input_tensors.items()}},
        "inputs": {"images": images, "block_bytes": image.input_bytes},
        "expected": {"images": images, "record_bytes": 4 * logits + 4, "logits": logits,
                     "record": "int32 logits[channel][y][x], then int32 class, little-endian"},
        "readout": {**result, "layout": "int32 [y][x][channel], summed over the timesteps"},
        "stats": {"offset": image.stats, "record_bytes": STATS_BYTES, "words": list(STATS)},
        "layers": [_layer(layer, plan, image) for layer, plan in zip(network.layers, image.plans, strict=True)],
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {"shape": [tensor.channels, tensor.height, tensor.width], "word_bits": 1 << tensor.word_log2,
            "masks": tensor.masks, "mask_stride": tensor.mask_stride,
            "values": tensor.values, "slot_stride": tensor.slot_stride}


def _layer(layer: Any, plan: LayerPlan, image: Image) -> dict[str, Any]:
    offset, size = plan.weights
    found: dict[str, Any] = {
        "name": layer.name, "origin": layer.origin,
        "shape": [plan.columns, plan.height, plan.width], "out_shape": [plan.columns, plan.out_height, plan.out_width],
        "row_tiles": plan.row_tiles, "column_tiles": plan.column_tiles, "order": plan.order,
        "bytes_moved_at_most": plan.moved, "first_record": plan.record,
        "parts": [[part.start, part.stop] for part in plan.parts],
        "weights": {"offset": offset, "bytes": size},
        "passes": [{
            "source": sweep.source, "rows": sweep.rows, "weight_shape": list(sweep.weight.shape),
            "nonzero_weights": int((sweep.weight != 0).sum()), "weights": prod(sweep.weight.shape),
            "stride": sweep.stride, "padding": sweep.padding} for sweep in layer.passes],
        "residual": layer.residual,
    }
    for name in ("max_pool", "sum_pool", "or_pool"):
        pool = getattr(layer, name)
        found[name] = pool and {"kernel": pool.kernel, "stride": pool.stride, "padding": pool.padding}
    found["neuron"] = layer.neuron and {
        "leak": layer.neuron.leak, "leak_shift": layer.neuron.leak_shift, "decay_input": layer.neuron.decay_input,
        "compare": layer.neuron.compare, "reset": layer.neuron.reset}
    found["attention"] = layer.attention and {
        "query": layer.attention.query, "key": layer.attention.key, "value": layer.attention.value,
        "heads": layer.attention.heads, "chunk_steps": layer.attention.chunk_steps, "saturation": layer.attention.saturation}
    found["requantise"] = layer.requantise and {"bits": layer.requantise.bits, "signed": layer.requantise.signed,
                                                    "step": layer.requantise.step}
    found["digit"] = layer.digit and {"low": layer.digit.low, "bits": layer.digit.bits, "step": layer.digit.step,
                                      "clip": layer.digit.clip}
    found["ttfs"] = layer.ttfs and {"window": layer.ttfs.window, "resolution": layer.ttfs.resolution, "bits": layer.ttfs.bits}
    found["spikes"] = _tensor(image.tensors[layer.name]) if layer.name in image.tensors else None
    region = image.currents.get(layer.name)
    found["currents"] = region and {"offset": region.base, "bytes": region.size, "stride": region.stride,
                                    "depth": region.depth}
    return found


def record_names(image: Image) -> list[str]:
    """Return the name of every layer descriptor: its layer, with the channels where it is one part of several."""
    return [plan.name if len(plan.parts) == 1 else f"{plan.name}[{part.start}:{part.stop}]"
            for plan in image.plans for part in plan.parts]


def initialiser(name: str, items: Sequence[str]) -> str:
    """Return a C macro that initialises a struct or an array, an item a line."""
    return f"#define {name} {{ \\\n    " + ", \\\n    ".join(items) + " }"


def _input_macros(network: Any, image: Image) -> list[str]:
    spec = network.input
    spikes = spec.kind == "steps" and spec.bits == 1
    groups = 1 if spikes else -(-spec.bits // spec.plane_bits)
    tensors = []
    for name, tensor in image.input_tensors.items():
        frame, group = divmod(int(name.removeprefix("input.")), groups)
        shift = group * spec.plane_bits
        values = [tensor.masks - image.inputs, tensor.values - image.inputs, frame, shift,
                  min(spec.plane_bits, spec.bits - shift)]
        tensors.append(f"{{ {', '.join(f'{value}u' for value in values)} }}")
    form = [spec.channels, spec.height, spec.width, network.steps, int(spikes),
            1 << next(iter(image.input_tensors.values())).word_log2, len(tensors), image.input_bytes]
    return [
        "/* A real value x becomes floor(x / SCALE + 1/2), clipped to BITS signed bits (to 0 and 1 for one bit). */",
        f"#define SPIKELOOM_NETWORK_INPUT_SCALE {spec.scale!r}", f"#define SPIKELOOM_NETWORK_INPUT_BITS {spec.bits}u",
        f"#define SPIKELOOM_NETWORK_INPUT {{ {', '.join(f'{value}u' for value in form)} }}",
        initialiser("SPIKELOOM_NETWORK_TENSORS", tensors)]


def program_header(network: Any, arch: Arch, image: Image) -> str:
    """Return ``spikeloom_program.h``: register map, error texts, sizes and offsets of one network."""
    result = readout(image)
    values = {
        "CONFIG_HASH": int(arch.hash, 16),
        "PROGRAM_BYTES": len(image.data), "INPUTS": image.inputs, "INPUT_BYTES": image.input_bytes,
        "STATS": image.stats, "LAYERS": image.records, "READOUT": result["offset"],
        "CHANNELS": result["channels"], "HEIGHT": result["height"], "WIDTH": result["width"],
        "MEMORY_BYTES": image.size,
    }
    lines = [
        "#ifndef SPIKELOOM_PROGRAM_H", "#define SPIKELOOM_PROGRAM_H", "", c_header(register_map(arch)).rstrip(), "",
        "/* Meanings of the register ERROR, by code. */",
        initialiser("SPIKELOOM_ERROR_TEXTS", [json.dumps(ERRORS[code]) for code in sorted(ERRORS)]), "",
        "/* Counter record at the end of a layer: 32-bit words, totals since the start. */",
        f"#define SPIKELOOM_STATS_BYTES {STATS_BYTES}u",
        *(f"#define SPIKELOOM_STATS_{name.upper()} {index}u" for index, name in enumerate(STATS)), "",
        "/* This network: byte offsets from the base, sizes in bytes. */",
        *(f"#define SPIKELOOM_NETWORK_{name} {value}u" for name, value in values.items()),
        f"#define SPIKELOOM_NETWORK_LOGITS {classes(image)}u",
        *(f"#define SPIKELOOM_NETWORK_LAYER_{index} {json.dumps(name)}" for index, name in enumerate(record_names(image))), "",
        *_input_macros(network, image), "",
        "/* Initialiser of a spikeloom_network of spikeloom_driver.h. */",
        initialiser("SPIKELOOM_NETWORK", [f"SPIKELOOM_NETWORK_{name}" for name in values]),
        "", "#endif", ""]
    return "\n".join(lines)


def program_files(network: Any, arch: Arch, image: Image, *, inputs: bytes, expected: bytes,
                  images: int) -> dict[str, bytes]:
    """Return every file of the folder of a compiled program; the same bytes from run to run.

    inputs : input blocks of the first ``images`` images
    expected : per image the logits and the class, int32 little-endian
    """
    files = c_files(arch, ("spikeloom_driver.h", "spikeloom_driver.c"), {
        "spikeloom_program.h": program_header(network, arch, image)})
    mark, origin = origin_of(arch)
    files["program.hex"] = f"// {mark}\n// {origin}\n{hex_image(image.data, arch.data_bits)}".encode()
    files |= {"program.bin": image.data, "inputs.bin": inputs, "expected.bin": expected}
    return described(files, describe(network, arch, image, images=images))


def c_files(arch: Arch | ImcArch, templates: Sequence[str], texts: Mapping[str, str]) -> dict[str, bytes]:
    """Return the C files of a compiled program: a driver from `TEMPLATES`, and the texts of other files by name."""
    mark, origin = origin_of(arch)
    return {name: f"/* {mark} */\n/* {origin} */\n\n{text}".encode() for name, text in (
        {name: (TEMPLATES / name).read_text() for name in templates} | dict(texts)).items()}


def described(files: dict[str, bytes], description: dict[str, Any]) -> dict[str, bytes]:
    """Return files with their description, which names each with its SHA-256."""
    hashes = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    return files | {DESCRIPTION: (json.dumps(description | {"files": hashes}, indent=2) + "\n").encode()}
