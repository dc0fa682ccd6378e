"""What happens to the rows of a transformer between crossbars: from maps of the activation memories to another map."""

import dataclasses

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.imc.arch import TOKEN_BITS, ImcArch, TokenOp
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.imc.lookup import Lookup
from hdl.imc.norm import Norm
from hdl.imc.residual_add import ResidualAdd
from hdl.imc.reuse_buffer import ReuseBuffer, ReuseMode
from hdl.imc.row_factor import FACTOR_BITS
from hdl.imc.scale import Scale
from hdl.imc.softmax import Softmax
from hdl.imc.token_reader import TokenReader, token_map_layout
from hdl.imc.token_writer import TokenWriter


class TokenUnit(Block):
    """Run one operation on all tokens: read, work, write.

    Twin of `golden.imc.token_unit.token_unit`. Rows follow each other; reading (`TokenReader`), the operation, and writing
    (`TokenWriter`) of a group of channels wait for one another where they must.

    Members
    -------
    work : In, `work_layout`, stands from ``start`` until the end; start : In(1), not while ``busy``; busy : Out(1)
    done : Out(1), all words are written; error : Out(1), the reuse buffer holds another layer and nothing is done; each high
        for a cycle, the last one in which ``busy`` is
    numbers : In, {valid, what, index, number}: the host writes the gain (0) or bias (1) of a channel, the exponential of a
        distance (2), the function of a byte (3)
    read, read_bank, read_address, word; write, write_bank, write_address, written : to the activation memories; ``word`` in the
        cycle after ``read``
    token : In, factor : Out, F of a token behind SOFTMAX, in the cycle after
    attention_skip : Out(1), this layer writes no K and V, see `ReuseBuffer`

    Source: imc 4.3 and 10, B10; workloads 5.2.
    """

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "work": In(self.work_layout(p)), "start": In(1), "busy": Out(1), "done": Out(1), "error": Out(1),
            "numbers": In(self.numbers_layout(p)), "read": Out(1), "read_bank": Out(1), "read_address": Out(range(p.map_words)),
            "word": In(p.rows), "write": Out(1), "write_bank": Out(1), "write_address": Out(range(p.map_words)),
            "written": Out(p.rows), "token": In(range(max(2, p.tokens))), "factor": Out(FACTOR_BITS), "attention_skip": Out(1),
        })

    @staticmethod
    def work_layout(p: ImcArch) -> data.StructLayout:
        """Return an operation; ``groups`` are the channels over the rows, rounded up, ``values`` the numbers of a tensor."""
        return data.StructLayout({
            "op": 3, "map_a": token_map_layout(), "map_b": token_map_layout(), "out": token_map_layout(), "tokens": 12,
            "channels": 13, "groups": 9, "shift": 5, "eps": 31, "normalised": 1, "direct": 1, "mult": 16, "mult_shift": 5,
            "reuse": ReuseBuffer.settings_layout(p.tokens * p.features)})

    @staticmethod
    def numbers_layout(p: ImcArch) -> data.StructLayout:
        """Return a number of the host."""
        return data.StructLayout({"valid": 1, "what": 2, "index": range(max(256, p.features)), "number": 32})

    def build(self) -> Module:
        m, p, work = Module(), self.params, self.work
        self.reader, self.writer, self.norm, self.adder = TokenReader(p), TokenWriter(p), Norm(p.features), ResidualAdd()
        self.softmax, self.table, self.buffer = Softmax(p.features), Lookup(1), ReuseBuffer(p, p.tokens * p.features)
        self.scale = Scale(dataclasses.replace(p, stream_bits=TOKEN_BITS), TOKEN_BITS)
        for name in ("reader", "writer", "norm", "softmax", "table", "buffer", "scale", "adder"):
            m.submodules[name] = getattr(self, name)
        m.submodules.factors = factors = Ram(FACTOR_BITS, max(2, p.tokens))
        row, skips = Signal(12), Signal()
        m.d.comb += [
            factors.w_en.eq(self.softmax.o_row.valid), factors.w_addr.eq(row), factors.w_data.eq(self.softmax.o_row.p.factor),
            self.softmax.o_row.ready.eq(1), factors.r_en.eq(1), factors.r_addr.eq(self.token), self.factor.eq(factors.r_data),
            self.attention_skip.eq(self.buffer.attention_skip),
            skips.eq(~work.direct & work.reuse.reuse & (work.reuse.mode == ReuseMode.SKIP)),
        ]
        self._settings(m, skips)
        self._streams(m, skips)
        self._control(m, row)
        return m

    def _settings(self, m: Module, skips: Signal) -> None:
        """Give all parts the operation, the memories and the host's numbers."""
        work, reader, writer, numbers = self.work, self.reader, self.writer, self.numbers
        for number, write in ((2, self.softmax.write), (3, self.table.write)):
            m.d.comb += [write.valid.eq(numbers.valid & (numbers.what == number)), write.x.eq(numbers.index),
                         write.y.eq(numbers.number)]
        for part in (reader, writer):
            m.d.comb += [getattr(part, name).eq(work[name]) for name in ("tokens", "channels", "groups")]
        m.d.comb += [
            self.norm.parameters.valid.eq(numbers.valid & ~numbers.what[1]), self.norm.parameters.second.eq(numbers.what[0]),
            self.norm.parameters.channel.eq(numbers.index), self.norm.parameters.number.eq(numbers.number),
            reader.map_a.eq(work.map_a), reader.map_b.eq(work.map_b),
            reader.two.eq((work.op == TokenOp.ADD) & (work.direct | ~work.reuse.reuse)), writer.token_map.eq(work.out),
            self.norm.settings.count.eq(work.channels), self.norm.settings.shift.eq(work.shift),
            self.norm.settings.eps.eq(work.eps), self.norm.settings.centred.eq(1),
            self.softmax.settings.count.eq(work.channels), self.softmax.settings.normalised.eq(work.normalised),
            self.buffer.settings.eq(work.reuse), self.adder.alone.eq(skips),
            self.read.eq(reader.read), self.read_bank.eq(reader.bank), self.read_address.eq(reader.address),
            reader.word.eq(self.word), self.write.eq(writer.write), self.write_bank.eq(writer.bank),
            self.write_address.eq(writer.address), self.written.eq(writer.word),
        ]

    def _streams(self, m: Module, skips: Signal) -> None:
        """Send what is read through the parts of the operation, and what they give to the writer."""
        op, given, buffer, adder, norm, out = self.work.op, self.reader.o, self.buffer, self.adder, self.norm, self.writer.i
        value, found = Signal(signed(TOKEN_BITS)), Signal(signed(TOKEN_BITS))
        m.d.comb += [
            value.eq(given.p.a), out.p.value.eq(found), norm.i.p.x.eq(Mux(op == TokenOp.NORM, value, buffer.o.p.a)),
            self.softmax.i.p.z.eq(value), self.table.i.p.x.eq(value),
        ]
        with m.Switch(op):
            with m.Case(TokenOp.NORM):
                m.d.comb += [norm.i.valid.eq(given.valid), given.ready.eq(norm.i.ready)]
            with m.Case(TokenOp.SOFTMAX):
                m.d.comb += [self.softmax.i.valid.eq(given.valid), given.ready.eq(self.softmax.i.ready),
                             out.valid.eq(self.softmax.o.valid), self.softmax.o.ready.eq(out.ready),
                             found.eq(self.softmax.o.p.e)]
            with m.Case(TokenOp.LOOKUP):
                m.d.comb += [self.table.i.valid.eq(given.valid), given.ready.eq(self.table.i.ready),
                             out.valid.eq(self.table.o.valid), self.table.o.ready.eq(out.ready),
                             found.eq(self.table.o.p.y)]
            with m.Case(TokenOp.ADD):
                self._added(m, skips)
                m.d.comb += [out.valid.eq(adder.o.valid), adder.o.ready.eq(out.ready), found.eq(adder.o.p.x)]
            with m.Case(TokenOp.TRANSFORM):
                m.d.comb += [norm.i.valid.eq(buffer.o.valid), buffer.o.ready.eq(norm.i.ready)]
        with m.If((op == TokenOp.NORM) | (op == TokenOp.TRANSFORM)):
            m.d.comb += [out.valid.eq(norm.o.valid), norm.o.ready.eq(out.ready), found.eq(norm.o.p.q)]

    def _added(self, m: Module, skips: Signal) -> None:
        """Give the adder both numbers of a pair; what passes the buffer is scaled first, with the other number as its tag."""
        work, given, buffer, adder, scale = self.work, self.reader.o, self.buffer, self.adder, self.scale
        joined = Signal()
        m.d.comb += [scale.settings.bits.eq(TOKEN_BITS), scale.settings.is_signed.eq(1), buffer.i.p.a.eq(given.p.b)]
        with m.If(work.direct | skips):
            m.d.comb += [
                adder.i.valid.eq(given.valid), adder.a.valid.eq(given.valid & ~skips), adder.i.p.x.eq(given.p.a),
                adder.a.p.x.eq(given.p.b), given.ready.eq(adder.i.ready)]
        with m.Else():
            m.d.comb += [
                joined.eq(given.valid & buffer.o.valid), buffer.i.valid.eq(given.valid), scale.i.valid.eq(joined),
                given.ready.eq(joined & scale.i.ready), buffer.o.ready.eq(given.valid & scale.i.ready),
                scale.i.p.x.eq(buffer.o.p.a), scale.i.p.tag.eq(given.p.a), scale.i.p.mult.eq(work.mult),
                scale.i.p.shift.eq(work.mult_shift), adder.i.valid.eq(scale.o.valid), adder.a.valid.eq(scale.o.valid),
                adder.i.p.x.eq(scale.o.p.tag.as_signed()), adder.a.p.x.eq(scale.o.p.q), scale.o.ready.eq(adder.i.ready)]

    def _control(self, m: Module, row: Signal) -> None:
        """Start the parts, and end when all is written."""
        work, over, rows_over = self.work, Signal(), Signal()
        buffered = ((work.op == TokenOp.ADD) & ~work.direct) | (work.op == TokenOp.TRANSFORM)
        m.d.comb += rows_over.eq((work.op != TokenOp.SOFTMAX) | (row == work.tokens))
        with m.If(self.softmax.o_row.valid):
            m.d.sync += row.eq(row + 1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [over.eq(0), row.eq(0)]
                with m.If(self.start):
                    m.d.comb += [self.writer.start.eq(1), self.buffer.start.eq(buffered)]
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += self.busy.eq(1)
                m.next = "RUN"
                with m.If(buffered & self.buffer.tag_error):
                    m.d.comb += self.error.eq(1)
                    m.next = "IDLE"
                with m.Else():
                    m.d.comb += self.reader.start.eq(work.op != TokenOp.TRANSFORM)
            with m.State("RUN"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += over.eq(over | self.writer.done)
                with m.If((over | self.writer.done) & rows_over):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
