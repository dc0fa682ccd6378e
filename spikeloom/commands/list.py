"""``spikeloom list``."""

import click

from spikeloom.output import Output, common


@click.command("list", epilog="Example: spikeloom list --json -")
@common
def command(output: Output) -> None:
    """Show workloads, presets and blocks."""
    from golden.arch import PRESETS
    from spikeloom.catalogue import blocks, workloads

    shipped = workloads()
    output.table(["workload", "golden accuracy", "weight sparsity", "source"], [
        [w["name"], f"{w['accuracy_golden']:.2%}", f"{w['weight_sparsity']:.2%}", w["source"]] for w in shipped])
    output.say(f"\npresets  {', '.join(PRESETS)}")
    output.say(f"blocks   {', '.join(blocks())}")
    output.result({"workloads": shipped, "presets": list(PRESETS), "blocks": blocks()})
