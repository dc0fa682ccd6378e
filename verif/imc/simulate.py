"""Simulate a workload on a core of tiles whose macros live in the design, and compare everything with golden."""

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from golden.float_run import float_run
from golden.imc.arch import ImcArch, load_preset
from golden.imc.early_exit import Exit, early_exit, sums_by_step
from golden.imc.macro import build
from golden.imc.run import Placed, Setting, inputs, place, run
from golden.network import Network, map_arrays
from golden.run import Trace, predict, unpack
from golden.run import run as plain_run
from hdl.imc.activation import operand_words
from hdl.imc.event_counters import EVENTS
from hdl.imc.host_port import Target
from hdl.imc.program import LayerProgram, programs
from hdl.imc.settings import Times
from verif.imc.calibration import calibrate, check, free_crossbar, play, refuse, tables
from verif.imc.compare import Compared, Run, compare
from verif.imc.lowering import lowering_arch
from verif.imc.macro_shell import layer_phases, macro_tables, values
from verif.imc.setting import calibrated_setting, told
from verif.imc.system import ImcSystem, Result, Script
from verif.inject import operands
from verif.simulate import non_silent, repeat, spikes_changed
from verif.workload import Workload, load_workload

Tensors = dict[str, NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """How a workload runs on a core.

    setting : scheme, converters, effects, skipping
    ways : what the core calibrates before the first image, see `verif.imc.setting.calibrated_setting`
    time_inner : all steps of a window, then the next window; else all windows of a step
    times : of the macro
    exit_margin : all layers take a step before the next one, until the core says stop, as `golden.imc.early_exit` does; None:
        all steps
    """

    setting: Setting
    ways: tuple[str, ...] = ()
    time_inner: bool = True
    times: Times = dataclasses.field(default_factory=Times)
    exit_margin: int | None = None


@dataclass(frozen=True)
class Simulated:
    """What golden and the RTL made of the first images."""

    traces: list[Trace]
    compared: list[list[Compared]]
    readouts: list[NDArray[np.int64]]
    result: Result
    exits: list[Exit] | None

    @property
    def steps(self) -> list[int]:
        """Timesteps that the RTL ran."""
        return [image[-1].verdict.get("step", len(sums_by_step(trace)))
                for trace, image in zip(self.traces, self.compared, strict=True)]

    @property
    def golden(self) -> list[int]:
        """Classes that golden predicts."""
        if self.exits is not None:
            return [int(found.label) for found in self.exits]
        return [predict(trace) for trace in self.traces]

    @property
    def rtl(self) -> list[int]:
        """Classes that the RTL predicts: those that the core tells, if it stops images."""
        if self.exits is not None:
            return [image[-1].verdict["channel"] for image in self.compared]
        return [int(readout.argmax()) for readout in self.readouts]


def run_images(workload: Workload, p: ImcArch, machine: Machine, images: int, **options: Any) -> Simulated:
    """Run the first images of a workload; options and result as `run_words`."""
    return run_words(workload.network, [workload.words(index) for index in range(images)], p, machine, **options)


def run_words(network: Network, words: list[Tensors], p: ImcArch, machine: Machine, *, optimise: str = "-O3",
              trace: Path | None = None, inject: str | None = None,
              progress: Callable[[int, int], None] = lambda done, of: None) -> Simulated:
    """Run a network on images in golden, in torch for its speed, and on the RTL, and compare them.

    words : operand words of each image by tensor name
    inject : ``"weight-bit"`` writes the largest weight of the first layer as 0, in the macros and not in golden
    """
    setting, images, margin = machine.setting, len(words), machine.exit_margin
    plain = place(network, p, setting)
    setting, calibrations = calibrate(p, setting, machine.ways, free_crossbar(p, plain))
    refuse(calibrations)
    layers = list(programs(p, network, plain, flash=setting.adc.flash, adc_bits=setting.adc.bits, skip=setting.skip,
                           gain="gains" in machine.ways, average_log2=setting.adc.average_log2, time_inner=machine.time_inner,
                           exit_margin=margin, times=machine.times))
    placed = place(map_arrays(network, torch.asarray), p, setting)
    script = Script()
    traces, runs = list[Trace](), list[list[Run]]()
    with tempfile.TemporaryDirectory(prefix="spikeloom-imc-") as folder:
        macros = {macro.tile: macro for entry in plain for row in entry.macros for macro in row}
        script.macros(macro_tables(Path(folder) / "macros", tables(p, calibrations) | macros))
        ends = [play(script, p, one, layers[0], Path(folder) / one.way) for one in calibrations]
        for index, entry in enumerate(words):
            found = run(network, p, setting, {name: torch.from_numpy(word) for name, word in entry.items()}, image=index,
                        placed=placed)
            traces.append(found)
            tensors = {name: np.asarray(word) for name, word in operands(found).items()}
            cells = broken(plain, p, setting) if inject else plain
            script.image(index)
            phases = image_phases(p, cells, tensors, network.steps, setting.skip)
            runs.append(_play(script, p, plain, layers, tensors, [
                values(Path(folder) / f"values_{index}_{n}", entries)
                for n, entries in enumerate([chain(*phases)] if margin is None else phases)]))
            script.progress(str(index + 1))
            progress(index + 1, 2 * images)
        result = ImcSystem(p, optimise=optimise, monitor=True).run(
            script, trace=trace, progress=lambda text: progress(images + int(text), 2 * images))
    if result.failure or result.violations:
        result.check(complete=False)
    check(result, ends)
    exits = None if margin is None else [early_exit(sums_by_step(trace), margin) for trace in traces]
    compared, readouts = compare(p, network, traces, result, runs, exits)
    if not any(layer.mismatches for image in compared for layer in image):
        result.check(complete=False)
    return Simulated(traces, compared, readouts, result, exits)


def image_phases(p: ImcArch, placed: tuple[Placed, ...], tensors: Tensors, steps: int,
                 skip: bool) -> list[list[tuple[Any, ...]]]:
    """Return what `verif.imc.macro_shell.values` takes, for all layers of an image, by step."""
    found: list[list[tuple[Any, ...]]] = [[] for _ in range(steps)]
    for entry in placed:
        for step, x in enumerate(inputs(entry, tensors, steps)):
            found[step] += layer_phases(p, entry, x, step, skip)
    return found


def _play(script: Script, p: ImcArch, placed: tuple[Placed, ...], layers: list[LayerProgram], tensors: Tensors,
          phases: list[Path]) -> list[Run]:
    """Write the commands of an image, layer after layer, or step after step until the core says stop, each of all layers.

    phases : files of the whole image, or of each step
    """
    script.send(Target.MAP_0, 0, operand_words(placed[0].mapped.layer, tensors, p.rows).ravel())
    runs, exits = list[Run](), layers[-1].exits["steps"] > 0
    for step, path in enumerate(phases):
        script.values(path)
        for number, layer in enumerate(layers):
            program = layer.only(step) if exits else layer
            if program is not None:
                runs.append(_run(script, p, placed[number], number, program))
        if exits:
            script.leave("EXIT_VERDICT", 2, 2)
    script.land()
    return runs


def _run(script: Script, p: ImcArch, entry: Placed, number: int, program: LayerProgram) -> Run:
    """Write the commands of a start of the core."""
    readout, fields = entry.mapped.layer.readout, program.fields
    script.context(entry.mapped.operand.bits, p.rows // p.group_rows)
    script.load(program)
    status, error, waited = script.start()
    told = ("EXIT_VERDICT", "EXIT_MARGIN") if readout and program.exits["steps"] else ()
    places = {name: script.read(name.upper()) for name in (*EVENTS, *told)}
    packets = program.shape[0] * program.shape[1] * program.shape[2] if readout else 1
    if readout:
        script.receive(packets)
    else:
        plane = fields["out_plane"]
        at = fields["out_base"] + (fields["first_step"] * plane if entry.mapped.layer.neuron else 0)
        script.fetch(1 - fields["source"], at, program.planes * plane)
    return Run(number, program, {"status": status, "error": error, "waited": waited, "packets": packets, **places})


def simulate(source: str, preset: str, images: int | None = None, steps: int | None = None, data: Path | None = None,
             macro: str | None = None, exit_margin: int | None = None, trace: Path | None = None, leak_nearest: bool = False,
             inject: str | None = None, progress: Callable[[int, int], None] = lambda done, of: None) -> dict[str, Any]:
    """Return the report of ``spikeloom simulate --top imc``; its keys are a contract of the command line.

    macro : see `verif.imc.setting.calibrated_setting`
    exit_margin : see `Machine`
    Raises ParameterError for bad input, `SystemFailure` when the run cannot be compared.
    """
    p = load_preset(preset)
    setting, ways = calibrated_setting(p, macro)
    machine = Machine(setting=setting, ways=ways, exit_margin=exit_margin)
    workload = load_workload(source, lowering_arch(p), steps=steps, data=data, leak_nearest=leak_nearest)
    images = min(workload.shown, len(workload.x)) if images is None else workload.check_images(images)
    network = workload.network
    done = run_images(workload, p, machine, images, trace=trace, inject=inject, progress=progress)
    reference = workload.captured and float_run(workload.captured, workload.x[:images], network.steps)
    ideal = integer_traces(workload, images)
    changed, by_macro = spikes_changed(network, ideal, reference) if reference else {}, _differ(network, ideal, done.traces)
    layers = [{
        "name": layer.name, "neuron_steps": sum(c[n].neuron_steps for c in done.compared),
        "mismatches": sum(c[n].mismatches for c in done.compared), "spikes_changed": changed.get(layer.name),
        "changed_by_macro": by_macro.get(layer.name), "cycles": sum(c[n].counters["cycles"] for c in done.compared) / images,
        "phases": sum(c[n].counters["phases"] for c in done.compared), "non_silent": non_silent(layer.name, done.traces),
    } for n, layer in enumerate(network.layers)]
    counters = {name: sum(layer.counters[name] for image in done.compared for layer in image) for name in EVENTS}
    firsts = [(n, first) for n, image in enumerate(done.compared) for layer in image if (first := layer.first)]
    labels = workload.y if network.layers[-1].readout else None
    return {
        "workload": workload.name, "preset": p.name, "top": "imc", "setting": told(p, setting, ways), "T": network.steps,
        "images": images, "layers": layers,
        "neuron_steps": sum(c.neuron_steps for image in done.compared for c in image),
        "mismatches": sum(c.mismatches for image in done.compared for c in image),
        "first_mismatch": {"image": firsts[0][0], **firsts[0][1], "command": repeat(
            source, preset, firsts[0][0] + 1, steps=steps, data=data, inject=inject, leak_nearest=leak_nearest,
            more=["--top", "imc", *(["--macro", macro] if macro else []),
                  *([] if exit_margin is None else ["--exit-margin", str(exit_margin)])])} if firsts else None,
        "accuracy_rtl": _accuracy(done.rtl, labels), "accuracy_golden": _accuracy(done.golden, labels),
        "accuracy_ideal": None if labels is None else _accuracy([predict(trace) for trace in ideal], labels),
        "accuracy_float": _accuracy(reference.logits.argmax(1).tolist(), labels) if reference else None,
        "weight_sparsity": network.weight_sparsity, "decision_ticks": None, "cycles_per_image": counters["cycles"] / images,
        "steps_per_image": sum(done.steps) / images,
        "simulated_cycles_per_second": done.result.cycles / done.result.seconds, "counters": counters,
    }


def integer_traces(workload: Workload, images: int) -> list[Trace]:
    """Return what the integer network makes of the first images by itself, in torch: no crossbar stands in between."""
    network = map_arrays(workload.network, torch.asarray)
    return [plain_run(network, {name: torch.from_numpy(word) for name, word in workload.words(index).items()})
            for index in range(images)]


def _differ(network: Network, ideal: list[Trace], traces: list[Trace]) -> dict[str, int]:
    """Return the spikes in which traces differ, by the name of each layer with neurons."""
    return {layer.name: sum(int((unpack(one.layers[layer.name].words, network.steps)
                                 != unpack(other.layers[layer.name].words, network.steps)).sum())
                            for one, other in zip(ideal, traces, strict=True))
            for layer in network.layers if layer.neuron is not None}


def _accuracy(classes: list[int], labels: NDArray[np.int64] | None) -> float | None:
    if labels is None:
        return None
    return sum(int(c == y) for c, y in zip(classes, labels.tolist(), strict=False)) / len(classes)


def broken(placed: tuple[Placed, ...], p: ImcArch, setting: Setting) -> tuple[Placed, ...]:
    """Return the crossbars with the largest weight of the first layer put to 0."""
    first = placed[0]
    weight = np.array(first.mapped.weight)
    place_ = np.unravel_index(np.abs(weight).argmax(), weight.shape)
    weight[place_] = 0
    mapped = dataclasses.replace(first.mapped, weight=weight)
    r, c = int(place_[0]), int(place_[1]) // p.outputs(setting.scheme)
    rows = [list(row) for row in first.macros]
    rows[r][c] = build(p, setting.adc, mapped.cells(p, r, c), setting.effects, tile=rows[r][c].tile,
                       bank=rows[r][c].bank)
    return (dataclasses.replace(first, macros=tuple(map(tuple, rows))), *placed[1:])
