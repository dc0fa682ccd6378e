"""Column lane of a core: adds up the outputs of the tiles that work on the same columns, and of all row blocks."""

import dataclasses

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.imc.layer import layer_layout
from hdl.imc.sum_bank import SumBank
from hdl.imc.sum_tree import SumTree


def banked(p: ImcArch) -> ImcArch:
    """Return a core's tile with the channels of one lane."""
    return dataclasses.replace(p, channels=max(2, p.channels * p.fan_in // p.tiles))


class Lane(Block):
    """Sum one lane's outputs of a vector, in the order in which its tiles run: all its column blocks for each row round.

    Twin of `golden.imc.lane.lane`. Column blocks ``lane, lane + lanes, ...`` are its own, ``rounds_in`` rounds of each add up
    to ``fan_in`` tiles. A word a cycle, behind each block the cycles of the tree more, since other tiles may take part in the
    next one; a sum comes 2 cycles and those of the tree after its last part. No sum of the next vector is begun until
    ``released``.

    Members
    -------
    layer : In, stands while a vector is on its way; i : In(stream) [fan_in], of the tiles
    o : Out(stream), {channel, d}
    ended : Out(1), all words of the vector have come, those beyond the last channel as well, and its sums have left
    released : In(1), the next vector may come, once ``ended``; or the layer begins
    error : Out(1), the tree's and the bank's

    Source: imc 10, B6.
    """

    i: list[stream.Interface]
    o: stream.Interface

    def __init__(self, p: ImcArch, number: int) -> None:
        self.params: tuple[ImcArch, int] = (p, number)
        super().__init__({
            "layer": In(layer_layout()), "i": In(stream.Signature(SumTree.i_layout(p))).array(p.fan_in),
            "o": Out(stream.Signature(self.o_layout(p))), "released": In(1), "ended": Out(1), "error": Out(1),
        })

    @staticmethod
    def o_layout(p: ImcArch) -> data.StructLayout:
        """Return the sum of a channel."""
        return data.StructLayout({"channel": range(max(2, p.channels)), "d": signed(p.stream_bits)})

    def build(self) -> Module:
        m, (p, number), layer, lanes = Module(), self.params, self.layer, self.params[0].tiles // self.params[0].fan_in
        m.submodules.sum_tree = tree = SumTree(p)
        m.submodules.sum_bank = bank = SumBank(banked(p))
        rounds_in, rounds_out, blocks = Signal(12), Signal(8), Signal(12)
        channel, key, keys = Signal(14), Signal.like(bank.i.p.key), Signal(range(p.channels + 1))
        closed, takes, exists, last_in, last_out, ending = Signal(), Signal(), Signal(), Signal(), Signal(), Signal()
        own, rest, leaving, left = Signal(8), Signal(range(p.fan_in + 1)), Signal(14), Signal(9)
        m.d.comb += [
            own.eq(layer.rounds_out - ((layer.rounds_out - 1) * lanes + number >= layer.column_blocks)),
            last_in.eq(rounds_in + 1 == layer.rounds_in), last_out.eq(rounds_out + 1 == own),
            rest.eq(layer.blocks - blocks), exists.eq(channel < layer.channels),
            tree.settings.active.eq(Mux(last_in, (1 << rest) - 1, (1 << p.fan_in) - 1)),
            bank.i.valid.eq(tree.o.valid & exists & ~closed), tree.o.ready.eq((bank.i.ready | ~exists) & ~closed),
            bank.i.p.key.eq(key), bank.i.p.d.eq(tree.o.p.d), takes.eq(tree.o.valid & tree.o.ready),
            bank.settings.parts.eq(layer.rounds_in), bank.settings.keys.eq(keys),
            self.error.eq(tree.error | bank.err_miss | bank.err_dup),
            self.ended.eq((closed & ~bank.vector_end & ~bank.busy) | (own == 0)),
        ]
        for mine, tile in zip(tree.i, self.i, strict=True):
            m.d.comb += [mine.valid.eq(tile.valid & ~ending), tile.ready.eq(mine.ready & ~ending), mine.p.eq(tile.p)]
        with m.If(tree.i[0].valid & tree.i[0].ready & tree.i[0].p.last):
            m.d.sync += ending.eq(1)
        m.d.comb += [self.o.valid.eq(bank.o.valid), bank.o.ready.eq(self.o.ready), self.o.p.d.eq(bank.o.p.d)]
        m.d.comb += self.o.p.channel.eq(leaving)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [leaving.eq(leaving + 1), left.eq(left - 1)]
            with m.If(left == 1):
                m.d.sync += [leaving.eq(leaving + (lanes - 1) * layer.outputs + 1), left.eq(layer.outputs)]
        with m.If(takes):
            m.d.sync += [channel.eq(channel + 1), key.eq(key + exists)]
            with m.If((rounds_in == 0) & exists):
                m.d.sync += keys.eq(keys + 1)
            with m.If(tree.o.p.last):
                m.d.sync += [ending.eq(0), rounds_out.eq(rounds_out + 1), channel.eq(channel + (lanes - 1) * layer.outputs + 1)]
                with m.If(last_out):
                    m.d.sync += [rounds_out.eq(0), channel.eq(number * layer.outputs), key.eq(0),
                                 rounds_in.eq(rounds_in + 1), blocks.eq(blocks + p.fan_in)]
                    with m.If(last_in):
                        m.d.sync += [closed.eq(1), rounds_in.eq(0), blocks.eq(0)]
        m.d.sync += bank.vector_end.eq(takes & tree.o.p.last & last_out & last_in)
        with m.If(self.released):
            m.d.sync += [closed.eq(0), keys.eq(0), channel.eq(number * layer.outputs), key.eq(0),
                         leaving.eq(number * layer.outputs), left.eq(layer.outputs)]
        return m
