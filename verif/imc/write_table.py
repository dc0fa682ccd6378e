"""Measure how write-verify programming converges, beside what is published: ``python -m verif.imc.write_table``.

Rows of 64 cells are erased, then programmed to random levels by golden, on the behavioural devices of `golden.imc.devices`.
"""

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np

from golden.imc.arch import IMC_PRESETS, Op
from golden.imc.devices import DEVICES, Cells, Device, play
from golden.imc.macro import FRACTION, Adc, Effects, build
from golden.imc.write_verify import Counts, Job, write_verify

NOISES = (0.0, 0.05)
PUBLISHED = ("Published: 8.52 pulses a cell (NeuRRAM, mean; not confirmed), 13.7 (toy loop of imc 10, B9), 4 % of bits wrong "
             "(FeFET multi-level AND array). The models' slopes and spreads are this project's.")
HEAD = "| device | bits a cell | noise of a comparison, levels | pulses a cell | comparisons a row | failed | rms, levels |"


@dataclass(frozen=True, kw_only=True)
class Line:
    """What PROG took: pulses and comparisons a cell, cells that failed, and the error of the others, rms in levels."""

    device: str
    bits: int
    noise: float
    pulses: float
    reads: float
    failed: float
    error: float


def measure(device: Device, bits: int, noise: float, rows: int, seed: int) -> Line:
    """Return the statistics of ``rows`` rows of 64 cells with noisy comparisons, ``noise`` in levels."""
    arch = replace(IMC_PRESETS["spikesim"], rows=rows, group_rows=1, cell_bits=bits, weight_bits=4)
    macro = build(arch, Adc(bits=1), np.zeros((rows, arch.cols), dtype=np.int64), Effects(seed=seed, verify_noise=noise))
    cells, rng, settings = Cells(macro, device.response), random.Random(seed), device.settings(bits)
    total, wrong, square = np.zeros(6, dtype=np.int64), 0, 0.0
    for row in range(rows):
        levels = tuple(rng.randrange(1 << bits) for _ in range(arch.cols))
        for op in (Op.ERASE, Op.PROG):
            job = Job(op=op, row=row, levels=levels, mask=(1 << arch.cols) - 1)
            _, outcome = play(write_verify(arch, settings, job), cells.verify, cells.pulse)
        off = (cells.conductance[row] / (1 << FRACTION) - levels)[[not outcome.mask >> n & 1 for n in range(arch.cols)]]
        total, wrong, square = total + astuple(outcome.counts), wrong + len(outcome.fails), square + float((off ** 2).sum())
    counts, count = Counts(*total.tolist()), rows * arch.cols
    return Line(device=device.name, bits=bits, noise=noise, pulses=(counts.set_bits + counts.reset_bits) / count,
                reads=counts.reads / rows, failed=wrong / count, error=(square / (count - wrong)) ** 0.5)


def lines(rows: int, seed: int) -> Iterator[Line]:
    """Yield a line for each device, number of bits and noise."""
    for device in DEVICES.values():
        for bits in range(1, device.cell_bits + 1):
            for noise in NOISES:
                yield measure(device, bits, noise, rows, seed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m verif.imc.write_table", description="Measure write-verify programming.",
                                     epilog="Example: python -m verif.imc.write_table --rows 64 --seed 7")
    parser.add_argument("--rows", type=int, default=64, choices=range(2, 257), metavar="2..256", help="rows of 64 cells")
    parser.add_argument("--seed", type=int, default=0, help="of devices, noise and levels (default 0)")
    given = parser.parse_args(arguments)
    sys.stdout.write(f"{HEAD}\n|---|---|---|---|---|---|---|\n")
    for line in lines(given.rows, given.seed):
        sys.stdout.write(f"| {line.device} | {line.bits} | {line.noise} | {line.pulses:.2f} | {line.reads:.1f} | "
                         f"{line.failed:.2%} | {line.error:.3f} |\n")
    sys.stdout.write(f"\n{PUBLISHED}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
