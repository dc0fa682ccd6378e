"""Parallel LIF: the spike word of one neuron from its currents of all timesteps."""

from enum import IntEnum

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.arch import LifParams
from hdl.block import Block


class Reset(IntEnum):
    """Code of what firing does to the membrane."""

    HARD = 0
    SOFT = 1
    SOFT_DELAYED = 2


class ParallelLif(Block):
    """Step a neuron from rest through its timesteps.

    Twin of `golden.parallel_lif.parallel_lif`. ``n = ceil(steps / steps_per_cycle)``: the word is offered ``n + 1``
    cycles after its currents are accepted, one neuron every ``n`` cycles, full back-pressure.

    Members
    -------
    i : In(stream), `i_layout`
        Currents, threshold, and how to step: ``leak_shift`` in 0..k_max, ``decay_input`` only with
        ``leak="2^-k"``, ``strict`` for ``>``, ``reset`` one of `Reset`, ``steps`` in 1..t_max.
    o : Out(stream), `o_layout`
        Spike word; bits from ``steps`` on are 0.

    Source: LoAS section IV-D, the P-LIF; DESIGN 3, neuron step.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, params: LifParams) -> None:
        self.params: LifParams = params
        super().__init__({
            "i": In(stream.Signature(self.i_layout(params))),
            "o": Out(stream.Signature(self.o_layout(params))),
        })

    @staticmethod
    def i_layout(params: LifParams) -> data.StructLayout:
        """Return the payload of ``i``."""
        return data.StructLayout({
            "x": data.ArrayLayout(signed(params.stream_bits), params.t_max),
            "threshold": signed(params.membrane_bits),
            "leak_shift": unsigned(2),
            "decay_input": unsigned(1),
            "strict": unsigned(1),
            "reset": unsigned(2),
            "steps": unsigned(5),
        })

    @staticmethod
    def o_layout(params: LifParams) -> data.StructLayout:
        """Return the payload of ``o``."""
        return data.StructLayout({"word": unsigned(params.t_max)})

    def build(self) -> Module:
        """Return the contents: a register of one neuron, whose currents move down a group of steps a cycle."""
        m = Module()
        p, i, o = self.params, self.i, self.o
        unrolled = min(p.steps_per_cycle, p.t_max)
        groups = -(-p.t_max // unrolled)

        job = Signal(self.i_layout(p))
        busy = Signal()
        left = Signal(5)
        group = Signal(range(groups + 1))
        v = Signal(signed(p.membrane_bits + p.fraction_bits))
        owed = Signal()
        word = Signal(p.t_max)

        state, fires = (v, owed), []
        for place in range(unrolled):
            fire, state = neuron_step(
                m, p, *state, x=job.x[place], threshold=job.threshold, leak_shift=job.leak_shift, decay_input=job.decay_input,
                strict=job.strict, reset=job.reset, name=f"_{place}")
            fires.append(fire & (left > place))
        word_next = Signal(p.t_max)
        m.d.comb += word_next.eq(Cat(
            Mux(group == index, Cat(fires), word[index * unrolled:(index + 1) * unrolled]) for index in range(groups)))

        last = Signal()
        advance = Signal()
        m.d.comb += [
            last.eq(left <= unrolled),
            advance.eq(busy & (~last | ~o.valid | o.ready)),
            i.ready.eq(~busy | (advance & last)),
        ]
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(advance):
            m.d.sync += [
                Value.cast(job.x).eq(Value.cast(job.x) >> (unrolled * p.stream_bits)),
                left.eq(left - unrolled), group.eq(group + 1), word.eq(word_next), v.eq(state[0]), owed.eq(state[1]),
            ]
            with m.If(last):
                m.d.sync += [busy.eq(0), o.valid.eq(1), o.payload.word.eq(word_next)]
        with m.If(i.valid & i.ready):
            m.d.sync += [
                job.eq(i.payload), busy.eq(1), left.eq(i.payload.steps), group.eq(0), word.eq(0), v.eq(0), owed.eq(0),
            ]
        return m


def neuron_step(m: Module, p: LifParams, v: Value, owed: Value, *, x: Value, threshold: Value, leak_shift: Value,
                decay_input: Value, strict: Value, reset: Value, name: str = "") -> tuple[Value, tuple[Value, Value]]:
    """Return (fires, (membrane, threshold still owed)) of one timestep; combinational.

    Nothing wraps as long as membranes fit their width, which lowering proves; ``name`` ends the names of the signals.
    """
    k = leak_shift
    h = Signal(signed(len(v)), name=f"h{name}")
    v_next = Signal(signed(len(v)), name=f"v{name}")
    above = Signal(signed(len(v) + 1), name=f"above{name}")
    fire = Signal(name=f"fire{name}")
    threshold = threshold << p.fraction_bits
    debt = Mux(owed, threshold, 0)
    if p.leak == "2^-k":
        halved = decay_input & (k == 1)
        lost = Mux(k == 0, 0, Mux(k == 1, v[0], v[0] | v[1]))
        carry = Mux(halved, Mux(strict, v[0] | x[0], v[0] & x[0]), strict & lost)
        decayed = Mux(k == 0, v, Mux(k == 1, v >> 1, v >> 2)).as_signed()
        current = Mux(halved, x >> 1, x).as_signed()
        total = Cat(1, decayed).as_signed() + Cat(carry, current).as_signed()
        m.d.comb += h.eq((total >> 1) - debt)
    else:
        gone = Mux(k == 0, v, Mux(k == 1, v >> 1, Mux(k == 2, v >> 2, v >> 3)))
        m.d.comb += h.eq(v - gone + (x << p.fraction_bits) - debt)
    m.d.comb += [
        above.eq(h - threshold),
        fire.eq((above >= 0) & ~(strict & (above == 0))),
        v_next.eq(Mux(fire & (reset == Reset.HARD), 0, Mux(fire & (reset == Reset.SOFT), above, h))),
    ]
    return fire, (v_next, fire & (reset == Reset.SOFT_DELAYED))
