"""Dispatch of row blocks against golden: which tile gets what and when, tiles that take theirs late, cycles."""

import dataclasses
import itertools
import random
from collections.abc import Iterable
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import ImcArch
from golden.imc.dispatch import Send, dispatch
from golden.imc.run import number
from hdl.imc.dispatch import Dispatch
from hdl.imc.gather import Gather
from hdl.imc.tile import KEY_BITS, Tile
from verif.imc.layers import CORES, arch, corners, draw_layer, layer_word
from verif.layers import start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import NEVER, cycle, put, stalls, watch, word

TREES = "two trees of two"
# Vectors of a layer, one behind the other.
VECTORS = 3
Taken = tuple[int, int]


@pytest.mark.parametrize("name", CORES)
def test_dispatch(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Dispatch(CORES[name]), __name__, parameters=dataclasses.asdict(CORES[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("(f < count) & (", "(", id="rows that do not exist"),
    pytest.param("sent.eq(sent | accepted)", "sent.eq(accepted)", id="a tile gets it twice"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Tiles that get another block, or one more, are caught."""
    p = CORES[TREES]
    simulate(mutant(Dispatch, old, new)(p), __name__, parameters=dataclasses.asdict(p), expect_failure=True)


def test_golden_sends_every_crossbar_once(seed: int) -> None:
    """Every crossbar of a layer gets one row block, where the mapping places it; a tile gets one in a round."""
    rng = random.Random(seed)
    for p in CORES.values():
        for _ in range(10):
            layer = draw_layer(rng, p)
            rounds = [*dispatch(p, layer)]
            sends = [send for some in rounds for send in some]
            assert {(s.row_block, s.column_block): s.crossbar * p.tiles + s.tile for s in sends} == {
                (r, c): number(p, layer["crossbar"], layer["rounds_out"], r, c)
                for r, c in itertools.product(range(layer["blocks"]), range(layer["column_blocks"]))}
            assert len(rounds) == layer["rounds_in"] * layer["rounds_out"]
            assert all(len({s.tile for s in some}) == len(some) for some in rounds)


def test_golden_by_hand() -> None:
    """Three row blocks and three column blocks on two trees of two, worked out by hand."""
    layer = {"blocks": 3, "column_blocks": 3, "rounds_out": 2, "crossbar": 10}
    got = [[(s.tile, s.crossbar, s.row_block, s.column_block) for s in some] for some in dispatch(CORES[TREES], layer)]
    assert got == [[(0, 10, 0, 0), (1, 10, 1, 0), (2, 10, 0, 1), (3, 10, 1, 1)], [(0, 11, 0, 2), (1, 11, 1, 2)],
                   [(0, 12, 2, 0), (2, 12, 2, 1)], [(0, 13, 2, 2)]]


async def serve(dut: Any, tile: int, pauses: Iterable[bool], taken: list[Taken]) -> None:
    """Take what a tile is sent, for ever; collect (cycle, payload)."""
    valid, ready, payload = (getattr(dut, f"o__{tile}__{name}") for name in ("valid", "ready", "payload"))
    for pause in itertools.cycle(pauses):
        ready.value = int(not pause)
        await FallingEdge(dut.clk)
        if valid.value and not pause:
            taken.append((cycle(), int(payload.value)))
        await RisingEdge(dut.clk)


async def idle(dut: Any) -> None:
    """Wait until nothing is held."""
    await FallingEdge(dut.clk)
    while not dut.idle.value:
        await FallingEdge(dut.clk)
    await RisingEdge(dut.clk)


async def run(dut: Any, p: ImcArch, rng: random.Random, layer: dict[str, int], taken: list[list[Taken]],
              stall: float) -> None:
    """Compare what the tiles get of some vectors, one behind the other."""
    dut.layer.value = layer_word(layer)
    drawn = [[[rng.randrange(1 << p.input_bits) for _ in range(p.rows)] for _ in range(layer["blocks"])]
             for _ in range(VECTORS)]
    keys, wanted, blocks = [rng.getrandbits(KEY_BITS) for _ in drawn], [list[int]() for _ in range(p.tiles)], list[int]()
    rounds = [*dispatch(p, layer)]
    for key, x in zip(keys, drawn, strict=True):
        for send in itertools.chain(*rounds):
            wanted[send.tile].append(word(Tile.vector_layout(p), {
                "x": dict(enumerate(x[send.row_block])), "crossbar": send.crossbar, "key": key}))
        dut.key.value = key
        words = [word(Gather.block_layout(p), {"x": dict(enumerate(block)), "last": n == len(x) - 1})
                 for n, block in enumerate(x)]
        blocks += await put(dut, "i", words, stalls(rng, stall) if stall else NEVER)
    await idle(dut)
    assert [[payload for _, payload in some] for some in taken] == wanted, layer
    if not stall:
        in_cycles(p, rounds, [[at for at, _ in some] for some in taken], blocks)
    for some in taken:
        some.clear()


def in_cycles(p: ImcArch, rounds: list[tuple[Send, ...]], taken: list[list[int]], blocks: list[int]) -> None:
    """Assert a round a cycle, from the cycle after its last block on, and the next block in the cycle after the last round."""
    moments, left = [iter(some) for some in taken], iter(blocks)
    ready = blocks[0]
    turns = [[*some] for _, some in itertools.groupby(rounds, key=lambda some: some[0].row_block)] * VECTORS
    for some in turns:
        for _ in {send.row_block for send in some[0]}:
            assert next(left) == ready
            ready += 1
        for sends in some:
            assert {next(moments[send.tile]) for send in sends} == {ready}
            ready += 1
    assert next(left, None) is None


@cocotb.test(timeout_time=3, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def matches_golden(dut: Any, stall: float) -> None:
    """What tiles get of corner and random layers equals golden; without stalls in the documented cycles."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    streams = [f"o__{tile}" for tile in range(p.tiles)]
    await start(dut, ["layer", "key", "i__valid", *(f"{name}__ready" for name in streams)])
    dut.rst.value = 0
    taken: list[list[Taken]] = [[] for _ in streams]
    for tile, name in enumerate(streams):
        cocotb.start_soon(watch(dut, name))
        cocotb.start_soon(serve(dut, tile, stalls(rng, rng.choice((stall, 0.9))) if stall else NEVER, taken[tile]))
    cocotb.start_soon(watch(dut, "i"))
    for layer in corners(rng, p, 12):
        await run(dut, p, rng, layer, taken, stall)
