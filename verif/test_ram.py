"""RAM primitive against an array of words: both ports, and the word that holds."""

import random
from typing import Any

import cocotb
import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import In, Out
from cocotb.triggers import FallingEdge, RisingEdge

from hdl.block import Block
from hdl.bus.ram import Ram
from verif.sim import parameters_of_bench, simulate
from verif.stream import start_clock

SIZES = ((1, 2), (8, 5), (150, 64))


class RamPorts(Block):
    """A block whose ports are those of one RAM."""

    def __init__(self, width: int, depth: int) -> None:
        self.params = (width, depth)
        address = max(1, (depth - 1).bit_length())
        super().__init__({
            "w_en": In(1), "w_addr": In(address), "w_data": In(width),
            "r_en": In(1), "r_addr": In(address), "r_data": Out(width)})

    def build(self) -> Module:
        """Return the RAM, connected."""
        m = Module()
        m.submodules.ram = ram = Ram(*self.params)
        inputs = ("w_en", "w_addr", "w_data", "r_en", "r_addr")
        m.d.comb += [getattr(ram, name).eq(getattr(self, name)) for name in inputs]
        m.d.comb += self.r_data.eq(ram.r_data)
        return m


@pytest.mark.parametrize(("width", "depth"), SIZES)
def test_ram(width: int, depth: int) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(RamPorts(width, depth), __name__, parameters={"width": width, "depth": depth})


@pytest.mark.parametrize("broken", [
    pytest.param((r"if \(r_en\) ", ""), id="reads all the time"),
    pytest.param((r"if \(w_en\) ", ""), id="writes all the time"),
    pytest.param((r"<= storage\[r_addr\]", "<= (w_en && w_addr == r_addr) ? w_data : storage[r_addr]"),
                 id="new word on a clash"),
])
def test_mutants_are_caught(broken: tuple[str, str]) -> None:
    """A read or write without its enable, and a read that sees the word being written, are caught."""
    outcome = simulate(RamPorts(8, 5), __name__, parameters={"width": 8, "depth": 5}, replace=broken,
                       expect_failure=True)
    assert any("matches_an_array" in name for name in outcome.failed)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def matches_an_array(dut: Any) -> None:
    """A read gives the word of the cycle before after 1 cycle and holds; a clash gives the old word."""
    p, rng = parameters_of_bench(), random.Random(cocotb.RANDOM_SEED)
    start_clock(dut)
    words: dict[int, int] = {}
    shown: int | None = None
    dut.w_en.value = dut.r_en.value = 0
    await RisingEdge(dut.clk)
    for _ in range(600):
        write, read = rng.random() < 0.6, rng.random() < 0.5
        at = rng.randrange(p["depth"])
        source = at if at in words and rng.random() < 0.3 else rng.choice(list(words) or [0])
        word = rng.getrandbits(p["width"])
        read = read and source in words
        dut.w_en.value, dut.w_addr.value, dut.w_data.value = int(write), at, word
        dut.r_en.value, dut.r_addr.value = int(read), source if read else rng.randrange(p["depth"])
        await FallingEdge(dut.clk)
        assert shown is None or int(dut.r_data.value) == shown
        await RisingEdge(dut.clk)
        if read:
            shown = words[source]
        if write:
            words[at] = word
