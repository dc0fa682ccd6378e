"""Words of one head: the part of a fiber that belongs to it, one non-zero word after the other."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.arch import Arch
from golden.formats import PLACE_BITS
from hdl.block import Block
from hdl.bus.fetch import Fetch, ar_signature
from hdl.count_ones import count_ones
from hdl.descriptor import LAYER_LAYOUT
from hdl.priority_encoder import PriorityEncoder


def head_word_layout(p: Arch) -> data.StructLayout:
    """Return one entry of the words: channel of the head, word; ``none``: the token has no word; ``end``: its last entry."""
    return data.StructLayout({"channel": range(p.chunk_bits), "word": p.t_max, "none": 1, "end": 1})


class HeadWords(Block):
    """Fetch the words of channels ``head_start`` to ``head_start + columns`` of tokens.

    Twin of `golden.head_words.head_words`. The mask before the head is read as well: its count is where the words of the
    head begin. At a memory latency of 1 the first entry shows 10 cycles after a request for the first head is taken, else
    8 and the pieces of the mask before the head. Words of a token leave one a cycle, with at most one cycle between full
    tokens; a token without words is one entry with ``none``.

    Members
    -------
    layer, base : In; forget : In(1), memory may have changed
    i : In(stream), {masks: offset of the masks of the tensor, token}; ``to_words`` further on lie its value slots
    o : Out(stream), `head_word_layout`
    mask_ar, mask_r, value_ar, value_r : memory
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, p: Arch) -> None:
        self.params = p
        fetch = stream.Signature(p.data_bits, always_ready=True)
        super().__init__({
            "layer": In(LAYER_LAYOUT), "base": In(p.address_bits), "forget": In(1),
            "i": In(stream.Signature(data.StructLayout({"masks": 32, "token": PLACE_BITS}))),
            "o": Out(stream.Signature(head_word_layout(p))),
            "mask_ar": Out(ar_signature(p.address_bits)), "mask_r": In(fetch),
            "value_ar": Out(ar_signature(p.address_bits)), "value_r": In(fetch),
        })

    def build(self) -> Module:
        m, p, layer, i = Module(), self.params, self.layer, self.i
        piece = p.chunk_bits // 8
        of_mask = data.StructLayout({"words": p.address_bits, "own": 1})
        of_words = data.StructLayout({"mask": p.chunk_bits, "shift": 3})
        m.submodules.mask_fetch = masks = Fetch(
            p.data_bits, p.address_bits, piece, of_mask.size, p.outstanding, p.burst_beats, 14)
        m.submodules.value_fetch = values = Fetch(
            p.data_bits, p.address_bits, piece, of_words.size, p.outstanding, p.burst_beats, (2 * p.chunk_bits).bit_length())
        connect(m, masks.ar, flipped(self.mask_ar))
        connect(m, flipped(self.mask_r), masks.r)
        connect(m, values.ar, flipped(self.value_ar))
        connect(m, flipped(self.value_r), values.r)

        counted, own, start = Signal(), Signal(), Signal(p.address_bits)
        asked = Signal(of_mask)
        m.d.comb += [
            own.eq(counted | (layer.head_start == 0)),
            start.eq(self.base + i.p.masks + i.p.token * layer.out_mask_stride[:PLACE_BITS]),
            asked.own.eq(own),
            asked.words.eq(self.base + i.p.masks + layer.to_words + i.p.token * layer.out_slot_stride[:PLACE_BITS]),
            masks.i.valid.eq(i.valid), masks.i.p.user.eq(asked), i.ready.eq(masks.i.ready & own),
            masks.i.p.address.eq(start + Mux(own, layer.head_start >> 3, 0)),
            masks.i.p.bytes.eq(Mux(own, layer.columns, layer.head_start) >> 3),
            masks.forget.eq(self.forget), values.forget.eq(self.forget),
        ]
        with m.If(masks.i.valid & masks.i.ready):
            m.d.sync += counted.eq(~own)

        mask, ones, before, at = Signal(p.chunk_bits), Signal(range(p.chunk_bits + 1)), Signal(16), Signal(20)
        here, words, bits = data.View(of_mask, masks.o.p.user), Signal(of_words), Signal(range(16 * p.chunk_bits + 1))
        m.d.comb += [
            mask.eq(masks.o.p.data & ((Const(1, p.chunk_bits + 1) << (masks.o.p.bytes << 3)) - 1)),
            ones.eq(count_ones(m, mask)), at.eq(before << layer.operand_log2), bits.eq(ones << layer.operand_log2),
            words.mask.eq(mask), words.shift.eq(at[:3]),
            values.i.valid.eq(masks.o.valid & here.own), masks.o.ready.eq(~here.own | values.i.ready),
            values.i.p.address.eq(here.words + (at >> 3)), values.i.p.user.eq(words),
            values.i.p.bytes.eq(Mux(ones == 0, 0, (at[:3] + bits + 7) >> 3)),
        ]
        with m.If(masks.o.valid & masks.o.ready):
            m.d.sync += before.eq(Mux(here.own, 0, before + ones))

        m.submodules.encoder = encoder = PriorityEncoder(p.chunk_bits)
        fresh, left, place = Signal(init=1), Signal(p.chunk_bits), Signal(range(p.chunk_bits))
        now, after, full, o = Signal(range(p.chunk_bits)), Signal(range(p.chunk_bits + 17)), Signal(), self.o
        run = data.View(of_words, values.o.p.user)
        wide = Signal(16)
        m.d.comb += [
            encoder.mask.eq(Mux(fresh, run.mask, left)), now.eq(Mux(fresh, run.shift, place)),
            after.eq(now + (1 << layer.operand_log2)), full.eq(after == p.chunk_bits),
            o.valid.eq(values.o.valid), o.p.channel.eq(encoder.position), o.p.none.eq(encoder.none),
            o.p.end.eq(encoder.none | encoder.single),
            wide.eq(((Const(1, 17) << (1 << layer.operand_log2)) - 1)[:16]),
            o.p.word.eq((values.o.p.data >> now) & wide), values.o.ready.eq(o.ready & (o.p.end | full)),
        ]
        with m.If(o.valid & o.ready):
            m.d.sync += [fresh.eq(o.p.end), left.eq(encoder.rest), place.eq(Mux(full, 0, after))]
        return m
