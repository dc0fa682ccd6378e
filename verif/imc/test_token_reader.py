"""Numbers of random maps of tokens against golden: one tensor or two, all widths, with and without sign, stalls, cycles."""

import dataclasses
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from golden.imc.arch import ImcArch
from golden.imc.token_reader import TokenMap, token_reader
from hdl.imc.activation import pack, split
from hdl.imc.token_reader import TokenReader
from verif.imc.layers import TINY, arch
from verif.imc.tokens import draw_maps, draw_memories, drive, map_word, pulse, serve, shapes
from verif.layers import start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import NEVER, cycle, get, stalls, watch

ARCHS = {"sixteen rows": TINY, "twelve rows": dataclasses.replace(TINY, rows=12, group_rows=4)}
# Cycles of a group beside those of its planes and channels.
BESIDE = 1


@pytest.mark.parametrize("name", ARCHS)
def test_token_reader(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(TokenReader(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("& tensor.is_signed", "& 1", id="always signed"),
    pytest.param("token * self.groups + group", "token + group", id="groups overlap"),
    pytest.param("m.d.sync += [channel.eq(0), group.eq(0), token", "m.d.sync += [channel.eq(0), token", id="group stays"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Signs, addresses and groups that are wrong are caught."""
    simulate(mutant(TokenReader, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True)


def test_golden_is_the_map(seed: int) -> None:
    """The numbers that were packed as a map of a layer are read again."""
    rng = np.random.default_rng(seed)
    for tokens, channels, bits in ((3, 5, 4), (2, 40, 8), (4, 16, 16)):
        x = rng.integers(-(1 << bits - 1), 1 << bits - 1, (channels, 1, tokens))
        lines = pack(split(x, bits), 16)
        memory = [sum(int(part) << 32 * n for n, part in enumerate(line)) for line in lines]
        where = TokenMap(plane=tokens * -(-channels // 16), bits=bits)
        got = [pair.a for pair in token_reader((memory, []), where, tokens=tokens, channels=channels, rows=16)]
        assert got == x[:, 0, :].T.ravel().tolist()


async def run(dut: Any, p: ImcArch, rng: random.Random, shape: tuple[int, int], *, two: bool, stall: float) -> None:
    """Compare all numbers of one or two drawn maps."""
    tokens, channels = shape
    maps, memories, layout = draw_maps(rng, p, *shape, 2), draw_memories(rng, p), TokenReader.o_layout()
    drive(dut, {"map_a": map_word(maps[0]), "map_b": map_word(maps[1]), "two": two, "tokens": tokens, "channels": channels,
                "groups": -(-channels // p.rows)})
    server = cocotb.start_soon(serve(dut, memories, rng, p.rows))
    wanted = [*token_reader(memories, maps[0], maps[1] if two else None, tokens=tokens, channels=channels, rows=p.rows)]
    began, at = cycle(), list[int]()
    await pulse(dut, "start")
    got = [layout.from_bits(value) for value in await get(dut, "o", len(wanted), stalls(rng, stall) if stall else NEVER, at)]
    for pair, raw in zip(wanted, got, strict=True):
        assert {name: int(raw[name]) for name in layout.members} == {
            name: int(value) for name, value in dataclasses.asdict(pair).items()}, (shape, maps, two)
    await RisingEdge(dut.clk)
    assert not dut.busy.value
    if not stall:
        fill = maps[0].bits + (maps[1].bits if two else 0)
        sizes = [min(p.rows, channels - first) for _ in range(tokens) for first in range(0, channels, p.rows)]
        spans = [fill + BESIDE + 1 if n == 0 else 1 for size in sizes for n in range(size)]
        assert [after - before for before, after in zip([began, *at], at, strict=False)] == spans
    server.cancel()


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def matches_golden(dut: Any, stall: float) -> None:
    """Numbers of corner and random maps equal golden; without stalls they come in the documented cycles."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut, ["map_a", "map_b", "two", "tokens", "channels", "groups", "start", "word", "o__ready"])
    dut.rst.value = 0
    cocotb.start_soon(watch(dut, "o"))
    for number, shape in enumerate(shapes(rng, 8)):
        await run(dut, p, rng, shape, two=bool(number % 2), stall=stall)
