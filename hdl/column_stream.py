"""Column stream of the loom: every other weight column from memory, chunk after chunk, without the empty ones."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.arch import BURSTS, COLUMNS_QUEUED, Arch
from golden.formats import COLUMN_BYTES
from hdl.array import column_layout
from hdl.block import Block
from hdl.bus.fetch import ar_signature
from hdl.bus.fifo import Fifo
from hdl.byte_stream import ByteStream
from hdl.count_ones import count_ones
from hdl.descriptor import LAYER_LAYOUT, descriptor_bus
from hdl.loom_join import column_chunk_layout
from hdl.priority_encoder import PriorityEncoder
from hdl.tap_table import TapTable


def stream_window(p: Arch) -> int:
    """Return the bytes of the stream that are looked at: a mask, a line of weights, and the head of the next column."""
    return 1 << (COLUMN_BYTES + -(-p.max_chunks // 8) + p.chunk_bits // 4 - 1).bit_length()


class ColumnStream(Block):
    """Read the even or the odd columns of a layer once per row tile and give them to the lanes.

    Twin of `golden.column_stream.column_stream`. In memory a column is bias, threshold, one bit per chunk, and for
    each chunk that is not empty its mask and its weights, each in whole bytes. The memory is read ahead as far as
    ``weight_bytes`` reach, over the ends of tiles. A chunk takes one cycle per line of ``chunk_bits`` bits of weights, at
    least one, while all lanes have room and the bytes are there; the head of a column is read with the last chunk of the one
    before, or takes a cycle of its own when it is not there yet. The first column of a tile that is read ahead is taken 3
    cycles after ``start``.

    Members
    -------
    number : In(1), 0 for the even columns, 1 for the odd ones, constant
    layer_start : In(1), a layer starts; tiles : In(32), row tiles; start : In(1), the next tile; only while ``idle``
    read : In(1), memory is asked
    line_put, weights, chunk_put, chunk : Out, to the lanes of ``team``; room : In(1), they take a line and a chunk
    team : Out, teams take the columns of a layer in turn; ended : Out(1), the last chunk of a column goes to it
    column : Out(stream), `hdl.array.column_layout`
    idle : Out(1), no tile is read; starve, full : Out(1), waits for memory, for the lanes
    """

    column: stream.Interface

    def __init__(self, p: Arch) -> None:
        self.params = p
        super().__init__({
            "descriptor": In(descriptor_bus()), "layer": In(LAYER_LAYOUT), "base": In(p.address_bits),
            "number": In(1), "layer_start": In(1), "tiles": In(32), "start": In(1), "read": In(1), "idle": Out(1),
            "ar": Out(ar_signature(p.address_bits)), "r": In(stream.Signature(p.data_bits, always_ready=True)),
            "line_put": Out(1), "weights": Out(p.chunk_bits), "chunk_put": Out(1), "chunk": Out(column_chunk_layout(p)),
            "room": In(1), "team": Out(range(p.lanes)), "ended": Out(1),
            "column": Out(stream.Signature(column_layout(p))), "starve": Out(1), "full": Out(1),
        })

    def build(self) -> Module:
        m, p, layer = Module(), self.params, self.layer
        window_bytes, line_bytes = stream_window(p), p.chunk_bits // 8
        m.submodules.taps = taps = TapTable(p)
        m.submodules.columns = columns = Fifo(column_layout(p).size, COLUMNS_QUEUED)
        m.submodules.encoder = encoder = PriorityEncoder(p.max_chunks)
        m.submodules.window = window = ByteStream(p.data_bits, window_bytes, 8)
        begin, tile_ended, kept_left = Signal(), Signal(), Signal(9)
        self._read_ahead(m, window, begin, tile_ended)
        connect(m, flipped(self.descriptor), taps.descriptor)
        m.d.comb += [
            taps.layer.eq(layer), taps.layer_start.eq(self.layer_start),
            self.column.payload.eq(columns.o.payload), self.column.valid.eq(columns.o.valid),
            columns.o.ready.eq(self.column.ready),
        ]
        head, index = Signal(8 * (COLUMN_BYTES + -(-p.max_chunks // 8))), Signal(16)
        column, head_at, head_seen, take_head = Signal(column_layout(p)), Signal(range(window_bytes)), Signal(), Signal()
        there, left, head_bytes = Signal(p.max_chunks), Signal(p.max_chunks), Signal(range(window_bytes + 1))
        mask, ones = Signal(p.chunk_bits), Signal(range(p.chunk_bits + 1))
        known, size, kept, kept_size, here = Signal(p.chunk_bits), Signal(9), Signal(p.chunk_bits), Signal(9), Signal(8)
        bytes_left, mask_bytes, enough, last_column = Signal(9), Signal(8), Signal(), Signal()
        step, of_head, of_mask, of_weights, chunk_end = (
            Signal(name=n) for n in ("step", "of_head", "of_mask", "of_weights", "chunk_end"))
        ended, own, teams = self.ended, Signal(16), Signal(range(p.lanes + 1))
        tap, chunk, log = taps.tap, self.chunk, line_bytes.bit_length() - 1
        m.d.comb += [
            head_bytes.eq(COLUMN_BYTES + ((layer.chunks + 7) >> 3)),
            head_at.eq(Mux(of_head, 0, mask_bytes + here)), head.eq(window.window.bit_select(head_at << 3, len(head))),
            head_seen.eq((window.fill >= head_at + head_bytes) & columns.i.ready & taps.ready),
            take_head.eq(step & of_head | ended & ~last_column & head_seen),
            column.bias.eq(head[:32]), column.threshold.eq(head[32:64]),
            own.eq((layer.columns + ~self.number) >> 1), teams.eq(1 << layer.teams_log2),
            column.tile_end.eq((index + Mux(of_head, 1, 2) == own) & (self.number ^ layer.columns[0])),
            last_column.eq(index + 1 == own), columns.i.payload.eq(column),
            there.eq(head[8 * COLUMN_BYTES :]
                     & ((Const(1, p.max_chunks + 1) << layer.chunks[: p.max_chunks.bit_length()]) - 1)),
            encoder.mask.eq(Mux(take_head, there, left)), taps.chunk.eq(encoder.position),
            mask.eq(window.window[: p.chunk_bits] & Cat((tap.bytes > i).replicate(8) for i in range(line_bytes))),
            ones.eq(count_ones(m, mask)), known.eq(Mux(of_mask, mask, kept)),
            size.eq(Mux(of_mask, (ones * p.weight_bits + 7) >> 3, kept_size)),
            bytes_left.eq(Mux(of_mask, size, kept_left)), mask_bytes.eq(Mux(of_mask, tap.bytes, 0)),
            here.eq(Mux(bytes_left > line_bytes, line_bytes, bytes_left)),
            enough.eq(Mux(of_head, window.fill >= head_bytes, window.fill >= mask_bytes + here)),
            step.eq(Mux(of_head, head_seen, enough & (of_mask | of_weights) & self.room)),
            chunk_end.eq(step & ~of_head & (bytes_left <= line_bytes)), ended.eq(chunk_end & (left == 0)),
            columns.i.valid.eq(take_head), taps.read.eq(take_head | chunk_end),
            window.take.eq(Mux(step, Mux(of_head, 0, mask_bytes + here), 0) + Mux(take_head, head_bytes, 0)),
            self.weights.eq(window.window.bit_select(mask_bytes << 3, p.chunk_bits)),
            self.line_put.eq(step & ~of_head & (bytes_left != 0)), self.chunk_put.eq(chunk_end),
            chunk.mask.eq(known), chunk.address.eq(tap.address), chunk.segment.eq(tap.segment), chunk.line.eq(tap.line),
            chunk.lines.eq((size + line_bytes - 1) >> log), chunk.last.eq((left == 0) | tap.end),
            self.starve.eq((of_head | of_mask | of_weights) & ~enough),
            self.full.eq((of_mask | of_weights) & enough & ~self.room),
        ]
        with m.If(step):
            m.d.sync += [kept.eq(known), kept_size.eq(size), kept_left.eq(bytes_left - here)]
        with m.If(take_head | chunk_end):
            m.d.sync += left.eq(encoder.rest)
        with m.If(ended):
            m.d.sync += [index.eq(index + 1), self.team.eq((self.team + 2) & (teams - 1))]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += tile_ended.eq(1)
                with m.If(self.start):
                    m.d.comb += begin.eq(1)
                    m.d.sync += [index.eq(0), self.team.eq(self.number & (teams - 1))]
                    with m.If(own != 0):
                        m.next = "HEAD"
            with m.State("HEAD"):
                m.d.comb += of_head.eq(1)
                with m.If(step & (layer.chunks != 0)):
                    m.next = "MASK"
                with m.Elif(step):
                    m.d.sync += index.eq(index + 1)
                    with m.If(last_column):
                        m.next = "IDLE"
            with m.State("MASK"):
                m.d.comb += of_mask.eq(1)
                with m.If(step & ~chunk_end):
                    m.next = "WEIGHTS"
                with m.Elif(ended & ~take_head):
                    m.next = "HEAD"
                    with m.If(last_column):
                        m.next = "IDLE"
            with m.State("WEIGHTS"):
                m.d.comb += of_weights.eq(1)
                with m.If(chunk_end):
                    m.next = "MASK"
                    with m.If(ended & ~take_head):
                        m.next = "HEAD"
                        with m.If(last_column):
                            m.next = "IDLE"
        return m

    def _read_ahead(self, m: Module, window: ByteStream, begin: Signal, ended: Signal) -> None:
        """Read the stream round after round into a queue, and give the window the beats of one round.

        Beats behind the last column of a round are taken away before the next one begins.
        """
        p, layer, request = self.params, self.layer, self.ar
        beat, depth = p.data_bits // 8, p.weight_bytes * 8 // p.data_bits
        log, page = (beat - 1).bit_length(), 4096 // beat
        most = min(p.burst_beats, depth // BURSTS, page)
        m.submodules.beats = beats = Fifo(p.data_bits, depth)
        length, asked, given = (Signal(32 - log, name=n) for n in ("length", "asked", "given"))
        rounds, credit, word = Signal(32), Signal(range(depth + 1)), Signal(p.data_bits)
        left = Signal(32 - log)
        room, burst, granted = (Signal(range(most + 1), name=n) for n in ("room", "burst", "granted"))
        origin, address = Signal(p.address_bits - log), Signal(p.address_bits - log)
        to_page, over, taken = Signal(range(page + 1)), Signal(), Signal()
        m.d.comb += [
            length.eq(layer.stream_bytes >> log), left.eq(length - asked),
            origin.eq((self.base + layer.weights + Mux(self.number, layer.stream_bytes, 0)) >> log),
            to_page.eq(page - address[: (page - 1).bit_length()]), room.eq(Mux(to_page < most, to_page, most)),
            burst.eq(Mux(left > room, room, left)),
            request.p.address.eq(Cat(Const(0, log), address)), request.p.len.eq((burst - 1)[: (most - 1).bit_length()]),
            request.valid.eq((rounds != 0) & (credit >= burst) & self.read & ~self.layer_start),
            granted.eq(Mux(request.valid & request.ready, burst, 0)),
            beats.i.payload.eq(self.r.payload), beats.i.valid.eq(self.r.valid),
            window.clear.eq(begin), window.word.eq(word),
            over.eq(given == length), taken.eq(beats.o.valid & ~over & ~begin & (window.want | ended)),
            window.granted.eq(taken), beats.o.ready.eq(taken), self.idle.eq(ended & over),
        ]
        m.d.sync += credit.eq(credit - granted + taken)
        with m.If(taken):
            m.d.sync += [word.eq(beats.o.payload), given.eq(given + 1)]
        with m.If(begin):
            m.d.sync += given.eq(0)
        with m.If(granted != 0):
            m.d.sync += [asked.eq(asked + granted), address.eq(address + granted)]
            with m.If(left == granted):
                m.d.sync += [asked.eq(0), address.eq(origin), rounds.eq(rounds - 1)]
        with m.If(self.layer_start):
            m.d.sync += [asked.eq(0), rounds.eq(self.tiles), credit.eq(depth), given.eq(length),
                         address.eq(origin)]
