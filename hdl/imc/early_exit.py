"""Early exit: tells when the sums of the two best classes are far enough apart."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block

THRESHOLD_BITS = 31


class EarlyExit(Block):
    """Find the largest and the second sum of each step, and stop at the first step t with a margin of ``t * threshold``.

    Twin of `golden.imc.early_exit.early_exit`. A sum a cycle, classes in any order; the verdict on a step is offered 2
    cycles after its last sum is accepted, and the next step begins when it is taken.

    Members
    -------
    settings : In, {classes, steps, threshold}; 2 classes or more, 1..t_max steps; stands from ``start`` on
    start : In(1), an image begins with the next sum; not while a step is half taken
    i : In(stream), {channel, d}, `hdl.imc.lane.Lane.o_layout`, each class of the step once, sums over all steps so far
    o : Out(stream), {stop, step, channel, margin}: whether to stop, the number of steps so far, the best class, of equal ones
        the lowest, its distance from the second

    Source: imc 10, B12.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "settings": In(self.settings_layout(p)), "start": In(1), "i": In(stream.Signature(self.i_layout(p))),
            "o": Out(stream.Signature(self.o_layout(p))),
        })

    @staticmethod
    def settings_layout(p: ImcArch) -> data.StructLayout:
        """Return the run-time settings."""
        return data.StructLayout({"classes": range(p.channels + 1), "steps": range(p.t_max + 1), "threshold": THRESHOLD_BITS})

    @staticmethod
    def i_layout(p: ImcArch) -> data.StructLayout:
        """Return the payload of ``i``."""
        return data.StructLayout({"channel": range(max(2, p.channels)), "d": signed(p.stream_bits)})

    @staticmethod
    def o_layout(p: ImcArch) -> data.StructLayout:
        """Return the payload of ``o``."""
        return data.StructLayout({"stop": 1, "step": range(p.t_max + 1), "channel": range(max(2, p.channels)),
                                  "margin": p.stream_bits})

    def build(self) -> Module:
        m, p, i, o, settings = Module(), self.params, self.i, self.o, self.settings
        best, second, label = Signal(signed(p.stream_bits)), Signal(signed(p.stream_bits)), Signal.like(i.p.channel)
        taken, step, needed = Signal(range(p.channels + 1)), Signal.like(o.p.step), Signal(THRESHOLD_BITS + 4)
        wins, take, full, margin = Signal(), Signal(), Signal(), Signal(p.stream_bits)
        m.d.comb += [
            i.ready.eq(~full & ~o.valid), take.eq(i.valid & i.ready),
            wins.eq((taken == 0) | (i.p.d > best) | ((i.p.d == best) & (i.p.channel < label))),
            margin.eq(best - second),
        ]
        with m.If(take):
            m.d.sync += [taken.eq(taken + 1), best.eq(Mux(wins, i.p.d, best)), label.eq(Mux(wins, i.p.channel, label))]
            with m.If((taken == 1) | wins | (i.p.d > second)):
                m.d.sync += second.eq(Mux(wins, best, i.p.d))
            with m.If(taken + 1 == settings.classes):
                m.d.sync += [full.eq(1), taken.eq(0), step.eq(step + 1), needed.eq(needed + settings.threshold)]
        with m.If(full):
            m.d.sync += [full.eq(0), o.valid.eq(1), o.p.step.eq(step), o.p.channel.eq(label), o.p.margin.eq(margin),
                         o.p.stop.eq((margin >= needed) | (step == settings.steps))]
        with m.If(o.valid & o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(self.start):
            m.d.sync += [step.eq(0), needed.eq(0)]
        return m
