"""Normalisation of a row of the residual stream, one value a cycle in and one out."""

from itertools import pairwise
from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.imc.root_divide import RootDivide

X_BITS, Z_BITS, ROOT_BITS, INVERSE_BITS, EPS_BITS = 16, 12, 8, 40, 31
STAGES = 5


class Norm(Block):
    """Take the mean from a row, divide by its deviation, apply gain and bias of each channel, requantise to 8 bits.

    Twin of `golden.imc.norm.norm`. A row is taken a value a cycle and kept; its first output is offered ``2 * bits + 12``
    cycles after its last value is accepted, then one a cycle, full back-pressure. ``bits`` are those of the root, at least 41
    (`root_bits`). The next row is taken from the cycle on that follows the offer of the last output.

    Parameters
    ----------
    length : int
        Most values of a row, 1..4096.

    Members
    -------
    settings : In, {count, shift, eps, centred}; 1..length values of a row, ``eps`` at least 1; stands while a row is inside
    parameters : In, {valid, second, channel, number}: the host writes the gain of a channel, 16 bits, or (second) its bias, 32
    i : In(stream), {x}, 16 bits with sign; o : Out(stream), {q, last}

    Source: workloads 5.2, NORM.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, length: int) -> None:
        self.params: int = length
        super().__init__({
            "settings": In(self.settings_layout(length)), "parameters": In(self.parameters_layout(length)),
            "i": In(stream.Signature(data.StructLayout({"x": signed(X_BITS)}))),
            "o": Out(stream.Signature(data.StructLayout({"q": signed(8), "last": 1}))),
        })

    @staticmethod
    def settings_layout(length: int) -> data.StructLayout:
        """Return the run-time settings."""
        return data.StructLayout({"count": range(length + 1), "shift": 5, "eps": EPS_BITS, "centred": 1})

    @staticmethod
    def parameters_layout(length: int) -> data.StructLayout:
        """Return a number of the host."""
        return data.StructLayout({"valid": 1, "second": 1, "channel": range(max(2, length)), "number": 32})

    @staticmethod
    def spread_bits(length: int) -> int:
        """Return the width of ``V = D * Q - A^2 + eps <= 2^30 * D^2 + eps``."""
        return max(2 * (length - 1).bit_length() + 2 * X_BITS - 2, EPS_BITS) + 1

    @staticmethod
    def root_bits(length: int) -> int:
        """Return the digits of the root and of its inverse."""
        return max(INVERSE_BITS + 1, -(-(Norm.spread_bits(length) + 2 * ROOT_BITS) // 2))

    def build(self) -> Module:
        """Return the contents.

        ``|D * x - A| <= sqrt((D - 1) * V)`` and r is at least 256 times the root of D - 1 where that is not 0, so that
        ``|z| <= 2^12 * (sqrt(D - 1) + 2^-7)``, which is below 2^12 times the root of a power of 4 from D on, or 2^12 for a row
        over its length: z is that wide, whatever its factors are.
        """
        m, length, settings = Module(), self.params, self.settings
        m.submodules.row = row = Ram(X_BITS, max(2, length))
        m.submodules.unit = unit = RootDivide(self.root_bits(length))
        width, log2 = self.spread_bits(length), (length - 1).bit_length()
        total, squares = Signal(signed(X_BITS + log2)), Signal(2 * X_BITS - 1 + log2)
        weighted, squared, spread = Signal(width), Signal(width), Signal(width)
        root, inverse, n = Signal(self.root_bits(length)), Signal(INVERSE_BITS - ROOT_BITS + 1), Signal(range(length + 1))
        count, mean, empty = Signal.like(settings.count), Signal.like(total), Signal()
        reading = self._give(m, row, n, count, mean, inverse, empty)
        m.d.comb += [
            count.eq(Mux(settings.centred, settings.count, 1)), mean.eq(Mux(settings.centred, total, 0)),
            row.w_addr.eq(n), row.w_data.eq(self.i.p.x), row.w_en.eq(self.i.valid & self.i.ready),
            unit.i.p.n.eq(Mux(unit.i.p.root, spread << 2 * ROOT_BITS, 1 << INVERSE_BITS)), unit.i.p.d.eq(root),
        ]

        def ask(state: str, answer: Signal, then: str, **fields: int) -> None:
            with m.State(f"ASK_{state}"):
                m.d.comb += [unit.i.valid.eq(1), *(unit.i.p[name].eq(value) for name, value in fields.items())]
                m.next = state
            with m.State(state):
                m.d.comb += unit.o.ready.eq(1)
                m.d.sync += answer.eq(unit.o.p.q)
                with m.If(unit.o.valid):
                    m.next = then

        with m.FSM():
            with m.State("TAKE"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += [n.eq(n + 1), total.eq(total + self.i.p.x), squares.eq(squares + self.i.p.x * self.i.p.x)]
                    with m.If(n + 1 == settings.count):
                        m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.d.sync += [n.eq(0), weighted.eq(count * squares), squared.eq(mean * mean)]
                m.next = "SUBTRACT"
            with m.State("SUBTRACT"):
                m.d.sync += spread.eq(weighted - squared + settings.eps)
                m.next = "ASK_ROOT"
            ask("ROOT", root, "ASK_DIVIDE", root=1)
            ask("DIVIDE", inverse, "GIVE", root=0)
            with m.State("GIVE"):
                m.d.comb += reading.eq(n != settings.count)
                with m.If((n == settings.count) & empty):
                    m.d.sync += [n.eq(0), total.eq(0), squares.eq(0)]
                    m.next = "TAKE"
        return m

    def _give(self, m: Module, row: Ram, n: Signal, count: Signal, mean: Signal, inverse: Signal, empty: Signal) -> Signal:
        """Read the row again and normalise it, in stages that move together; return whether it is being read, to drive."""
        length, settings, o, write = self.params, self.settings, self.o, self.parameters
        reading, move, there, half = Signal(), Signal(), Signal(STAGES - 1), Signal(31)
        z_bits = Z_BITS + 1 + max(1, -(-(length - 1).bit_length() // 2))
        centre, z = Signal(signed(X_BITS + 1 + (length - 1).bit_length())), Signal(signed(z_bits))
        scaled, places = Signal(signed(max(z_bits + X_BITS, 32) + 1)), [Signal.like(n, name=f"place_{k}") for k in range(4)]
        rounded = Signal(signed(len(scaled) + 1))
        m.submodules.gains, m.submodules.biases = gains, biases = Ram(X_BITS, max(2, length)), Ram(32, max(2, length))
        both: Any = ((gains, 0), (biases, 1))
        for ram, second in both:
            m.d.comb += [
                ram.w_en.eq(write.valid & (write.second == second)), ram.w_addr.eq(write.channel), ram.w_data.eq(write.number),
                ram.r_en.eq(move), ram.r_addr.eq(places[1])]
        m.d.comb += [
            move.eq(~o.valid | o.ready), row.r_en.eq(reading & move), row.r_addr.eq(n), empty.eq(there == 0),
            half.eq((1 << settings.shift) >> 1), rounded.eq((scaled + half) >> settings.shift),
        ]
        with m.If(move):
            m.d.sync += [
                n.eq(n + reading), there.eq(there << 1 | reading), o.valid.eq(there[-1]), places[0].eq(n),
                *(later.eq(place) for place, later in pairwise(places)),
                centre.eq(count * row.r_data.as_signed() - mean), z.eq((centre * inverse) >> INVERSE_BITS - ROOT_BITS - Z_BITS),
                scaled.eq(z * gains.r_data.as_signed() + biases.r_data.as_signed()),
                o.p.q.eq(Mux(rounded > 127, 127, Mux(rounded < -128, -128, rounded))),
                o.p.last.eq(places[3] + 1 == settings.count),
            ]
        return reading
