"""Measure what the epochs of the STAtten recipes in docs/statten.md were chosen by: ``python -m verif.statten_epochs``.

Trains on four fifths of the training part and classifies the rest, as `models.statten.validated` does: the test part has no
say, and nothing is written.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from golden.arch import ParameterError
from models import statten_digits, statten_saccades
from spikeloom.output import Output

HeldOut = Callable[[int, str, int, Callable[[int, int], None]], float]
RECIPES: dict[str, HeldOut] = {"statten-digits": statten_digits.held_out, "statten-saccades": statten_saccades.held_out}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, and print the accuracy of each network."""
    parser = argparse.ArgumentParser(prog="python -m verif.statten_epochs", description="Measure numbers of epochs.",
                                     epilog="Example: python -m verif.statten_epochs statten-saccades --epochs 20 30")
    parser.add_argument("name", choices=RECIPES, help="the recipe")
    parser.add_argument("--epochs", nargs="+", type=int, required=True, help="numbers of epochs")
    parser.add_argument("--attention", default="STAtten", help="STAtten or SDT (default %(default)s)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="a network for each (default 0)")
    given = parser.parse_args(arguments)
    output = Output()
    for epochs in given.epochs:
        for seed in given.seeds:
            what, started = f"{given.name}, {given.attention}, {epochs} epochs, seed {seed}", time.monotonic()
            try:
                with output.progress(what) as advance:
                    accuracy = RECIPES[given.name](epochs, given.attention, seed, advance)
            except ParameterError as error:
                sys.stderr.write(f"spikeloom: {error}\n")
                return 2
            output.say(f"{what}: {accuracy:.2%} in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
