"""Stored currents: the sums of all lanes leave one lane after the other."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from golden.formats import CURRENT_BYTES, PLACE_BITS
from hdl.block import Block
from hdl.descriptor import LAYER_LAYOUT
from hdl.fiber_writer import piece_bytes, piece_layout


def piece_count(p: Arch, steps: int) -> int:
    """Return in how many pieces, and cycles, the currents of a pixel and column of ``steps`` steps leave."""
    return -(-steps // (piece_bytes(p) // CURRENT_BYTES))


class CurrentStore(Block):
    """Write the currents of a column, or their sums over all steps, for every lane that holds a pixel.

    Twin of `golden.current_store.stored_currents`. A piece holds the currents of up to ``piece_bytes / 4`` steps. A present
    lane takes a cycle for each of its pieces, a read-out as many although it writes once, an absent lane takes one.

    Members
    -------
    layer, base, first_pixel, column, present : In, layer fields, byte address, pixel of lane 0, column, lanes that hold one
    sums : In, currents of every lane; they stand while ``go`` is high
    go : In(1), write them; settled : In, how many lanes may leave; done : Out(1), the last one leaves in this cycle
    o : Out(stream), `piece_layout`
    """

    o: stream.Interface

    def __init__(self, p: Arch) -> None:
        self.params = p
        super().__init__({
            "layer": In(LAYER_LAYOUT), "base": In(p.address_bits), "first_pixel": In(PLACE_BITS), "column": In(16),
            "present": In(p.lanes), "sums": In(data.ArrayLayout(data.ArrayLayout(signed(p.stream_bits), p.t_max), p.lanes)),
            "go": In(1), "settled": In(range(p.lanes + 1)), "done": Out(1), "o": Out(stream.Signature(piece_layout(p))),
        })

    def build(self) -> Module:
        m, p, layer, o = Module(), self.params, self.layer, self.o
        width = piece_bytes(p) // CURRENT_BYTES
        parts = -(-p.t_max // width)
        lane, part, left = Signal(range(max(2, p.lanes))), Signal(range(max(2, parts))), Signal(range(p.t_max + 1))
        total, so_far, pixel = Signal(signed(32)), Signal(signed(32)), Signal(PLACE_BITS)
        here, last_part, moves, taken = Signal(), Signal(), Signal(), Signal(range(width + 1))
        chosen = Array(lane_sums.as_value() for lane_sums in self.sums)[lane].word_select(part, p.stream_bits * width)
        currents = [chosen[p.stream_bits * n : p.stream_bits * (n + 1)].as_signed() for n in range(width)]
        placed = [Signal(signed(32), name=f"placed_{n}") for n in range(width)]
        m.d.comb += [
            *(one.eq(current) for one, current in zip(placed, currents, strict=True)),
            here.eq(self.present.bit_select(lane, 1)), pixel.eq(self.first_pixel + lane),
            left.eq(layer.steps - part * width), last_part.eq(left <= width if parts > 1 else 1),
            taken.eq(Mux(last_part, left, width)),
            so_far.eq(total + sum((Mux(n < taken, one, 0) for n, one in enumerate(placed)), Const(0, 1))),
            moves.eq(self.go & (lane < self.settled) & (~o.valid | o.ready)),
            self.done.eq(moves & (lane == p.lanes - 1) & (last_part | ~here)),
            o.valid.eq(self.go & (lane < self.settled) & here & (layer.store_currents | last_part)),
            o.p.bytes.eq(CURRENT_BYTES * Mux(layer.readout, 1, taken)),
            o.p.data.eq(Mux(layer.readout, so_far.as_unsigned(), Cat(placed))),
            o.p.address.eq(self.base + layer.currents + pixel * layer.current_stride[:22] + CURRENT_BYTES
                           * Mux(layer.readout, self.column, self.column * layer.steps + part * width)),
        ]
        with m.If(moves):
            m.d.sync += [part.eq(part + 1), total.eq(so_far)]
            with m.If(last_part | ~here):
                m.d.sync += [part.eq(0), total.eq(0), lane.eq(Mux(lane == p.lanes - 1, 0, lane + 1))]
        return m
