"""The report of ``spikeloom bench loas`` as a table and as one HTML page."""

from collections.abc import Mapping, Sequence
from typing import Any

from perf import pages
from perf.energy import COSTS

Report = dict[str, Any]
Table = tuple[list[str], list[list[Any]]]
CAPTION = ("{network} on {preset}, {spikes} spikes: {lanes} lanes, bound {bound_cycles:,} cycles, "
           "utilisation {utilisation:.1%}, {bytes_offchip:,} bytes off chip, {bytes_onchip:,} on chip")
DESIGNS = {"loas_paper": "LoAS, paper's count", "loas_lockstep": "LoAS, lockstep", "sparten": "SparTen-SNN",
           "gospa": "GoSPA-SNN", "gamma": "Gamma-SNN"}
LOGGED = {"loas_paper": "cyc_loas_ft", "sparten": "cyc_sparten", "gospa": "cyc_gospa", "gamma": "cyc_gamma"}
TRAFFIC = {"loas_ft": "LoAS-FT", "sparten": "SparTen-SNN", "gospa": "GoSPA-SNN", "gamma": "Gamma-SNN"}
HEAD = ["layer", "M", "N", "K", "matches", "RTL cycles", "model", *DESIGNS.values(), "mismatches"]


def table(report: Report) -> Table:
    """Return head and rows, layer by layer and the total."""
    rows = []
    for layer in (*report["layers"], report["totals"]):
        shape = ["" if layer[name] is None else layer[name] for name in ("M", "N", "K")]
        model = "-" if layer["model_cycles"] is None else layer["model_cycles"]
        rows.append([layer["name"], *shape, layer["matches"], layer["rtl_cycles"], model,
                     *(layer["baselines"][name] for name in DESIGNS), layer["mismatches"]])
    return HEAD, rows


def page(reports: Sequence[Report], facts: Mapping[str, str]) -> str:
    """Return the page of some networks; it loads nothing. Needs matplotlib.

    facts : date, machine and versions, by what they are called
    """
    return pages.page("loas", networks=[_network(report) for report in reports], facts=facts.items(), costs=[
        [cost.name, f"{cost.picojoules:.4g}", cost.unit, cost.source] for cost in COSTS.values()])


def _network(report: Report) -> Report:
    whole = [(name, report[f"{name}_cycles"]) for name in ("encoder", "head", "network")]
    memory, parts = report["memory"], (*report["layers"], report["totals"])
    limit = f"{memory['bandwidth']} bytes a cycle" if memory["bandwidth"] else "a beat every cycle"
    return {
        "name": report["network"], "caption": CAPTION.format(**report), "layers": table(report),
        "configuration": report["configuration"], "memory": f"{limit}, {memory['latency']} cycles of latency",
        "whole": ", ".join(f"{name} {cycles:,} cycles" for name, cycles in whole if cycles is not None),
        "charts": _charts(report), "skewed": _skewed(report), "traffic": _traffic(report),
        "energy": (["", *report["totals"]["energy"], "total"], [
            [layer["name"], *(f"{value / 1000:,.1f}" for value in (*layer["energy"].values(), layer["energy_pj"]))]
            for layer in parts])}


def _charts(report: Report) -> list[str]:
    from perf.plots import bars, svg

    layers, lanes, network = report["layers"], report["lanes"], report["network"]
    names = [layer["name"].removeprefix("conv") for layer in layers]
    rtl = [layer["rtl_cycles"] for layer in layers]
    counted = {title: [layer["baselines"][key] for layer in layers] for key, title in DESIGNS.items()}
    cycles = {"RTL": rtl, "bound": [layer["matches"] / lanes for layer in layers],
              **{DESIGNS[key]: counted[DESIGNS[key]] for key in ("loas_paper", "sparten", "gamma")}}
    speed = {name: [other / own for other, own in zip(values, rtl, strict=True)] for name, values in counted.items()
             if name != DESIGNS["loas_lockstep"]}
    shares = {"utilisation": [layer["matches"] / (lanes * own) for layer, own in zip(layers, rtl, strict=True)],
              "silent ratio": [layer["silent_ratio"] for layer in layers]}
    stalls = {name: [layer["stalls"][name] for layer in layers] for name in report["totals"]["stalls"]}
    return [svg(figure) for figure in (
        bars(f"{network}: cycles per layer, logarithmic", "layer", "cycles", names, cycles, log=True),
        bars(f"{network}: speed of the RTL over what each design counts", "layer", "times as fast", names, speed),
        bars(f"{network}: lane utilisation and share of silent words", "layer", "share", names, shares),
        bars(f"{network}: cycles in which something waits, by cause; causes may coincide, and with other work", "layer",
             "cycles", names, stalls))]


def _skewed(report: Report) -> Table:
    """Return how far the baselines move towards the authors' logs when the columns hold uneven numbers of weights."""
    even, uneven = report["totals"]["baselines"], report["skewed"]["baselines"]
    return ["", "even columns", f"log-normal columns, sigma {report['skewed']['sigma']:g}", "authors' logs"], [
        [title, even[key], uneven[key], int(report["totals"]["published"][LOGGED[key]]) if key in LOGGED else "-"]
        for key, title in DESIGNS.items()]


def _traffic(report: Report) -> Table:
    head = ["layer", "off chip", "on chip", *(f"{kind}, {title}" for kind in ("DRAM", "SRAM") for title in TRAFFIC.values())]
    rows = []
    for layer in (*report["layers"], report["totals"]):
        own = [f"{layer[name] / 1024:,.1f}" for name in ("bytes_offchip", "bytes_onchip")]
        rows.append([layer["name"], *own, *(f"{layer['published'][f'{kind}KB_{key}']:,.1f}"
                                            for kind in ("dram", "sram") for key in TRAFFIC)])
    return head, rows
