"""``spikeloom synth``."""

import click

from golden.arch import ParameterError
from spikeloom.commands import hardware_option, preset_of_top
from spikeloom.output import Output, common


@click.command("synth", epilog="Example: spikeloom synth --preset tiny --target ecp5")
@click.option("--preset", required=True, metavar="NAME|FILE.toml", help="Hardware to synthesise.")
@hardware_option
@click.option("--target", default="generic", metavar="generic|ice40|ecp5|xilinx", show_default=True,
              help="Technology.")
@click.option("--flat", is_flag=True, help="Also the whole design as one netlist, against an ECP5-25F (ecp5, small builds).")
@common
def command(output: Output, preset: str, top: str, target: str, flat: bool) -> None:
    """Synthesise with Yosys; print cells, LUTs, flip-flops and memory bits of the top and of each module."""
    from synth.fit import ECP5_25F, fit, fits
    from synth.synthesise import synthesise

    if flat and target != "ecp5":
        raise ParameterError(f"--flat: needs target ecp5, not {target!r}; legal: ecp5; try: --target ecp5 --flat")
    if flat and top != "ftp":
        raise ParameterError("--flat: a build of --top ftp, not of tiles; legal: --top ftp; try: no --flat")
    arch = preset_of_top(top, preset)
    found = fit(arch, top) if flat else {}
    with output.progress(f"synth {target}") as advance:
        report = synthesise(arch, target, top=top, progress=advance)
    rows = [[name, block["count"], *(block[key] if block[key] is not None else "-"
                                     for key in ("cells", "luts", "ffs", "memory_bits"))]
            for name, block in report["blocks"].items()]
    total = report["top"]
    rows.append(["total", 1, *(total[key] if total[key] is not None else "-"
                               for key in ("cells", "luts", "ffs", "memory_bits"))])
    head = ["module", "count", "cells", "LUTs", "FFs", "memory bits"]
    if top != "ftp":
        from spikeloom.blocks import purpose

        head.append("what")
        rows = [[*row, purpose(str(row[0]).removeprefix("spikeloom_"), top)] for row in rows]
    output.table(head, rows)
    output.say("A row is one module without what it instantiates; the total is the sum of count x module.")
    if flat:
        output.say("One netlist, as nextpnr packs it, of an ECP5-25F: "
                   + ", ".join(f"{name.replace('_', ' ')} {found[name]:,} of {there:,}" for name, there in ECP5_25F.items()))
        report["flat"] = {**found, "fits": fits(found, ECP5_25F)}
    output.result(report)
