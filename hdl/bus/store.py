"""Pieces of bytes to AXI4 writes, neighbouring pieces joined into one beat."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hdl.block import Block
from hdl.bus.fifo import Fifo

QUEUED = 4


class Store(Block):
    """Write pieces of up to ``piece_bytes`` bytes at any address.

    Pieces that fall into the beat of the piece before them are joined, the later byte wins; a beat leaves when a
    piece of another beat arrives or on ``flush``. Single-beat bursts with byte strobes; addresses run ahead of their data, so
    a memory that takes the data a cycle after the address takes a beat a cycle. Throughput one piece a cycle, one more for a
    piece that crosses a beat. ``idle`` is high when nothing is held and every response has come.

    Members
    -------
    i : In(stream), {address, data, bytes}
    flush : In(1)
    halt : In(1), take no pieces
    aw*, w*, b* : AXI4 write channels
    error : Out(1)
        A response was not OKAY; sticky until reset.
    beats : Out(1)
        A beat leaves in this cycle.
    """

    i: stream.Interface

    def __init__(self, data_bits: int, address_bits: int, piece_bytes: int, outstanding: int) -> None:
        self.params = (data_bits, address_bits, piece_bytes, outstanding)
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({
                "address": address_bits, "data": 8 * piece_bytes, "bytes": range(piece_bytes + 1)}))),
            "flush": In(1), "halt": In(1), "idle": Out(1), "error": Out(1), "beats": Out(1),
            "awaddr": Out(address_bits), "awvalid": Out(1), "awready": In(1),
            "wdata": Out(data_bits), "wstrb": Out(data_bits // 8), "wvalid": Out(1), "wready": In(1),
            "bresp": In(2), "bvalid": In(1), "bready": Out(1),
        })

    def build(self) -> Module:
        m, i = Module(), self.i
        data_bits, address_bits, piece_bytes, outstanding = self.params
        beat = data_bits // 8
        log = (beat - 1).bit_length()
        m.submodules.addresses = addresses = Fifo(address_bits - log, QUEUED)
        m.submodules.queue = queue = Fifo(beat + data_bits, QUEUED)

        held, held_address, strobes, held_data = Signal(), Signal(address_bits - log), Signal(beat), Signal(data_bits)
        crossing, rest_strobes, rest_data = Signal(), Signal(piece_bytes), Signal(8 * piece_bytes)
        offset = i.p.address[:log]
        window_strobes, window_data = Signal(beat + piece_bytes), Signal(data_bits + 8 * piece_bytes)
        piece_strobes, spread, written = Signal(piece_bytes), Signal(8 * piece_bytes), Signal(data_bits)
        same, push, accept, room = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            piece_strobes.eq((Const(1, piece_bytes + 1) << i.p.bytes) - 1),
            spread.eq(Cat(s.replicate(8) for s in piece_strobes)),
            window_strobes.eq(piece_strobes << offset),
            window_data.eq((i.p.data & spread) << (offset << 3)),
            written.eq(Cat(s.replicate(8) for s in window_strobes[:beat])),
            same.eq(held & (held_address == i.p.address[log:])),
            addresses.i.payload.eq(held_address), queue.i.payload.eq(Cat(strobes, held_data)),
            room.eq(addresses.i.ready & queue.i.ready),
        ]
        with m.If(crossing):
            m.d.comb += push.eq(1)
            with m.If(room):
                m.d.sync += [crossing.eq(0), held_address.eq(held_address + 1),
                             strobes.eq(rest_strobes), held_data.eq(rest_data)]
        with m.Elif(i.valid & ~self.halt & (i.p.bytes == 0)):
            m.d.comb += accept.eq(1)
        with m.Elif(i.valid & ~self.halt):
            m.d.comb += [push.eq(held & ~same), accept.eq(~push | room)]
            with m.If(accept):
                m.d.sync += [
                    held.eq(1), held_address.eq(i.p.address[log:]),
                    strobes.eq(Mux(same, strobes, 0) | window_strobes[:beat]),
                    held_data.eq((Mux(same, held_data, 0) & ~written) | window_data[:data_bits]),
                    rest_strobes.eq(window_strobes[beat:]), rest_data.eq(window_data[data_bits:]),
                    crossing.eq(window_strobes[beat:] != 0),
                ]
        with m.Elif(self.flush & held):
            m.d.comb += push.eq(1)
            with m.If(room):
                m.d.sync += held.eq(0)
        waiting, go = Signal(range(outstanding + 1)), Signal()
        m.d.comb += [
            i.ready.eq(accept), addresses.i.valid.eq(push & room), queue.i.valid.eq(push & room),
            go.eq(addresses.o.valid & (waiting != outstanding)),
            self.awaddr.eq(Cat(Const(0, log), addresses.o.payload)), self.awvalid.eq(go),
            addresses.o.ready.eq(go & self.awready),
            self.wstrb.eq(queue.o.payload[:beat]), self.wdata.eq(queue.o.payload[beat:]), self.wvalid.eq(queue.o.valid),
            queue.o.ready.eq(self.wready), self.beats.eq(queue.o.valid & self.wready), self.bready.eq(1),
            self.idle.eq(~held & ~crossing & (queue.space == QUEUED) & (addresses.space == QUEUED) & (waiting == 0)),
        ]
        m.d.sync += waiting.eq(waiting + (go & self.awready) - self.bvalid)
        with m.If(self.bvalid & self.bresp[1]):
            m.d.sync += self.error.eq(1)
        return m
