"""Macro: exact where it is ideal, right in size where it is not, the same one comparison at a time."""

import dataclasses
import math
import random
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from golden.arch import ParameterError
from golden.imc.arch import IMC_PRESETS, SCHEMES, ImcArch
from golden.imc.cells import levels
from golden.imc.macro import FRACTION, LIMITS, ONE_DROP, Adc, Effects, Macro, build, convert, rewired
from golden.imc.noise import QUANTILES
from verif.imc.geometry import random_arch, random_weights

ONE = 1 << FRACTION
BIG = ImcArch(rows=256, cols=256, mux=2, group_rows=256, adc_bits=10, flash_bits=6, cell_bits=1, weight_bits=2)
CELLS = np.ones((256, 256), dtype=np.int64)
# One of each, of a typical size or above.
EFFECTS: dict[str, dict[str, Any]] = {
    "proportional": {"proportional": 0.1}, "independent": {"independent": 0.05}, "stuck off": {"stuck_off": 0.1},
    "stuck on": {"stuck_on": 0.1}, "IR drop": {"wire": 2e-3}, "on/off": {"on_off": 10}, "read noise": {"read_noise": 0.5},
    "drift": {"drift_time": 1e4, "drift": 0.05, "drift_spread": 0.02}, "offset": {"offset": 2}, "INL": {"mismatch": 0.2},
    "comparator noise": {"comparator_noise": 0.5},
}
ALL = {name: value for settings in EFFECTS.values() for name, value in settings.items()}


def near(values: Any, spread: float, *, mean: float = 0, slack: float = 0) -> bool:
    """Whether independent draws have a mean and a spread, within five standard errors and the slack of rounding."""
    error = 5 * spread / math.sqrt(values.size)
    wide = abs(values.std() - 0.99984 * spread)
    return bool(abs(values.mean() - mean) < error + slack and wide < error / math.sqrt(2) + slack)


def make(rng: random.Random, *, flash: bool, **settings: Any) -> Macro:
    """Return a random macro of a random tile."""
    scheme = rng.choice(SCHEMES)
    arch = random_arch(rng, scheme, rows=8)
    adc = Adc(flash=flash, bits=rng.randint(1, arch.flash_bits if flash else arch.adc_bits),
              average_log2=rng.choice((0, 0, 1, arch.average_log2)))
    effects = Effects(**({"seed": rng.getrandbits(63)} | settings))
    return build(arch, adc, levels(arch, scheme, random_weights(rng, arch, scheme)), effects, tile=rng.randrange(100))


def phases(rng: random.Random, arch: ImcArch, number: int) -> NDArray[np.int64]:
    """Return word lines [number, rows] that drive one group each, none or all rows of it among them."""
    lines = np.zeros((number, arch.rows), dtype=np.int64)
    for n in range(number):
        first, density = rng.randrange(0, arch.rows, arch.group_rows), rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        lines[n, first: first + arch.group_rows] = [rng.random() < density for _ in range(arch.group_rows)]
    return lines


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("flash", [False, True])
def test_ideal(scheme: str, flash: bool, seed: int) -> None:
    """An ideal macro with a lossless ADC gives exact dot products, averaged or not, for numpy and torch."""
    rng = random.Random(seed)
    for _ in range(15):
        arch = random_arch(rng, scheme, rows=16, cell_bits=rng.randint(1, 2))
        adc = Adc(flash=flash, bits=arch.lossless_bits, average_log2=rng.choice((0, 1)), lossless=True)
        cells, lines = levels(arch, scheme, random_weights(rng, arch, scheme)), phases(rng, arch, 20)
        assert np.array_equal(build(arch, adc, cells).convert(lines), lines @ cells)
        torched = build(arch, adc, torch.tensor(cells)).convert(torch.tensor(lines))
        assert torched.dtype == torch.int64 and np.array_equal(torched.numpy(), lines @ cells)


@pytest.mark.parametrize("name", IMC_PRESETS)
def test_static_range(name: str) -> None:
    """With fewer bits the range is the same and static: no value is further than half a step from its code; it clips."""
    arch = IMC_PRESETS[name]
    most = arch.group_rows * ((1 << arch.cell_bits) - 1)
    for bits in range(1, arch.adc_bits + 1):
        macro = build(arch, Adc(bits=bits), np.zeros((arch.rows, arch.cols), dtype=np.int64))
        values = np.arange(most + 1) << FRACTION
        codes = convert(macro, values, np.zeros_like(values))
        assert np.all(np.abs(codes * macro.step - values) * 2 <= macro.step + (1 << bits))
        assert (codes[-1] == (1 << bits) - 1 and codes[0] == 0) or bits >= arch.lossless_bits
        assert (macro.step == ONE) == (bits >= arch.lossless_bits or most < 1 << bits)
        clipped = rewired(macro, Adc(bits=bits, full_scale=1))
        assert clipped.step == ONE
        assert np.array_equal(convert(clipped, values, np.zeros_like(values)), np.minimum(np.arange(most + 1), (1 << bits) - 1))


def test_sar_is_flash(seed: int) -> None:
    """Without comparator noise, where thresholds rise, SAR, flash, the sum of a thermometer and a count of thresholds agree."""
    rng = random.Random(seed)
    settings = ALL | {"comparator_noise": 0, "mismatch": 0.01}
    for _ in range(30):
        macro = make(rng, flash=True, **settings)
        assert np.all(np.diff(macro.thresholds) > 0)
        lines, at = phases(rng, macro.arch, 12), {"image": np.arange(12), "phase": np.arange(12) * 3}
        column = np.arange(macro.arch.cols)
        value = macro.sample(macro.columns(lines), column, image=at["image"][:, None], phase=at["phase"][:, None])
        count = (value[..., None] >= macro.thresholds[column // macro.arch.mux, 1:]).sum(axis=-1)
        assert np.array_equal(macro.convert(lines, **at), count)
        assert np.array_equal(rewired(macro, dataclasses.replace(macro.adc, flash=False)).convert(lines, **at), count)
        assert np.array_equal(macro.thermometer(value, column).sum(axis=-1), count)
        trim = np.asarray([rng.randrange(1 << macro.arch.trim_bits) for _ in range(macro.arch.adcs)])
        moved = (trim - (1 << macro.arch.trim_bits - 1))[column // macro.arch.mux] * macro.trim_scale
        assert np.array_equal(macro.convert(lines, trim=trim, **at),
                              ((value - moved)[..., None] >= macro.thresholds[column // macro.arch.mux, 1:]).sum(axis=-1))


def test_counting_is_asking(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes that are counted are those of comparisons, trimmed, averaged, with thresholds that fall or rise."""
    rng = random.Random(seed)
    for case in range(24):
        settings, falls = ALL | {"comparator_noise": 0, "mismatch": 0.01}, case % 4 < 2
        macro = next(m for m in (make(rng, flash=case % 2 == 1, **settings) for _ in range(100)) if m.adc.bits > 1)
        if falls:
            macro = dataclasses.replace(macro, thresholds=macro.thresholds[:, ::-1].copy())
        lines, at = phases(rng, macro.arch, 12), {"image": np.arange(12), "phase": np.arange(12) * 3}
        trim = np.asarray([rng.randrange(1 << macro.arch.trim_bits) for _ in range(macro.arch.adcs)])
        assert (macro.rungs is None) == (falls and not macro.adc.flash)
        codes = [macro.convert(lines, trim=t, **at) for t in (None, trim)]
        with monkeypatch.context() as patched:
            patched.setattr(Macro, "rungs", None)
            asked = [dataclasses.replace(macro).convert(lines, trim=t, **at) for t in (None, trim)]
        assert all(np.array_equal(one, other) for one, other in zip(codes, asked, strict=True))
    assert make(rng, flash=True, **ALL).rungs is None


def answer(macro: Macro, value: Any, column: int, at: dict[str, Any], trial: int) -> bool:
    """Return what one comparator answers once."""
    return bool(macro.compare(value, np.asarray(column), np.asarray(trial), **at))


@pytest.mark.parametrize("flash", [False, True])
def test_one_comparison_at_a_time(flash: bool, seed: int) -> None:
    """All effects: a batch, torch, and single comparisons in another order see the same draws and give the same codes."""
    rng = random.Random(seed)
    for _ in range(4):
        macro = make(rng, flash=flash, **ALL)
        arch, adc, lines = macro.arch, macro.adc, phases(rng, macro.arch, 5)
        image, phase = np.asarray([rng.randrange(9) for _ in range(5)]), np.asarray([rng.randrange(1 << 20) for _ in range(5)])
        codes = macro.convert(lines, image=image, phase=phase)
        twin = dataclasses.replace(macro, conductance=torch.tensor(macro.conductance), drop=torch.tensor(macro.drop),
                                   thresholds=torch.tensor(macro.thresholds))
        assert np.array_equal(twin.convert(torch.tensor(lines), image=torch.tensor(image), phase=torch.tensor(phase)), codes)
        places = [(n, column) for n in range(5) for column in range(arch.cols)]
        for n, column in rng.sample(places, 12):
            at: dict[str, Any] = {"image": int(image[n]), "phase": int(phase[n])}
            value = macro.sample(macro.columns(lines[n])[column], np.asarray(column), **at)
            total = 0
            for conversion in range(1 << adc.average_log2):
                ask = partial(answer, macro, value, column, at | {"conversion": conversion})
                if flash:
                    trials = list(range(1, 1 << adc.bits))
                    rng.shuffle(trials)
                    answers = {trial: ask(trial) for trial in trials}
                    code = sum(answers.values())
                    row = macro.thermometer(value, np.asarray(column), conversion=conversion, **at)
                    assert [answers[trial] for trial in sorted(trials)] == row.tolist()
                else:
                    code = 0
                    for bit in reversed(range(adc.bits)):
                        code |= ask(code | 1 << bit) << bit
                total += code
            assert codes[n, column] == math.floor(total / (1 << adc.average_log2) + 0.5)


@pytest.mark.parametrize("name", EFFECTS)
def test_effects_do_something(name: str) -> None:
    """Each effect changes codes, and other seeds, tiles and writes change what is drawn."""
    arch = ImcArch(rows=64, cols=64, mux=8, group_rows=64, adc_bits=7, weight_bits=4)
    cells, adc = np.random.default_rng(5).integers(0, 2, (64, 64)), Adc(bits=7)
    lines = np.random.default_rng(6).integers(0, 2, (10, 64))
    ideal = build(arch, adc, cells).convert(lines, phase=np.arange(10))
    codes = build(arch, adc, cells, Effects(seed=1, **EFFECTS[name])).convert(lines, phase=np.arange(10))
    assert np.array_equal(ideal, lines @ cells) and not np.array_equal(codes, ideal)
    drawn = name not in ("IR drop", "on/off")
    other = build(arch, adc, cells, Effects(seed=2, **EFFECTS[name])).convert(lines, phase=np.arange(10))
    moved = build(arch, adc, cells, Effects(seed=1, **EFFECTS[name]), tile=1).convert(lines, phase=np.arange(10))
    again = build(arch, adc, cells, Effects(seed=1, **EFFECTS[name]), write=1).convert(lines, phase=np.arange(10))
    assert drawn != np.array_equal(codes, other) and drawn != np.array_equal(codes, moved)
    assert (name in ("proportional", "independent", "drift")) != np.array_equal(codes, again)


def test_variation() -> None:
    """Spread of conductances: in their own size, or in the largest whatever the state; never below 0."""
    own = build(BIG, Adc(bits=8), CELLS, Effects(proportional=0.1)).conductance
    assert near(own / ONE, 0.1, mean=1, slack=1e-4)
    two = dataclasses.replace(BIG, cell_bits=2)
    for level in (1, 2):
        for effects, spread in ((Effects(proportional=0.2), 0.2 * level), (Effects(independent=0.05), 0.15)):
            g = build(two, Adc(bits=8), CELLS * level, effects).conductance
            assert near(g / ONE, spread, mean=level, slack=1e-4)
    assert not build(two, Adc(bits=8), CELLS * 0, Effects(proportional=0.5)).conductance.any()
    low = build(two, Adc(bits=8), CELLS * 0, Effects(independent=0.2)).conductance
    assert low.min() == 0 and abs(np.count_nonzero(low) / low.size - 0.5) < 5 * 0.5 / 256
    both = build(two, Adc(bits=8), CELLS, Effects(independent=0.05, proportional=0.2)).conductance
    assert near(both / ONE, 0.25, mean=1, slack=1e-3)


def test_stuck() -> None:
    """Rates of stuck cells, whatever the level; they neither vary nor drift."""
    four = dataclasses.replace(BIG, cell_bits=2)
    effects = Effects(stuck_off=0.0175, stuck_on=0.0904, proportional=0.01, drift_time=100, drift=0.05, on_off=10)
    g = build(four, Adc(bits=8), CELLS * 2, effects).conductance
    for rate, stuck in ((0.0175, round(ONE / 3)), (0.0904, round(ONE * 10 / 3))):
        assert abs(np.count_nonzero(g == stuck) / g.size - rate) < 5 * math.sqrt(rate / g.size)
        assert max((g == stuck).mean(axis=axis).max() for axis in (0, 1)) < 0.2
    assert np.all(build(four, Adc(bits=8), CELLS * 2, Effects(stuck_off=1)).conductance == 0)
    assert np.all(build(four, Adc(bits=8), CELLS * 0, Effects(stuck_off=0.5, stuck_on=0.5)).conductance % (3 * ONE) == 0)


@pytest.mark.parametrize("cell_bits", [1, 2, 4])
@pytest.mark.parametrize("ratio", [2, 10, 150, 1000])
def test_on_off(cell_bits: int, ratio: int) -> None:
    """The highest conductance is the ratio times the lowest, and levels stay one apart."""
    arch = dataclasses.replace(BIG, cell_bits=cell_bits)
    most = (1 << cell_bits) - 1
    g = build(arch, Adc(bits=8), CELLS * (np.arange(256) % (most + 1)), Effects(on_off=ratio)).conductance[0]
    assert np.all(np.diff(g[: most + 1]) == ONE) and abs(int(g[most]) - ratio * int(g[0])) <= ratio


def test_drift() -> None:
    """Conductance falls as ``time^-exponent``, and never rises; the spread is that of the exponent."""
    for time in (1.5, 100, 1e6):
        g = build(BIG, Adc(bits=8), CELLS, Effects(drift_time=time, drift=0.05)).conductance
        assert np.all(np.abs(g - ONE * time ** -(205 / 4096)) <= 1)
    spread = build(BIG, Adc(bits=8), CELLS, Effects(drift_time=100, drift=0.1, drift_spread=0.02)).conductance
    assert near(np.log(spread / ONE) / -math.log(100), 0.02, mean=0.1, slack=2e-4)
    wide = build(BIG, Adc(bits=8), CELLS, Effects(drift_time=100, drift=0.01, drift_spread=0.2)).conductance
    assert wide.max() == ONE and abs((wide == ONE).mean() - NormalDist().cdf(-0.01 / 0.2)) < 5 * 0.5 / 256 + 1e-3


def test_wire() -> None:
    """A single cell sees the wire up to its row, so its current falls with the distance; more driven rows see a larger drop."""
    macro = build(BIG, Adc(bits=8), CELLS, Effects(wire=1e-3))
    one = macro.columns(np.eye(256, dtype=np.int64))
    exact = ONE / (1 + 1e-3 * np.arange(1, 257))
    assert np.all(np.diff(one, axis=0) < 0) and np.all(np.abs(one - exact[:, None]) <= 1)
    total = macro.columns(np.tri(256, dtype=np.int64))[:, 0]
    assert np.all(np.diff(total / np.arange(1, 257)) < 0)
    rng = np.random.default_rng(1)
    lines, cells = rng.integers(0, 2, (50, 256)), rng.integers(0, 2, (256, 256))
    weak = build(BIG, Adc(bits=8), cells, Effects(wire=1.8e-6)).columns(lines) / ONE
    plain, position = lines @ cells, lines @ (cells * np.arange(1, 257)[:, None])
    first_order = plain - 1.8e-6 * position * plain
    assert np.all(weak < plain) and np.all(np.abs(weak - first_order) < 1e-3 * plain + 2e-3 * (plain - first_order) + 0.002)


def test_read_noise() -> None:
    """Spread over phases and columns; the comparisons of a phase share it."""
    macro = build(BIG, Adc(bits=8), CELLS, Effects(read_noise=0.75))
    zero, at = np.zeros((256, 256), dtype=np.int64), {"image": 3, "phase": np.arange(256)[:, None]}
    noise = macro.sample(zero, np.arange(256), **at)
    assert near(noise / ONE, 0.75, slack=1e-4)
    assert np.array_equal(noise, macro.sample(zero, np.arange(256), **at))
    assert abs(np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]) < 5 / 255


def test_adc_offset_and_mismatch() -> None:
    """Offsets move all thresholds of an ADC; mismatch bends them, most at half scale, and keeps both ends."""
    tiles = range(24)
    moved = np.stack([build(BIG, Adc(bits=8), CELLS, Effects(offset=1.5), tile=t).thresholds for t in tiles])
    ideal = build(BIG, Adc(bits=8), CELLS)
    shift = (moved - ideal.thresholds) / ideal.step
    assert np.ptp(shift, axis=-1).max() == 0 and near(shift[..., 0], 1.5, slack=1e-3)
    bent = np.stack([build(BIG, Adc(bits=8), CELLS, Effects(mismatch=0.02), tile=t).thresholds for t in tiles])
    assert np.array_equal(bent[..., [0, -1]], np.broadcast_to(ideal.thresholds[:, [0, -1]], (*bent.shape[:2], 2)))
    gaps = np.diff(bent, axis=-1) / ideal.step
    assert near(gaps[..., 127], 0.02 * math.sqrt(255), mean=1, slack=3e-3)
    assert gaps[..., 127].std() > 2 * gaps[..., 15].std() > 4 * gaps[..., 0].std()


def test_comparator_noise_and_trim() -> None:
    """How often a comparison is true follows the normal distribution; a trim code moves where that is a half."""
    macro = build(BIG, Adc(bits=8), CELLS, Effects(comparator_noise=0.5, trim_step=0.25))
    column, phase = np.arange(256), np.arange(256)[:, None]
    for distance in (-1.0, -0.25, 0.0, 0.5, 1.5):
        value = np.broadcast_to(macro.thresholds[0, 77] + round(distance * macro.step), (256, 256))
        true = macro.compare(value, column, np.asarray(77), phase=phase).mean()
        assert abs(true - NormalDist().cdf(distance / 0.5)) < 5 * 0.5 / 256 + 1e-3
        middle = 1 << BIG.trim_bits - 1
        for trim, wanted in ((middle, true), (middle + 4, NormalDist().cdf((distance - 1) / 0.5)),
                             (middle - 2, NormalDist().cdf((distance + 0.5) / 0.5))):
            got = macro.compare(value, column, np.asarray(77), phase=phase, trim=np.full(BIG.adcs, trim)).mean()
            assert abs(got - wanted) < 5 * 0.5 / 256 + 1e-3
    bubbles = build(BIG, Adc(flash=True, bits=6), CELLS, Effects(comparator_noise=1)).thermometer(
        np.full(256, 20 * macro.step), np.arange(256))
    assert np.any(bubbles[:, 1:] > bubbles[:, :-1])


def test_threshold_belongs_to_its_code() -> None:
    """A comparison is true from the threshold on, not below."""
    macro = build(BIG, Adc(bits=8), CELLS, Effects(offset=1, mismatch=0.02))
    column, code = np.arange(256)[:, None], np.arange(1, 256)
    at = macro.thresholds[column // BIG.mux, code]
    assert macro.compare(at, column, code).all() and not macro.compare(at - 1, column, code).any()


def test_averaging() -> None:
    """Conversions draw anew, so the mean of eight has the noise of a comparator divided by more than two; the phase's stays."""
    cells = np.ones((256, 256), dtype=np.int64)
    spread = {}
    for name, effects in (("comparator", Effects(comparator_noise=2)), ("phase", Effects(read_noise=2))):
        for log2 in (0, 3):
            macro = build(BIG, Adc(bits=9, average_log2=log2), cells, effects)
            spread[name, log2] = macro.convert(np.tri(256, dtype=np.int64)[[100] * 20], phase=np.arange(20)).std()
    assert 2.2 < spread["comparator", 0] / spread["comparator", 3] < 3.5
    assert spread["phase", 0] == spread["phase", 3]
    macro = build(BIG, Adc(bits=8), cells, Effects(comparator_noise=1))
    value = np.full(256, int(macro.thresholds[0, 50]))
    answers = [macro.compare(value, np.arange(256), np.asarray(50), conversion=n) for n in range(3)]
    assert not np.array_equal(answers[0], answers[1]) and not np.array_equal(answers[1], answers[2])


def test_verify() -> None:
    """A verify comparison is true from the reference on; 64 references span the levels; its noise is drawn by occasion."""
    arch = dataclasses.replace(BIG, cell_bits=2)
    macro = build(arch, Adc(bits=8), CELLS * (np.arange(256) % 4))
    for reference in range(64):
        answers = macro.verify(macro.conductance[5], reference, row=5, occasion=0)
        assert np.array_equal(answers, np.arange(256) % 4 * 16 >= reference)
    noisy = build(arch, Adc(bits=8), CELLS * 2, Effects(verify_noise=0.2))
    answers = np.stack([noisy.verify(noisy.conductance[7], 32, row=7, occasion=n) for n in range(256)])
    assert abs(answers.mean() - 0.5) < 5 * 0.5 / 256 and len(np.unique(answers, axis=0)) == 256
    assert not np.array_equal(answers[0], noisy.verify(noisy.conductance[7], 32, row=8, occasion=0))
    low = np.stack([noisy.verify(noisy.conductance[7], 28, row=7, occasion=n) for n in range(256)])
    assert abs(low.mean() - NormalDist().cdf(0.25 / 0.2)) < 5 * 0.5 / 256 + 1e-3


def test_no_overflow() -> None:
    """Largest tile, largest settings, largest draws: int64 equals Python's integers."""
    settings: dict[str, Any] = {name: high for name, (low, high) in LIMITS.items() if not name.startswith(("stuck", "drift"))}
    worst = Effects(**settings | {"on_off": 2})
    arch = ImcArch(rows=256, cols=256, mux=2, group_rows=256, adc_bits=10, cell_bits=4, weight_bits=4, trim_bits=8)
    macro = build(arch, Adc(bits=1), CELLS * 15, worst)
    peak = 30 * (1 + QUANTILES[-1] / ONE)
    assert 0.75 * peak < macro.conductance.max() / ONE < peak < 1 << 8
    assert macro.drop is not None
    cells, drop = (np.full((256, 1), int(peak * ONE), dtype=object), np.full((256, 1), int(macro.drop.max()), dtype=object))
    g = dataclasses.replace(macro, conductance=cells.astype(np.int64), drop=drop.astype(np.int64))
    lines = np.ones((1, 256), dtype=np.int64)
    a, b = 256 * int(peak * ONE), 256 * int(macro.drop.max())
    assert int(g.columns(lines)[0, 0]) == (a << ONE_DROP) // ((1 << ONE_DROP) + b)
    assert a << ONE_DROP < 1 << 60 and b < 1 << 50
    for bits in range(1, 11):
        assert np.abs(rewired(macro, Adc(bits=bits)).thresholds).max() < 1 << 37


@pytest.mark.parametrize(("settings", "message"), [
    ({"proportional": 0.6}, "macro: proportional, not 0.6; legal: 0..0.5; try: proportional=0"),
    ({"stuck_on": -0.1}, "macro: stuck_on, not -0.1; legal: 0..1; try: stuck_on=0"),
    ({"stuck_on": 0.75, "stuck_off": 0.5}, "macro: stuck_off + stuck_on, not 1.25; legal: 0..1; try: stuck_on=0.5"),
    ({"on_off": 1}, "macro: on_off, not 1; legal: 2..inf; try: on_off=inf"),
    ({"drift_time": 0}, "macro: drift_time, not 0; legal: 1..1000000000000.0; try: drift_time=1"),
    ({"wire": math.nan}, "macro: wire, not nan; legal: 0..0.01; try: wire=0"),
    ({"seed": -1}, "macro: seed, not -1; legal: 0..9223372036854775807; try: seed=0"),
])
def test_effects_refused(settings: dict[str, Any], message: str) -> None:
    """Settings beyond their range are refused in one line."""
    with pytest.raises(ParameterError) as error:
        Effects(**settings)
    assert str(error.value) == message


@pytest.mark.parametrize(("adc", "message"), [
    (Adc(bits=6), "adc: bits, not 6; legal: 1..5 on tiny-ci; try: bits=5"),
    (Adc(bits=0), "adc: bits, not 0; legal: 1..5 on tiny-ci; try: bits=1"),
    (Adc(bits=6, flash=True), "adc: bits, not 6; legal: 1..5 on tiny-ci; try: bits=5"),
    (Adc(bits=5, average_log2=4), "adc: average_log2, not 4; legal: 0..3 on tiny-ci; try: average_log2=3"),
    (Adc(bits=5, full_scale=25), "adc: full_scale, not 25; legal: 0..24 on tiny-ci; try: full_scale=24"),
    (Adc(bits=4, lossless=True),
     "adc: lossless, not 4 bits up to 24; legal: at least 5 bits up to 24 on tiny-ci; try: bits=5"),
    (Adc(bits=5, full_scale=20, lossless=True),
     "adc: lossless, not 5 bits up to 20; legal: at least 5 bits up to 24 on tiny-ci; try: bits=5"),
])
def test_adc_refused(adc: Adc, message: str) -> None:
    """What the converter of a tile cannot do, or cannot do without loss, is refused in one line."""
    with pytest.raises(ParameterError) as error:
        build(IMC_PRESETS["tiny-ci"], adc, np.zeros((16, 8), dtype=np.int64))
    assert str(error.value) == message
