"""``spikeloom simulate``."""

from pathlib import Path

import click

from spikeloom.commands import top_option
from spikeloom.output import Output, check_file, common
from spikeloom.simulation import simulate_on
from spikeloom.tools import need


@click.command("simulate", epilog="Example: spikeloom simulate digits --preset tiny --images 20")
@click.argument("workload", metavar="NAME|FILE")
@click.option("--preset", metavar="NAME|FILE.toml", show_default="the workload's own, or tiny for a file",
              help="Hardware to run on.")
@top_option
@click.option("--images", type=click.IntRange(min=1), show_default="20, 1 of a network with random weights, or all of fewer",
              help="First images of the data; more than it holds are refused.")
@click.option("--T", "steps", type=click.IntRange(1, 16), help="Timesteps in place of the workload's own.")
@click.option("--data", type=click.Path(path_type=Path), help="x [N,C,H,W] or [N,T,C,H,W] and optional y, as .npz.")
@click.option("--memory", metavar="ideal|BYTES[:LATENCY]", help="Bytes a cycle and cycles of latency; ideal: no limit, 1 "
              "cycle.  [default: a beat of the port every cycle, 100 cycles]")
@click.option("--macro", metavar="NAME=VALUE,...", help="Crossbars of --top imc: scheme, skip, how they are converted and what "
              "is not ideal about them, such as scheme=diff,bits=5,flash=1,offset=1.5,seed=3; "
              "calibrate=trims+offsets+gains, or some of them: what the core does first.  [default: ideal; as many bits "
              "as lose nothing, or all of a converter that has fewer: lossless=1 refuses those]")
@click.option("--exit-margin", type=click.IntRange(min=0), metavar="N", help="With --top imc: stop at the first step t at "
              "which the sums of the two best classes are t * N apart.  [default: run all steps]")
@click.option("--inject", type=click.Choice(["weight-bit"]), help="Break the loaded image; mismatches must follow.")
@click.option("--trace", type=click.Path(path_type=Path), help="Waveform file to write.")
@click.option("--leak", type=click.Choice(["exact", "nearest"]), default="exact", show_default=True,
              help="Take the nearest leak that the hardware has.")
@common
def command(output: Output, workload: str, preset: str | None, top: str, images: int | None, steps: int | None,
            data: Path | None, memory: str | None, macro: str | None, exit_margin: int | None, inject: str | None,
            trace: Path | None, leak: str) -> int:
    """Run a network on the generated Verilog and compare every spike with PyTorch."""
    if trace is not None:
        check_file("--trace", trace)
    need("g++")
    options = {"images": images, "steps": steps, "data": data, "inject": inject, "trace": trace,
               "leak_nearest": leak == "nearest"}
    with output.progress(f"simulate {workload}") as advance:
        report = simulate_on(top, workload, preset, memory, macro, exit_margin, options | {"progress": advance})
    output.say(f"{workload} on {report['preset']}: T={report['T']}, {report['images']} images, "
               f"weight sparsity {report['weight_sparsity']:.2%}")
    if top == "imc":
        from verif.imc.setting import in_words

        output.say(in_words(report["setting"]))
    changed = {"changed by lowering": "spikes_changed"} | ({"changed by macro": "changed_by_macro"} if top == "imc" else {})
    output.table(["layer", "neuron steps", "mismatches", *changed, "cycles per image"], [
        [layer["name"], layer["neuron_steps"], layer["mismatches"],
         *("-" if layer[key] is None else layer[key] for key in changed.values()), round(layer["cycles"])]
        for layer in report["layers"]])
    for label, key in (("RTL", "accuracy_rtl"), ("golden", "accuracy_golden"), ("ideal", "accuracy_ideal"),
                       ("float", "accuracy_float")):
        if report.get(key) is not None:
            output.say(f"accuracy {label:7}{report[key]:.2%}")
    output.say(f"mismatches {report['mismatches']} of {report['neuron_steps']:,} neuron steps")
    ran = "" if exit_margin is None else f" for {report['steps_per_image']:.2f} steps"
    output.say(f"cycles per image {report['cycles_per_image']:,.0f}{ran}")
    if report["decision_ticks"] is not None:
        output.say(f"ticks to the first output spike {report['decision_ticks']:.2f}")
    if all(layer["spikes_changed"] is None for layer in report["layers"]):
        shares = [layer["non_silent"] for layer in report["layers"] if layer["non_silent"] is not None]
        output.say(f"non-silent words {min(shares):.1%} to {max(shares):.1%} of a layer, "
                   f"lanes busy {report['lane_utilisation']:.1%}")
    if report["first_mismatch"]:
        place = {key: value for key, value in report["first_mismatch"].items() if value is not None}
        command = place.pop("command")
        output.say(f"first mismatch: {', '.join(f'{key} {value}' for key, value in place.items())}; repeat: {command}")
    output.result(report)
    return 1 if report["mismatches"] else 0
