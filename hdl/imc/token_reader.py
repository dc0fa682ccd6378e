"""Numbers of tokens from the words of the activation memories, channel by channel."""

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import TOKEN_BITS, ImcArch
from hdl.block import Block


def token_map_layout() -> data.StructLayout:
    """Return where a tensor lies, see `golden.imc.token_reader.TokenMap`."""
    return data.StructLayout({"bank": 1, "base": 20, "plane": 20, "bits": 5, "is_signed": 1})


class TokenReader(Block):
    """Read the planes of a group of channels of a token, then give its numbers; of one tensor or of two side by side.

    Twin of `golden.imc.token_reader.token_reader`. A group of up to ``rows`` channels takes a cycle for each plane of both
    tensors, 1 more, and one for each channel.

    Members
    -------
    map_a, map_b : In, `token_map_layout`; two : In(1), ``map_b`` is read; tokens, channels, groups : In, at least 1, the last
        one ``channels / rows`` rounded up; all stand while ``busy``
    start : In(1), while not busy; busy : Out(1)
    read, bank, address : Out, to the activation memories; word : In, in the cycle after
    o : Out(stream), {a, b}, see `golden.imc.token_reader.Pair`

    Source: imc 10, B10 and the row units of workloads 5.2; decision 0015, words.
    """

    o: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "map_a": In(token_map_layout()), "map_b": In(token_map_layout()), "two": In(1), "tokens": In(12),
            "channels": In(13), "groups": In(9), "start": In(1), "busy": Out(1), "read": Out(1), "bank": Out(1),
            "address": Out(range(p.map_words)), "word": In(p.rows), "o": Out(stream.Signature(self.o_layout())),
        })

    @staticmethod
    def o_layout() -> data.StructLayout:
        """Return a number of each tensor."""
        return data.StructLayout({"a": signed(TOKEN_BITS), "b": signed(TOKEN_BITS)})

    def build(self) -> Module:
        m, p, o = Module(), self.params, self.o
        token, channel, group, place = Signal(12), Signal(13), Signal(9), Signal(range(p.rows))
        plane, second, landed, landed_second = Signal(5), Signal(), Signal(5), Signal()
        filling, reading, tensor = Signal(), Signal(), Signal(token_map_layout())
        last_plane, last_channel, last_token = Signal(), Signal(), Signal()
        m.d.comb += [
            tensor.eq(Mux(second, self.map_b, self.map_a)), last_plane.eq(plane + 1 == tensor.bits), self.bank.eq(tensor.bank),
            self.read.eq(filling), self.busy.eq(1),
            self.address.eq(tensor.base + plane * tensor.plane + token * self.groups + group),
            last_channel.eq(channel + 1 == self.channels), last_token.eq(token + 1 == self.tokens),
        ]
        m.d.sync += [reading.eq(filling), landed.eq(plane), landed_second.eq(second)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                m.d.sync += [token.eq(0), channel.eq(0), group.eq(0), plane.eq(0), second.eq(0)]
                with m.If(self.start):
                    m.next = "FILL"
            with m.State("FILL"):
                m.d.comb += filling.eq(1)
                m.d.sync += [plane.eq(Mux(last_plane, 0, plane + 1)), place.eq(0)]
                with m.If(last_plane):
                    m.d.sync += second.eq(self.two & ~second)
                    with m.If(second | ~self.two):
                        m.next = "LAND"
            with m.State("LAND"):
                m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += o.valid.eq(1)
                with m.If(o.ready):
                    m.d.sync += [channel.eq(channel + 1), place.eq(place + 1)]
                    with m.If(place == p.rows - 1):
                        m.d.sync += group.eq(group + 1)
                        m.next = "FILL"
                    with m.If(last_channel):
                        m.d.sync += [channel.eq(0), group.eq(0), token.eq(token + 1)]
                        m.next = "FILL"
                        with m.If(last_token):
                            m.next = "IDLE"
        given = o.valid & o.ready
        m.d.comb += [
            o.p.a.eq(self._numbers(m, "a", self.map_a, reading & ~landed_second, landed, given)),
            o.p.b.eq(Mux(self.two, self._numbers(m, "b", self.map_b, reading & landed_second, landed, given), 0)),
        ]
        return m

    def _numbers(self, m: Module, name: str, tensor: data.View, lands: Signal, plane: Signal, given: Signal) -> Signal:
        """Keep the planes of a group as they land, and return the number of its next channel."""
        planes = [Signal(self.params.rows, name=f"{name}_plane_{n}") for n in range(TOKEN_BITS)]
        top, found = Signal(name=f"{name}_top"), Signal(TOKEN_BITS, name=f"{name}_number")
        m.d.comb += top.eq(Array(kept[0] for kept in planes)[(tensor.bits - 1)[:4]] & tensor.is_signed)
        for n, kept in enumerate(planes):
            m.d.comb += found[n].eq(Mux(n < tensor.bits, kept[0], top))
            with m.If(lands & (plane == n)):
                m.d.sync += kept.eq(self.word)
            with m.Elif(given):
                m.d.sync += kept.eq(kept >> 1)
        return found
