"""Neuron stage: the neurons of all lanes, the spike-count mask and the OR-pool."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from hdl.block import Block
from hdl.descriptor import LAYER_LAYOUT
from hdl.or_pool import OrPool
from hdl.parallel_lif import ParallelLif


class NeuronStage(Block):
    """One parallel LIF and one OR-pool per lane, all in step.

    Twins `golden.parallel_lif.parallel_lif`, `golden.run.mask` and `golden.or_pool.or_pool`. Latency and throughput
    of the parallel LIF, two cycles more with an OR-pool. Words wait while ``hold`` is high.

    Members
    -------
    layer : In, layer fields
    fire : In(1), start a neuron of every lane; ready : Out(1)
    sums, threshold : In, currents of every lane, threshold of the column
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
        in_flight, retired = Signal(4), Signal()
        lif, pool = lifs[0], pools[0]
        m.d.comb += [
            self.ready.eq(lif.i.ready),
            self.word_valid.eq(lif.o.valid & ~self.hold & (~layer.or_pool | pool.i.ready)),
            self.put.eq(~self.hold & Mux(layer.or_pool, pool.o.valid, lif.o.valid)),
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
                lif.i.valid.eq(self.fire), lif.i.p.x.eq(self.sums[lane]), lif.i.p.threshold.eq(self.threshold),
                lif.i.p.leak_shift.eq(layer.leak_shift), lif.i.p.decay_input.eq(layer.decay_input),
                lif.i.p.strict.eq(layer.strict), lif.i.p.reset.eq(layer.reset), lif.i.p.steps.eq(layer.steps),
                lif.o.ready.eq(self.word_valid), word.eq(lif.o.p.word),
                kept.eq(Mux(self.in_map[lane] & (sum(word[t] for t in range(p.t_max)) >= layer.min_spikes), word, 0)),
                pool.i.valid.eq(lif.o.valid & ~self.hold & layer.or_pool),
                pool.i.p.word.eq(kept), pool.i.p.channel.eq(self.column),
                pool.i.p.first.eq(self.first_member), pool.i.p.last.eq(self.last_member),
                pool.o.ready.eq(self.put & layer.or_pool),
                self.kept[lane].eq(Mux(layer.or_pool, pool.o.p.word, kept)),
            ]
        return m
