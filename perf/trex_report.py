"""The report of ``spikeloom bench trex`` as tables and as a chart of lines."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from perf.plots import BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, TOP, WIDTH

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


def curves(title: str, across: str, points: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return a chart of lines as SVG text, a file of its own.

    across : what the horizontal axis shows; points : (x, y) by the name of their line
    """
    every = [point for line in points.values() for point in line]
    (left, right), (low, high) = ((min(values), max(values)) for values in zip(*every, strict=True))
    low, high = math.floor(low), math.ceil(high)
    wide, tall = max(right - left, 1e-9), max(high - low, 1)

    def at(x: float, y: float) -> tuple[float, float]:
        return (LEFT + (x - left) / wide * (WIDTH - LEFT - RIGHT - 20), HEIGHT - BOTTOM - (y - low) / tall * (
            HEIGHT - TOP - BOTTOM))

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11" '
           f'role="img" aria-label="{escape(title)}"><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
           f'<text x="{LEFT}" y="16" font-size="14">{escape(title)}</text>']
    for y in range(low, high + 1, max(1, tall // 6)):
        place = at(left, y)[1]
        out += [f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place:.1f}" y2="{place:.1f}" stroke="#d8dde3"/>',
                f'<text x="{LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">{y}</text>']
    for x in sorted({x for x, _ in every}):
        out.append(f'<text x="{at(x, low)[0]:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{x:.2f}</text>')
    out.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(across)}</text>')
    for number, (name, line) in enumerate(points.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [at(*point) for point in sorted(line)]
        out.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="'
                   + " ".join(f"{x:.1f},{y:.1f}" for x, y in places) + '"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        out.append(f'<text x="{LEFT + number * 190}" y="32" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*out, "</svg>", ""])
