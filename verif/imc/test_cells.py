"""Weights in cells: levels of hand-made examples, the exact way back for all schemes, refusals in one line."""

import random

import numpy as np
import pytest
import torch

from golden.arch import ParameterError
from golden.imc.arch import IMC_PRESETS, SCHEMES, ImcArch
from golden.imc.cells import levels, weight_range
from golden.imc.shift_add import shift_add
from golden.imc.signed_combine import signed_combine
from verif.imc.geometry import random_arch, random_weights

SMALL = ImcArch(rows=2, cols=16, mux=2, group_rows=2, cell_bits=2, weight_bits=4)


@pytest.mark.parametrize(("scheme", "weight", "row"), [
    ("diff", [[6], [-8]], [2, 1, 0, 0, 0, 0, 0, 2]),
    ("diff", [[8], [0]], [0, 2, 0, 0, 0, 0, 0, 0]),
    ("offset", [[6], [-8], [-3]], [2, 3, 0, 0, 1, 1]),
    ("dummy", [[6], [-8]], [2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]),
    ("twos", [[6], [-8], [-3]], [2, 1, 0, 0, 0, 0, 1, 0, 1, 1, 1, 0]),
])
def test_levels(scheme: str, weight: list[list[int]], row: list[int]) -> None:
    """Levels of one row, worked out by hand; the other row and what lies behind is 0."""
    cells = levels(SMALL, scheme, np.asarray(weight))
    assert cells.shape == (2, 16) and cells[0].tolist() == row + [0] * (16 - len(row))
    assert not cells[1].any()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("signed", [False, True])
def test_way_back(scheme: str, signed: bool, seed: int) -> None:
    """Bit-serial inputs, row group after row group: shifts, signs, popcount and dummy column give exactly ``W x``."""
    rng = random.Random(seed)
    for number in range(60):
        arch = random_arch(rng, scheme)
        weight = random_weights(rng, arch, scheme)
        cells = levels(arch, scheme, weight)
        assert cells.shape == (arch.rows, arch.cols) and cells.min() >= 0 and cells.max() < 1 << arch.cell_bits
        top = 1 << arch.input_bits
        x = np.zeros(arch.rows, dtype=np.int64)
        x[: weight.shape[1]] = [rng.choice((0, top - 1, top >> 1, rng.randrange(top))) for _ in range(weight.shape[1])]
        groups = np.arange(0, arch.rows, arch.group_rows)[:, None]
        inside = (np.arange(arch.rows) >= groups) & (np.arange(arch.rows) < groups + arch.group_rows)
        lines = np.concatenate([inside * (x >> bit & 1) for bit in range(arch.input_bits)])
        y = signed_combine(arch, scheme, shift_add(lines @ cells, arch.places(scheme)), lines.sum(axis=1),
                           bits=arch.input_bits, signed=signed)
        wanted = [sum(int(w) * (int(v) - (top if signed and v >= top >> 1 else 0)) for w, v in zip(row, x, strict=False))
                  for row in weight]
        assert y[: len(wanted)].tolist() == wanted, (number, arch)
        torched = levels(arch, scheme, torch.tensor(weight))
        assert torched.dtype == torch.int64 and np.array_equal(torched.numpy(), cells)


@pytest.mark.parametrize("name", IMC_PRESETS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_extremes(name: str, scheme: str) -> None:
    """Both ends of the range in all outputs and inputs of every preset come back."""
    arch = IMC_PRESETS[name]
    for value in (*weight_range(arch, scheme), 0, 1, -1):
        weight = np.full((arch.outputs(scheme), arch.rows), value)
        x = np.ones(arch.rows, dtype=np.int64)
        sums = shift_add(x @ levels(arch, scheme, weight), arch.places(scheme))
        got = signed_combine(arch, scheme, sums[None, :], x.sum()[None])
        assert got.tolist() == [value * arch.rows] * arch.outputs(scheme)


@pytest.mark.parametrize(("scheme", "weight", "message"), [
    ("twos", [[8]], "weights: value, not 8; legal: -8..7 with scheme twos and 4 bits; try: weight_bits=5"),
    ("offset", [[0, -9]], "weights: value, not -9; legal: -8..7 with scheme offset and 4 bits; try: weight_bits=5"),
    ("dummy", [[127]], "weights: value, not 127; legal: -8..7 with scheme dummy and 4 bits; try: weight_bits=8"),
    ("diff", [[9]], "weights: value, not 9; legal: -8..8 with scheme diff and 4 bits; try: weight_bits=5"),
    ("twos", [[0, 0, 0]], "weights: inputs, not 3; legal: 1..2 with scheme twos in a tile of 2 x 16; try: more tiles"),
    ("diff", [[0]] * 5, "weights: outputs, not 5; legal: 1..4 with scheme diff in a tile of 2 x 16; try: more tiles"),
    ("dummy", [[0]] * 8, "weights: outputs, not 8; legal: 1..7 with scheme dummy in a tile of 2 x 16; try: more tiles"),
    ("ones", [[0]], "scheme: unknown name, not 'ones'; legal: diff, offset, dummy, twos; try: scheme=twos"),
])
def test_refusals(scheme: str, weight: list[list[int]], message: str) -> None:
    """What does not fit is refused in one line."""
    with pytest.raises(ParameterError) as error:
        levels(SMALL, scheme, np.asarray(weight))
    assert str(error.value) == message
