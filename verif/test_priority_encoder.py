"""Priority encoder against its golden twin."""

import random
from typing import Any

import cocotb
import pytest

from golden.priority_encoder import priority_encoder
from hdl.priority_encoder import PriorityEncoder
from verif.sim import parameters_of_bench, simulate
from verif.stream import combinational, masks

SIZES = (16, 32, 64, 128, 256)


@pytest.mark.parametrize("chunk_bits", SIZES)
def test_priority_encoder(chunk_bits: int) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(PriorityEncoder(chunk_bits), __name__, parameters={"chunk_bits": chunk_bits})


@pytest.mark.parametrize("broken", [(r"assign single = ~", "assign single = "), (r"- 1'h1", "- 1'h0")])
def test_mutants_are_caught(broken: tuple[str, str]) -> None:
    """A wrong ``single`` and a lowest bit that stays set are caught."""
    simulate(PriorityEncoder(16), __name__, parameters={"chunk_bits": 16}, replace=broken, expect_failure=True)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def matches_golden(dut: Any) -> None:
    """Position, rest and both flags equal golden for corner masks, every one-hot mask and random masks."""
    chunk_bits, rng = parameters_of_bench()["chunk_bits"], random.Random(cocotb.RANDOM_SEED)
    for mask in masks(rng, chunk_bits, 200) + [1 << place for place in range(chunk_bits)]:
        got = await combinational(dut, {"mask": mask}, ["position", "rest", "none", "single"])
        position, rest = priority_encoder(mask)
        assert got == [position, rest, mask == 0, rest == 0]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def visits_every_position(dut: Any) -> None:
    """Feeding ``rest`` back visits the set positions in rising order, one a step."""
    chunk_bits, rng = parameters_of_bench()["chunk_bits"], random.Random(cocotb.RANDOM_SEED)
    for mask in masks(rng, chunk_bits, 8):
        visited, rest = [], mask
        for _ in range(mask.bit_count()):
            place, rest = await combinational(dut, {"mask": rest}, ["position", "rest"])
            visited.append(place)
        assert visited == [place for place in range(chunk_bits) if mask >> place & 1]
