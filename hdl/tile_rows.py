"""Rows of a tile of the loom: where they lie, how many words they have, and which lane gets which."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.arch import Arch
from hdl.block import Block
from hdl.descriptor import LAYER_LAYOUT, descriptor_bus
from hdl.pass_fields import PassFields
from hdl.row_exchange import exchange, first_of_most

MAP_BITS = 11


def at(value: Value) -> Value:
    """Return an unsigned field as a signed number of the same size."""
    return Cat(value, Const(0, 1)).as_signed()


def row_layout(p: Arch) -> data.StructLayout:
    """Return a row: corner of its first pass, its pixel before the pool, its place in the tile, the lane of its output."""
    place = signed(MAP_BITS + 2)
    return data.StructLayout({
        "corner_y": place, "corner_x": place, "center_y": place, "center_x": place,
        "row": range(max(2, p.lanes * p.rows)), "target": range(p.lanes), "valid": unsigned(1)})


class TileRows(Block):
    """Walk the rows of a tile, count their words, and deal them to the lanes.

    Twin of `golden.tile_rows.tile_rows`. Row ``m * tile_pixels + q`` of a tile is member m of the pooling window of its
    pixel q (one member without a pool). Rows go to groups of as many rows as a team has lanes, group g to row slot g.
    With ``deal`` the rows of a group, most words first, go to the lanes with the fewest words in the groups before,
    the lowest of equals first; then the lane with most words exchanges a row with another one of the same group, up to
    ``lanes`` times, while that leaves less to the fuller of both. Otherwise rows go in order. Every team holds the same rows.
    A walk takes a cycle a row after 2 cycles, a deal a cycle for each lane of a team and group after 1, in which ``clear``
    is high; exchanges take 4 cycles each, and 2 more find that there is none left. ``lanes`` of them end without these 2.

    Members
    -------
    layer_start : In(1), back to the first tile; start : In(1), walk a tile; walked : Out(1)
    low_y, high_y, low_x, high_x : Out, bounds of the rows' pixels
    present : Out, lanes times groups, pixels of the tile that exist
    count_valid, count_y, count_x, count : In, words of a pixel of the first pass
    deal : In(1); dealing : Out(1)
    clear : Out(1), all slots are empty; put, group, lanes, row : Out, this row lies in this slot of these lanes
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        place = signed(MAP_BITS + 2)
        super().__init__({
            "descriptor": In(descriptor_bus()), "layer": In(LAYER_LAYOUT), "layer_start": In(1),
            "start": In(1), "walked": Out(1), "low_y": Out(place), "high_y": Out(place), "low_x": Out(place),
            "high_x": Out(place), "present": Out(p.lanes * p.rows),
            "count_valid": In(1), "count_y": In(place), "count_x": In(place), "count": In(range(p.chunk_bits + 1)),
            "deal": In(1), "dealing": Out(1),
            "clear": Out(1), "put": Out(1), "group": Out(range(max(2, p.rows))), "lanes": Out(p.lanes),
            "row": Out(row_layout(p)),
        })

    def build(self) -> Module:
        m, p, layer = Module(), self.params, self.layer
        m.submodules.passes = passes = PassFields()
        connect(m, flipped(self.descriptor), passes.descriptor)
        fields, size = passes.fields, p.lanes * p.rows
        m.d.comb += [
            passes.number.eq(0), passes.load.eq(self.start),
        ]
        rows = [Signal(row_layout(p), name=f"row_{i}") for i in range(size)]
        counts = [Signal(p.index_bits + 1, name=f"count_{i}") for i in range(size)]
        team = Signal(range(p.lanes + 1))
        m.d.comb += team.eq(Const(p.lanes) >> layer.teams_log2)
        self._walk(m, rows, counts, team)
        for row, count in zip(rows, counts, strict=True):
            near_y, near_x = Signal(signed(MAP_BITS + 3), name=f"{row.as_value().name}_y"), Signal(
                signed(MAP_BITS + 3), name=f"{row.as_value().name}_x")
            m.d.comb += [near_y.eq(self.count_y - row.corner_y), near_x.eq(self.count_x - row.corner_x)]
            with m.If(self.count_valid & row.valid & (near_y >= 0) & (near_y < at(fields.kernel_height)) & (near_x >= 0)
                      & (near_x < at(fields.kernel_width))):
                m.d.sync += count.eq(count + self.count)
        self._deal(m, rows, counts, team)
        return m

    def _walk(self, m: Module, rows: list[data.View], counts: list[Signal], team: Signal) -> None:
        p, layer = self.params, self.layer
        fields = m.submodules.passes.fields
        y0, x0, y, x, after_x, after_y = (Signal(MAP_BITS + 1, name=n) for n in ("y0", "x0", "y", "x", "after_x", "after_y"))
        pixel, lane, group, number = Signal(8), Signal(range(p.lanes + 1)), Signal(range(p.rows + 1)), Signal(8)
        member_y, member_x, after_member_x, after_member_y = (
            Signal(8, name=n) for n in ("member_y", "member_x", "after_member_x", "after_member_y"))
        end_x, last_pixel, first, pooled, row = Signal(), Signal(), Signal(), Signal(), Signal(row_layout(p))
        kernel = Mux(layer.or_pool, layer.pool_kernel, 1)
        m.d.comb += [
            after_x.eq(x + 1), after_y.eq(y + 1), end_x.eq(after_x == layer.out_width), pooled.eq(layer.or_pool),
            after_member_x.eq(member_x + 1), after_member_y.eq(member_y + 1), last_pixel.eq(pixel + 1 == layer.tile_pixels),
            row.center_y.eq(Mux(pooled, at(y) * at(layer.pool_stride) - at(layer.pool_padding) + at(member_y), at(y))),
            row.center_x.eq(Mux(pooled, at(x) * at(layer.pool_stride) - at(layer.pool_padding) + at(member_x), at(x))),
            row.corner_y.eq(row.center_y * at(fields.stride) - at(fields.padding)),
            row.corner_x.eq(row.center_x * at(fields.stride) - at(fields.padding)),
            row.row.eq(number), row.target.eq(pixel[: len(row.target)]),
            row.valid.eq((y < layer.out_height)
                         & (~pooled | ((row.center_y >= 0) & (row.center_y < at(layer.height)) & (row.center_x >= 0)
                                       & (row.center_x < at(layer.width))))),
        ]
        with m.FSM(name="walk"):
            with m.State("IDLE"):
                m.d.comb += self.walked.eq(1)
                with m.If(self.start):
                    m.d.comb += self.walked.eq(0)
                    m.d.sync += [each.valid.eq(0) for each in rows] + [count.eq(0) for count in counts]
                    m.d.sync += [y.eq(y0), x.eq(x0), pixel.eq(0), lane.eq(0), group.eq(0), number.eq(0), member_y.eq(0),
                                 member_x.eq(0), first.eq(1), self.present.eq(0)]
                    m.next = "FIELDS"
            with m.State("FIELDS"):
                m.next = "ROW"
            with m.State("ROW"):
                for i, each in enumerate(rows):
                    with m.If((group == i // p.lanes) & (lane == i % p.lanes)):
                        m.d.sync += each.eq(row)
                with m.If((member_y == 0) & (member_x == 0)):
                    m.d.sync += self.present.bit_select(pixel[: (p.lanes * p.rows - 1).bit_length()], 1).eq(
                        y < layer.out_height)
                with m.If(row.valid):
                    m.d.sync += first.eq(0)
                    for low, high, center in ((self.low_y, self.high_y, row.center_y), (self.low_x, self.high_x, row.center_x)):
                        m.d.sync += [low.eq(Mux(first | (center < low), center, low)),
                                     high.eq(Mux(first | (center > high), center, high))]
                m.d.sync += [number.eq(number + 1), pixel.eq(pixel + 1), x.eq(Mux(end_x, 0, after_x)),
                             y.eq(Mux(end_x, after_y, y)), lane.eq(lane + 1)]
                with m.If(lane + 1 == team):
                    m.d.sync += [lane.eq(0), group.eq(group + 1)]
                with m.If(last_pixel):
                    m.d.sync += [pixel.eq(0), y.eq(y0), x.eq(x0), member_x.eq(after_member_x)]
                    with m.If(after_member_x == kernel):
                        m.d.sync += [member_x.eq(0), member_y.eq(after_member_y)]
                        with m.If(after_member_y == kernel):
                            m.d.sync += [y0.eq(Mux(end_x, after_y, y)), x0.eq(Mux(end_x, 0, after_x))]
                            m.next = "IDLE"
        with m.If(self.layer_start):
            m.d.sync += [y0.eq(0), x0.eq(0)]

    def _deal(self, m: Module, rows: list[data.View], counts: list[Signal], team: Signal) -> None:
        p, layer, lanes = self.params, self.layer, range(self.params.lanes)
        group, step, moved = Signal(range(max(2, p.rows))), Signal(lanes), Signal(range(p.lanes + 1))
        taken, given = Signal(p.lanes), Signal(p.lanes)
        loads = [Signal(p.index_bits + 3, name=f"load_{lane}") for lane in lanes]
        most, least, high, low, back = (Signal(lanes, name=n) for n in ("most", "least", "high", "low", "back"))
        here = [Signal(len(counts[0]), name=f"here_{n}") for n in lanes]
        chosen, lane, inside = Signal(lanes), Signal(lanes), [Signal(name=f"inside_{n}") for n in lanes]
        held = [[Signal(data.StructLayout({"row": lanes, "words": len(here[0])}), name=f"held_{g}_{n}") for n in lanes]
                for g in range(p.rows)]
        own = [Signal(held[0][0].shape(), name=f"own_{n}") for n in lanes]
        m.d.comb += [inside[n].eq(n < team) for n in lanes]
        m.d.comb += [here[n].eq(Array(counts[n :: p.lanes])[group]) for n in lanes]
        m.d.comb += [own[n].as_value().eq(Array(slots[n].as_value() for slots in held)[group]) for n in lanes]
        m.d.comb += [
            most.eq(first_of_most(m, [(Mux(inside[n] & ~taken[n], Cat(here[n], Const(1, 1)), 0), Const(n, most.shape()))
                                      for n in lanes])[1]),
            least.eq(first_of_most(m, [(Mux(inside[n] & ~given[n], Cat(~loads[n], Const(1, 1)), 0), Const(n, least.shape()))
                                       for n in lanes])[1]),
            self.group.eq(group),
            self.lanes.eq(Cat((Const(n, lane.shape()) & (team - 1)) == lane for n in lanes)),
        ]
        flat = Array(row.as_value() for row in rows)
        m.d.comb += self.row.as_value().eq(flat[(group * p.lanes + chosen)[: (len(rows) - 1).bit_length()]])
        fullest, found, place = exchange(m, held, loads, inside)
        with m.If(self.put):
            for n in lanes:
                with m.If(lane == n):
                    m.d.sync += loads[n].eq(loads[n] + Array(here)[chosen] - own[n].words)
                    for g, slots in enumerate(held):
                        with m.If(group == g):
                            m.d.sync += [slots[n].row.eq(chosen), slots[n].words.eq(Array(here)[chosen])]
        with m.FSM(name="deal") as fsm:
            m.d.comb += self.dealing.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"), m.If(self.deal):
                m.d.comb += [self.clear.eq(1), self.dealing.eq(1)]
                m.d.sync += [group.eq(0), step.eq(0), taken.eq(0), given.eq(0), moved.eq(0)] + [load.eq(0) for load in loads]
                m.d.sync += [each.words.eq(0) for slots in held for each in slots]
                m.next = "DEAL"
            with m.State("DEAL"):
                m.d.comb += [self.put.eq(1), chosen.eq(Mux(layer.deal, most, step)), lane.eq(Mux(layer.deal, least, step))]
                m.d.sync += [step.eq(step + 1), taken.bit_select(chosen, 1).eq(1), given.bit_select(lane, 1).eq(1)]
                with m.If(step + 1 == team):
                    m.d.sync += [step.eq(0), taken.eq(0), given.eq(0), group.eq(group + 1)]
                    with m.If(group + 1 == layer.groups):
                        m.next = "IDLE"
                        with m.If(layer.deal):
                            m.next = "HIGH"
            with m.State("HIGH"):
                m.d.sync += high.eq(fullest)
                m.next = "FIND"
            with m.State("FIND"):
                m.d.sync += [Cat(low, group).eq(place), moved.eq(moved + 1)]
                m.next = "IDLE"
                with m.If(found):
                    m.next = "UP"
            with m.State("UP"):
                m.d.comb += [self.put.eq(1), chosen.eq(Array(each.row for each in own)[low]), lane.eq(high)]
                m.d.sync += back.eq(Array(each.row for each in own)[high])
                m.next = "DOWN"
            with m.State("DOWN"):
                m.d.comb += [self.put.eq(1), chosen.eq(back), lane.eq(low)]
                m.next = "HIGH"
                with m.If(moved == p.lanes):
                    m.next = "IDLE"
