"""Measure the table of early exit in docs/imc.md: ``python -m verif.imc.exit_table``.

Digits on a preset in golden: an image stops at the first step t at which the two best classes are ``t * threshold`` apart
(`golden.imc.early_exit`). Phases are those of the steps that are run; a layer whose sums serve all steps runs once.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from golden.imc.arch import IMC_PRESETS, ImcArch
from golden.imc.early_exit import early_exit, sums_by_step
from golden.imc.run import Placed, Setting, place, run
from golden.network import map_arrays
from verif.imc.lowering import lowering_arch
from verif.imc.setting import setting_of
from verif.workload import load_workload

WORKLOAD = "digits"
IMAGES = 360
THRESHOLDS = (0, 5, 10, 15, 20, 30, 40, 1 << 30)
HEAD = "| threshold | steps an image | stopped early | phases an image | accuracy |"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What golden makes of images: read-outs int64 [images, T, classes], labels, phases of all steps and of one more step."""

    sums: NDArray[np.int64]
    labels: NDArray[np.int64]
    once: int
    each: int


def phases(p: ImcArch, placed: Placed, pixels: int) -> int:
    """Return the phases of a layer in a step that it converts."""
    mapped = placed.mapped
    return pixels * mapped.row_blocks * mapped.column_blocks * mapped.operand.bits * (p.rows // p.group_rows)


def show(p: ImcArch, setting: Setting, images: int) -> Shown:
    """Run the first images of the test split."""
    workload = load_workload(WORKLOAD, lowering_arch(p))
    assert workload.y is not None
    placed, sums = place(map_arrays(workload.network, torch.asarray), p, setting), []
    for index in range(workload.check_images(images)):
        words = {name: torch.from_numpy(word) for name, word in workload.words(index).items()}
        trace = run(workload.network, p, setting, words, image=index, placed=placed)
        sums.append(np.asarray(sums_by_step(trace)))
    parts = [(entry.converted, phases(p, entry, np.asarray(layer.sums)[0, 0].size))
             for entry, layer in zip(placed, trace.layers.values(), strict=True)]
    return Shown(sums=np.stack(sums), labels=workload.y[:images],
                 once=sum(count for steps, count in parts if steps == 1),
                 each=sum(count for steps, count in parts if steps > 1))


def lines(shown: Shown, thresholds: Sequence[int]) -> Iterator[str]:
    """Yield a line for each threshold."""
    last = shown.sums.shape[1]
    for threshold in thresholds:
        found = early_exit(shown.sums, threshold)
        steps, early = found.steps.mean(), (found.steps < last).mean()
        right = (found.label == shown.labels).mean()
        name = f"{threshold:,}" if threshold < 1 << 30 else "none"
        yield f"| {name} | {steps:.2f} | {early:.1%} | {shown.once + steps * shown.each:,.0f} | {right:.2%} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m verif.imc.exit_table", description="Measure early exit for docs/imc.md.",
                                     epilog="Example: python -m verif.imc.exit_table --images 10 --macro proportional=0.1")
    parser.add_argument("--images", type=int, default=IMAGES, choices=range(1, 361), metavar="1..360",
                        help="first images of the test split (default %(default)s)")
    parser.add_argument("--preset", choices=IMC_PRESETS, default="spikesim", help="(default %(default)s)")
    parser.add_argument("--macro", help="what is not ideal, as in spikeloom simulate")
    given = parser.parse_args(arguments)
    p = IMC_PRESETS[given.preset]
    shown = show(p, setting_of(p, given.macro), given.images)
    sys.stdout.write(f"{HEAD}\n{'|---' * (HEAD.count('|') - 1)}|\n")
    sys.stdout.writelines(f"{line}\n" for line in lines(shown, THRESHOLDS))
    sys.stdout.write(f"\n`{WORKLOAD}` on `{given.preset}`, golden, first {given.images} images of the test split.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
