"""``spikeloom synth``."""

import click

from spikeloom.commands import top_option
from spikeloom.output import Output, common


@click.command("synth", epilog="Example: spikeloom synth --preset tiny --target ecp5")
@click.option("--preset", required=True, metavar="NAME|FILE.toml", help="Hardware to synthesise.")
@top_option
@click.option("--target", default="generic", metavar="generic|ice40|ecp5|xilinx", show_default=True,
              help="Technology.")
@common
def command(output: Output, preset: str, top: str, target: str) -> None:
    """Synthesise with Yosys; print cells, LUTs, flip-flops and memory bits of the top and of each module."""
    from golden.arch import load_preset
    from synth.synthesise import synthesise

    with output.progress(f"synth {target}") as advance:
        report = synthesise(load_preset(preset), target, top=top, progress=advance)
    rows = [[name, block["count"], *(block[key] if block[key] is not None else "-"
                                     for key in ("cells", "luts", "ffs", "memory_bits"))]
            for name, block in report["blocks"].items()]
    total = report["top"]
    rows.append(["total", 1, *(total[key] if total[key] is not None else "-"
                               for key in ("cells", "luts", "ffs", "memory_bits"))])
    output.table(["module", "count", "cells", "LUTs", "FFs", "memory bits"], rows)
    output.say("A row is one module without what it instantiates; the total is the sum of count x module.")
    output.result(report)
