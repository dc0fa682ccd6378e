"""Attention: products of keys and values of one head, then the sums that queries select from them."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.arch import Arch
from golden.formats import PLACE_BITS
from hdl.block import Block
from hdl.bus.fetch import ar_signature
from hdl.bus.ram import Ram
from hdl.descriptor import LAYER_LAYOUT
from hdl.head_sums import HeadSums
from hdl.head_words import HeadWords
from hdl.priority_encoder import PriorityEncoder


class Attention(Block):
    """Do the sums of one head in place of the array; bias, threshold and end of the columns still come from there.

    Twin of `golden.attention.attention`, and of `golden.attention.attention_cycles` for its time. Keys and values: for
    every spike of a key, channel d at step t, row ``(chunk of t, d)`` of the products gets the spikes that the values of
    the token have at t, a block of ``attention_columns`` columns a cycle. Queries: for every tile of ``lanes`` tokens and
    every block, each spike of a query adds its row of products to the sums of its token and step, one a cycle. Columns of
    a tile leave in order while the next block is worked on. Before that, the table of chunks takes a cycle a step and
    clearing the products one a row. A word of a value takes a cycle, a token without words in its head as well.

    Members
    -------
    layer, base : In; layer_start : In(1), a layer starts
    o : Out(stream), the sums of one column: dots of all lanes
    match_count : Out, additions in this cycle
    mask_ar, mask_r, value_ar, value_r : memory

    Source: STAtten (arXiv 2409.19764); saturating counters: networks F3.
    """

    o: stream.Interface

    def __init__(self, p: Arch) -> None:
        self.params = p
        fetch = stream.Signature(p.data_bits, always_ready=True)
        super().__init__({
            "layer": In(LAYER_LAYOUT), "base": In(p.address_bits), "layer_start": In(1),
            "o": Out(stream.Signature(data.ArrayLayout(data.ArrayLayout(signed(p.acc_bits), p.t_max), p.lanes))),
            "match_count": Out(range(p.attention_columns + 1)),
            "mask_ar": Out(ar_signature(p.address_bits)), "mask_r": In(fetch),
            "value_ar": Out(ar_signature(p.address_bits)), "value_r": In(fetch),
        })

    def build(self) -> Module:
        m, p, layer = Module(), self.params, self.layer
        m.submodules.words = words = HeadWords(p)
        m.submodules.sums = sums = HeadSums(p)
        for kind in ("mask", "value"):
            connect(m, getattr(words, f"{kind}_ar"), flipped(getattr(self, f"{kind}_ar")))
            connect(m, flipped(getattr(self, f"{kind}_r")), getattr(words, f"{kind}_r"))
        connect(m, sums.o, flipped(self.o))
        tokens, last_token = Signal(PLACE_BITS), Signal(PLACE_BITS)
        m.d.comb += [words.layer.eq(layer), words.base.eq(self.base), words.forget.eq(self.layer_start), sums.layer.eq(layer),
                     tokens.eq(layer.out_height * layer.out_width), last_token.eq(tokens - 1)]
        self._ask(m, last_token)
        self._work(m, last_token)
        return m

    def _ask(self, m: Module, last_token: Signal) -> None:
        """Ask for value and key of every token, then for every tile and block for the queries of its tokens."""
        p, layer, words = self.params, self.layer, m.submodules.words
        token, first, after, block, last = Signal(PLACE_BITS), Signal(PLACE_BITS), Signal(PLACE_BITS), Signal(8), Signal()
        m.d.comb += [words.i.p.token.eq(token), after.eq(token + 1),
                     last.eq((token == last_token) | (after == first + p.lanes))]
        with m.FSM(name="asks"):
            with m.State("IDLE"), m.If(self.layer_start & layer.attention):
                m.d.sync += token.eq(0)
                m.next = "VALUE"
            with m.State("VALUE"):
                m.d.comb += [words.i.valid.eq(1), words.i.p.masks.eq(layer.value_masks)]
                with m.If(words.i.ready):
                    m.next = "KEY"
            with m.State("KEY"):
                m.d.comb += [words.i.valid.eq(1), words.i.p.masks.eq(layer.key_masks)]
                with m.If(words.i.ready):
                    m.d.sync += token.eq(after)
                    m.next = "VALUE"
                    with m.If(token == last_token):
                        m.d.sync += [token.eq(0), first.eq(0), block.eq(0)]
                        m.next = "QUERY"
            with m.State("QUERY"):
                m.d.comb += [words.i.valid.eq(1), words.i.p.masks.eq(layer.query_masks)]
                with m.If(words.i.ready):
                    m.d.sync += token.eq(after)
                    with m.If(last):
                        m.d.sync += [token.eq(first), block.eq(block + 1)]
                        with m.If(block + 1 == layer.head_blocks):
                            m.d.sync += [block.eq(0), token.eq(after), first.eq(after)]
                            with m.If(token == last_token):
                                m.next = "IDLE"

    def _work(self, m: Module, last_token: Signal) -> None:
        """Turn words into events, and events into additions."""
        p, layer, o, sums = self.params, self.layer, m.submodules.words.o, m.submodules.sums
        size, bits = p.attention_columns, p.attention_bits
        m.submodules.products = products = Ram(size * bits, p.attention_rows)
        m.submodules.steps = steps = PriorityEncoder(p.t_max)
        table = Array(Signal(range(p.attention_rows), name=f"chunk_{t}") for t in range(p.t_max))
        rows, head_rows, filled = Signal(16), Signal(16), Signal(16)
        step, in_chunk = Signal(5), Signal(5)
        values = [Signal(p.t_max, name=f"value_{n}") for n in range(p.chunk_bits)]
        gone, event, done, of_keys = Signal(p.t_max), Signal(), Signal(), Signal()
        token, lane, block, last_block = Signal(PLACE_BITS), Signal(range(max(2, p.lanes))), Signal(8), Signal()
        address, before, same, added = (Signal(range(p.attention_rows)), Signal(range(p.attention_rows)), Signal(), Signal())
        first, last_lane = Signal(PLACE_BITS), Signal()
        m.d.comb += [
            steps.mask.eq(o.p.word & ~gone), last_block.eq(block + 1 == layer.head_blocks),
            head_rows.eq(layer.columns[:9] * layer.head_blocks), done.eq(o.valid & o.ready & o.p.end),
            address.eq(table[steps.position] + o.p.channel * layer.head_blocks + block),
            sums.step.eq(steps.position), sums.lane.eq(lane), sums.put.eq(event & ~of_keys),
            self.match_count.eq(Mux(event, Mux(last_block, layer.columns - block * size, size), 0)),
            products.r_en.eq(event), products.r_addr.eq(address),
            last_lane.eq((token == last_token) | (lane == p.lanes - 1)),
            sums.columns.eq(Mux(last_block, layer.columns - block * size, size)),
        ]
        with m.If(event & (last_block | ~of_keys)):
            m.d.sync += gone.eq(Mux(steps.single, 0, gone | (1 << steps.position)))

        spikes, chosen, total = Signal(max(size, p.chunk_bits)), Signal(size), Signal(size * bits)
        old, new = Signal(size * bits), Signal(size * bits)
        m.d.comb += [spikes.eq(Cat(value.bit_select(steps.position, 1) for value in values)),
                     old.eq(Mux(same, total, products.r_data)), sums.addends.eq(products.r_data)]
        own_block = block[: (len(spikes) // size - 1).bit_length()]
        m.d.sync += [chosen.eq(spikes.word_select(own_block, size)), before.eq(address), added.eq(event & of_keys),
                     same.eq(added & event & of_keys & (address == before))]
        for n in range(size):
            count = old.word_select(n, bits)
            m.d.comb += new.word_select(n, bits).eq(count + (chosen[n] & (count < layer.saturation)))
        clearing = Signal()
        m.d.comb += [products.w_en.eq(added | clearing), products.w_addr.eq(Mux(clearing, filled, before)),
                     products.w_data.eq(Mux(clearing, 0, new))]
        with m.If(added):
            m.d.sync += total.eq(new)

        with m.FSM(name="work"):
            with m.State("IDLE"), m.If(self.layer_start & layer.attention):
                m.d.sync += [step.eq(0), in_chunk.eq(0), rows.eq(0), filled.eq(0), token.eq(0), first.eq(0), lane.eq(0),
                             block.eq(0)]
                m.next = "TABLE"
            with m.State("TABLE"):
                m.d.sync += [table[step[: (p.t_max - 1).bit_length()]].eq(rows), step.eq(step + 1), in_chunk.eq(in_chunk + 1)]
                with m.If(in_chunk + 1 == layer.chunk_steps):
                    m.d.sync += [in_chunk.eq(0), rows.eq(rows + head_rows)]
                with m.If(step + 1 == layer.steps):
                    m.next = "CLEAR"
            with m.State("CLEAR"):
                m.d.comb += clearing.eq(1)
                m.d.sync += filled.eq(filled + 1)
                with m.If(filled + 1 == rows):
                    m.next = "VALUES"
            with m.State("VALUES"):
                m.d.comb += o.ready.eq(1)
                for n, value in enumerate(values):
                    with m.If(o.valid & ~o.p.none & (o.p.channel == n)):
                        m.d.sync += value.eq(o.p.word)
                with m.If(done):
                    m.next = "KEYS"
            with m.State("KEYS"):
                m.d.comb += [of_keys.eq(1), event.eq(o.valid & ~o.p.none),
                             o.ready.eq(o.p.none | (steps.single & last_block))]
                with m.If(event):
                    m.d.sync += block.eq(Mux(last_block, 0, block + 1))
                with m.If(done):
                    m.d.sync += [value.eq(0) for value in values]
                    m.d.sync += token.eq(token + 1)
                    m.next = "VALUES"
                    with m.If(token == last_token):
                        m.d.sync += token.eq(0)
                        m.next = "TURN"
            with m.State("TURN"), m.If(sums.ready & ~added):
                m.next = "QUERIES"
            with m.State("QUERIES"):
                m.d.comb += [event.eq(o.valid & ~o.p.none), o.ready.eq(o.p.none | steps.single)]
                with m.If(done):
                    m.d.sync += lane.eq(lane + 1)
                    with m.If(last_lane):
                        m.next = "CLOSE"
                    with m.Else():
                        m.d.sync += token.eq(token + 1)
            with m.State("CLOSE"):
                m.d.comb += sums.close.eq(1)
                m.d.sync += [lane.eq(0), block.eq(block + 1), token.eq(first)]
                m.next = "TURN"
                with m.If(last_block):
                    m.d.sync += [block.eq(0), token.eq(token + 1), first.eq(token + 1)]
                    with m.If(token == last_token):
                        m.next = "IDLE"
