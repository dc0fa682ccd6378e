"""``spikeloom bench imc``, part of ``spikeloom bench``."""

from pathlib import Path

import click

from spikeloom.output import Output, check_file, common, need_charts, replace_file
from spikeloom.tools import need


@click.command("imc", epilog="Example: spikeloom bench imc vgg9-digits --sweep adc,steps --images 20 --html report.html")
@click.argument("workload", default="vgg9-digits", metavar="[NAME]")
@click.option("--preset", default="spikesim", show_default=True, metavar="NAME|FILE.toml", help="Tiles to run on.")
@click.option("--sweep", default="all", show_default=True, metavar="NAME,...|all|none",
              help="Accuracy against adc, variation, stuck, steps, calibration, noise, drift.")
@click.option("--images", type=click.IntRange(min=1), default=100, show_default=True, help="First images of every accuracy.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Macros where something is drawn.")
@click.option("--rtl", type=click.IntRange(min=1), default=1, show_default=True, help="First images that run on the RTL.")
@click.option("--html", type=click.Path(path_type=Path), help="Write the report as one page.")
@click.option("--figures", type=click.Path(path_type=Path), help="Folder for a chart of each sweep, as SVG.")
@common
def imc(output: Output, workload: str, preset: str, sweep: str, images: int, seeds: int, rtl: int, html: Path | None,
        figures: Path | None) -> int:
    """Run a network on crossbars that are not ideal, and say what its runs cost.

    Accuracies are golden's, whose spikes the RTL's are. Cycles and events are the RTL's, energy and area theirs at SpikeSim's
    prices.
    """
    if html is not None or figures is not None:
        need_charts()
    from golden.imc.arch import load_preset
    from perf.imc_report import charts, page, sweep_table, tables
    from verif.bench_imc import bench_imc
    from verif.bench_loas import facts
    from verif.imc.sweep import chosen

    p = load_preset(preset)
    sweeps = chosen(p, sweep)
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
    files = {name: figures / f"{name}.svg" for name in sweeps if figures is not None}
    for option, path in [("--html", html), *(("--figures", path) for path in files.values())]:
        if path is not None:
            check_file(option, path)
    need("g++")
    with output.progress(f"bench imc {workload}") as advance:
        report = bench_imc(workload, p, sweeps, images=images, seeds=seeds, rtl=rtl, advance=advance)
    for item in report["sweeps"].values():
        output.say(f"\n{item['title']}, {images} images")
        output.table(*sweep_table(item))
    for title, table in tables(report).items():
        output.say(f"\n{title}")
        output.table(*table)
    if html is not None:
        replace_file(html.resolve(), page(report, facts()))
    drawn = charts(report) if files else {}
    for name, path in files.items():
        replace_file(path.resolve(), drawn[name])
    output.result(report)
    return 1 if report["mismatches"] else 0
