"""Inputs of a vector: the taps of a kernel, read in place, as the rows of one crossbar after the other."""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.imc.layer import layer_layout, vector_layout


class Gather(Block):
    """Read the words of all taps, plane by plane, and offer the inputs of each row block.

    Twin of `golden.imc.gather.gather`. A block takes a cycle for each word and plane, of up to ``chunks`` words, and 2 more,
    the first one of a vector 3; words outside of the map are 0 and are not read.

    Members
    -------
    layer : In; i : In(stream), `hdl.imc.layer.vector_layout`; both stand while a vector is on its way
    read, address : Out, to the activation memory; word : In, in the cycle after
    o : Out(stream), {x, last}: inputs of all rows of a crossbar; last block of the vector

    Source: imc 10, B1; DESIGN 4, order (ky, kx, channel).
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "layer": In(layer_layout()), "i": In(stream.Signature(vector_layout(p))), "read": Out(1),
            "address": Out(range(p.map_words)), "word": In(p.rows), "o": Out(stream.Signature(self.block_layout(p))),
        })

    @staticmethod
    def block_layout(p: ImcArch) -> data.StructLayout:
        """Return the inputs of a row block."""
        return data.StructLayout({"x": data.ArrayLayout(p.input_bits, p.rows), "last": 1})

    def build(self) -> Module:
        m, p, layer, i, o = Module(), self.params, self.layer, self.i, self.o
        kx, ky, group, slot = Signal(5), Signal(5), Signal(9), Signal(9)
        plane, held_plane = Signal(range(p.input_bits + 1)), Signal(range(p.input_bits + 1))
        filling, reading, place = Signal(), Signal(), Signal(range(p.rows))
        row, column, inside, over = Signal(signed(15)), Signal(signed(15)), Signal(), Signal()
        last = {name: Signal(name=f"last_{name}") for name in ("plane", "slot", "group", "kx", "ky")}
        ends = (("plane", plane, layer.bits), ("slot", slot, layer.chunks), ("group", group, layer.in_groups),
                ("kx", kx, layer.kernel_width), ("ky", ky, layer.kernel_height))
        m.d.comb += [last[name].eq(value + 1 == end) for name, value, end in ends]
        first_plane = Mux(layer.per_step, i.p.step * layer.bits, 0)
        m.d.comb += [
            row.eq(i.p.top + ky), column.eq(i.p.left + kx),
            inside.eq((row >= 0) & (row < layer.in_height) & (column >= 0) & (column < layer.in_width)),
            self.address.eq(layer.in_base + (first_plane + plane) * layer.in_plane + row[:12] * layer.in_row
                            + column[:12] * layer.in_groups + group),
            self.read.eq(filling & inside),
        ]
        m.d.sync += [reading.eq(self.read), held_plane.eq(plane), place.eq(slot << layer.chunk_log2)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [value.eq(0) for _, value, _ in ends]
                m.d.sync += over.eq(0)
                with m.If(i.valid):
                    m.next = "FILL"
            with m.State("FILL"):
                m.d.comb += filling.eq(1)
                m.d.sync += plane.eq(Mux(last["plane"], 0, plane + 1))
                with m.If(last["plane"]):
                    m.d.sync += [slot.eq(slot + 1), group.eq(Mux(last["group"], 0, group + 1))]
                    with m.If(last["slot"]):
                        m.d.sync += slot.eq(0)
                        m.next = "LAND"
                    with m.If(last["group"]):
                        m.d.sync += kx.eq(Mux(last["kx"], 0, kx + 1))
                        with m.If(last["kx"]):
                            m.d.sync += ky.eq(ky + 1)
                            with m.If(last["ky"]):
                                m.d.sync += over.eq(1)
                                m.next = "LAND"
            with m.State("LAND"):
                m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += [o.valid.eq(1), o.p.last.eq(over), i.ready.eq(o.ready & over)]
                with m.If(o.ready):
                    m.next = "FILL"
                    with m.If(over):
                        m.next = "IDLE"
        placed, part = Signal(p.rows), Signal(p.rows)
        m.d.comb += [part.eq(self._part()), placed.eq(part << place)]
        for b in range(p.input_bits):
            bits = Signal(p.rows, name=f"plane_{b}")
            m.d.comb += [o.p.x[r][b].eq(bits[r]) for r in range(p.rows)]
            with m.If(reading & (held_plane == b)):
                m.d.sync += bits.eq(bits | placed)
            with m.Elif(o.valid & o.ready):
                m.d.sync += bits.eq(0)
        return m

    def _part(self) -> Value:
        """Return the channels of a word that are read; all of them where there are no tokens, whose heads share words."""
        span, width = self.layer.in_span, self.params.rows
        if not self.params.tokens:
            return self.word
        return (self.word >> self.layer.in_shift) & Mux(span == 0, (1 << width) - 1, (1 << span) - 1)
