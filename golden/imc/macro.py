"""Behavioural crossbar macro: what its comparators answer, in integers, for every setting of what is not ideal.

Fixed point, with a *level* the difference between neighbouring states of a cell: conductances, column values and thresholds
have `FRACTION` bits below one level. Floats exist where settings become integers (`_fixed`), and in sums that float64 holds
exactly (`_dot`).

Nothing exceeds int64, for the largest legal tile and the largest legal settings:

- a cell conducts at most 15 levels, times 2 with the smallest on/off ratio, times ``1 + 2 * 3.67 / 2`` with the largest
  variations: below 2^8 levels, 2^20 in fixed point; while it is made, with `FINE` bits, below 2^32, times what it drifts
  2^56;
- 256 rows give a column below 2^28, below 2^60 where IR drop divides it;
- an IR-drop weight is below ``2^20 * 2^30 >> 8 = 2^42``, 256 of them below 2^50;
- a threshold is below ``2^12`` levels, 2^24, and below 2^54 while capacitors weigh it; offset, trim and noise add less than
  2^37.
"""

import math
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from typing import Any

from array_api_compat import array_namespace

from golden.arch import ParameterError
from golden.imc.arch import REFERENCE_BITS, ImcArch
from golden.imc.converter import flash, mean, sar
from golden.imc.noise import Kind, gaussian, uniform
from golden.network import Array

# Bits below a level: of what leaves `build`, of a conductance while it is made, of IR drop per level and row.
FRACTION = 12
FINE = 24
DROP = 28
ONE_DROP = 32
# Bits below 1 of spreads that multiply, and of capacitors.
SPREAD = 16
# Bits of the draw that decides whether a cell is stuck.
STUCK = 32
LIMITS: dict[str, tuple[float, float]] = {
    "proportional": (0, 0.5), "independent": (0, 0.5), "stuck_off": (0, 1), "stuck_on": (0, 1), "wire": (0, 0.01),
    "on_off": (2, math.inf), "read_noise": (0, 16), "drift_time": (1, 1e12), "drift": (0, 1), "drift_spread": (0, 1),
    "offset": (0, 64), "mismatch": (0, 0.25), "comparator_noise": (0, 16), "trim_step": (0, 4), "verify_noise": (0, 16),
    "seed": (0, (1 << 63) - 1),
}


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What is not ideal about a macro; by default nothing. Spreads are standard deviations of normal distributions.

    seed : of all draws
    proportional : spread of a cell, in its own conductance; 0.05 to 0.2, 0.1 in NeuroSim, 0.01 in MNSIM 2.0
    independent : spread of a cell whatever its state, in the largest conductance; CrossSim's RRAM_Milo 2.7 to 4.3 of 225 uS
    stuck_off, stuck_on : rates of cells stuck at the lowest and highest state; 0.001 each in MNSIM 2.0
    wire : resistance of a column's wire from row to row, times the conductance of one level; 0.35 Ohm (AIHWKIT) or
        5 Ohm (SpikeSim) of 19.1 kOhm are 1.8e-5 and 2.6e-4
    on_off : highest to lowest conductance of a cell; 10 in NeuroSim, 10.4 in SpikeSim, 150, 1000 in ISAAC
    read_noise : spread of a column value, in levels, new for each phase; AIHWKIT's out_noise is 0.06
    drift_time : time since programming, in units of the time at which cells were right; AIHWKIT's unit is 20 s
    drift, drift_spread : exponent of time, mean and spread over cells; 0.05 to 0.1 and 0.008 to 0.045 in PCM (AIHWKIT)
    offset : spread over ADCs, in steps; 36.9 mV of 13 mV a step in an untrimmed 8-bit SAR
    mismatch : spread of a unit capacitor of a CDAC; 0.005 to 0.02
    comparator_noise : spread of a comparison, in steps; 0.3 to 0.5
    trim_step : what one step of a trim code moves the thresholds of an ADC, in steps
    verify_noise : spread of a verify comparison, in levels

    Sources: imc 6, with the projects named; ranges of variation, mismatch and comparator noise are not confirmed there.
    """

    seed: int = 0
    proportional: float = 0
    independent: float = 0
    stuck_off: float = 0
    stuck_on: float = 0
    wire: float = 0
    on_off: float = math.inf
    read_noise: float = 0
    drift_time: float = 1
    drift: float = 0
    drift_spread: float = 0
    offset: float = 0
    mismatch: float = 0
    comparator_noise: float = 0
    trim_step: float = 0.25
    verify_noise: float = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, (low, high) = getattr(self, field.name), LIMITS[field.name]
            if not low <= value <= high:
                raise ParameterError(f"macro: {field.name}, not {value}; legal: {low}..{high}; "
                                     f"try: {field.name}={field.default}")
        if self.stuck_off + self.stuck_on > 1:
            raise ParameterError(f"macro: stuck_off + stuck_on, not {self.stuck_off + self.stuck_on}; legal: 0..1; "
                                 f"try: stuck_on={1 - self.stuck_off}")


@dataclass(frozen=True, kw_only=True)
class Adc:
    """How columns are converted; run-time settings.

    flash : all thresholds at once, else successive approximation
    bits : of a code
    average_log2 : a code is the mean of ``2^average_log2`` conversions
    full_scale : column value of the largest code, in levels; 0: what a group of rows can give
    lossless : codes must tell all values of a group apart, or the settings are refused
    """

    flash: bool = False
    bits: int
    average_log2: int = 0
    full_scale: int = 0
    lossless: bool = False

    def check(self, arch: ImcArch) -> None:
        """Raise `ParameterError` unless a tile can convert so."""
        widest = arch.flash_bits if self.flash else arch.adc_bits
        most = arch.group_levels
        for name, value, low, high in (("bits", self.bits, 1, widest), ("full_scale", self.full_scale, 0, most),
                                       ("average_log2", self.average_log2, 0, arch.average_log2)):
            if not low <= value <= high:
                raise ParameterError(f"adc: {name}, not {value}; legal: {low}..{high} on {arch.name}; "
                                     f"try: {name}={min(max(value, low), high)}")
        if self.lossless and not self.keeps(arch):
            raise ParameterError(f"adc: lossless, not {self.bits} bits up to {self.full_scale or most}; legal: at least "
                                 f"{arch.lossless_bits} bits up to {most} on {arch.name}; try: bits={arch.lossless_bits}")

    def keeps(self, arch: ImcArch) -> bool:
        """Return whether codes tell all values of a full group of rows apart."""
        return self.bits >= arch.lossless_bits and (self.full_scale or arch.group_levels) >= arch.group_levels

    def step(self, arch: ImcArch) -> int:
        """Return the distance of thresholds, `FRACTION` bits below a level: one level, or more where codes do not suffice."""
        full_scale = (self.full_scale or arch.group_levels) << FRACTION
        codes = (1 << self.bits) - 1
        return max(1 << FRACTION, (2 * full_scale + codes) // (2 * codes))


@dataclass(frozen=True, kw_only=True)
class Macro:
    """One crossbar, programmed, with its ADCs; all its numbers have `FRACTION` bits below a level.

    conductance : int64 [rows, cols]
    drop : int64 [rows, cols], what a driven cell adds to the divisor of its column, `ONE_DROP` fraction bits; None: no IR drop
    thresholds : int64 [adcs, 2^bits]; the column value from which on a comparison with a trial code is true
    step : distance of ideal thresholds
    tile : coordinate of all draws but those of the ADCs
    bank : coordinate of the draws of offsets and capacitors: crossbars that share their ADCs have one
    """

    arch: ImcArch
    effects: Effects
    adc: Adc
    tile: int
    bank: int
    conductance: Array
    drop: Array | None
    thresholds: Array
    step: int

    @property
    def read_scale(self) -> int:
        """Spread of the noise of a column value."""
        return _fixed(self.effects.read_noise, FRACTION)

    @property
    def compare_scale(self) -> int:
        """Spread of the noise of a comparison."""
        return self._steps(self.effects.comparator_noise)

    @cached_property
    def rungs(self) -> Array | None:
        """Thresholds int64 [adcs, 2^bits - 1] from low to high, where a code is the number of them that a value reaches.

        None where it is not: comparisons have noise, or successive approximation meets thresholds that fall.
        """
        xp, rungs = array_namespace(self.thresholds), self.thresholds[:, 1:]
        if not self.compare_scale and not xp.any(rungs[:, 1:] < rungs[:, :-1]):
            return rungs
        return xp.sort(rungs, axis=-1) if self.adc.flash and not self.compare_scale else None

    @property
    def trim_scale(self) -> int:
        """What a step of a trim code adds to thresholds."""
        return self._steps(self.effects.trim_step)

    def columns(self, lines: Array) -> Array:
        """Return the column values int64 [..., cols] of word lines [..., rows], without noise.

        With IR drop ``value = (A << 32) // (2^32 + B)``, where A sums the conductances of the driven rows and B their
        conductances times resistances: the current of a column meets the resistance that its cells see on average. It is
        exact for a single cell, and to first order A less A times B of imc 6.
        """
        value = _dot(lines, self.conductance)
        return value if self.drop is None else (value << ONE_DROP) // ((1 << ONE_DROP) + _dot(lines, self.drop))

    def sample(self, value: Array, column: Array, *, image: Array | int = 0, phase: Array | int = 0) -> Array:
        """Return column values with the noise of their phase, which all comparisons of that phase share.

        value, column, image, phase : int64, they broadcast; a phase is counted over a whole image
        """
        if not self.read_scale:
            return value
        return value + gaussian(self.effects.seed, Kind.READ, self.tile, image, phase, column, scale=self.read_scale)

    def compare(self, value: Array, column: Array, code: Array, *, image: Array | int = 0, phase: Array | int = 0,
                conversion: int = 0, trim: Array | None = None) -> Array:
        """Return bool, whether sampled column values are at least the thresholds of trial codes.

        value, column, code, image, phase : int64, they broadcast; the ADC is ``column // mux``
        conversion : number of the conversion among those that are averaged
        trim : int64 [adcs], codes in ``0..2^trim_bits - 1``, the middle by default; a larger code raises all thresholds
        """
        xp = array_namespace(value, column, code)
        column, code = xp.broadcast_arrays(column, code)
        place = (column // self.arch.mux << self.adc.bits) + code
        threshold = xp.reshape(xp.take(xp.reshape(self.thresholds, (-1,)), xp.reshape(place, (-1,))), place.shape)
        if trim is not None:
            moved = self.moved(trim)
            threshold = threshold + xp.reshape(xp.take(moved, xp.reshape(column // self.arch.mux, (-1,))), column.shape)
        if self.compare_scale:
            value = value + gaussian(self.effects.seed, Kind.COMPARE, self.tile, image, phase, column, conversion, code,
                                     scale=self.compare_scale)
        return value >= threshold

    def moved(self, trim: Array) -> Array:
        """Return int64 [adcs], what trim codes add to all thresholds of their ADCs."""
        return (trim - (1 << self.arch.trim_bits - 1)) * self.trim_scale

    def thermometer(self, value: Array, column: Array, *, image: Array | int = 0, phase: Array | int = 0,
                    conversion: int = 0, trim: Array | None = None) -> Array:
        """Return bool [..., 2^bits - 1], the comparisons with all codes from 1 on, as the flash converter makes them."""
        xp = array_namespace(value, column)
        ask = partial(self.compare, value, column, image=image, phase=phase, conversion=conversion, trim=trim)
        return xp.stack([ask(code=xp.asarray(code)) for code in range(1, 1 << self.adc.bits)], axis=-1)

    def verify(self, conductance: Array, reference: int, *, row: int, occasion: int) -> Array:
        """Return bool [cols], whether the cells of a row conduct at least a reference.

        conductance : int64 [cols], of the row; pulses change it, so it is the caller's
        reference : in ``0..2^REFERENCE_BITS - 1``, which spans the levels: ``reference * 2^cell_bits / 2^REFERENCE_BITS``
        occasion : counts the verify comparisons of the row
        """
        xp = array_namespace(conductance)
        if self.effects.verify_noise:
            conductance = conductance + gaussian(self.effects.seed, Kind.VERIFY, self.tile, row, xp.arange(self.arch.cols),
                                                 occasion, scale=_fixed(self.effects.verify_noise, FRACTION))
        return conductance >= reference << FRACTION + self.arch.cell_bits - REFERENCE_BITS

    def convert(self, lines: Array, *, image: Array | int = 0, phase: Array | int = 0, trim: Array | None = None) -> Array:
        """Return the codes int64 [..., cols] of word lines [..., rows]; ``image`` and ``phase`` int64 [...]."""
        xp = array_namespace(lines)
        column = xp.arange(self.arch.cols, dtype=xp.int64)
        at = {"image": xp.asarray(image)[..., None], "phase": xp.asarray(phase)[..., None]}
        return convert(self, self.sample(self.columns(lines), column, **at), column, trim=trim, **at)

    def _steps(self, number: float) -> int:
        """Return a number of steps of the ADC as a fixed-point number of levels."""
        return (_fixed(number, SPREAD) * self.step + (1 << SPREAD - 1)) >> SPREAD


def convert(macro: Macro, value: Array, column: Array, *, image: Array | int = 0, phase: Array | int = 0,
            trim: Array | None = None) -> Array:
    """Return the codes int64 of sampled column values, which broadcast with their columns and phases.

    Successive approximation keeps a bit when the value is at least the threshold of the trial code; flash counts ones, so
    bubbles count too. The mean of several conversions is rounded half up. Where thresholds rise and comparisons have no
    noise, both are the number of thresholds that the value reaches (`Macro.rungs`), and so is their mean.

    Source: imc 10, B2.
    """
    if macro.rungs is not None:
        return _reached(macro, macro.rungs, value, column, trim)
    xp, adc = array_namespace(value, column), macro.adc
    zero = xp.zeros_like(value + column)
    total = zero
    for conversion in range(1 << adc.average_log2):
        at: dict[str, Any] = {"image": image, "phase": phase, "conversion": conversion, "trim": trim}
        total = total + (flash(macro.thermometer(value, column, **at), adc.bits)[0] if adc.flash else
                         sar(partial(macro.compare, value, column, **at), zero, adc.bits))
    return mean(total, adc.average_log2)


def _reached(macro: Macro, rungs: Array, value: Array, column: Array, trim: Array | None) -> Array:
    """Return int64, how many of the rising thresholds of its ADC each value reaches.

    The thresholds of ADC g are moved up by g times what they span, so that those of all ADCs are one rising list.
    """
    xp = array_namespace(value, column)
    if trim is not None:
        rungs = rungs + macro.moved(trim)[:, None]
    low, high = int(xp.min(rungs)) - 1, int(xp.max(rungs))
    span, adc = high - low + 1, column // macro.arch.mux
    ladder = xp.reshape(rungs + (xp.arange(macro.arch.adcs, dtype=xp.int64) * span)[:, None], (-1,))
    place = xp.clip(value, low, high) + adc * span
    reached = xp.searchsorted(ladder, xp.reshape(place, (-1,)), side="right")
    return xp.reshape(reached, place.shape) - adc * rungs.shape[1]


def _dot(lines: Array, numbers: Array) -> Array:
    """Return int64 ``lines @ numbers``, word lines times what their cells add.

    Computed in float64, in which every sum is exact: at most 256 rows of at most 2^42 each, 2^50 of 2^53.
    """
    xp = array_namespace(lines)
    return xp.astype(xp.astype(lines, xp.float64) @ xp.astype(numbers, xp.float64), xp.int64)


def build(arch: ImcArch, adc: Adc, levels: Array, effects: Effects | None = None, *, tile: int = 0, write: int = 0,
          bank: int | None = None) -> Macro:
    """Return the macro of cells with levels int64 [rows, cols], in the kind of ``levels``.

    bank : of the ADCs, when they are another crossbar's too; None: ``tile``
    write : how often the cells were written before; each time their variation is drawn anew
    """
    adc.check(arch)
    effects = effects or Effects()
    conductance = _conductance(arch, effects, levels, tile, write)
    bank = tile if bank is None else bank
    return Macro(arch=arch, effects=effects, adc=adc, tile=tile, bank=bank, conductance=conductance,
                 drop=_drop(effects, conductance), step=adc.step(arch),
                 thresholds=_thresholds(arch, effects, adc, bank, levels))


def rewired(macro: Macro, adc: Adc) -> Macro:
    """Return the same crossbar, converted in another way."""
    adc.check(macro.arch)
    return replace(macro, adc=adc, step=adc.step(macro.arch),
                   thresholds=_thresholds(macro.arch, macro.effects, adc, macro.bank, macro.conductance))


def rewritten(macro: Macro, conductance: Array) -> Macro:
    """Return the same crossbar with other cells, int64 [rows, cols]."""
    return replace(macro, conductance=conductance, drop=_drop(macro.effects, conductance))


def _drop(effects: Effects, conductance: Array) -> Array | None:
    """Return int64 [rows, cols] for `Macro.drop`: conductance times the resistance of the wire to the row."""
    if not effects.wire:
        return None
    xp = array_namespace(conductance)
    distance = xp.arange(1, conductance.shape[0] + 1, dtype=xp.int64)[:, None]
    return (conductance * distance * _fixed(effects.wire, DROP)) >> FRACTION + DROP - ONE_DROP


def _fixed(value: float, bits: int) -> int:
    """Return a setting as a fixed-point integer."""
    return round(value * (1 << bits))


def _conductance(arch: ImcArch, p: Effects, levels: Array, tile: int, write: int) -> Array:
    """Return int64 [rows, cols]: on/off ratio, variations, stuck cells and drift, rounded once to `FRACTION` bits.

    The lowest state conducts so much that the highest one, ``2^cell_bits - 1`` levels above, is ``on_off`` times it. A stuck
    cell neither varies nor drifts; no cell conducts less than nothing, and none gains by drift.
    """
    xp = array_namespace(levels)
    rows, cols = xp.arange(arch.rows, dtype=xp.int64)[:, None], xp.arange(arch.cols, dtype=xp.int64)
    most = (1 << arch.cell_bits) - 1
    low = _fixed(most / (p.on_off - 1), FINE)
    high = (most << FINE) + low
    g = (levels << FINE) + low
    at = (tile, write, rows, cols)
    if p.proportional or p.independent:
        relative = gaussian(p.seed, Kind.PROPORTIONAL, *at, scale=_fixed(p.proportional, SPREAD))
        fixed = gaussian(p.seed, Kind.INDEPENDENT, *at, scale=_fixed(p.independent * high, 0))
        g = xp.clip(g + (g * relative >> SPREAD) + fixed, 0, None)
    if p.drift_time > 1:
        exponent = gaussian(p.seed, Kind.DRIFT, *at, scale=_fixed(p.drift_spread, FRACTION)) + _fixed(p.drift, FRACTION)
        exponent = xp.clip(exponent, 0, None)
        table = [_fixed(p.drift_time ** (-n / (1 << FRACTION)), FINE) for n in range(int(xp.max(exponent)) + 1)]
        kept = xp.reshape(xp.take(xp.asarray(table), xp.reshape(exponent, (-1,))), exponent.shape)
        g = g * kept >> FINE
    if p.stuck_off or p.stuck_on:
        drawn = uniform(p.seed, Kind.STUCK, tile, rows, cols, bits=STUCK)
        off = _fixed(p.stuck_off, STUCK)
        g = xp.where(drawn < off, low, xp.where(drawn < off + _fixed(p.stuck_on, STUCK), high, g))
    return (g + (1 << FINE - FRACTION - 1)) >> FINE - FRACTION


def _thresholds(arch: ImcArch, p: Effects, adc: Adc, bank: int, like: Array) -> Array:
    """Return int64 [adcs, 2^bits]: ``(code - 1/2) * step`` where capacitors match, less the offset of the ADC.

    Capacitor n is ``2^n`` units with the spread of ``2^(n/2)`` of them; their sum, which the largest code switches, is scaled
    back, so that mismatch bends the scale without stretching it. The threshold of code 0 is no comparison's.

    Source: imc 6, ADC INL (CrossSim, not split).
    """
    xp, step = array_namespace(like), adc.step(arch)
    adcs, bits = xp.arange(arch.adcs, dtype=xp.int64)[:, None], xp.arange(adc.bits, dtype=xp.int64)
    units = xp.asarray([1 << SPREAD + n for n in range(adc.bits)])
    spread = xp.asarray([_fixed(p.mismatch * 2 ** (n / 2), SPREAD) for n in range(adc.bits)])
    z = gaussian(p.seed, Kind.CAPACITOR, bank, adcs, bits, scale=1 << FRACTION)
    capacitors = units + (z * spread + (1 << FRACTION - 1) >> FRACTION)
    switched = xp.arange(1 << adc.bits, dtype=xp.int64)[:, None] >> bits & 1
    ladder = capacitors @ switched.T * (((1 << adc.bits) - 1) * step) // xp.sum(capacitors, axis=-1)[:, None]
    moved = gaussian(p.seed, Kind.OFFSET, bank, adcs, scale=_fixed(p.offset * step, 0))
    return ladder - (step >> 1) - moved
