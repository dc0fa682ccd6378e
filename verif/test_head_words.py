"""Words of a head against their golden twin."""

import dataclasses
import itertools
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from amaranth.lib import data
from cocotb.triggers import RisingEdge
from numpy.typing import NDArray

from golden.arch import Arch
from golden.fiber import pack
from golden.formats import PLACE_BITS
from golden.head_words import HeadWord, head_words
from hdl.head_words import HeadWords, head_word_layout
from verif.chunks import TINY
from verif.layers import ARCHS, arch, layer_word, start
from verif.memory import ReadMemory
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import get, idle, put, stalls, watch, word

BASE, MASKS, TO_WORDS, MEMORY_BYTES = 0x40, 0x140, 0x1000, 1 << 15
FIRST, BEHIND = 10, 8


@pytest.mark.parametrize("name", ARCHS)
def test_head_words(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(HeadWords(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("before.eq(Mux(here.own, 0, before + ones))", "before.eq(0)", id="words before the head not counted"),
    pytest.param("before.eq(Mux(here.own, 0, before + ones))", "before.eq(before + ones)", id="counts run on"),
    pytest.param("words.shift.eq(at[:3])", "words.shift.eq(0)", id="words begin at a byte"),
    pytest.param("o.p.end.eq(encoder.none | encoder.single)", "o.p.end.eq(encoder.single & ~encoder.none)",
                 id="silent tokens do not end"),
    pytest.param("masks.forget.eq(self.forget)", "masks.forget.eq(0)", id="keeps a beat of the layer before"),
    pytest.param("o.ready & (o.p.end | full)", "o.ready & o.p.end", id="one piece of words"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Wrong places, lost ends and old memory are caught."""
    outcome = simulate(mutant(HeadWords, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY),
                       test_filter="matches_golden", expect_failure=True)
    assert outcome.failed


def test_slow_one_is_caught() -> None:
    """What gives the right words in more cycles than documented is caught, by the cycles alone."""
    slow = mutant(HeadWords, "of_words.size, p.outstanding", "of_words.size, 1")
    outcome = simulate(slow(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True, all_tests=True)
    assert all("documented_cycles" in name for name in outcome.failed), outcome.failed


def entry_of(bits: int, p: Arch) -> HeadWord:
    """Return a payload of ``o``; with ``none`` only that and ``end`` mean something."""
    entry = head_word_layout(p).from_bits(bits)
    if entry.none:
        return HeadWord(0, 0, True, bool(entry.end))
    return HeadWord(int(entry.channel), int(entry.word), False, bool(entry.end))


def request(p: Arch, token: int) -> int:
    """Return a payload of ``i``."""
    return word(data.StructLayout({"masks": 32, "token": PLACE_BITS}), {"masks": MASKS, "token": token})


async def begin(dut: Any, p: Arch, rng: random.Random, density: float, content: bytearray) -> None:
    """Reset with tensors in memory."""
    await start(dut, ["layer", "forget", "i__valid", "o__ready"])
    for kind in ("mask", "value"):
        ReadMemory(dut, content, beat=p.data_bits // 8, address_bits=p.address_bits, burst_beats=p.burst_beats,
                   pauses=stalls(rng, density), ar=f"{kind}_ar", r=f"{kind}_r",
                   latency=lambda: rng.choice((1, 4, 20)) if density else 1).start()
    dut.base.value = BASE
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    cocotb.start_soon(watch(dut, "o"))


async def store(dut: Any, content: bytearray, words: NDArray[np.int64], steps: int, head: tuple[int, int]) -> None:
    """Put a tensor of words [C, tokens] into memory and describe it and the head (start, columns)."""
    log2 = (steps - 1).bit_length()
    masks, slots = pack(words[:, None, :], log2)
    for at, part in ((MASKS, masks), (MASKS + TO_WORDS, slots)):
        content[BASE + at : BASE + at + part.size] = part.tobytes()
    dut.layer.value = layer_word({
        "head_start": head[0], "columns": head[1], "to_words": TO_WORDS, "operand_log2": log2,
        "out_mask_stride": masks.shape[1], "out_slot_stride": slots.shape[1]})
    dut.forget.value = 1
    await RisingEdge(dut.clk)
    dut.forget.value = 0


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Entries of random heads of random tensors, silent and full ones included, equal golden's."""
    p, rng, content = arch(), random.Random(cocotb.RANDOM_SEED), bytearray(MEMORY_BYTES)
    await begin(dut, p, rng, 0.4 if stall else 0.0, content)
    generator = np.random.default_rng(rng.getrandbits(32))
    for density in (0.0, 0.02, 0.2, 0.5, 1.0, 0.4, 1.0):
        columns = 8 * rng.randint(1, p.chunk_bits // 8)
        start_at, tokens = 8 * rng.choice((0, 1, 2, p.chunk_bits // 8, 9)), rng.randint(1, 6)
        steps = rng.randint(1, p.t_max)
        words = generator.integers(1, 1 << steps, (start_at + columns + 8 * rng.randint(0, 2), tokens))
        words *= generator.random(words.shape) < density
        await store(dut, content, words, steps, (start_at, columns))
        asked = [rng.randrange(tokens) for _ in range(6)]
        sender = cocotb.start_soon(put(dut, "i", [request(p, token) for token in asked], stalls(rng, 0.3 if stall else 0.0)))
        wanted = [entry for token in asked for entry in head_words(words[:, token].tolist(), start_at, columns)]
        got = await get(dut, "o", len(wanted), stalls(rng, 0.4 if stall else 0.0))
        assert [entry_of(bits, p) for bits in got] == wanted
        await sender
        await idle(dut, "o", 30)


@cocotb.test(timeout_time=400, timeout_unit="us")
@cocotb.parametrize(before=[0, 8, 40])
async def documented_cycles(dut: Any, before: int) -> None:
    """The first entry comes after the documented cycles, then one in each cycle of a token."""
    p, content, tokens = arch(), bytearray(MEMORY_BYTES), 4
    await begin(dut, p, random.Random(0), 0.0, content)
    words = np.full((before + p.chunk_bits, tokens), 1, np.int64)
    await store(dut, content, words, 1, (before, p.chunk_bits))
    for _ in range(20):
        await RisingEdge(dut.clk)
    at: list[int] = []
    receiver = cocotb.start_soon(get(dut, "o", tokens * p.chunk_bits, at=at))
    accepted = await put(dut, "i", [request(p, token) for token in range(tokens)])
    await receiver
    assert at[0] - accepted[0] == (BEHIND + -(-before // p.chunk_bits) if before else FIRST)
    gaps = [after - this for this, after in itertools.pairwise(at)]
    assert all(gap == 1 for n, gap in enumerate(gaps, 1) if n % p.chunk_bits)
    assert max(gaps) <= 2
