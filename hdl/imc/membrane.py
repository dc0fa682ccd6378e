"""Membrane memory and the neuron step: one step of one neuron a cycle, in any order of neurons."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.arch import LifParams
from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.imc.update import update
from hdl.parallel_lif import neuron_step


class Membrane(Block):
    """Step a neuron and keep its membrane until its next step.

    Twin of `golden.imc.membrane.membrane`. One current a cycle, also of the same neuron; its spike is offered 2 cycles after it
    is accepted, full back-pressure. Time outside (the whole layer, then the next step) and time inside (all steps of a neuron,
    then the next neuron) give the same spikes.

    A membrane never wraps: the mapping proves ``|h| <= T * (X + |threshold|) < 2^(membrane_bits - 1)`` for currents of up to X
    and T steps, times the channels that share it, or the closer bounds of `golden.limits.membrane_bounds`, h as well as the
    sums inside the step.

    Parameters
    ----------
    tag_bits : int
        What comes with a current and leaves with its spike.

    Members
    -------
    settings : In, {leak_shift (0..2), decay_input, strict (``>``), reset (`hdl.parallel_lif.Reset`)}; stands while a current is
        on its way
    i : In(stream), {address, x, threshold, first, tag}; ``first``: the neuron starts at rest, whatever the memory holds
    o : Out(stream), {spike, tag}

    Source: imc 10, B8; DESIGN 3, neuron step.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, p: ImcArch, tag_bits: int) -> None:
        self.params: tuple[ImcArch, int] = (p, tag_bits)
        super().__init__({
            "settings": In(self.settings_layout()), "i": In(stream.Signature(self.i_layout(p, tag_bits))),
            "o": Out(stream.Signature(self.o_layout(tag_bits))),
        })

    @staticmethod
    def settings_layout() -> data.StructLayout:
        """Return the run-time settings."""
        return data.StructLayout({"leak_shift": 2, "decay_input": 1, "strict": 1, "reset": 2})

    @staticmethod
    def i_layout(p: ImcArch, tag_bits: int) -> data.StructLayout:
        """Return the payload of ``i``."""
        return data.StructLayout({
            "address": range(p.membranes), "x": signed(p.stream_bits), "threshold": signed(p.membrane_bits), "first": 1,
            "tag": tag_bits})

    @staticmethod
    def o_layout(tag_bits: int) -> data.StructLayout:
        """Return the payload of ``o``."""
        return data.StructLayout({"spike": 1, "tag": tag_bits})

    def build(self) -> Module:
        """Return the contents: a current waits one cycle for the membrane of its neuron."""
        m, i, o, settings = Module(), self.i, self.o, self.settings
        p, _ = self.params
        lif = LifParams(t_max=p.t_max, stream_bits=p.stream_bits, membrane_bits=p.membrane_bits)
        layout = data.StructLayout({"v": signed(p.membrane_bits), "owed": 1})
        m.submodules.ram = ram = Ram(layout.size, p.membranes)
        stage = update(m, i, i.p.address, ram)
        held, old = stage.held, data.View(layout, stage.word)
        v = Signal(signed(p.membrane_bits))
        m.d.comb += v.eq(Mux(held.first, 0, old.v))
        fire, (v_next, owed_next) = neuron_step(
            m, lif, v, old.owed & ~held.first, x=held.x, threshold=held.threshold, leak_shift=settings.leak_shift,
            decay_input=settings.decay_input, strict=settings.strict, reset=settings.reset, name="_next")
        m.d.comb += [
            stage.leave.eq(stage.busy & (~o.valid | o.ready)),
            ram.w_en.eq(stage.leave), ram.w_addr.eq(held.address), ram.w_data.eq(Cat(v_next, owed_next)),
        ]
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(stage.leave):
            m.d.sync += [o.valid.eq(1), o.p.spike.eq(fire), o.p.tag.eq(held.tag)]
        return m
