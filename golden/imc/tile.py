"""What a tile computes: outputs of vectors from the codes of its macro."""

from dataclasses import dataclass, field

from array_api_compat import array_namespace

from golden.arch import ParameterError
from golden.imc.arch import ImcArch
from golden.imc.cells import combine
from golden.imc.converter import mean
from golden.imc.macro import Macro, convert
from golden.imc.word_lines import lines
from golden.network import Array


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a tile takes from its codes, and how it trims its comparators.

    offset : int64 [adcs] in code steps; None: 0
    gain : int64 [cols] with ``gain_bits`` fraction bits; None: 1
    trim : int64 [adcs], codes in ``0..2^trim_bits - 1``; None: the middle
    """

    offset: Array | None = None
    gain: Array | None = None
    trim: Array | None = None


@dataclass(frozen=True, kw_only=True)
class Program:
    """How a tile runs a vector; run-time settings.

    scheme : of the weights in its cells
    bits : of an input, 1 for spikes
    signed : inputs are two's complement
    skip : phases that drive no row rest, and add nothing
    """

    scheme: str
    bits: int = 1
    signed: bool = False
    skip: bool = False
    calibration: Calibration = field(default_factory=Calibration)

    def check(self, arch: ImcArch) -> None:
        """Raise `ParameterError` unless a tile can run so."""
        arch.check(self.scheme)
        if not 1 <= self.bits <= arch.input_bits:
            raise ParameterError(f"program: bits, not {self.bits}; legal: 1..{arch.input_bits} on {arch.name}; "
                                 f"try: bits={arch.input_bits}")


@dataclass(frozen=True, kw_only=True)
class TileTrace:
    """What a tile computed for a batch of vectors.

    lines : int64 [vectors, phases, rows] in 0..1, phase ``bit * groups + group``
    codes : int64 [vectors, phases, cols] from the ADCs, 0 where a phase was skipped
    corrected : int64 [vectors, phases, cols], less the offset, times the gain; signed; 0 where a phase was skipped
    y : int64 [vectors, outputs]
    """

    lines: Array
    codes: Array
    corrected: Array
    y: Array


def run_tile(macro: Macro, program: Program, x: Array, *, image: Array | int = 0, vector: Array | int = 0) -> TileTrace:
    """Return what a tile makes of vectors, int64 [vectors, inputs].

    x : integers of ``bits`` bits, in their range
    image, vector : int64 [vectors] or one for all; vector n of an image has the phases ``n * bits * groups`` and on, which key
        its noise; without ``vector`` all vectors have the phases of the first one

    ``y = sum over bits of +-2^bit * (sum over groups of combine(corrected))``, the highest bit of signed inputs negative. A
    corrected code is never clamped. With an ideal macro and a lossless ADC y is exactly ``weight @ x``.

    Below 2^63: a corrected code is below ``2^12 * 2^5`` (offsets below 2^11, gains below 2^5), `combine` adds at most 32 places
    below 2^16 each twice over, groups 256, bits 2^8: below 2^55.

    Raises ParameterError for inputs that do not fit, or a calibration of another shape.

    Source: imc 10, B1 to B5.
    """
    arch = macro.arch
    program.check(arch)
    _check(arch, program, x)
    xp = array_namespace(x)
    groups = arch.rows // arch.group_rows
    driven_rows = lines(x, rows=arch.rows, bits=program.bits, group_log2=arch.group_rows.bit_length() - 1, groups=groups)
    phases = driven_rows.shape[1]
    phase = xp.reshape(xp.asarray(vector, dtype=xp.int64), (-1, 1)) * phases + xp.arange(phases, dtype=xp.int64)
    codes = macro.convert(driven_rows, image=xp.reshape(xp.asarray(image, dtype=xp.int64), (-1, 1)), phase=phase,
                          trim=program.calibration.trim)
    driven = xp.sum(driven_rows, axis=-1)
    works = xp.astype(driven > 0, xp.int64)[..., None] if program.skip else 1
    codes = codes * works
    corrected = correct(arch, program.calibration, codes) * works
    parts = combine(arch, program.scheme, corrected, driven)
    sums = xp.sum(xp.reshape(parts, (x.shape[0], program.bits, groups, -1)), axis=2)
    weights = [1 << bit for bit in range(program.bits)]
    if program.signed:
        weights[-1] = -weights[-1]
    return TileTrace(lines=driven_rows, codes=codes, corrected=corrected,
                     y=xp.sum(sums * xp.asarray(weights, dtype=xp.int64)[:, None], axis=1))


def correct(arch: ImcArch, calibration: Calibration, codes: Array) -> Array:
    """Return int64 [..., cols]: codes less the offset of their ADC, times the gain of their column, rounded half up.

    Source: imc 10, B3.
    """
    xp = array_namespace(codes)
    if calibration.offset is not None:
        codes = codes - xp.repeat(calibration.offset, arch.mux)
    if calibration.gain is not None:
        codes = (codes * calibration.gain + (1 << arch.gain_bits - 1)) >> arch.gain_bits
    return codes


def pedestal_offset(macro: Macro, *, pedestal: int, log2: int, trim: Array | None = None, phase: int = 0) -> Array:
    """Return int64 [adcs], what ``2^log2`` conversions of a pedestal give beyond it, rounded half up.

    pedestal : what each ADC converts, in steps; an offset below ``-pedestal`` is not seen whole; 0 sees no negative one
    phase : of the first conversion; they take one phase each, on the first column of each ADC, without word lines

    Source: imc 10, B3, modes zero and pedestal.
    """
    arch = macro.arch
    xp = array_namespace(macro.thresholds)
    column = xp.arange(0, arch.cols, arch.mux, dtype=xp.int64)
    at = xp.arange(phase, phase + (1 << log2), dtype=xp.int64)[:, None]
    value = macro.sample(xp.full((1 << log2, arch.adcs), pedestal * macro.step, dtype=xp.int64), column, phase=at)
    total = xp.sum(convert(macro, value, column, phase=at, trim=trim), axis=0)
    return mean(total, log2) - pedestal


def _check(arch: ImcArch, program: Program, x: Array) -> None:
    xp = array_namespace(x)
    if x.shape[1] > arch.rows:
        raise ParameterError(f"vector: inputs, not {x.shape[1]}; legal: 1..{arch.rows} on {arch.name}; try: more tiles")
    low, high = (-(1 << program.bits - 1), (1 << program.bits - 1) - 1) if program.signed else (0, (1 << program.bits) - 1)
    for value in (int(xp.min(x)), int(xp.max(x))):
        if not low <= value <= high:
            raise ParameterError(f"vector: value, not {value}; legal: {low}..{high} with {program.bits} bits; "
                                 f"try: bits={max(value, ~value).bit_length() + program.signed}")
    for name, shape in (("offset", arch.adcs), ("gain", arch.cols), ("trim", arch.adcs)):
        part = getattr(program.calibration, name)
        if part is not None and tuple(part.shape) != (shape,):
            raise ParameterError(f"calibration: shape of {name}, not {tuple(part.shape)}; legal: {(shape,)}; "
                                 f"try: one {name} for each {'column' if name == 'gain' else 'ADC'}")
