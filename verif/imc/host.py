"""Host of a core in a cocotb bench: registers over AXI4-Lite, packets over the streams."""

from collections.abc import Iterable, Iterator
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge
from numpy.typing import NDArray

from golden.imc.arch import ImcArch
from hdl.imc.host_port import Target
from hdl.imc.program import LayerProgram
from hdl.imc.register_map import OFFSETS
from verif.stream import PERIOD_NS

INPUTS = ("aresetn", "s_axis_tvalid", "m_axis_tready", *(f"s_axi_ctrl_{name}" for name in (
    "awvalid", "wvalid", "bready", "arvalid", "rready")))
DONE, ERROR = 2, 4
START, CALIBRATE = 1, 4


class Host:
    """Drives the ports of `hdl.imc.imc.Imc`.

    pauses : True where a stream waits for a cycle, for both directions
    """

    def __init__(self, dut: Any, p: ImcArch, pauses: Iterator[bool]) -> None:
        self.dut, self.p, self.pauses = dut, p, pauses
        self.answers: list[list[int]] = []

    async def begin(self) -> None:
        """Reset, and collect what comes back."""
        dut = self.dut
        Clock(dut.aclk, PERIOD_NS, "ns").start()
        for name in INPUTS:
            getattr(dut, name).value = 0
        for _ in range(4):
            await RisingEdge(dut.aclk)
        dut.aresetn.value = 1
        await RisingEdge(dut.aclk)
        await RisingEdge(dut.aclk)
        cocotb.start_soon(self._collect())

    async def write(self, name: str, value: int) -> None:
        """Write a register."""
        dut = self.dut
        dut.s_axi_ctrl_awaddr.value, dut.s_axi_ctrl_wdata.value = OFFSETS[name], value
        dut.s_axi_ctrl_wstrb.value = 15
        for channel in ("aw", "w", "b"):
            getattr(dut, f"s_axi_ctrl_{channel}{'ready' if channel == 'b' else 'valid'}").value = 1
        await RisingEdge(dut.aclk)
        dut.s_axi_ctrl_awvalid.value = dut.s_axi_ctrl_wvalid.value = 0
        await FallingEdge(dut.aclk)
        while not dut.s_axi_ctrl_bvalid.value:
            await FallingEdge(dut.aclk)
        await RisingEdge(dut.aclk)

    async def read(self, name: str) -> int:
        """Return a register."""
        dut = self.dut
        dut.s_axi_ctrl_araddr.value, dut.s_axi_ctrl_arvalid.value, dut.s_axi_ctrl_rready.value = OFFSETS[name], 1, 1
        await RisingEdge(dut.aclk)
        dut.s_axi_ctrl_arvalid.value = 0
        await FallingEdge(dut.aclk)
        while not dut.s_axi_ctrl_rvalid.value:
            await FallingEdge(dut.aclk)
        value = int(dut.s_axi_ctrl_rdata.value)
        await RisingEdge(dut.aclk)
        return value

    async def send(self, target: int, index: int, words: Iterable[int]) -> None:
        """Send a packet."""
        await self.push([target | index << 4, *words])

    async def push(self, words: Iterable[int], *, last: bool = True) -> None:
        """Send words; ``last``: their packet ends."""
        dut, packet = self.dut, [int(word) & 0xFFFF_FFFF for word in words]
        for number, word in enumerate(packet):
            while next(self.pauses):
                dut.s_axis_tvalid.value = 0
                await RisingEdge(dut.aclk)
            dut.s_axis_tvalid.value, dut.s_axis_tdata.value = 1, word
            dut.s_axis_tlast.value = last and number == len(packet) - 1
            await FallingEdge(dut.aclk)
            while not dut.s_axis_tready.value:
                await FallingEdge(dut.aclk)
            await RisingEdge(dut.aclk)
        dut.s_axis_tvalid.value = 0

    async def receive(self) -> list[int]:
        """Return the next packet."""
        while not self.answers:
            await FallingEdge(self.dut.aclk)
        return self.answers.pop(0)

    async def fetch(self, bank: int, count: int) -> NDArray[np.uint32]:
        """Return the first ``count`` words of an activation memory, [count, ceil(rows / 32)]."""
        await self.send(Target.READ_0 + bank, 0, [count])
        packet = await self.receive()
        assert len(packet) == count * -(-self.p.rows // 32), f"a packet of {len(packet)} words"
        return np.asarray(packet, np.uint32).reshape(count, -1)

    async def load(self, program: LayerProgram) -> None:
        """Write everything that a layer needs but its operand."""
        for name, value in program.registers.items():
            await self.write(name, value)
        await self.send(Target.BIAS, 0, program.biases)
        await self.send(Target.SECOND, 0, program.seconds)

    async def run(self, control: int = START) -> tuple[int, int]:
        """Start, wait for irq, and return (status, error code)."""
        await self.write("STATUS", DONE | ERROR)
        await self.write("CONTROL", control | 2)
        while not self.dut.irq.value:
            await FallingEdge(self.dut.aclk)
        await RisingEdge(self.dut.aclk)
        return await self.read("STATUS"), await self.read("ERROR")

    async def _collect(self) -> None:
        dut, packet = self.dut, list[int]()
        while True:
            taking = not next(self.pauses)
            dut.m_axis_tready.value = int(taking)
            await FallingEdge(dut.aclk)
            if taking and dut.m_axis_tvalid.value:
                packet.append(int(dut.m_axis_tdata.value))
                if dut.m_axis_tlast.value:
                    self.answers.append(packet)
                    packet = []
            await RisingEdge(dut.aclk)
