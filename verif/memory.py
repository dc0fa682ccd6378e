"""Byte memory behind the read and write channels of a block, for benches; every transfer is checked against AXI4."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from verif.stream import cycle, watch

PAGE = 4096


def check_burst(address: int, beats: int, beat: int, most: int) -> None:
    """Assert that a burst starts at a whole beat, has at most ``most`` beats and stays inside 4 KB."""
    assert address % beat == 0, f"burst at {address:#x}: not a multiple of {beat} bytes"
    assert 1 <= beats <= most, f"burst at {address:#x}: {beats} beats; legal: 1..{most}"
    assert address % PAGE + beats * beat <= PAGE, f"burst at {address:#x}: {beats} beats cross 4 KB"


class ReadMemory:
    """Answer the request stream ``ar`` of a block with the beats of ``data`` on the always-ready stream ``r``.

    data : memory from address 0; a request beyond its end fails
    beat, address_bits, burst_beats : of the block
    pauses : endless; a channel that draws True rests for a cycle
    latency : cycles from a request to its first beat at the earliest

    ``requests`` collects (cycle, address, beats).
    """

    def __init__(self, dut: Any, data: bytes | bytearray, *, beat: int, address_bits: int, burst_beats: int,
                 pauses: Iterator[bool], ar: str = "ar", r: str = "r", latency: Callable[[], int] = lambda: 1) -> None:
        self.requests: list[tuple[int, int, int]] = []
        self._dut, self._data, self._beat, self._address_bits = dut, data, beat, address_bits
        self._most, self._pauses, self._latency = burst_beats, pauses, latency
        self._ar, self._r = ar, r
        self._waiting: deque[tuple[int, int]] = deque()

    def start(self) -> None:
        """Quiet the channels and serve from the next cycle on; call before the reset ends."""
        getattr(self._dut, f"{self._ar}__ready").value = 0
        getattr(self._dut, f"{self._r}__valid").value = 0
        cocotb.start_soon(self._serve())
        cocotb.start_soon(watch(self._dut, self._ar))

    @property
    def beats(self) -> list[int]:
        """Return the numbers of all beats asked for, in order."""
        return [address // self._beat + n for _, address, count in self.requests for n in range(count)]

    async def _serve(self) -> None:
        dut = self._dut
        valid, ready, payload = (getattr(dut, f"{self._ar}__{name}") for name in ("valid", "ready", "payload"))
        r_valid, r_payload = getattr(dut, f"{self._r}__valid"), getattr(dut, f"{self._r}__payload")
        await RisingEdge(dut.clk)
        while True:
            takes = not next(self._pauses)
            gives = bool(self._waiting) and self._waiting[0][0] <= cycle() and not next(self._pauses)
            ready.value, r_valid.value = int(takes), int(gives)
            if gives:
                r_payload.value = self._waiting.popleft()[1]
            await FallingEdge(dut.clk)
            if takes and valid.value and not dut.rst.value:
                self._take(int(payload.value))
            await RisingEdge(dut.clk)

    def _take(self, word: int) -> None:
        address, beats = word & (1 << self._address_bits) - 1, (word >> self._address_bits) + 1
        check_burst(address, beats, self._beat, self._most)
        assert address + beats * self._beat <= len(self._data), f"burst at {address:#x}: outside the memory"
        self.requests.append((cycle(), address, beats))
        due = cycle() + self._latency()
        for n in range(beats):
            start = address + n * self._beat
            self._waiting.append((due, int.from_bytes(self._data[start : start + self._beat], "little")))


class WriteMemory:
    """Take the single-beat writes of a block's ports ``aw*``, ``w*``, ``b*`` into ``data``.

    pauses : endless; a channel that draws True rests for a cycle
    response : gives the response of the next write, 0 is OKAY
    latency : cycles from a write to its response at the earliest
    behind : data are taken in the cycle after their address at the earliest

    ``beats`` collects (address, strobes). Address and data of a write may come in any order; both must hold until
    they are taken.
    """

    def __init__(self, dut: Any, data: bytearray, *, beat: int, pauses: Iterator[bool],
                 response: Callable[[], int] = lambda: 0, latency: Callable[[], int] = lambda: 1,
                 behind: bool = False) -> None:
        self.beats: list[tuple[int, int]] = []
        self.answered = 0
        self.most_waiting = 0
        self._dut, self._data, self._beat, self._pauses = dut, data, beat, pauses
        self._response, self._latency, self._behind = response, latency, behind

    def start(self) -> None:
        """Quiet the channels and serve from the next cycle on; call before the reset ends."""
        for name in ("awready", "wready", "bvalid"):
            getattr(self._dut, name).value = 0
        cocotb.start_soon(self._serve())

    async def _serve(self) -> None:
        dut = self._dut
        addresses: deque[int] = deque()
        words: deque[tuple[int, int]] = deque()
        due: deque[int] = deque()
        held: dict[str, tuple[int, ...]] = {}
        await RisingEdge(dut.clk)
        while True:
            ready = {name: not next(self._pauses) for name in ("aw", "w")}
            ready["w"] = ready["w"] and (bool(addresses) or not self._behind)
            answers = bool(due) and due[0] <= cycle() and not next(self._pauses)
            dut.awready.value, dut.wready.value, dut.bvalid.value = int(ready["aw"]), int(ready["w"]), int(answers)
            if answers:
                dut.bresp.value = self._response()
            await FallingEdge(dut.clk)
            for channel, fields in (("aw", ("awaddr",)), ("w", ("wdata", "wstrb"))):
                valid = bool(getattr(dut, f"{channel}valid").value) and not dut.rst.value
                now = tuple(int(getattr(dut, name).value) for name in fields) if valid else ()
                if channel in held:
                    assert now == held[channel], f"{channel}: valid fell or payload changed before ready"
                    del held[channel]
                if valid and not ready[channel]:
                    held[channel] = now
                elif valid and channel == "aw":
                    check_burst(now[0], 1, self._beat, 1)
                    addresses.append(now[0])
                elif valid:
                    assert now[1], "w: a beat without strobes"
                    words.append((now[0], now[1]))
            if answers and dut.bready.value:
                due.popleft()
                self.answered += 1
            while addresses and words:
                self._write(addresses.popleft(), *words.popleft())
                due.append(cycle() + self._latency())
                self.most_waiting = max(self.most_waiting, len(due))
            await RisingEdge(dut.clk)

    def _write(self, address: int, word: int, strobes: int) -> None:
        assert address + self._beat <= len(self._data), f"write at {address:#x}: outside the memory"
        self.beats.append((address, strobes))
        for n in range(self._beat):
            if strobes >> n & 1:
                self._data[address + n] = word >> 8 * n & 255
