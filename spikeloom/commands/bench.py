"""``spikeloom bench``."""

import click

from spikeloom.commands import top_option
from spikeloom.output import Output, common
from spikeloom.tools import need


@click.group("bench", epilog="Example: spikeloom bench sim --preset loas")
def command() -> None:
    """Measure."""


@command.command("sim", epilog="Example: spikeloom bench sim --preset loas")
@click.option("--preset", default="loas", show_default=True, metavar="NAME|FILE.toml", help="Hardware to run.")
@top_option
@common
def sim(output: Output, preset: str, top: str) -> None:
    """Compare the simulation speed of the shipped path with a bare C++ loop on the same model."""
    from golden.arch import load_preset
    from verif.bench import bench_sim

    need("g++")
    with output.progress("bench sim") as advance:
        report = bench_sim(load_preset(preset), advance)
    output.say(f"{report['preset']}: shipped {report['shipped_cycles_per_second']:,.0f} cycles/s, "
               f"bare {report['bare_cycles_per_second']:,.0f} cycles/s, ratio {report['ratio']:.2f}")
    output.result(report)
