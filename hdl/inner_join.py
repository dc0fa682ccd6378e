"""Inner join of one row chunk with one column chunk."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from hdl.block import Block
from hdl.bus.fifo import Fifo
from hdl.byte_stream import ring_units
from hdl.fast_prefix_sum import FastPrefixSum, places_below
from hdl.priority_encoder import PriorityEncoder
from hdl.spike_buffer import row_chunk_layout


def value_ring(p: Arch) -> int:
    """Return the weights in the ring of the weight buffer from which all lanes read."""
    return ring_units(p.data_bits, p.chunk_bits, p.weight_bits)


def match_layout(p: Arch) -> data.StructLayout:
    """Return one entry of the position and weight FIFOs."""
    return data.StructLayout({"index": p.index_bits, "weight": p.weight_bits, "match": 1, "last": 1})


class InnerJoin(Block):
    """Emit one matched pair per cycle: place of the packed word in the row, and the weight.

    Twin of `golden.inner_join.inner_join`. While ``go`` is high one match of ``mask_b & row.mask`` is taken in
    position order; the fast prefix sum gives the weight in the same cycle, the row's laggy group bases the
    place of the word. ``done`` says that at most one match is left, so a chunk of n matches takes
    ``max(1, n)`` cycles. The match leaves 2 cycles later through the position FIFO and the weight FIFO, ``fifo_depth``
    deep; ``ready`` is low while they are full. The last cycle of an output leaves an entry without a match too.

    Members
    -------
    row : In, chunk of the row
    mask_b : In, chunk of the column
    values, head : In, ring of packed weights, and the place of the chunk's first one in it
    first : In(1), first cycle of the chunk
    go : In(1), take a match now; only while ``ready``
    last : In(1), with ``go`` on the chunk's last cycle: the sum of this output ends here
    hit, weight : Out, the match taken in this cycle
    o : Out(stream), `match_layout`
    """

    o: stream.Interface

    def __init__(self, p: Arch) -> None:
        self.params = p
        super().__init__({
            "row": In(row_chunk_layout(p)), "mask_b": In(p.chunk_bits), "values": In(value_ring(p) * p.weight_bits),
            "head": In(range(value_ring(p))),
            "first": In(1), "go": In(1), "last": In(1), "done": Out(1), "ready": Out(1),
            "hit": Out(1), "weight": Out(p.weight_bits),
            "o": Out(stream.Signature(match_layout(p))),
        })

    def build(self) -> Module:
        m, p = Module(), self.params
        m.submodules.encoder = encoder = PriorityEncoder(p.chunk_bits)
        m.submodules.prefix = prefix = FastPrefixSum(p.chunk_bits)
        m.submodules.position_fifo = positions = Fifo(p.index_bits + 2, p.fifo_depth)
        m.submodules.weight_fifo = weights = Fifo(p.weight_bits, p.fifo_depth)

        pending = Signal(p.chunk_bits)
        group, below, local = Signal(range(max(2, p.laggy_cycles))), Signal(16), Signal(range(17))
        bases = Array([Const(0, p.count_bits), *(self.row.bases[g] for g in range(p.laggy_cycles - 1))])
        index, place = Signal(p.index_bits), Signal(range(value_ring(p)))
        push, last = Signal(), Signal()
        m.d.comb += [
            encoder.mask.eq(Mux(self.first, self.row.mask & self.mask_b, pending)),
            prefix.mask.eq(self.mask_b), prefix.position.eq(encoder.position),
            self.done.eq(encoder.single),
            self.ready.eq(positions.i.ready & weights.i.ready),
            self.hit.eq(self.go & ~encoder.none),
            place.eq(self.head + prefix.offset),
            self.weight.eq(self.values.word_select(place, p.weight_bits)),
            group.eq(encoder.position >> 4),
            below.eq(self.row.mask.word_select(group, 16) & places_below(encoder.position[:4])),
            local.eq(sum(below[bit] for bit in range(16))),
            index.eq(self.row.base + bases[group] + local),
            last.eq(self.go & self.last),
            push.eq(self.hit | last),
            positions.i.valid.eq(push), positions.i.payload.eq(Cat(index, self.hit, last)),
            weights.i.valid.eq(push), weights.i.payload.eq(self.weight),
            self.o.valid.eq(positions.o.valid & weights.o.valid),
            positions.o.ready.eq(self.o.ready & self.o.valid), weights.o.ready.eq(self.o.ready & self.o.valid),
            self.o.p.index.eq(positions.o.payload[: p.index_bits]),
            self.o.p.match.eq(positions.o.payload[p.index_bits]), self.o.p.last.eq(positions.o.payload[-1]),
            self.o.p.weight.eq(weights.o.payload),
        ]
        with m.If(self.go):
            m.d.sync += pending.eq(encoder.rest)
        return m
