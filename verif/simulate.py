"""Simulate a workload on the RTL and compare everything with golden."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from golden.arch import load_preset
from golden.float_run import float_run
from golden.run import Trace, predict, run
from hdl.image import Image, build_image
from verif.compare import LayerResult, compare
from verif.system import Result, Start, System
from verif.workload import Labels, Workload, load_workload

CYCLE_MARGIN = 50


def memory_of(image: Image, blocks: list[bytes]) -> tuple[bytes, list[int]]:
    """Return the memory contents with all input blocks, and the input offset of each of them.

    The first block lies where the program expects it, the others behind all regions.
    """
    memory = bytearray(image.size + image.input_bytes * max(0, len(blocks) - 1))
    memory[: len(image.data)] = image.data
    offsets = []
    for number, block in enumerate(blocks):
        at = image.inputs if number == 0 else image.size + (number - 1) * image.input_bytes
        memory[at : at + len(block)] = block
        offsets.append(at - image.inputs)
    return bytes(memory), offsets


def flip_weight_bit(image: Image) -> Image:
    """Return the image with bit 6 of the first weight of the first layer flipped."""
    from golden.formats import HEADER_BYTES, TILE, unpack

    start = image.plans[0].weights[0]
    tile = unpack(TILE, image.data[start : start + HEADER_BYTES])
    data = bytearray(image.data)
    data[start + tile["values"]] ^= 0x40
    image.data = bytes(data)
    return image


def run_images(workload: Workload, system: System, images: int, *, inject: str | None = None, trace: Path | None = None,
               latency: int = 100, bandwidth: int = 0, stall_seed: int = 0,
               progress: Callable[[int, int], None] = lambda done, of: None
               ) -> tuple[Image, Result, list[list[LayerResult]], list[int], list[int]]:
    """Run the first images and return (image, result, comparison per image, golden and RTL predictions)."""
    image = build_image(workload.network, system.arch)
    if inject == "weight-bit":
        flip_weight_bit(image)
    words = [workload.words(index) for index in range(images)]
    memory, offsets = memory_of(image, [image.input_block(entry) for entry in words])
    progress(0, images)
    traces = [_golden(workload, index) for index in range(images)]
    limit = CYCLE_MARGIN * (10_000 + sum(plan.row_tiles * plan.columns * 16 for plan in image.plans) * 16)
    result = system.run(memory, [Start(offset) for offset in offsets], stats_offset=image.stats, dump=(0, image.size),
                        latency=latency, bandwidth=bandwidth, stall_seed=stall_seed, trace=trace, max_cycles=limit)
    result.check()
    compared, golden, rtl = [], [], []
    for index, (expected, finished) in enumerate(zip(traces, result.runs, strict=True)):
        compared.append(compare(workload.network, image, expected, finished, system.arch.lanes))
        golden.append(predict(expected))
        rtl.append(_class(image, finished.dump))
        progress(index + 1, images)
    return image, result, compared, golden, rtl


def _class(image: Image, dump: bytes) -> int:
    region = list(image.currents.values())[-1]
    return int(np.frombuffer(dump, "<i4", region.size // 4, region.base).argmax())


def _golden(workload: Workload, index: int) -> Trace:
    """Return the golden run of one image, in torch for its speed."""
    return run(workload.network, {name: torch.from_numpy(word) for name, word in workload.words(index).items()})


def simulate(source: str, preset: str, images: int, steps: int | None = None, data: Path | None = None,
             inject: str | None = None, trace: Path | None = None, leak_nearest: bool = False,
             progress: Callable[[int, int], None] = lambda done, of: None) -> dict[str, Any]:
    """Return the report of ``spikeloom simulate``; its keys are a contract of the command line."""
    arch = load_preset(preset)
    workload = load_workload(source, arch, steps=steps, data=data, leak_nearest=leak_nearest)
    images = min(images, len(workload.x))
    network = workload.network
    _, result, compared, golden, rtl = run_images(workload, System(arch), images, inject=inject, trace=trace,
                                                  progress=progress)
    float_trace = float_run(workload.captured, workload.x[:images], network.steps)
    changed = spikes_changed(workload, images, float_trace.spikes)
    first = None
    for index, layers in enumerate(compared):
        for layer in layers:
            if first is None and layer.first is not None:
                first = {"image": index, **layer.first, "command": _command(source, preset, index + 1, steps, data, inject)}
    layers_report = [{
        "name": layer.name, "neuron_steps": sum(c[n].neuron_steps for c in compared),
        "mismatches": sum(c[n].mismatches for c in compared), "spikes_changed": changed.get(layer.name),
        "cycles": sum(c[n].counters["cycles"] for c in compared) / images,
    } for n, layer in enumerate(network.layers)]
    counters = {name: sum(run.counters[name] for run in result.runs) for name in result.runs[0].counters}
    return {
        "workload": workload.name, "preset": arch.name, "top": "ftp", "T": network.steps, "images": images,
        "layers": layers_report,
        "neuron_steps": sum(layer["neuron_steps"] for layer in layers_report),
        "mismatches": sum(layer["mismatches"] for layer in layers_report),
        "first_mismatch": first,
        "accuracy_rtl": _accuracy(rtl, workload.y), "accuracy_golden": _accuracy(golden, workload.y),
        "accuracy_float": _accuracy(float_trace.logits.argmax(1).tolist(), workload.y),
        "weight_sparsity": network.weight_sparsity,
        "cycles_per_image": counters["cycles"] / images,
        "matches": counters["matches"],
        "lane_utilisation": counters["matches"] / (arch.lanes * counters["cycles"]),
        "simulated_cycles_per_second": result.simulated_cycles_per_second,
        "counters": counters,
    }


def spikes_changed(workload: Workload, images: int, spikes: dict[str, torch.Tensor]) -> dict[str, int]:
    """Return, per layer with a neuron, the spikes in which the integer network differs from the float network."""
    network, changed = workload.network, {}
    traces = [_golden(workload, index) for index in range(images)]
    for layer in network.layers:
        if layer.name in spikes and layer.neuron is not None:
            total = 0
            for index, trace in enumerate(traces):
                words = trace.layers[layer.name].words
                assert words is not None
                bits = torch.stack([(words >> t) & 1 for t in range(network.steps)]).bool()
                total += int((bits != spikes[layer.name][:, index].reshape(bits.shape)).sum())
            changed[layer.name] = total
    return changed


def _accuracy(classes: list[int], labels: Labels | None) -> float | None:
    if labels is None:
        return None
    return sum(int(c == y) for c, y in zip(classes, labels.tolist(), strict=False)) / len(classes)


def _command(source: str, preset: str, images: int, steps: int | None, data: Path | None, inject: str | None) -> str:
    options = [f"--T {steps}"] * (steps is not None) + [f"--data {data}"] * (data is not None)
    options += [f"--inject {inject}"] * (inject is not None)
    return " ".join(["spikeloom simulate", source, f"--preset {preset}", f"--images {images}", *options])
