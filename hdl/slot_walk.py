"""Which pixel every row slot of the loom stands for, tile after tile."""

from amaranth.hdl import Array, Const, Module, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from golden.formats import PLACE_BITS
from hdl.block import Block
from hdl.descriptor import LAYER_LAYOUT
from hdl.tile_rows import row_layout


class SlotWalk(Block):
    """Keep the rows of the tile that the tail works on while the next ones are dealt.

    Twin of `golden.slot_walk.slot_walk`. A tile is taken as soon as it is dealt and none is kept, in the cycle after ``next``
    at the earliest, and is ``ready`` one cycle later. What is asked for is answered in the same cycle.

    Members
    -------
    layer_start : In(1), a layer starts; next : In(1), the tile is over; idle : Out(1), no tile is left
    clear, put, group, lanes, row, present : In, from `hdl.tile_rows.TileRows`
    dealt : In(1), the next tile's rows are complete; taken : Out(1), one cycle, they are kept here
    ready : Out(1), the outputs below describe the tile; tile, first_pixel : Out
    slot, team : In, slot and team of lanes that are asked for
    held : Out, lanes that hold a row; target, rows : Out, per lane, lane of its output pixel and its number in the tile
    pixels : In, which ``lanes`` pixels are asked for; here : Out, those that exist; kept_pixels : Out, the same of all
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        slots = range(max(2, p.rows))
        super().__init__({
            "layer": In(LAYER_LAYOUT), "layer_start": In(1), "next": In(1), "idle": Out(1), "ready": Out(1),
            "clear": In(1), "put": In(1), "group": In(slots), "lanes": In(p.lanes), "row": In(row_layout(p)),
            "present": In(p.lanes * p.rows), "dealt": In(1), "taken": Out(1),
            "tile": Out(32), "first_pixel": Out(PLACE_BITS),
            "slot": In(slots), "team": In(range(p.lanes)), "held": Out(p.lanes),
            "target": Out(data.ArrayLayout(range(p.lanes), p.lanes)), "rows": Out(data.ArrayLayout(8, p.lanes)),
            "pixels": In(slots), "here": Out(p.lanes), "kept_pixels": Out(p.lanes * p.rows),
        })

    def build(self) -> Module:
        m, p, layer = Module(), self.params, self.layer
        kept_layout = data.StructLayout({"target": range(p.lanes), "row": range(max(2, p.lanes * p.rows)), "valid": 1})
        coming = Signal(p.lanes * p.rows)
        with m.If(self.clear):
            m.d.sync += coming.eq(self.present)
        left, present, of_team = Signal(32), Signal(p.lanes * p.rows), Signal(range(p.lanes + 1))
        m.d.comb += [
            self.idle.eq(~self.layer_start & (left == 0)),
            self.taken.eq((left != 0) & ~self.ready & self.dealt & ~self.layer_start),
            of_team.eq(Const(p.lanes) >> layer.teams_log2), self.here.eq(present.word_select(self.pixels, p.lanes)),
            self.kept_pixels.eq(present),
        ]
        for n in range(p.lanes):
            kept = []
            for g in range(p.rows):
                dealt, now = Signal(kept_layout, name=f"dealt_{g}_{n}"), Signal(kept_layout, name=f"now_{g}_{n}")
                with m.If(self.clear):
                    m.d.sync += dealt.valid.eq(0)
                with m.Elif(self.put & (self.group == g) & self.lanes[n]):
                    m.d.sync += [dealt.target.eq(self.row.target), dealt.row.eq(self.row.row), dealt.valid.eq(self.row.valid)]
                with m.If(self.taken):
                    m.d.sync += now.eq(dealt)
                kept.append(now.as_value())
            asked = Signal(kept_layout, name=f"asked_{n}")
            m.d.comb += [
                asked.as_value().eq(Array(kept)[self.slot]), self.target[n].eq(asked.target), self.rows[n].eq(asked.row),
                self.held[n].eq(asked.valid & ((Const(n, 8) & ~(of_team - 1)) == ((self.team * of_team)[:8]))),
            ]
        with m.If(self.taken):
            m.d.sync += [self.ready.eq(1), present.eq(coming)]
        with m.If(self.next):
            m.d.sync += [self.ready.eq(0), left.eq(left - 1), self.tile.eq(self.tile + 1),
                         self.first_pixel.eq(self.first_pixel + layer.tile_pixels)]
        with m.If(self.layer_start):
            m.d.sync += [left.eq(layer.row_tiles), self.tile.eq(0), self.ready.eq(0), self.first_pixel.eq(0)]
        return m
