"""Tile: exact products where the macro is ideal; calibration, skipping and noise as plain Python loops say."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from golden.arch import ParameterError
from golden.imc.arch import SCHEMES, ImcArch
from golden.imc.calibrator import offsets, trims
from golden.imc.cells import levels
from golden.imc.correction import Correction, correct
from golden.imc.macro import Adc, Effects, Macro, build, convert
from golden.imc.tile import Program, run_tile
from verif.imc.geometry import random_arch, random_weights

NOISY = Effects(seed=3, proportional=0.1, read_noise=0.5, comparator_noise=0.5, offset=1.5, on_off=20, wire=1e-3, mismatch=0.02)
SMALL = ImcArch(name="small", rows=8, cols=16, mux=4, group_rows=4, adc_bits=4, flash_bits=4, cell_bits=1, weight_bits=4,
                input_bits=4)


def vectors(rng: random.Random, program: Program, number: int, inputs: int) -> NDArray[np.int64]:
    """Return inputs [number, inputs], the extremes and zeros among them."""
    low, high = (-(1 << program.bits - 1), (1 << program.bits - 1) - 1) if program.signed else (0, (1 << program.bits) - 1)
    return np.asarray([[rng.choice((0, low, high, rng.randint(low, high))) for _ in range(inputs)] for _ in range(number)])


def plain(macro: Macro, program: Program, x: list[int], image: int, vector: int, outputs: int) -> list[int]:
    """Return the outputs of one vector, phase by phase, code by code, in loops over Python integers."""
    arch, correction = macro.arch, program.correction
    groups, width = arch.rows // arch.group_rows, len(arch.places(program.scheme))
    total = [0] * (arch.cols // width)
    for bit in range(program.bits):
        sign = -1 if program.signed and bit == program.bits - 1 else 1
        for group in range(groups):
            rows = [r for r, v in enumerate(x) if r // arch.group_rows == group and v >> bit & 1]
            if program.skip and not rows:
                continue
            lines = np.zeros(arch.rows, dtype=np.int64)
            lines[rows] = 1
            at: dict[str, Any] = {"image": image, "phase": (vector * program.bits + bit) * groups + group}
            for column in range(width * len(total)):
                here = np.asarray(column)
                value = macro.sample(macro.columns(lines)[column], here, **at)
                code = int(convert(macro, value, here, trim=program.trim, **at))
                if correction.offset is not None:
                    code -= int(correction.offset[column // arch.mux])
                if correction.gain is not None:
                    code = code * int(correction.gain[column]) + (1 << arch.gain_bits - 1) >> arch.gain_bits
                place = arch.places(program.scheme)[column % width]
                if place is not None:
                    total[column // width] += sign * (-code if place.negate else code) << place.shift + bit
            if program.scheme == "offset":
                total = [t - (sign * len(rows) << arch.weight_bits - 1 + bit) for t in total]
    if program.scheme == "dummy":
        total = [t - total[-1] for t in total[:-1]]
    return total[:outputs]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("signed", [False, True])
def test_exact(scheme: str, signed: bool, seed: int) -> None:
    """With an ideal macro and a lossless ADC outputs are exactly ``weight @ x``, skipping or not, for numpy and torch."""
    rng = random.Random(seed)
    for number in range(8):
        arch = random_arch(rng, scheme, cell_bits=rng.randint(1, 2))
        program = Program(scheme=scheme, bits=rng.randint(1, arch.input_bits), signed=signed, skip=rng.random() < 0.5)
        adc = Adc(flash=number % 2 > 0, bits=arch.lossless_bits, average_log2=number % 3 % 2, lossless=True)
        weight = random_weights(rng, arch, scheme)
        x = vectors(rng, program, 5, weight.shape[1])
        cells = levels(arch, scheme, weight)
        y = run_tile(build(arch, adc, cells), program, x).y
        assert y.shape == (5, arch.outputs(scheme)) and np.array_equal(y[:, : weight.shape[0]], x @ weight.T), arch
        torched = run_tile(build(arch, adc, torch.tensor(cells)), program, torch.tensor(x)).y
        assert torched.dtype == torch.int64 and np.array_equal(torched.numpy(), y)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("flash", [False, True])
def test_batch_is_loops(scheme: str, flash: bool, seed: int) -> None:
    """A noisy macro with calibration: a batch equals loops over phases, columns and conversions in Python integers."""
    rng = random.Random(seed)
    arch = random_arch(rng, scheme, rows=8)
    adc = Adc(flash=flash, bits=min(4, arch.flash_bits), average_log2=rng.choice((0, 1)))
    weight = random_weights(rng, arch, scheme)
    macro = build(arch, adc, levels(arch, scheme, weight), NOISY, tile=rng.randrange(9))
    correction = Correction(
        offset=np.asarray([rng.randint(-1, 1) for _ in range(arch.adcs)]),
        gain=np.asarray([(1 << arch.gain_bits) + rng.randint(-40, 40) for _ in range(arch.cols)]))
    trim = np.asarray([rng.randrange(1 << arch.trim_bits) for _ in range(arch.adcs)])
    for skip, bits in ((False, 1), (True, min(2, arch.input_bits))):
        program = Program(scheme=scheme, bits=bits, signed=bits > 1, skip=skip, correction=correction,
                          trim=trim)
        x, image, number = vectors(rng, program, 3, weight.shape[1]), np.asarray([4, 4, 5]), np.asarray([0, 7, 2])
        x[1] = 0
        got = run_tile(macro, program, x, image=image, vector=number)
        outputs = weight.shape[0]
        wanted = [plain(macro, program, x[n].tolist(), int(image[n]), int(number[n]), outputs) for n in range(3)]
        assert got.y[:, :outputs].tolist() == wanted
        backwards = run_tile(macro, program, x[::-1], image=image[::-1], vector=number[::-1])
        assert np.array_equal(backwards.y[::-1], got.y)


def test_skip_is_exact_without_offset(seed: int) -> None:
    """Skipping changes nothing once no row gives code 0, and does while an offset stands."""
    rng = random.Random(seed)
    weight = random_weights(rng, SMALL, "twos", full=True)
    x = np.asarray([[1, 0, 1, 0, 0, 0, 0, 0]])
    for offset, same in ((0, True), (4, False)):
        macro = build(SMALL, Adc(bits=4), levels(SMALL, "twos", weight), Effects(seed=1, offset=offset))
        outputs = [run_tile(macro, Program(scheme="twos", skip=skip), x) for skip in (False, True)]
        assert np.array_equal(outputs[0].codes, outputs[1].codes) == same


def test_pedestal() -> None:
    """A pedestal finds offsets of both signs within a step, a pedestal of 0 only positive ones; corrected codes are right."""
    arch = ImcArch(rows=64, cols=64, mux=2, group_rows=32, adc_bits=6, weight_bits=4)
    weight = np.random.default_rng(2).integers(-8, 8, (16, 64))
    macro = build(arch, Adc(bits=6), levels(arch, "twos", weight), Effects(seed=9, offset=3, comparator_noise=0.4))
    true = -(macro.thresholds[:, 1] - (macro.step >> 1)) / macro.step
    found = offsets(macro, pedestal=16, log2=5, limit=60)
    assert found.numbers.min() < -2 and found.numbers.max() > 2 and np.abs(found.numbers - true).max() <= 0.5 + 3 * 0.5 / 8
    assert np.array_equal(offsets(macro, pedestal=16, log2=5, limit=2).failed, np.abs(found.numbers) > 2)
    blind = offsets(macro, pedestal=0, log2=5, limit=60).numbers
    assert blind.min() == 0 and np.array_equal(blind[true > 1.5], found.numbers[true > 1.5])
    x = np.random.default_rng(3).integers(0, 2, (20, 64))
    errors = [np.abs(run_tile(macro, Program(scheme="twos", correction=c), x, vector=np.arange(20)).y - x @ weight.T).mean()
              for c in (Correction(), Correction(offset=found.numbers))]
    assert errors[1] < errors[0] / 2


def test_trim() -> None:
    """Trimmed comparators have the offset that a step of their trim leaves; one that is out of reach has failed."""
    arch = ImcArch(rows=64, cols=64, mux=2, group_rows=32, adc_bits=6, weight_bits=4)
    effects = Effects(seed=9, offset=4, comparator_noise=0.3, trim_step=0.25)
    macro = build(arch, Adc(bits=6), np.zeros((64, 64), dtype=np.int64), effects)
    true = -(macro.thresholds[:, 20] - 19.5 * macro.step) / macro.step
    found = trims(macro, pedestal=20, log2=6, limit=1)
    left = true - (found.numbers - 16) * 0.25
    reached = np.abs(true) < 3.5
    assert 0 < reached.sum() < arch.adcs and np.abs(left[reached]).max() <= 0.25 + 3 * 0.3 / 8
    assert not found.failed[reached].any() and found.failed[np.abs(true) > 5].all()


def test_gain_rounds_half_up() -> None:
    """Gains round half up on both sides of 0, and nothing is clamped there."""
    codes = np.asarray([[3, -3, 1, -1] * 4])
    gain = np.full(16, 1 << SMALL.gain_bits - 1)
    assert correct(SMALL, Correction(gain=gain), codes)[0, :4].tolist() == [2, -1, 1, 0]
    assert correct(SMALL, Correction(offset=np.asarray([4, 0, 0, 0])), codes)[0, :5].tolist() == [-1, -7, -3, -5, 3]


@pytest.mark.parametrize(("program", "x", "message"), [
    (Program(scheme="twos", bits=5), [[0]], "program: bits, not 5; legal: 1..4 on small; try: bits=4"),
    (Program(scheme="twos", bits=2), [[4]], "vector: value, not 4; legal: 0..3 with 2 bits; try: bits=3"),
    (Program(scheme="twos", bits=2, signed=True), [[-3]], "vector: value, not -3; legal: -2..1 with 2 bits; try: bits=3"),
    (Program(scheme="twos"), [[0] * 9], "vector: inputs, not 9; legal: 1..8 on small; try: more tiles"),
    (Program(scheme="twos", correction=Correction(offset=np.zeros(16, dtype=np.int64))), [[0]],
     "calibration: shape of offset, not (16,); legal: (4,); try: one offset for each ADC"),
    (Program(scheme="twos", correction=Correction(gain=np.full(16, 512))), [[0]],
     "calibration: gain, not 512; legal: 0..511; try: gain=511"),
    (Program(scheme="twos", trim=np.full(4, -1)), [[0]], "calibration: trim, not -1; legal: 0..31; try: trim=0"),
    (Program(scheme="none"), [[0]], "scheme: unknown name, not 'none'; legal: diff, offset, dummy, twos; try: scheme=twos"),
])
def test_refusals(program: Program, x: list[list[int]], message: str) -> None:
    """What does not fit is refused in one line."""
    macro = build(SMALL, Adc(bits=4), np.zeros((8, 16), dtype=np.int64))
    with pytest.raises(ParameterError) as error:
        run_tile(macro, program, np.asarray(x))
    assert str(error.value) == message
