"""Numbers of tokens into the words of an activation memory."""

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import TOKEN_BITS, ImcArch
from hdl.block import Block
from hdl.imc.token_reader import token_map_layout


class TokenWriter(Block):
    """Collect the numbers of a group of channels, then write its planes.

    Twin of `golden.imc.token_writer.token_writer`. A number a cycle; behind the last one of a group of up to ``rows`` channels
    a cycle for each plane, in which none is taken.

    Members
    -------
    token_map : In, `hdl.imc.token_reader.token_map_layout`, where it goes; tokens, channels, groups : In, as of `TokenReader`;
        all stand meanwhile
    start : In(1), token 0 comes next
    i : In(stream), {value}: its ``bits`` low bits count
    write, bank, address, word : Out, to the activation memories; done : Out(1), the last word is written in this cycle

    Source: imc 10, B10 and the row units of workloads 5.2; decision 0015, words.
    """

    i: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "token_map": In(token_map_layout()), "tokens": In(12), "channels": In(13), "groups": In(9), "start": In(1),
            "i": In(stream.Signature(self.i_layout())), "write": Out(1), "bank": Out(1), "address": Out(range(p.map_words)),
            "word": Out(p.rows), "done": Out(1),
        })

    @staticmethod
    def i_layout() -> data.StructLayout:
        """Return a number of a token."""
        return data.StructLayout({"value": signed(TOKEN_BITS)})

    def build(self) -> Module:
        m, p, i, token_map = Module(), self.params, self.i, self.token_map
        token, channel, group, plane, place = Signal(12), Signal(13), Signal(9), Signal(5), Signal(range(p.rows))
        last, over, taken = Signal(), Signal(), Signal()
        planes = [Signal(p.rows, name=f"plane_{n}") for n in range(TOKEN_BITS)]
        m.d.comb += [
            over.eq(plane + 1 == token_map.bits), taken.eq(i.valid & i.ready), self.bank.eq(token_map.bank),
            self.address.eq(token_map.base + plane * token_map.plane + token * self.groups + group),
            self.word.eq(Array(planes)[plane[:4]]), last.eq(channel == self.channels),
            self.done.eq(self.write & over & last & (token + 1 == self.tokens)),
        ]
        with m.FSM():
            with m.State("TAKE"):
                m.d.comb += i.ready.eq(1)
                with m.If(taken):
                    m.d.sync += [place.eq(place + 1), channel.eq(channel + 1)]
                    with m.If((place == p.rows - 1) | (channel + 1 == self.channels)):
                        m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += self.write.eq(1)
                m.d.sync += plane.eq(plane + 1)
                with m.If(over):
                    m.d.sync += [plane.eq(0), place.eq(0), group.eq(Mux(last, 0, group + 1)), token.eq(token + last),
                                 channel.eq(Mux(last, 0, channel))]
                    m.next = "TAKE"
        with m.If(self.start):
            m.d.sync += token.eq(0)
        for n, kept in enumerate(planes):
            with m.If(taken):
                m.d.sync += kept.eq(Mux(place == 0, 0, kept) | (i.p.value[n] << place))
        return m
