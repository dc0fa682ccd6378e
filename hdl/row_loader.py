"""Row loader: fetches the rows of a tile into the lanes' spike buffers, one tile ahead of the array."""

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.arch import Arch
from hdl.block import Block
from hdl.bus.fetch import Fetch, ar_signature
from hdl.count_ones import count_ones
from hdl.descriptor import LAYER_LAYOUT, descriptor_bus
from hdl.walker import Walker


class RowLoader(Block):
    """Turn the walker's steps into mask pieces and value pieces for the lanes.

    Masks are read first; the count of a fiber's mask gives the length of its value read, which follows behind,
    so both kinds of reads are in flight at the same time. A tile is done when its last value is in its lane
    and all laggy sums have ended; the loader then fills the other half as soon as the array has released it.

    Cycles from ``layer_start`` to ``full`` at a memory latency of 1, for a tile of one pass whose mask pieces do not
    cross a beat: 26, one per step of the walk (lanes x chunks, absent lanes too), one per beat of masks. Values that
    outlast the masks: 26, the steps and beats of masks up to the last chunk of lane 0, one per piece of values, one
    per row of values that starts a beat of its own, one more if the last lane has no values. A further tile takes one
    less after the tile before.

    Members
    -------
    layer_start : In(1), a layer starts: restart at its first tile
    tiles : In(32), tiles times pooling members to load
    row_release : In(1), the array is done with the oldest half
    full : Out(1), the oldest half is ready
    half : Out(1), half being filled
    lane_mask, lane_mask_valid, lane_mask_ready : mask pieces, one valid bit per lane
    lane_data, lane_bits, lane_flush, lane_value_valid : value pieces, one valid bit per lane
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        fetch = stream.Signature(p.data_bits, always_ready=True)
        super().__init__({
            "descriptor": In(descriptor_bus()), "layer": In(LAYER_LAYOUT),
            "base": In(p.address_bits), "input_offset": In(32),
            "layer_start": In(1), "tiles": In(32), "row_release": In(1), "full": Out(1), "half": Out(1),
            "chunk_en": Out(1), "chunk": Out(range(p.max_chunks)), "chunk_bytes": Out(8), "chunk_last": Out(1),
            "mask_ar": Out(ar_signature(p.address_bits)), "mask_r": In(fetch),
            "value_ar": Out(ar_signature(p.address_bits)), "value_r": In(fetch),
            "lane_mask": Out(p.chunk_bits), "lane_mask_valid": Out(p.lanes), "lane_mask_ready": In(p.lanes),
            "lane_data": Out(p.chunk_bits), "lane_bits": Out(range(p.chunk_bits + 1)), "lane_flush": Out(1),
            "lane_value_valid": Out(p.lanes), "lanes_idle": In(1),
        })

    def build(self) -> Module:
        m, p = Module(), self.params
        piece = p.chunk_bits // 8
        lane_width = max(1, (p.lanes - 1).bit_length())
        bits_width = p.row_value_bits.bit_length()
        mask_user = data.StructLayout({
            "lane": lane_width, "fiber_end": 1, "row_end": 1, "value_address": p.address_bits})
        value_user = data.StructLayout({"lane": lane_width, "bits": bits_width, "row_end": 1})
        m.submodules.walker = walker = Walker(p)
        m.submodules.mask_fetch = masks = Fetch(
            p.data_bits, p.address_bits, piece, mask_user.size, p.outstanding, p.burst_beats,
            piece.bit_length())
        m.submodules.value_fetch = values = Fetch(
            p.data_bits, p.address_bits, piece, value_user.size, p.outstanding, p.burst_beats,
            (p.row_value_bits // 8).bit_length())
        connect(m, flipped(self.descriptor), walker.descriptor)
        connect(m, masks.ar, flipped(self.mask_ar))
        connect(m, flipped(self.mask_r), masks.r)
        connect(m, values.ar, flipped(self.value_ar))
        connect(m, flipped(self.value_r), values.r)

        filled, left, busy = Signal(range(3)), Signal(32), Signal()
        done = Signal()
        m.d.comb += [
            walker.layer.eq(self.layer), walker.base.eq(self.base), walker.input_offset.eq(self.input_offset),
            walker.restart.eq(self.layer_start), masks.forget.eq(self.layer_start), values.forget.eq(self.layer_start),
            self.chunk_en.eq(walker.chunk_en), self.chunk.eq(walker.chunk),
            self.chunk_bytes.eq(walker.chunk_bytes), self.chunk_last.eq(walker.chunk_last),
            self.full.eq(filled != 0),
            walker.start.eq((left != 0) & ~busy & (filled != 2) & ~self.layer_start),
        ]
        with m.If(walker.start):
            m.d.sync += [busy.eq(1), left.eq(left - 1)]
        with m.If(done):
            m.d.sync += [busy.eq(0), self.half.eq(~self.half)]
        m.d.sync += filled.eq(filled + done - self.row_release)
        with m.If(self.layer_start):
            m.d.sync += [left.eq(Mux(self.layer.passes == 0, 0, self.tiles)), self.half.eq(0), filled.eq(0)]

        walked_user = Signal(mask_user)
        step = walker.o
        m.d.comb += [
            walked_user.lane.eq(step.p.lane), walked_user.fiber_end.eq(step.p.fiber_end),
            walked_user.row_end.eq(step.p.row_end), walked_user.value_address.eq(step.p.value_address),
            masks.i.valid.eq(step.valid), step.ready.eq(masks.i.ready),
            masks.i.p.address.eq(step.p.address), masks.i.p.bytes.eq(step.p.bytes), masks.i.p.user.eq(walked_user),
        ]

        user = data.View(mask_user, masks.o.p.user)
        mask, ones, total = Signal(p.chunk_bits), Signal(range(p.chunk_bits + 1)), Signal(p.index_bits)
        counts = Array(Signal(p.index_bits, name=f"count_{i}") for i in range(p.lanes))
        bits = Signal(bits_width)
        lane_ready, taken, need_value = Signal(), Signal(), Signal()
        value = Signal(value_user)
        m.d.comb += [
            mask.eq(masks.o.p.data & ((Const(1, p.chunk_bits + 1) << (masks.o.p.bytes << 3)) - 1)),
            ones.eq(count_ones(m, mask)),
            total.eq(counts[user.lane] + ones),
            bits.eq(total << self.layer.operand_log2),
            lane_ready.eq(self.lane_mask_ready.bit_select(user.lane, 1)),
            need_value.eq(user.fiber_end & ((total != 0) | user.row_end)),
            taken.eq(masks.o.valid & lane_ready & (~need_value | values.i.ready)),
            masks.o.ready.eq(taken),
            self.lane_mask.eq(mask),
            self.lane_mask_valid.eq(taken << user.lane),
            value.lane.eq(user.lane), value.bits.eq(bits), value.row_end.eq(user.row_end),
            values.i.valid.eq(masks.o.valid & lane_ready & need_value),
            values.i.p.address.eq(user.value_address), values.i.p.bytes.eq((bits + 7) >> 3),
            values.i.p.user.eq(value),
        ]
        with m.If(taken):
            m.d.sync += counts[user.lane].eq(Mux(user.fiber_end, 0, total))

        tail = data.View(value_user, values.o.p.user)
        given, rest, size = Signal(bits_width), Signal(bits_width), Signal(range(p.chunk_bits + 1))
        flush = Signal()
        m.d.comb += [
            rest.eq(tail.bits - given),
            size.eq(Mux(rest > p.chunk_bits, p.chunk_bits, rest)),
            self.lane_data.eq(Mux(flush, 0, values.o.p.data & ((Const(1, p.chunk_bits + 1) << size) - 1))),
            self.lane_bits.eq(Mux(flush, 0, size)), self.lane_flush.eq(flush),
        ]
        with m.If(flush):
            m.d.comb += done.eq(self.lanes_idle)
            m.d.comb += self.lane_value_valid.eq(done.replicate(p.lanes))
            with m.If(done):
                m.d.sync += flush.eq(0)
        with m.Else():
            m.d.comb += [values.o.ready.eq(1), self.lane_value_valid.eq((values.o.valid & (size != 0)) << tail.lane)]
            with m.If(values.o.valid):
                m.d.sync += given.eq(Mux(values.o.p.last, 0, given + size))
                with m.If(values.o.p.last & tail.row_end):
                    m.d.sync += flush.eq(1)
        return m
