"""Words of random numbers of tokens against golden: all widths, partial groups, stalls, cycles; reading gives them back."""

import dataclasses
import itertools
import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import ImcArch
from golden.imc.token_reader import token_reader
from golden.imc.token_writer import token_writer
from hdl.imc.token_writer import TokenWriter
from verif.imc.layers import TINY, arch
from verif.imc.tokens import draw_maps, drive, map_word, pulse, shapes
from verif.layers import start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import NEVER, put, stalls, word

ARCHS = {"sixteen rows": TINY, "twelve rows": dataclasses.replace(TINY, rows=12, group_rows=4)}
Line = tuple[int, int, int]


@pytest.mark.parametrize("name", ARCHS)
def test_token_writer(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(TokenWriter(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("Mux(place == 0, 0, kept)", "kept", id="channels of the group before stay"),
    pytest.param("group.eq(Mux(last, 0, group + 1))", "group.eq(group + 1)", id="groups go on in the next token"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Bits that stay and groups that go on are caught."""
    simulate(mutant(TokenWriter, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True)


def test_reader_reads_what_is_written(seed: int) -> None:
    """Numbers come back from the words that hold them."""
    rng = random.Random(seed)
    for tokens, channels in shapes(rng, 20):
        where, = draw_maps(rng, TINY, tokens, channels, 1)
        low, high = (-(1 << where.bits - 1), (1 << where.bits - 1) - 1) if where.signed else (0, (1 << where.bits) - 1)
        values = [[rng.choice((low, high, rng.randint(low, high))) for _ in range(channels)] for _ in range(tokens)]
        memories = [[rng.getrandbits(16) for _ in range(TINY.map_words)] for _ in range(2)]
        for at, line in token_writer(where, values, rows=TINY.rows):
            memories[where.bank][at] = line
        found = token_reader(memories, where, tokens=tokens, channels=channels, rows=TINY.rows)
        assert [pair.a for pair in found] == [value for row in values for value in row]


async def collect(dut: Any, written: list[Line], done: list[int]) -> None:
    """Note every word that is written, and how many were there at each ``done``."""
    while True:
        await FallingEdge(dut.clk)
        if dut.write.value:
            written.append((int(dut.bank.value), int(dut.address.value), int(dut.word.value)))
        if dut.done.value:
            done.append(len(written))
        await RisingEdge(dut.clk)


async def run(dut: Any, p: ImcArch, rng: random.Random, shape: tuple[int, int], stall: float, written: list[Line],
              done: list[int]) -> None:
    """Compare all words of a drawn map; without stalls planes and numbers follow each other in the documented cycles."""
    tokens, channels = shape
    where, = draw_maps(rng, p, *shape, 1)
    values = [[rng.choice((0, -1, rng.randint(-(1 << 15), (1 << 15) - 1))) for _ in range(channels)] for _ in range(tokens)]
    drive(dut, {"token_map": map_word(where), "tokens": tokens, "channels": channels, "groups": -(-channels // p.rows)})
    await pulse(dut, "start")
    words = [word(TokenWriter.i_layout(), {"value": value}) for row in values for value in row]
    accepted = await put(dut, "i", words, stalls(rng, stall) if stall else NEVER)
    for _ in range(where.bits):
        await RisingEdge(dut.clk)
    assert written == [(where.bank, *line) for line in token_writer(where, values, rows=p.rows)], (shape, where)
    assert done == [len(written)]
    written.clear()
    done.clear()
    if not stall:
        sizes = [min(p.rows, channels - first) for _ in range(tokens) for first in range(0, channels, p.rows)]
        spans = [where.bits + 1 if n == 0 else 1 for size in sizes for n in range(size)]
        assert [after - before for before, after in itertools.pairwise(accepted)] == spans[1:]


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def matches_golden(dut: Any, stall: float) -> None:
    """Words of corner and random maps equal golden, and come in the documented cycles."""
    p, rng, written, done = arch(), random.Random(cocotb.RANDOM_SEED), list[Line](), list[int]()
    await start(dut, ["token_map", "tokens", "channels", "groups", "start", "i__valid"])
    dut.rst.value = 0
    cocotb.start_soon(collect(dut, written, done))
    for shape in shapes(rng, 8):
        await run(dut, p, rng, shape, stall, written, done)
