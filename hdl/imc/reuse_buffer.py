"""Attention reuse: keeps the attention output of a layer, and gives it again to later layers in place of their own."""

from dataclasses import replace
from enum import IntEnum

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.imc.scale import Scale

LAYER_BITS = 5


class ReuseMode(IntEnum):
    """Where values go that are given again; all from NORM on through a normalisation first."""

    SKIP = 0            # nowhere: there are none
    IDENTITY = 1        # to the residual
    NORM = 2            # and to the residual
    LINEAR = 3          # and to a linear layer on a static crossbar
    ACTIVATION = 4      # and through a table behind it


class ReuseBuffer(Block):
    """Hand the attention output of a layer on and keep it, or give a kept one again.

    Twin of `golden.imc.reuse_buffer.reuse_buffer`. A layer without reuse passes a value a cycle, in the cycle in which it
    comes; one that reuses gives the first value 6 cycles after ``start``, then one a cycle. Full back-pressure.

    Parameters
    ----------
    values : int
        Most values of an attention output, tokens times channels.

    Members
    -------
    settings : In, {number, keep, reuse, src, mode, mult, shift, count}; ``mode`` a `ReuseMode`, ``count`` in 1..values; a
        layer keeps or reuses, not both; stands from ``start`` until ``done``
    start : In(1), a layer begins, not while ``busy``; busy : Out(1)
    done : Out(1), high for a cycle: its last value is taken, or there is none, with SKIP and with an error, 1 cycle after start
    attention_skip : Out(1), no attention is computed and no K or V written; route : Out, a `ReuseMode`, IDENTITY without reuse;
        tag_error : Out(1), the slot has not what layer ``src`` kept; all from the cycle after ``start`` until the next one
    tb_start : Out(1), high in the cycle after ``start`` when a transformation begins
    i : In(stream), {a}, the attention's output; o : Out(stream), {a, last}

    Source: imc 10, B10.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, p: ImcArch, values: int) -> None:
        self.params: tuple[ImcArch, int] = (p, values)
        super().__init__({
            "settings": In(self.settings_layout(values)), "start": In(1), "busy": Out(1), "done": Out(1),
            "attention_skip": Out(1), "route": Out(3), "tb_start": Out(1), "tag_error": Out(1),
            "i": In(stream.Signature(data.StructLayout({"a": signed(8)}))),
            "o": Out(stream.Signature(data.StructLayout({"a": signed(8), "last": 1}))),
        })

    @staticmethod
    def settings_layout(values: int) -> data.StructLayout:
        """Return the run-time settings."""
        return data.StructLayout({
            "number": LAYER_BITS, "keep": 1, "reuse": 1, "src": LAYER_BITS, "mode": 3, "mult": 16, "shift": 5,
            "count": range(values + 1)})

    def build(self) -> Module:
        m, i, o, settings = Module(), self.i, self.o, self.settings
        _, values = self.params
        m.submodules.slot = slot = Ram(8, max(2, values))
        n, kept, tag, wrong = Signal(range(values + 1)), Signal(), Signal(LAYER_BITS), Signal()
        passes, plays, ends = Signal(), Signal(), Signal()
        m.d.comb += [
            wrong.eq(settings.reuse & (settings.mode != ReuseMode.SKIP) & ~(kept & (tag == settings.src))),
            slot.w_en.eq(passes & settings.keep & i.valid & o.ready), slot.w_addr.eq(n), slot.w_data.eq(i.p.a),
            ends.eq(o.valid & o.ready & o.p.last),
        ]
        scale = self._again(m, slot, n, plays)
        with m.If(passes):
            m.d.comb += [o.valid.eq(i.valid), i.ready.eq(o.ready), o.p.a.eq(i.p.a), o.p.last.eq(n + 1 == settings.count)]
            m.d.sync += n.eq(n + (i.valid & o.ready))
        with m.Else():
            m.d.comb += [o.valid.eq(scale.o.valid), o.p.a.eq(scale.o.p.q), o.p.last.eq(scale.o.p.tag)]
        with m.FSM() as states:
            m.d.comb += [self.busy.eq(~states.ongoing("IDLE")), passes.eq(states.ongoing("PASS")),
                         plays.eq(states.ongoing("PLAY"))]
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [
                    n.eq(0), self.attention_skip.eq(settings.reuse), self.tag_error.eq(wrong),
                    self.route.eq(Mux(settings.reuse, settings.mode, ReuseMode.IDENTITY)),
                    self.tb_start.eq(settings.reuse & (settings.mode >= ReuseMode.NORM) & ~wrong)]
                m.next = "PASS"
                with m.If(settings.reuse):
                    m.next = "PLAY"
                    with m.If(wrong | (settings.mode == ReuseMode.SKIP)):
                        m.next = "NOTHING"
                with m.Elif(settings.keep):
                    m.d.sync += kept.eq(0)
            with m.State("PASS"), m.If(ends):
                m.d.comb += self.done.eq(1)
                with m.If(settings.keep):
                    m.d.sync += [kept.eq(1), tag.eq(settings.number)]
                m.next = "IDLE"
            with m.State("PLAY"):
                m.d.sync += self.tb_start.eq(0)
                with m.If(ends):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
            with m.State("NOTHING"):
                m.d.comb += self.done.eq(1)
                m.next = "IDLE"
        return m

    def _again(self, m: Module, slot: Ram, n: Signal, plays: Signal) -> Scale:
        """Read the slot while ``plays``, and requantise what it holds; return the stage that gives it."""
        p, _ = self.params
        m.submodules.scale = scale = Scale(replace(p, stream_bits=16), 1)
        settings, full, last, move, reads = self.settings, Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            move.eq(~full | scale.i.ready), reads.eq(plays & (n != settings.count) & move),
            slot.r_en.eq(reads), slot.r_addr.eq(n), scale.settings.bits.eq(8), scale.settings.is_signed.eq(1),
            scale.i.valid.eq(full), scale.i.p.x.eq(slot.r_data.as_signed()), scale.i.p.mult.eq(settings.mult),
            scale.i.p.shift.eq(settings.shift), scale.i.p.tag.eq(last), scale.o.ready.eq(plays & self.o.ready),
        ]
        with m.If(move):
            m.d.sync += full.eq(reads)
        with m.If(reads):
            m.d.sync += [n.eq(n + 1), last.eq(n + 1 == settings.count)]
        return scale
