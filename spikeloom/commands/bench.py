"""``spikeloom bench``."""

from pathlib import Path

import click

from spikeloom.commands import ftp_option
from spikeloom.commands.bench_imc import imc
from spikeloom.commands.bench_trex import trex
from spikeloom.output import Output, check_file, common, need_charts, replace_file
from spikeloom.tools import need


@click.group("bench", epilog="Example: spikeloom bench sim --preset loas")
def command() -> None:
    """Measure."""


command.add_command(imc)
command.add_command(trex)


@command.command("sim", epilog="Example: spikeloom bench sim --preset loas")
@click.option("--preset", default="loas", show_default=True, metavar="NAME|FILE.toml", help="Hardware to run.")
@ftp_option
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


@command.command("loas", epilog="Example: spikeloom bench loas alexnet --preset loas --html report.html")
@click.argument("network", required=False, metavar="[alexnet|vgg16|resnet19]")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of alexnet.npz and vgg16.npz: arrays conv1.. of spikes.")
@click.option("--preset", default="loas", show_default=True, metavar="NAME|FILE.toml", help="Hardware to run on.")
@ftp_option
@click.option("--memory", default="64", show_default=True, metavar="ideal|BYTES[:LATENCY]",
              help="Bytes a cycle and cycles of latency (100); ideal: no limit, 1 cycle.")
@click.option("--skew", type=click.FloatRange(0, 3), default=0.7, show_default=True,
              help="Spread over the columns of the weights that the baselines are counted with a second time.")
@click.option("--layers-only", is_flag=True, help="Leave out the whole networks on an image.")
@click.option("--html", type=click.Path(path_type=Path), help="Write the report as one page.")
@common
def loas(output: Output, network: str | None, data: Path | None, preset: str, top: str, memory: str, skew: float,
         layers_only: bool, html: Path | None) -> int:
    """Run the layers that LoAS (MICRO 2024) publishes on the RTL, beside its own count and other designs."""
    if html is not None:
        check_file("--html", html)
        need_charts()
    from golden.arch import load_preset
    from perf.report import CAPTION, page, table
    from verif.bench_loas import bench_loas, chosen, facts
    from verif.simulate import parse_memory

    networks, arch, timing = chosen(network), load_preset(preset), parse_memory(memory)
    need("g++")
    with output.progress("bench loas") as advance:
        reports = bench_loas(networks, arch, data, timing, skew, not layers_only, output.say, advance)
    for report in reports:
        output.say(f"\n{CAPTION.format(**report)}")
        output.table(*table(report))
        if not layers_only:
            output.say("whole network: {network_cycles:,} cycles, encoder {encoder_cycles:,}, head {head_cycles:,}, "
                       "mismatches {network_mismatches}".format(**report))
    if html is not None:
        replace_file(html.resolve(), page(reports, facts()))
    output.result(reports[0] if network else {"networks": reports})
    return 1 if any(report["totals"]["mismatches"] or report["network_mismatches"] for report in reports) else 0
