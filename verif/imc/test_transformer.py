"""Operations and writes one after the other: both use the memories, a tensor is written when its last row is."""

import dataclasses
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import Error, ImcArch, TokenOp
from golden.imc.cell_loader import cell_loader
from golden.imc.reuse_buffer import ReuseLayer, Slot
from golden.imc.token_unit import Tables, TokenPass, token_unit
from hdl.imc.transformer import Transformer
from verif.imc.layers import CORES, arch
from verif.imc.test_cell_loader import draw_load, load_word, row_word
from verif.imc.test_token_unit import work_word
from verif.imc.tokens import draw_maps, draw_memories, pulse
from verif.layers import start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import cycle, watch

TREES = dataclasses.replace(CORES["two trees of two"], tokens=8, features=40)
CYCLES = 20000


def test_transformer() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Transformer(TREES), __name__, parameters=dataclasses.asdict(TREES))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("& (open_rows == 0)", "", id="over ahead of its rows"),
    pytest.param("self.ended & self.failed", "self.failed & 0", id="cells that failed are passed over"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """An end that comes too early and rows that failed are caught."""
    simulate(mutant(Transformer, old, new)(TREES), __name__, parameters=dataclasses.asdict(TREES), expect_failure=True)


async def serve(dut: Any, memories: list[list[int]], rng: random.Random, rows: int) -> None:
    """Answer reads in the cycle after, anything when there was none, and write what is written."""
    while True:
        await FallingEdge(dut.clk)
        found = rng.getrandbits(rows)
        if dut.read.value:
            found = memories[int(dut.read_bank.value)][int(dut.read_address.value)]
        if dut.write_en.value:
            memories[int(dut.write_bank.value)][int(dut.write_address.value)] = int(dut.written.value)
        await RisingEdge(dut.clk)
        dut.word.value = found


async def tiles(dut: Any, rng: random.Random, got: list[int], over: list[int], fails: int | None) -> None:
    """Take a row at a time, and say some cycles later that it is over, and when; row ``fails`` is not at its levels."""
    while True:
        dut.o__ready.value = rng.randrange(2)
        await FallingEdge(dut.clk)
        takes = bool(dut.o__valid.value) and bool(dut.o__ready.value)
        if takes:
            got.append(int(dut.o__payload.value))
        await RisingEdge(dut.clk)
        if takes:
            dut.o__ready.value = 0
            for _ in range(rng.randrange(12)):
                await RisingEdge(dut.clk)
            dut.ended.value, dut.failed.value = 1, int(len(got) - 1 == fails)
            over.append(cycle())
            await RisingEdge(dut.clk)
            dut.ended.value = 0


async def ends(dut: Any) -> tuple[bool, int]:
    """Wait for the end; return whether it was an error, and its code."""
    began = cycle()
    while True:
        await FallingEdge(dut.clk)
        done, error, code = bool(dut.done.value), bool(dut.error.value), int(dut.code.value)
        assert cycle() < began + CYCLES
        await RisingEdge(dut.clk)
        if done or error:
            assert done != error
            return error, code


async def begin(dut: Any) -> tuple[ImcArch, random.Random, list[list[int]]]:
    """Reset, and serve the memories."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    memories = draw_memories(rng, p)
    await start(dut, ["work", "load", "start", "write", "numbers", "token", "word", "o__ready", "ended", "failed"])
    dut.rst.value = 0
    cocotb.start_soon(watch(dut, "o"))
    cocotb.start_soon(serve(dut, memories, rng, p.rows))
    return p, rng, memories


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def takes_turns(dut: Any) -> None:
    """Tensors of the residual stream that were added up are written to crossbars, row by row as golden says."""
    p, rng, memories = await begin(dut)
    none = np.zeros(256, np.int64)
    tables, slot = Tables(gain=none, bias=none, exponentials=none, function=none), Slot()
    got, over = list[int](), list[int]()
    taker = cocotb.start_soon(tiles(dut, rng, got, over, None))
    for number in range(4):
        load = draw_load(rng, p, transposed=bool(number % 2))
        shape = (load.outputs, load.inputs) if load.transposed else (load.inputs, load.outputs)
        shape = (shape[0], shape[1] + load.first_channel)
        if shape[0] > p.tokens or shape[1] > p.features:
            shape = (p.tokens, 17)
        a, b, out = draw_maps(rng, p, *shape, 3)
        work = TokenPass(op=TokenOp.ADD, a=a, b=b, out=out, tokens=shape[0], channels=shape[1], direct=True)
        wanted = token_unit(work, memories, tables, slot, rows=p.rows)
        dut.work.value = work_word(p, work)
        await pulse(dut, "start")
        assert await ends(dut) == (False, Error.REUSE)
        assert all(memories[out.bank][at] == word for at, word in wanted.writes)
        dut.load.value = load_word(p, load)
        await pulse(dut, "write")
        assert (await ends(dut))[0] is False
        rows = [*cell_loader(p, load, memories)]
        assert got == [row_word(p, row, end=row is rows[-1]) for row in rows]
        assert len(over) == len(rows)
        got.clear()
        over.clear()
    taker.cancel()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def tells_errors(dut: Any) -> None:
    """A row that failed, and another layer in the reuse buffer, end with their codes."""
    p, rng, _ = await begin(dut)
    got = list[int]()
    taker = cocotb.start_soon(tiles(dut, rng, got, [], 2))
    load = dataclasses.replace(draw_load(rng, p, transposed=True), inputs=5, outputs=2)
    dut.load.value = load_word(p, load)
    await pulse(dut, "write")
    assert await ends(dut) == (True, Error.CELLS)
    assert len(got) >= 3
    taker.cancel()
    a, b, out = draw_maps(rng, p, 2, 3, 3)
    dut.work.value = work_word(p, TokenPass(op=TokenOp.ADD, a=a, b=b, out=out, tokens=2, channels=3,
                                            layer=ReuseLayer(number=4, reuse=True, src=3)))
    dut.rst.value = 1
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    await pulse(dut, "start")
    assert await ends(dut) == (True, Error.REUSE)
