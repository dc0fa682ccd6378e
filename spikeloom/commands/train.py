"""``spikeloom train``."""

from pathlib import Path

import click

from spikeloom.output import Output, common


@click.command("train", epilog="Example: spikeloom train digits -o digits.safetensors")
@click.argument("workload", metavar="NAME")
@click.option("--out", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Captured file to write.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of weights and batches.")
@click.option("--ranks", metavar="N|N,...,N|evbmf[:FILE]", help="Ranks of the tensor trains of a TT-SNN: one, one for each "
              "convolution, or EVBMF's of the shipped dense network or a captured one.  [default: 0.3 of the outputs]")
@common
def command(output: Output, workload: str, out: Path | None, seed: int, ranks: str | None) -> None:
    """Train a shipped network and capture it; this takes up to five minutes of one core.

    A seed gives the same file, byte for byte, on processors with the same vector instructions.
    """
    from spikeloom.catalogue import train

    with output.progress(f"train {workload}") as advance:
        report = train(workload, out, seed, advance, ranks)
    output.say(f"{workload}: accuracy {report['accuracy_golden']:.2%} (integer network), "
               f"{report['accuracy_float']:.2%} (float network) on the test split, "
               f"weight sparsity {report['weight_sparsity']:.2%}, written to {report['file']}")
    if report["ranks"]:
        output.say(f"ranks {', '.join(map(str, report['ranks']))}")
    output.result(report)
