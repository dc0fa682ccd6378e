"""TPPE against its golden twin."""

import dataclasses
import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import PRESETS, Arch, word_bits
from golden.spike_buffer import RowChunk, spike_buffer
from golden.tppe import tppe
from hdl.tppe import Tppe
from verif.chunks import ARCHS, Chunk, Taken, arch, broadcast, draw_weights, mask_pairs, quiet, signed
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import NEVER, get, idle, reset, stalls

LATENCY = 4
BROKEN = dataclasses.replace(PRESETS["tiny"], t_max=4)


@pytest.mark.parametrize("name", ARCHS)
def test_tppe(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Tppe(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("broken", "red"), [
    pytest.param((r"(corrected_1 \} = .*) \+ ", r"\1 - "), "matches_golden", id="sign of a correction"),
    pytest.param((r"assign corrected = .*;", "assign corrected = 1'h0;"), "matches_golden", id="corrections"),
    pytest.param((r"assign ready = (.*) & i__ready;", r"assign ready = \1;"), "holds_back", id="no back-pressure"),
    pytest.param((r"(procmux\S+ += )o__ready \? 1'h0 : o__valid;", r"\g<1>1'h0;"), "stall=True", id="valid falls"),
])
def test_mutants_are_caught(broken: tuple[str, str], red: str) -> None:
    """Accumulators that keep a sum, a wrong sign or count, missing back-pressure and a lost result are caught."""
    outcome = simulate(Tppe(BROKEN), __name__, parameters=dataclasses.asdict(BROKEN), replace=broken,
                       expect_failure=True)
    assert any(red in name for name in outcome.failed)


@pytest.mark.parametrize("broken", [
    pytest.param(("[correction.eq(0), o.payload", "[correction.eq(missing), o.payload"), id="correction not cleared"),
    pytest.param(("pseudo.eq(0)", "pseudo.eq(total)"), id="sum not cleared"),
    pytest.param(("(group >> shift[:group_log2])", "group"), id="word beside the right one"),
])
def test_source_mutants_are_caught(broken: tuple[str, str]) -> None:
    """An accumulator that is not cleared and a wrong word of the group are caught."""
    outcome = simulate(mutant(Tppe, *broken)(BROKEN), __name__, parameters=dataclasses.asdict(BROKEN),
                       expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed)


def test_golden_by_definition(seed: int) -> None:
    """Golden's dots equal the sums of word bit times weight, for words of every density."""
    rng = random.Random(seed)
    for row, _, column in (case for operands in rows(rng, PRESETS["loas"]) for case in operands.outputs):
        dots, _ = tppe(row, column, t_max=16, steps=4)
        assert dots == [sum((word >> bit & 1) * weight for word, weight in zip(row, column, strict=True))
                        for bit in range(16)]


@dataclass(frozen=True)
class Row:
    """A row with what is joined with it.

    outputs : (words of the row, chunks, weights of the column) of each output, words and weights by position
    """

    lines: Sequence[int]
    word_log2: int
    steps: int
    outputs: list[tuple[list[int], list[Chunk], list[int]]]


def rows(rng: random.Random, p: Arch) -> list[Row]:
    """Return rows of 1 to 4 chunks; a pair of masks each, every output joins some of the chunks in order."""
    pairs, out = mask_pairs(rng, p.chunk_bits), []
    while pairs:
        count = min(rng.randint(1, 4), len(pairs))
        taken, pairs = pairs[:count], pairs[count:]
        steps = rng.choice((p.t_max, rng.randint(1, p.t_max)))
        width = word_bits(steps)
        words = _words(rng, sum(mask_a.bit_count() for mask_a, _ in taken), steps)
        kept, lines = spike_buffer([mask_a for mask_a, _ in taken], words, width.bit_length() - 1, p.chunk_bits)
        columns = [[mask_b for _, mask_b in taken], *([rng.getrandbits(p.chunk_bits) for _ in taken] for _ in range(2))]
        outputs = []
        for masks in columns:
            first = rng.randrange(len(taken))
            stop = rng.randint(first + 1, len(taken)) if masks is not columns[0] else len(taken)
            outputs.append(_output(rng, p, kept, words, masks, first if masks is not columns[0] else 0, stop))
        out.append(Row(lines, width.bit_length() - 1, steps, outputs))
    return out


def _words(rng: random.Random, count: int, steps: int) -> list[int]:
    density = rng.choice((0.1, 0.5, 0.9, 1.0))
    drawn = [sum(1 << bit for bit in range(steps) if rng.random() < density) for _ in range(count)]
    return [word or 1 << rng.randrange(steps) for word in drawn]


def _output(rng: random.Random, p: Arch, kept: Sequence[RowChunk], words: Sequence[int], masks: Sequence[int],
            start: int, stop: int) -> tuple[list[int], list[Chunk], list[int]]:
    row, column, chunks = [], [], []
    for number in range(start, stop):
        chunk, mask_b = kept[number], masks[number]
        weights = draw_weights(rng, p.weight_bits, mask_b.bit_count())
        chunks.append(Chunk(chunk, mask_b, weights, number == stop - 1))
        row += _spread(chunk.mask, words[chunk.base :], p.chunk_bits)
        column += _spread(mask_b, weights, p.chunk_bits)
    return row, chunks, column


def _spread(mask: int, packed: Iterable[int], bits: int) -> list[int]:
    values = iter(packed)
    return [next(values) if mask >> place & 1 else 0 for place in range(bits)]


class Lane:
    """The row's words behind the read port, and counts of the one-cycle events."""

    def __init__(self, dut: Any, p: Arch) -> None:
        self.dut, self.p = dut, p
        self.lines: Sequence[int] = ()
        self.hits = self.corrections = 0

    async def start(self) -> None:
        """Reset the block and serve its reads, latency 1; an address outside the row is an error."""
        quiet(self.dut)
        self.dut.line.value, self.dut.word_log2.value, self.dut.steps.value = 0, 0, 1
        await reset(self.dut, ("o",))
        cocotb.start_soon(self._serve())

    def take(self, row: Row) -> None:
        """Put a row behind the read port."""
        self.lines = row.lines
        self.dut.word_log2.value, self.dut.steps.value = row.word_log2, row.steps

    async def _serve(self) -> None:
        dut, wanted = self.dut, None
        while True:
            await FallingEdge(dut.clk)
            self.hits, self.corrections = self.hits + int(dut.hit.value), self.corrections + int(dut.corrected.value)
            read = bool(dut.word_en.value)
            wanted = int(dut.word_address.value) // self.p.chunk_bits if read else None
            await RisingEdge(dut.clk)
            if wanted is not None:
                dut.line.value = self.lines[wanted] if wanted < len(self.lines) else 0


def dots_of(p: Arch, bits: int) -> list[int]:
    """Return one word of ``o`` as signed dots."""
    return [signed(bits >> (p.acc_bits * b) & ((1 << p.acc_bits) - 1), p.acc_bits) for b in range(p.t_max)]


def corrections_of(p: Arch, row: Row) -> int:
    """Return golden's corrections of all outputs of a row."""
    return sum(tppe(words, column, t_max=p.t_max, steps=row.steps)[1] for words, _, column in row.outputs)


@cocotb.test(timeout_time=400, timeout_unit="us")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Dots of every word bit, matches and corrections equal golden, with and without stalls on both sides."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    lane = Lane(dut, p)
    await lane.start()
    for row in rows(rng, p):
        lane.take(row)
        before, chunks = (lane.hits, lane.corrections), [c for _, chunks, _ in row.outputs for c in chunks]
        cocotb.start_soon(broadcast(dut, p, chunks, stalls(rng) if stall else NEVER))
        got = await get(dut, "o", len(row.outputs), stalls(rng) if stall else NEVER)
        expected = [tppe(words, column, t_max=p.t_max, steps=row.steps)[0] for words, _, column in row.outputs]
        assert [dots_of(p, bits) for bits in got] == expected
        assert lane.hits - before[0] == sum(chunk.matches for chunk in chunks)
        assert lane.corrections - before[1] == corrections_of(p, row)
    await idle(dut, "o", 10)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def takes_the_documented_cycles(dut: Any) -> None:
    """A chunk of n matches takes max(1, n) cycles; dots leave a fixed number of cycles after their last match."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    lane = Lane(dut, p)
    await lane.start()
    for row in rows(rng, p):
        lane.take(row)
        chunks = [chunk for _, chunks, _ in row.outputs for chunk in chunks]
        left: list[int] = []
        sender = cocotb.start_soon(broadcast(dut, p, chunks))
        await get(dut, "o", len(row.outputs), at=left)
        taken = await sender
        assert [len(each.cycles) for each in taken] == [max(1, chunk.matches) for chunk in chunks]
        assert [each.cycles[-1] + LATENCY for each in ends(chunks, taken)] == left


def ends(chunks: Sequence[Chunk], taken: Sequence[Taken]) -> list[Taken]:
    """Return what happened in the last chunk of each output."""
    return [each for chunk, each in zip(chunks, taken, strict=True) if chunk.last]


@cocotb.test(timeout_time=100, timeout_unit="us")
async def holds_back(dut: Any) -> None:
    """With ``o`` stopped, outputs of no match fill the FIFO and then hold the array; none is lost."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    lane = Lane(dut, p)
    await lane.start()
    empty, one = RowChunk(0, 0, (0,) * (p.laggy_cycles - 1)), RowChunk(1, 0, (1,) * (p.laggy_cycles - 1))
    lane.take(Row([1], 0, 1, []))
    weights = draw_weights(rng, p.weight_bits, 40)
    chunks = [Chunk(row, 1, [weight], True) for row, weight in zip(itertools.cycle((empty, one)), weights, strict=False)]
    sender = cocotb.start_soon(broadcast(dut, p, chunks))
    taken = 0
    for _ in range(4 * p.fifo_depth):
        await FallingEdge(dut.clk)
        taken += int(dut.go.value)
        await RisingEdge(dut.clk)
    assert taken == p.fifo_depth + 1
    got = [dots_of(p, bits)[0] for bits in await get(dut, "o", len(chunks), stalls(rng))]
    assert got == [weight if chunk.matches else 0 for chunk, weight in zip(chunks, weights, strict=True)]
    await sender
