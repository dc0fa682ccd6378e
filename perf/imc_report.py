"""The report of ``spikeloom bench imc`` as tables, charts and one HTML page."""

from collections.abc import Mapping
from typing import Any

from perf import pages
from perf.imc_energy import AREAS, COSTS, SPIKESIM_ENERGY, shares, spikesim_area
from perf.imc_events import EVENTS
from perf.spikesim import HERTZ

Report = dict[str, Any]
Table = tuple[list[str], list[list[Any]]]
USUAL, SKIP, OUTSIDE, EVERY = "as usual", "zero-skip", "time outside", "image converted in every step"
SHARING = "LIF sharing"
# Area of its LIF neurons over that with so many groups of channels that share them, which the review gives (imc 3).
SHARED_AREA = {2: 1.38, 4: 2.41}


def charts(report: Report) -> dict[str, str]:
    """Return a chart of each sweep by its name, as SVG. Needs matplotlib."""
    from perf.plots import lines, svg

    return {name: svg(lines(f"{sweep['title']}: {report['workload']} on {report['preset']}", sweep["axis"], "accuracy", {
        series["name"]: [(point["x"], point["accuracies"]) for point in series["points"]] for series in sweep["series"]}))
        for name, sweep in report["sweeps"].items()}


def sweep_table(sweep: Report) -> Table:
    """Return the mean accuracies of a sweep, smallest and largest in brackets where seeds differ, a line for each series."""
    places = sorted({point["x"] for series in sweep["series"] for point in series["points"]})
    rows = []
    for series in sweep["series"]:
        found = {point["x"]: point for point in series["points"]}
        rows.append([series["name"] or "accuracy", *(_spread(found.get(x)) for x in places)])
    return [sweep["axis"], *(f"{x:g}" for x in places)], rows


def _spread(point: Report | None) -> str:
    if point is None:
        return "-"
    low, high = min(point["accuracies"]), max(point["accuracies"])
    return f"{point['accuracy']:.1%}" + (f" ({low:.1%} to {high:.1%})" if low < high else "")


def lever_table(report: Report) -> Table:
    """Return what each way of running costs an image, on the RTL, and what early exit would leave of the usual way."""
    rows = [[lever["name"], _number(lever["cycles"]), f"{lever['seconds'] * 1e3:.2f}", _number(lever["events"]["phases"]),
             _number(lever["events"]["skipped"]), _number(lever["events"]["conversions"]), _number(lever["membranes"]),
             _energy(lever), f"{lever['accuracy']:.1%}", lever["mismatches"]] for lever in report["levers"]]
    return ["way of running", "cycles", "ms", "phases", "skipped", "conversions", "membranes", "energy, nJ", "accuracy",
            "mismatches"], rows


def exit_table(report: Report) -> Table:
    """Return what early exit does to timesteps, energy (least) and accuracy; golden alone."""
    usual = report["levers"][0]["energy_of_steps"]
    energies = [sum(share * part for share, part in zip(stop["shares"], usual, strict=True)) for stop in report["exits"]]
    return ["margin of mean outputs", "mean T", "energy, nJ", "accuracy"], [
        [stop["threshold"], f"{stop['steps']:.2f}", _number(energy / 1e3), f"{stop['accuracy']:.1%}"]
        for stop, energy in zip(report["exits"], energies, strict=True)]


def energy_table(report: Report) -> Table:
    """Return events of an image as usual, price and share of each, beside the share in SpikeSim's PE cycle."""
    usual, arch_bits = report["levers"][0], report["rows"]
    events = {**usual["events"], "bits": (usual["events"]["read"] + usual["events"]["words"]) * arch_bits}
    least, most, theirs = (shares(parts) for parts in (usual["energy"]["least"], usual["energy"]["most"], SPIKESIM_ENERGY))
    return ["part", "event", "events an image", "pJ each", "at most", "share", "at most", "SpikeSim"], [
        [name, cost.event, _number(events[cost.event]), f"{cost.least:.4g}", f"{cost.most:.4g}", f"{least[name]:.1%}",
         f"{most[name]:.1%}", f"{theirs[name]:.1%}"] for name, cost in COSTS.items()]


def area_table(report: Report) -> Table:
    """Return um^2 and shares of the build, and of one as large as the workload takes, beside the shares of SpikeSim's VGG9."""
    kinds = {kind: parts for kind, parts in report["areas"].items() if kind != "sizes"}
    theirs, own = shares(spikesim_area()), {kind: shares(parts) for kind, parts in kinds.items()}
    head = ["part", *(text for kind in kinds for text in (f"{kind}, um2", "share")), "SpikeSim"]
    rows = [[name, *(text for kind, parts in kinds.items() for text in (_number(parts[name]), f"{own[kind][name]:.1%}")),
             f"{theirs[name]:.1%}"] for name in AREAS]
    return head, [*rows, ["all", *(text for parts in kinds.values() for text in (_number(sum(parts.values())), "")), ""]]


def bottleneck_table(report: Report) -> Table:
    """Return the bottlenecks that the review names, what this core has against each, and what that was measured to do.

    Source: imc 3 (arXiv:2408.12767 and the papers of its authors).
    """
    found = {lever["name"]: lever for lever in report["levers"]}
    usual, skip, outside, every = (found[name] for name in (USUAL, SKIP, OUTSIDE, EVERY))
    cheap = min((lever for name, lever in found.items() if name != SHARING),
                key=lambda lever: float(lever["energy_pj"]["least"]))
    rows = [
        ["work and movement repeat over T", "early exit (golden.imc.early_exit)", _exit(report)],
        ["", "a static image is converted once", _change(every, usual)],
        ["neuronal module: membranes", "time inside",
         f"{outside['membranes']:,} to {usual['membranes']:,} words of membrane; cycles {_percent(outside, usual, 'cycles')}"],
        ["", "LIF sharing", _sharing(report)],
        ["flaws of crossbars add up over T", "calibration: offsets or trim codes of ADCs, gains of columns",
         _end(report, "calibration", "offsets of {x:g} steps")],
        ["sparsity is not used", "zero-skip of row groups without a spike", _change(usual, skip)],
        ["ADCs and periphery dominate", "kind, bits and range of the ADC at run time",
         f"{cheap['name']}: {_change(usual, cheap)}; accuracy {cheap['accuracy']:.1%} for {usual['accuracy']:.1%}"],
        ["cells: precision, writing, drift", "slices, four schemes; write-verify; gains",
         f"docs/imc.md, Programming; {_end(report, 'drift', 'drift with exponent {x:g}')}"]]
    return ["bottleneck", "lever", "measured"], rows


def _exit(report: Report) -> str:
    _, rows = exit_table(report)
    best = max(report["exits"], key=lambda stop: (stop["accuracy"], -stop["steps"]))
    row = rows[report["exits"].index(best)]
    return f"golden: mean T {row[1]}, {row[2]} nJ, accuracy {row[3]}"


def _sharing(report: Report) -> str:
    """Return what a network whose channels share membranes saves; its image is converted in every step."""
    shared = next((lever for lever in report["levers"] if lever["name"] == SHARING), None)
    if shared is None:
        return "bench imc vgg9-digits"
    usual, every = (next(lever for lever in report["levers"] if lever["name"] == name) for name in (USUAL, EVERY))
    return (f"{shared['workload']}, {shared['share']} groups: {usual['membranes']:,} to {shared['membranes']:,} words "
            f"of membrane, accuracy {shared['accuracy']:.1%} for {usual['accuracy']:.1%}; the image is converted in every "
            f"step, against that {_change(every, shared)}; review: {SHARED_AREA[2]}x less LIF area with 2 groups, "
            f"{SHARED_AREA[4]}x with 4")


def _end(report: Report, name: str, what: str) -> str:
    """Return the accuracies at the last point of a sweep, of each of its series."""
    sweep = report["sweeps"].get(name)
    if sweep is None:
        return f"--sweep {name}"
    x = sweep["series"][0]["points"][-1]["x"]
    told = ", ".join(f"{series['points'][-1]['accuracy']:.1%} {series['name']}" for series in sweep["series"])
    return f"{what.format(x=x)}: {told}"


def _change(before: Report, after: Report) -> str:
    least = [lever["energy_pj"]["least"] for lever in (before, after)]
    return f"cycles {_percent(before, after, 'cycles')}, energy {least[1] / least[0] - 1:+.0%}"


def _percent(before: Report, after: Report, name: str) -> str:
    return f"{after[name] / before[name] - 1:+.0%}"


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _energy(lever: Report) -> str:
    low, high = (lever["energy_pj"][kind] / 1e3 for kind in ("least", "most"))
    return f"{low:,.0f} to {high:,.0f}"


def tables(report: Report) -> dict[str, Table]:
    """Return all tables of costs by their titles."""
    images = f"RTL, mean of {report['rtl']} image{'s'[: report['rtl'] - 1]}"
    return {
        f"Ways of running ({images}; accuracy golden, {report['images']} images; {HERTZ / 1e6:g} MHz)": lever_table(report),
        "Early exit (golden)": exit_table(report), f"Energy as usual ({images})": energy_table(report),
        "Area, least": area_table(report), "Bottlenecks of the review": bottleneck_table(report)}


def page(report: Report, facts: Mapping[str, str]) -> str:
    """Return the page; it loads nothing. Needs matplotlib.

    facts : date, machine and versions, by what they are called
    """
    drawn = charts(report)
    return pages.page(
        "imc", report=report, facts=facts.items(), tables=tables(report),
        sweeps=[(drawn[name], sweep_table(sweep)) for name, sweep in report["sweeps"].items()],
        energy_sources=[[cost.name, EVENTS.get(cost.event, "bits of words read and written"), cost.source]
                        for cost in COSTS.values()], area_sources=AREAS.items())
