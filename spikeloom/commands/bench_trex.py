"""``spikeloom bench trex``."""

from pathlib import Path

import click

from spikeloom.output import Output, check_file, common, need_charts, replace_file


@click.command("trex", epilog="Example: spikeloom bench trex --delay 0.6")
@click.option("--delay", default="0.6", show_default=True, metavar="FRACTION",
              help="Most delay of an image, as a fraction of that without reuse.")
@click.option("--tiles", "organisation", default="core", show_default=True, metavar="core|spatial",
              help="Whose delay counts: tiles that many crossbars share, or one for each crossbar.")
@click.option("--images", type=click.IntRange(1, 360), help="First images of the test split; usually all.")
@click.option("--macro", metavar="NAME=VALUE,...", help="Measure accuracy on such macros too, as in simulate.")
@click.option("--rtl", type=click.IntRange(0, 360), default=0, show_default=True,
              help="Run so many first images on the RTL too, half a minute or more each, and compare every result.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the training.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.svg",
              help="Train a network for every number of reusing encoders; draw accuracy and gains against the delay.")
@common
def trex(output: Output, delay: str, organisation: str, images: int | None, macro: str | None, rtl: int, seed: int,
         plot: Path | None) -> int:
    """Run a vision transformer that reuses attention (TReX), beside no reuse, skipped attention and identity reuse.

    A network that is not shipped is trained once, about two minutes of a core each, and kept.
    """
    if plot is not None:
        check_file("--plot", plot)
        need_charts()
    from perf.trex_report import chart, costs, designs, encoders, provenance, runs
    from verif.bench_trex import PAPER, bench_trex, check_delay, curve, failed
    from verif.trex_networks import Recipe

    fraction, recipe = check_delay(delay), Recipe(seed=seed)
    with output.progress("bench trex") as advance:
        report = bench_trex(fraction, organisation, recipe, images, macro, rtl, say=output.say, progress=advance)
        if plot is not None:
            report["curve"] = curve(organisation, recipe, images, say=output.say, progress=advance)
    for table in (designs, costs, encoders, provenance, *([runs] if rtl else [])):
        output.say("")
        output.table(*table(report))
    output.say(f"\ndelay of {organisation} tiles of {report['preset']}; clock: {report['clock']}; gains are against no reuse, "
               f"the paper's are {PAPER['edap']} and {PAPER['tops_per_mm2']}")
    if plot is not None:
        replace_file(plot.resolve(), chart(organisation, report["curve"]))
    output.result(report)
    return 1 if failed(report) else 0
