"""Unaligned byte runs from AXI4 reads, cut into pieces."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hdl.block import Block
from hdl.bus.fifo import Fifo


def ar_signature(address_bits: int) -> stream.Signature:
    """Return the read-request stream: beat address (byte address) and beats minus one."""
    return stream.Signature(data.StructLayout({"address": address_bits, "len": 8}))


class Fetch(Block):
    """Read runs of bytes at any address and deliver them in pieces of at most ``piece_bytes``.

    A run that starts in the beat in which the run before it ended does not request that beat again, so runs
    that neighbour in memory cost one read. A run of 0 bytes gives one piece of 0 bytes and no request.
    Requests are made only when their beats fit the queue, so responses are always taken; bursts never cross 4 KB and
    have at most ``burst_beats`` beats. A request shows 1 cycle after its run is accepted, the first piece 5 cycles after
    that at a memory latency of 1, the piece of an empty run 3. At most ``queued`` runs wait for theirs. Throughput one piece
    a cycle inside a run, one run in two cycles.

    Members
    -------
    i : In(stream), {address, bytes, user}
        ``bytes`` in 0..2^length_bits-1.
    ar : Out(stream), {address, len}
    r : In(stream), beat; always ready
    o : Out(stream), {data, bytes, user, last}
        bytes above ``bytes`` are undefined; ``last`` marks the last piece of a run.
    forget : In(1)
        Drop the held beat: memory may have changed.
    """

    i: stream.Interface
    ar: stream.Interface
    r: stream.Interface
    o: stream.Interface

    def __init__(self, data_bits: int, address_bits: int, piece_bytes: int, user_bits: int, depth: int,
                 burst_beats: int, length_bits: int = 24, queued: int = 16) -> None:
        self.params = (data_bits, address_bits, piece_bytes, user_bits, depth, burst_beats, length_bits, queued)
        self.beat = data_bits // 8
        self.run = data.StructLayout({"address": address_bits, "bytes": length_bits, "user": user_bits})
        self.piece = data.StructLayout({
            "data": 8 * piece_bytes, "bytes": range(piece_bytes + 1), "user": user_bits, "last": 1})
        super().__init__({
            "i": In(stream.Signature(self.run)),
            "ar": Out(ar_signature(address_bits)),
            "r": In(stream.Signature(data_bits, always_ready=True)),
            "o": Out(stream.Signature(self.piece)),
            "forget": In(1),
        })

    def build(self) -> Module:
        m = Module()
        data_bits, address_bits, piece_bytes, user_bits, depth, burst_beats, length_bits, queued = self.params
        i, ar, r, o, beat = self.i, self.ar, self.r, self.o, self.beat
        log = (beat - 1).bit_length()
        m.submodules.beats = beats = Fifo(data_bits, depth)
        m.submodules.runs = runs = Fifo(log + length_bits + user_bits + 1, queued)

        page = 4096 // beat
        page_bits, run_bits = (page - 1).bit_length(), ((2 * beat - 2 + (1 << length_bits) - 1) >> log).bit_length()
        most = min(burst_beats, depth, page)
        credit = Signal(range(depth + 1), init=depth)
        next_beat, held_valid = Signal(address_bits - log), Signal()
        active, beats_left = Signal(), Signal(run_bits)
        first, second = Signal(address_bits - log), Signal(address_bits - log)
        reuse, before, count = Signal(), Signal(signed(log + 2)), Signal(run_bits)
        to_page, far, room, burst, granted = (
            Signal(range(page + 1)), Signal(), Signal(range(most + 1)), Signal(range(most + 1)), Signal(range(most + 1)))
        m.d.comb += [
            first.eq(i.p.address >> log),
            second.eq(first + 1),
            reuse.eq(held_valid & (next_beat == second) & ~self.forget),
            before.eq(i.p.address[:log] + Mux(reuse, -1, beat - 1)),
            count.eq(Mux(i.p.bytes == 0, 0, (before + i.p.bytes) >> log)),
            active.eq(beats_left != 0),
            to_page.eq(page - next_beat[:page_bits]),
            runs.i.payload.eq(Cat(i.p.address[:log], i.p.bytes, i.p.user, reuse)),
            runs.i.valid.eq(i.valid & ~active),
            i.ready.eq(runs.i.ready & ~active),
            room.eq(Mux(to_page < most, to_page, most)),
            far.eq((beats_left >> len(room)).any()),
            burst.eq(Mux(far | (beats_left[: len(room)] > room), room, beats_left)),
            ar.p.address.eq(Cat(Const(0, log), next_beat)),
            ar.p.len.eq((burst - 1)[: (most - 1).bit_length()]),
            ar.valid.eq(active & (credit >= burst)),
            granted.eq(Mux(ar.valid & ar.ready, burst, 0)),
        ]
        with m.If(i.valid & i.ready):
            m.d.sync += beats_left.eq(count)
            with m.If((i.p.bytes != 0) & ~reuse):
                m.d.sync += next_beat.eq(first)
            with m.If(i.p.bytes != 0):
                m.d.sync += held_valid.eq(1)
        with m.Elif(self.forget):
            m.d.sync += held_valid.eq(0)
        with m.If(ar.valid & ar.ready):
            m.d.sync += [next_beat.eq(next_beat + burst), beats_left.eq(beats_left - burst)]
        m.d.comb += [beats.i.payload.eq(r.payload), beats.i.valid.eq(r.valid)]
        m.d.sync += credit.eq(credit - granted + (beats.o.valid & beats.o.ready))

        current, have = Signal(data_bits), Signal()
        running, offset, after, empty = Signal(), Signal(range(beat)), Signal(length_bits), Signal()
        user = Signal(user_bits)
        size, stop, need_next, last = Signal(range(piece_bytes + 1)), Signal(range(2 * beat + 1)), Signal(), Signal()
        start_reuse = runs.o.payload[-1]
        m.d.comb += [
            last.eq(empty | (after < piece_bytes)),
            size.eq(Mux(empty, 0, Mux(last, after[: (piece_bytes - 1).bit_length()] + 1, piece_bytes))),
            stop.eq(offset + size),
            need_next.eq(stop > beat),
            o.p.data.eq(Cat(current, beats.o.payload).bit_select(offset << 3, 8 * piece_bytes)),
            o.p.bytes.eq(size), o.p.user.eq(user), o.p.last.eq(last),
            o.valid.eq(running & ((have & (~need_next | beats.o.valid)) | empty)),
        ]
        take = Signal()
        m.d.comb += take.eq(o.valid & o.ready)
        with m.If(take):
            m.d.sync += after.eq(after - piece_bytes)
            with m.If(last):
                m.d.sync += running.eq(0)
            with m.If(empty):
                pass
            with m.Elif(need_next):
                m.d.comb += beats.o.ready.eq(1)
                m.d.sync += [current.eq(beats.o.payload), offset.eq(stop - beat)]
            with m.Elif((stop == beat) & ~last):
                m.d.comb += beats.o.ready.eq(1)
                m.d.sync += [current.eq(beats.o.payload), have.eq(beats.o.valid), offset.eq(0)]
            with m.Else():
                m.d.sync += offset.eq(stop)
        with m.If(running & ~have & ~empty):
            m.d.comb += beats.o.ready.eq(1)
            m.d.sync += [current.eq(beats.o.payload), have.eq(beats.o.valid)]
        with m.If((~running | (take & last)) & runs.o.valid):
            m.d.comb += runs.o.ready.eq(1)
            run_offset, run_bytes = runs.o.payload[:log], runs.o.payload[log : log + length_bits]
            m.d.sync += [running.eq(1), offset.eq(run_offset), after.eq(run_bytes - 1),
                         empty.eq(run_bytes == 0),
                         user.eq(runs.o.payload[log + length_bits : -1])]
            with m.If(run_bytes != 0):
                m.d.sync += have.eq(start_reuse)
        return m


class ReadPort(Block):
    """Share one AXI4 read channel between ``masters``, in order, fixed priority to the lowest index.

    Responses come in request order and go to the master that asked. Latency 1 cycle on requests, 0 on
    responses. A response error sets ``error`` until reset.

    Members
    -------
    ar{j}, r{j} : streams of master j
    ar*, r* : AXI4 read channels, INCR bursts of full-width beats
    halt : In(1), take no new requests; idle : Out(1), nothing is outstanding
    """

    def __init__(self, masters: int, data_bits: int, address_bits: int, outstanding: int) -> None:
        self.params = (masters, data_bits, address_bits, outstanding)
        ports: dict[str, Any] = {}
        for j in range(masters):
            ports[f"ar{j}"] = In(ar_signature(address_bits))
            ports[f"r{j}"] = Out(stream.Signature(data_bits, always_ready=True))
        super().__init__({
            **ports,
            "araddr": Out(address_bits), "arlen": Out(8), "arvalid": Out(1), "arready": In(1),
            "rdata": In(data_bits), "rresp": In(2), "rlast": In(1), "rvalid": In(1), "rready": Out(1),
            "error": Out(1), "beats": Out(1), "idle": Out(1), "halt": In(1),
        })

    def build(self) -> Module:
        m = Module()
        masters, _, _, outstanding = self.params
        who = max(1, (masters - 1).bit_length())
        m.submodules.order = order = Fifo(who, outstanding)
        requests = [getattr(self, f"ar{j}") for j in range(masters)]
        free = Signal()
        m.d.comb += [free.eq((~self.arvalid | self.arready) & order.i.ready & ~self.halt)]
        with m.If(self.arready):
            m.d.sync += self.arvalid.eq(0)
        taken: Any = Const(0, 1)
        for j, request in enumerate(requests):
            with m.If(free & request.valid & ~taken):
                m.d.comb += [request.ready.eq(1), order.i.valid.eq(1), order.i.payload.eq(j)]
                m.d.sync += [self.araddr.eq(request.p.address), self.arlen.eq(request.p.len), self.arvalid.eq(1)]
            taken = taken | request.valid
        m.d.comb += [
            self.rready.eq(order.o.valid),
            self.beats.eq(self.rvalid & self.rready),
            order.o.ready.eq(self.rvalid & self.rlast),
            self.idle.eq((order.space == outstanding) & ~self.arvalid),
        ]
        for j in range(masters):
            response = getattr(self, f"r{j}")
            m.d.comb += [response.payload.eq(self.rdata),
                         response.valid.eq(self.rvalid & order.o.valid & (order.o.payload == j))]
        with m.If(self.rvalid & self.rready & (self.rresp[1] == 1)):
            m.d.sync += self.error.eq(1)
        return m
