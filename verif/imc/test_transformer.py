"""Operations and writes one after the other: both use the memories, a tensor is written when its last row is."""

import dataclasses
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import Error, ImcArch, Op, TokenOp, WriteError
from golden.imc.cell_loader import RowWrite, cell_loader
from golden.imc.reuse_buffer import ReuseLayer, Slot
from golden.imc.token_unit import Tables, TokenPass, token_unit
from hdl.bus.map_pair import MapPair
from hdl.imc.transformer import Transformer
from hdl.imc.writable_tile import WritableTile
from verif.imc.layers import CORES, arch
from verif.imc.test_cell_loader import draw_load, load_word
from verif.imc.test_token_unit import work_word
from verif.imc.tokens import draw_maps, draw_memories, pulse
from verif.layers import start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import cycle, watch, word

TREES = dataclasses.replace(CORES["two trees of two"], tokens=8, features=40)
CYCLES = 20000
# A tile, and the payload of its job.
Row = tuple[int, int]


def test_transformer() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Transformer(TREES), __name__, parameters=dataclasses.asdict(TREES))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("& (open_rows == 0)", "", id="over ahead of its rows"),
    pytest.param("failed != 0", "0", id="jobs that failed are passed over"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """An end that comes too early and rows that failed are caught."""
    simulate(mutant(Transformer, old, new)(TREES), __name__, parameters=dataclasses.asdict(TREES), expect_failure=True)


async def serve(dut: Any, memories: list[list[int]], rng: random.Random, p: ImcArch) -> None:
    """Answer reads in the cycle after, anything when there was none, and write what is written."""
    layout = MapPair.client_layout(p.rows, p.map_words)
    while True:
        await FallingEdge(dut.clk)
        found = rng.getrandbits(p.rows)
        ask = layout.from_bits(int(dut.ask.value))
        if ask.read:
            found = memories[int(ask.read_bank)][int(ask.read_address)]
        if ask.write:
            memories[int(ask.write_bank)][int(ask.write_address)] = int(ask.data)
        await RisingEdge(dut.clk)
        dut.word.value = found


async def tiles(dut: Any, rng: random.Random, got: list[Row], over: list[int], fails: int | None,
                why: WriteError = WriteError.CELLS) -> None:
    """Take a row at a time, and say some cycles later that it is over, and when; row ``fails`` ends with an error."""
    p = arch()
    ways = [(getattr(dut, f"jobs__{n}__valid"), getattr(dut, f"jobs__{n}__ready"), getattr(dut, f"jobs__{n}__payload"))
            for n in range(p.tiles)]
    while True:
        for _, ready, _ in ways:
            ready.value = rng.randrange(2)
        await FallingEdge(dut.clk)
        asked = [n for n, (valid, _, _) in enumerate(ways) if valid.value]
        assert len(asked) <= 1
        taken = [n for n in asked if ways[n][1].value]
        got.extend((n, int(ways[n][2].value)) for n in taken)
        await RisingEdge(dut.clk)
        if taken:
            for _, ready, _ in ways:
                ready.value = 0
            for _ in range(rng.randrange(12)):
                await RisingEdge(dut.clk)
            dut.ended.value = 1 << taken[0]
            dut.errors.value = (why if len(got) - 1 == fails else 0) << 2 * taken[0]
            over.append(cycle())
            await RisingEdge(dut.clk)
            dut.ended.value = 0


def job_word(p: ImcArch, row: RowWrite) -> int:
    """Return the payload of the job that writes a row."""
    return word(WritableTile.order_layout(p), {"crossbar": row.crossbar, "job": {
        "op": Op.PROG, "row": row.row, "levels": list(row.levels), "mask": row.mask}})


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
    await start(dut, ["work", "load", "start", "write", "numbers", "token", "word", "ended", "errors",
                      *(f"jobs__{n}__ready" for n in range(p.tiles))])
    dut.rst.value = 0
    for number in range(p.tiles):
        cocotb.start_soon(watch(dut, f"jobs__{number}"))
    cocotb.start_soon(serve(dut, memories, rng, p))
    return p, rng, memories


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def takes_turns(dut: Any) -> None:
    """Tensors of the residual stream that were added up are written to crossbars, row by row as golden says."""
    p, rng, memories = await begin(dut)
    none = np.zeros(256, np.int64)
    tables, slot = Tables(gain=none, bias=none, exponentials=none, function=none), Slot()
    got, over = list[Row](), list[int]()
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
        assert all(memories[out.bank][at] == line for at, line in wanted.writes)
        dut.load.value = load_word(p, load)
        await pulse(dut, "write")
        assert (await ends(dut))[0] is False
        rows = [*cell_loader(p, load, memories)]
        assert got == [(row.tile, job_word(p, row)) for row in rows]
        assert len(over) == len(rows)
        got.clear()
        over.clear()
    taker.cancel()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def tells_errors(dut: Any) -> None:
    """A row that failed, and another layer in the reuse buffer, end with their codes."""
    p, rng, _ = await begin(dut)
    load = dataclasses.replace(draw_load(rng, p, transposed=True), inputs=5, outputs=2)
    dut.load.value = load_word(p, load)
    for why, code in zip([*WriteError][1:], (Error.CELLS, Error.SETTINGS, Error.SILENT), strict=True):
        got = list[Row]()
        taker = cocotb.start_soon(tiles(dut, rng, got, [], 2, why))
        await pulse(dut, "write")
        assert await ends(dut) == (True, code)
        assert len(got) >= 3
        taker.cancel()
        dut.ended.value, dut.rst.value = 0, 1
        await RisingEdge(dut.clk)
        dut.rst.value = 0
    a, b, out = draw_maps(rng, p, 2, 3, 3)
    dut.work.value = work_word(p, TokenPass(op=TokenOp.ADD, a=a, b=b, out=out, tokens=2, channels=3,
                                            layer=ReuseLayer(number=4, reuse=True, src=3)))
    await pulse(dut, "start")
    assert await ends(dut) == (True, Error.REUSE)
