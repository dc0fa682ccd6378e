"""Sweep of programming pulses: width, word-line code and bit-line code, one nested in the other."""

from collections.abc import Iterator
from dataclasses import dataclass

from golden.arch import require
from golden.imc.arch import BIT_BITS, EXPONENT_BITS, MANTISSA_BITS, ORDERS, PULSE_BITS, WORD_BITS


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One number of a pulse, from ``start`` to ``stop`` in steps of ``step``; it never goes beyond ``stop``."""

    start: int
    stop: int
    step: int = 1


@dataclass(frozen=True, kw_only=True)
class Pulses:
    """The pulses of one polarity.

    width : mantissas of the width, which is ``mantissa << exponent`` cycles, at least 1
    exponent : of the width; the mantissa alone is swept, so that a longer sweep is never a shorter pulse
    word, bit : codes of the DACs of word line and bit line
    count : most pulses before the other polarity has its turn; 0: this polarity has no pulses
    """

    width: Sweep = Sweep(start=1, stop=1)
    exponent: int = 0
    word: Sweep = Sweep(start=0, stop=0)
    bit: Sweep = Sweep(start=0, stop=0)
    count: int = 0

    def __post_init__(self) -> None:
        for name, sweep, bits in (("width", self.width, MANTISSA_BITS), ("word", self.word, WORD_BITS),
                                  ("bit", self.bit, BIT_BITS)):
            most = (1 << bits) - 1
            require(0 <= sweep.start <= sweep.stop <= most, f"{name}: start and stop", (sweep.start, sweep.stop),
                    f"in 0..{most} and in order")
            require(1 <= sweep.step <= most, f"{name}: step", sweep.step, f"in 1..{most}")
        require(0 <= self.exponent < 1 << EXPONENT_BITS, "exponent", self.exponent, f"in 0..{(1 << EXPONENT_BITS) - 1}")
        require(0 <= self.count < 1 << PULSE_BITS, "count", self.count, f"in 0..{(1 << PULSE_BITS) - 1}")


NO_PULSES = Pulses()


def pulse_sweep(pulses: Pulses, order: int) -> Iterator[tuple[int, int, int]]:
    """Yield (width in cycles, word-line code, bit-line code) of one pulse after the other, for ever.

    order : of `ORDERS`; the last letter is the innermost loop, which steps with every pulse. A loop at its stop starts again
        when the next outer one steps; when all are at their stops, all stay there

    Source: imc 10, B9; imc 7: a sweep of EMBER could step past its stop.
    """
    ranges = {"P": pulses.width, "W": pulses.word, "B": pulses.bit}
    at = {axis: sweep.start for axis, sweep in ranges.items()}
    while True:
        yield max(1, at["P"] << pulses.exponent), at["W"], at["B"]
        inner = ORDERS[order][::-1]
        moves = next((place for place, axis in enumerate(inner) if at[axis] < ranges[axis].stop), None)
        if moves is not None:
            at |= {axis: ranges[axis].start for axis in inner[:moves]}
            axis = inner[moves]
            at[axis] = min(at[axis] + ranges[axis].step, ranges[axis].stop)
