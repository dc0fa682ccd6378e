"""Accuracy of a workload on crossbars against one setting of them: golden alone, image by image the spikes of the RTL."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from golden.arch import ParameterError
from golden.imc.arch import ImcArch
from golden.imc.early_exit import early_exit, sums_by_step
from golden.imc.run import Setting, place, run_images
from golden.network import Network, map_arrays
from golden.run import Trace, predict
from verif.imc.calibration import calibrate, free_crossbar
from verif.imc.lowering import lowering_arch
from verif.imc.setting import calibrated_setting
from verif.workload import Workload, load_workload

# Images whose vectors are in memory together, what is swept, and what the others hold meanwhile.
BATCH = 25
VARIATIONS = (0.0, 0.1, 0.2, 0.3, 0.4)
STUCK = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)
STEPS = (1, 2, 3, 4, 6, 8)
OFFSETS = (0.0, 1.0, 2.0, 4.0)
NOISES = (0.0, 0.1, 0.2, 0.3)
DRIFTS, DRIFT_TIME = (0.0, 0.02, 0.04, 0.06), 10_000
SPREAD, FEW = 0.3, 4
QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One setting of the crossbars.

    x : place on the axis
    macro : what ``simulate --macro`` takes, without the seed
    steps : T; None: the workload's own
    drawn : whether its draws differ from seed to seed
    """

    x: float
    macro: str = ""
    steps: int | None = None
    drawn: bool = False


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Series of points over one axis."""

    title: str
    axis: str
    series: Mapping[str, Sequence[Point]]


def sweeps(p: ImcArch) -> dict[str, Sweep]:
    """Return what can be swept on a build, by name."""
    adc = {"steps over all rows": [Point(x=n, macro=f"bits={n}") for n in range(1, p.adc_bits + 1)],
           "steps of one level": [Point(x=n, macro=f"bits={n},full_scale={min((1 << n) - 1, p.group_levels)}")
                                  for n in range(1, p.adc_bits + 1)]}
    noise = {"flash" if flash else "SAR": [
        Point(x=x, macro=f"{_few(p, flash=flash)},skip=1,comparator_noise={x}", drawn=x > 0) for x in NOISES]
        for flash in (False, True) if p.flash_bits or not flash}
    return {
        "adc": Sweep(title="Accuracy against bits of the ADC; SAR and flash give the same codes", axis="bits", series=adc),
        "variation": Sweep(
            title="Accuracy against variation of cells", axis="spread of a cell, in its own conductance",
            series={"": [Point(x=x, macro=f"proportional={x}", drawn=x > 0) for x in VARIATIONS]}),
        "stuck": Sweep(title="Accuracy against stuck cells", axis="share of stuck cells, half at each end", series={
            "": [Point(x=x, macro=f"stuck_off={x / 2},stuck_on={x / 2}", drawn=x > 0) for x in STUCK]}),
        "steps": Sweep(title="Accuracy against timesteps", axis="T", series={
            "ideal": [Point(x=t, steps=t) for t in STEPS if t <= p.t_max],
            f"variation {SPREAD}": [Point(x=t, macro=f"proportional={SPREAD}", steps=t, drawn=True)
                                    for t in STEPS if t <= p.t_max]}),
        "calibration": Sweep(title="Accuracy against offsets of ADCs", axis="spread of an offset, in steps of the ADC", series={
            name: [Point(x=x, macro=f"offset={x}{calibration}", drawn=x > 0) for x in OFFSETS] for name, calibration in (
                ("as they are", ""), ("taken from codes", ",calibrate=offsets"), ("comparators trimmed", ",calibrate=trims"))}),
        "noise": Sweep(title="Accuracy against noise of comparators, 4 bits of one level",
                       axis="spread of a comparison, in steps", series=noise),
        "drift": Sweep(title=f"Accuracy against drift, {DRIFT_TIME:,} times as old as when cells were right",
                       axis="exponent of drift, a tenth of it its spread", series={
            name: [Point(x=x, macro=f"drift_time={DRIFT_TIME},drift={x},drift_spread={x / 10:g}{calibration}" if x else "",
                         drawn=x > 0) for x in DRIFTS]
            for name, calibration in (("as it is", ""), ("with gains", ",calibrate=gains"))}),
    }


def _few(p: ImcArch, *, flash: bool) -> str:
    """Return the settings of a converter of `FEW` bits, or of all that the build has, in steps of one level."""
    bits = min(FEW, p.flash_bits if flash else p.adc_bits)
    return f"flash={int(flash)},bits={bits},full_scale={min((1 << bits) - 1, p.group_levels)}"


def chosen(p: ImcArch, text: str) -> dict[str, Sweep]:
    """Return the sweeps that ``--sweep`` names; raise `ParameterError` for an unknown one."""
    known = sweeps(p)
    names = {"all": list(known), "none": []}.get(text, text.split(","))
    for name in names:
        if name not in known:
            raise ParameterError(f"--sweep: unknown name, not {name!r}; legal: {', '.join(known)}, all, none; "
                                 "try: --sweep adc,steps")
    return {name: known[name] for name in names}


class Runs:
    """Golden runs of the first images of a classifier on a build."""

    def __init__(self, source: str, p: ImcArch, images: int) -> None:
        self.source, self.arch, self.images = source, p, images
        self.at_steps = cache(self._at_steps)
        workload = self.at_steps(None)
        workload.check_images(images)
        if workload.y is None or not workload.network.layers[-1].readout:
            raise ParameterError(f"workload: classifier with labels, not {source!r}; legal: a trained network; "
                                 "try: spikeloom list")
        self.labels = workload.y[:images]

    def _at_steps(self, steps: int | None) -> Workload:
        return load_workload(self.source, lowering_arch(self.arch), steps=steps)

    def traces(self, setting: Setting, steps: int | None = None, ways: Sequence[str] = ()) -> list[Trace]:
        """Return the traces of all images, in torch for its speed; ``ways``, what is calibrated before."""
        workload = self.at_steps(steps)
        network: Network = map_arrays(workload.network, torch.asarray)
        placed = place(network, self.arch, setting)
        setting, _ = calibrate(self.arch, setting, ways, free_crossbar(self.arch, placed))
        found = []
        for first in range(0, self.images, BATCH):
            words = [{name: torch.from_numpy(word) for name, word in workload.words(n).items()}
                     for n in range(first, min(first + BATCH, self.images))]
            found += run_images(network, self.arch, setting, words, first=first, placed=placed)
        return found

    def accuracy(self, point: Point, seed: int) -> float:
        """Return the share of the images that golden classifies right."""
        setting, ways = calibrated_setting(self.arch, f"{point.macro},seed={seed}".lstrip(","))
        return self.right(self.traces(setting, point.steps, ways))

    def right(self, traces: Sequence[Trace]) -> float:
        """Return the share of traces whose class is the label."""
        return sum(predict(trace) == int(label) for trace, label in zip(traces, self.labels, strict=True)) / len(traces)


def measure(runs: Runs, sweep: Sweep, seeds: int, advance: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Return what the images make of a sweep; what is not drawn is run once."""
    series = []
    for name, points in sweep.series.items():
        found = []
        for point in points:
            shares = []
            for seed in range(seeds if point.drawn else 1):
                shares.append(runs.accuracy(point, seed))
                advance()
            found.append({"x": point.x, "macro": point.macro, "T": point.steps,
                          "accuracies": shares, "accuracy": statistics.fmean(shares)})
        series.append({"name": name, "points": found})
    return {"title": sweep.title, "axis": sweep.axis, "series": series}


def count(sweep: Sweep, seeds: int) -> int:
    """Return how many runs a sweep takes."""
    return sum(seeds if point.drawn else 1 for points in sweep.series.values() for point in points)


def exits(runs: Runs, traces: Sequence[Trace]) -> list[dict[str, Any]]:
    """Return what early exit makes of traces, at thresholds that so many of the images reach at the first step.

    Source: imc 10, B12; golden alone.
    """
    steps = runs.at_steps(None).network.steps
    sums = np.stack([np.asarray(sums_by_step(trace)) for trace in traces])
    margins = early_exit(sums, 0).margins[:, 0]
    found = []
    for quantile in QUANTILES:
        threshold = int(np.quantile(margins, quantile, method="higher")) + (quantile == 1)
        stop = early_exit(sums, threshold)
        found.append({"threshold": threshold, "steps": float(stop.steps.mean()),
                      "shares": [float((stop.steps == t).mean()) for t in range(1, steps + 1)],
                      "accuracy": float((stop.label == runs.labels).mean())})
    return found

