"""Step sums of one lane: what the word bits of each pass add to each timestep."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from hdl.block import Block


def operation(p: Arch) -> wiring.Signature:
    """Return what the tail tells all lanes to do in this cycle; at most one of the three is high.

    identity : dot b is added to step b where ``steps`` is set
    plane : ``(-1)^negate * dots[bit] << shift`` is added to every step of ``steps``
    first : with identity or plane, the sums start from ``bias``
    load : the sums become ``bias``
    """
    return wiring.Signature({
        "identity": Out(1), "plane": Out(1), "load": Out(1), "first": Out(1), "steps": Out(p.t_max),
        "bit": Out(range(max(2, p.t_max))), "shift": Out(5), "negate": Out(1), "bias": Out(signed(p.stream_bits)),
    })


class PassSum(Block):
    """Sums over passes, one per timestep.

    Twin of `golden.pass_sum.pass_sum`. One operation a cycle, result in the next cycle. ``add`` adds stored currents to all
    steps at once; with an operation it is ignored. Nothing wraps: lowering proves the range for all inputs.
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        sums = data.ArrayLayout(signed(p.stream_bits), p.t_max)
        super().__init__({
            "op": In(operation(p)), "dots": In(data.ArrayLayout(signed(p.acc_bits), p.t_max)),
            "add": In(1), "currents": In(sums), "sums": Out(sums),
        })

    def build(self) -> Module:
        m, p, op = Module(), self.params, self.op
        dot, shared, negate, operate = Signal(signed(p.acc_bits)), Signal(signed(p.stream_bits)), Signal(), Signal()
        m.d.comb += [
            operate.eq(op.identity | op.plane | op.load),
            dot.eq(self.dots.as_value().word_select(op.bit, p.acc_bits)),
            negate.eq(op.plane & op.negate),
            shared.eq((dot << op.shift)[: p.stream_bits] ^ op.negate.replicate(p.stream_bits)),
        ]
        for t in range(p.t_max):
            total, here = self.sums[t], Signal(name=f"here_{t}")
            start, addend = Signal(signed(p.stream_bits), name=f"start_{t}"), Signal(signed(p.stream_bits), name=f"addend_{t}")
            added = Mux(op.identity, self.dots[t], Mux(op.plane, shared, self.currents[t]))
            m.d.comb += [
                here.eq(~operate | (op.steps[t] & ~op.load)),
                start.eq(Mux(operate & (op.first | op.load), op.bias, total)),
                addend.eq(Mux(here, added, 0)),
            ]
            with m.If(operate | self.add):
                m.d.sync += total.eq((Cat(1, start).as_signed() + Cat(negate & here, addend).as_signed()) >> 1)
        return m
