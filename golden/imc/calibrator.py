"""Calibration of the ADCs of a tile on a reference: offsets in digits, or trim codes of the comparators."""

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from golden.imc.converter import mean
from golden.imc.macro import Macro, convert
from golden.network import Array


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What a calibration found.

    numbers : int64 [adcs], offsets in code steps, or trim codes
    failed : bool [adcs], beyond the limit
    """

    numbers: Array
    failed: Array


def offsets(macro: Macro, *, pedestal: int, log2: int, limit: int, trim: Array | None = None, phase: int = 0) -> Calibrated:
    """Return what ``2^log2`` phases with a pedestal give beyond it, the mean over their columns, rounded half up.

    pedestal : what each ADC converts in place of its columns, in steps; 0 sees no negative offset
    limit : an offset beyond ``+-limit`` has failed
    phase : of the first conversions; each phase converts all columns of every ADC, without word lines

    Source: imc 10, B3, modes 0 (zero input) and 1 (pedestal).
    """
    total = _codes(macro, 2 * pedestal, log2, trim, phase)
    found = mean(total, log2 + macro.arch.mux.bit_length() - 1) - pedestal
    return Calibrated(numbers=found, failed=abs(found) > limit)


def trims(macro: Macro, *, pedestal: int, log2: int, limit: int, phase: int = 0) -> Calibrated:
    """Return the largest trim codes at which half of the conversions of ``pedestal - 1/2`` reach ``pedestal``.

    A bit of the code stays, from the highest on, while the codes of ``2^log2`` phases add up to half a step above their number
    times ``pedestal - 1`` or more: thresholds are still low.

    limit : in half code steps; a mean code at the end of the search that is further from ``pedestal - 1/2`` has failed

    Source: imc 10, B3, mode 2 (NeuRRAM's calibration of comparators).
    """
    arch = macro.arch
    xp = array_namespace(macro.thresholds)
    counted = log2 + arch.mux.bit_length() - 1
    wanted = (2 * pedestal - 1) << counted
    code = xp.zeros((arch.adcs,), dtype=xp.int64)
    for bit in reversed(range(arch.trim_bits)):
        tried = code + (1 << bit)
        total = _codes(macro, 2 * pedestal - 1, log2, tried, phase)
        code = xp.where(2 * total >= wanted, tried, code)
        phase += 1 << log2
    total = _codes(macro, 2 * pedestal - 1, log2, code, phase)
    return Calibrated(numbers=code, failed=abs(2 * total - wanted) > limit << counted)


def _codes(macro: Macro, halves: int, log2: int, trim: Array | None, phase: int) -> Array:
    """Return int64 [adcs], the sum of the codes of a reference of ``halves`` half steps over phases and columns."""
    arch = macro.arch
    xp = array_namespace(macro.thresholds)
    column = xp.arange(arch.cols, dtype=xp.int64)
    at: dict[str, Any] = {"phase": xp.arange(phase, phase + (1 << log2), dtype=xp.int64)[:, None]}
    reference = xp.full((1 << log2, arch.cols), halves * macro.step >> 1, dtype=xp.int64)
    codes = convert(macro, macro.sample(reference, column, **at), column, trim=trim, **at)
    return xp.sum(xp.reshape(codes, (1 << log2, arch.adcs, arch.mux)), axis=(0, 2))
