"""Attention reuse against golden: every choice of up to two layers that reuse, all modes, a slot that holds another layer."""

import dataclasses
import itertools
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import ParameterError
from golden.imc.arch import IMC_PRESETS
from golden.imc.reuse_buffer import MODES, ReuseLayer, Slot, reuse_buffer
from hdl.imc.reuse_buffer import ReuseBuffer, ReuseMode
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import NEVER, cycle, get, idle, put, reset, stalls, word

TINY, VALUES, LAYERS = IMC_PRESETS["tiny-ci"], 40, 5


def test_reuse_buffer() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(ReuseBuffer(TINY, VALUES), __name__)


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("(tag == settings.src)", "(tag <= settings.src)", id="an older layer"),
    pytest.param("passes & settings.keep &", "passes &", id="a layer that is not kept"),
    pytest.param("& (settings.mode != ReuseMode.SKIP) &", "&", id="nothing to give is an error"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Values of another layer, a slot that is overwritten, and an error where nothing is needed, are caught."""
    outcome = simulate(mutant(ReuseBuffer, old, new)(TINY, VALUES), __name__, expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def test_golden_by_hand(kind: Any) -> None:
    """A tensor kept by layer 0 comes back in layers 1 and 2, scaled and saturated; another source is an error."""
    assert [mode.name.lower() for mode in ReuseMode] == list(MODES)
    a = kind.asarray([[100, -100, 3], [-3, 0, 1]])
    slot, given = reuse_buffer(Slot(), ReuseLayer(number=0, keep=True), a)
    assert given.values is a and not given.attention_skip
    for number, mode, values in ((1, "identity", [[127, -128, 5], [-4, 0, 2]]), (2, "norm", [[127, -128, 5], [-4, 0, 2]]),
                                 (3, "skip", None)):
        slot, given = reuse_buffer(slot, ReuseLayer(number=number, reuse=True, mode=mode, mult=3, shift=1))
        assert (given.values if given.values is None else given.values.tolist()) == values
        assert (given.route, given.starts) == (MODES.index(mode), mode == "norm")
        assert given.attention_skip and not given.tag_error
    _, given = reuse_buffer(slot, ReuseLayer(number=4, reuse=True, src=2))
    assert given.tag_error and given.values is None
    with pytest.raises(ParameterError, match=r"^keep must be False where a layer reuses"):
        ReuseLayer(number=1, keep=True, reuse=True)
    with pytest.raises(ParameterError, match=r"^mode must be one of skip, identity, norm, linear, activation, not 'map'"):
        ReuseLayer(number=1, mode="map")


def plans(rng: random.Random) -> list[list[ReuseLayer]]:
    """Return the layers of every set of up to two that reuse, each with the last one before it that does not, modes drawn."""
    found = []
    for size in range(3):
        for reuse in itertools.combinations(range(1, LAYERS), size):
            src = {j: max(i for i in range(j) if i not in reuse) for j in reuse}
            found.append([ReuseLayer(
                number=j, keep=j in src.values(), reuse=j in reuse, src=src.get(j, 0), mode=rng.choice(MODES),
                mult=rng.choice((0, 1, 255, (1 << 16) - 1, rng.getrandbits(16))), shift=rng.choice((0, 7, 8, 15, 16, 31)),
            ) for j in range(LAYERS)])
    return found


async def run_layer(dut: Any, layer: ReuseLayer, slot: Slot, rng: random.Random, density: float) -> Slot:
    """Run a layer and compare all that it gives; return what golden keeps."""
    low, high = rng.choice(((-128, 127), (-3, 3), (-128, -128)))
    count = rng.choice((1, VALUES, rng.randint(1, VALUES))) if slot.values is None or not layer.reuse else len(slot.values)
    attention = None if layer.reuse else np.array([rng.choice((low, high, rng.randint(low, high))) for _ in range(count)])
    slot, given = reuse_buffer(slot, layer, attention)
    wanted = [] if given.values is None else given.values.tolist()
    fields = {**dataclasses.asdict(layer), "mode": MODES.index(layer.mode), "count": count}
    dut.settings.value, dut.start.value = word(ReuseBuffer.settings_layout(VALUES), fields), 1
    pauses = [stalls(rng, density) if density else NEVER for _ in range(2)]
    sender = cocotb.start_soon(put(dut, "i", [] if attention is None else [a & 0xFF for a in attention.tolist()], pauses[0]))
    await FallingEdge(dut.clk)
    assert not dut.busy.value and not dut.i__ready.value and not dut.o__valid.value
    begin, starts, done, left = cycle(), list[int](), list[int](), list[int]()
    watcher = cocotb.start_soon(note(dut, starts, done))
    await RisingEdge(dut.clk)
    dut.start.value = 0
    got = await get(dut, "o", len(wanted), pauses[1], left)
    taken = await sender
    assert [((out & 0xFF) - ((out & 0x80) << 1), out >> 8) for out in got] == [
        (value, int(n == count - 1)) for n, value in enumerate(wanted)], layer
    await idle(dut, "o", 3)
    watcher.cancel()
    assert (int(dut.attention_skip.value), int(dut.route.value), int(dut.tag_error.value), len(starts)) == (
        given.attention_skip, given.route, given.tag_error, given.starts), layer
    assert starts in ([], [begin + 1]) and done == [left[-1] if wanted else begin + 1]
    if not density and wanted:
        assert left == ([*range(begin + 6, begin + 6 + count)] if layer.reuse else taken)
    return slot


async def note(dut: Any, starts: list[int], done: list[int]) -> None:
    """Note the cycles in which a transformation starts and a layer is done."""
    while True:
        await FallingEdge(dut.clk)
        if dut.tb_start.value:
            starts.append(cycle())
        if dut.done.value:
            done.append(cycle())


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(density=[0.0, 0.5])
async def matches_golden(dut: Any, density: float) -> None:
    """All plans in a row equal golden, the slot going on from one to the next; another source than the kept one is an error."""
    rng = random.Random(cocotb.RANDOM_SEED)
    dut.settings.value = dut.start.value = 0
    await reset(dut)
    slot = await run_layer(dut, ReuseLayer(number=1, reuse=True), Slot(), rng, density)
    for plan in plans(rng):
        for layer in plan:
            slot = await run_layer(dut, layer, slot, rng, density)
    for src, mode in itertools.product(range(LAYERS), MODES):
        for layer in (ReuseLayer(number=2, keep=True), ReuseLayer(number=4)):
            slot = await run_layer(dut, layer, slot, rng, density)
        slot = await run_layer(dut, ReuseLayer(number=3, reuse=True, src=src, mode=mode, mult=2), slot, rng, density)
    await idle(dut, "o", 10)
