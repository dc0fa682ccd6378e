"""Calibration of a tile: on a reference offsets of ADCs or trim codes of comparators, on a vector gains of columns."""

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from golden.imc.converter import mean
from golden.imc.macro import Macro, convert
from golden.imc.root_divide import divide
from golden.network import Array


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What a calibration found.

    numbers : int64 [adcs], offsets in code steps, or trim codes; int64 [cols], gains
    failed : bool of the same shape, beyond the limit
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


def gains(macro: Macro, *, lines: Array, reference: Array, log2: int, limit: int, trim: Array | None = None,
          offset: Array | None = None, phase: int = 0, phases: int = 1) -> Calibrated:
    """Return what the codes of a vector must be multiplied by to be the reference: ``reference / measured``, rounded half up.

    Measured is the sum of the codes of ``2^log2`` phases, less the offset of their ADC. Each of the ``mux`` columns of an ADC
    has its own phases, one column after the other, so that an ADC needs one sum.

    lines : int64 [rows] in 0..1, the rows that are driven, at most ``group_rows`` of them, which lie in one group
    reference : int64 [cols], codes that the columns ought to give, in ``0..2^adc_bits - 1``; 0: the column keeps a gain of 1
    limit : in units of ``2^-gain_bits``, below ``2^gain_bits``; a gain further from 1 has failed, and is 1, as where nothing is
        measured
    offset : int64 [adcs]
    phases : of a vector, as the macro counts them; the one measured is the first

    Source: imc 10, B3, mode 3 (per-column compensation of drift).
    """
    arch = macro.arch
    xp = array_namespace(macro.thresholds)
    column = xp.arange(arch.cols, dtype=xp.int64)
    number = phase + phases * ((column % arch.mux << log2) + xp.arange(1 << log2, dtype=xp.int64)[:, None])
    value = xp.broadcast_to(macro.columns(lines), number.shape)
    codes = convert(macro, macro.sample(value, column, phase=number), column, trim=trim, phase=number)
    if offset is not None:
        codes = codes - xp.repeat(offset, arch.mux)
    measured = xp.sum(codes, axis=0)
    seen = xp.clip(measured, 0, None)
    one = 1 << arch.gain_bits
    found = divide((reference << log2 + arch.gain_bits) + (seen >> 1), seen, bits=62)
    failed = (reference != 0) & ((measured <= 0) | (abs(found - one) > limit))
    return Calibrated(numbers=xp.where(failed | (reference == 0), one, found), failed=failed)


def _codes(macro: Macro, halves: int, log2: int, trim: Array | None, phase: int) -> Array:
    """Return int64 [adcs], the sum of the codes of a reference of ``halves`` half steps over phases and columns."""
    arch = macro.arch
    xp = array_namespace(macro.thresholds)
    column = xp.arange(arch.cols, dtype=xp.int64)
    at: dict[str, Any] = {"phase": xp.arange(phase, phase + (1 << log2), dtype=xp.int64)[:, None]}
    reference = xp.full((1 << log2, arch.cols), halves * macro.step >> 1, dtype=xp.int64)
    codes = convert(macro, macro.sample(reference, column, **at), column, trim=trim, **at)
    return xp.sum(xp.reshape(codes, (1 << log2, arch.adcs, arch.mux)), axis=(0, 2))
