"""Neuron stage: the neurons of all lanes or what stands in for them, the spike-count mask and the OR-pool."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from hdl.block import Block
from hdl.descriptor import LAYER_LAYOUT, SCALE_LAYOUT
from hdl.digit import Digit
from hdl.or_pool import OrPool
from hdl.parallel_lif import ParallelLif
from hdl.requantise import Requantise
from hdl.word_route import WordRoute

# The factor (2^7 - 1) / 2^7 leaves the numbers up to 64 as they are: a requantiser that only clips.
CLIP_SHIFT = 7


class NeuronStage(Block):
    """One parallel LIF and one OR-pool per lane, all in step; a requantiser and digits for all lanes where the build has them.

    Twins `golden.parallel_lif.parallel_lif`, `golden.requantise.requantise`, `golden.digit.digit`, `golden.run.mask` and
    `golden.or_pool.or_pool`. Latency and throughput of the parallel LIF, the requantiser or the digits, two cycles more with
    an OR-pool, which follows neurons only. Words wait while ``hold`` is high. Sums must stand until ``ready``.

    Members
    -------
    layer : In, layer fields
    fire : In(1), start a neuron of every lane; ready : Out(1)
    sums, threshold : In, currents of every lane, threshold of the column, or its factor (`golden.formats.SCALE`)
    in_map : In, lanes whose pixel lies in the map; the others give silent words
    first_member, last_member : In(1), place in the OR-pool's window
    word_valid, words, column : Out, what leaves the neurons in this cycle
    group, team : Out, of the words that leave; target : In, lane of every lane's output pixel (dataflow loom)
    hold : In(1); put, kept : Out, words after mask and OR-pool
    idle : Out(1), no neuron is in flight
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        words = data.ArrayLayout(p.t_max, p.lanes)
        loom = {"group": Out(range(max(2, p.rows))), "team": Out(range(p.lanes)),
                "target": In(data.ArrayLayout(range(p.lanes), p.lanes))} if p.loom else {}
        super().__init__({
            **loom,
            "layer": In(LAYER_LAYOUT), "fire": In(1), "ready": Out(1),
            "sums": In(data.ArrayLayout(data.ArrayLayout(signed(p.stream_bits), p.t_max), p.lanes)),
            "threshold": In(signed(32)), "in_map": In(p.lanes), "first_member": In(1), "last_member": In(1),
            "word_valid": Out(1), "words": Out(words), "column": Out(16),
            "hold": In(1), "put": Out(1), "kept": Out(words), "idle": Out(1),
        })

    def build(self) -> Module:
        m, p, layer = Module(), self.params, self.layer
        lifs = [ParallelLif(p.lif) for _ in range(p.lanes)]
        in_flight, retired, column_done, ready, valid = Signal(4), *(
            Signal(name=n) for n in ("retired", "column_done", "neurons_ready", "neurons_valid"))
        masked = [Signal(p.t_max, name=f"masked_{lane}") for lane in range(p.lanes)]
        words, fire = Signal(data.ArrayLayout(p.t_max, p.lanes)), self.fire & ~layer.requantise if p.requantise else self.fire
        fire = fire & ~layer.digit if p.digit else fire
        m.d.comb += [ready.eq(lifs[0].i.ready), valid.eq(lifs[0].o.valid), words.eq(Cat(lif.o.p.word for lif in lifs)),
                     self.ready.eq(ready), self.idle.eq(in_flight == 0)]
        if p.requantise:
            self._requantise(m, ready, valid, words)
        if p.digit:
            self._digit(m, ready, valid, words)
        m.d.sync += in_flight.eq(in_flight + (self.fire & self.ready) - retired)
        with m.If(column_done):
            m.d.sync += self.column.eq(Mux(self.column == layer.columns - 1, 0, self.column + 1))
        (self._route if p.loom else self._pool)(m, valid, masked, retired, column_done)
        for lane, lif in enumerate(lifs):
            m.submodules[f"lif_{lane}"] = lif
            word, kept = self.words[lane], masked[lane]
            m.d.comb += [
                lif.i.valid.eq(fire), lif.i.p.x.eq(self.sums[lane]), lif.i.p.threshold.eq(self.threshold),
                lif.i.p.leak_shift.eq(layer.leak_shift), lif.i.p.decay_input.eq(layer.decay_input),
                lif.i.p.strict.eq(layer.strict), lif.i.p.reset.eq(layer.reset), lif.i.p.steps.eq(layer.steps),
                lif.o.ready.eq(self.word_valid), word.eq(words[lane]),
                kept.eq(Mux(self.in_map[lane] & (sum(word[t] for t in range(p.t_max)) >= layer.min_spikes), word, 0)),
            ]
        return m

    def _pool(self, m: Module, fired: Value, masked: list[Signal], retired: Signal, column_done: Signal) -> None:
        """Pool the words of a lane over the members of a window, which follow each other."""
        p, layer = self.params, self.layer
        pools = [OrPool(p.pool_channels, p.t_max) for _ in range(p.lanes)]
        m.d.comb += [
            self.word_valid.eq(fired & ~self.hold & (~layer.or_pool | pools[0].i.ready)), column_done.eq(self.word_valid),
            self.put.eq(~self.hold & Mux(layer.or_pool, pools[0].o.valid, fired)),
            retired.eq(Mux(layer.or_pool & ~self.last_member, self.word_valid, self.put)),
        ]
        for lane, (pool, kept) in enumerate(zip(pools, masked, strict=True)):
            m.submodules[f"pool_{lane}"] = pool
            m.d.comb += [
                pool.i.valid.eq(fired & ~self.hold & layer.or_pool),
                pool.i.p.word.eq(kept), pool.i.p.channel.eq(self.column),
                pool.i.p.first.eq(self.first_member), pool.i.p.last.eq(self.last_member),
                pool.o.ready.eq(self.put & layer.or_pool),
                self.kept[lane].eq(Mux(layer.or_pool, pool.o.p.word, kept)),
            ]

    def _route(self, m: Module, fired: Value, masked: list[Signal], retired: Signal, column_done: Signal) -> None:
        """Route the words of the groups of a column to their pixels."""
        p, layer = self.params, self.layer
        m.submodules.route = route = WordRoute(p)
        last = Signal()
        m.d.comb += [
            last.eq(self.group + 1 == layer.groups), self.team.eq(self.column & ((1 << layer.teams_log2) - 1)),
            self.word_valid.eq(fired & ~self.hold), retired.eq(self.word_valid), column_done.eq(self.word_valid & last),
            self.put.eq(self.word_valid & (~layer.merge | last)),
            route.valid.eq(self.word_valid), route.first.eq(self.group == 0), route.merge.eq(layer.merge),
            route.held.eq(self.in_map), route.target.eq(self.target), self.kept.eq(route.routed),
        ]
        m.d.comb += [route.words[lane].eq(kept) for lane, kept in enumerate(masked)]
        with m.If(self.word_valid):
            m.d.sync += self.group.eq(Mux(last, 0, self.group + 1))

    def _requantise(self, m: Module, ready: Signal, valid: Signal, words: data.View) -> None:
        """Let the requantiser stand in for the neurons of a layer that says so; it takes step 0 where there are no digits."""
        m.submodules.requantise = unit = Requantise(self.params)
        scale = data.View(SCALE_LAYOUT, self.threshold[: SCALE_LAYOUT.size])
        step = self.layer.word_step if self.params.digit else 0
        m.d.comb += [
            unit.i.valid.eq(self.fire & self.layer.requantise), unit.o.ready.eq(self.word_valid),
            unit.i.p.multiplier.eq(scale.multiplier), unit.i.p.shift.eq(scale.shift),
            unit.i.p.bits.eq(self.layer.word_bits), unit.i.p.is_signed.eq(self.layer.signed_words),
            *(unit.i.p.x[lane].eq(self.sums[lane][step]) for lane in range(self.params.lanes)),
        ]
        if self.params.ttfs:
            with m.If(self.layer.ttfs):
                m.d.comb += [unit.i.p.multiplier.eq((1 << CLIP_SHIFT) - 1), unit.i.p.shift.eq(CLIP_SHIFT)]
        with m.If(self.layer.requantise):
            m.d.comb += [ready.eq(unit.i.ready), valid.eq(unit.o.valid), words.eq(unit.o.p.words)]

    def _digit(self, m: Module, ready: Signal, valid: Signal, words: data.View) -> None:
        """Let bits of the currents stand in for the neurons of a layer that says so."""
        m.submodules.digit = unit = Digit(self.params)
        layer = self.layer
        m.d.comb += [
            unit.i.valid.eq(self.fire & layer.digit), unit.o.ready.eq(self.word_valid), unit.i.p.x.eq(self.sums),
            unit.i.p.low.eq(layer.digit_low), unit.i.p.bits.eq(layer.digit_bits), unit.i.p.step.eq(layer.word_step),
            unit.i.p.one.eq(layer.digit_one), unit.i.p.steps.eq(layer.steps), unit.i.p.clip.eq(layer.digit_clip),
        ]
        with m.If(layer.digit):
            m.d.comb += [ready.eq(unit.i.ready), valid.eq(unit.o.valid), words.eq(unit.o.p.words)]
