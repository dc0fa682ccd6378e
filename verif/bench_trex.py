"""``spikeloom bench trex``: a vision transformer with attention reuse on crossbars, as TReX (arXiv:2408.12742) proposes it.

How many encoders reuse follows from the delay that is asked for, which ones from how alike their attention outputs are on the
training images. Networks that reuse are trained on from the one that does not. All matrices of the integer network are
crossbars'; on the first image they are macros, compared with integer products, and K and V are written pulse by pulse.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from golden.arch import ParameterError
from golden.imc.arch import IMC_PRESETS
from golden.imc.kv_write import WriteMemory, Writes, kv_writes
from golden.imc.macro import Effects
from golden.imc.vit import Trace, Vit, run
from golden.imc.vit_crossbars import Tiles, VitCrossbars, sram
from golden.imc.vit_lower import classes, lower
from hdl.imc.settings import Times
from models.datasets import digits
from models.vit import Vit as FloatNetwork
from models.vit_digits import accuracy
from perf.crossbar import AREA, CLOCK_SOURCE, ENERGY
from perf.reuse import alignments, choose, reused_encoders
from perf.vit import DEIT_S, ORGANISATIONS, Cost, Machine, Shape, cost
from verif.imc.setting import setting_of
from verif.imc.vit_run import run_vit
from verif.trex_networks import Advance, Recipe, Trained, network, pixels

Report = dict[str, Any]
Say = Callable[[str], None]
PRESET = IMC_PRESETS["trex-fefet"]
# What replaces attention, by the names of the report.
DESIGNS = {"none": "skip", "skip": "skip", "identity": "identity", "tb": "activation"}
PAPER = {"network": "DeiT-S, ImageNet-1k", "edap": 2.3, "tops_per_mm2": 1.86, "source": "TReX abstract"}
# Images that run together, and for which macros are compared and K and V written.
BATCH, WRITTEN = 60, 1
CELL_EFFECTS = ("proportional", "independent", "stuck_off", "stuck_on", "drift", "drift_spread", "drift_time", "on_off")


@dataclass(frozen=True)
class Data:
    """The digits as tensors."""

    x: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor

    @staticmethod
    def load(images: int | None = None) -> "Data":
        """Return the training part, and the first images of the test part or all of them."""
        x, _, x_test, y_test = map(torch.from_numpy, digits())
        return Data(x, x_test[:images], y_test[:images])


@dataclass(frozen=True, kw_only=True)
class Design:
    """A network of the comparison.

    reuse : encoders that reuse; mode : of `golden.imc.reuse_buffer.MODES`
    """

    name: str
    trained: Trained
    mode: str
    data: Data

    @property
    def model(self) -> FloatNetwork:
        """The float network."""
        return self.trained.model

    @cached_property
    def integers(self) -> Vit:
        """The integer network."""
        return lower(self.trained.floats)

    def cost(self, machine: Machine) -> Cost:
        """Return what an image costs."""
        return cost(shape(self.model), machine, len(self.model.reuse), self.mode)

    def accuracy_integers(self, static: Tiles | None = None, dynamic: Tiles | None = None,
                          progress: Advance = lambda done, of: None) -> float:
        """Return the share of the test images that the integer network classifies right, on macros where tiles are given."""
        right, x = 0, pixels(self.data.x_test)
        for at in range(0, len(x), BATCH):
            macros = None if static is None or dynamic is None else VitCrossbars(self.integers, static, dynamic, at)
            found = classes(run(self.integers, x[at : at + BATCH], macros).logits)
            right += int((np.asarray(found) == self.data.y_test[at : at + BATCH].numpy()).sum())
            progress(min(at + BATCH, len(x)), len(x))
        return right / len(x)


def shape(model: FloatNetwork) -> Shape:
    """Return the sizes of a network of digits."""
    p = model.size
    return Shape(name="digits", tokens=p.tokens, dim=p.dim, heads=p.heads, mlp=p.mlp, depth=p.depth, classes=p.classes,
                 patch=p.patch ** 2, read=p.tokens, pixel_bits=5)


def machine(organisation: str) -> Machine:
    """Return the hybrid of FeFET and SRAM tiles in one of `ORGANISATIONS`."""
    return Machine(static=PRESET, organisation=organisation, times=Times())


def count_of(p: Shape, on: Machine, mode: str, fraction: float) -> int:
    """Return how many encoders reuse for a delay; raises ParameterError when no number reaches it."""
    return reused_encoders([cost(p, on, count, mode).cycles for count in range(p.depth)], fraction)


def attention_outputs(model: FloatNetwork, x: torch.Tensor) -> list[NDArray[np.float64]]:
    """Return the attention output of every encoder, [images * tokens, dim]."""
    outputs: list[torch.Tensor] = []
    with torch.no_grad():
        model(x, outputs=outputs)
    return [one.flatten(0, 1).double().numpy() for one in outputs]


def ideal_tiles() -> tuple[Tiles, Tiles]:
    """Return FeFET tiles and SRAM tiles whose codes lose nothing."""
    return effect_tiles("lossless=1")


def effect_tiles(macro: str | None) -> tuple[Tiles, Tiles]:
    """Return FeFET tiles and SRAM tiles with what ``--macro`` says; cells of SRAM are digital and do not vary."""
    static, ideal = setting_of(PRESET, macro), Effects()
    written = setting_of(sram(PRESET), macro)
    effects = replace(written.effects, **{name: getattr(ideal, name) for name in CELL_EFFECTS})
    return Tiles(arch=PRESET, setting=static), Tiles(arch=sram(PRESET), setting=replace(written, effects=effects))


def mismatches(design: Design, ideal: Trace) -> int:
    """Return how many results of all operations on the first image differ on macros from integer products."""
    found = run(design.integers, pixels(design.data.x_test[:WRITTEN]), VitCrossbars(design.integers, *ideal_tiles()))
    return sum(int((a.result != b.result).sum()) for a, b in zip(ideal.operations, found.operations, strict=True)
               if a.kind not in ("reuse", "softmax"))


def writes(design: Design, trace: Trace) -> dict[int, Writes]:
    """Return what each encoder writes for the first image, in crossbars that hold nothing before."""
    return kv_writes(trace, WriteMemory(sram(PRESET)), design.model.size.depth, image=0)


def measured(design: Design, base: Design) -> Report:
    """Return the line of a design in the report."""
    trace = run(design.integers, pixels(design.data.x_test[:WRITTEN]))
    kv = writes(design, trace)
    return {
        "design": design.name, "reuse": list(design.model.reuse),
        "sources": {str(j): i for j, i in design.model.sources.items()},
        "accuracy_float": accuracy(design.model, design.data.x_test, design.data.y_test),
        "accuracy_int8": design.accuracy_integers(), "mismatches": mismatches(design, trace),
        "operations": len(trace.operations),
        "costs": {name: _cost(design.cost(machine(name)), base.cost(machine(name))) for name in ORGANISATIONS},
        "kv_writes": {str(number): {"reuses": number in design.model.reuse, "words": one.words, "rows": one.rows,
                                    "pulses": one.pulses, "cells": one.cells} for number, one in kv.items()},
        "kv_pulses_on_reused": sum(one.pulses for number, one in kv.items() if number in design.model.reuse)}


def on_rtl(design: Design, images: int, progress: Advance = lambda done, of: None) -> Report:
    """Return what the RTL makes of the first images: all results compared with golden, events of an image."""
    done = run_vit(PRESET, design.integers, pixels(design.data.x_test[:images]), *ideal_tiles(), progress=progress)
    steps = [step for image in done.compared for step in image]
    pulses = {str(number): sum(step.counters["pulses"] for step in done.compared[0] if step.encoder == number)
              for number in range(1, design.model.size.depth + 1)}
    return {
        "images": images, "numbers": sum(step.numbers for step in steps), "mismatches": done.mismatches,
        "first_mismatch": next(({"step": step.name, "of": step.first} for step in steps if step.mismatches), None),
        "right": int((done.logits.argmax(axis=1) == design.data.y_test[:images].numpy()).sum()),
        "cycles": sum(step.counters["cycles"] for step in steps) / images, "kv_pulses": pulses,
        "kv_pulses_on_reused": sum(pulses[str(number)] for number in design.model.reuse)}


def _cost(found: Cost, base: Cost) -> Report:
    """Return a cost beside that without reuse; gains are above 1 where the other one is worse.

    TOPS/mm^2 counts the operations of the network without reuse, whose place each design takes; ``tops_per_mm2_executed_gain``
    those that are done.
    """
    effective = base.seconds * base.square_mm / (found.seconds * found.square_mm)
    return {
        "cycles": found.cycles, "milliseconds": 1e3 * found.seconds, "delay": found.cycles / base.cycles,
        "microjoules": 1e-6 * found.picojoules, "energy": found.picojoules / base.picojoules, "square_mm": found.square_mm,
        "area": found.square_mm / base.square_mm, "edap_gain": base.edap / found.edap, "tops_per_mm2_gain": effective,
        "tops_per_mm2_executed_gain": effective * found.macs / base.macs, "macs": found.macs, "crossbars": found.crossbars,
        "tops_per_mm2": 2e-12 * base.macs / (found.seconds * found.square_mm), "kv_words": found.kv_words,
        "kv_rows": found.kv_rows, "energy_parts": found.energy, "area_parts": found.area}


def deit(fraction: float) -> list[Report]:
    """Return what the same formulas say of DeiT-S with spatial tiles: at the fraction, and at what is nearest to the paper."""
    on = machine("spatial")
    base = cost(DEIT_S, on)
    rows = [{"reused": count, **_cost(cost(DEIT_S, on, count), base)} for count in range(DEIT_S.depth)]
    asked = next((row for row in rows if row["delay"] <= fraction), rows[-1])
    nearest = min(rows, key=lambda row: abs(row["edap_gain"] - float(str(PAPER["edap"]))))
    return [{"which": "at the delay asked for" if asked["delay"] <= fraction else "the least delay there is", **asked},
            {"which": "nearest to the paper's EDAP", **nearest}]


def bench_trex(fraction: float, organisation: str = "core", recipe: Recipe | None = None, images: int | None = None,
               macro: str | None = None, rtl: int = 0, designs: tuple[str, ...] = tuple(DESIGNS), say: Say = lambda text: None,
               progress: Advance = lambda done, of: None) -> Report:
    """Return the report of the command; its keys are a contract of the command line.

    fraction : of the delay without reuse; ``organisation``, of `ORGANISATIONS`, decides how many encoders that takes
    images : of the test part; None: all
    rtl : so many first images also run on the RTL, each result compared
    macro : accuracy is also measured on macros that are not ideal, as `setting_of` takes it

    Raises ParameterError for a delay that cannot be reached.
    """
    recipe, on = recipe or Recipe(), machine(organisation)
    sizes = shape(FloatNetwork(recipe.size))
    counts = {name: 0 if name == "none" else count_of(sizes, on, DESIGNS[name], fraction) for name in designs}
    tiles = None if macro is None else effect_tiles(macro)
    data = Data.load(images)
    say("network without reuse")
    base = Design(name="none", trained=network(recipe, progress=progress, say=say), mode="skip", data=data)
    table = alignments(attention_outputs(base.model, data.x))
    rows = []
    for name, count in counts.items():
        reuse = choose(table, count)
        say(f"{name}: encoders {', '.join(map(str, reuse)) or 'none'} reuse")
        design = Design(name=name, mode=DESIGNS[name], data=data,
                        trained=network(recipe, reuse, DESIGNS[name], progress, say) if reuse else base.trained)
        row = measured(design, base)
        if tiles is not None:
            row["accuracy_macro"] = design.accuracy_integers(*tiles, progress=progress)
        if rtl:
            say(f"{name}: {rtl} of the images on the RTL")
            row["rtl"] = on_rtl(design, rtl, progress)
        rows.append(row)
    drop = {row["design"]: 100 * (rows[0]["accuracy_int8"] - row["accuracy_int8"]) for row in rows}
    return {
        "delay_asked": fraction, "organisation": organisation, "preset": PRESET.name, "configuration": PRESET.hash,
        "seed": recipe.seed, "images": len(data.x_test), "macro": macro, "rtl": rtl, "designs": rows, "points_lost_int8": drop,
        "alignment": table.tolist(), "deit_s": deit(fraction), "paper": PAPER,
        "constants": {kind: [asdict(entry) for entry in prices.values()]
                      for kind, prices in (("energy", ENERGY), ("area", AREA))},
        "clock": CLOCK_SOURCE}


def curve(organisation: str, recipe: Recipe, images: int | None = None, say: Say = lambda text: None,
          progress: Advance = lambda done, of: None) -> dict[str, list[tuple[float, float]]]:
    """Return (delay, number) of networks with transformation blocks, one for each number of encoders that reuse."""
    data, on = Data.load(images), machine(organisation)
    base = Design(name="none", trained=network(recipe, progress=progress, say=say), mode="skip", data=data)
    table = alignments(attention_outputs(base.model, data.x))
    points: dict[str, list[tuple[float, float]]] = {"points of accuracy lost": [], "EDAP gain": [], "TOPS/mm2 gain": []}
    whole = base.accuracy_integers()
    for count in range(1, recipe.size.depth):
        reuse = choose(table, count)
        say(f"curve: encoders {', '.join(map(str, reuse)) or 'none'} reuse")
        design = Design(name="tb", trained=network(recipe, reuse, "activation", progress, say), mode="activation", data=data)
        found = _cost(design.cost(on), base.cost(on))
        lost = 100 * (whole - design.accuracy_integers())
        for line, number in zip(points.values(), (lost, found["edap_gain"], found["tops_per_mm2_gain"]), strict=True):
            line.append((found["delay"], number))
    return points


def failed(report: Report) -> bool:
    """Return whether a macro or the RTL gave another result, or K or V was written where attention is reused."""
    runs = [run for row in report["designs"] for run in (row, row.get("rtl")) if run]
    return any(run["mismatches"] or run["kv_pulses_on_reused"] for run in runs)


def check_delay(text: str) -> float:
    """Return the fraction that ``--delay`` names; raise ParameterError for anything but a number above 0 and at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value <= 1:
        raise ParameterError(f"--delay: fraction of the delay without reuse, not {text}; legal: above 0, at most 1; "
                             "try: --delay 0.6")
    return value

