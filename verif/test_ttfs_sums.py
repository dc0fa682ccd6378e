"""Time-indexed sums of a lane against their golden twin."""

import dataclasses
import random
from dataclasses import dataclass, replace
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import Arch
from golden.ttfs_sums import ttfs_sums
from hdl.ttfs_sums import TtfsSums
from verif.chunks import TINY, TTFS, arch, signed
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import reset

ARCHS = {
    "64 slots": TTFS,
    "16 slots, 4-bit weights": replace(TINY, requantise=True, ttfs=True, weight_bits=4, buffer_bytes=16384),
}
BROKEN = ARCHS["16 slots, 4-bit weights"]
COLUMNS = 60


@pytest.mark.parametrize("name", ARCHS)
def test_ttfs_sums(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(TtfsSums(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize("broken", [
    pytest.param(("Mux(again, written, before)", "before"), id="slot twice in a row"),
    pytest.param(("m.d.sync += marks.eq(0)", "m.d.sync += marks.eq(marks)"), id="half not emptied"),
    pytest.param(("Mux(fresh, 0, ", "Mux(0, 0, "), id="old contents added"),
    pytest.param(("w_en.eq(waits & (half == n))", "w_en.eq(waits & (fill == n))"), id="last weight in the wrong half"),
    pytest.param(("[self.full.eq(1), fill", "[self.full.eq(~self.clear), fill"), id="closed with the clear"),
])
def test_mutants_are_caught(broken: tuple[str, str]) -> None:
    """A lost forward, halves that mix, sums that stay and a column that is lost are caught."""
    outcome = simulate(mutant(TtfsSums, *broken)(BROKEN), __name__, parameters=dataclasses.asdict(BROKEN), expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed)


@dataclass(frozen=True)
class Column:
    """Matches of one column: slot and weight, and whether the last one comes in the cycle of ``close``."""

    matches: list[tuple[int, int]]
    together: bool

    def sums(self, slots: int) -> list[int]:
        """Return golden's sums."""
        return ttfs_sums([slot for slot, _ in self.matches], [weight for _, weight in self.matches], slots=slots)


def columns(rng: random.Random, p: Arch) -> list[Column]:
    """Return columns of 0 to 200 matches: slots all alike, of two neighbours, or of all; weights of all sizes."""
    low, high = -(1 << p.weight_bits - 1), (1 << p.weight_bits - 1) - 1
    out = []
    for _ in range(COLUMNS):
        some = rng.sample(range(1, p.ttfs_slots), rng.choice((1, 2, 3, p.ttfs_slots - 1)))
        count = rng.choice((0, 1, 2, 3, rng.randrange(200)))
        out.append(Column([(rng.choice(some), rng.choice((low, high, rng.randint(low, high)))) for _ in range(count)],
                          rng.random() < 0.7))
    return out


async def fill(dut: Any, p: Arch, rng: random.Random, wanted: list[Column], pause: float) -> None:
    """Add the matches of every column, closing it when the other half is free."""
    def drive(add: int, close: int, slot: int = 0, weight: int = 0) -> None:
        dut.add.value, dut.close.value = add, close
        dut.slot.value, dut.weight.value = slot, weight & (1 << p.weight_bits) - 1

    for column in wanted:
        cycles = [(1, 0, *match) for match in column.matches]
        end = cycles.pop()[2:] if column.together and cycles else ()
        for one in cycles:
            while rng.random() < pause:
                drive(0, 0, rng.randrange(p.ttfs_slots), -1)
                await RisingEdge(dut.clk)
            drive(*one)
            await RisingEdge(dut.clk)
        drive(0, 0)
        await FallingEdge(dut.clk)
        while dut.full.value and not dut.clear.value:
            await RisingEdge(dut.clk)
            await FallingEdge(dut.clk)
        drive(int(bool(end)), 1, *end)
        await RisingEdge(dut.clk)
    drive(0, 0)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Every slot of every column equals golden, one add and one read a cycle, read one cycle after ``full``."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    for name in ("add", "slot", "weight", "close", "read", "read_slot", "clear"):
        getattr(dut, name).value = 0
    await reset(dut, ())
    wanted = columns(rng, p)
    cocotb.start_soon(fill(dut, p, random.Random(rng.random()), wanted, 0.5 if stall else 0.0))
    for number, column in enumerate(wanted):
        await FallingEdge(dut.clk)
        while not dut.full.value:
            await FallingEdge(dut.clk)
        await RisingEdge(dut.clk)
        order, got = rng.sample(range(p.ttfs_slots), p.ttfs_slots), {}
        for place, slot in enumerate([*order, 0]):
            while stall and rng.random() < 0.3:
                dut.read.value = 0
                await RisingEdge(dut.clk)
            dut.read.value, dut.read_slot.value = 1, slot
            await FallingEdge(dut.clk)
            if place:
                got[order[place - 1]] = signed(int(dut.sum.value), p.acc_bits)
            await RisingEdge(dut.clk)
        dut.read.value, dut.clear.value = 0, 1
        assert [got[slot] for slot in range(p.ttfs_slots)] == column.sums(p.ttfs_slots), f"column {number}"
        await RisingEdge(dut.clk)
        dut.clear.value = 0
