"""Residual path: stored currents of the tile's pixels, column after column."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.arch import Arch
from golden.formats import CURRENT_BYTES, NEVER
from hdl.block import Block
from hdl.bus.fetch import Fetch, ar_signature
from hdl.descriptor import LAYER_LAYOUT

CURRENT_LOG2 = (CURRENT_BYTES - 1).bit_length()


def current_layout(p: Arch) -> data.StructLayout:
    """Return one entry of the residual's stream."""
    return data.StructLayout({
        "value": signed(p.stream_bits), "lane": max(1, (p.lanes - 1).bit_length()), "step": range(max(2, p.t_max)),
        "first": 1, "keep": 1, "end": 1})


class Residual(Block):
    """Fetch stored currents ``[y][x][c][t]`` for every lane of every tile, in the order column, lane, window, step.

    Twin of `golden.residual.residual`. One current a cycle, fetched ahead of their use. For a signed max-pool, or the sum
    of a window, its members that lie inside the map follow each other; ``first`` marks the first of them. In a layer with
    ``ttfs`` a current of 0 or less is `golden.formats.NEVER`.

    Members
    -------
    layer_start : In(1), a layer starts
    o : Out(stream), {value, lane, step, first, keep, end}
        ``end`` marks the last entry of a column; entries without ``keep`` carry no current.
    """

    o: stream.Interface

    def __init__(self, p: Arch) -> None:
        self.params = p
        self.lane_width = max(1, (p.lanes - 1).bit_length())
        super().__init__({
            "layer": In(LAYER_LAYOUT), "base": In(p.address_bits), "layer_start": In(1),
            "ar": Out(ar_signature(p.address_bits)), "r": In(stream.Signature(p.data_bits, always_ready=True)),
            "o": Out(stream.Signature(current_layout(p))),
        })

    def build(self) -> Module:
        m, p, layer, o = Module(), self.params, self.layer, self.o
        user_layout = data.StructLayout({"lane": self.lane_width, "first": 1, "end": 1, "skip": 1})
        m.submodules.fetch = fetch = Fetch(
            p.data_bits, p.address_bits, CURRENT_BYTES, user_layout.size, p.outstanding, p.burst_beats,
            (CURRENT_BYTES * p.t_max).bit_length())
        connect(m, fetch.ar, flipped(self.ar))
        connect(m, flipped(self.r), fetch.r)
        y0, x0, y, x, column = (Signal(16, name=n) for n in ("y0", "x0", "y", "x", "column"))
        member_y, member_x, lane = Signal(8), Signal(8), Signal(range(max(2, p.lanes * p.rows)))
        at_y, at_x, pixel = Signal(signed(18)), Signal(signed(18)), Signal(32)
        after_x, after_y, after_column, after_member_y, after_member_x, end_x = (
            Signal(16), Signal(16), Signal(16), Signal(8), Signal(8), Signal())
        column_bytes, stride = Signal(24), Signal(16 + p.t_max.bit_length())
        in_map, started, last_member, last_lane, last_column = (
            Signal(name=n) for n in ("in_map", "started", "last_member", "last_lane", "last_column"))
        active, user, present = Signal(), Signal(user_layout), Signal()
        step_bytes, pools = Signal(8), layer.max_pool | layer.sum_pool if p.token_sum else layer.max_pool
        m.d.comb += [
            after_x.eq(x + 1), after_y.eq(y + 1), after_column.eq(column + 1), after_member_y.eq(member_y + 1),
            after_member_x.eq(member_x + 1), end_x.eq(after_x == layer.out_width),
            at_y.eq(Mux(pools, (y * layer.pool_stride).as_signed() - layer.pool_padding + member_y, y)),
            at_x.eq(Mux(pools, (x * layer.pool_stride).as_signed() - layer.pool_padding + member_x, x)),
            present.eq(y < layer.out_height),
            in_map.eq(present & (at_y >= 0) & (at_y < Cat(layer.residual_height, Const(0, 1)).as_signed())
                      & (at_x >= 0) & (at_x < Cat(layer.residual_width, Const(0, 1)).as_signed())),
            pixel.eq(at_y[:16] * layer.residual_width + at_x[:16]),
            last_member.eq(~pools | ((after_member_y == layer.pool_kernel) & (after_member_x == layer.pool_kernel))),
            last_lane.eq(lane == (layer.groups * p.lanes if p.loom else p.lanes) - 1),
            last_column.eq(after_column == layer.columns),
            step_bytes.eq(layer.steps * CURRENT_BYTES),
            user.lane.eq(lane), user.first.eq(~started), user.end.eq((user.lane == p.lanes - 1) & last_member),
            user.skip.eq(~in_map),
            fetch.i.valid.eq(active & (in_map | user.end)),
            fetch.i.p.user.eq(user),
            fetch.i.p.bytes.eq(Mux(in_map, step_bytes, 0)),
            stride.eq(layer.residual_stride >> CURRENT_LOG2),
            fetch.i.p.address.eq(self.base + layer.residual_base + ((pixel * stride)[:30] << CURRENT_LOG2) + column_bytes),
            fetch.forget.eq(self.layer_start),
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
                    m.d.sync += [lane.eq(0), column.eq(after_column), column_bytes.eq(column_bytes + step_bytes), y.eq(y0),
                                 x.eq(x0)]
                    with m.If(last_column):
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

        step, tail = Signal(range(max(2, p.t_max))), data.View(user_layout, fetch.o.p.user)
        m.d.comb += [
            o.valid.eq(fetch.o.valid), fetch.o.ready.eq(o.ready),
            o.p.value.eq(fetch.o.p.data[: p.stream_bits].as_signed()), o.p.lane.eq(tail.lane), o.p.step.eq(step),
            o.p.first.eq(tail.first), o.p.keep.eq(~tail.skip), o.p.end.eq(tail.end & fetch.o.p.last),
        ]
        if p.ttfs:
            with m.If(layer.ttfs & (fetch.o.p.data[: p.stream_bits].as_signed() <= 0)):
                m.d.comb += o.p.value.eq(NEVER)
        with m.If(o.valid & o.ready):
            m.d.sync += step.eq(Mux(fetch.o.p.last, 0, step + 1))
        return m
