"""Control registers: the AXI4-Lite block that serves the table of `hdl.bus.register_map`."""

from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from hdl.block import Block
from hdl.bus import axi_lite
from hdl.bus.register_map import COUNTERS, OFFSETS, base_mask, resets


class Registers(Block):
    """AXI4-Lite slave of the control registers, 32-bit data.

    Latency: read data come 1 cycle after the address is accepted; a written value and its response come 2 cycles after
    the later of address and data. Throughput: a read or a write every 2 cycles. No output depends on an input of the
    same cycle. Unmapped addresses read 0; every response is OKAY; address bits 1:0 are ignored.
    Counters are stable while busy is 0; a reader during a run takes high, low and high word again.

    Members
    -------
    aw*, w*, b*, ar*, r* : AXI4-Lite channels
    irq : Out, level: irq_enable and (done or error)
    start : Out, high for one cycle; never while busy
    base, program_offset, input_offset, stats_offset : Out, constant while busy
    busy : In, the core runs
    done, error : In, high for one cycle at the end of a run
    error_code, error_layer : In, taken with ``error``
    counters : In, one 64-bit value per name of `COUNTERS`
    """

    def __init__(self, arch: Arch) -> None:
        self.params = arch
        super().__init__({
            **axi_lite.slave_members(),
            "irq": Out(1), "start": Out(1), "base": Out(64), "program_offset": Out(32), "input_offset": Out(32),
            "stats_offset": Out(32), "busy": In(1), "done": In(1), "error": In(1), "error_code": In(8),
            "error_layer": In(16),
            "counters": In(self.counters_layout()),
        })

    @staticmethod
    def counters_layout() -> data.StructLayout:
        """Return the layout of ``counters``."""
        return data.StructLayout(dict.fromkeys(COUNTERS, 64))

    def build(self) -> Module:
        m = Module()
        access, running = axi_lite.writes(m, self), Signal()
        word, strobe = access.word, access.strobe
        irq_enable, done, failed, code, layer = Signal(), Signal(), Signal(), Signal(8), Signal(16)
        active, start = Signal(), Signal()
        m.d.comb += [
            active.eq(running | self.busy | self.start),
            self.irq.eq(irq_enable & (done | failed)),
        ]

        def writes(name: str) -> Value:
            return access.writes(OFFSETS[name])

        held = {"BASE_LO": self.base[:32], "BASE_HI": self.base[32:], "PROGRAM": self.program_offset,
                "INPUT": self.input_offset, "STATS": self.stats_offset}
        kept = base_mask(self.params)
        masks = {"BASE_LO": kept & 0xFFFF_FFFF, "BASE_HI": kept >> 32}
        for name, target in held.items():
            written = word & masks.get(name, 0xFFFF_FFFF)
            with m.If(writes(name) & ~active):
                for byte in range(4):
                    with m.If(strobe[byte]):
                        m.d.sync += target.word_select(byte, 8).eq(written.word_select(byte, 8))
        m.d.comb += start.eq(writes("CONTROL") & strobe[0] & word[0] & ~active)
        m.d.sync += self.start.eq(start)
        with m.If(writes("CONTROL") & strobe[0]):
            m.d.sync += irq_enable.eq(word[1])
        with m.If(writes("STATUS") & strobe[0]):
            m.d.sync += [done.eq(done & ~word[1]), failed.eq(failed & ~word[2])]
        with m.If(start):
            m.d.sync += [running.eq(1), done.eq(0), failed.eq(0), code.eq(0), layer.eq(0)]
        with m.If(self.done | self.error):
            m.d.sync += running.eq(0)
        with m.If(self.done):
            m.d.sync += done.eq(1)
        with m.If(self.error):
            m.d.sync += [failed.eq(1), code.eq(self.error_code), layer.eq(self.error_layer)]

        values: dict[str, Any] = {
            **{name: value for name, value in resets(self.params).items() if value},
            "CONTROL": irq_enable << 1,
            "STATUS": active | done << 1 | failed << 2,
            "ERROR": code | layer << 16,
            **held,
        }
        for name in COUNTERS:
            values[f"{name.upper()}_LO"] = self.counters[name][:32]
            values[f"{name.upper()}_HI"] = self.counters[name][32:]
        axi_lite.reads(m, self, {OFFSETS[name]: value for name, value in values.items()})
        return m
