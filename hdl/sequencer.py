"""Sequencer: runs a whole program from one start."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.arch import Arch
from golden.formats import HEADER, HEADER_BYTES, LAYER, MAX_PASSES, RECORD_BYTES, STATS, STATS_BYTES
from hdl.block import Block
from hdl.bus.crc import Crc32
from hdl.bus.fetch import Fetch, ar_signature
from hdl.descriptor import LAYER_LAYOUT, capture, descriptor_bus, layout
from hdl.program_check import ProgramCheck

WORDS = RECORD_BYTES // 4


class Sequencer(Block):
    """Check the program, then run its layers one after the other.

    Twin of `golden.run.run`. The whole program is read twice: once for its CRC32, once layer by layer, a word a
    cycle; the next layer's record is fetched while a layer runs, its passes while the record is read. A layer begins when
    its descriptor words have been shown on the bus. When the tail is idle, one 64-byte record of the layer's counters is
    written with ``stats_offset`` not 0, and the layer ends when every write has its response. A check that fails, a bus
    error, or ``2^patience_log2`` cycles without ``progress`` end the run with a code of `golden.formats.ERRORS`.
    Outstanding responses are waited for; when they do not come, ``error`` is shown as well and ``busy`` stays.

    Members
    -------
    progress : In(1), something moved in this cycle
    start : In(1); busy : Out(1); done, error : Out(1), one cycle; code, layer_number : Out
    descriptor : Out, descriptor bus; layer : Out, layer fields
    layer_start : Out(1), a layer starts
    layer_idle, store_idle, read_idle, read_error, write_error, tile_error : In(1)
    halt : Out(1), no new requests; abort : Out(1), one cycle, resets all blocks when the buses are quiet
    stats : In, values of the counter record
    store : Out(stream), counter records; one word a piece
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        super().__init__({
            "start": In(1), "progress": In(1), "busy": Out(1), "done": Out(1), "error": Out(1), "code": Out(8),
            "layer_number": Out(16),
            "base": In(p.address_bits), "program_offset": In(32), "stats_offset": In(32),
            "ar": Out(ar_signature(p.address_bits)), "r": In(stream.Signature(p.data_bits, always_ready=True)),
            "descriptor": Out(descriptor_bus()), "layer": Out(LAYER_LAYOUT), "layer_start": Out(1),
            "layer_idle": In(1), "store_idle": In(1), "flush": Out(1), "read_error": In(1), "write_error": In(1),
            "tile_error": In(1),
            "read_idle": In(1), "halt": Out(1), "abort": Out(1),
            "stats": In(data.ArrayLayout(32, len(STATS))),
            "store": Out(stream.Signature(data.StructLayout({"address": p.address_bits, "data": 32}))),
        })

    def build(self) -> Module:
        m, p = Module(), self.params
        m.submodules.fetch = fetch = Fetch(p.data_bits, p.address_bits, 4, 1, p.outstanding, p.burst_beats)
        m.submodules.crc = crc = Crc32()
        m.submodules.check = check = ProgramCheck(p)
        connect(m, fetch.ar, flipped(self.ar))
        connect(m, flipped(self.r), fetch.r)
        header = Signal(layout(HEADER))
        word, left, position = Signal(32), Signal(32), Signal(p.address_bits)
        count, record, record_word = Signal(16), Signal(range(MAX_PASSES + 2)), Signal(range(WORDS))
        stat = Signal(range(STATS_BYTES // 4))
        request, asking, ahead = Signal(32), Signal(), Signal()
        code, idle_cycles, expired, told = Signal(8), Signal(p.patience_log2), Signal(), Signal()
        piece = fetch.o
        origin = Signal(p.address_bits)
        m.d.comb += [
            origin.eq(self.base + self.program_offset),
            fetch.i.valid.eq(asking), fetch.i.p.address.eq(position), fetch.i.p.bytes.eq(request),
            crc.word.eq(piece.p.data),
            check.header.eq(header), check.crc.eq(crc.crc), check.layer.eq(self.layer),
            check.word.eq(record_word), check.data.eq(piece.p.data), expired.eq(idle_cycles.all()),
            self.descriptor.word.eq(record_word), self.descriptor.record.eq(record),
            self.descriptor.data.eq(piece.p.data),
        ]
        with m.If(asking & fetch.i.ready):
            m.d.sync += asking.eq(0)
        m.d.comb += self.busy.eq(1)
        m.d.sync += idle_cycles.eq(Mux(self.progress | expired | ~self.busy, 0, idle_cycles + 1))

        def stop_if(error: Signal, number: int | Signal) -> None:
            with m.If(error):
                m.d.sync += [code.eq(number), told.eq(0)]
                m.next = "HALT"

        def watch() -> None:
            for error, number in ((expired, 9), (self.tile_error, 8), (self.read_error, 6), (self.write_error, 7)):
                stop_if(error, number)

        fetch.also_reset = self.abort
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                with m.If(self.start):
                    m.d.comb += [fetch.forget.eq(1), crc.start.eq(1)]
                    m.d.sync += [position.eq(origin), request.eq(HEADER_BYTES), asking.eq(1), word.eq(0),
                                 self.layer_number.eq(0), count.eq(0)]
                    m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += [piece.ready.eq(1), crc.valid.eq(piece.valid & (word >= 4))]
                with m.If(piece.valid):
                    m.d.sync += word.eq(word + 1)
                    capture(m, HEADER, header, word=word[:4], value=piece.p.data)
                    with m.If(word == HEADER_BYTES // 4 - 1):
                        m.next = "CHECK"
                watch()
            with m.State("CHECK"):
                m.d.sync += [position.eq(origin + HEADER_BYTES), request.eq(header.length - HEADER_BYTES),
                             left.eq(header.length - HEADER_BYTES), asking.eq(1), ahead.eq(1)]
                m.next = "SUM"
                stop_if(check.head_code != 0, check.head_code)
            with m.State("SUM"):
                m.d.comb += crc.valid.eq(piece.valid & piece.ready)
                with m.If(ahead & ~asking):
                    m.d.sync += [request.eq(RECORD_BYTES), asking.eq(1), ahead.eq(0), record.eq(0), record_word.eq(0)]
                m.d.comb += piece.ready.eq(left != 0)
                with m.If(piece.valid & piece.ready):
                    m.d.sync += left.eq(left - 4)
                with m.If(left == 0):
                    m.next = "RECORD"
                    stop_if(check.body_code != 0, check.body_code)
                watch()
            with m.State("RECORD"):
                m.d.comb += [piece.ready.eq(1), self.descriptor.valid.eq(piece.valid)]
                with m.If(piece.valid):
                    m.d.sync += record_word.eq(record_word + 1)
                    with m.If(record == 0):
                        capture(m, LAYER, self.layer, word=record_word, value=piece.p.data)
                        with m.If((record_word == 1) & (self.layer.passes != 0) & (self.layer.passes <= MAX_PASSES)):
                            m.d.sync += [position.eq(position + RECORD_BYTES), request.eq(self.layer.passes * RECORD_BYTES),
                                         asking.eq(1)]
                    with m.If(record_word == WORDS - 1):
                        m.d.sync += record.eq(record + 1)
                        with m.If(record == self.layer.passes):
                            m.next = "BEGIN"
                        stop_if(check.layer_code != 0, check.layer_code)
                    stop_if((record != 0) & (check.pass_code != 0), check.pass_code)
                watch()
            with m.State("BEGIN"):
                m.d.comb += self.layer_start.eq(1)
                with m.If(self.layer_number != header.layers - 1):
                    m.d.sync += [position.eq(position + request), request.eq(RECORD_BYTES), asking.eq(1)]
                m.next = "RUN"
            with m.State("RUN"):
                with m.If(self.layer_idle):
                    m.d.sync += stat.eq(0)
                    m.next = "STATS"
                watch()
            with m.State("STATS"):
                m.d.comb += self.store.valid.eq(self.stats_offset != 0)
                with m.If(self.store.ready | (self.stats_offset == 0)):
                    m.d.sync += stat.eq(stat + 1)
                    with m.If((stat == len(STATS) - 1) | (self.stats_offset == 0)):
                        m.next = "SETTLE"
                watch()
            with m.State("SETTLE"):
                m.d.comb += self.flush.eq(1)
                with m.If(self.store_idle & ~self.write_error & ~self.read_error):
                    m.d.sync += [self.layer_number.eq(self.layer_number + 1), record.eq(0), record_word.eq(0)]
                    m.next = "RECORD"
                    with m.If(self.layer_number == header.layers - 1):
                        m.d.comb += self.done.eq(1)
                        m.next = "IDLE"
                watch()
            with m.State("HALT"):
                m.d.comb += [self.halt.eq(1), self.flush.eq(1), piece.ready.eq(1)]
                m.d.sync += asking.eq(0)
                with m.If(expired & ~told):
                    m.d.comb += self.error.eq(1)
                    m.d.sync += told.eq(1)
                with m.If(self.read_idle & self.store_idle):
                    m.next = "ABORT"
            with m.State("ABORT"):
                m.d.comb += [self.abort.eq(1), self.error.eq(1)]
                m.next = "IDLE"
        m.d.comb += self.code.eq(code)
        m.d.comb += [
            self.store.p.address.eq(self.base + self.stats_offset + self.layer_number * STATS_BYTES + (stat << 2)),
            self.store.p.data.eq(self.stats.as_value().word_select(stat, 32)),
        ]
        return m
