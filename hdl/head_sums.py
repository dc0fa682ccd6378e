"""Sums of a block of columns of one head: added row by row, read column by column."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.descriptor import LAYER_LAYOUT


def sum_rows(p: Arch) -> int:
    """Return the rows of one half: a lane at a timestep each, in whole blocks of `attention_columns`."""
    return -(-p.lanes * p.t_max // p.attention_columns) * p.attention_columns


class HeadSums(Block):
    """Two halves of saturating sums [timestep, lane] x columns: one fills while the other drains.

    Twin of `golden.head_sums.head_sums`. Row r keeps column e in bank ``(r + e) mod columns``, so that a row of all columns
    and a column of as many rows each lie in different banks. A row is added in every cycle; its addends come one cycle
    behind it. A closed half drains by itself: a column shows after one cycle for each ``attention_columns / lanes``
    timesteps, begun ones too, and 1, and is taken 1 later at the earliest.

    Members
    -------
    layer : In, `steps` and `saturation`
    put, step, lane : In, this row is added to; addends : In, one cycle later
    close : In(1), at least two cycles after the last row; columns : In, of the half that closes
    ready : Out(1), the half that fills is free
    o : Out(stream), the sums of one column: dots of all lanes; lanes that no row was added to have 0
    """

    o: stream.Interface

    def __init__(self, p: Arch) -> None:
        self.params = p
        super().__init__({
            "layer": In(LAYER_LAYOUT), "put": In(1), "step": In(range(max(2, p.t_max))), "lane": In(range(max(2, p.lanes))),
            "addends": In(data.ArrayLayout(p.attention_bits, p.attention_columns)),
            "close": In(1), "columns": In(range(p.attention_columns + 1)), "ready": Out(1),
            "o": Out(stream.Signature(data.ArrayLayout(data.ArrayLayout(signed(p.acc_bits), p.t_max), p.lanes))),
        })

    def build(self) -> Module:
        m, p, layer = Module(), self.params, self.layer
        size, bits, depth = p.attention_columns, p.attention_bits, sum_rows(p)
        banks = [[Ram(bits, depth) for _ in range(size)] for _ in range(2)]
        for half, rams in enumerate(banks):
            for n, ram in enumerate(rams):
                m.submodules[f"bank_{half}_{n}"] = ram
        filling, draining, closed = Signal(), Signal(), Signal(2)
        counts = [Signal(range(size + 1), name=f"columns_{half}") for half in range(2)]
        seen = [Signal(depth, name=f"seen_{half}") for half in range(2)]
        row, row_before, added, same = Signal(range(depth)), Signal(range(depth)), Signal(), Signal()
        release = Signal()
        m.d.comb += [self.ready.eq(~closed.bit_select(filling, 1)), row.eq(self.step * p.lanes + self.lane)]
        m.d.sync += [added.eq(self.put), row_before.eq(row), same.eq(added & self.put & (row == row_before))]
        with m.If(self.close):
            m.d.sync += [closed.bit_select(filling, 1).eq(1), filling.eq(~filling)]
            for half, count in enumerate(counts):
                with m.If(filling == half):
                    m.d.sync += count.eq(self.columns)
        with m.If(release):
            m.d.sync += [closed.bit_select(draining, 1).eq(0), draining.eq(~draining)]

        column, block, reading = Signal(range(size)), Signal(range(depth // size + 1)), Signal()
        places = [Signal(range(depth), name=f"place_{n}") for n in range(size)]
        m.d.comb += [place.eq(Cat((Const(n, len(column)) - column)[: len(column)], block)) for n, place in enumerate(places)]
        turned, begun = Signal(bits * size), Signal()
        m.d.comb += [turned.eq(_turn(self.addends.as_value(), row_before[: len(column)], bits, left=True)),
                     begun.eq(Mux(filling, seen[1], seen[0]).bit_select(row_before, 1))]
        old = [Signal(bits * size, name=f"old_{half}") for half in range(2)]
        total = Signal(bits * size)
        for n in range(size):
            kept = Mux(same, total[n * bits : (n + 1) * bits], Mux(begun, Mux(
                filling, old[1], old[0])[n * bits : (n + 1) * bits], 0))
            wide, new = Signal(bits + 1, name=f"wide_{n}"), Signal(bits, name=f"new_{n}")
            m.d.comb += [wide.eq(kept + turned[n * bits : (n + 1) * bits]),
                         new.eq(Mux(wide > layer.saturation, layer.saturation, wide))]
            with m.If(added):
                m.d.sync += total[n * bits : (n + 1) * bits].eq(new)
            for half, rams in enumerate(banks):
                ram = rams[n]
                m.d.comb += [
                    ram.r_en.eq(Mux(filling == half, self.put, 0) | (reading & (draining == half))),
                    ram.r_addr.eq(Mux(reading & (draining == half), places[n], row)),
                    ram.w_en.eq(added & (filling == half)), ram.w_addr.eq(row_before), ram.w_data.eq(new),
                    old[half][n * bits : (n + 1) * bits].eq(ram.r_data)]
        for half, flags in enumerate(seen):
            with m.If(added & (filling == half)):
                m.d.sync += flags.bit_select(row_before, 1).eq(1)
            with m.If(release & (draining == half)):
                m.d.sync += flags.eq(0)
        read, flags = Signal(bits * size), Signal(depth)
        m.d.comb += [read.eq(Mux(draining, old[1], old[0])), flags.eq(Mux(draining, seen[1], seen[0]))]
        self._drain(m, column, block, reading, release, read, flags, closed.bit_select(draining, 1),
                    Mux(draining, counts[1], counts[0]))
        return m

    def _drain(self, m: Module, column: Signal, block: Signal, reading: Signal, release: Signal, read: Signal, seen: Signal,
               closed: Value, count: Value) -> None:
        """Read the columns of the closed half, blocks of rows after each other, and show each of them."""
        p, layer = self.params, self.layer
        size, bits, steps = p.attention_columns, p.attention_bits, p.attention_columns // p.lanes
        shown, caught, of_block = Signal(size * bits), Signal(), Signal(block.shape())
        rows = Signal(size * bits * (sum_rows(p) // size))
        flags = Signal(size)
        m.d.sync += [caught.eq(reading), of_block.eq(block)]
        m.d.comb += [
            shown.eq(_turn(read, column, bits, left=False)), flags.eq(seen.word_select(of_block, size))]
        for n in range(sum_rows(p) // size):
            with m.If(caught & (of_block == n)):
                m.d.sync += [rows[(n * size + i) * bits : (n * size + i + 1) * bits].eq(
                    Mux(flags[i], shown[i * bits : (i + 1) * bits], 0)) for i in range(size)]
        for lane in range(p.lanes):
            m.d.comb += [self.o.payload[lane][t].eq(rows.word_select(t * p.lanes + lane, bits)) for t in range(p.t_max)]
        with m.FSM():
            with m.State("READ"), m.If(closed):
                m.d.comb += reading.eq(1)
                m.d.sync += block.eq(block + 1)
                with m.If((block + 1) * steps >= layer.steps):
                    m.d.sync += block.eq(0)
                    m.next = "CATCH"
            with m.State("CATCH"):
                m.next = "SHOW"
            with m.State("SHOW"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += column.eq(column + 1)
                    m.next = "READ"
                    with m.If(column + 1 == count):
                        m.d.comb += release.eq(1)
                        m.d.sync += column.eq(0)


def _turn(value: Value, places: Value, bits: int, *, left: bool) -> Value:
    """Return words of ``bits`` bits rotated by ``places`` towards the last one (left) or the first one."""
    for n in range(len(places)):
        value = Mux(places[n], value.rotate_left(bits << n) if left else value.rotate_right(bits << n), value)
    return value
