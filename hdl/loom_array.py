"""Loom: row tiles are loaded once and stay in the lanes while all columns stream past."""

from amaranth.hdl import Array, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.arch import Arch
from golden.formats import MAX_PASSES
from hdl.array import column_layout
from hdl.block import Block
from hdl.bus.fetch import ar_signature
from hdl.column_stream import ColumnStream
from hdl.count_ones import count_ones
from hdl.descriptor import LAYER_LAYOUT, descriptor_bus
from hdl.loom_join import LoomJoin
from hdl.loom_sums import LoomSums
from hdl.pixel_loader import PixelLoader
from hdl.row_spread import RowSpread
from hdl.tile_rows import TileRows, row_layout


class LoomArray(Block):
    """Lanes that drift: each joins its rows with the columns at its own pace, within the window that its queues give.

    Twin of `golden.loom_array.loom_array`. While a tile is worked on, the pixels of the next one are loaded and its rows
    counted; its rows are dealt when the tail knows the tile before, and spread when all lanes are done. Then its columns
    stream, even ones and odd ones side by side to teams of lanes, or in turn to all lanes. A lane takes a cycle for each of
    its matches, and one for a sum whose last chunk has none; from a tile's last dots to the next one's first pass the cycles
    of its spread, 5, and those of its first column. Columns are read from memory once the masks of the first tile are there.

    Members
    -------
    layer_start : In(1), a layer starts; tiles : In(32), row tiles; idle : Out(1)
    even_ar, even_r, odd_ar, odd_r, mask_ar, mask_r, value_ar, value_r : memory
    clear, put, group, lanes, row, present : Out, of `hdl.tile_rows.TileRows`, to the tail; dealt : Out(1); taken : In(1)
    column : Out(stream), `hdl.array.column_layout`
    o : Out(stream), the dots of a pass of all lanes, of the rows in ``slot``
    last_group : In(1), the slot asked for is the last one of the column
    match_count, chunk_count, chunk_done, stall_* : one-cycle events
    """

    o: stream.Interface
    column: stream.Interface

    def __init__(self, p: Arch) -> None:
        self.params = p
        fetch, slots = stream.Signature(p.data_bits, always_ready=True), range(max(2, p.rows))
        memory = {f"{name}_{kind}": member for name in ("even", "odd", "mask", "value")
                  for kind, member in (("ar", Out(ar_signature(p.address_bits))), ("r", In(fetch)))}
        super().__init__({
            "descriptor": In(descriptor_bus()), "layer": In(LAYER_LAYOUT), "base": In(p.address_bits),
            "input_offset": In(32), "layer_start": In(1), "tiles": In(32), "idle": Out(1), **memory,
            "clear": Out(1), "put": Out(1), "group": Out(slots), "lanes": Out(p.lanes), "row": Out(row_layout(p)),
            "present": Out(p.lanes * p.rows), "dealt": Out(1), "taken": In(1),
            "column": Out(stream.Signature(column_layout(p))), "slot": In(slots), "last_group": In(1),
            "o": Out(stream.Signature(data.ArrayLayout(data.ArrayLayout(signed(p.acc_bits), p.t_max), p.lanes))),
            "match_count": Out(range(p.lanes + 1)), "corrections": Out(1), "chunk_done": Out(1),
            "chunk_count": Out(2), "stall_fifo": Out(1), "stall_weights": Out(1), "stall_rows": Out(1),
        })

    def build(self) -> Module:
        m, p, layer = Module(), self.params, self.layer
        m.submodules.rows = rows = TileRows(p)
        m.submodules.pixels = pixels = PixelLoader(p)
        m.submodules.spread = spread = RowSpread(p)
        m.submodules.even = even = ColumnStream(p)
        m.submodules.odd = odd = ColumnStream(p)
        for block in (rows, pixels, spread, even, odd):
            m.d.comb += block.layer.eq(layer)
            connect(m, flipped(self.descriptor), block.descriptor)
        for block in (rows, pixels, even, odd):
            m.d.comb += block.layer_start.eq(self.layer_start)
        for ar, r, name in ((pixels.mask_ar, pixels.mask_r, "mask"), (pixels.value_ar, pixels.value_r, "value"),
                            (even.ar, even.r, "even"), (odd.ar, odd.r, "odd")):
            connect(m, ar, flipped(getattr(self, f"{name}_ar")))
            connect(m, flipped(getattr(self, f"{name}_r")), r)
        for name in ("low_y", "high_y", "low_x", "high_x"):
            m.d.comb += getattr(pixels, name).eq(getattr(rows, name))
        for name in ("count_valid", "count_y", "count_x", "count"):
            m.d.comb += getattr(rows, name).eq(getattr(pixels, name))
        for name in ("clear", "put", "group", "lanes", "row"):
            m.d.comb += [getattr(spread, name).eq(getattr(rows, name)), getattr(self, name).eq(getattr(rows, name))]
        for name in ("pixel_read", "pixel_address", "mask_read", "mask_address", "line_read", "line_address"):
            m.d.comb += getattr(pixels, name).eq(getattr(spread, name))
        m.d.comb += [
            spread.pixel.eq(pixels.pixel), self.present.eq(rows.present), pixels.base.eq(self.base),
            pixels.input_offset.eq(self.input_offset),
        ]
        lanes_idle, opened = Signal(), Signal()
        self._tiles(m, lanes_idle, opened)
        self._lanes(m, lanes_idle, opened)
        m.d.comb += self.stall_rows.eq(~opened & ~self.idle)
        return m

    def _tiles(self, m: Module, lanes_idle: Signal, opened: Signal) -> None:
        """Load, deal, spread and stream one tile after the other."""
        rows, pixels, spread, even, odd = (getattr(m.submodules, n) for n in ("rows", "pixels", "spread", "even", "odd"))
        to_load, loading, to_stream, none, streamed, read = Signal(32), Signal(), Signal(32), Signal(), Signal(), Signal()
        m.d.comb += [self.idle.eq((to_stream == 0) & streamed & lanes_idle & ~self.layer_start),
                     none.eq(self.layer.passes == 0), streamed.eq(even.idle & odd.idle)]
        for number, columns in enumerate((even, odd)):
            m.d.comb += [columns.number.eq(number), columns.base.eq(self.base), columns.tiles.eq(self.tiles),
                         columns.start.eq(spread.start), columns.read.eq(read)]
        with m.FSM(name="loads"):
            with m.State("IDLE"), m.If((to_load != 0) & ~self.layer_start):
                m.d.comb += rows.start.eq(1)
                m.d.sync += to_load.eq(to_load - 1)
                m.next = "WALK"
            with m.State("WALK"), m.If(rows.walked):
                m.d.comb += pixels.start.eq(~none)
                m.next = "COUNT"
            with m.State("COUNT"), m.If(pixels.counted & ~self.dealt):
                m.d.comb += rows.deal.eq(1)
                m.d.sync += read.eq(1)
                m.next = "DEAL"
            with m.State("DEAL"), m.If(~rows.dealing & pixels.loaded):
                m.d.sync += [self.dealt.eq(1), loading.eq(1)]
                m.next = "SPREAD"
            with m.State("SPREAD"), m.If(~loading):
                m.next = "IDLE"
        with m.If(self.taken):
            m.d.sync += self.dealt.eq(0)
        with m.FSM(name="streams"):
            with m.State("IDLE"), m.If(loading & lanes_idle & streamed):
                m.d.comb += spread.start.eq(1)
                m.d.sync += to_stream.eq(to_stream - 1)
                m.next = "SPREAD"
            with m.State("SPREAD"), m.If(~spread.busy):
                m.d.sync += [loading.eq(0), opened.eq(1)]
                m.next = "STREAM"
            with m.State("STREAM"), m.If(streamed & lanes_idle):
                m.d.sync += opened.eq(0)
                m.next = "IDLE"
        with m.If(self.layer_start):
            m.d.sync += [to_load.eq(self.tiles), to_stream.eq(self.tiles), self.dealt.eq(0), read.eq(0)]

    def _streams(self, m: Module, rooms: list[Signal]) -> Signal:
        """Give the columns of both streams to the tail in turn; return which stream's turn it is where there are no teams."""
        even, odd, layer = m.submodules.even, m.submodules.odd, self.layer
        turn, second, allowed = Signal(), Signal(), [Signal(name=f"allowed_{n}") for n in range(2)]
        m.d.comb += [
            self.column.payload.eq(Mux(second, odd.column.payload.as_value(), even.column.payload.as_value())),
            self.column.valid.eq(Mux(second, odd.column.valid, even.column.valid)),
            even.column.ready.eq(self.column.ready & ~second), odd.column.ready.eq(self.column.ready & second),
            self.chunk_count.eq(even.chunk_put + odd.chunk_put), self.chunk_done.eq(even.chunk_put | odd.chunk_put),
            self.stall_fifo.eq(even.full & allowed[0] | odd.full & allowed[1]),
            self.stall_weights.eq(even.starve & allowed[0] | odd.starve & allowed[1]),
        ]
        for number, (columns, room) in enumerate(zip((even, odd), rooms, strict=True)):
            m.d.comb += [allowed[number].eq((layer.teams_log2 != 0) | (turn == number)),
                         columns.room.eq(room & allowed[number])]
        with m.If(self.column.valid & self.column.ready):
            m.d.sync += second.eq(~second & ~self.column.p.tile_end)
        with m.If(even.ended | odd.ended):
            m.d.sync += turn.eq(~turn)
        with m.If(even.start):
            m.d.sync += turn.eq(0)
        return turn

    def _lanes(self, m: Module, lanes_idle: Signal, opened: Signal) -> None:
        """Connect the lanes, and give the sums of a column to the tail, pass after pass for every slot."""
        p, layer = self.params, self.layer
        pixels, spread, streams = m.submodules.pixels, m.submodules.spread, (m.submodules.even, m.submodules.odd)
        room, idle, hits, haves = (Signal(p.lanes, name=n) for n in ("room", "lane_idle", "hits", "haves"))
        of_team, rooms = ([Signal(size, name=f"{name}_{n}") for n in range(2)]
                          for name, size in (("of_team", p.lanes), ("room_of", 1)))
        turn = self._streams(m, rooms)
        team, number, read, loaded, many = (Signal(range(p.lanes)), Signal(range(MAX_PASSES)), Signal(), Signal(), Signal())
        ahead, take, last_pass = Signal(range(p.window_columns)), Signal(range(p.window_columns + 1)), Signal()
        column = Signal(16)
        team_lanes, wanted = Signal(range(p.lanes + 1)), Signal(p.lanes)
        m.d.comb += [
            team_lanes.eq(Const(p.lanes) >> layer.teams_log2), many.eq(layer.groups != 1),
            team.eq(column & ((1 << layer.teams_log2) - 1)),
            *(rooms[n].eq((room | ~of_team[n]).all()) for n in range(2)), lanes_idle.eq(idle.all()),
            self.match_count.eq(count_ones(m, hits)),
            last_pass.eq(number + 1 == layer.passes), ahead.eq(Mux(many, number, 0)),
            read.eq(~loaded & (haves | ~wanted).all() & (layer.passes != 0)), self.o.valid.eq(loaded),
        ]
        with m.If(read):
            m.d.sync += loaded.eq(1)
        with m.If(loaded & self.o.ready):
            m.d.sync += [loaded.eq(many & (layer.passes == 1) & ~self.last_group), number.eq(Mux(last_pass, 0, number + 1))]
            m.d.comb += take.eq(Mux(~many, 1, Mux(last_pass & self.last_group, layer.passes, 0)))
            with m.If(last_pass & self.last_group):
                m.d.sync += column.eq(Mux(column + 1 == layer.columns, 0, column + 1))
        with m.If(self.layer_start):
            m.d.sync += [column.eq(0), number.eq(0), loaded.eq(0)]
        for n in range(p.lanes):
            m.submodules[f"join_{n}"] = join = LoomJoin(p)
            m.submodules[f"sums_{n}"] = sums = LoomSums(p)
            same, second = Const(n, 8) & ~(team_lanes - 1), Signal(name=f"second_{n}")
            own = [Mux(second, *values) for values in zip(*(
                (columns.chunk_put & of_team[number][n], columns.line_put & of_team[number][n], columns.chunk.as_value(),
                 columns.weights) for number, columns in reversed([*enumerate(streams)])), strict=True)]
            m.d.comb += [
                *(of_team[number][n].eq(same == (columns.team * team_lanes)[:8]) for number, columns in enumerate(streams)),
                second.eq(Mux(layer.teams_log2 == 0, turn, (team_lanes & n) != 0)),
                wanted[n].eq(same == (team * team_lanes)[:8]),
                join.span_log2.eq(layer.span_log2), join.clear.eq(spread.start), join.open.eq(opened),
                join.mask_en.eq(spread.mask_en[n]), join.mask_address.eq(spread.mask_at[n]), join.mask.eq(pixels.mask),
                join.chunk_put.eq(own[0]), join.line_put.eq(own[1]), join.chunk.as_value().eq(own[2]),
                join.hold.eq(sums.hold), room[n].eq(join.line_room & join.chunk_room),
                sums.word_log2.eq(layer.operand_log2), sums.span_log2.eq(layer.span_log2),
                sums.word_en.eq(spread.word_en[n]), sums.word_address.eq(spread.word_at[n]), sums.words.eq(pixels.line),
                sums.line_put.eq(join.line_put), sums.line.eq(join.line), sums.weights.eq(own[3]),
                sums.valid.eq(join.valid), sums.match.eq(join.match), hits[n].eq(sums.hit),
                haves[n].eq(sums.have > ahead), sums.read.eq(read), sums.ahead.eq(ahead),
                sums.take.eq(Mux(wanted[n], take, 0)), idle[n].eq(join.idle & sums.idle),
                self.o.payload[n].eq(Array(sums.sums[s].as_value() for s in range(p.rows))[self.slot]),
            ]
