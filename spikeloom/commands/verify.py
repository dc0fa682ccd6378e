"""``spikeloom verify``."""

import secrets
from collections.abc import Callable

import click

from golden.arch import ParameterError
from spikeloom.commands import hardware_option, preset_of_top
from spikeloom.output import Output, common
from spikeloom.tools import need

USUAL = {"ftp": "tiny", "imc": "tiny-ci", "imc-tile": "tiny-ci"}
# Blocks whose benches are run: of both machines, of a core of tiles, of the top of one tile.
OF: dict[str, Callable[[str], bool]] = {
    "ftp": lambda name: True, "imc": lambda name: name.startswith("imc."), "imc-tile": lambda name: name == "imc.imc_tile"}


@click.command("verify", epilog="Example: spikeloom verify --random 20 --seed 1")
@click.option("--random", "networks", type=click.IntRange(min=1),
              help="Random networks, one in four a torch module that is lowered; one in five with the other leak.")
@click.option("--sizes", type=click.IntRange(min=0), is_flag=False, flag_value=0, metavar="[N]",
              help="A random network on a small build of every pair of legal sizes, or only on the N-th build.")
@click.option("--preset", metavar="NAME|FILE.toml", show_default="tiny, or tiny-ci of imc", help="Hardware of --random.")
@hardware_option
@click.option("--seed", type=click.IntRange(min=0), help="Seed; a fresh one is drawn and printed without it.")
@common
def command(output: Output, networks: int | None, sizes: int | None, preset: str | None, top: str,
            seed: int | None) -> int:
    """Run the bench of every block (of --top imc: of tiles; of imc-tile: its own), or random networks, or every legal size."""
    if networks is not None and sizes is not None:
        raise ParameterError("verify: one of --random and --sizes, not both; try: spikeloom verify --help")
    if top == "imc" and sizes is not None:
        raise ParameterError("verify: --sizes of tiles, not any; legal: --random N, or the benches of their blocks; try: "
                             "spikeloom verify --top imc")
    if top == "imc-tile" and (networks, sizes) != (None, None):
        raise ParameterError("verify: --random and --sizes of what runs networks, not of a tile; legal: its bench; try: "
                             "spikeloom verify --top imc-tile")
    if preset is not None and networks is None:
        what = "--sizes" if sizes is not None else "the benches of blocks"
        try_ = "" if top == "imc-tile" else f" --random 20 --preset {preset}"
        raise ParameterError(f"verify: --preset of --random, not of {what}, which have builds of their own; legal: with "
                             f"--random N; try: spikeloom verify --top {top}{try_}")
    preset = preset or USUAL[top]
    preset_of_top(top, preset)
    from verif.imc.verify import random_layers
    from verif.sizes import verify_sizes
    from verif.verify import blocks, random_networks

    need("g++")
    seed = secrets.randbelow(1 << 31) if seed is None else seed
    output.say(f"seed {seed}")
    with output.progress("verify") as advance:
        if sizes is not None:
            report = verify_sizes(seed, advance, only=sizes or None)
        elif networks is not None:
            report = (random_layers if top == "imc" else random_networks)(networks, seed, advance, preset=preset)
        else:
            need("make", "perl")
            report = blocks(seed, advance, of=OF[top])
    output.table(["block", "tests", "passed", "failed", "seconds"], [
        [b["name"], b["tests"], b["passed"], b["failed"], f"{b['seconds']:.1f}"] for b in report["blocks"]])
    for failure in report.get("failures", ()):
        what = (f"{failure['build']}, seed {failure['seed']}: {failure['failure']}" if "build" in failure
                else ", ".join(failure["blocks"]))
        output.say(f"\n{what}; repeat: {failure['command']}")
        for line in failure.get("small", failure.get("output", ())):
            output.say(f"  {line}")
    output.result(report)
    return 1 if any(block["failed"] for block in report["blocks"]) else 0
