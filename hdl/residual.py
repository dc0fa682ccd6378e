"""Residual path: stored currents of the tile's pixels, column after column."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.arch import Arch
from golden.formats import CURRENT_BYTES, NEVER
from hdl.block import Block
from hdl.bus.fetch import Fetch, ar_signature
from hdl.bus.ram import Ram
from hdl.descriptor import LAYER_LAYOUT

CURRENT_LOG2 = (CURRENT_BYTES - 1).bit_length()


def currents_layout(p: Arch) -> data.StructLayout:
    """Return one entry of the residual's stream."""
    return data.StructLayout({
        "values": data.ArrayLayout(signed(p.stream_bits), p.t_max), "lane": max(1, (p.lanes - 1).bit_length()), "end": 1})


class Residual(Block):
    """Fetch stored currents ``[y][x][c][t]`` for every lane of every tile, in the order column, lane.

    Twin of `golden.residual.residual`. A lane's currents of a beat, all steps of as many columns as fit, are read at once;
    of a window (signed max-pool or sum) the members inside the map become one of them on the way, a run of memory each. They
    wait in a queue that is played once per column: one lane a cycle, all steps, fetched ahead of their use by half a group.
    In a layer with ``ttfs`` a current of 0 or less is `golden.formats.NEVER`.

    Members
    -------
    layer_start : In(1), a layer starts
    o : Out(stream), {values, lane, end}
        ``end`` marks the last lane; values of steps that the layer does not have mean nothing.
    """

    o: stream.Interface

    def __init__(self, p: Arch) -> None:
        self.params = p
        self.beat = p.data_bits // (8 * CURRENT_BYTES)
        self.columns = Array(max(1, self.beat // max(1, steps)) if self.beat >= p.t_max else 1 for steps in range(p.t_max + 1))
        self.user_layout = data.StructLayout({"first": 1, "last": 1, "skip": 1})
        super().__init__({
            "layer": In(LAYER_LAYOUT), "base": In(p.address_bits), "layer_start": In(1),
            "ar": Out(ar_signature(p.address_bits)), "r": In(stream.Signature(p.data_bits, always_ready=True)),
            "o": Out(stream.Signature(currents_layout(p))),
        })

    def build(self) -> Module:
        m, p, layer = Module(), self.params, self.layer
        size = p.residual_currents
        m.submodules.fetch = fetch = Fetch(
            p.data_bits, p.address_bits, p.data_bits // 8, self.user_layout.size, p.outstanding, p.burst_beats,
            (CURRENT_BYTES * size).bit_length(), p.outstanding)
        connect(m, fetch.ar, flipped(self.ar))
        connect(m, flipped(self.r), fetch.r)
        m.submodules.queue = queue = Ram(size * p.stream_bits, p.residual_entries)
        columns, tile_lanes, step_bytes = Signal(range(self.beat + 1)), Signal(range(p.lanes * p.rows + 1)), Signal(8)
        m.d.comb += [
            columns.eq(self.columns[layer.steps]), tile_lanes.eq(layer.groups * p.lanes if p.loom else p.lanes),
            step_bytes.eq(layer.steps * CURRENT_BYTES), fetch.forget.eq(self.layer_start),
        ]
        self._walk(m, fetch, columns, tile_lanes, step_bytes)
        put, room = Signal(), Signal()
        self._pool(m, fetch, queue, put, room)
        self._play(m, queue, columns, tile_lanes, put, room)
        return m

    def _walk(self, m: Module, fetch: Fetch, columns: Signal, tile_lanes: Signal, step_bytes: Signal) -> None:
        """Ask for the currents of every member of every lane, block of columns after block of columns."""
        p, layer = self.params, self.layer
        y0, x0, y, x, column = (Signal(16, name=n) for n in ("y0", "x0", "y", "x", "column"))
        member_y, member_x, lane = Signal(8), Signal(8), Signal(range(max(2, p.lanes * p.rows)))
        at_y, at_x, pixel = Signal(signed(18)), Signal(signed(18)), Signal(32)
        after_x, after_y, after_column, after_member_y, after_member_x, end_x = (
            Signal(16), Signal(16), Signal(17), Signal(8), Signal(8), Signal())
        column_bytes, stride = Signal(24), Signal(16 + p.t_max.bit_length())
        in_map, started, last_member, last_lane, last_block, present, active = (
            Signal(name=n) for n in ("in_map", "started", "last_member", "last_lane", "last_block", "present", "active"))
        user, taken, run = Signal(self.user_layout), Signal.like(columns), Signal(24)
        pools = layer.max_pool | layer.sum_pool if p.token_sum else layer.max_pool
        m.d.comb += [
            after_x.eq(x + 1), after_y.eq(y + 1), after_column.eq(column + columns), after_member_y.eq(member_y + 1),
            after_member_x.eq(member_x + 1), end_x.eq(after_x == layer.out_width),
            at_y.eq(Mux(pools, (y * layer.pool_stride).as_signed() - layer.pool_padding + member_y, y)),
            at_x.eq(Mux(pools, (x * layer.pool_stride).as_signed() - layer.pool_padding + member_x, x)),
            present.eq(y < layer.out_height),
            in_map.eq(present & (at_y >= 0) & (at_y < Cat(layer.residual_height, Const(0, 1)).as_signed())
                      & (at_x >= 0) & (at_x < Cat(layer.residual_width, Const(0, 1)).as_signed())),
            pixel.eq(at_y[:16] * layer.residual_width + at_x[:16]),
            last_member.eq(~pools | ~present
                           | ((after_member_y == layer.pool_kernel) & (after_member_x == layer.pool_kernel))),
            last_lane.eq(lane == tile_lanes - 1), last_block.eq(after_column >= layer.columns),
            taken.eq(Mux(last_block, layer.columns - column, columns)), run.eq(taken * step_bytes),
            user.first.eq(~started), user.last.eq(last_member), user.skip.eq(~in_map),
            fetch.i.valid.eq(active & (in_map | last_member)), fetch.i.p.user.eq(user),
            fetch.i.p.bytes.eq(Mux(in_map, run, 0)),
            stride.eq(layer.residual_stride >> CURRENT_LOG2),
            fetch.i.p.address.eq(self.base + layer.residual_base + ((pixel * stride)[:30] << CURRENT_LOG2) + column_bytes),
        ]
        with m.If(active & (~fetch.i.valid | fetch.i.ready)):
            m.d.sync += [started.eq(started | in_map), member_x.eq(after_member_x)]
            with m.If(after_member_x == layer.pool_kernel):
                m.d.sync += [member_x.eq(0), member_y.eq(after_member_y)]
            with m.If(last_member):
                m.d.sync += [started.eq(0), member_x.eq(0), member_y.eq(0), lane.eq(lane + 1), x.eq(after_x)]
                with m.If(end_x):
                    m.d.sync += [x.eq(0), y.eq(after_y)]
                with m.If(last_lane):
                    m.d.sync += [lane.eq(0), column.eq(after_column), column_bytes.eq(column_bytes + run), y.eq(y0), x.eq(x0)]
                    with m.If(last_block):
                        m.d.sync += [column.eq(0), column_bytes.eq(0)]
                        with m.If(end_x):
                            m.d.sync += [x0.eq(0), x.eq(0), y0.eq(after_y), y.eq(after_y),
                                         active.eq(after_y < layer.out_height)]
                        with m.Else():
                            m.d.sync += [x0.eq(after_x), x.eq(after_x), y0.eq(y), y.eq(y), active.eq(y < layer.out_height)]
        with m.If(self.layer_start):
            m.d.sync += [
                active.eq(layer.residual), column.eq(0), column_bytes.eq(0), lane.eq(0), started.eq(0),
                member_y.eq(0), member_x.eq(0), y0.eq(0), x0.eq(0), y.eq(0), x.eq(0)]

    def _pool(self, m: Module, fetch: Fetch, queue: Ram, put: Signal, room: Signal) -> None:
        """Make one current of the members of a window, and queue it behind the last."""
        p, layer = self.params, self.layer
        size, beat = p.residual_currents, self.beat
        user, part = data.View(self.user_layout, fetch.o.p.user), Signal(range(max(2, -(-size // beat))))
        complete, take, clear = Signal(), Signal(), Signal()
        m.d.comb += [
            put.eq(complete & room), fetch.o.ready.eq(~complete | room), take.eq(fetch.o.valid & fetch.o.ready),
            clear.eq(take & user.skip & user.first), queue.w_en.eq(put),
        ]
        with m.If(take):
            m.d.sync += [part.eq(Mux(fetch.o.p.last, 0, part + 1)), complete.eq(fetch.o.p.last & user.last)]
        with m.Elif(put):
            m.d.sync += complete.eq(0)
        pooled = []
        for n in range(size):
            at = 8 * CURRENT_BYTES * (n % beat)
            current, one = fetch.o.p.data[at : at + p.stream_bits].as_signed(), Signal(signed(p.stream_bits), name=f"one_{n}")
            if p.ttfs:
                current = Mux(layer.ttfs & (current <= 0), NEVER, current)
            larger = Mux(current > one, current, one)
            joined = Mux(layer.sum_pool, one + current, larger) if p.token_sum else larger
            with m.If(clear):
                m.d.sync += one.eq(0)
            with m.Elif(take & ~user.skip & (part == n // beat)):
                m.d.sync += one.eq(Mux(user.first, current, joined))
            pooled.append(one)
        m.d.comb += queue.w_data.eq(Cat(pooled))

    def _play(self, m: Module, queue: Ram, columns: Signal, tile_lanes: Signal, put: Signal, room: Signal) -> None:
        """Play the entries of a tile once per column of a block; the last time frees them."""
        p, layer, o, depth = self.params, self.layer, self.o, self.params.residual_entries
        head, read, write = (Signal(range(depth), name=n) for n in ("head", "read", "write"))
        held, ready = Signal(range(depth + 1)), Signal(range(depth + p.lanes * p.rows + 1))
        lane, column, within, shift = Signal(range(max(2, p.lanes * p.rows))), Signal(16), Signal.like(columns), Signal(4)
        shifted, issue, last_lane, last_play, last_column = (
            Signal(4), *(Signal(name=n) for n in ("issue", "last_lane", "last_play", "last_column")))
        after_read, after_write = (Mux(pointer == depth - 1, 0, pointer + 1) for pointer in (read, write))
        m.d.comb += [
            room.eq(held != depth), issue.eq((ready > lane) & (~o.valid | o.ready)),
            queue.w_addr.eq(write), queue.r_en.eq(issue), queue.r_addr.eq(read),
            last_lane.eq(lane == tile_lanes - 1), last_column.eq(column + 1 == layer.columns),
            last_play.eq((within + 1 == columns) | last_column),
        ]
        m.d.sync += [
            held.eq(held + put - (issue & last_play)),
            ready.eq(ready + put - Mux(issue & last_play & last_lane, tile_lanes, 0)),
        ]
        with m.If(put):
            m.d.sync += write.eq(after_write)
        with m.If(issue):
            m.d.sync += [lane.eq(lane + 1), read.eq(after_read), o.valid.eq(1), o.p.lane.eq(lane), shifted.eq(shift),
                         o.p.end.eq(lane[: (p.lanes - 1).bit_length()] == p.lanes - 1)]
            with m.If(last_lane):
                m.d.sync += [lane.eq(0), read.eq(head), within.eq(within + 1), shift.eq(shift + layer.steps),
                             column.eq(Mux(last_column, 0, column + 1))]
                with m.If(last_play):
                    m.d.sync += [read.eq(after_read), head.eq(after_read), within.eq(0), shift.eq(0)]
        with m.Elif(o.ready):
            m.d.sync += o.valid.eq(0)
        values: Value = queue.r_data
        if self.beat >= p.t_max:
            for k in range((self.beat - 1).bit_length()):
                values = Mux(shifted[k], values >> (p.stream_bits << k), values)
        m.d.comb += o.p.values.eq(values)
