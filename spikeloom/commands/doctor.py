"""``spikeloom doctor``."""

import click

from spikeloom.output import Output, common


@click.command("doctor", epilog="Example: spikeloom doctor")
@common
def command(output: Output) -> int:
    """Check that every tool is there; say what to install for each missing one."""
    from spikeloom.tools import check

    found = check()
    output.table(["tool", "state", "version", "needed for"],
                 [[c["name"], "ok" if c["ok"] else "missing", c["version"] or "-", c["purpose"]] for c in found])
    for entry in found:
        if not entry["ok"]:
            output.say(f"\n{entry['name']}: {entry['problem']}; install one of:")
            for manager, line in entry["install"].items():
                output.say(f"  {manager:5} {line}")
    missing = [entry["name"] for entry in found if not entry["ok"]]
    output.result({"ok": not missing, "tools": found})
    return 1 if missing else 0
