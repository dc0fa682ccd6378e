"""AXI4-Lite master for benches.

The master drives after a rising edge and samples at the falling edge, where the signals of a cycle have settled, so
it has no race with any simulator.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from cocotb.triggers import FallingEdge, RisingEdge

OKAY, EXOKAY, SLVERR, DECERR = range(4)
RESPONSES = ("OKAY", "EXOKAY", "SLVERR", "DECERR")


class AxiError(AssertionError):
    """A transfer that got no answer in time or an answer that is not OKAY; the text is the whole message."""


class AxiLite:
    """Register access through the ports ``<prefix>aw*``, ``w*``, ``b*``, ``ar*``, ``r*`` of ``dut``.

    clock : clock of the ports; ``dut.aclk`` when None
    timeout_cycles : longest transfer before `AxiError`
    pauses : endless iterator of bool; a channel that draws True stays idle (or not ready) for a cycle
    """

    def __init__(self, dut: Any, prefix: str = "s_axi_ctrl_", *, clock: Any = None, timeout_cycles: int = 1000,
                 pauses: Iterator[bool] | None = None) -> None:
        self._dut = dut
        self._prefix = prefix
        self._clock = dut.aclk if clock is None else clock
        self._timeout_cycles = timeout_cycles
        self._pauses = itertools.repeat(False) if pauses is None else pauses

    def idle(self) -> None:
        """Drive every output of the master to its idle value; call once before the reset ends."""
        for name in ("awvalid", "awaddr", "wvalid", "wdata", "wstrb", "bready", "arvalid", "araddr", "rready"):
            self._port(name).value = 0

    async def write(self, address: int, data: int, strobe: int = 0xF, *, expect: int | None = OKAY) -> int:
        """Write 32 bits and return the response; another response than ``expect`` raises (None accepts all)."""
        await RisingEdge(self._clock)
        self._port("awaddr").value = address
        self._port("wdata").value = data
        self._port("wstrb").value = strobe
        response = await self._transfer(("aw", "w"), "b", f"write of {address:#05x}")
        return self._checked(response["resp"], expect, f"write of {address:#05x}")

    async def read(self, address: int, *, expect: int | None = OKAY) -> int:
        """Read 32 bits; another response than ``expect`` raises (None accepts all)."""
        return (await self.read_response(address, expect=expect))[0]

    async def read_response(self, address: int, *, expect: int | None = None) -> tuple[int, int]:
        """Read 32 bits and return (data, response)."""
        await RisingEdge(self._clock)
        self._port("araddr").value = address
        response = await self._transfer(("ar",), "r", f"read of {address:#05x}")
        return response["data"], self._checked(response["resp"], expect, f"read of {address:#05x}")

    async def read_pair(self, address: int) -> int:
        """Read the 64-bit value at ``address`` (low word) and ``address + 4`` (high word)."""
        low = await self.read(address)
        return low | await self.read(address + 4) << 32

    async def write_pair(self, address: int, data: int) -> None:
        """Write 64 bits, low word first."""
        await self.write(address, data & 0xFFFFFFFF)
        await self.write(address + 4, data >> 32)

    async def _transfer(self, requests: tuple[str, ...], answer: str, what: str) -> dict[str, int]:
        waiting = set(requests)
        held: set[str] = set()
        for _ in range(self._timeout_cycles):
            held |= {channel for channel in requests if channel in waiting - held and not next(self._pauses)}
            for channel in requests:
                self._port(f"{channel}valid").value = int(channel in held)
            ready = not next(self._pauses)
            self._port(f"{answer}ready").value = int(ready)
            await FallingEdge(self._clock)
            accepted = {channel for channel in held if self._port(f"{channel}ready").value == 1}
            answered = ready and self._port(f"{answer}valid").value == 1
            if answered and waiting:
                raise AxiError(f"{self._prefix}{answer}valid: answer before the {what} was accepted")
            fields = ("resp", "data") if answer == "r" else ("resp",)
            values = {name: int(self._port(f"{answer}{name}").value) for name in fields} if answered else {}
            await RisingEdge(self._clock)
            waiting -= accepted
            held -= accepted
            if answered:
                self._port(f"{answer}ready").value = 0
                return values
        self.idle()
        raise AxiError(f"{self._prefix}: no answer to the {what} in {self._timeout_cycles} cycles")

    def _checked(self, response: int, expect: int | None, what: str) -> int:
        if expect is not None and response != expect:
            raise AxiError(f"{self._prefix}: {what}: {RESPONSES[expect]} expected, not {RESPONSES[response]}")
        return response

    def _port(self, name: str) -> Any:
        return getattr(self._dut, self._prefix + name)
