"""Dispatch: row blocks to the tiles of a tree, column block after column block."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.imc.gather import Gather
from hdl.imc.layer import layer_layout
from hdl.imc.tile import Tile


class Dispatch(Block):
    """Hand ``fan_in`` row blocks at a time to the tiles, for all column blocks before the next ones.

    Twin of `golden.imc.dispatch.dispatch`. Tile ``lane * fan_in + f`` gets row block f of the round and column block
    ``round * lanes + lane``, in crossbar ``crossbar + (row round) * rounds_out + (column round)``. Blocks are taken while tiles
    work on the last ones; a round is sent when every tile that it needs has taken its vector, each at its own time. A block a
    cycle, then a round a cycle.

    Members
    -------
    layer : In, stands while a vector is on its way; key : In, of the vector whose blocks come
    i : In(stream), `Gather.block_layout`; o : Out(stream) [tiles], `Tile.vector_layout`
    idle : Out(1), nothing is held

    Source: imc 10, B0; decision 0014.
    """

    i: stream.Interface
    o: list[stream.Interface]

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "layer": In(layer_layout()), "key": In(24), "i": In(stream.Signature(Gather.block_layout(p))),
            "o": Out(stream.Signature(Tile.vector_layout(p))).array(p.tiles), "idle": Out(1),
        })

    def build(self) -> Module:
        m, p, layer, i = Module(), self.params, self.layer, self.i
        lanes = p.tiles // p.fan_in
        held = Array(Signal(Gather.block_layout(p)["x"].shape, name=f"block_{f}") for f in range(p.fan_in))
        count, column = Signal(range(p.fan_in + 1)), Signal(8)
        ended, key, first_block = Signal(), Signal(24), Signal(12)
        sent, needed = Signal(p.tiles), Signal(p.tiles)
        for lane in range(lanes):
            for f in range(p.fan_in):
                tile = lane * p.fan_in + f
                o = self.o[tile]
                m.d.comb += [
                    needed[tile].eq((f < count) & (column * lanes + lane < layer.column_blocks)),
                    o.p.x.eq(held[f]), o.p.crossbar.eq(layer.crossbar + first_block + column), o.p.key.eq(key),
                ]
        accepted = Signal(p.tiles)
        m.d.comb += accepted.eq(Cat(o.valid & o.ready for o in self.o))
        with m.FSM() as states:
            m.d.comb += self.idle.eq(states.ongoing("COLLECT") & (count == 0))
            with m.State("COLLECT"):
                m.d.comb += i.ready.eq(1)
                with m.If(i.valid):
                    m.d.sync += [held[count].eq(i.p.x), count.eq(count + 1), ended.eq(i.p.last), key.eq(self.key)]
                    with m.If(i.p.last | (count == p.fan_in - 1)):
                        m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += [o.valid.eq(needed[n] & ~sent[n]) for n, o in enumerate(self.o)]
                m.d.sync += sent.eq(sent | accepted)
                with m.If(((sent | accepted) & needed) == needed):
                    m.d.sync += [sent.eq(0), column.eq(column + 1)]
                    with m.If(column + 1 == layer.rounds_out):
                        m.d.sync += [column.eq(0), count.eq(0),
                                     first_block.eq(Mux(ended, 0, first_block + layer.rounds_out))]
                        m.next = "COLLECT"
        return m
