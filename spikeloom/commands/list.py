"""``spikeloom list``."""

import click

from spikeloom.commands import top_option
from spikeloom.output import Output, common


@click.command("list", epilog="Example: spikeloom list --json -")
@top_option
@common
def command(output: Output, top: str) -> None:
    """Show workloads, presets and blocks."""
    from golden.arch import PRESETS
    from spikeloom.blocks import blocks
    from spikeloom.catalogue import workloads

    shipped = workloads()
    output.table(["workload", "golden accuracy", "weight sparsity", "source"], [
        [w["name"], f"{w['accuracy_golden']:.2%}", f"{w['weight_sparsity']:.2%}", w["source"]] for w in shipped])
    output.say(f"\npresets  {', '.join(PRESETS)}")
    output.say(f"blocks   {', '.join(blocks())}")
    output.result({"workloads": shipped, "presets": list(PRESETS), "blocks": blocks()})
