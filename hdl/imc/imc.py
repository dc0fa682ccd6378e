"""Top of a core of in-memory-computing tiles: AXI4-Lite registers, AXI4 streams, interrupt, macros as black boxes."""

from amaranth.hdl import Module
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block, entry
from hdl.bus import axi_lite
from hdl.imc.core import Core
from hdl.imc.registers import Registers
from hdl.imc.transformer import host_ports


class Imc(Block):
    """Core of tiles with standard bus names.

    One clock ``aclk``, active-low synchronous reset ``aresetn``, registered once. ``s_axi_ctrl_*`` is an AXI4-Lite slave with
    32-bit data, ``s_axis_*`` and ``m_axis_*`` are AXI4 streams of 32-bit words (`hdl.imc.host_port`), ``irq`` a level.
    """

    clocked = False

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        self.slave = axi_lite.slave_members()
        super().__init__({
            "aclk": In(1), "aresetn": In(1), "irq": Out(1),
            **{f"s_axi_ctrl_{name}": member for name, member in self.slave.items()},
            "s_axis_tdata": In(32), "s_axis_tlast": In(1), "s_axis_tvalid": In(1), "s_axis_tready": Out(1),
            "m_axis_tdata": Out(32), "m_axis_tlast": Out(1), "m_axis_tvalid": Out(1), "m_axis_tready": In(1),
        })

    def build(self) -> Module:
        m, p = Module(), self.params
        entry(m, self.aclk, self.aresetn)
        m.submodules.registers = registers = Registers(p)
        m.submodules.core = core = Core(p)
        for name in self.slave:
            port, inner = getattr(self, f"s_axi_ctrl_{name}"), getattr(registers, name)
            m.d.comb += port.eq(inner) if name in axi_lite.OUTPUTS else inner.eq(port)
        m.d.comb += [getattr(core, name).eq(getattr(registers, name)) for name in (
            "start", "calibrate", "layer", "machine", "exits", "places", "misfit", "changed", "writing", *host_ports(p))]
        m.d.comb += [getattr(registers, name).eq(getattr(core, name)) for name in (
            "busy", "writes", "done", "error", "code", "counters", "verdict")]
        m.d.comb += [
            self.irq.eq(registers.irq),
            core.host.valid.eq(self.s_axis_tvalid), self.s_axis_tready.eq(core.host.ready),
            core.host.p.word.eq(self.s_axis_tdata), core.host.p.last.eq(self.s_axis_tlast),
            self.m_axis_tvalid.eq(core.answer.valid), core.answer.ready.eq(self.m_axis_tready),
            self.m_axis_tdata.eq(core.answer.p.word), self.m_axis_tlast.eq(core.answer.p.last),
        ]
        return m
