"""Write the tables of docs/trex.md from a report: ``python -m verif.trex_page REPORT.json``, of ``bench trex --json``.

With ``--plot`` the report holds the numbers of the chart, which is written, too, as a neighbour of the page.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from golden.arch import ParameterError
from perf.trex_report import Table, chart, costs, designs, encoders, provenance, runs
from spikeloom.output import replace_file
from verif.page import replaced

PAGE = Path(__file__).parents[1] / "docs" / "trex.md"
TABLES = {"designs": designs, "costs": costs, "encoders": encoders, "rtl": runs, "constants": provenance}


def markdown(table: Table) -> str:
    """Return a table in Markdown."""
    head, rows = table
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(
        f"| {' | '.join(map(str, row))} |" for row in rows)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Replace the tables of the page, and its chart if the report has one; reports or pages of another kind are refused."""
    parser = argparse.ArgumentParser(prog="python -m verif.trex_page", description="Write the tables of docs/trex.md.",
                                     epilog="Example: python -m verif.trex_page report.json")
    parser.add_argument("report", type=Path, help="what spikeloom bench trex --json wrote")
    parser.add_argument("--page", type=Path, default=PAGE, help="another page")
    given = parser.parse_args(arguments)
    try:
        report, page = json.loads(given.report.read_text()), given.page.read_text()
        for name, table in TABLES.items():
            page = replaced(page, markdown(table(report)), f"<!-- {name} -->", f"<!-- end of {name} -->")
        drawn = chart(report["organisation"], report["curve"]) if "curve" in report else None
    except (OSError, ValueError, KeyError, ParameterError) as error:
        sys.stderr.write(f"spikeloom: {given.report}: must be a report of bench trex for {given.page}, not with {error!r}\n")
        return 2
    replace_file(given.page, page)
    if drawn is not None:
        replace_file(given.page.with_suffix(".svg"), drawn)
    return 0


if __name__ == "__main__":
    sys.exit(main())
