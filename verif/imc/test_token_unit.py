"""Operations on rows of a transformer against golden: every word, factor and kept tensor, in any order, on any maps."""

import dataclasses
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import TOKEN_BITS, ImcArch, TokenOp
from golden.imc.reuse_buffer import MODES, ReuseLayer, Slot
from golden.imc.token_unit import Tables, TokenPass, TokenResult, token_unit
from hdl.imc.token_unit import TokenUnit
from verif.imc.layers import TINY, arch
from verif.imc.tokens import draw_maps, draw_memories, map_word, pulse
from verif.layers import start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import cycle, word

ARCHS = {"six tokens": dataclasses.replace(TINY, tokens=6, features=40),
         "twelve rows": dataclasses.replace(TINY, tokens=3, features=20, rows=12, group_rows=4)}
GAIN, BIAS, EXPONENTIAL, FUNCTION = range(4)
# Longest time of an operation on the largest tensor here: a root and a quotient for each row, and what is read and written.
CYCLES = 3000


@pytest.mark.parametrize("name", ARCHS)
def test_token_unit(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(TokenUnit(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("buffer.i.p.a.eq(given.p.b)]", "buffer.i.p.a.eq(given.p.a)]", id="adds the residual to itself"),
    pytest.param("factors.w_addr.eq(row)", "factors.w_addr.eq(0)", id="one factor for all"),
    pytest.param("with m.If(buffered & self.buffer.tag_error)", "with m.If(0)", id="goes on with the wrong layer"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """A sum of the wrong numbers, factors of another row and reuse of the wrong layer are caught."""
    p = ARCHS["six tokens"]
    simulate(mutant(TokenUnit, old, new)(p), __name__, parameters=dataclasses.asdict(p), expect_failure=True)


def draw_tables(rng: np.random.Generator, p: ImcArch) -> Tables:
    """Return numbers of the host: any gains and biases, a falling exponential, any function."""
    exponentials = np.floor(255 * np.exp(-np.arange(256) * rng.uniform(0.005, 0.5)) + 0.5).astype(np.int64)
    return Tables(gain=rng.integers(-(1 << 15), 1 << 15, p.features), bias=rng.integers(-(1 << 24), 1 << 24, p.features),
                  exponentials=exponentials, function=rng.integers(0, 256, 256))


def draw_work(rng: random.Random, p: ImcArch, number: int, op: TokenOp, slot: Slot) -> TokenPass:
    """Return an operation on random maps; what reuses has the shape that was kept, now and then of another layer."""
    kept = slot.values
    reuses = op == TokenOp.TRANSFORM or (op == TokenOp.ADD and kept is not None and rng.random() < 0.5)
    tokens, channels = kept.shape if reuses and kept is not None else (rng.randint(1, p.tokens), rng.randint(1, p.features))
    a, b, out = draw_maps(rng, p, tokens, channels, 3)
    narrow = op in (TokenOp.SOFTMAX, TokenOp.LOOKUP)
    mode = rng.choice(MODES[2:] if op == TokenOp.TRANSFORM else MODES[:2])
    src = slot.tag if slot.tag is not None and rng.random() < 0.8 else (number + 7) % 32
    layer = ReuseLayer(number=number % 32, keep=not reuses and rng.random() < 0.7, reuse=reuses, src=src, mode=mode,
                       mult=rng.randrange(1 << 16), shift=rng.randint(0, 24))
    return TokenPass(
        op=op, a=dataclasses.replace(a, bits=min(a.bits, 8 if narrow else TOKEN_BITS), signed=narrow or a.signed),
        b=b, out=dataclasses.replace(out, bits=rng.choice((1, 8, TOKEN_BITS))),
        tokens=tokens, channels=channels, shift=rng.choice((0, 31, rng.randint(12, 24))),
        eps=rng.choice((1, (1 << 31) - 1, 500)),
        normalised=rng.random() < 0.3, direct=rng.random() < 0.3, mult=rng.randrange(1 << 16), mult_shift=rng.randrange(32),
        layer=layer)


def work_word(p: ImcArch, work: TokenPass) -> int:
    """Return the value of the block's ``work`` port."""
    layer = work.layer
    layout = TokenUnit.work_layout(p)
    plain: int = word(layout, {
        "op": work.op, "tokens": work.tokens, "channels": work.channels, "groups": -(-work.channels // p.rows),
        "shift": work.shift, "eps": work.eps, "normalised": work.normalised, "direct": work.direct, "mult": work.mult,
        "mult_shift": work.mult_shift,
        "reuse": {"number": layer.number, "keep": layer.keep, "reuse": layer.reuse, "src": layer.src,
                  "mode": MODES.index(layer.mode), "mult": layer.mult, "shift": layer.shift,
                  "count": work.tokens * work.channels}})
    return plain | sum(map_word(where) << int(layout[name].offset)
                       for name, where in (("map_a", work.a), ("map_b", work.b), ("out", work.out)))


async def serve(dut: Any, memories: list[list[int]], rng: random.Random, rows: int, written: list[tuple[int, int]]) -> None:
    """Answer reads in the cycle after, anything when there was none; note what is written, and write it."""
    while True:
        await FallingEdge(dut.clk)
        found = rng.getrandbits(rows)
        if dut.read.value:
            found = memories[int(dut.read_bank.value)][int(dut.read_address.value)]
        if dut.write.value:
            written.append((int(dut.write_address.value), int(dut.written.value)))
            memories[int(dut.write_bank.value)][written[-1][0]] = written[-1][1]
        await RisingEdge(dut.clk)
        dut.word.value = found


async def load(dut: Any, p: ImcArch, tables: Tables) -> None:
    """Write the host's numbers."""
    for what, numbers in ((GAIN, tables.gain), (BIAS, tables.bias), (EXPONENTIAL, tables.exponentials),
                          (FUNCTION, tables.function)):
        for index, number in enumerate(numbers.tolist()):
            dut.numbers.value = word(TokenUnit.numbers_layout(p), {"valid": 1, "what": what, "index": index,
                                                                   "number": number & 0xFFFF_FFFF})
            await RisingEdge(dut.clk)
    dut.numbers.value = 0


async def run(dut: Any, p: ImcArch, work: TokenPass) -> bool:
    """Run an operation; return whether it ended well."""
    dut.work.value = work_word(p, work)
    await pulse(dut, "start")
    began = cycle()
    while True:
        await FallingEdge(dut.clk)
        done, error = bool(dut.done.value), bool(dut.error.value)
        assert cycle() < began + CYCLES, work
        await RisingEdge(dut.clk)
        if done or error:
            assert done != error
            await FallingEdge(dut.clk)
            assert not dut.busy.value
            await RisingEdge(dut.clk)
            return done


async def factors(dut: Any, count: int) -> list[int]:
    """Return the factors of so many tokens."""
    found = []
    for token in range(count):
        dut.token.value = token
        await RisingEdge(dut.clk)
        await FallingEdge(dut.clk)
        found.append(int(dut.factor.value))
        await RisingEdge(dut.clk)
    return found


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def matches_golden(dut: Any) -> None:
    """What any order of operations writes, keeps and refuses equals golden."""
    p, rng, slot, written = arch(), random.Random(cocotb.RANDOM_SEED), Slot(), list[tuple[int, int]]()
    tables, memories = draw_tables(np.random.default_rng(cocotb.RANDOM_SEED), p), draw_memories(rng, p)
    await start(dut, ["work", "start", "numbers", "word", "token"])
    dut.rst.value = 0
    await load(dut, p, tables)
    cocotb.start_soon(serve(dut, memories, rng, p.rows, written))
    ops = [*TokenOp] * 12
    rng.shuffle(ops)
    ended: list[TokenResult] = []
    for number, op in enumerate([TokenOp.TRANSFORM, *ops]):
        work = draw_work(rng, p, number, op, slot)
        wanted = token_unit(work, memories, tables, slot, rows=p.rows)
        assert await run(dut, p, work) != wanted.error, work
        assert tuple(written) == wanted.writes, work
        assert await factors(dut, len(wanted.factors)) == wanted.factors.tolist(), work
        written.clear()
        slot = wanted.slot
        ended.append(wanted)
    assert any(result.error for result in ended) and slot.tag is not None
