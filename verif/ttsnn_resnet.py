"""TT-SNN's MS-ResNet18 for N-Caltech101 (48x48, T = 6, 101 classes) by the cycle model of preset loas: no RTL, no training.

``python -m verif.ttsnn_resnet`` prints the table of docs/ttsnn.md. Every 3x3 convolution is a program of its own, whole, with
seeded spikes and dense seeded int8 weights; convolutions of one shape are computed once. Un-merged, a core is a program,
and a core behind another one is a program for each step that it has, with words of 8 bits that are never 0.

Left out: the first convolution, the 1x1 shortcuts and the classifier, which are the same in all, and what is behind the sums
in a layer without neurons: currents that are stored, which take the tail a cycle for as many steps of a pixel and column as it
writes at once (`left_out`), requantisers and maxima that read them again, and the bits of a number that the tail adds one by
one.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from golden.arch import PRESETS
from golden.limits import check
from golden.network import Input, Network, Neuron, Pass, spike_planes
from golden.network import Layer as Program
from hdl.current_store import piece_count
from hdl.image import build_image
from perf import lockstep
from verif.bench_loas import MEMORY, facts
from verif.simulate import memory_of

STEPS, SIZE, CHANNELS, CLASSES = 6, 48, 2, 101
WIDTHS, BLOCKS, RANK = (64, 128, 256, 512), 2, 0.28
# Share of input words and of output words with a spike; of the numbers between cores.
SPIKING, NUMBERS, NUMBER_BITS = 0.25, 1.0, 8
# Preset loas with rows for 512 channels x 9 taps of words of T = 6, which are stored in 8 bits; loas itself holds 5 taps.
LOAS = replace(PRESETS["loas"], name="loas-long-rows", row_value_lines=288, buffer_bytes=321 << 10)
CROSS, COLUMN, ROW, POINT = (1, 3, 4, 5, 7), (1, 4, 7), (3, 4, 5), (0,)
FULL = tuple(range(9))
KINDS = ("dense", "STT merged", "PTT merged", "HTT merged", "STT cores", "PTT cores", "HTT cores")
PUBLISHED = {"parameters": 7.98, "operations": 9.25}


@dataclass(frozen=True)
class Core:
    """A convolution of the model: ``taps`` of a 3x3 kernel, or of a 1x1 kernel; ``repeat`` programs of it.

    share : of its multiplications, those of the steps that it is for
    bits : of an operand word
    """

    before: int
    columns: int
    size: int
    taps: tuple[int, ...]
    stride: int = 1
    bits: int = STEPS
    repeat: int = 1
    share: float = 1.0

    @property
    def kernel(self) -> int:
        """Side of the kernel."""
        return 1 if self.taps == POINT else 3

    @property
    def parameters(self) -> int:
        """Weights."""
        return self.before * self.columns * len(self.taps)

    @property
    def pixels(self) -> int:
        """Pixels of the output map."""
        return (self.size // self.stride) ** 2

    @property
    def operations(self) -> float:
        """Multiplications of an image and step, zeros included."""
        return self.parameters * self.pixels * self.share


def convolutions() -> list[tuple[int, int, int, int]]:
    """Return (input channels, output channels, side of the input map, stride) of every 3x3 convolution of the blocks."""
    found, before, size = [], WIDTHS[0], SIZE
    for columns in WIDTHS:
        for number in range(2 * BLOCKS):
            stride = 2 if columns != before else 1
            found.append((before, columns, size, stride))
            before, size = columns, size // stride
            assert number == 0 or stride == 1
    return found


def cores(kind: str, before: int, columns: int, size: int, stride: int) -> list[Core]:
    """Return the programs of a convolution; cores compute every pixel, and a maximum halves the map behind them."""
    rank = round(RANK * columns)
    if kind == "dense":
        return [Core(before, columns, size, FULL, stride)]
    if kind == "STT merged":
        return [Core(before, columns, size, FULL)]
    if kind == "PTT merged":
        return [Core(before, columns, size, CROSS)]
    if kind == "HTT merged":
        return [Core(before, columns, size, taps, share=0.5) for taps in (CROSS, POINT)]
    number = replace(Core(rank, rank, size, CROSS), bits=NUMBER_BITS, repeat=STEPS)
    middle = {"STT cores": [replace(number, taps=taps) for taps in (COLUMN, ROW)], "PTT cores": [number],
              "HTT cores": [replace(number, repeat=STEPS // 2, share=0.5)]}
    return [Core(before, rank, size, POINT), *middle[kind], replace(number, columns=columns, taps=POINT)]


@cache
def cycles(core: Core) -> int:
    """Return the cycles of one program of a core."""
    rng = np.random.default_rng([core.before, core.columns, core.size, len(core.taps)])
    weight = np.zeros((core.columns, core.before, core.kernel**2), np.int8)
    drawn = rng.integers(-127, 127, (core.columns, core.before, len(core.taps)))
    weight[:, :, core.taps] = drawn + (drawn >= 0)
    words = spiking(rng, (core.before, core.size, core.size), core.bits)
    network = program(core, weight.reshape(*weight.shape[:2], core.kernel, core.kernel))
    check(network, LOAS)
    image = build_image(network, LOAS)
    contents, _ = memory_of(image, [image.input_block({"input.0": words})])
    stored = spiking(rng, (core.pixels, core.columns), core.bits) != 0
    return lockstep.cycles(LOAS, contents, image.stats, [stored[:, part.start : part.stop] for part in image.plans[0].parts],
                           latency=MEMORY.latency, bandwidth=MEMORY.bandwidth)


def spiking(rng: np.random.Generator, shape: tuple[int, ...], bits: int) -> NDArray[np.int64]:
    """Return random words; those of spikes are silent but for `SPIKING`, those of numbers are none of them."""
    there = rng.random(shape) < (SPIKING if bits == STEPS else NUMBERS)
    return rng.integers(1, 1 << bits, shape) * there


def program(core: Core, weight: NDArray[np.int8]) -> Network:
    """Return the network of one core, with a neuron in place of what is behind its sums."""
    neuron = Neuron(threshold=np.ones(core.columns, np.int64), leak_shift=2, compare=">")
    sweep = Pass(source="input.0", weight=weight, stride=core.stride, padding=core.kernel // 2, planes=spike_planes(core.bits))
    layer = Program(name="conv", passes=(sweep,), bias=np.zeros(core.columns, np.int64), neuron=neuron)
    spec = Input(kind="steps", channels=core.before, height=core.size, width=core.size, bits=1, scale=1.0,
                 plane_bits=core.bits)
    return Network(name="core", steps=core.bits, input=spec, layers=(layer,))


def rest() -> tuple[int, int]:
    """Return parameters and multiplications of the layers that are the same in all."""
    first = Core(CHANNELS, WIDTHS[0], SIZE, FULL)
    layers = [first, *(Core(before, columns, size, POINT, stride)
                       for before, columns, size, stride in convolutions() if stride == 2),
              Core(WIDTHS[-1], CLASSES, 1, POINT)]
    return sum(layer.parameters for layer in layers), int(sum(layer.operations for layer in layers))


def left_out(kind: str) -> int:
    """Return the tail's cycles for currents that are stored: in front of maxima, of numbers, and of the stream."""
    found = 0
    for number, shape in enumerate(convolutions()):
        *inner, last = cores(kind, *shape)
        if kind.endswith("cores"):
            found += sum(piece_count(LOAS, int(STEPS * core.share)) * core.pixels * core.columns for core in inner)
        if number % 2 or (last.stride == 1 and shape[-1] == 2):
            found += piece_count(LOAS, STEPS) * last.pixels * last.columns
    return found


def rows() -> Iterator[tuple[str, int, int, int, int]]:
    """Yield (kind, parameters, multiplications, cycles of the model, `left_out`) of the networks, dense first."""
    parameters, operations = rest()
    for kind in KINDS:
        every = [core for shape in convolutions() for core in cores(kind, *shape)]
        yield (kind, parameters + sum(core.parameters for core in every),
               operations + int(sum(core.operations for core in every)),
               sum(core.repeat * cycles(core) for core in every), left_out(kind))


def main() -> None:
    """Write the table in Markdown."""
    found = facts()
    sys.stdout.write(f"{found['machine']}, {found['date']}: {SPIKING:.0%} of the words spike, rank {RANK} of the outputs\n\n"
                     "| network | parameters | | operations | | cycles of 3x3 | | stored currents |\n"
                     "|---|---|---|---|---|---|---|---|\n"
                     f"| paper, TT-SNN | | {PUBLISHED['parameters']}x | | {PUBLISHED['operations']}x | | | |\n")
    dense: tuple[int, ...] = ()
    for kind, *counts, stored in rows():
        dense = dense or tuple(counts)
        shown = " | ".join(f"{count:,} | {whole / count:.2f}x" for whole, count in zip(dense, counts, strict=True))
        sys.stdout.write(f"| {kind} | {shown} | {stored:,} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
