"""Event counters against golden: all events at once, clears, and counters that stop at their end."""

import dataclasses
import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import ImcArch
from golden.imc.event_counters import MOST, Cycle, TileEvents, event_counters
from hdl.imc.event_counters import EVENTS, EventCounters
from hdl.imc.writable_tile import WritableTile
from verif.imc.layers import CORES
from verif.layers import start
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import word

TREES = "two trees of two"
ARCHS = {"one tile": CORES["one tile"], TREES: CORES[TREES]}
CLOSE = MOST - 20
INPUTS = ("clear", "busy", "steps", "spikes", "words")


@pytest.mark.parametrize("name", ARCHS)
def test_event_counters(name: str) -> None:
    """The cocotb test below passes on the generated Verilog."""
    simulate(EventCounters(ARCHS[name]), __name__, parameters={"base": 0, **dataclasses.asdict(ARCHS[name])})


def close(new: str, **how: Any) -> None:
    """Run the bench on a block that a clear sets close to the end of its counters."""
    old, p = "Mux(self.clear, 0, Mux(total[32], 0xFFFF_FFFF, total))", ARCHS[TREES]
    simulate(mutant(EventCounters, old, new)(p), __name__, parameters={"base": CLOSE, **dataclasses.asdict(p)}, **how)


def test_counters_stop_at_their_end() -> None:
    """Counters that begin close to their end stop there."""
    close(f"Mux(self.clear, {CLOSE}, Mux(total[32], 0xFFFF_FFFF, total))")


def test_counters_that_begin_again_are_caught() -> None:
    """Counters that wrap are caught."""
    close(f"Mux(self.clear, {CLOSE}, total)", expect_failure=True)


def test_phases_that_count_twice_are_caught() -> None:
    """Skipped phases that count as such and as phases are caught."""
    p = ARCHS[TREES]
    simulate(mutant(EventCounters, "t.phase & ~t.skipped", "t.phase")(p), __name__,
             parameters={"base": 0, **dataclasses.asdict(p)}, expect_failure=True)


def test_golden_by_hand() -> None:
    """Three cycles of two tiles, worked out by hand."""
    phase = TileEvents(phase=True, skipped=False, rows=5, conversions=True, read=True)
    skipped, rest = (TileEvents(phase=on, skipped=True, rows=0, conversions=False) for on in (True, False))
    one = Cycle(clear=False, busy=True, steps=True, spikes=False, words=True, tiles=(phase, skipped))
    two = dataclasses.replace(one, steps=False, tiles=(phase, phase))
    zero = dict.fromkeys(EVENTS, 0)
    wanted = {"cycles": 2, "phases": 3, "skipped": 1, "rows": 15, "conversions": 12, "steps": 1, "spikes": 0, "words": 2,
              "pulses": 0, "reads": 3}
    assert event_counters(zero, [one, two], adcs=4) == wanted
    assert event_counters(wanted, [dataclasses.replace(one, clear=True)], adcs=4) == zero
    three = dataclasses.replace(two, tiles=(rest, rest))
    assert event_counters(zero | {"cycles": MOST, "words": MOST - 1}, [three, three], adcs=4) == zero | {
        "cycles": MOST, "words": MOST}


def draw(rng: random.Random, p: ImcArch, density: float, clears: float) -> Cycle:
    """Return a cycle in which each event happens with a probability."""
    def some() -> bool:
        return rng.random() < density

    tiles = [TileEvents(phase=some(), skipped=some(), rows=rng.choice((0, p.group_rows, rng.randint(0, p.group_rows))),
                        conversions=some(), pulse=some(), read=some()) for _ in range(p.tiles)]
    return Cycle(clear=rng.random() < clears, busy=some(), steps=some(), spikes=some(), words=some(), tiles=tiles)


async def show(dut: Any, p: ImcArch, happens: Cycle) -> None:
    """Let the events of a cycle happen."""
    for name in INPUTS:
        getattr(dut, name).value = int(getattr(happens, name))
    layout = WritableTile.events_layout(p)
    dut.tiles.value = sum(word(layout, dataclasses.asdict(tile)) << layout.size * n for n, tile in enumerate(happens.tiles))
    await RisingEdge(dut.clk)


async def counters(dut: Any) -> dict[str, int]:
    """Return what the block has counted."""
    await FallingEdge(dut.clk)
    value = int(dut.counters.value)
    return {name: value >> 32 * n & MOST for n, name in enumerate(EVENTS)}


@cocotb.test(timeout_time=100, timeout_unit="us")
async def matches_golden(dut: Any) -> None:
    """After every cycle counters are those of golden."""
    parameters = parameters_of_bench()
    base = parameters.pop("base")
    p, rng = ImcArch(**parameters), random.Random(cocotb.RANDOM_SEED)
    await start(dut, [*INPUTS, "tiles"])
    dut.rst.value = 0
    wanted = dict.fromkeys(EVENTS, 0)
    for density in (0.0, 0.1, 0.5, 1.0):
        for number in range(150):
            happens = draw(rng, p, density, 0.02 if number else 1.0)
            wanted = dict.fromkeys(EVENTS, base) if happens.clear else event_counters(wanted, [happens], adcs=p.adcs)
            await show(dut, p, happens)
            assert await counters(dut) == wanted
