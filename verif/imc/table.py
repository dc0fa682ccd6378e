"""Measure the table of docs/imc.md: ``python -m verif.imc.table``.

Digits on every preset, by successive approximation and, where the build has it, by flash; ideal macros. A converter of too few
bits is measured with steps of more than a level, and again with steps of one level up to its largest code. Everything that the
RTL computes is compared with golden; cycles, phases and conversions do not depend on the images, as no phase is skipped.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from golden.imc.arch import IMC_PRESETS, ImcArch
from golden.imc.macro import Adc
from verif.imc.lowering import lowering_arch
from verif.imc.setting import setting_of
from verif.imc.simulate import Machine, run_images
from verif.numbers import machine
from verif.workload import load_workload

WORKLOAD = "digits"
IMAGES = 20
HEAD = ("| preset | scheme | converter | lossless | cycles per image | phases per image | conversions per image | images | "
        "mismatches | accuracy |")


@dataclass(frozen=True, kw_only=True)
class Line:
    """What the RTL made of the first images: events of an image, mismatches of all neuron steps, share that is right."""

    preset: str
    scheme: str
    adc: Adc
    lossless: int
    cycles: float
    phases: float
    conversions: float
    images: int
    mismatches: int
    neuron_steps: int
    accuracy: float

    def __str__(self) -> str:
        converter = f"{'flash' if self.adc.flash else 'SAR'}, {self.adc.bits} bits" + (
            f", up to {self.adc.full_scale}" if self.adc.full_scale else "")
        events = " | ".join(f"{number:,.0f}" for number in (self.cycles, self.phases, self.conversions))
        return (f"| `{self.preset}` | {self.scheme} | {converter} | {self.lossless} bits | {events} | "
                f"{self.images} | {self.mismatches} of {self.neuron_steps:,} | {self.accuracy:.2%} |")


def measure(p: ImcArch, images: int, *, flash: bool, full_scale: int = 0) -> Line:
    """Return what a preset makes of the digits; converters as in `golden.imc.macro.Adc`, with as many bits as help."""
    setting = setting_of(p, f"flash={int(flash)},full_scale={full_scale}")
    workload = load_workload(WORKLOAD, lowering_arch(p))
    assert workload.y is not None
    done = run_images(workload, p, Machine(setting=setting), workload.check_images(images))
    compared = [layer for image in done.compared for layer in image]
    events = {name: sum(layer.counters[name] for layer in compared) / images for name in ("cycles", "phases", "conversions")}
    right = sum(int(found == label) for found, label in zip(done.rtl, workload.y.tolist(), strict=False))
    return Line(preset=p.name, scheme=setting.scheme, adc=setting.adc, lossless=p.lossless_bits,
                images=images, mismatches=sum(layer.mismatches for layer in compared), accuracy=right / images,
                neuron_steps=sum(layer.neuron_steps for layer in compared), **events)


def lines(presets: Sequence[str], images: int) -> Iterator[Line]:
    """Yield a line for each preset and kind of converter, two for a kind that has too few bits."""
    for name in presets:
        p = IMC_PRESETS[name]
        for flash, bits in ((False, p.adc_bits), (True, p.flash_bits)):
            if bits:
                yield measure(p, images, flash=flash)
            if 0 < bits < p.lossless_bits:
                yield measure(p, images, flash=flash, full_scale=(1 << bits) - 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m verif.imc.table", description="Measure the table of docs/imc.md.",
                                     epilog="Example: python -m verif.imc.table --presets spikesim --images 1")
    parser.add_argument("--images", type=int, default=IMAGES, choices=range(1, 361), metavar="1..360",
                        help="first images of the test split (default %(default)s)")
    parser.add_argument("--presets", nargs="+", choices=IMC_PRESETS, default=list(IMC_PRESETS), help="presets to measure")
    given = parser.parse_args(arguments)
    sys.stdout.write(f"{HEAD}\n{'|---' * (HEAD.count('|') - 1)}|\n")
    for line in lines(given.presets, given.images):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    sys.stdout.write(f"\n`{WORKLOAD}`, first images of the test split, ideal macros, the usual times of a macro. Measured on "
                     f"{datetime.now(UTC).date().isoformat()} on {machine()}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
