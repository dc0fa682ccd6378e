"""Simulate a workload on a core of tiles whose macros live in the design, and compare everything with golden."""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from golden.arch import PRESETS, Arch, ParameterError
from golden.float_run import float_run
from golden.imc.arch import ImcArch, load_preset
from golden.imc.macro import Adc, Effects, build
from golden.imc.run import Placed, Setting, inputs, place, run
from golden.network import Layer, Network, map_arrays
from golden.run import Trace, predict, unpack
from hdl.imc.activation import pack, split
from hdl.imc.activation import unpack as unpack_map
from hdl.imc.event_counters import EVENTS
from hdl.imc.host_port import Target
from hdl.imc.program import LayerProgram, programs
from hdl.imc.settings import Times
from verif.imc.macro_shell import layer_phases, macro_tables, values
from verif.imc.system import DONE, ImcSystem, Result, Script
from verif.simulate import non_silent, repeat, spikes_changed
from verif.system import SystemFailure
from verif.workload import Workload, load_workload

Tensors = dict[str, NDArray[np.int64]]
# Bits of a weight that lowering has, the most first.
WEIGHT_BITS = (8, 4)


def lowering_arch(p: ImcArch) -> Arch:
    """Return the build for which networks are lowered: weights and widths of a core of tiles.

    Raises ParameterError for weights that lowering does not make.
    """
    bits = next((bits for bits in WEIGHT_BITS if bits <= p.weight_bits), None)
    if bits is None:
        raise ParameterError(f"preset: weight_bits of {p.name}, not {p.weight_bits}; legal: {min(WEIGHT_BITS)} and more, for "
                             f"networks that are lowered; try: weight_bits = {min(WEIGHT_BITS)}")
    return dataclasses.replace(PRESETS["loas"], name=p.name, weight_bits=bits, t_max=p.t_max, stream_bits=p.stream_bits,
                               buffer_bytes=1 << 30, acc_bits=p.stream_bits, membrane_bits=p.membrane_bits)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """How a workload runs on a core.

    setting : scheme, converters, effects, skipping
    time_inner : all steps of a window, then the next window; else all windows of a step
    times : of the macro
    """

    setting: Setting
    time_inner: bool = True
    times: Times = dataclasses.field(default_factory=Times)


@dataclass
class Compared:
    """What the comparison of one layer of one image found.

    neuron_steps : neurons times T, or scaled words, that were compared
    mismatches : steps whose spikes differ, plus stored planes and read-outs that differ
    first : the first difference, or None
    counters : events of the layer, and its cycles
    """

    name: str
    neuron_steps: int = 0
    mismatches: int = 0
    first: dict[str, Any] | None = None
    counters: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Simulated:
    """What golden and the RTL made of the first images."""

    traces: list[Trace]
    compared: list[list[Compared]]
    readouts: list[NDArray[np.int64]]
    result: Result

    @property
    def golden(self) -> list[int]:
        """Classes that golden predicts."""
        return [predict(trace) for trace in self.traces]

    @property
    def rtl(self) -> list[int]:
        """Classes that the RTL predicts."""
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
    setting, images = machine.setting, len(words)
    plain = place(network, p, setting)
    layers = list(programs(p, network, plain, flash=setting.adc.flash, adc_bits=setting.adc.bits, skip=setting.skip,
                           average_log2=setting.adc.average_log2, time_inner=machine.time_inner, times=machine.times))
    placed = place(map_arrays(network, torch.asarray), p, setting)
    script = Script()
    traces: list[Trace] = []
    shapes: list[list[dict[str, int]]] = []
    with tempfile.TemporaryDirectory(prefix="spikeloom-imc-") as folder:
        macros = {macro.tile: macro for entry in plain for row in entry.macros for macro in row}
        script.macros(macro_tables(Path(folder) / "macros", macros))
        for index, entry in enumerate(words):
            found = run(network, p, setting, {name: torch.from_numpy(word) for name, word in entry.items()}, image=index,
                        placed=placed)
            traces.append(found)
            tensors = {name: np.asarray(word) for name, word in found.inputs.items()} | {
                name: np.asarray(layer.output) for name, layer in found.layers.items() if layer.output is not None}
            cells = broken(plain, p, setting) if inject else plain
            path = values(Path(folder) / f"values_{index}", _phases(p, cells, tensors, network.steps, setting.skip))
            script.values(path)
            script.image(index)
            shapes.append(_play(script, p, network, plain, layers, tensors))
            script.progress(str(index + 1))
            progress(index + 1, 2 * images)
        result = ImcSystem(p, optimise=optimise, monitor=True).run(
            script, trace=trace, progress=lambda text: progress(images + int(text), 2 * images))
    if result.failure or result.violations:
        result.check(complete=False)
    compared, readouts = _compare(p, network, layers, traces, result, shapes)
    if not any(layer.mismatches for image in compared for layer in image):
        result.check(complete=False)
    return Simulated(traces, compared, readouts, result)


def _phases(p: ImcArch, placed: tuple[Placed, ...], tensors: Tensors, steps: int, skip: bool) -> Iterator[tuple[Any, ...]]:
    """Yield what `verif.imc.macro_shell.values` takes, for all layers of an image."""
    for entry in placed:
        for step, x in enumerate(inputs(entry, tensors, steps)):
            yield from layer_phases(p, entry, x, step, skip)


def _play(script: Script, p: ImcArch, network: Network, placed: tuple[Placed, ...], layers: list[LayerProgram],
          tensors: Tensors) -> list[dict[str, int]]:
    """Write the commands of an image; return, per layer, where its answers are."""
    first = placed[0].mapped
    planes = np.concatenate([split(tensors[q.source], len(q.planes)) for q in first.layer.passes])
    script.send(Target.MAP_0, 0, pack(planes, p.rows).ravel())
    answers = []
    for entry, program in zip(placed, layers, strict=True):
        script.context(entry.mapped.operand.bits, p.rows // p.group_rows)
        script.load(program)
        status, error, waited = script.start()
        counters = {name: script.read(name.upper()) for name in EVENTS}
        packets = program.shape[0] * program.shape[1] * program.shape[2] if entry.mapped.layer.readout else 1
        if entry.mapped.layer.readout:
            script.receive(packets)
        else:
            count = program.planes * program.shape[1] * program.shape[2] * -(-program.shape[0] // p.rows)
            script.fetch(1 - program.fields["source"], 0, count)
        answers.append({"status": status, "error": error, "waited": waited, "packets": packets, **counters})
    return answers


def _compare(p: ImcArch, network: Network, layers: list[LayerProgram], traces: list[Trace], result: Result,
             answers: list[list[dict[str, int]]]) -> tuple[list[list[Compared]], list[NDArray[np.int64]]]:
    """Compare every neuron step, stored plane and read-out; return (per image and layer, read-outs of each image)."""
    packets, records = iter(result.packets), result.neurons
    compared: list[list[Compared]] = []
    readouts: list[NDArray[np.int64]] = []
    started = 0
    for trace, image in zip(traces, answers, strict=True):
        compared.append([])
        for layer, program, places in zip(network.layers, layers, image, strict=True):
            started += 1
            if result.reads[places["status"]] != DONE:
                raise SystemFailure(f"layer {layer.name}: the core stopped with error {result.reads[places['error']]}")
            found, golden = Compared(layer.name), trace.layers[layer.name]
            found.counters = {name: result.reads[places[name]] for name in EVENTS}
            if layer.neuron is not None:
                _neurons(found, layer, program, np.asarray(golden.words), records[records["run"] == started])
            got = [next(packets) for _ in range(places["packets"])]
            if layer.readout:
                readouts.append(_readout(found, np.asarray(golden.readout), got))
            else:
                _stored(found, layer, program, network.steps, np.asarray(golden.output), got[0], p.rows)
            compared[-1].append(found)
    return compared, readouts


def _neurons(found: Compared, layer: Layer, program: LayerProgram, words: NDArray[np.int64], records: NDArray[Any]) -> None:
    """Compare every recorded neuron step, and see that every neuron that a pool reads has stepped.

    A record bears step and pixel of the sums: behind a pool of sums that of the last member of the window.
    """
    _, height, width = words.shape
    golden, fields = np.asarray(unpack(words, program.fields["steps"])), program.fields
    key, step, channel = (records[name].astype(np.int64) for name in ("key", "step", "channel"))
    converted, pixel = np.divmod(key, fields["pixels"])
    assert (converted == (0 if fields["once"] else step)).all(), f"layer {layer.name}: sums of another step"
    last, stride = (fields["pool_kernel"] - 1, fields["pool_stride"]) if fields["pool_mode"] else (0, 1)
    y, x = ((n - last) // stride for n in (pixel // fields["conv_width"], pixel % fields["conv_width"]))
    at = (step, channel, y, x)
    seen = np.zeros(golden.shape, np.int64)
    np.add.at(seen, at, 1)
    wanted = np.broadcast_to(covered(layer, height, width), golden.shape)
    assert (seen[wanted] > 0).all(), f"layer {layer.name}: neuron steps are missing in the record"
    wrong = golden[at] != records["spike"]
    found.neuron_steps = int(wanted.sum())
    found.mismatches += len({*zip(*(part[wrong].tolist() for part in at), strict=True)})
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        t, c, row, column = (int(part[first]) for part in at)
        spike = int(records["spike"][first])
        found.first = {"layer": layer.name, "what": "spike", "channel": c, "y": row, "x": column, "t": t,
                       "golden": int(golden[t, c, row, column]), "rtl": spike, "cycle": int(records["cycle"][first])}


def covered(layer: Layer, height: int, width: int) -> NDArray[np.bool_]:
    """Return which pixels [H, W] some pool window reads; all without a pool."""
    pool = layer.or_pool
    mask = np.ones((height, width), bool)
    if pool is None:
        return mask
    for axis, size in enumerate((height, width)):
        reach = np.zeros(size, bool)
        for window in range((size - pool.kernel) // pool.stride + 1):
            reach[window * pool.stride : window * pool.stride + pool.kernel] = True
        mask &= reach[:, None] if axis == 0 else reach[None, :]
    return mask


def _stored(found: Compared, layer: Layer, program: LayerProgram, steps: int, output: NDArray[np.int64], words: Any,
            rows: int) -> None:
    """Compare the planes that a layer wrote."""
    planes = np.asarray(unpack(output, steps)) if layer.neuron else split(output, program.planes)
    got = unpack_map(np.asarray(words, np.uint32).reshape(-1, -(-rows // 32)), program.planes, *program.shape, rows)
    wrong = got != planes
    if not layer.neuron:
        found.neuron_steps = output.size
        wrong = wrong.any(axis=0)
    found.mismatches += int(wrong.sum())
    if wrong.any() and found.first is None:
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        found.first = {"layer": layer.name, "what": "stored plane", "channel": place[-3], "y": place[-2], "x": place[-1],
                       "t": place[0] if layer.neuron else None, "golden": None, "rtl": None, "cycle": None}


def _readout(found: Compared, golden: NDArray[np.int64], packets: list[Any]) -> NDArray[np.int64]:
    """Compare sums over the steps, whose packets are (channel, sum); return those of the RTL."""
    pairs = np.asarray(packets, np.int64).reshape(-1, 2)
    order = np.argsort(pairs[:, 0], kind="stable")
    got: NDArray[np.int64] = pairs[order, 1].astype(np.uint32).view(np.int32).astype(np.int64)
    wrong = np.flatnonzero(got != golden.ravel())
    found.mismatches += len(wrong)
    if len(wrong):
        found.first = {"layer": found.name, "what": "read-out", "channel": int(wrong[0]), "y": 0, "x": 0, "t": None,
                       "golden": int(golden.ravel()[wrong[0]]), "rtl": int(got[wrong[0]]), "cycle": None}
    return got


def setting_of(p: ImcArch, text: str | None) -> Setting:
    """Return how tiles work, from ``NAME=VALUE,...``: fields of `Effects` and `Adc`, ``scheme``, ``skip`` and ``once``.

    Without ``bits`` the converters lose nothing, or as little as the build's do. Raises ParameterError for anything else.
    """
    legal = {field.name: field.type for kind in (Effects, Adc) for field in dataclasses.fields(kind)} | {
        "scheme": str, "skip": bool, "once": bool}
    given: dict[str, Any] = {}
    for part in (text or "").split(",") if text else []:
        name, _, value = part.partition("=")
        if name not in legal:
            raise ParameterError(f"macro: unknown name, not {name!r}; legal: {', '.join(legal)}; "
                                 "try: --macro offset=1.5,seed=3")
        try:
            given[name] = value if legal[name] is str else float(value) if legal[name] is float else int(value)
        except ValueError:
            raise ParameterError(f"macro: {name}, not {value!r}; legal: a number; try: --macro {name}=1") from None
    of_adc = {field.name for field in dataclasses.fields(Adc)}
    adc = {name: bool(value) if name in ("flash", "lossless") else value for name, value in given.items() if name in of_adc}
    widest = p.flash_bits if adc.get("flash") else p.adc_bits
    adc.setdefault("bits", min(widest, p.lossless_bits))
    effects = {name: value for name, value in given.items() if name not in (*of_adc, "scheme", "skip", "once")}
    setting = Setting(scheme=given.get("scheme", p.scheme), adc=Adc(**adc), effects=Effects(**effects),
                      skip=bool(given.get("skip", 0)), once=bool(given.get("once", 1)))
    p.check(setting.scheme)
    setting.adc.check(p)
    return setting


def simulate(source: str, preset: str, images: int | None = None, steps: int | None = None, data: Path | None = None,
             macro: str | None = None, trace: Path | None = None, leak_nearest: bool = False, inject: str | None = None,
             progress: Callable[[int, int], None] = lambda done, of: None) -> dict[str, Any]:
    """Return the report of ``spikeloom simulate --top imc``; its keys are a contract of the command line.

    macro : see `setting_of`
    Raises ParameterError for bad input, `SystemFailure` when the run cannot be compared.
    """
    p = load_preset(preset)
    machine = Machine(setting=setting_of(p, macro))
    workload = load_workload(source, lowering_arch(p), steps=steps, data=data, leak_nearest=leak_nearest)
    images = min(workload.shown, len(workload.x)) if images is None else workload.check_images(images)
    network = workload.network
    done = run_images(workload, p, machine, images, trace=trace, inject=inject, progress=progress)
    reference = workload.captured and float_run(workload.captured, workload.x[:images], network.steps)
    changed = spikes_changed(network, done.traces, reference) if reference else {}
    layers = [{
        "name": layer.name, "neuron_steps": sum(c[n].neuron_steps for c in done.compared),
        "mismatches": sum(c[n].mismatches for c in done.compared), "spikes_changed": changed.get(layer.name),
        "cycles": sum(c[n].counters["cycles"] for c in done.compared) / images,
        "phases": sum(c[n].counters["phases"] for c in done.compared), "non_silent": non_silent(layer.name, done.traces),
    } for n, layer in enumerate(network.layers)]
    counters = {name: sum(layer.counters[name] for image in done.compared for layer in image) for name in EVENTS}
    firsts = [(n, first) for n, image in enumerate(done.compared) for layer in image if (first := layer.first)]
    labels = workload.y if network.layers[-1].readout else None
    return {
        "workload": workload.name, "preset": p.name, "top": "imc", "T": network.steps, "images": images, "layers": layers,
        "neuron_steps": sum(c.neuron_steps for image in done.compared for c in image),
        "mismatches": sum(c.mismatches for image in done.compared for c in image),
        "first_mismatch": {"image": firsts[0][0], **firsts[0][1], "command": repeat(
            source, preset, firsts[0][0] + 1, steps=steps, data=data, inject=inject, leak_nearest=leak_nearest,
            more=["--top", "imc", *(["--macro", macro] if macro else [])])} if firsts else None,
        "accuracy_rtl": _accuracy(done.rtl, labels), "accuracy_golden": _accuracy(done.golden, labels),
        "accuracy_float": _accuracy(reference.logits.argmax(1).tolist(), labels) if reference else None,
        "weight_sparsity": network.weight_sparsity, "decision_ticks": None, "cycles_per_image": counters["cycles"] / images,
        "simulated_cycles_per_second": done.result.cycles / done.result.seconds, "counters": counters,
    }


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
