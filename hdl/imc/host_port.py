"""Host port of a core: packets of 32-bit words into its memories, and out of them."""

from enum import IntEnum

from amaranth.hdl import Array, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.imc.lane import Lane
from hdl.imc.legal import holds, holds_signed, tile_number
from hdl.imc.norm import X_BITS
from hdl.imc.tile import Tile
from hdl.imc.token_unit import TokenUnit


class Target(IntEnum):
    """What a packet is for: bits 3:0 of its first word; bits 31:4 are the index where it begins."""

    MAP_0 = 0       # words of an activation memory, lowest 32 bits first
    MAP_1 = 1
    BIAS = 2        # a word per channel
    SECOND = 3      # a word per channel: threshold, or factor and shift
    NUMBERS = 5     # a word per number of `hdl.imc.token_unit`: index is the first one, what << 24
    JOB = 6         # a packet of `hdl.imc.job_port`; index is the tile
    TILE = 4        # offset, trim code, gains or references: index is tile, kind << 6, adc << 8
    READ_0 = 8      # one more word: how many words of an activation memory are sent back, as one packet
    READ_1 = 9


class HostPort(Block):
    """Read packets, write what they say, and answer.

    Twin of `golden.imc.host_port.host_port`. A word a cycle; a word of a memory takes ``rows / 32`` of them, rounded up. What
    is sent back begins 3 cycles after the last word of its packet, and takes 2 cycles more for every further word of a memory.
    Sums of a read-out leave as packets of two words, channel and sum, one in 3 cycles; they go ahead of packets. A job is
    handed on as it comes, and the next packet waits until all is told of its end. What a packet has beyond what can be done,
    and a number that is wider than its place, is taken, left out and told.

    Members
    -------
    hold : In(1), packets wait, but not the rest of one; idle : Out(1), none is under way, nor is an answer
    malformed : Out(1), what came cannot be done; it is left out
    i, o : In(stream), Out(stream), {word, last}
    bank, address, write, data, read : Out, to the activation memories; word : In, in the cycle after
    parameters, number, tile, tokens : Out, to `hdl.imc.post.Post`, to a tile, and to `hdl.imc.token_unit.TokenUnit`
    readout : In(stream), `Lane.o_layout`
    o_job, told, working : Out(stream), In(stream), In(1), to `hdl.imc.job_port.JobPort` of ``tile``, its answer, its ``busy``

    Source: imc 10, B0.
    """

    i: stream.Interface
    o: stream.Interface
    readout: stream.Interface
    o_job: stream.Interface
    told: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "hold": In(1), "idle": Out(1), "malformed": Out(1),
            "i": In(stream.Signature(self.word_layout())), "o": Out(stream.Signature(self.word_layout())),
            "bank": Out(1), "address": Out(range(p.map_words)), "write": Out(1), "data": Out(p.rows), "read": Out(1),
            "word": In(p.rows), "number": Out(Tile.write_layout(p)), "tile": Out(6),
            "tokens": Out(TokenUnit.numbers_layout(p)),
            "parameters": Out(data.StructLayout({"valid": 1, "second": 1, "channel": range(max(2, p.channels)), "number": 32})),
            "readout": In(stream.Signature(Lane.o_layout(p))), "o_job": Out(stream.Signature(self.word_layout())),
            "told": In(stream.Signature(self.word_layout())), "working": In(1),
        })

    @staticmethod
    def word_layout() -> data.StructLayout:
        """Return a word of a packet."""
        return data.StructLayout({"word": 32, "last": 1})

    def build(self) -> Module:
        m, p, i, o, number = Module(), self.params, self.i, self.o, self.number
        parts = -(-p.rows // 32)
        target, index, part, left = Signal(4), Signal(29), Signal(range(parts + 1)), Signal(32)
        line = Signal(32 * parts)
        full = Signal(32 * parts)
        maps, take, second, exists, fits, done = (Signal(name=name) for name in (
            "maps", "take", "second", "exists", "fits", "done"))
        held = Signal.like(self.readout.p)
        m.d.comb += [
            maps.eq(target <= Target.MAP_1), take.eq(i.valid & i.ready), full.eq((line >> 32) | (i.p.word << 32 * (parts - 1))),
            self.bank.eq(target[0]), self.address.eq(index), self.data.eq(full), self.tile.eq(index[:6]),
            number.what.eq(index[6:8]), number.adc.eq(index[8:16]), number.column.eq(left), number.number.eq(i.p.word),
            self.parameters.second.eq(target == Target.SECOND), self.parameters.channel.eq(index),
            self.parameters.number.eq(i.p.word), self.tokens.what.eq(index[24:]), self.tokens.index.eq(index),
            self.tokens.number.eq(i.p.word), self.o_job.p.eq(i.p),
        ]
        with m.Switch(target):
            with m.Case(Target.MAP_0, Target.MAP_1):
                m.d.comb += [exists.eq(index < p.map_words), fits.eq((part != parts - 1) | holds(full, p.rows))]
            with m.Case(Target.BIAS, Target.SECOND):
                m.d.comb += [exists.eq(index < p.channels),
                             fits.eq((target == Target.SECOND) | holds_signed(i.p.word, p.stream_bits))]
            with m.Case(Target.TILE):
                m.d.comb += [exists.eq((index[:6] < p.tiles) & (index[8:] < p.adcs) & (left < Mux(index[7], p.mux, 1))),
                             fits.eq(tile_number(p, index[6:8], i.p.word))]
            with m.Case(Target.NUMBERS):
                m.d.comb += [exists.eq((index[:24] < Mux(index[25], 256, p.features)) & (index[26:] == 0) & (p.tokens > 0)),
                             fits.eq(self._token_number(index[24:26]))]
        with m.FSM() as states:
            m.d.comb += self.idle.eq(states.ongoing("HEAD") & ~self.readout.valid)
            with m.State("HEAD"):
                m.d.comb += i.ready.eq(~self.hold)
                m.d.sync += [target.eq(i.p.word[:4]), index.eq(i.p.word[4:]), part.eq(0), left.eq(0), held.eq(self.readout.p)]
                with m.If(take):
                    with m.Switch(i.p.word[:4]):
                        with m.Case(Target.MAP_0, Target.MAP_1, Target.BIAS, Target.SECOND, Target.TILE, Target.NUMBERS):
                            m.next = "WRITE"
                        with m.Case(Target.READ_0, Target.READ_1):
                            m.d.comb += self.malformed.eq(i.p.last)
                            m.next = "COUNT"
                        with m.Case(Target.JOB):
                            m.next = "JOB"
                            with m.If(i.p.word[4:] >= p.tiles):
                                m.d.comb += self.malformed.eq(1)
                                m.next = "DRAIN"
                        with m.Default():
                            m.d.comb += self.malformed.eq(1)
                            m.next = "DRAIN"
                    with m.If(i.p.last):
                        m.next = "HEAD"
                with m.If(self.readout.valid):
                    m.d.comb += i.ready.eq(0)
                    m.next = "SUM"
            with m.State("WRITE"):
                m.d.comb += i.ready.eq(1)
                with m.If(take):
                    m.d.sync += [line.eq(full), part.eq(Mux(part == parts - 1, 0, part + 1)), left.eq(left + 1)]
                    m.d.comb += [
                        done.eq(exists & fits), self.write.eq(done & maps & (part == parts - 1)),
                        number.valid.eq(done & (target == Target.TILE)),
                        self.tokens.valid.eq(done & (target == Target.NUMBERS)),
                        self.parameters.valid.eq(done & ((target == Target.BIAS) | (target == Target.SECOND))),
                        self.malformed.eq(~done | (maps & i.p.last & (part != parts - 1)))]
                    with m.If((target != Target.TILE) & (~maps | (part == parts - 1))):
                        m.d.sync += index.eq(index + 1)
                    with m.If(i.p.last):
                        m.next = "HEAD"
            with m.State("COUNT"):
                m.d.comb += i.ready.eq(1)
                m.d.sync += left.eq(i.p.word)
                with m.If(take):
                    m.d.comb += self.malformed.eq(~i.p.last | (index + i.p.word > p.map_words))
                    m.next = "READ"
                    with m.If(self.malformed | (i.p.word == 0)):
                        m.next = "HEAD"
                    with m.If(~i.p.last):
                        m.next = "DRAIN"
            with m.State("JOB"):
                m.d.comb += [self.o_job.valid.eq(i.valid), i.ready.eq(self.o_job.ready)]
                with m.If(take & i.p.last):
                    m.next = "TOLD"
            with m.State("TOLD"):
                m.d.comb += [o.valid.eq(self.told.valid), o.p.eq(self.told.p), self.told.ready.eq(o.ready)]
                with m.If(~self.working):
                    m.next = "HEAD"
            with m.State("DRAIN"):
                m.d.comb += i.ready.eq(1)
                with m.If(take & i.p.last):
                    m.next = "HEAD"
            with m.State("READ"):
                m.d.comb += self.read.eq(1)
                m.d.sync += part.eq(0)
                m.next = "LOAD"
            with m.State("LOAD"):
                m.d.sync += [line.eq(self.word), index.eq(index + 1), left.eq(left - 1)]
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += [o.valid.eq(1), o.p.word.eq(line), o.p.last.eq((left == 0) & (part == parts - 1))]
                with m.If(o.ready):
                    m.d.sync += [line.eq(line >> 32), part.eq(part + 1)]
                    with m.If(part == parts - 1):
                        m.next = "READ"
                        with m.If(left == 0):
                            m.next = "HEAD"
            with m.State("SUM"):
                m.d.comb += [o.valid.eq(1), o.p.word.eq(Mux(second, held.d, held.channel)),
                             o.p.last.eq(second), self.readout.ready.eq(second & o.ready)]
                with m.If(o.ready):
                    m.d.sync += second.eq(~second)
                    with m.If(second):
                        m.next = "HEAD"
        return m

    def _token_number(self, what: Value) -> Value:
        """Return whether the token unit has room for a word of that kind; bytes have a sign or not."""
        word = self.i.p.word
        if not self.params.tokens:
            return Const(0)
        return Array([holds_signed(word, X_BITS), Const(1), holds(word, 8), holds(word, 8) | holds_signed(word, 8)])[what]
