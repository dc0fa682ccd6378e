"""Host of a tile of its own in a cocotb bench: registers over AXI4-Lite, packets over its streams."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import ImcArch
from golden.imc.job_port import ending
from golden.imc.write_verify import Job, Outcome, Settings
from hdl.imc.tile_register_map import NUMBER_FIELDS, OFFSETS
from hdl.imc.write_program import job_words, split
from hdl.imc.write_registers import write_words
from verif.axi import AxiLite
from verif.stream import PERIOD_NS

START, IRQ, CALIBRATE, STOP = 1, 2, 4, 8
BUSY, DONE, ERROR = 1, 2, 4
INPUTS, OUTPUTS = ("s_axis_x", "s_axis_job"), ("m_axis_y", "m_axis_fail", "m_axis_done")


def joined(fields: Iterable[int], bits: int) -> int:
    """Return fields of so many bits side by side, the lowest first."""
    return sum(int(value) << bits * n for n, value in enumerate(fields))


class TileHost:
    """Drives the ports of `hdl.imc.imc_tile.ImcTile`.

    pauses : True where a stream waits for a cycle, for all of them
    taking : streams that are taken from
    """

    def __init__(self, dut: Any, p: ImcArch, pauses: Iterator[bool]) -> None:
        self.dut, self.p, self.pauses = dut, p, pauses
        self.bus = AxiLite(dut)
        self.taking = set(OUTPUTS)
        self.packets: dict[str, list[list[int]]] = {name: [] for name in OUTPUTS}

    async def begin(self) -> None:
        """Reset, and collect what leaves."""
        dut = self.dut
        Clock(dut.aclk, PERIOD_NS, "ns").start()
        self.bus.idle()
        for name in ("aresetn", *(f"{name}_tvalid" for name in INPUTS), *(f"{name}_tready" for name in OUTPUTS)):
            getattr(dut, name).value = 0
        for _ in range(4):
            await RisingEdge(dut.aclk)
        dut.aresetn.value = 1
        await RisingEdge(dut.aclk)
        await RisingEdge(dut.aclk)
        for name in OUTPUTS:
            cocotb.start_soon(self._collect(name))

    async def write(self, registers: dict[str, int]) -> None:
        """Write registers."""
        for name, value in registers.items():
            await self.bus.write(OFFSETS[name], int(value))

    async def read(self, name: str) -> int:
        """Return a register."""
        return await self.bus.read(OFFSETS[name])

    async def settings(self, tile: dict[str, Any], writing: Settings | None = None) -> None:
        """Write the settings of `hdl.imc.settings.tile_settings`, and those of programming."""
        places = tile.pop("places")
        vector = {name: tile.pop(name) for name in ("bits", "outputs")}
        await self.write({f"VECTOR_{name.upper()}": value for name, value in vector.items()}
                         | {f"MACHINE_{name.upper()}": value for name, value in tile.items()}
                         | {f"PLACE_{n}": place["shift"] | place["negate"] << 4 | 1 << 5 for n, place in places.items()})
        if writing is not None:
            await self.write(write_words(dataclasses.asdict(writing), self.p.cell_bits))

    async def number(self, **fields: int) -> None:
        """Write a number in place of a calibration's."""
        await self.write({"NUMBER": sum((fields.get(name, 0) & (1 << width) - 1) << low
                                        for name, (low, width) in NUMBER_FIELDS.items())})

    async def control(self, command: int, *, until: int = 0) -> tuple[int, int]:
        """Write a command; wait for one of some bits of the status; return (status, error code)."""
        await self.bus.write(OFFSETS["CONTROL"], command | IRQ)
        return await self.status(until)

    async def status(self, until: int = 0) -> tuple[int, int]:
        """Wait for one of some bits of the status; return (status, error code)."""
        while until and not (await self.read("STATUS")) & until:
            await RisingEdge(self.dut.aclk)
        return await self.read("STATUS"), await self.read("ERROR")

    async def send(self, name: str, packet: Sequence[int], *, ends: bool = True) -> None:
        """Send the words of a packet, or of its beginning."""
        dut = self.dut
        for number, word in enumerate(packet):
            while next(self.pauses):
                await RisingEdge(dut.aclk)
            getattr(dut, f"{name}_tvalid").value, getattr(dut, f"{name}_tdata").value = 1, int(word)
            getattr(dut, f"{name}_tlast").value = int(ends and number == len(packet) - 1)
            await FallingEdge(dut.aclk)
            while not getattr(dut, f"{name}_tready").value:
                await FallingEdge(dut.aclk)
            await RisingEdge(dut.aclk)
            getattr(dut, f"{name}_tvalid").value = 0

    def vector(self, x: Sequence[int], bits: int, *, crossbar: int, key: int) -> list[int]:
        """Return the packet of a vector."""
        planes = [joined((int(value) >> bit & 1 for value in x), 1) for bit in range(bits)]
        return [crossbar, key, *(word for plane in planes for word in split(plane, self.p.rows))]

    def job(self, job: Job, *, crossbar: int) -> list[int]:
        """Return the packet of a job."""
        return job_words(self.p, crossbar=crossbar, **dataclasses.asdict(job))

    def ending(self, outcome: Outcome) -> list[int]:
        """Return the packet with which a job ends."""
        return ending(self.p, outcome)

    async def receive(self, name: str, cycles: int = 20_000) -> list[int]:
        """Return the next packet of a stream."""
        for _ in range(cycles):
            if self.packets[name]:
                return self.packets[name].pop(0)
            await RisingEdge(self.dut.aclk)
        raise AssertionError(f"{name}: no packet in {cycles} cycles")

    async def outputs(self, bits: int) -> list[int]:
        """Return the outputs of the next vector, signed words of so many bits."""
        packet = np.asarray(await self.receive("m_axis_y"), dtype=object)
        return [int(value) - (int(value) >> bits - 1 << bits) for value in packet]

    async def _collect(self, name: str) -> None:
        dut, packet = self.dut, list[int]()
        while True:
            taking = not next(self.pauses) and name in self.taking
            getattr(dut, f"{name}_tready").value = int(taking)
            await FallingEdge(dut.aclk)
            if taking and getattr(dut, f"{name}_tvalid").value:
                packet.append(int(getattr(dut, f"{name}_tdata").value))
                if getattr(dut, f"{name}_tlast").value:
                    self.packets[name].append(packet)
                    packet = []
            await RisingEdge(dut.aclk)
