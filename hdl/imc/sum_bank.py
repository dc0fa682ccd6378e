"""Bank of sums: adds up the parts of each output of a vector."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.imc.update import update


class SumBank(Block):
    """Add parts to the sums of their keys, in any order; a sum leaves with its last part.

    Twin of `golden.imc.sum_bank.sum_bank`. One part a cycle, also of the same key; the sum is offered 2 cycles after its last
    part is accepted, full back-pressure. Between vectors one cycle takes no part. After reset it is ``busy`` for ``channels``
    cycles.

    A word holds the sum, the parts in it, and the number of its vector: a word of an older vector is empty, one of this vector
    without parts is complete. Numbers come round again: each vector that ends renews one word, the next one, so that none is
    older than ``channels`` vectors, which is less than there are numbers.

    Members
    -------
    settings : In, {parts, keys}, parts of a key (at least 1; a crossbar sends one) and keys of a vector; stands while ``busy``
    i : In(stream), {key, d}
    vector_end : In(1), for a cycle: the parts accepted up to this cycle were the vector; again before that is over is a miss
    o : Out(stream), {key, d}; sums of ``stream_bits``, which the mapping proves wide enough; parts of a sum may wrap
    busy : Out(1), the bank is cleared, or a part, a sum or an end is on its way
    err_miss : Out(1), a vector ended with other than ``keys`` sums; err_dup : Out(1), a part came for a complete key, and was
        left out; both stay until reset

    Source: imc 10, B6, mode BANK.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "settings": In(self.settings_layout(p)), "i": In(stream.Signature(self.i_layout(p))), "vector_end": In(1),
            "o": Out(stream.Signature(self.o_layout(p))), "busy": Out(1), "err_miss": Out(1), "err_dup": Out(1),
        })

    @staticmethod
    def settings_layout(p: ImcArch) -> data.StructLayout:
        """Return the run-time settings."""
        return data.StructLayout({"parts": range(p.tiles * p.crossbars + 1), "keys": range(p.channels + 1)})

    @staticmethod
    def i_layout(p: ImcArch) -> data.StructLayout:
        """Return the payload of ``i``."""
        return data.StructLayout({"key": range(max(2, p.channels)), "d": signed(p.sum_bits + p.fan_in.bit_length() - 1)})

    @staticmethod
    def o_layout(p: ImcArch) -> data.StructLayout:
        """Return the payload of ``o``."""
        return data.StructLayout({"key": range(max(2, p.channels)), "d": signed(p.stream_bits)})

    def build(self) -> Module:
        """Return the contents: a part waits one cycle for the sum of those before it."""
        m, p, o, settings = Module(), self.params, self.o, self.settings
        epoch_bits = p.channels.bit_length()
        layout = data.StructLayout({"sum": signed(p.stream_bits), "count": settings.parts.shape(), "epoch": epoch_bits})
        m.submodules.ram = ram = Ram(layout.size, p.channels)
        clear, ending, finish, renewed = Signal(init=1), Signal(), Signal(), Signal(range(max(2, p.channels)))
        epoch, done = Signal(epoch_bits, init=-1), Signal(range(p.channels + 1))
        new, fresh, again, complete = Signal(layout), Signal(), Signal(), Signal()
        count = Signal.like(settings.parts)
        stage = update(m, self.i, self.i.p.key, ram, closed=clear | (ending & ~finish))
        old = data.View(layout, stage.word)
        m.d.comb += [
            fresh.eq(old.epoch != epoch), again.eq(~fresh & (old.count == 0)),
            count.eq(Mux(fresh, 0, old.count) + 1), complete.eq(count == settings.parts),
            stage.leave.eq(stage.busy & (again | ~complete | ~o.valid | o.ready)),
            finish.eq(ending & ~clear & ~stage.busy),
            new.sum.eq(Mux(fresh, 0, old.sum) + stage.held.d), new.epoch.eq(epoch),
            new.count.eq(Mux(stage.busy & ~complete, count, 0)),
            ram.w_en.eq((stage.leave & ~again) | finish | clear), ram.w_data.eq(new),
            ram.w_addr.eq(Mux(stage.busy, stage.held.key, renewed)),
            self.busy.eq(clear | ending | stage.busy | o.valid),
        ]
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(stage.leave & again):
            m.d.sync += self.err_dup.eq(1)
        with m.Elif(stage.leave & complete):
            m.d.sync += [o.valid.eq(1), o.p.key.eq(stage.held.key), o.p.d.eq(new.sum), done.eq(done + 1)]
        with m.If(finish | clear):
            m.d.sync += renewed.eq(renewed + 1)
            with m.If(renewed == p.channels - 1):
                m.d.sync += [renewed.eq(0), clear.eq(0)]
        with m.If(finish | (clear & (renewed == p.channels - 1))):
            m.d.sync += epoch.eq(epoch + 1)
        with m.If(finish):
            m.d.sync += [ending.eq(0), done.eq(0)]
        with m.If(self.vector_end):
            m.d.sync += ending.eq(1)
        with m.If((finish & (done != settings.keys)) | (self.vector_end & ending & ~finish)):
            m.d.sync += self.err_miss.eq(1)
        return m
