"""Laggy prefix sum against its golden twin."""

import itertools
import random
from typing import Any

import cocotb
import pytest

from golden.laggy_prefix_sum import laggy_prefix_sum
from hdl.laggy_prefix_sum import LaggyPrefixSum
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, get, idle, masks, put, reset, stalls, word

SIZES = (16, 32, 64, 128, 256)


@pytest.mark.parametrize("chunk_bits", SIZES)
def test_laggy_prefix_sum(chunk_bits: int) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(LaggyPrefixSum(chunk_bits), __name__, parameters={"chunk_bits": chunk_bits})


@pytest.mark.parametrize(("broken", "red"), [
    pytest.param((r"assign i__ready = .*;", "assign i__ready = 1'h1;"), "stall=True", id="no back-pressure"),
    pytest.param((r"= o__payload\[91:85\] \+", "= 7'h00 +"), "stall=False", id="lost base"),
])
def test_mutants_are_caught(broken: tuple[str, str], red: str) -> None:
    """Missing back-pressure and a base that is not carried on are caught."""
    outcome = simulate(LaggyPrefixSum(64), __name__, parameters={"chunk_bits": 64}, replace=broken,
                       expect_failure=True, all_tests=True)
    assert any(red in name for name in outcome.failed)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Masks, bases and counts equal golden, with and without stalls on both sides."""
    chunk_bits, rng = parameters_of_bench()["chunk_bits"], random.Random(cocotb.RANDOM_SEED)
    await reset(dut)
    wanted = masks(rng, chunk_bits, 200)
    layout = LaggyPrefixSum.i_layout(chunk_bits)
    words = [word(layout, {"mask": mask}) for mask in wanted]
    cocotb.start_soon(put(dut, "i", words, stalls(rng) if stall else NEVER))
    got = await get(dut, "o", len(wanted), stalls(rng) if stall else NEVER)
    for mask, bits in zip(wanted, got, strict=True):
        out = LaggyPrefixSum.o_layout(chunk_bits).from_bits(bits)
        assert (out.mask, (list(out.bases), out.count)) == (mask, laggy_prefix_sum(mask, chunk_bits))
    await idle(dut, "o", 40)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def takes_the_documented_cycles(dut: Any) -> None:
    """A result leaves chunk_bits / 16 cycles after its mask, and masks follow each other as fast."""
    chunk_bits, rng = parameters_of_bench()["chunk_bits"], random.Random(cocotb.RANDOM_SEED)
    await reset(dut)
    left: list[int] = []
    sender = cocotb.start_soon(put(dut, "i", masks(rng, chunk_bits, 4)))
    await get(dut, "o", 10, at=left)
    taken, cycles = await sender, chunk_bits // 16
    assert [out - into for into, out in zip(taken, left, strict=True)] == [cycles] * 10
    assert [after - before for before, after in itertools.pairwise(taken)] == [cycles] * 9
