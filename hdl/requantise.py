"""Requantiser of all lanes: currents to integers of few bits, one bit of the multiplier a cycle."""

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from hdl.block import Block


class Requantise(Block):
    """Scale, round half up and clip the current of every lane.

    Twin of `golden.requantise.requantise`. The product is made from its lowest bit on and shifted right as it grows:
    what falls out below the point can never matter again (a floor of a floor), half a unit comes in as a carry with the
    last bit, and a factor below 1 keeps the sum inside ``stream_bits``. So a lane is one adder and two registers, without
    multiplier or barrel shifter, and all lanes share the multiplier's shift register. The words are offered
    ``shift + 1`` cycles after the currents are accepted, a column every ``shift + 1`` cycles, full back-pressure; a
    column that keeps the fullest lane busy for as many matches hides them.

    Members
    -------
    i : In(stream), `i_layout`
        Current of every lane; factor of the column, below 1: ``multiplier / 2^shift``, ``shift`` from 1 on (0 as 1);
        ``bits`` of a word in 1..t_max; ``is_signed``: two's complement instead of 0 and up.
    o : Out(stream), `o_layout`
        Word of every lane; bits from ``bits`` on are 0.

    Source: DESIGN 3, rounding; workloads 5.2, REQ.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, p: Arch) -> None:
        self.params = p
        super().__init__({"i": In(stream.Signature(self.i_layout(p))), "o": Out(stream.Signature(self.o_layout(p)))})

    @staticmethod
    def i_layout(p: Arch) -> data.StructLayout:
        """Return the payload of ``i``."""
        return data.StructLayout({
            "x": data.ArrayLayout(signed(p.stream_bits), p.lanes), "multiplier": unsigned(16), "shift": unsigned(5),
            "bits": unsigned(5), "is_signed": unsigned(1)})

    @staticmethod
    def o_layout(p: Arch) -> data.StructLayout:
        """Return the payload of ``o``."""
        return data.StructLayout({"words": data.ArrayLayout(p.t_max, p.lanes)})

    def build(self) -> Module:
        """Return the contents: idle, ``shift`` steps, then the words stand until they are taken."""
        m, p, i, o = Module(), self.params, self.i, self.o
        job, left, last = Signal(self.i_layout(p)), Signal(5), Signal()
        busy, step, take = Signal(), Signal(), Signal()
        limit, kept = Signal(signed(p.t_max + 1)), Signal(p.t_max)
        m.d.comb += [
            last.eq(left == 1), step.eq(busy & (left != 0)), o.valid.eq(busy & (left == 0)),
            i.ready.eq(~busy | (o.valid & o.ready)), take.eq(i.valid & i.ready),
            kept.eq((1 << job.bits) - 1), limit.eq(Mux(job.is_signed, kept >> 1, kept)),
        ]
        with m.If(take):
            m.d.sync += [job.eq(i.payload), left.eq(Mux(i.p.shift == 0, 1, i.p.shift)), busy.eq(1)]
        with m.Elif(o.valid & o.ready):
            m.d.sync += busy.eq(0)
        with m.Elif(step):
            m.d.sync += [left.eq(left - 1), job.multiplier.eq(job.multiplier >> 1)]
        for lane in range(p.lanes):
            scaled, total = Signal(signed(p.stream_bits), name=f"scaled_{lane}"), Signal(
                signed(p.stream_bits + 1), name=f"total_{lane}")
            negative, outside = Signal(name=f"negative_{lane}"), Signal(name=f"outside_{lane}")
            m.d.comb += [
                total.eq(scaled + Mux(job.multiplier[0], job.x[lane], 0) + last),
                negative.eq(scaled < 0), outside.eq((Mux(negative, ~scaled, scaled) & ~limit) != 0),
                o.p.words[lane].eq(kept & Mux(
                    negative & ~job.is_signed, 0, Mux(outside, Mux(negative, ~limit, limit), scaled))),
            ]
            with m.If(take):
                m.d.sync += scaled.eq(0)
            with m.Elif(step):
                m.d.sync += scaled.eq(total >> 1)
        return m
