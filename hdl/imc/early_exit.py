"""Early exit: adds up what is read out, and tells when the sums of the two best classes are far enough apart."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.imc.lane import Lane
from hdl.imc.layer import exit_layout
from hdl.imc.update import update


class EarlyExit(Block):
    """Add the sums of each step of an image to those before, and stop at the first step t with a margin of ``t * threshold``.

    Twin of `golden.imc.early_exit.early_exit`. A sum a cycle, offered in the cycle after, full back-pressure; the verdict on a
    step stands 2 cycles after its last sum has left.

    Members
    -------
    settings : In, {classes, fresh, steps, threshold}; 2 classes or more; ``fresh``: the first step of an image; ``steps``:
        1..t_max, the last of which stops, or 0: sums pass as they are, and there is no verdict. They stand until ``idle``
    start : In(1), sums of a step may come from the next cycle on; while ``idle``
    i : In(stream), `hdl.imc.lane.Lane.o_layout`, each class of the step once, in any order
    o : Out(stream), the same, sums over all steps so far
    idle : Out(1), no sum is on its way
    verdict : Out, {valid, stop, step, channel, margin}: whether to stop, the number of steps so far, the best class, of equal
        ones the lowest, its distance from the second; ``valid`` up to the next start, ``step`` also behind it

    Source: imc 10, B12.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "settings": In(self.settings_layout(p)), "start": In(1), "i": In(stream.Signature(Lane.o_layout(p))),
            "o": Out(stream.Signature(Lane.o_layout(p))), "idle": Out(1), "verdict": Out(self.verdict_layout(p)),
        })

    @staticmethod
    def settings_layout(p: ImcArch) -> data.StructLayout:
        """Return the run-time settings."""
        return data.StructLayout({"classes": range(p.channels + 1), "fresh": 1, **exit_layout().members})

    @staticmethod
    def verdict_layout(p: ImcArch) -> data.StructLayout:
        """Return what is told of a step."""
        return data.StructLayout({"valid": 1, "stop": 1, "step": range(p.t_max + 1), "channel": range(max(2, p.channels)),
                                  "margin": p.stream_bits})

    def build(self) -> Module:
        """Return the contents: a sum waits one cycle for those of its class before it."""
        m, p, o, settings, verdict = Module(), self.params, self.o, self.settings, self.verdict
        m.submodules.ram = ram = Ram(p.stream_bits, max(2, p.channels))
        stage = update(m, self.i, self.i.p.channel, ram)
        total, best, second = (Signal(signed(p.stream_bits), name=name) for name in ("total", "best", "second"))
        channel, label, taken = stage.held.channel, verdict.channel, Signal(range(p.channels + 1))
        needed, margin = Signal(len(settings.threshold) + len(verdict.step)), Signal(p.stream_bits)
        works, wins, full = Signal(), Signal(), Signal()
        m.d.comb += [
            works.eq(settings.steps != 0), o.valid.eq(stage.busy), stage.leave.eq(stage.busy & o.ready),
            self.idle.eq(~stage.busy),
            total.eq(stage.held.d + Mux(works & ~settings.fresh, stage.word.as_signed(), 0)), o.p.channel.eq(channel),
            o.p.d.eq(total), ram.w_en.eq(stage.leave & works), ram.w_addr.eq(channel), ram.w_data.eq(total),
            wins.eq((taken == 0) | (total > best) | ((total == best) & (channel < label))), margin.eq(best - second),
        ]
        with m.If(stage.leave & works):
            m.d.sync += [taken.eq(taken + 1), best.eq(Mux(wins, total, best)), label.eq(Mux(wins, channel, label))]
            with m.If((taken == 1) | wins | (total > second)):
                m.d.sync += second.eq(Mux(wins, best, total))
            with m.If(taken + 1 == settings.classes):
                m.d.sync += [full.eq(1), taken.eq(0), verdict.step.eq(verdict.step + 1), needed.eq(needed + settings.threshold)]
        with m.If(full):
            m.d.sync += [full.eq(0), verdict.valid.eq(1), verdict.margin.eq(margin),
                         verdict.stop.eq((margin >= needed) | (verdict.step == settings.steps))]
        with m.If(self.start):
            m.d.sync += verdict.valid.eq(0)
            with m.If(settings.fresh):
                m.d.sync += [verdict.step.eq(0), needed.eq(0)]
        return m
