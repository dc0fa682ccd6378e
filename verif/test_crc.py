"""CRC32 of little-endian words against zlib."""

import random
import struct
import zlib
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from hdl.bus.crc import Crc32
from verif.sim import simulate
from verif.stream import cycle, reset

MUTANTS = {
    "start value": ("32'd4294967295", "32'd0"),
    "final inversion": (r"assign crc = ~ ", "assign crc = "),
    "one bit of the matrix": (r"( \[30\] = \S+ ).*;", r"\1;"),
    "gap counted": (r"= valid \? ", "= 1'h1 ? "),
}


def test_crc() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Crc32(), __name__)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutant_is_caught(mutant: str) -> None:
    """A wrong constant, a lost term of the polynomial and a word taken in a gap are caught."""
    assert simulate(Crc32(), __name__, replace=MUTANTS[mutant], expect_failure=True).failed


def blocks(rng: random.Random) -> list[list[int]]:
    """Return sequences of words: all zero, all ones, each single bit, then random ones of any length."""
    corners = [[0], [0] * 16, [0xFFFFFFFF] * 16, *([1 << bit] for bit in range(32)), [0x34333231, 0x38373635]]
    return corners + [[rng.getrandbits(32) for _ in range(rng.randrange(60))] for _ in range(20)]


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(stall=[False, True])
async def matches_zlib(dut: Any, stall: bool) -> None:
    """The sum equals zlib's one cycle after each word, one word a cycle, and holds in gaps; start drops the word beside it."""
    rng = random.Random(cocotb.RANDOM_SEED)
    dut.start.value, dut.valid.value, dut.word.value = 0, 0, 0
    await reset(dut, ())
    for words in blocks(rng):
        dut.start.value, dut.valid.value, dut.word.value = 1, rng.getrandbits(1), rng.getrandbits(32)
        await RisingEdge(dut.clk)
        dut.start.value, taken = 0, b""
        for word in [*words, None]:
            gaps = rng.randrange(3) if stall else int(word is None)
            for _ in range(gaps):
                dut.valid.value, dut.word.value = 0, rng.getrandbits(32)
                await FallingEdge(dut.clk)
                assert dut.crc.value == zlib.crc32(taken), f"cycle {cycle()}: after {taken.hex()}"
                await RisingEdge(dut.clk)
            if word is not None:
                dut.valid.value, dut.word.value = 1, word
                await FallingEdge(dut.clk)
                assert dut.crc.value == zlib.crc32(taken), f"cycle {cycle()}: after {taken.hex()}"
                taken += struct.pack("<I", word)
                await RisingEdge(dut.clk)
