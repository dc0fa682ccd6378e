"""Sweep of programming pulses: width, word-line code and bit-line code, one nested in the other."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.imc.arch import BIT_BITS, EXPONENT_BITS, MANTISSA_BITS, ORDERS, PULSE_BITS, WORD_BITS
from hdl.block import Block

WIDTH_BITS = MANTISSA_BITS + (1 << EXPONENT_BITS) - 1


def pulses_layout() -> data.StructLayout:
    """Return the settings of one polarity, with the names of `golden.imc.pulse_sweep.Pulses`."""
    def sweep(bits: int) -> data.StructLayout:
        return data.StructLayout({"start": bits, "stop": bits, "step": bits})

    return data.StructLayout({"width": sweep(MANTISSA_BITS), "exponent": EXPONENT_BITS, "word": sweep(WORD_BITS),
                              "bit": sweep(BIT_BITS), "count": PULSE_BITS})


class PulseSweep(Block):
    """Give the numbers of one pulse after the other.

    Twin of `golden.imc.pulse_sweep.pulse_sweep`. A width of 0 is given as 0; an order that does not exist moves nothing.

    Members
    -------
    pulses : In, `pulses_layout`; order : In(3); both stand from ``start`` on
    start : In(1), the first pulse stands from the next cycle on; step : In(1), so does the next one
    width, vwl, vbl : Out, of the pulse

    Source: imc 10, B9.
    """

    def __init__(self) -> None:
        super().__init__({"pulses": In(pulses_layout()), "order": In(range(len(ORDERS))), "start": In(1), "step": In(1),
                          "width": Out(WIDTH_BITS), "vwl": Out(WORD_BITS), "vbl": Out(BIT_BITS)})

    def build(self) -> Module:
        m, pulses = Module(), self.pulses
        axes = {"P": (Signal(MANTISSA_BITS, name="mantissa"), pulses.width), "W": (self.vwl, pulses.word),
                "B": (self.vbl, pulses.bit)}
        moves = {axis: Signal(name=f"moves_{axis}") for axis in axes}
        again = {axis: Signal(name=f"again_{axis}") for axis in axes}
        below = {axis: Signal(name=f"below_{axis}") for axis in axes}
        m.d.comb += self.width.eq(axes["P"][0] << pulses.exponent)
        for axis, (value, sweep) in axes.items():
            after = Signal(len(value) + 1, name=f"after_{axis}")
            m.d.comb += [below[axis].eq(value < sweep.stop), after.eq(value + sweep.step)]
            with m.If(self.start | again[axis]):
                m.d.sync += value.eq(sweep.start)
            with m.Elif(moves[axis]):
                m.d.sync += value.eq(Mux(after > sweep.stop, sweep.stop, after))
        with m.If(self.step), m.Switch(self.order):
            for number, order in enumerate(ORDERS):
                outer, middle, inner = tuple(order)
                with m.Case(number):
                    with m.If(below[inner]):
                        m.d.comb += moves[inner].eq(1)
                    with m.Elif(below[middle]):
                        m.d.comb += [moves[middle].eq(1), again[inner].eq(1)]
                    with m.Elif(below[outer]):
                        m.d.comb += [moves[outer].eq(1), again[inner].eq(1), again[middle].eq(1)]
        return m
