"""Neuron stage: the neurons of all lanes or their requantiser, the spike-count mask and the OR-pool."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from hdl.block import Block
from hdl.descriptor import LAYER_LAYOUT, SCALE_LAYOUT
from hdl.or_pool import OrPool
from hdl.parallel_lif import ParallelLif
from hdl.requantise import Requantise


class NeuronStage(Block):
    """One parallel LIF and one OR-pool per lane, all in step, and one requantiser for all lanes where the build has it.

    Twins `golden.parallel_lif.parallel_lif`, `golden.requantise.requantise`, `golden.run.mask` and
    `golden.or_pool.or_pool`. Latency and throughput of the parallel LIF or the requantiser, two cycles more with an
    OR-pool, which follows neurons only. Words wait while ``hold`` is high.

    Members
    -------
    layer : In, layer fields
    fire : In(1), start a neuron of every lane; ready : Out(1)
    sums, threshold : In, currents of every lane, threshold of the column, or its factor (`golden.formats.SCALE`)
    in_map : In, lanes whose pixel lies in the map; the others give silent words
    first_member, last_member : In(1), place in the OR-pool's window
    word_valid, words, column : Out, what leaves the neurons in this cycle
    hold : In(1); put, kept : Out, words after mask and OR-pool
    idle : Out(1), no neuron is in flight
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        words = data.ArrayLayout(p.t_max, p.lanes)
        super().__init__({
            "layer": In(LAYER_LAYOUT), "fire": In(1), "ready": Out(1),
            "sums": In(data.ArrayLayout(data.ArrayLayout(signed(p.stream_bits), p.t_max), p.lanes)),
            "threshold": In(signed(32)), "in_map": In(p.lanes), "first_member": In(1), "last_member": In(1),
            "word_valid": Out(1), "words": Out(words), "column": Out(16),
            "hold": In(1), "put": Out(1), "kept": Out(words), "idle": Out(1),
        })

    def build(self) -> Module:
        m, p, layer = Module(), self.params, self.layer
        lifs = [ParallelLif(p.lif) for _ in range(p.lanes)]
        pools = [OrPool(p.pool_channels, p.t_max) for _ in range(p.lanes)]
        in_flight, retired, ready, valid = Signal(4), Signal(), Signal(), Signal()
        words = Signal(data.ArrayLayout(p.t_max, p.lanes))
        lif, pool, fire = lifs[0], pools[0], self.fire & ~layer.requantise if p.requantise else self.fire
        m.d.comb += [ready.eq(lif.i.ready), valid.eq(lif.o.valid), words.eq(Cat(lif.o.p.word for lif in lifs))]
        if p.requantise:
            self._requantise(m, ready, valid, words)
        m.d.comb += [
            self.ready.eq(ready),
            self.word_valid.eq(valid & ~self.hold & (~layer.or_pool | pool.i.ready)),
            self.put.eq(~self.hold & Mux(layer.or_pool, pool.o.valid, valid)),
            retired.eq(Mux(layer.or_pool & ~self.last_member, self.word_valid, self.put)),
            self.idle.eq(in_flight == 0),
        ]
        m.d.sync += in_flight.eq(in_flight + (self.fire & self.ready) - retired)
        with m.If(self.word_valid):
            m.d.sync += self.column.eq(Mux(self.column == layer.columns - 1, 0, self.column + 1))
        for lane, (lif, pool) in enumerate(zip(lifs, pools, strict=True)):
            m.submodules[f"lif_{lane}"] = lif
            m.submodules[f"pool_{lane}"] = pool
            word, kept = self.words[lane], Signal(p.t_max, name=f"masked_{lane}")
            m.d.comb += [
                lif.i.valid.eq(fire), lif.i.p.x.eq(self.sums[lane]), lif.i.p.threshold.eq(self.threshold),
                lif.i.p.leak_shift.eq(layer.leak_shift), lif.i.p.decay_input.eq(layer.decay_input),
                lif.i.p.strict.eq(layer.strict), lif.i.p.reset.eq(layer.reset), lif.i.p.steps.eq(layer.steps),
                lif.o.ready.eq(self.word_valid), word.eq(words[lane]),
                kept.eq(Mux(self.in_map[lane] & (sum(word[t] for t in range(p.t_max)) >= layer.min_spikes), word, 0)),
                pool.i.valid.eq(valid & ~self.hold & layer.or_pool),
                pool.i.p.word.eq(kept), pool.i.p.channel.eq(self.column),
                pool.i.p.first.eq(self.first_member), pool.i.p.last.eq(self.last_member),
                pool.o.ready.eq(self.put & layer.or_pool),
                self.kept[lane].eq(Mux(layer.or_pool, pool.o.p.word, kept)),
            ]
        return m

    def _requantise(self, m: Module, ready: Signal, valid: Signal, words: data.View) -> None:
        """Let the requantiser stand in for the neurons of a layer that says so; it takes step 0."""
        m.submodules.requantise = unit = Requantise(self.params)
        scale = data.View(SCALE_LAYOUT, self.threshold[: SCALE_LAYOUT.size])
        m.d.comb += [
            unit.i.valid.eq(self.fire & self.layer.requantise), unit.o.ready.eq(self.word_valid),
            unit.i.p.multiplier.eq(scale.multiplier), unit.i.p.shift.eq(scale.shift),
            unit.i.p.bits.eq(self.layer.word_bits), unit.i.p.is_signed.eq(self.layer.signed_words),
            *(unit.i.p.x[lane].eq(self.sums[lane][0]) for lane in range(self.params.lanes)),
        ]
        with m.If(self.layer.requantise):
            m.d.comb += [ready.eq(unit.i.ready), valid.eq(unit.o.valid), words.eq(unit.o.p.words)]
