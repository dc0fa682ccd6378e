"""What the levers of the core do: events, cycles and energy of a workload on the RTL, with each of them on and off."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from golden.imc.arch import ImcArch
from golden.imc.run import place
from models.workloads import shipped
from perf.imc_energy import area, delay, energy
from perf.imc_events import COUNTED, EVENTS, events, membranes, total
from perf.imc_report import SHARING
from verif.imc.setting import setting_of
from verif.imc.simulate import Machine, run_images
from verif.imc.sweep import Runs
from verif.system import SystemFailure


@dataclass(frozen=True, kw_only=True)
class Lever:
    """One way of running the core.

    macro : as ``--macro`` has it
    source : another workload that runs in place of the given one, "" for none
    """

    name: str
    macro: str = ""
    time_inner: bool = True
    source: str = ""


def levers(p: ImcArch, source: str) -> list[Lever]:
    """Return the ways that are compared, the usual one first; the last one is a network of its own, where one is shipped."""
    few = min(4, p.adc_bits)
    found = [Lever(name="as usual"), Lever(name="zero-skip", macro="skip=1"), Lever(name="time outside", time_inner=False),
             Lever(name="image converted in every step", macro="once=0"),
             Lever(name=f"SAR, {few} bits of one level", macro=f"bits={few},full_scale={(1 << few) - 1}")]
    if p.flash_bits:
        most = f"flash=1,bits={p.flash_bits},full_scale={(1 << p.flash_bits) - 1}"
        found += [Lever(name=f"flash, {p.flash_bits} bits of one level", macro=most),
                  Lever(name="the same and zero-skip", macro=f"{most},skip=1")]
    shared = f"{source}-shared"
    return [*found, Lever(name=SHARING, source=shared)] if shared in shipped() else found


def measure(runs: Runs, lever: Lever, images: int, advance: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Return what a way of running costs an image, on the RTL, beside golden's accuracy on all images.

    Raises `SystemFailure` where the counters of the RTL are not the events of golden.
    """
    runs = Runs(lever.source, runs.arch, runs.images) if lever.source else runs
    p, workload = runs.arch, runs.at_steps(None)
    machine = Machine(setting=setting_of(p, lever.macro or None), time_inner=lever.time_inner)
    placed = place(workload.network, p, machine.setting)
    done = run_images(workload, p, machine, images)
    summed, by_step = dict.fromkeys(EVENTS, 0), [dict.fromkeys(EVENTS, 0) for _ in range(workload.network.steps)]
    for trace, compared in zip(done.traces, done.compared, strict=True):
        found = events(workload.network, p, machine.setting, placed, trace)
        for layer in compared:
            counted = {name: int(found[layer.name][name].sum()) for name in COUNTED}
            if counted != {name: layer.counters[name] for name in COUNTED}:
                raise SystemFailure(f"layer {layer.name}: events of golden {counted}, counters of the RTL {layer.counters}")
        summed = {name: summed[name] + value for name, value in total(found).items()}
        by_step = [{name: before[name] + value for name, value in total(found, steps=t + 1).items()}
                   for t, before in enumerate(by_step)]
    cycles = sum(layer.counters["cycles"] for image in done.compared for layer in image) / images
    mean = {name: value / images for name, value in summed.items()}
    parts = {"least": energy(mean, p), "most": energy(mean, p, most=True)}
    words = [membranes(entry, done.traces[0].layers[entry.mapped.layer.name], time_inner=lever.time_inner) for entry in placed]
    advance()
    return {
        "name": lever.name, "macro": lever.macro, "time_inner": lever.time_inner, "workload": workload.name, "images": images,
        "share": max((layer.neuron.share for layer in workload.network.layers if layer.neuron), default=1),
        "mismatches": sum(layer.mismatches for image in done.compared for layer in image),
        "neuron_steps": sum(layer.neuron_steps for image in done.compared for layer in image),
        "cycles": cycles, "seconds": delay(cycles), "events": mean, "membranes": max(words),
        "energy": parts, "energy_pj": {kind: sum(values.values()) for kind, values in parts.items()},
        "energy_of_steps": [sum(energy(step, p).values()) / images for step in by_step],
        "accuracy": runs.right(runs.traces(machine.setting)),
    }


def areas(runs: Runs) -> dict[str, Any]:
    """Return the areas of the build as it is, and of one whose memories and crossbars are as large as the workload takes."""
    p, workload = runs.arch, runs.at_steps(None)
    setting = setting_of(p, None)
    placed = place(workload.network, p, setting)
    (trace,) = Runs(runs.source, p, 1).traces(setting)
    words = [sum(len(q.planes) for q in layer.passes) * _pixels(trace, layer.passes[0].source) * entry.mapped.groups
             for layer, entry in zip(workload.network.layers, placed, strict=True)]
    used = {"crossbars": sum(entry.mapped.row_blocks * entry.mapped.column_blocks for entry in placed), "map_words": max(words)}
    needed = {order: max(membranes(entry, trace.layers[entry.mapped.layer.name], time_inner=order == "inside")
                         for entry in placed) for order in ("inside", "outside")}
    return {
        "built": area(p, crossbars=p.tiles * p.crossbars, map_words=p.map_words, membranes=p.membranes),
        **{f"needed, time {order}": area(p, **used, membranes=words_) for order, words_ in needed.items()},
        "sizes": {**used, "membranes": needed}}


def _pixels(trace: Any, name: str) -> int:
    word = trace.inputs[name] if name in trace.inputs else trace.layers[name].output
    return int(word.shape[-1] * word.shape[-2])
