"""Sums of the loom against their golden twin."""

import dataclasses
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import Arch, word_bits
from golden.loom_join import LoomMatch
from golden.loom_sums import loom_sums
from hdl.loom_join import join_layout
from hdl.loom_sums import LoomSums
from verif.chunks import LOOM, LOOMS, arch, draw_weights, packed, signed
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import NEVER, cycle, reset, stalls, word

# Cycles from the match that ends a column to the cycle in which the column counts.
LATENCY = 2
INPUTS = ("word_log2", "span_log2", "word_en", "word_address", "words", "line_put", "line", "weights", "valid", "match", "read",
          "ahead", "take")
MUTANTS = {
    "line of a word": ("match.line + (bit >> line_log2)", "match.line"),
    "bits of the words beside": ("(group >> place[:group_log2]) & kept", "group >> place[:group_log2]"),
    "row of a slot": ("late.slot & ((p.rows - 1) >> self.span_log2)", "late.slot"),
    "last match of a column": ("total + Mux(late.hit & (target == s) & word[t], weight, 0)", "total"),
    "end without a match adds": ("Mux(late.hit & (target == s) & word[t]", "Mux((target == s) & word[t]"),
    "sums go on": ("m.d.sync += total.eq(0)", "m.d.sync += total.eq(totals[s][t])"),
    "wrong column": ("first + self.ahead", "first"),
    "columns not forgotten": ("first.eq(first + self.take)", "first.eq(first + (self.take != 0))"),
    "a column too few": ("full.eq(self.have == p.window_columns)", "full.eq(self.have == p.window_columns - 1)"),
    "no hold": ("self.hold.eq(end & full)", "self.hold.eq(0)"),
    "idle too early": ("self.idle.eq(~added)", "self.idle.eq(1)"),
}


@pytest.mark.parametrize("name", LOOMS)
def test_loom_sums(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(LoomSums(LOOMS[name]), __name__, parameters=dataclasses.asdict(LOOMS[name]))


@pytest.mark.parametrize("wrong", MUTANTS)
def test_mutants_are_caught(wrong: str) -> None:
    """Wrong words, rows, weights and columns, sums that are never begun anew and missing back-pressure are caught."""
    simulate(mutant(LoomSums, *MUTANTS[wrong])(LOOM), __name__, parameters=dataclasses.asdict(LOOM), expect_failure=True)


def test_golden_by_definition() -> None:
    """Two rows of two slots each: matches of both slots of a row add up, and the words' bits are apart."""
    words = [[0b11_10_01_00], [0b00_00_11_00], [0b01_00_00_00], [0]]
    matches = [LoomMatch(slot=0, word=1, weight=0, hit=True), LoomMatch(slot=2, word=3, weight=1, hit=True),
               LoomMatch(slot=1, word=1, weight=1, hit=True, end=True), LoomMatch(end=True)]
    sums = loom_sums(matches, words, [0x7F80], word_log2=1, span_log2=1, steps=2, chunk_bits=8, weight_bits=8)
    assert sums == [[[-128 + 127, 0], [127, 127], [0, 0], [0, 0]], [[0, 0]] * 4]


@dataclass(frozen=True)
class Tile:
    """Words and weights of one tile in one half of the stores, its columns' matches, and how words and slots are shared."""

    half: int
    words: Sequence[Sequence[int]]
    weights: Sequence[int]
    columns: Sequence[Sequence[LoomMatch]]
    word_log2: int
    span_log2: int

    def sums(self, p: Arch) -> list[list[list[int]]]:
        """Return golden's sums of all columns."""
        matches = itertools.chain.from_iterable(self.columns)
        return loom_sums(matches, [[0] * self.half * len(each) + list(each) for each in self.words],
                         [0] * self.half * len(self.weights) + list(self.weights), word_log2=self.word_log2,
                         span_log2=self.span_log2, steps=p.t_max, chunk_bits=p.chunk_bits, weight_bits=p.weight_bits)


def draw_tile(rng: random.Random, p: Arch, half: int, lengths: Iterable[int]) -> Tile:
    """Return a tile of columns of so many matches each, 0 for an end without one."""
    word_log2 = rng.randrange(word_bits(p.t_max).bit_length())
    lines, window, weights_of_a_line = p.slot_lines // 2, p.window_lines // 2, p.chunk_bits // p.weight_bits
    full = (1 << p.chunk_bits) - 1
    words = [[rng.choice((0, full, *(rng.getrandbits(p.chunk_bits) for _ in range(6)))) for _ in range(lines)]
             for _ in range(p.rows)]
    weights = [packed(draw_weights(rng, p.weight_bits, weights_of_a_line), p.weight_bits) for _ in range(window)]
    columns = []
    for length in lengths:
        column = []
        for _ in range(length):
            line, places = half * lines + rng.choice((0, lines - 1, rng.randrange(lines))), p.chunk_bits >> word_log2
            most = ((half + 1) * lines - line) * places
            column.append(LoomMatch(
                slot=rng.randrange(p.rows), line=line, word=rng.choice((0, most - 1, rng.randrange(most), rng.randrange(most))),
                weight_line=half * window + rng.randrange(window), weight=rng.randrange(weights_of_a_line), hit=True))
        noise = LoomMatch(slot=rng.randrange(p.rows), weight=rng.randrange(weights_of_a_line))
        last = column.pop() if column else noise
        columns.append([*column, dataclasses.replace(last, end=True)])
    return Tile(half, words, weights, columns, word_log2, rng.randrange(p.rows.bit_length()))


def match_word(p: Arch, match: LoomMatch) -> int:
    """Return the value of the ``match`` port."""
    return word(join_layout(p), {name: int(value) for name, value in vars(match).items()})


async def write(dut: Any, rng: random.Random, p: Arch, tile: Tile, pauses: Iterator[bool]) -> None:
    """Write a tile's words and weights, lines for several slots at once where they are equal."""
    base = [tile.half * len(tile.words[0]), tile.half * len(tile.weights)]
    left = [[*enumerate(lines)] for lines in tile.words]
    weights = [*enumerate(tile.weights)]
    for lines in left:
        rng.shuffle(lines)
    while weights or any(left):
        enable, addresses, value = 0, [rng.randrange(p.slot_lines) for _ in left], rng.getrandbits(p.chunk_bits)
        if any(left) and not next(pauses):
            value = next(lines[0][1] for lines in rng.sample(left, len(left)) if lines)
            for slot, lines in enumerate(left):
                if lines and lines[0][1] == value:
                    enable, addresses[slot] = enable | 1 << slot, base[0] + lines.pop(0)[0]
        dut.word_en.value, dut.words.value = enable, value
        dut.word_address.value = packed(addresses, (p.slot_lines - 1).bit_length())
        dut.line_put.value, dut.line.value, dut.weights.value = 0, rng.randrange(p.window_lines), rng.getrandbits(p.chunk_bits)
        if weights and not next(pauses):
            number, value = weights.pop()
            dut.line_put.value, dut.line.value, dut.weights.value = 1, base[1] + number, value
        await RisingEdge(dut.clk)
    dut.word_en.value, dut.line_put.value = 0, 0


async def give(dut: Any, p: Arch, matches: Sequence[LoomMatch], pauses: Iterable[bool] = NEVER) -> list[int]:
    """Give matches; return the cycle in which each was taken. ``hit`` and ``idle`` are checked in every cycle."""
    pause = itertools.cycle(pauses)
    taken: list[int] = []
    pending: LoomMatch | None = None
    left = [*matches]
    while left or pending:
        offers = bool(left) and not next(pause)
        dut.valid.value, dut.match.value = int(offers), match_word(p, left[0] if left else LoomMatch(hit=True, end=True))
        await FallingEdge(dut.clk)
        held = bool(dut.hold.value)
        assert not held or (pending and pending.end), f"hold without an end in cycle {cycle()}"
        assert bool(dut.hit.value) == bool(pending and pending.hit and not held), f"hit in cycle {cycle()}"
        assert bool(dut.idle.value) == (pending is None), f"idle in cycle {cycle()}"
        if not held:
            pending = left.pop(0) if offers else None
            taken += [cycle()] if offers else []
        await RisingEdge(dut.clk)
    dut.valid.value = 0
    return taken


async def take(dut: Any, rng: random.Random, p: Arch, count: int, pauses: Iterable[bool] = NEVER,
               most: int = 1) -> list[list[list[int]]]:
    """Read ``count`` columns, up to ``most`` of them in any order before they are forgotten together."""
    pause = itertools.cycle(pauses)
    got: list[list[list[int]]] = []
    while len(got) < count:
        many = min(rng.randint(1, most), count - len(got))
        while True:
            await FallingEdge(dut.clk)
            there = int(dut.have.value) >= many and not next(pause)
            await RisingEdge(dut.clk)
            if there:
                break
        seen: dict[int, list[list[int]]] = {}
        for ahead in rng.sample(range(many), many):
            dut.read.value, dut.ahead.value = 1, ahead
            await RisingEdge(dut.clk)
            dut.read.value, dut.ahead.value = 0, rng.randrange(p.window_columns)
            for _ in range(rng.choice((1, 1, 3))):
                await FallingEdge(dut.clk)
                seen.setdefault(ahead, sums_of(dut, p))
                assert seen[ahead] == sums_of(dut, p), f"sums do not hold in cycle {cycle()}"
                await RisingEdge(dut.clk)
        dut.take.value = many
        await RisingEdge(dut.clk)
        dut.take.value = 0
        got += [seen[ahead] for ahead in range(many)]
    return got


def sums_of(dut: Any, p: Arch) -> list[list[int]]:
    """Return the dots that are read, [slot][word bit]."""
    bits, full = int(dut.sums.value), (1 << p.acc_bits) - 1
    flat = [signed(bits >> (p.acc_bits * n) & full, p.acc_bits) for n in range(p.rows * p.t_max)]
    return [flat[n : n + p.t_max] for n in range(0, len(flat), p.t_max)]


async def start(dut: Any) -> None:
    """Reset the block with quiet inputs."""
    for name in INPUTS:
        getattr(dut, name).value = 0
    await reset(dut, ())


def share(dut: Any, tile: Tile) -> None:
    """Tell the block how words and slots of a tile are shared."""
    dut.word_log2.value, dut.span_log2.value = tile.word_log2, tile.span_log2


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """The sums of all columns equal golden, while the next tile's words and weights are written."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    pauses = stalls(rng) if stall else itertools.repeat(False)
    await start(dut)
    tiles = [draw_tile(rng, p, number % 2, [rng.choice((0, 1, 2, rng.randint(0, 60))) for _ in range(12)])
             for number in range(12)]
    await write(dut, rng, p, tiles[0], pauses)
    for tile, after in itertools.pairwise([*tiles, tiles[0]]):
        share(dut, tile)
        writer = cocotb.start_soon(write(dut, rng, p, after, pauses))
        taker = cocotb.start_soon(take(dut, rng, p, len(tile.columns), pauses, rng.choice((1, p.window_columns))))
        await give(dut, p, [*itertools.chain.from_iterable(tile.columns)], pauses)
        assert await taker == tile.sums(p)
        await writer


@cocotb.test(timeout_time=100, timeout_unit="us")
async def takes_the_documented_cycles(dut: Any) -> None:
    """One match a cycle; a column counts 2 cycles after the match that ends it."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut)
    tile = draw_tile(rng, p, 0, [rng.randint(1, 4) for _ in range(p.window_columns)])
    await write(dut, rng, p, tile, itertools.repeat(False))
    share(dut, tile)
    counts: list[int] = []

    async def count() -> None:
        while len(counts) < p.window_columns:
            await FallingEdge(dut.clk)
            counts.extend([cycle()] * (int(dut.have.value) - len(counts)))

    counter = cocotb.start_soon(count())
    taken = await give(dut, p, [*itertools.chain.from_iterable(tile.columns)])
    assert taken == [*range(taken[0], taken[0] + len(taken))]
    ends = [at - 1 for at in itertools.accumulate(len(column) for column in tile.columns)]
    await counter
    assert counts == [taken[end] + LATENCY for end in ends]
    assert await take(dut, rng, p, len(ends)) == tile.sums(p)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def holds_back(dut: Any) -> None:
    """With ``window_columns`` columns waiting, the next end holds the lane, until one of them is forgotten."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut)
    tile = draw_tile(rng, p, 0, [3] * (2 * p.window_columns))
    await write(dut, rng, p, tile, itertools.repeat(False))
    share(dut, tile)
    giver = cocotb.start_soon(give(dut, p, [*itertools.chain.from_iterable(tile.columns)]))
    for _ in range(10 * p.window_columns):
        await RisingEdge(dut.clk)
    await FallingEdge(dut.clk)
    assert dut.hold.value and int(dut.have.value) == p.window_columns
    stopped = cycle()
    await RisingEdge(dut.clk)
    assert await take(dut, rng, p, len(tile.columns)) == tile.sums(p)
    taken = await giver
    assert sum(at < stopped for at in taken) == 3 * (p.window_columns + 1)
