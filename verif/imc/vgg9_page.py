"""Write the tables and figures of docs/vgg9.md from docs/vgg9.json: ``python -m verif.imc.vgg9_page``.

The JSON is what ``spikeloom bench imc vgg9-digits --json docs/vgg9.json`` wrote, with the options that the page names.
``python -m verif.imc.vgg9_page --measure noise,drift`` measures sweeps that it lacks, or measures them anew, on the same images
and seeds.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from golden.arch import ParameterError
from golden.imc.arch import load_preset
from perf.imc_energy import AREAS, COSTS
from perf.imc_report import charts, sweep_table, tables
from spikeloom.output import replace_file
from verif.imc.sweep import Runs, chosen, count, measure, sweeps
from verif.page import replaced
from verif.trex_page import markdown

DOCS = Path(__file__).parents[2] / "docs"
BEGIN, END = "<!-- figures: written by python -m verif.imc.vgg9_page -->", "<!-- end of figures -->"


def render(report: dict[str, Any]) -> str:
    """Return what stands between the markers."""
    parts = []
    for name, sweep in report["sweeps"].items():
        parts += [f"### {sweep['title']}", f"![{sweep['title']}](figures/vgg9-{name}.svg)", markdown(sweep_table(sweep))]
    for title, table in tables(report).items():
        parts += [f"### {title}", markdown(table)]
    parts += ["### Sources of the prices",
              markdown((["part", "source"], [[cost.name, cost.source] for cost in COSTS.values()])),
              markdown((["part", "area"], [[name, text] for name, text in AREAS.items()]))]
    return "\n\n".join(parts)


def files(report: dict[str, Any], page: str) -> dict[str, str]:
    """Return the texts of the page and of its figures, by path below docs."""
    drawn = {f"figures/vgg9-{name}.svg": svg for name, svg in charts(report).items()}
    return {"vgg9.md": replaced(page, render(report), BEGIN, END), **drawn}


def measured(report: dict[str, Any], names: str, say: Callable[[str], object]) -> dict[str, Any]:
    """Return a report with sweeps measured anew, by golden, as `verif.imc.sweep.chosen` takes their names.

    Raises ParameterError for an unknown name, or where the preset is no longer the build of the report.
    """
    p = load_preset(report["preset"])
    if p.hash != report["configuration"]:
        raise ParameterError(f"vgg9: build of the report, not {p.hash}; legal: {report['configuration']}; "
                             f"try: spikeloom bench imc {report['workload']}")
    wanted, runs, done = chosen(p, names), Runs(report["workload"], p, report["images"]), 0
    whole = sum(count(item, report["seeds"]) for item in wanted.values())

    def step() -> None:
        nonlocal done
        done += 1
        say(f"{done} of {whole}\n")

    found = report["sweeps"] | {name: measure(runs, item, report["seeds"], step) for name, item in wanted.items()}
    return report | {"sweeps": {name: found[name] for name in sweeps(p) if name in found}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page and its figures."""
    parser = argparse.ArgumentParser(prog="python -m verif.imc.vgg9_page",
                                     description="Write tables and figures of docs/vgg9.md.",
                                     epilog="Example: python -m verif.imc.vgg9_page --docs docs")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of vgg9.json and vgg9.md")
    parser.add_argument("--measure", metavar="NAME,...", help="sweeps to measure first, and to put into vgg9.json")
    given = parser.parse_args(arguments)
    docs = given.docs
    report = json.loads((docs / "vgg9.json").read_text())
    if given.measure is not None:
        report = measured(report, given.measure, sys.stderr.write)
        replace_file(docs / "vgg9.json", json.dumps(report, indent=2) + "\n")
    (docs / "figures").mkdir(exist_ok=True)
    for name, text in files(report, (docs / "vgg9.md").read_text()).items():
        replace_file(docs / name, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
