"""The report of ``spikeloom bench trex`` as tables and as a chart."""

from collections.abc import Mapping, Sequence
from typing import Any

Report = dict[str, Any]
Table = tuple[list[str], list[list[Any]]]
NAMES = {"none": "no reuse", "skip": "skip (PIVOT)", "identity": "identity reuse", "tb": "TB reuse"}


def designs(report: Report) -> Table:
    """Return what each design makes of the images."""
    head = ["design", "encoders that reuse", "float", "int8", "points lost", "mismatches", "K/V words", "K/V pulses"]
    head += ["on macros"] if report["macro"] else []
    rows = []
    for row in report["designs"]:
        kv = row["kv_writes"].values()
        cells = [NAMES[row["design"]], ", ".join(map(str, row["reuse"])) or "-", f"{row['accuracy_float']:.2%}",
                 f"{row['accuracy_int8']:.2%}", f"{report['points_lost_int8'][row['design']]:.2f}", row["mismatches"],
                 sum(one["words"] for one in kv), sum(one["pulses"] for one in kv)]
        rows.append(cells + ([f"{row['accuracy_macro']:.2%}"] if report["macro"] else []))
    return head, rows


def costs(report: Report) -> Table:
    """Return what each design costs, in both organisations, and DeiT-S by the same formulas beside the paper."""
    head = ["network, tiles", "design", "reuse", "ms", "delay", "uJ", "energy", "mm2", "area", "EDAP gain", "TOPS/mm2 gain"]
    rows = [[f"digits, {name}", NAMES[row["design"]], len(row["reuse"]), *_cost(row["costs"][name])]
            for name in report["designs"][0]["costs"] for row in report["designs"]]
    rows += [["DeiT-S, spatial", f"TB reuse, {row['which']}", row["reused"], *_cost(row)] for row in report["deit_s"]]
    paper = report["paper"]
    return head, [*rows, [paper["network"], f"TB reuse, {paper['source']}", *["-"] * 7, f"{paper['edap']:.2f}",
                          f"{paper['tops_per_mm2']:.2f}"]]


def _cost(found: Mapping[str, float]) -> list[str]:
    forms = {"milliseconds": ",.2f", "delay": ".3f", "microjoules": ",.2f", "energy": ".3f", "square_mm": ",.3f", "area": ".3f",
             "edap_gain": ".2f", "tops_per_mm2_gain": ".2f"}
    return [f"{found[name]:{form}}" for name, form in forms.items()]


def encoders(report: Report) -> Table:
    """Return the writes of K and V of each encoder of the last design, for the first image."""
    row = report["designs"][-1]
    return (["encoder", "attention", "alignment", "K/V words", "rows", "pulses", "cells pulsed"], [
        [int(number), f"of {row['sources'][number]}" if one["reuses"] else "its own",
         f"{report['alignment'][int(number) - 1][row['sources'][number] - 1]:.3f}" if one["reuses"] else "-",
         one["words"], one["rows"], one["pulses"], one["cells"]] for number, one in row["kv_writes"].items()])


def runs(report: Report) -> Table:
    """Return what the RTL made of the first images of each design."""
    return (["design", "images on the RTL", "results compared", "mismatches", "cycles an image", "counted here", "K/V pulses",
             "where attention is reused"], [
        [NAMES[row["design"]], run["images"], f"{run['numbers']:,}", run["mismatches"], f"{run['cycles']:,.0f}",
         f"{row['costs']['core']['cycles']:,.0f}", sum(run["kv_pulses"].values()), run["kv_pulses_on_reused"]]
        for row in report["designs"] if (run := row.get("rtl"))])


def provenance(report: Report) -> Table:
    """Return every constant of energy and area with its source."""
    return (["constant", "value", "unit", "source"], [
        [f"{kind}: {one['name']}", f"{one['value']:.5g}", one["unit"], one["source"]]
        for kind, entries in report["constants"].items() for one in entries])


def chart(organisation: str, curve: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return a chart of what reuse loses and gains at every delay, as SVG; needs matplotlib.

    curve : what `verif.bench_trex.curve` returns
    """
    from perf.plots import lines, svg

    series = {name: [(round(x, 2), [y]) for x, y in sorted(points)] for name, points in curve.items()}
    return svg(lines(f"TB reuse, {organisation} tiles", "delay, as a fraction of that without reuse",
                     "points lost; gain, times", series, shares=False))
