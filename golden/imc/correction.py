"""What a tile takes from its codes: the offset of each ADC, the gain of each column."""

from dataclasses import dataclass

from array_api_compat import array_namespace

from golden.arch import ParameterError
from golden.imc.arch import ImcArch
from golden.network import Array


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What calibration found.

    offset : int64 [adcs] in code steps, ``|offset| < 2^adc_bits``; None: 0
    gain : int64 [cols] with ``gain_bits`` fraction bits, from 0 to below 2; None: 1
    """

    offset: Array | None = None
    gain: Array | None = None

    def check(self, arch: ImcArch) -> None:
        """Raise `ParameterError` unless shapes and ranges are a tile's."""
        offset, _, gain, _ = tile_ranges(arch)
        check_numbers("offset", self.offset, arch.adcs, *offset)
        check_numbers("gain", self.gain, arch.cols, *gain)


def tile_ranges(arch: ImcArch) -> tuple[tuple[int, int], ...]:
    """Return the smallest and the largest offset, trim code, gain, and code that a column ought to give."""
    most = (1 << arch.adc_bits) - 1
    return (-most, most), (0, (1 << arch.trim_bits) - 1), (0, (2 << arch.gain_bits) - 1), (0, most)


def check_numbers(name: str, numbers: Array | None, count: int, low: int, high: int) -> None:
    """Raise `ParameterError` unless there are ``count`` numbers in ``low..high``, or none."""
    if numbers is None:
        return
    if tuple(numbers.shape) != (count,):
        raise ParameterError(f"calibration: shape of {name}, not {tuple(numbers.shape)}; legal: {(count,)}; "
                             f"try: one {name} for each {'column' if name == 'gain' else 'ADC'}")
    for value in (int(numbers.min()), int(numbers.max())):
        if not low <= value <= high:
            raise ParameterError(f"calibration: {name}, not {value}; legal: {low}..{high}; "
                                 f"try: {name}={min(max(value, low), high)}")


def correct(arch: ImcArch, correction: Correction, codes: Array) -> Array:
    """Return int64 [..., cols]: codes less the offset of their ADC, times the gain of their column, rounded half up.

    A corrected code is signed and never clamped at 0, which would bias differences of columns.

    Source: imc 10, B3.
    """
    xp = array_namespace(codes)
    if correction.offset is not None:
        codes = codes - xp.repeat(correction.offset, arch.mux)
    if correction.gain is not None:
        codes = (codes * correction.gain + (1 << arch.gain_bits - 1)) >> arch.gain_bits
    return codes
