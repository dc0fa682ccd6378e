"""Pool: one value from the members of a window, channel by channel."""

from enum import IntEnum

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.imc.update import update


class PoolMode(IntEnum):
    """Code of what the members of a window become."""

    NONE = 0
    MAX = 1
    SUM = 2
    OR = 3


class Pool(Block):
    """Make one value of the members of a window, for each channel.

    Twin of `golden.imc.pool.pool`. The members of a window of a channel follow each other; other channels may come in between.
    One member a cycle, also of the same channel; the value is offered 2 cycles after its last member is accepted, full
    back-pressure.

    Members
    -------
    settings : In, {mode}, a `PoolMode`, stands while a member is on its way. NONE: each member is a window, whatever its flags
        say; OR: of low bits, the others of the value are 0
    i : In(stream), {channel, d, first, last}, flags of the members that begin and end a window
    o : Out(stream), {channel, d}; ``stream_bits`` hold every sum, which the mapping proves

    Source: imc 10, B7.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "settings": In(self.settings_layout()), "i": In(stream.Signature(self.i_layout(p))),
            "o": Out(stream.Signature(self.o_layout(p))),
        })

    @staticmethod
    def settings_layout() -> data.StructLayout:
        """Return the run-time settings."""
        return data.StructLayout({"mode": 2})

    @staticmethod
    def i_layout(p: ImcArch) -> data.StructLayout:
        """Return the payload of ``i``."""
        return data.StructLayout({"channel": range(max(2, p.channels)), "d": signed(p.stream_bits), "first": 1, "last": 1})

    @staticmethod
    def o_layout(p: ImcArch) -> data.StructLayout:
        """Return the payload of ``o``."""
        return data.StructLayout({"channel": range(max(2, p.channels)), "d": signed(p.stream_bits)})

    def build(self) -> Module:
        """Return the contents: a member waits one cycle for the value of those before it."""
        m, p, o, mode = Module(), self.params, self.o, self.settings.mode
        m.submodules.ram = ram = Ram(p.stream_bits, p.channels)
        stage = update(m, self.i, self.i.p.channel, ram)
        d, old = stage.held.d, stage.word.as_signed()
        first, last, value = Signal(), Signal(), Signal(signed(p.stream_bits))
        larger = Mux(old > d, old, d)
        m.d.comb += [
            first.eq(stage.held.first | (mode == PoolMode.NONE)), last.eq(stage.held.last | (mode == PoolMode.NONE)),
            value.eq(Mux(first, d, Mux(mode == PoolMode.MAX, larger, old + d))),
            stage.leave.eq(stage.busy & (~last | ~o.valid | o.ready)),
            ram.w_en.eq(stage.leave & ~last), ram.w_addr.eq(stage.held.channel), ram.w_data.eq(value),
        ]
        with m.If(mode == PoolMode.OR):
            m.d.comb += value.eq(d[0] | (old[0] & ~first))
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(stage.leave & last):
            m.d.sync += [o.valid.eq(1), o.p.channel.eq(stage.held.channel), o.p.d.eq(value)]
        return m
