"""The report of ``spikeloom bench loas`` as a table and as one HTML page."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from perf.energy import COSTS
from perf.plots import bars

Report = dict[str, Any]
CAPTION = ("{network} on {preset}, {spikes} spikes: {lanes} lanes, bound {bound_cycles:,} cycles, "
           "utilisation {utilisation:.1%}, {bytes_offchip:,} bytes off chip, {bytes_onchip:,} on chip")
DESIGNS = {"loas_paper": "LoAS, paper's count", "loas_lockstep": "LoAS, lockstep", "sparten": "SparTen-SNN",
           "gospa": "GoSPA-SNN", "gamma": "Gamma-SNN"}
LOGGED = {"loas_paper": "cyc_loas_ft", "sparten": "cyc_sparten", "gospa": "cyc_gospa", "gamma": "cyc_gamma"}
TRAFFIC = {"loas_ft": "LoAS-FT", "sparten": "SparTen-SNN", "gospa": "GoSPA-SNN", "gamma": "Gamma-SNN"}
HEAD = ["layer", "M", "N", "K", "matches", "RTL cycles", "model", *DESIGNS.values(), "mismatches"]
STYLE = """body{font:15px/1.45 system-ui,sans-serif;max-width:1240px;margin:2em auto;padding:0 1em;color:#1d2329}
table{border-collapse:collapse;font-size:12px;margin:1em 0;display:block;overflow-x:auto}
th,td{padding:3px 9px;border-bottom:1px solid #d8dde3;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}td.text{text-align:left;white-space:normal}tr:last-child td{font-weight:600}
table.plain tr:last-child td{font-weight:400}table.plain td,table.plain th{text-align:left}
svg{width:100%;height:auto;margin:.6em 0;font:11px system-ui,sans-serif}
.title{font-size:14px;font-weight:600}.grid{stroke:#d8dde3}"""


def table(report: Report) -> tuple[list[str], list[list[Any]]]:
    """Return head and rows, layer by layer and the total."""
    rows = []
    for layer in (*report["layers"], report["totals"]):
        shape = ["" if layer[name] is None else layer[name] for name in ("M", "N", "K")]
        model = "-" if layer["model_cycles"] is None else layer["model_cycles"]
        rows.append([layer["name"], *shape, layer["matches"], layer["rtl_cycles"], model,
                     *(layer["baselines"][name] for name in DESIGNS), layer["mismatches"]])
    return HEAD, rows


def page(reports: Sequence[Report], facts: Mapping[str, str]) -> str:
    """Return the page of some networks; it loads nothing.

    facts : date, machine and versions, by what they are called
    """
    body = ["<h1>spikeloom bench loas</h1>",
            "<p>Layers that LoAS (MICRO 2024) publishes, each a program of its own on the RTL, every output word compared "
            "with the golden model. Baselines count matches only, as their authors do.</p>",
            html_table([], [[name, text] for name, text in facts.items()], "plain")]
    for report in reports:
        body += _network(report)
    body += ["<h2>Energy per event</h2>", html_table(["event", "pJ", "counted per", "source"], [
        [cost.name, f"{cost.picojoules:.4g}", cost.unit, cost.source] for cost in COSTS.values()], "plain")]
    return "\n".join(['<!DOCTYPE html>', '<html lang="en"><head><meta charset="utf-8"><title>spikeloom bench loas</title>',
                      f"<style>{STYLE}</style></head><body>", *body, "</body></html>", ""])


def _network(report: Report) -> list[str]:
    layers, totals, lanes = report["layers"], report["totals"], report["lanes"]
    names = [layer["name"].removeprefix("conv") for layer in layers]
    rtl = [layer["rtl_cycles"] for layer in layers]
    counted = {DESIGNS[key]: [layer["baselines"][key] for layer in layers] for key in DESIGNS}
    cycles = {"RTL": rtl, "bound": [layer["matches"] / lanes for layer in layers],
              **{DESIGNS[key]: counted[DESIGNS[key]] for key in ("loas_paper", "sparten", "gamma")}}
    speed = {name: [other / own for other, own in zip(values, rtl, strict=True)] for name, values in counted.items()
             if name != DESIGNS["loas_lockstep"]}
    stalls = {name: [layer["stalls"][name] for layer in layers] for name in totals["stalls"]}
    return [
        f"<h2>{escape(report['network'])}</h2><p>{escape(CAPTION.format(**report))}</p>", html_table(*table(report)),
        _whole(report),
        bars("Cycles per layer, logarithmic", names, cycles, log=True),
        bars("Speed of the RTL over what each design counts", names, speed),
        bars("Lane utilisation and share of silent words", names, {
            "utilisation": [layer["matches"] / (lanes * own) for layer, own in zip(layers, rtl, strict=True)],
            "silent ratio": [layer["silent_ratio"] for layer in layers]}),
        bars("Cycles in which something waits, by cause; causes may coincide, and with other work", names, stalls),
        "<h3>Baselines with uneven columns</h3>", _skewed(report),
        "<h3>Traffic in KB of 1,024 bytes, beside the authors' logs</h3>", _traffic(report),
        "<h3>Energy in nJ</h3>", html_table(["", *totals["energy"], "total"], [
            [layer["name"], *(f"{value / 1000:,.1f}" for value in (*layer["energy"].values(), layer["energy_pj"]))]
            for layer in (*layers, totals)]),
    ]


def _whole(report: Report) -> str:
    whole = [(name, report[f"{name}_cycles"]) for name in ("encoder", "head", "network")]
    told = ", ".join(f"{name} {cycles:,} cycles" for name, cycles in whole if cycles is not None)
    memory = report["memory"]
    limit = f"{memory['bandwidth']} bytes a cycle" if memory["bandwidth"] else "a beat every cycle"
    return (f"<p>Configuration {report['configuration']}. Memory: {limit}, {memory['latency']} cycles of latency.</p>"
            + (f"<p>The whole network on one image, in one program: {told}.</p>" if told else ""))


def _skewed(report: Report) -> str:
    """Return how far the baselines move towards the authors' logs when the columns hold uneven numbers of weights."""
    even, uneven = report["totals"]["baselines"], report["skewed"]["baselines"]
    return html_table(["", "even columns", f"log-normal columns, sigma {report['skewed']['sigma']:g}", "authors' logs"], [
        [title, even[key], uneven[key], int(report["totals"]["published"][LOGGED[key]]) if key in LOGGED else "-"]
        for key, title in DESIGNS.items()], "plain")


def _traffic(report: Report) -> str:
    rows = []
    for layer in (*report["layers"], report["totals"]):
        own = [f"{layer[name] / 1024:,.1f}" for name in ("bytes_offchip", "bytes_onchip")]
        rows.append([layer["name"], *own, *(f"{layer['published'][f'{kind}KB_{key}']:,.1f}"
                                            for kind in ("dram", "sram") for key in TRAFFIC)])
    return html_table(["layer", "off chip", "on chip", *(f"{kind}, {title}" for kind in ("DRAM", "SRAM")
                                                    for title in TRAFFIC.values())], rows)


def html_table(head: Sequence[str], rows: Sequence[Sequence[Any]], kind: str = "") -> str:
    """Return a table; integers get separators."""
    def cell(value: Any) -> str:
        text = f"{value:,}" if isinstance(value, int) else escape(str(value))
        return f'<td class="text">{text}</td>' if len(text) > 24 else f"<td>{text}</td>"

    lines = [f'<table class="{kind}">' if kind else "<table>"]
    lines += ["<tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"] if head else []
    lines += ["<tr>" + "".join(map(cell, row)) + "</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])
