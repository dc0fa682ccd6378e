"""Table against golden: all bytes, entries written while values wait, values with sign."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from golden.imc.lookup import lookup
from hdl.imc.lookup import Lookup
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import NEVER, get, idle, put, reset, stalls, word

TAG_BITS = 5


def test_lookup() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Lookup(TAG_BITS), __name__)


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("table.r_en.eq(take)", "table.r_en.eq(i.valid)", id="a waiting value is overtaken"),
    pytest.param("o.p.tag.eq(i.p.tag)", "o.p.tag.eq(i.p.x)", id="another tag"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """A table that is read while its last value waits, and a tag that is lost, are caught."""
    simulate(mutant(Lookup, old, new)(TAG_BITS), __name__, expect_failure=True)


def test_golden_by_hand(kind: Any) -> None:
    """A rectifier as a table: values with sign find their two's complement, what lies above 8 bits does not count."""
    table = kind.asarray([*range(128), *[0] * 128])
    assert lookup(kind.asarray([[0, 5, 127], [-1, -128, 256 + 7]]), table).tolist() == [[0, 5, 127], [0, 0, 7]]


async def load(dut: Any, table: list[int]) -> None:
    """Write the table."""
    for x, y in enumerate(table):
        dut.write.value = word(Lookup.write_layout(), {"valid": 1, "x": x, "y": y})
        await RisingEdge(dut.clk)
    dut.write.value = 0


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(density=[0.0, 0.5])
async def matches_golden(dut: Any, density: float) -> None:
    """Values equal golden for several tables, tags come back; without stalls in the documented cycles."""
    rng = random.Random(cocotb.RANDOM_SEED)
    dut.write.value = 0
    await reset(dut)
    for _ in range(3):
        table = [rng.getrandbits(8) for _ in range(256)]
        await load(dut, table)
        x = [*range(256), *(rng.getrandbits(8) for _ in range(100))]
        rng.shuffle(x)
        tags = [rng.getrandbits(TAG_BITS) for _ in x]
        wanted = lookup(np.array(x), np.array(table)).tolist()
        sent = [value | tag << 8 for value, tag in zip(x, tags, strict=True)]
        pauses = [stalls(rng, density) if density else NEVER for _ in range(2)]
        sender, left = cocotb.start_soon(put(dut, "i", sent, pauses[0])), list[int]()
        got = await get(dut, "o", len(x), pauses[1], left)
        taken = await sender
        assert [(out & 0xFF, out >> 8) for out in got] == list(zip(wanted, tags, strict=True))
        if not density:
            assert taken == [*range(taken[0], taken[0] + len(x))]
            assert left == [at + 1 for at in taken]
    await idle(dut, "o", 10)


@cocotb.test(timeout_time=20, timeout_unit="us")
async def writes_do_not_reach_a_value_that_waits(dut: Any) -> None:
    """A value that was looked up stays as it is while its entry is written anew."""
    dut.write.value = 0
    await reset(dut)
    await load(dut, [*range(256)])
    await put(dut, "i", [7])
    await load(dut, [255 - x for x in range(256)])
    assert await get(dut, "o", 1) == [7]
