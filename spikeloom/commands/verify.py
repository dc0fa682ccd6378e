"""``spikeloom verify``."""

import secrets

import click

from spikeloom.output import Output, common


@click.command("verify", epilog="Example: spikeloom verify --random 20 --seed 1")
@click.option("--random", "networks", type=click.IntRange(min=1), help="Random networks on one tiny build.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed; a fresh one is drawn and printed without it.")
@common
def command(output: Output, networks: int | None, seed: int | None) -> int:
    """Run the bench of every block, or random networks."""
    from verif.verify import blocks, random_networks

    seed = secrets.randbelow(1 << 31) if seed is None else seed
    output.say(f"seed {seed}")
    with output.progress("verify") as advance:
        report = blocks(seed, advance) if networks is None else random_networks(networks, seed, advance)
    output.table(["block", "tests", "passed", "failed", "seconds"], [
        [b["name"], b["tests"], b["passed"], b["failed"], f"{b['seconds']:.1f}"] for b in report["blocks"]])
    for failure in report.get("failures", []):
        output.say(f"\n{failure['failure']}\nsmallest: {'; '.join(failure['small'])}\ntry: {failure['command']}")
    for failure in report.get("failures", ()):
        output.say(f"seed {failure['seed']}: {failure['failure']}; repeat: {failure['command']}")
        for line in failure["small"]:
            output.say(f"  {line}")
    output.result(report)
    return 1 if any(block["failed"] for block in report["blocks"]) else 0
