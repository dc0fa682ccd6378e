"""Top of the FTP accelerator: AXI4 master, AXI4-Lite registers, interrupt."""

from amaranth.hdl import Module
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from hdl.block import Block, entry
from hdl.bus import axi_lite
from hdl.bus.registers import Registers
from hdl.core import COUNTERS, Core

SIZES = {64: 3, 128: 4, 256: 5, 512: 6}


class Ftp(Block):
    """LoAS fully temporal-parallel accelerator with standard bus names.

    One clock ``aclk``, active-low synchronous reset ``aresetn``, registered once. ``m_axi_*`` is an AXI4 master
    without IDs (INCR bursts of full-width beats, in-order), ``s_axi_ctrl_*`` an AXI4-Lite slave with 32-bit data,
    ``irq`` a level.
    """

    clocked = False

    def __init__(self, p: Arch) -> None:
        self.params = p
        a, d = p.address_bits, p.data_bits
        master = {
            "araddr": Out(a), "arlen": Out(8), "arsize": Out(3), "arburst": Out(2), "arvalid": Out(1), "arready": In(1),
            "rdata": In(d), "rresp": In(2), "rlast": In(1), "rvalid": In(1), "rready": Out(1),
            "awaddr": Out(a), "awlen": Out(8), "awsize": Out(3), "awburst": Out(2), "awvalid": Out(1), "awready": In(1),
            "wdata": Out(d), "wstrb": Out(d // 8), "wlast": Out(1), "wvalid": Out(1), "wready": In(1),
            "bresp": In(2), "bvalid": In(1), "bready": Out(1)}
        slave = axi_lite.slave_members()
        self.master, self.slave = tuple(master), tuple(slave)
        super().__init__({
            "aclk": In(1), "aresetn": In(1), "irq": Out(1),
            **{f"m_axi_{name}": member for name, member in master.items()},
            **{f"s_axi_ctrl_{name}": member for name, member in slave.items()},
        })

    def build(self) -> Module:
        m, p = Module(), self.params
        entry(m, self.aclk, self.aresetn)
        m.submodules.registers = registers = Registers(p)
        m.submodules.core = core = Core(p)
        outputs = ("araddr", "arlen", "arvalid", "rready", "awaddr", "awvalid", "wdata", "wstrb", "wvalid", "bready")
        inputs = ("arready", "rdata", "rresp", "rlast", "rvalid", "awready", "wready", "bresp", "bvalid")
        m.d.comb += [getattr(self, f"m_axi_{name}").eq(getattr(core, name)) for name in outputs]
        m.d.comb += [getattr(core, name).eq(getattr(self, f"m_axi_{name}")) for name in inputs]
        for name in self.slave:
            port, inner = getattr(self, f"s_axi_ctrl_{name}"), getattr(registers, name)
            m.d.comb += port.eq(inner) if name in axi_lite.OUTPUTS else inner.eq(port)
        m.d.comb += [
            self.m_axi_arsize.eq(SIZES[p.data_bits]), self.m_axi_arburst.eq(1),
            self.m_axi_awsize.eq(SIZES[p.data_bits]), self.m_axi_awburst.eq(1),
            self.m_axi_awlen.eq(0), self.m_axi_wlast.eq(1),
            self.irq.eq(registers.irq),
            core.start.eq(registers.start), core.base.eq(registers.base),
            core.program_offset.eq(registers.program_offset), core.input_offset.eq(registers.input_offset),
            core.stats_offset.eq(registers.stats_offset),
            registers.busy.eq(core.busy), registers.done.eq(core.done), registers.error.eq(core.error),
            registers.error_code.eq(core.code), registers.error_layer.eq(core.layer_number),
        ]
        m.d.comb += [registers.counters[name].eq(getattr(core, f"count_{name}")) for name in COUNTERS]
        return m
