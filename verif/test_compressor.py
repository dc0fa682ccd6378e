"""Output compressor against its golden twin."""

import dataclasses
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import PRESETS, Arch, word_bits
from golden.compressor import Open, Piece, compress
from golden.fiber import unpack
from hdl.compressor import Compressor
from verif.chunks import ARCHS, arch
from verif.sim import simulate
from verif.stream import NEVER, cycle, reset, stalls

KINDS = ("mask", "value")
BROKEN = dataclasses.replace(PRESETS["tiny"], t_max=4)


@pytest.mark.parametrize("name", ARCHS)
def test_compressor(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Compressor(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("broken", "red"), [
    pytest.param((r"value_ack \? 32'd0 : ", "1'h0 ? 32'd0 : "), "matches_golden", id="piece not cleared"),
    pytest.param((r", load_byte \}", ", 7'h0 }"), "matches_golden", id="byte begun is lost"),
    pytest.param((r"word != 1'h0", "1'h1"), "matches_golden", id="silent word stored"),
    pytest.param((r"fill != 1'h0", "1'h0"), "matches_golden", id="values lost at the end"),
    pytest.param((r"= mask_index \+ 1'h1", "= mask_index"), "matches_golden", id="piece not numbered"),
    pytest.param((r"(put \? \S+ +: )mask_valid;", r"\g<1>1'h0;"), "stall=True", id="valid falls"),
])
def test_mutants_are_caught(broken: tuple[str, str], red: str) -> None:
    """Wrong, lost, misnumbered and fleeting pieces are caught."""
    outcome = simulate(Compressor(BROKEN), __name__, parameters=dataclasses.asdict(BROKEN), replace=broken,
                       expect_failure=True)
    assert any(red in name for name in outcome.failed)


def test_golden_is_lossless(seed: int) -> None:
    """Golden's pieces, put together, hold the words that went in."""
    rng = random.Random(seed)
    for words, word_log2 in fibers(rng, PRESETS["tiny"]):
        masks, values = ([byte for bits, size in pieces for byte in bits.to_bytes(size, "little")]
                         for pieces in compress(words, word_log2, 32)[:2])
        slots = values + [0xFF] * (2 * len(words))
        back = unpack(np.array([masks], np.uint8), np.array([slots], np.uint8), len(words), word_log2, 1, 1)
        assert back.ravel().tolist() == words


def test_golden_parts_make_the_whole(seed: int) -> None:
    """Parts of a fiber, each written where the one before ends, give the bytes of the whole fiber."""
    rng = random.Random(seed)
    for words, word_log2 in fibers(rng, PRESETS["tiny"]):
        stored, end = bytearray(4 * len(words)), Open()
        cuts = sorted({0, len(words), *(rng.randint(0, len(words)) for _ in range(3))})
        for start_of, stop in itertools.pairwise(cuts):
            _, values, after = compress(words[start_of:stop], word_log2, 32, end)
            content = b"".join(bits.to_bytes(size, "little") for bits, size in values)
            stored[end.bytes : end.bytes + len(content)] = content
            end = after
        _, whole, last = compress(words, word_log2, 32)
        content = b"".join(bits.to_bytes(size, "little") for bits, size in whole)
        assert bytes(stored[: len(content)]) == content
        assert not any(stored[len(content) :])
        assert end == last


def fibers(rng: random.Random, p: Arch) -> list[tuple[list[int], int]]:
    """Return (words, word_log2) of fibers: sizes around the piece, every stored width, all densities and corners."""
    bits, out = p.chunk_bits, []
    sizes = (1, 7, 8, bits - 1, bits, bits + 1, 2 * bits, rng.randint(2, 3 * bits))
    for size, density in itertools.product(sizes, (0.0, 0.02, 0.1, 0.5, 1.0)):
        steps = rng.randint(1, p.t_max)
        present = [rng.random() < density for _ in range(size)]
        out.append(([rng.randrange(1, 1 << steps) if there else 0 for there in present],
                    word_bits(steps).bit_length() - 1))
    full = (1 << p.t_max) - 1
    log2 = word_bits(p.t_max).bit_length() - 1
    corners = [[full] * (2 * bits), [0] * (2 * bits - 1) + [1], [1] + [0] * bits, [0, full] * bits]
    return rng.sample(out, len(out)) + [(words, log2) for words in corners]


@dataclass
class Seen:
    """Pieces of one kind as they were acknowledged, their numbers, and the cycles in which they appeared."""

    pieces: list[Piece] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    at: list[int] = field(default_factory=list)


async def acknowledge(dut: Any, kind: str, seen: Seen, pauses: Iterable[bool]) -> None:
    """Take the pieces of one kind for ever; monitor that a piece waits unchanged until it is acknowledged."""
    valid, ack = getattr(dut, f"{kind}_valid"), getattr(dut, f"{kind}_ack")
    pause, waiting = itertools.cycle(pauses), None
    while True:
        ack.value = 0
        await FallingEdge(dut.clk)
        now = (int(getattr(dut, kind).value), int(getattr(dut, f"{kind}_bytes").value),
               int(getattr(dut, f"{kind}_index").value)) if valid.value else None
        assert waiting in {None, now}, f"{kind}: piece changed in cycle {cycle()} before it was acknowledged"
        if now and waiting is None:
            seen.at.append(cycle())
        waiting = now
        if now and not next(pause):
            seen.pieces.append(now[:2])
            seen.numbers.append(now[2])
            ack.value, waiting = 1, None
        await RisingEdge(dut.clk)


async def send(dut: Any, words: Sequence[int], word_log2: int, pause: Iterator[bool]) -> list[int]:
    """Send one fiber and its end, each only while no piece waits; return the cycles of the words and of the end."""
    dut.word_log2.value = word_log2
    at = []
    for word in [*words, None]:
        while True:
            dut.put.value, dut.close.value = 0, 0
            await FallingEdge(dut.clk)
            waits = dut.mask_valid.value or dut.value_valid.value or next(pause)
            if not waits:
                dut.put.value, dut.close.value, dut.word.value = int(word is not None), int(word is None), word or 0
                at.append(cycle())
            await RisingEdge(dut.clk)
            if not waits:
                break
    dut.put.value, dut.close.value = 0, 0
    return at


async def start(dut: Any, pauses: Iterable[bool], more: Iterable[bool]) -> dict[str, Seen]:
    """Reset the block and take its pieces."""
    for name in ("put", "close", "word", "word_log2", "mask_ack", "value_ack", "load", "load_bits", "load_byte"):
        getattr(dut, name).value = 0
    await reset(dut, ())
    seen = {kind: Seen() for kind in KINDS}
    for kind, pause in zip(KINDS, (pauses, more), strict=True):
        cocotb.start_soon(acknowledge(dut, kind, seen[kind], pause))
    return seen


async def emptied(dut: Any) -> None:
    """Wait until no piece waits and the fiber is closed."""
    await RisingEdge(dut.clk)
    while dut.mask_valid.value or dut.value_valid.value:
        await RisingEdge(dut.clk)


def opening(rng: random.Random, word_log2: int) -> Open:
    """Return the end of a part before: any byte that words of this width can leave begun."""
    bits = rng.randrange(0, 8, 1 << word_log2) if word_log2 < 3 else 0
    return Open(0, bits, rng.randrange(1 << bits))


@cocotb.test(timeout_time=600, timeout_unit="us")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Pieces, their bytes and numbers equal golden, fiber after fiber, with and without stalls on both sides."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    seen = await start(dut, *((stalls(rng), stalls(rng)) if stall else (NEVER, NEVER)))
    pause = stalls(rng) if stall else itertools.repeat(False)
    for words, word_log2 in fibers(rng, p):
        for each in seen.values():
            each.pieces.clear()
            each.numbers.clear()
        before = opening(rng, word_log2)
        dut.load.value, dut.load_bits.value, dut.load_byte.value = 1, before.bits, before.byte
        await RisingEdge(dut.clk)
        dut.load.value = 0
        await send(dut, words, word_log2, pause)
        opened = Open(int(dut.open_bytes.value), int(dut.open_bits.value), int(dut.open_byte.value))
        await emptied(dut)
        masks, values, end = compress(words, word_log2, p.chunk_bits, before)
        assert opened == dataclasses.replace(end, bytes=end.bytes % (p.chunk_bits // 8))
        assert (seen["mask"].pieces, seen["value"].pieces) == (masks, values), f"{word_log2=}, {words=}"
        assert [each.numbers for each in seen.values()] == [list(range(len(masks))), list(range(len(values)))]


@cocotb.test(timeout_time=300, timeout_unit="us")
async def takes_the_documented_cycles(dut: Any) -> None:
    """A piece is shown one cycle after the word that fills it, the last ones after the end; other words take a cycle."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    seen = await start(dut, NEVER, NEVER)
    for words, word_log2 in fibers(rng, p):
        for each in seen.values():
            each.at.clear()
        at = await send(dut, words, word_log2, itertools.repeat(False))
        await emptied(dut)
        filled = list(itertools.accumulate(int(word != 0) << word_log2 for word in words))
        expected = {"mask": [at[stop - 1] + 1 for stop in ends(range(1, len(words) + 1), p)],
                    "value": [at[stop - 1] + 1 for stop in ends(filled, p)]}
        assert {kind: each.at for kind, each in seen.items()} == expected
        waits = len({*expected["mask"], *expected["value"]} - {at[-1] + 1})
        assert at[-1] - at[0] == len(words) + waits


def ends(filled: Sequence[int], p: Arch) -> list[int]:
    """Return after how many words (one more: the end) each piece is complete; ``filled`` is the bits after each word."""
    full = [next(n for n, bits in enumerate(filled, 1) if bits >= size)
            for size in range(p.chunk_bits, filled[-1] + 1, p.chunk_bits)]
    return full + [len(filled) + 1] * (filled[-1] % p.chunk_bits != 0)
