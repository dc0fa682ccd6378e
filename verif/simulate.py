"""Simulate a workload on the RTL and compare everything with golden."""

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from golden.arch import ParameterError, load_preset, tick
from golden.float_run import FloatTrace, float_run
from golden.network import Network
from golden.run import Trace, decision_tick, predict, run
from hdl.image import Image, build_image
from hdl.program_files import classes
from verif.compare import LayerResult, compare
from verif.inject import find_weight_bit, flip
from verif.system import Result, Start, System
from verif.workload import Labels, Workload, load_workload

Words = NDArray[np.int64]

CYCLE_MARGIN = 50
MEMORY = re.compile(r"ideal|([1-9]\d{0,5})(?::([1-9]\d{0,5}))?")


@dataclass(frozen=True)
class Memory:
    """Timing of the memory behind the AXI4 port.

    latency : cycles from an address to its first beat
    bandwidth : bytes a cycle in each direction, 0: a beat every cycle
    stall_seed : of random stalls, 0: none
    """

    latency: int = 100
    bandwidth: int = 0
    stall_seed: int = 0


def parse_memory(text: str) -> Memory:
    """Return the memory called ``ideal`` (1 cycle, no limit) or ``BYTES[:LATENCY]`` (100 cycles where none is given).

    Raises `ParameterError` for anything else.
    """
    found = MEMORY.fullmatch(text)
    if found is None:
        raise ParameterError(f"memory: must be ideal or BYTES[:LATENCY], not {text!r}; legal: ideal, or up to 999999 bytes a "
                             "cycle and cycles of latency; try: --memory 64:100")
    if found[1] is None:
        return Memory(latency=1)
    return Memory(latency=int(found[2] or Memory.latency), bandwidth=int(found[1]))


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


@dataclass(frozen=True)
class Simulated:
    """What golden and the RTL made of the first images, one entry of every list per image.

    image : the memory image that was loaded, without input blocks
    traces : golden runs, in torch
    compared : per layer, in execution order
    """

    image: Image
    result: Result
    traces: list[Trace]
    compared: list[list[LayerResult]]

    @property
    def golden(self) -> list[int]:
        """Classes that golden predicts."""
        return [predict(trace) for trace in self.traces]

    @property
    def rtl(self) -> list[int]:
        """Classes that the RTL predicts."""
        return [_class(self.image, run.dump) for run in self.result.runs]


def run_images(workload: Workload, system: System, images: int, **options: Any) -> Simulated:
    """Run the first images of a workload; options and result as `run_words`."""
    workload.check_labels(classes(build_image(workload.network, system.arch)))
    return run_words(workload.network, [workload.words(index) for index in range(images)], system, **options)


def run_words(network: Network, words: list[dict[str, Words]], system: System, *, inject: str | None = None,
              trace: Path | None = None, memory: Memory = Memory(),
              progress: Callable[[int, int], None] = lambda done, of: None) -> Simulated:
    """Run a network on images in golden, in torch for its speed, and on the RTL, and compare them.

    words : operand words of each image by tensor name
    inject : ``"weight-bit"`` flips one bit that must show (`verif.inject`), in the memory and not in golden
    progress : called with the images that golden and the RTL have finished, and twice the images as the total
    """
    image, images, traces = build_image(network, system.arch), len(words), []
    for index, entry in enumerate(words):
        progress(index, 2 * images)
        traces.append(run(network, {name: torch.from_numpy(word) for name, word in entry.items()}))
    if inject == "weight-bit":
        found = find_weight_bit(network, image, traces, system.arch.weight_bits)
        image = flip(image, found, network.layers[found.layer], system.arch.weight_bits)
    contents, offsets = memory_of(image, [image.input_block(entry) for entry in words])
    progress(images, 2 * images)
    limit = CYCLE_MARGIN * (10_000 + sum(plan.row_tiles * plan.columns * 16 for plan in image.plans) * 16)
    result = system.run(contents, [Start(offset) for offset in offsets], stats_offset=image.stats, dump=(0, image.size),
                        latency=memory.latency, bandwidth=memory.bandwidth, stall_seed=memory.stall_seed, trace=trace,
                        max_cycles=limit, progress=lambda done: progress(images + done, 2 * images))
    result.check()
    compared = [compare(network, image, expected, finished, system.arch.lanes)
                for expected, finished in zip(traces, result.runs, strict=True)]
    progress(2 * images, 2 * images)
    return Simulated(image, result, traces, compared)


def _class(image: Image, dump: bytes) -> int:
    region = list(image.currents.values())[-1]
    return int(np.frombuffer(dump, "<i4", region.size // 4, region.base).argmax())


def simulate(source: str, preset: str, images: int | None = None, steps: int | None = None, data: Path | None = None,
             inject: str | None = None, trace: Path | None = None, leak_nearest: bool = False, memory: str | None = None,
             progress: Callable[[int, int], None] = lambda done, of: None) -> dict[str, Any]:
    """Return the report of ``spikeloom simulate``; its keys are a contract of the command line.

    images : the first ones of the data; None takes as many as the workload shows, or all of fewer
    memory : see `parse_memory`; None: 100 cycles and a beat every cycle
    Raises `ParameterError` for bad input, `verif.sim.BenchError` when the run cannot be compared.
    """
    arch, timing = load_preset(preset), Memory() if memory is None else parse_memory(memory)
    workload = load_workload(source, arch, steps=steps, data=data, leak_nearest=leak_nearest)
    images = min(workload.shown, len(workload.x)) if images is None else workload.check_images(images)
    network = workload.network
    done = run_images(workload, System(arch), images, inject=inject, trace=trace, memory=timing,
                      progress=progress)
    compared, result = done.compared, done.result
    reference = workload.captured and float_run(workload.captured, workload.x[:images], network.steps)
    decided = [decision_tick(network, trace) for trace in done.traces]
    changed = spikes_changed(network, done.traces, reference) if reference else {}
    first = None
    for index, layers in enumerate(compared):
        for layer in layers:
            if first is None and layer.first is not None:
                first = {"image": index, **layer.first, "command": repeat(
                    source, preset, index + 1, steps=steps, data=data, inject=inject, leak_nearest=leak_nearest, memory=memory)}
    layers_report: list[dict[str, Any]] = [{
        "name": layer.name, "neuron_steps": sum(c[n].neuron_steps for c in compared),
        "mismatches": sum(c[n].mismatches for c in compared), "spikes_changed": changed.get(layer.name),
        "cycles": sum(c[n].counters["cycles"] for c in compared) / images,
        "matches": sum(c[n].counters["matches"] for c in compared), "non_silent": non_silent(layer.name, done.traces),
    } for n, layer in enumerate(network.layers)]
    counters = {name: sum(run.counters[name] for run in result.runs) for name in result.runs[0].counters}
    labels = workload.y if network.layers[-1].readout else None
    return {
        "workload": workload.name, "preset": arch.name, "top": "ftp", "T": network.steps, "images": images,
        "layers": layers_report,
        "neuron_steps": sum(layer["neuron_steps"] for layer in layers_report),
        "mismatches": sum(layer["mismatches"] for layer in layers_report),
        "first_mismatch": first,
        "accuracy_rtl": None if labels is None else _accuracy(done.rtl, labels),
        "accuracy_golden": None if labels is None else _accuracy(done.golden, labels),
        "accuracy_float": None if labels is None or not reference else _accuracy(reference.logits.argmax(1).tolist(), labels),
        "weight_sparsity": network.weight_sparsity,
        "decision_ticks": None if decided[0] is None else sum(tick or 0 for tick in decided) / images,
        "cycles_per_image": counters["cycles"] / images,
        "matches": counters["matches"],
        "lane_utilisation": sum(entry["matches"] for entry, layer in zip(layers_report, network.layers, strict=True)
                                if layer.attention is None) / (arch.lanes * counters["cycles"]),
        "simulated_cycles_per_second": result.simulated_cycles_per_second,
        "counters": counters,
    }


def spikes_changed(network: Network, traces: list[Trace], reference: FloatTrace) -> dict[str, int]:
    """Return, per layer with a neuron, the spikes in which the integer network differs from the float network.

    Of neurons that fire once, those whose ticks differ, but for a race, whose columns stop at the first spike.

    traces : golden runs in torch, one per image; reference : of the float network on the same images
    """
    changed, spikes = {}, reference.spikes
    for layer in network.layers:
        if layer.ttfs is not None and layer.name in reference.times and not layer.readout:
            ticks = torch.round(reference.times[layer.name] / tick(layer.ttfs.resolution))
            early = (layer.ttfs.window - ticks.long()).clamp(min=0)
            changed[layer.name] = sum(int((trace.layers[layer.name].sums[0].clamp(min=0) != early[index]).sum())
                                      for index, trace in enumerate(traces))
        if layer.name in spikes and layer.neuron is not None:
            total = 0
            for index, trace in enumerate(traces):
                words = trace.layers[layer.name].words
                assert words is not None
                bits = torch.stack([(words >> t) & 1 for t in range(network.steps)]).bool()
                total += int((bits != spikes[layer.name][:, index].reshape(bits.shape)).sum())
            changed[layer.name] = total
    return changed


def non_silent(name: str, traces: list[Trace]) -> float | None:
    """Return the share of the words that a layer stores that are not silent; None where it stores none."""
    outputs = [output for trace in traces if (output := trace.layers[name].output) is not None]
    words = sum(output.numel() for output in outputs)
    return sum(int((output != 0).sum()) for output in outputs) / words if words else None


def _accuracy(classes: list[int], labels: Labels) -> float:
    return sum(int(c == y) for c, y in zip(classes, labels.tolist(), strict=False)) / len(classes)


def repeat(source: str, preset: str, images: int, *, steps: int | None, data: Path | None, inject: str | None,
           leak_nearest: bool, memory: str | None = None, more: Sequence[str] = ()) -> str:
    """Return the command line that simulates the same again, for a shell."""
    words = ["spikeloom", "simulate", source, "--preset", preset, "--images", str(images)]
    words += [] if steps is None else ["--T", str(steps)]
    words += [] if data is None else ["--data", str(data)]
    words += [] if inject is None else ["--inject", inject]
    words += [] if memory is None else ["--memory", memory]
    return shlex.join([*words, *(["--leak", "nearest"] if leak_nearest else []), *more])
