"""Measure the table of time-to-first-spike networks in docs/ttfs.md: ``python -m verif.ttfs_table``.

Those of 18 ticks are the shipped ones; those of 9 are trained by the same recipe, in fewer epochs, and stay in a folder
for the next time. Accuracy and decision time are of the integer network on the whole test split, cycles of the RTL on the
first images of it, where every word, current and score must equal golden. ``--held-out`` trains all of them on a part of the
training part, and measures them, without the RTL, on the rest of it: what a recipe is chosen by.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from golden.arch import Arch, ParameterError
from golden.capture import capture
from golden.run import decision_tick, predict, run
from golden.store import load
from models.datasets import SPLITS
from models.ttfs import SKIPS
from models.ttfs_digits import WINDOW, held_out, train_skip
from models.workloads import Shipped, find
from spikeloom.output import Output, replace_file
from verif.numbers import machine
from verif.page import replaced
from verif.simulate import run_images
from verif.system import System
from verif.workload import Workload, shipped_workload

PAGE = Path(__file__).parents[1] / "docs" / "ttfs.md"
BEGIN, END = "<!-- table: written by python -m verif.ttfs_table -->", "<!-- end of table -->"
NAMES = {skip: f"ttfs-digits-{'plain' if skip == 'none' else skip}" for skip in SKIPS}
# Base window in ticks: log2 of the ticks of an octave, and epochs of the training, None for the recipe's.
WINDOWS: dict[int, tuple[int, int | None]] = {18: (1, None), 9: (0, 25)}
IMAGES = 20


@dataclass(frozen=True)
class Row:
    """A network: accuracy and mean tick of the first output spike in golden, cycles of an image on the RTL or None."""

    skip: str
    window: int
    last: int
    accuracy: float
    ticks: float
    cycles: float | None


def decided(workload: Workload) -> tuple[float, float]:
    """Return the share of all images that golden classifies right, and the mean tick of its first output spike."""
    assert workload.y is not None
    right, ticks = 0, 0
    for index, label in enumerate(workload.y.tolist()):
        words = {name: torch.as_tensor(word) for name, word in workload.words(index).items()}
        trace = run(workload.network, words)
        right += int(predict(trace) == label)
        ticks += decision_tick(workload.network, trace) or 0
    return right / len(workload.y), ticks / len(workload.y)


def cycles(workload: Workload, arch: Arch, images: int) -> float:
    """Return the cycles of an image on the RTL; raise `ParameterError` where it differs from golden."""
    done = run_images(workload, System(arch), images)
    wrong = sum(layer.mismatches for layers in done.compared for layer in layers)
    if wrong:
        raise ParameterError(f"{workload.name}: mismatches must be 0, not {wrong}; try: spikeloom simulate {workload.name}")
    return sum(finished.counters["cycles"] for finished in done.result.runs) / images


def measured(skip: str, window: int, folder: Path, images: int, output: Output, *, held: bool) -> Row:
    """Train a network unless it is there, and measure it.

    folder : of the captured files that are not shipped; held : learn and measure parts of the training part
    """
    facts = find(NAMES[skip])
    arch = facts.arch
    data = held_out() if held else SPLITS[facts.data]()
    own = folder / f"{skip}-{window}{'-held-out' if held else ''}.safetensors"
    path = facts.checkpoint if window == WINDOW and not held else own
    if not path.exists():
        resolution, epochs = WINDOWS[window]
        with output.progress(f"train {path.stem}") as advance:
            model = train_skip(skip, 0, advance, window=window, resolution=resolution, epochs=epochs, data=data)
        path.parent.mkdir(parents=True, exist_ok=True)
        capture(model, torch.from_numpy(data[0]), path)
    named: Shipped = replace(facts, name=path.stem)
    workload = shipped_workload(named, load(path), arch, data[2], data[3], steps=facts.steps)
    race = workload.network.layers[-1].ttfs
    assert race is not None
    accuracy, ticks = decided(workload)
    output.say(f"{path.stem}: {accuracy:.2%}, {ticks:.2f} ticks")
    return Row(skip, window, race.window, accuracy, ticks, None if held else cycles(workload, arch, images))


def render(rows: Sequence[Row], images: int) -> str:
    """Return the Markdown of the table, with machine and date."""
    lines = ["| skip | base window, ticks | last window, ticks | accuracy | tick of the first output spike | cycles an image |",
             "|---|---|---|---|---|---|"]
    lines += [f"| {row.skip} | {row.window} | {row.last} | {row.accuracy:.2%} | {row.ticks:.2f} | "
              f"{'-' if row.cycles is None else f'{row.cycles:,.0f}'} |" for row in rows]
    return "\n".join([*lines, "", f"Integer network, all 360 test images; cycles: RTL, {images} test images, 0 mismatches, "
                      f"preset `times`. Measured on {datetime.now(UTC).date().isoformat()} on {machine()}."])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the page's table."""
    parser = argparse.ArgumentParser(prog="python -m verif.ttfs_table", description="Measure the table of docs/ttfs.md.",
                                     epilog="Example: python -m verif.ttfs_table --skips delay --held-out")
    parser.add_argument("--held-out", action="store_true", help="train and measure on the training part alone; writes no page")
    parser.add_argument("--skips", nargs="+", choices=SKIPS, default=SKIPS, help="networks to measure")
    parser.add_argument("--windows", nargs="+", type=int, choices=WINDOWS, default=list(WINDOWS), help="base windows in ticks")
    parser.add_argument("--images", type=int, default=IMAGES, help="images on the RTL (default %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("build") / "ttfs", help="captured files that are not shipped")
    parser.add_argument("--page", type=Path, default=PAGE, help="page with the table")
    given = parser.parse_args(arguments)
    output = Output()
    try:
        rows = [measured(skip, window, given.folder, given.images, output, held=given.held_out)
                for window in given.windows for skip in given.skips]
        output.say(render(rows, given.images))
        if not given.held_out:
            replace_file(given.page, replaced(given.page.read_text(), render(rows, given.images), BEGIN, END))
    except ParameterError as error:
        sys.stderr.write(f"spikeloom: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
