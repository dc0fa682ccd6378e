"""Write the tables and figures of docs/vgg9.md from docs/vgg9.json: ``python -m verif.imc.vgg9_page``.

The JSON is what ``spikeloom bench imc vgg9-digits --json docs/vgg9.json`` wrote, with the options that the page names.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.imc_energy import AREAS, COSTS
from perf.imc_report import charts, sweep_table, tables
from spikeloom.output import replace_file
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
    drawn = {f"figures/vgg9-{name}.svg": f"{svg}\n" for name, svg in charts(report).items()}
    return {"vgg9.md": replaced(page, render(report), BEGIN, END), **drawn}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page and its figures."""
    parser = argparse.ArgumentParser(prog="python -m verif.imc.vgg9_page",
                                     description="Write tables and figures of docs/vgg9.md.",
                                     epilog="Example: python -m verif.imc.vgg9_page --docs docs")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of vgg9.json and vgg9.md")
    docs = parser.parse_args(arguments).docs
    report = json.loads((docs / "vgg9.json").read_text())
    (docs / "figures").mkdir(exist_ok=True)
    for name, text in files(report, (docs / "vgg9.md").read_text()).items():
        replace_file(docs / name, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
