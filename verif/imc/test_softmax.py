"""Softmax against golden, golden against float: rows of one score, of equal scores, steep and flat tables, both outputs."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from golden.arch import ParameterError
from golden.imc.softmax import normalised, softmax
from hdl.imc.lookup import Lookup
from hdl.imc.softmax import Softmax
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, get, idle, put, reset, stalls, word

LENGTHS = (20, 300)


@pytest.mark.parametrize("length", LENGTHS)
def test_softmax(length: int) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Softmax(length), __name__, parameters={"length": length})


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("(n == 0) | (self.i.p.z > row.largest)", "self.i.p.z > row.largest", id="the maximum of the row before"),
    pytest.param("table.o.valid & summing", "table.o.valid", id="probabilities are added too"),
    pytest.param("(product + (1 << 23))", "product", id="rounds down"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """A maximum that stays, a sum that grows in the second pass and another rounding are caught."""
    outcome = simulate(mutant(Softmax, old, new)(20), __name__, parameters={"length": 20}, expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def test_golden_by_hand(kind: Any) -> None:
    """Halves: a table that halves with every step down, sums and factors worked out by hand."""
    table = kind.asarray([255 >> min(distance, 8) for distance in range(256)])
    row = softmax(kind.asarray([[3, 1, 3, -128], [-5, -5, -5, -5]]), table)
    assert row.e.tolist() == [[255, 63, 255, 0], [255] * 4]
    assert (row.largest.tolist(), row.total.tolist(), row.factor.tolist()) == ([3, -5], [573, 1020], [29279, 16448])
    assert normalised(kind.asarray([[3, 1, 3, -128], [-5, -5, -5, -5]]), table).tolist() == [[114, 28, 114, 0], [64] * 4]
    assert normalised(kind.asarray([9]), table).tolist() == [255] and softmax(kind.asarray([9]), table).factor.tolist() == 65793
    with pytest.raises(ParameterError) as error:
        softmax(kind.asarray([1]), table - 1)
    assert str(error.value) == "table[0] must be 255, the exponential of 0, not 254"


def test_golden_is_a_softmax(seed: int) -> None:
    """Within 2 in 256 of the float softmax of the same scores."""
    z = np.random.default_rng(seed).integers(-128, 128, (200, 40))
    exact = np.exp((z - z.max(1, keepdims=True)) / 24)
    exact = exact / exact.sum(1, keepdims=True) * 256
    assert np.abs(normalised(z, exponentials(24)) - np.minimum(exact, 255)).max() <= 2


def exponentials(width: float) -> Any:
    """Return the table ``255 exp(-d / width)``, rounded half up."""
    return np.floor(255 * np.exp(-np.arange(256) / width) + 0.5).astype(np.int64)


def draw(rng: random.Random, count: int) -> list[int]:
    """Return scores: all ends, equal ones, one that stands out."""
    low, high = rng.choice(((-128, 127), (-3, 3), (127, 127), (-128, -128), (-128, -100)))
    z = [rng.choice((low, high, rng.randint(low, high))) for _ in range(count)]
    if not rng.randrange(3):
        z = [low] * count
        z[rng.randrange(count)] = 127
    return z


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(density=[0.0, 0.5])
async def matches_golden(dut: Any, density: float) -> None:
    """Rows of all lengths and their sums equal golden in both modes; without stalls in the documented cycles."""
    length, rng = parameters_of_bench()["length"], random.Random(cocotb.RANDOM_SEED)
    dut.settings.value = dut.write.value = 0
    await reset(dut, ["i", "o", "o_row"])
    for width in (0.1, 24, 1e6):
        table = exponentials(width)
        for x, y in enumerate(table.tolist()):
            dut.write.value = word(Lookup.write_layout(), {"valid": 1, "x": x, "y": y})
            await RisingEdge(dut.clk)
        dut.write.value = 0
        for count in (length, 1, 2, *(rng.randint(1, length) for _ in range(2))):
            for whole in (False, True):
                dut.settings.value = word(Softmax.settings_layout(length), {"count": count, "normalised": whole})
                await rows(dut, length, table, [draw(rng, count) for _ in range(2)], whole, rng, density)
    await idle(dut, "o", 10)
    await idle(dut, "o_row", 10)


async def rows(dut: Any, length: int, table: Any, z: list[list[int]], whole: bool, rng: random.Random, density: float) -> None:
    """Send two rows and compare what comes."""
    count = len(z[0])
    pauses = [stalls(rng, density) if density else NEVER for _ in range(3)]
    sender = cocotb.start_soon(put(dut, "i", [v & 0xFF for v in z[0] + z[1]], pauses[0]))
    left, ends = list[int](), list[int]()
    receiver = cocotb.start_soon(get(dut, "o_row", 2, pauses[2], ends))
    got = await get(dut, "o", 2 * count, pauses[1], left)
    sums = [Softmax.row_layout(length).from_bits(bits) for bits in await receiver]
    taken = await sender
    wanted = softmax(np.array(z), table)
    e = normalised(np.array(z), table) if whole else wanted.e
    assert [(out & 0xFF, out >> 8) for out in got] == [
        (value, int(n == count - 1)) for row in e.tolist() for n, value in enumerate(row)], (z, whole)
    assert [(int(s.largest), int(s.total), int(s.factor)) for s in sums] == list(zip(
        wanted.largest.tolist(), wanted.total.tolist(), wanted.factor.tolist(), strict=True)), (z, whole)
    if not density:
        begins = taken[count - 1] + (count + 44 if whole else 5)
        assert left[:count] == [*range(begins, begins + count)], (taken[count - 1], left[:count])
        assert ends[0] == left[count - 1] + (1 if whole else 36), (ends, left[count - 1])
        assert taken[count:] == [*range(ends[0] + 1, ends[0] + 1 + count)]
