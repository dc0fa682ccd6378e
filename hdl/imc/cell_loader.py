"""Numbers of tokens as weights: brings a tensor from an activation memory onto crossbars, row by row."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.imc.token_reader import token_map_layout


class CellLoader(Block):
    """Read the numbers of a row of a crossbar bit by bit, then give the row.

    Twin of `golden.imc.cell_loader.cell_loader`. A row takes a cycle for each bit of its weights and 3 more, and waits until it
    is taken.

    Members
    -------
    load : In, `load_layout`, stands while ``busy``; start : In(1), while not busy; busy : Out(1)
    read, bank, address : Out, to the activation memories; word : In, in the cycle after
    o : Out(stream), {tile, crossbar, row, levels, mask, end}, the level of each column and which of them are written; last row
        of all

    Source: imc 4 and 10, B9; workloads 5.2, WB.
    """

    o: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "load": In(self.load_layout()), "start": In(1), "busy": Out(1), "read": Out(1), "bank": Out(1),
            "address": Out(range(p.map_words)), "word": In(p.rows), "o": Out(stream.Signature(self.row_layout(p))),
        })

    @staticmethod
    def load_layout() -> data.StructLayout:
        """Return a tensor and where it goes, see `golden.imc.cell_loader.Load`.

        each : outputs of a crossbar; blocks : of columns; rounds : blocks over the lanes, rounded up
        """
        return data.StructLayout({
            "source": token_map_layout(), "transposed": 1, "inputs": 13, "outputs": 13, "groups": 9, "first_channel": 13,
            "columns_log2": 3, "each": 9, "blocks": 13, "rounds": 13, "crossbar": 10})

    @staticmethod
    def row_layout(p: ImcArch) -> data.StructLayout:
        """Return a row of a crossbar."""
        return data.StructLayout({
            "tile": range(max(2, p.tiles)), "crossbar": range(max(2, p.crossbars)), "row": range(p.rows),
            "levels": data.ArrayLayout(p.cell_bits, p.cols), "mask": p.cols, "end": 1})

    def build(self) -> Module:
        m, p, load, o = Module(), self.params, self.load, self.o
        lanes = p.tiles // p.fan_in
        row, first_input, part, first_crossbar = Signal(range(p.rows)), Signal(13), Signal(range(p.fan_in)), Signal(13)
        block, first_output, lane, round_ = Signal(13), Signal(13), Signal(range(lanes)), Signal(13)
        n, plane, column = Signal(range(p.cols)), Signal(5), Signal(range(p.cols))
        token, channel, held_place, held_column = Signal(13), Signal(13), Signal(range(p.rows)), Signal(range(p.cols))
        filling, reading, bits, mask = Signal(), Signal(), Signal(p.cols), Signal(p.cols)
        last_plane, last_n, last_row, last_block, last_part = (Signal(name=f"last_{name}") for name in (
            "plane", "n", "row", "block", "part"))
        at_input, at_output = first_input + row, first_output + n
        m.d.comb += [
            token.eq(Mux(load.transposed, at_output, at_input)),
            channel.eq(load.first_channel + Mux(load.transposed, at_input, at_output)),
            self.read.eq(filling), self.bank.eq(load.source.bank), self.busy.eq(1),
            self.address.eq(load.source.base + plane * load.source.plane + token * load.groups + channel // p.rows),
            column.eq((n << load.columns_log2) + plane), last_plane.eq(plane + 1 == load.source.bits),
            last_n.eq((n + 1 == load.each) | (at_output + 1 == load.outputs)),
            last_row.eq((row == p.rows - 1) | (at_input + 1 == load.inputs)), last_block.eq(block + 1 == load.blocks),
            last_part.eq(first_input + p.rows >= load.inputs), o.p.tile.eq(lane * p.fan_in + part), o.p.row.eq(row),
            o.p.crossbar.eq(first_crossbar + round_), *(o.p.levels[c].eq(bits[c]) for c in range(p.cols)), o.p.mask.eq(mask),
            o.p.end.eq(last_row & last_block & last_part),
        ]
        m.d.sync += [reading.eq(filling), held_place.eq(channel % p.rows), held_column.eq(column)]
        with m.If(reading):
            m.d.sync += [bits.bit_select(held_column, 1).eq(self.word.bit_select(held_place, 1)),
                         mask.bit_select(held_column, 1).eq(1)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                m.d.sync += [value.eq(0) for value in (row, first_input, part, block, first_output, lane, round_)]
                m.d.sync += first_crossbar.eq(load.crossbar)
                with m.If(self.start):
                    m.next = "CLEAR"
            with m.State("CLEAR"):
                m.d.sync += [value.eq(0) for value in (n, plane, bits, mask)]
                m.next = "FILL"
            with m.State("FILL"):
                m.d.comb += filling.eq(1)
                m.d.sync += plane.eq(Mux(last_plane, 0, plane + 1))
                with m.If(last_plane):
                    m.d.sync += n.eq(n + 1)
                    with m.If(last_n):
                        m.d.sync += n.eq(0)
                        m.next = "LAND"
            with m.State("LAND"):
                m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += o.valid.eq(1)
                with m.If(o.ready):
                    m.d.sync += row.eq(row + 1)
                    m.next = "CLEAR"
                    with m.If(last_row):
                        m.d.sync += [row.eq(0), block.eq(block + 1), first_output.eq(first_output + load.each),
                                     lane.eq(lane + 1)]
                        with m.If(lane == lanes - 1):
                            m.d.sync += [lane.eq(0), round_.eq(round_ + 1)]
                        with m.If(last_block):
                            m.d.sync += [value.eq(0) for value in (block, first_output, lane, round_)]
                            m.d.sync += [first_input.eq(first_input + p.rows), part.eq(part + 1)]
                            with m.If(part == p.fan_in - 1):
                                m.d.sync += [part.eq(0), first_crossbar.eq(first_crossbar + load.rounds)]
                    with m.If(o.p.end):
                        m.next = "IDLE"
        return m
