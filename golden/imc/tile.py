"""What a tile computes: outputs of vectors from the codes of its macro."""

from dataclasses import dataclass, field

from array_api_compat import array_namespace

from golden.arch import ParameterError
from golden.imc.arch import ImcArch
from golden.imc.correction import Correction, check_numbers, correct
from golden.imc.macro import Macro
from golden.imc.shift_add import shift_add
from golden.imc.signed_combine import signed_combine
from golden.imc.word_lines import lines
from golden.network import Array


@dataclass(frozen=True, kw_only=True)
class Program:
    """How a tile runs a vector; run-time settings.

    scheme : of the weights in its cells
    bits : of an input, 1 for spikes
    signed : inputs are two's complement
    skip : phases that drive no row rest, and add nothing
    correction : of the codes
    trim : int64 [adcs], codes of the comparators in ``0..2^trim_bits - 1``; None: the middle
    """

    scheme: str
    bits: int = 1
    signed: bool = False
    skip: bool = False
    correction: Correction = field(default_factory=Correction)
    trim: Array | None = None

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

    With an ideal macro and a lossless ADC y is exactly ``weight @ x``. Its magnitude is below ``2^(sum_bits - 1)`` of the tile,
    at most 2^45.

    Raises ParameterError for inputs that do not fit, or a calibration of another shape or beyond its range.

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
                          trim=program.trim)
    driven = xp.sum(driven_rows, axis=-1)
    works = xp.astype(driven > 0, xp.int64)[..., None] if program.skip else 1
    codes = codes * works
    corrected = correct(arch, program.correction, codes) * works
    sums = shift_add(corrected, arch.places(program.scheme))
    return TileTrace(lines=driven_rows, codes=codes, corrected=corrected,
                     y=signed_combine(arch, program.scheme, sums, driven, bits=program.bits, signed=program.signed))


def _check(arch: ImcArch, program: Program, x: Array) -> None:
    xp = array_namespace(x)
    if x.shape[1] > arch.rows:
        raise ParameterError(f"vector: inputs, not {x.shape[1]}; legal: 1..{arch.rows} on {arch.name}; try: more tiles")
    low, high = (-(1 << program.bits - 1), (1 << program.bits - 1) - 1) if program.signed else (0, (1 << program.bits) - 1)
    for value in (int(xp.min(x)), int(xp.max(x))):
        if not low <= value <= high:
            raise ParameterError(f"vector: value, not {value}; legal: {low}..{high} with {program.bits} bits; "
                                 f"try: bits={max(value, ~value).bit_length() + program.signed}")
    program.correction.check(arch)
    check_numbers("trim", program.trim, arch.adcs, 0, (1 << arch.trim_bits) - 1)
