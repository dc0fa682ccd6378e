"""Lockstep array: one row per lane, column chunks broadcast to all lanes."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from hdl.block import Block
from hdl.bus.fifo import Fifo
from hdl.bus.ram import Ram
from hdl.count_ones import count_ones
from hdl.descriptor import LAYER_LAYOUT
from hdl.inner_join import value_ring
from hdl.spike_buffer import SpikeBuffer, place_piece
from hdl.times_of_array import connect_times
from hdl.tppe import Tppe


def column_layout(p: Arch) -> data.StructLayout:
    """Return what the tail must know of a column: its parameters, and whether the row tile ends with it."""
    return data.StructLayout({"bias": signed(32), "threshold": signed(32), "tile_end": 1})


class LockstepArray(Block):
    """Broadcast every column chunk to all lanes, which hold one row each.

    Twin of `golden.array.lockstep_cycles`. A chunk takes ``max(1, most matches of any lane)`` cycles; the dots
    of a pass leave 4 cycles after its last chunk (drain), while the next chunks run. A full FIFO in any lane stalls
    all lanes. Rows stay for all columns; the tile of columns changes inside, the tile of rows outside. The parameters
    of a column go ahead of its chunks, so columns follow each other without a gap. In a layer with ``ttfs`` the spike times
    of a column leave instead, once for all passes, as `hdl.ttfs.Ttfs` finds them.

    Members
    -------
    layer_start : In(1), a layer starts
    tiles : In(32), row tiles times pooling members
    chunk_en, chunk, chunk_bytes, chunk_last : In, the chunks of a row; kept from the layer's first rows, the same for all
    o : Out(stream), the dots of all lanes, lane 0 first
    column : Out(stream), `column_layout`, one per column
    counters : one-cycle events
    """

    o: stream.Interface
    column: stream.Interface

    def __init__(self, p: Arch) -> None:
        self.params = p
        row_ports = {
            "chunk_en": In(1), "chunk": In(range(p.max_chunks)), "chunk_bytes": In(8), "chunk_last": In(1),
            "lane_mask": In(p.chunk_bits), "lane_mask_valid": In(p.lanes), "lane_mask_ready": Out(p.lanes),
            "lane_data": In(p.chunk_bits), "lane_bits": In(range(p.chunk_bits + 1)), "lane_flush": In(1),
            "lane_value_valid": In(p.lanes), "lanes_idle": Out(1), "fill_half": In(1),
        }
        super().__init__({
            "layer": In(LAYER_LAYOUT), "layer_start": In(1), "tiles": In(32), "idle": Out(1),
            "row_full": In(1), "row_release": Out(1), **row_ports,
            "weight_full": In(1), "weight_open": Out(1), "weight_close": Out(1), "columns": In(16),
            "param_fill": In(16), "param_window": In(64), "param_take": Out(1),
            "mask_fill": In(16), "mask_window": In(p.chunk_bits), "mask_take": Out(range(p.chunk_bits // 8 + 1)),
            "value_fill": In(16), "value_window": In(value_ring(p) * p.weight_bits), "value_head": In(range(value_ring(p))),
            "value_take": Out(range(p.chunk_bits + 1)),
            "column": Out(stream.Signature(column_layout(p))),
            "o": Out(stream.Signature(data.ArrayLayout(data.ArrayLayout(signed(p.acc_bits), p.t_max), p.lanes))),
            "match_count": Out(range(p.lanes + 1)), "corrections": Out(range(p.lanes + 1)), "chunk_done": Out(1),
            "stall_fifo": Out(1), "stall_weights": Out(1), "stall_rows": Out(1),
        })

    def build(self) -> Module:
        m, p, layer = Module(), self.params, self.layer
        m.submodules.chunk_table = table = Ram(9, p.max_chunks)
        m.submodules.columns = column_fifo = Fifo(column_layout(p).size, p.fifo_depth)
        described = Signal()
        with m.If(self.layer_start):
            m.d.sync += described.eq(0)
        with m.Elif(self.row_full):
            m.d.sync += described.eq(1)
        m.d.comb += [
            table.w_en.eq(self.chunk_en & ~described & ~self.row_full), table.w_addr.eq(self.chunk), table.w_data.eq(
                Cat(self.chunk_bytes, self.chunk_last)),
            self.column.payload.eq(column_fifo.o.payload), self.column.valid.eq(column_fifo.o.valid),
            column_fifo.o.ready.eq(self.column.ready),
        ]

        chunk, next_chunk, first, row_seen = Signal(range(p.max_chunks)), Signal(range(p.max_chunks)), Signal(), Signal()
        mask_b, ones, bytes_b = Signal(p.chunk_bits), Signal(range(p.chunk_bits + 1)), Signal(8)
        running, ready, go, advance, last_chunk, last_column = (
            Signal(name=n) for n in ("running", "ready", "go", "advance", "last_chunk", "last_column"))
        fetch_row, have_params, in_half, column_index = Signal(), Signal(), Signal(), Signal(16)
        known, ahead = Signal(16), Signal(range(p.fifo_depth + 2))
        left, column_tile, last_tile_of_columns = Signal(32), Signal(16), Signal()
        lanes_ready, lanes_done = Signal(p.lanes), Signal(p.lanes)
        hits, corrected, idles, results, pass_end = *(Signal(p.lanes) for _ in range(4)), Signal()
        after_chunk, after_column, after_tile, after_known = (
            Signal(range(p.max_chunks + 1)), Signal(16), Signal(16), Signal(16))
        weights_ready, no_chunks = Signal(), Signal()
        byte_mask = Cat((bytes_b > i).replicate(8) for i in range(p.chunk_bits // 8))
        m.d.comb += [
            bytes_b.eq(table.r_data[:8]),
            mask_b.eq(self.mask_window & byte_mask),
            ones.eq(count_ones(m, mask_b)),
            no_chunks.eq(layer.passes == 0),
            weights_ready.eq((self.mask_fill >= bytes_b) & (self.value_fill >= ones)),
            ready.eq(running & have_params & row_seen & weights_ready & ~no_chunks),
            go.eq(ready & lanes_ready.all()),
            advance.eq(go & lanes_done.all()),
            after_chunk.eq(chunk + 1), last_chunk.eq(after_chunk == layer.chunks),
            after_column.eq(column_index + 1), last_column.eq(after_column == self.columns),
            after_tile.eq(column_tile + 1), last_tile_of_columns.eq(after_tile == layer.column_tiles),
            self.mask_take.eq(Mux(advance, bytes_b, 0)), self.value_take.eq(Mux(advance, ones, 0)),
            next_chunk.eq(Mux(last_chunk, 0, after_chunk)),
            table.r_en.eq(fetch_row | advance), table.r_addr.eq(Mux(advance, next_chunk, 0)),
            self.chunk_done.eq(advance), self.match_count.eq(count_ones(m, hits)),
            self.corrections.eq(count_ones(m, corrected)),
            self.stall_fifo.eq(ready & ~lanes_ready.all()),
            self.stall_weights.eq(running & ~weights_ready & have_params & ~no_chunks),
            self.lanes_idle.eq(idles.all()),
        ]
        column = Signal(column_layout(p))
        put = Signal()
        m.d.comb += [
            column.bias.eq(self.param_window[:32]), column.threshold.eq(self.param_window[32:]),
            column.tile_end.eq((after_known == self.columns) & last_tile_of_columns),
            put.eq(running & (known != self.columns) & (self.param_fill != 0)),
            have_params.eq(ahead != 0), after_known.eq(known + 1),
            column_fifo.i.payload.eq(column), column_fifo.i.valid.eq(put),
            self.param_take.eq(put & column_fifo.i.ready),
        ]
        column_done = Signal()
        m.d.comb += column_done.eq(Mux(no_chunks, have_params, advance & last_chunk))
        with m.If(self.param_take):
            m.d.sync += known.eq(after_known)
        m.d.sync += ahead.eq(ahead + self.param_take - column_done)
        with m.If(go):
            m.d.sync += first.eq(advance)
        with m.If(advance):
            m.d.sync += chunk.eq(next_chunk)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(~self.layer_start & (left == 0))
                with m.If((left != 0) & ~self.layer_start):
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += self.stall_rows.eq(~self.row_full & ~no_chunks)
                with m.If((self.row_full | no_chunks) & self.weight_full):
                    m.d.comb += [self.weight_open.eq(1), fetch_row.eq(1)]
                    m.d.sync += [running.eq(1), row_seen.eq(1), first.eq(1), chunk.eq(0), column_index.eq(0),
                                 known.eq(0)]
                    m.next = "RUN"
            with m.State("RUN"), m.If(column_done):
                m.d.sync += column_index.eq(after_column)
                with m.If(last_column):
                    m.d.comb += self.weight_close.eq(1)
                    m.d.sync += [running.eq(0), column_tile.eq(after_tile)]
                    m.next = "WAIT"
                    with m.If(last_tile_of_columns):
                        m.d.sync += [column_tile.eq(0), left.eq(left - 1)]
                        m.next = "DRAIN"
            with m.State("DRAIN"):
                quiet = Signal()
                m.d.comb += quiet.eq(column_fifo.space == p.fifo_depth)
                with m.If(quiet):
                    m.d.comb += self.row_release.eq(~no_chunks)
                    m.d.sync += in_half.eq(~in_half)
                    m.next = "IDLE"
        with m.If(self.layer_start):
            m.d.sync += [left.eq(self.tiles), column_tile.eq(0), in_half.eq(0)]

        fills = [Signal(range(p.chunk_bits), name=f"fill_{lane}") for lane in range(p.lanes)]
        fill, piece, here = Signal(range(p.chunk_bits)), Signal(p.chunk_bits), Signal(p.chunk_bits)
        turned, free = place_piece(self.lane_data, fill)
        m.d.comb += [fill.eq(reduce(or_, fills)), piece.eq(turned), here.eq(free)]
        for lane in range(p.lanes):
            buffer = SpikeBuffer(p)
            tppe = Tppe(p)
            m.submodules[f"buffer_{lane}"] = buffer
            m.submodules[f"tppe_{lane}"] = tppe
            m.d.comb += [
                buffer.i_mask.payload.eq(self.lane_mask), buffer.i_mask.valid.eq(self.lane_mask_valid[lane]),
                self.lane_mask_ready[lane].eq(buffer.i_mask.ready),
                fills[lane].eq(Mux(self.lane_value_valid[lane], buffer.fill, 0)),
                buffer.i_value.p.data.eq(piece), buffer.i_value.p.here.eq(here), buffer.i_value.p.bits.eq(self.lane_bits),
                buffer.i_value.p.flush.eq(self.lane_flush), buffer.i_value.valid.eq(self.lane_value_valid[lane]),
                buffer.fill_half.eq(self.fill_half), buffer.read_half.eq(in_half), idles[lane].eq(buffer.idle),
                buffer.chunk_en.eq(table.r_en), buffer.chunk.eq(table.r_addr),
                buffer.word_en.eq(tppe.word_en), buffer.word_address.eq(tppe.word_address),
                tppe.line.eq(buffer.line), tppe.row.eq(buffer.row),
                tppe.mask_b.eq(mask_b), tppe.values.eq(self.value_window), tppe.head.eq(self.value_head),
                tppe.first.eq(first), tppe.go.eq(go), tppe.last.eq(advance & pass_end),
                tppe.word_log2.eq(layer.operand_log2), tppe.steps.eq(layer.steps),
                lanes_ready[lane].eq(tppe.ready), lanes_done[lane].eq(tppe.done),
                hits[lane].eq(tppe.hit), corrected[lane].eq(tppe.corrected),
                results[lane].eq(tppe.o.valid),
                self.o.payload[lane].eq(tppe.o.payload),
                tppe.o.ready.eq(self.o.ready & self.o.valid),
            ]
        m.d.comb += [self.o.valid.eq(results.all()), pass_end.eq(table.r_data[8])]
        if p.ttfs:
            connect_times(self, m, pass_end, last_chunk)
        return m
