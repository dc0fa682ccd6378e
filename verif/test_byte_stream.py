"""Byte stream against its golden twin."""

import itertools
import random
from collections.abc import Iterable, Sequence
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.byte_stream import byte_stream
from hdl.byte_stream import ByteStream, ring_units
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, cycle, reset, stalls

SIZES = {
    "masks of 16 bits": (64, 2, 8, True),
    "masks of 128 bits": (64, 16, 8, True),
    "masks of 32 bits in wide words": (512, 4, 8, True),
    "ring of 32 weights of 8 bits": (64, 32, 8, False),
    "ring of 16 weights of 4 bits": (64, 16, 4, False),
    "128 weights of 4 bits": (128, 128, 4, True),
    "parameters": (64, 1, 64, True),
    "ring of parameters in wide words": (512, 1, 64, False),
}
BROKEN = (64, 32, 8, True)
MUTANTS = {
    "word on its way not counted": ("self.fill + Mux(arriving, units, 0) + units", "self.fill + units"),
    "word in the wrong place": ("arriving & (place == n)", "arriving & (place == n ^ 1)"),
    "window of another place": ("for bit in reversed(range(len(self.head)))", "for bit in reversed(range(1, len(self.head)))"),
    "clear keeps units": ("arriving.eq(0), self.fill.eq(0)", "arriving.eq(0)"),
    "clear keeps a word": ("arriving.eq(0), self.fill.eq(0)", "self.fill.eq(0)"),
    "clear keeps the place": ("self.head.eq(0), place.eq(0)", "self.head.eq(0)"),
    "wants too little": ("<= self.capacity)", "<= self.capacity - units)"),
}


def keys(size: tuple[int, int, int, bool]) -> dict[str, int]:
    """Return the parameters of a bench."""
    return dict(zip(("word_bits", "window_units", "unit_bits", "turned"), size, strict=True))


@pytest.mark.parametrize("name", SIZES)
def test_byte_stream(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(ByteStream(*SIZES[name]), __name__, parameters=keys(SIZES[name]))


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str) -> None:
    """A window that overflows, mixes words, survives a clear or stays short is caught."""
    assert simulate(mutant(ByteStream, *MUTANTS[name])(*BROKEN), __name__, parameters=keys(BROKEN),
                    expect_failure=True).failed


async def start(dut: Any) -> tuple[int, int, int]:
    """Reset the block; return word bits, window units and unit bits."""
    for name in ("clear", "granted", "word", "take"):
        getattr(dut, name).value = 0
    await reset(dut, ())
    p = parameters_of_bench()
    return p["word_bits"], p["window_units"], p["unit_bits"]


def words(rng: random.Random, word_bits: int, count: int) -> list[int]:
    """Return words of all zeros, all ones and random bits."""
    full = (1 << word_bits) - 1
    return [0, full, 0, *(rng.choice((0, full, *(rng.getrandbits(word_bits) for _ in range(6)))) for _ in range(count))]


async def stream(dut: Any, content: Sequence[int], takes: Iterable[int], pauses: Iterable[bool] = NEVER,
                 stop: int | None = None) -> tuple[list[int], list[int]]:
    """Feed ``content`` as the window wants it and take units; return the units and the fill of each cycle.

    takes : how many units to take at most, per cycle
    pauses : True where a wanted word is not granted; repeated for ever
    stop : end after so many cycles; without it when all units are taken

    Every cycle, the whole visible window equals the units that come next, and the fill is what arrived and was
    not taken.
    """
    word_bits, window_units, unit_bits, turned = parameters_of_bench().values()
    ring = ring_units(word_bits, window_units, unit_bits)
    per_word, units = word_bits // unit_bits, byte_stream(content, word_bits, unit_bits)
    pause, mask = itertools.cycle(pauses), (1 << unit_bits) - 1
    given = arrived = taken = 0
    granted = False
    fills: list[int] = []
    got: list[int] = []
    for number, most in enumerate(takes):
        if taken == len(units) or number == stop:
            break
        dut.word.value = content[given - 1] if granted else random.getrandbits(word_bits)
        await FallingEdge(dut.clk)
        fill, window = int(dut.fill.value), int(dut.window.value)
        assert fill == arrived - taken, f"fill in cycle {cycle()}"
        head = 0 if turned else int(dut.head.value)
        visible = [window >> ((head + place) % ring * unit_bits) & mask for place in range(min(fill, window_units))]
        assert visible == units[taken : taken + len(visible)], f"window in cycle {cycle()}"
        take = min(most, len(visible))
        got, fills = got + visible[:take], [*fills, fill]
        arrived, taken = arrived + per_word * granted, taken + take
        granted = bool(dut.want.value) and given < len(content) and not next(pause)
        given += granted
        dut.granted.value, dut.take.value = int(granted), take
        await RisingEdge(dut.clk)
    dut.granted.value, dut.take.value = 0, 0
    return got, fills


async def clear(dut: Any, word: int) -> None:
    """Clear the window; a word granted before the clear and one granted with it are lost."""
    dut.clear.value, dut.granted.value, dut.word.value = 1, 1, word
    await RisingEdge(dut.clk)
    dut.clear.value, dut.granted.value = 0, 0


@cocotb.test(timeout_time=300, timeout_unit="us")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Units equal golden for takes of every size, with and without stalls, again after each clear."""
    rng = random.Random(cocotb.RANDOM_SEED)
    word_bits, window_units, unit_bits = await start(dut)
    sizes = (window_units, 1, min(2, window_units))
    takes = ((0 if next(pause) else rng.choice((rng.randint(0, window_units), *sizes))) for pause in
             itertools.repeat(stalls(rng) if stall else itertools.repeat(False)))
    for _ in range(6):
        content = words(rng, word_bits, 40)
        got, _ = await stream(dut, content, takes, stalls(rng) if stall else NEVER)
        assert got == byte_stream(content, word_bits, unit_bits)
        await stream(dut, words(rng, word_bits, 20), takes, stop=rng.randint(1, 12))
        await clear(dut, rng.getrandbits(word_bits))


@cocotb.test(timeout_time=100, timeout_unit="us")
async def takes_the_documented_cycles(dut: Any) -> None:
    """A word is visible 2 cycles after it is granted; a word's units a cycle, or the window, are taken without a gap."""
    rng = random.Random(cocotb.RANDOM_SEED)
    word_bits, window_units, unit_bits = await start(dut)
    per_word = word_bits // unit_bits
    content, rate = words(rng, word_bits, 60), min(per_word, window_units)
    _, fills = await stream(dut, content, itertools.repeat(rate))
    assert fills[:3] == [0, 0, per_word]
    assert len(fills) == 2 + -(-len(content) * per_word // rate)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def fills_the_window(dut: Any) -> None:
    """With nothing taken, the window fills with every word that fits and stays so."""
    rng = random.Random(cocotb.RANDOM_SEED)
    word_bits, window_units, unit_bits = await start(dut)
    per_word = word_bits // unit_bits
    _, fills = await stream(dut, words(rng, word_bits, 60), itertools.repeat(0), stop=40)
    assert fills[-1] == (window_units // per_word + 2) * per_word
