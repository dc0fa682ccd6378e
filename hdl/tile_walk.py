"""Walk over row tiles and pooling members: which lanes hold a pixel, and which pixel lies in the map."""

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from golden.formats import PLACE_BITS
from hdl.block import Block
from hdl.descriptor import LAYER_LAYOUT


class TileWalk(Block):
    """Place of the lanes in the output map.

    Twin of `golden.tile_walk.tile_walk`. Lane i of tile n holds output pixel ``n * lanes + i`` in raster order; with
    an OR-pool a tile is visited once per member of the window. After ``layer_start`` and after ``next`` the flags of the
    next visit are ready ``lanes + 2`` cycles later.

    Members
    -------
    layer_start : In(1), a layer starts; next : In(1), the visit is over
    ready : Out(1), the outputs below describe the visit
    tile, member, first_member, last_member : Out
    present, in_map : Out, lanes with an output pixel; lanes whose member lies in the map
    idle : Out(1), no visit is left
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        super().__init__({
            "layer": In(LAYER_LAYOUT), "layer_start": In(1), "next": In(1), "ready": Out(1), "idle": Out(1),
            "tile": Out(32), "member": Out(16), "first_member": Out(1), "last_member": Out(1),
            "present": Out(p.lanes), "in_map": Out(p.lanes),
        })

    def build(self) -> Module:
        m, p, layer = Module(), self.params, self.layer
        y0, x0, y, x = (Signal(16, name=n) for n in ("y0", "x0", "y", "x"))
        at_y, at_x, here = Signal(signed(PLACE_BITS)), Signal(signed(PLACE_BITS)), Signal()
        member_y, member_x, left, lane = Signal(8), Signal(8), Signal(32), Signal(range(max(2, p.lanes)))
        last_x, last_y, after_x, after_member_x, after_member_y = Signal(), Signal(), Signal(16), Signal(8), Signal(8)

        def within(value: Signal, size: Signal) -> Value:
            return (value >= 0) & (value < Cat(size, Const(0, 1)).as_signed())

        m.d.comb += [
            at_y.eq((y * layer.pool_stride).as_signed() - layer.pool_padding + member_y),
            at_x.eq((x * layer.pool_stride).as_signed() - layer.pool_padding + member_x),
            here.eq((y < layer.out_height)
                    & (~layer.or_pool | (within(at_y, layer.height) & within(at_x, layer.width)))),
            after_x.eq(x + 1), after_member_x.eq(member_x + 1), after_member_y.eq(member_y + 1),
            last_x.eq(~layer.or_pool | (after_member_x == layer.pool_kernel)),
            last_y.eq(~layer.or_pool | (after_member_y == layer.pool_kernel)),
            self.last_member.eq(last_x & last_y), self.first_member.eq((member_x == 0) & (member_y == 0)),
            self.member.eq(member_y * layer.pool_kernel + member_x),
            self.idle.eq(~self.layer_start & (left == 0)),
        ]
        with m.FSM():
            with m.State("IDLE"), m.If((left != 0) & ~self.layer_start):
                m.d.sync += [lane.eq(0), y.eq(y0), x.eq(x0)]
                m.next = "LANES"
            with m.State("LANES"):
                m.d.sync += [self.present.bit_select(lane, 1).eq(y < layer.out_height),
                             self.in_map.bit_select(lane, 1).eq(here), lane.eq(lane + 1), x.eq(after_x)]
                with m.If(after_x == layer.out_width):
                    m.d.sync += [x.eq(0), y.eq(y + 1)]
                with m.If(lane == p.lanes - 1):
                    m.next = "READY"
            with m.State("READY"):
                m.d.comb += self.ready.eq(1)
                with m.If(self.next):
                    m.d.sync += member_x.eq(after_member_x)
                    with m.If(last_x):
                        m.d.sync += [member_x.eq(0), member_y.eq(after_member_y)]
                    with m.If(self.last_member):
                        m.d.sync += [member_y.eq(0), self.tile.eq(self.tile + 1), left.eq(left - 1), y0.eq(y), x0.eq(x)]
                    m.next = "IDLE"
        with m.If(self.layer_start):
            m.d.sync += [self.tile.eq(0), left.eq(layer.row_tiles), y0.eq(0), x0.eq(0), member_y.eq(0), member_x.eq(0)]
        return m
