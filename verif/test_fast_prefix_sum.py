"""Fast prefix sum against its golden twin."""

import random
from typing import Any

import cocotb
import pytest

from golden.fast_prefix_sum import fast_prefix_sum
from hdl.fast_prefix_sum import FastPrefixSum
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import combinational, masks

SIZES = (16, 32, 64, 128, 256)


@pytest.mark.parametrize("chunk_bits", SIZES)
def test_fast_prefix_sum(chunk_bits: int) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(FastPrefixSum(chunk_bits), __name__, parameters={"chunk_bits": chunk_bits})


def test_mutant_is_caught() -> None:
    """A broken mask of the positions below is caught."""
    broken = mutant(FastPrefixSum, "below & every)", "below)")
    outcome = simulate(broken(16), __name__, parameters={"chunk_bits": 16}, expect_failure=True)
    assert outcome.failed


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def matches_golden(dut: Any) -> None:
    """Offsets equal golden at the first, the last and random positions of corner and random masks."""
    chunk_bits, rng = parameters_of_bench()["chunk_bits"], random.Random(cocotb.RANDOM_SEED)
    for mask in masks(rng, chunk_bits, 60):
        for position in (0, 1, chunk_bits - 1, rng.randrange(chunk_bits), rng.randrange(chunk_bits)):
            got = await combinational(dut, {"mask": mask, "position": position}, ["offset"])
            assert got == [fast_prefix_sum(mask, position)]
