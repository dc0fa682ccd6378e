"""``spikeloom capture``."""

from pathlib import Path

import click

from spikeloom.output import Output, common


@click.command("capture", epilog="Example: spikeloom capture net.safetensors")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@common
def command(output: Output, file: Path) -> None:
    """Check a captured network and print its graph.

    A network is captured in Python, where its code is: spikeloom.capture(model, example, "net.safetensors").
    """
    from golden.store import load

    captured = load(file)
    output.table(["node", "operation", "inputs"],
                 [[node.name, node.op, ", ".join(node.inputs)] for node in captured.nodes])
    if captured.steps is not None:
        output.say(f"T={captured.steps}, the steps of the captured model, unless --T or the frames of the data say otherwise")
    output.result({"file": str(file), "steps": captured.steps, "nodes": [
        {"name": node.name, "op": node.op, "inputs": list(node.inputs)} for node in captured.nodes]})
