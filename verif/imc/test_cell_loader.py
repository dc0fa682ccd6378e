"""Rows of weights from random maps of tokens against golden: both directions, several blocks, stalls, cycles."""

import dataclasses
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import ImcArch
from golden.imc.cell_loader import Load, RowWrite, cell_loader
from golden.imc.cells import levels
from golden.imc.token_writer import token_writer
from hdl.imc.cell_loader import CellLoader
from verif.imc.layers import CORES, TINY, arch
from verif.imc.tokens import draw_maps, draw_memories, map_word, pulse, serve
from verif.layers import start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import NEVER, cycle, get, stalls, watch, word

ARCHS = {"one tile": TINY, "two trees of two": CORES["two trees of two"],
         "twelve rows": dataclasses.replace(TINY, rows=12, group_rows=4, cell_bits=1, cols=32, tiles=2, crossbars=40)}
# Cycles of a row beside those of its bits.
BESIDE = 3


@pytest.mark.parametrize("name", ARCHS)
def test_cell_loader(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(CellLoader(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("Mux(load.transposed, at_output, at_input)", "at_input", id="never transposed"),
    pytest.param("for value in (n, plane, bits, mask)", "for value in (n, plane, mask)", id="levels of the row before stay"),
    pytest.param("first_crossbar.eq(first_crossbar + load.rounds)", "first_crossbar.eq(first_crossbar)",
                 id="row blocks lie on each other"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Directions, levels and places that are wrong are caught."""
    simulate(mutant(CellLoader, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True)


@pytest.mark.parametrize("transposed", [False, True])
def test_golden_is_the_mapping(transposed: bool, seed: int) -> None:
    """What is written to a crossbar are the levels of the weights in scheme twos, a bit a cell."""
    rng = np.random.default_rng(seed)
    p = dataclasses.replace(TINY, cell_bits=1, weight_bits=4, scheme="twos", cols=16)
    x = rng.integers(-8, 8, (4, 9) if transposed else (9, 4))
    where, = draw_maps(random.Random(seed), p, len(x), len(x[0]), 1)
    where = dataclasses.replace(where, bits=4, signed=True)
    memories = [[0] * p.map_words for _ in range(2)]
    for at, line in token_writer(where, x.tolist(), rows=p.rows):
        memories[where.bank][at] = line
    load = Load(source=where, transposed=transposed, inputs=9, outputs=4, groups=1, columns=4, crossbar=3)
    rows = [*cell_loader(p, load, memories)]
    wanted = levels(p, "twos", np.pad(x if transposed else x.T, ((0, 0), (0, p.rows - 9))))
    assert [row.levels for row in rows] == [tuple(line) for line in wanted[:9].tolist()]
    assert {(row.tile, row.crossbar, row.mask) for row in rows} == {(0, 3, (1 << 16) - 1)}


def draw_load(rng: random.Random, p: ImcArch, *, transposed: bool) -> Load:
    """Return a tensor of some row and column blocks."""
    columns = rng.choice([n for n in (1, 2, 4, 8) if n <= p.cols])
    inputs = rng.choice((1, p.rows, p.rows + 1, rng.randint(1, 3 * p.rows)))
    outputs = rng.randint(1, min(24, 3 * p.cols // columns))
    first, (tokens, channels) = rng.choice((0, rng.randrange(20))), (outputs, inputs) if transposed else (inputs, outputs)
    channels += first
    source, = draw_maps(rng, p, tokens, channels, 1)
    return Load(source=dataclasses.replace(source, bits=rng.randint(1, columns)), transposed=transposed, inputs=inputs,
                outputs=outputs, groups=-(-channels // p.rows), first_channel=first, columns=columns, crossbar=rng.randrange(8))


def load_word(p: ImcArch, load: Load) -> int:
    """Return the value of the block's ``load`` port."""
    layout, lanes = CellLoader.load_layout(), p.tiles // p.fan_in
    each = p.cols // load.columns
    blocks = -(-load.outputs // each)
    plain: int = word(layout, {
        "transposed": load.transposed, "inputs": load.inputs, "outputs": load.outputs, "groups": load.groups,
        "first_channel": load.first_channel, "columns_log2": load.columns.bit_length() - 1, "each": each, "blocks": blocks,
        "rounds": -(-blocks // lanes), "crossbar": load.crossbar})
    plain |= map_word(load.source) << int(layout["source"].offset)
    return plain


def row_word(p: ImcArch, row: RowWrite, *, end: bool) -> int:
    """Return the payload of a row."""
    return word(CellLoader.row_layout(p), {**dataclasses.asdict(row), "levels": list(row.levels), "end": end})


@cocotb.test(timeout_time=3, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def matches_golden(dut: Any, stall: float) -> None:
    """All rows of random tensors equal golden; without stalls they come in the documented cycles."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut, ["load", "start", "word", "o__ready"])
    dut.rst.value = 0
    cocotb.start_soon(watch(dut, "o"))
    for number in range(12):
        load, memories = draw_load(rng, p, transposed=bool(number % 2)), draw_memories(rng, p)
        server = cocotb.start_soon(serve(dut, memories, rng, p.rows))
        rows, at = [*cell_loader(p, load, memories)], list[int]()
        dut.load.value = load_word(p, load)
        began = cycle()
        await pulse(dut, "start")
        got = await get(dut, "o", len(rows), stalls(rng, stall) if stall else NEVER, at)
        assert got == [row_word(p, row, end=row is rows[-1]) for row in rows], load
        await FallingEdge(dut.clk)
        assert not dut.busy.value
        await RisingEdge(dut.clk)
        if not stall:
            spans = [row.mask.bit_count() + BESIDE for row in rows]
            assert [after - before for before, after in zip([began, *at], at, strict=False)] == spans, load
        server.cancel()
