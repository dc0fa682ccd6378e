"""Join of the loom against its golden twin."""

import dataclasses
import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge, Timer

from golden.arch import Arch
from golden.laggy_prefix_sum import laggy_prefix_sum
from golden.loom_join import ColumnChunk, LoomMatch, loom_join
from golden.spike_buffer import RowChunk
from hdl.loom_join import LoomJoin, column_chunk_layout, join_layout
from hdl.spike_buffer import row_chunk_layout
from verif.chunks import DENSITIES, LOOM, LOOMS, arch, packed
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import NEVER, cycle, reset, stalls, word

# Cycles from `chunk_put` to the first match, and from the cycle in which a chunk leaves the lookup to its first match.
LATENCY, FROM_LOOKUP = 4, 1
# Chunks with matches that have left the lookup and are not finished.
QUEUE = 1
INPUTS = ("span_log2", "clear", "open", "mask_en", "mask_address", "mask", "line_put", "chunk_put", "chunk", "hold")
MUTANTS = {
    "segment of a slot": (" & (seen.segment == (Const(s, 3) >> (log - self.span_log2)[:2]))", ""),
    "rows of the tile before": ("m.d.sync += present.eq(0)", "m.d.sync += present.eq(present)"),
    "end without a match": (" | seen.last)", ")"),
    "match lost in a hold": ("done.eq(here_valid & ~self.hold & ", "done.eq(here_valid & "),
    "other slots forgotten": ("encoder.single & ~others)", "encoder.single)"),
    "base of a row": ("row.base + bases[group]", "bases[group]"),
    "line of a weight": ("here_line + (prefix.offset >> per_line)", "here_line"),
    "lines of empty chunks": ("first_line.eq(first_line + seen.lines)", "first_line.eq(first_line + Mux(some, seen.lines, 0))"),
    "lines free before their matches": ("Mux(here_valid, here_line, first_line)", "first_line"),
    "open too early": ("chunks.o.valid & self.open", "chunks.o.valid"),
    "empty chunks wait": ("(~some | ~here_valid", "(~here_valid"),
    "a cycle between chunks": ("~here_valid | done)", "~here_valid)"),
    "no room asked": ("self.chunk_room.eq(chunks.i.ready)", "self.chunk_room.eq(1)"),
}


@pytest.mark.parametrize("name", LOOMS)
def test_loom_join(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(LoomJoin(LOOMS[name]), __name__, parameters=dataclasses.asdict(LOOMS[name]))


@pytest.mark.parametrize("wrong", MUTANTS)
def test_mutants_are_caught(wrong: str) -> None:
    """Wrong rows and places, lost matches and ends, cycles too many and missing back-pressure are caught."""
    simulate(mutant(LoomJoin, *MUTANTS[wrong])(LOOM), __name__, parameters=dataclasses.asdict(LOOM), expect_failure=True)


def test_golden_by_definition(seed: int) -> None:
    """Golden's matches equal those found by walking slots and positions, words and weights counted one by one."""
    rng = random.Random(seed)
    for p in LOOMS.values():
        tile = draw_tile(rng, p, 40)
        lines = itertools.accumulate((chunk.lines for chunk in tile.chunks), initial=5)
        for chunk, first, got in zip(tile.chunks, lines, tile.matches(p, 5), strict=False):
            expected = []
            for slot, held in enumerate(tile.slots):
                row, below, count = held.get(chunk.address), 0, 0
                for position in range(p.chunk_bits if row and slot >> p.rows.bit_length() - 1 - tile.span_log2 ==
                                      chunk.segment else 0):
                    in_row, in_column = row.mask >> position & 1 if row else 0, chunk.mask >> position & 1
                    if row and in_row and in_column:
                        expected.append((slot, chunk.line, row.base + below, (first + count // weights_of_a_line(p))
                                         % p.window_lines, count % weights_of_a_line(p)))
                    below, count = below + in_row, count + in_column
            assert [(m.slot, m.line, m.word, m.weight_line, m.weight) for m in got if m.hit] == expected
            assert [m.end for m in got] == [False] * (len(got) - 1) + [chunk.last] * bool(got)
            assert len(got) == max(len(expected), chunk.last)


@dataclass(frozen=True)
class Tile:
    """Row chunks by address, per slot, the slots of a row, and the chunks of the columns."""

    slots: Sequence[dict[int, RowChunk]]
    span_log2: int
    chunks: Sequence[ColumnChunk]

    def matches(self, p: Arch, first_line: int = 0) -> list[list[LoomMatch]]:
        """Return golden's matches of each chunk."""
        return loom_join(self.slots, self.chunks, span_log2=self.span_log2, weights_of_a_line=weights_of_a_line(p),
                         window_lines=p.window_lines, first_line=first_line)


def weights_of_a_line(p: Arch) -> int:
    """Return the weights that a line holds."""
    return p.chunk_bits // p.weight_bits


def draw_mask(rng: random.Random, bits: int) -> int:
    """Return a mask: a corner or any density."""
    density = rng.choice(DENSITIES)
    drawn = sum(1 << place for place in range(bits) if rng.random() < density)
    return rng.choice((drawn, drawn, drawn, 0, (1 << bits) - 1, 1, 1 << (bits - 1)))


def draw_chunk(rng: random.Random, p: Arch, span_log2: int, *, mask: int | None = None, address: int | None = None,
               last: bool | None = None) -> ColumnChunk:
    """Return a chunk of a column; what is not given is drawn."""
    mask = draw_mask(rng, p.chunk_bits) if mask is None else mask
    return ColumnChunk(mask=mask, address=rng.randrange(p.slot_chunks) if address is None else address,
                       segment=rng.randrange(1 << span_log2), line=rng.randrange(p.slot_lines),
                       lines=-(-mask.bit_count() // weights_of_a_line(p)), last=rng.random() < 0.3 if last is None else last)


def draw_tile(rng: random.Random, p: Arch, count: int) -> Tile:
    """Return a tile of ``count`` chunks; some addresses hold a chunk in all slots, some in a few, some in none."""
    span_log2, slots = rng.randrange(p.rows.bit_length()), [dict[int, RowChunk]() for _ in range(p.rows)]
    for address in range(p.slot_chunks):
        there = rng.choice((0.0, 0.5, 1.0))
        for held in slots:
            if rng.random() < there:
                held[address] = draw_row(rng, p)
    chunks = [draw_chunk(rng, p, span_log2, last=number == count - 1 or None) for number in range(count)]
    return Tile(slots, span_log2, chunks)


def draw_row(rng: random.Random, p: Arch, mask: int | None = None) -> RowChunk:
    """Return a row chunk that begins anywhere among the words of the slot."""
    mask = draw_mask(rng, p.chunk_bits) if mask is None else mask
    base = rng.choice((0, rng.randrange((p.slot_lines - 1) * p.chunk_bits)))
    return RowChunk(mask, base, tuple(laggy_prefix_sum(mask, p.chunk_bits)[0]))


async def start(dut: Any) -> None:
    """Reset the block with quiet inputs."""
    for name in INPUTS:
        getattr(dut, name).value = 0
    await reset(dut, ())


async def write(dut: Any, rng: random.Random, p: Arch, tile: Tile, pauses: Iterable[bool] = NEVER) -> None:
    """Forget the rows, then write those of the tile: equal ones to several slots at once, noise where nothing is enabled."""
    pause, bits = itertools.cycle(pauses), (p.slot_chunks - 1).bit_length()
    dut.span_log2.value, dut.clear.value = tile.span_log2, 1
    await RisingEdge(dut.clk)
    dut.clear.value = 0
    left = [[*held.items()] for held in tile.slots]
    while any(left):
        wait, addresses = next(pause), [rng.randrange(p.slot_chunks) for _ in left]
        chunk, enable = next(rows[-1][1] for rows in rng.sample(left, len(left)) if rows), 0
        for slot, rows in enumerate(left):
            if rows and rows[-1][1] == chunk and not wait:
                enable, addresses[slot] = enable | 1 << slot, rows.pop()[0]
        dut.mask_en.value, dut.mask_address.value = enable, packed(addresses, bits)
        dut.mask.value = word(row_chunk_layout(p), {"mask": chunk.mask, "base": chunk.base, "bases": list(chunk.bases)})
        await RisingEdge(dut.clk)
    dut.mask_en.value = 0


@dataclass
class Fed:
    """What the block took: the cycle of every line of weights and of every chunk, and where the lines went."""

    lines: list[int] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)


async def feed(dut: Any, p: Arch, chunks: Sequence[ColumnChunk], fed: Fed, pauses: Iterable[bool] = NEVER) -> None:
    """Put the lines of each chunk, and the chunk with its last line, whenever there is room for both."""
    pause = itertools.cycle(pauses)
    for chunk in chunks:
        dut.chunk.value = word(column_chunk_layout(p), {name: int(value) for name, value in vars(chunk).items()})
        for number in range(max(1, chunk.lines)):
            await Timer(1, "ns")
            while not (dut.line_room.value and dut.chunk_room.value) or next(pause):
                await RisingEdge(dut.clk)
                await Timer(1, "ns")
            dut.line_put.value, dut.chunk_put.value = int(chunk.lines > 0), int(number + 1 >= chunk.lines)
            await FallingEdge(dut.clk)
            if chunk.lines:
                fed.lines.append(cycle())
                fed.places.append(int(dut.line.value))
            await RisingEdge(dut.clk)
            dut.line_put.value, dut.chunk_put.value = 0, 0
        fed.chunks.append(cycle() - 1)


@dataclass
class Taken:
    """What left the block: matches with their cycles, and the chunks that left without one."""

    matches: list[LoomMatch] = field(default_factory=list)
    cycles: list[int] = field(default_factory=list)
    scans: int = 0


async def take(dut: Any, p: Arch, taken: Taken, pauses: Iterable[bool] = NEVER) -> None:
    """Take matches for ever; one that is held must stay."""
    pause, waiting = itertools.cycle(pauses), None
    while True:
        hold = next(pause)
        dut.hold.value = int(hold)
        await FallingEdge(dut.clk)
        value = int(dut.match.value) if dut.valid.value else None
        assert waiting is None or value == waiting, f"a held match changed in cycle {cycle()}"
        waiting = value if hold else None
        taken.scans += int(dut.scan.value)
        if value is not None:
            assert dut.open.value and not dut.idle.value, f"a match in cycle {cycle()}"
            if not hold:
                taken.matches.append(seen(p, value))
                taken.cycles.append(cycle())
        await RisingEdge(dut.clk)


def seen(p: Arch, bits: int) -> LoomMatch:
    """Return the value of the ``match`` port; places without a hit are 0."""
    match = join_layout(p).from_bits(bits)
    places = {name: getattr(match, name) for name in ("slot", "line", "word", "weight_line", "weight")} if match.hit else {}
    return LoomMatch(**places, hit=bool(match.hit), end=bool(match.end))


async def leave(dut: Any) -> None:
    """Wait until no chunk is in the block."""
    await FallingEdge(dut.clk)
    while not dut.idle.value:
        await FallingEdge(dut.clk)
    await RisingEdge(dut.clk)


def assert_lines_are_kept(p: Arch, tile: Tile, wanted: Sequence[Sequence[LoomMatch]], fed: Fed, taken: Taken) -> None:
    """Assert that no line was written over before the last match of its chunk was taken."""
    owners = [number for number, chunk in enumerate(tile.chunks) for _ in range(chunk.lines)]
    ends = [*itertools.accumulate(len(matches) for matches in wanted)]
    for place, at in enumerate(fed.lines[p.window_lines :]):
        owner = owners[place]
        assert not wanted[owner] or taken.cycles[ends[owner] - 1] < at, f"line {place} was written over in cycle {at}"


async def run(dut: Any, rng: random.Random, p: Arch, tile: Tile, first_line: int, *, stall: bool) -> int:
    """Run a tile whose chunks come before the rows are complete; return the place of the line behind its last one."""
    wanted, fed, taken = tile.matches(p, first_line), Fed(), Taken()
    taker = cocotb.start_soon(take(dut, p, taken, stalls(rng) if stall else NEVER))
    feeder = cocotb.start_soon(feed(dut, p, tile.chunks, fed, stalls(rng) if stall and rng.random() < 0.7 else NEVER))
    await write(dut, rng, p, tile, stalls(rng) if stall else NEVER)
    dut.open.value = 1
    await feeder
    await leave(dut)
    dut.open.value = 0
    taker.cancel()
    assert taken.matches == [*itertools.chain.from_iterable(wanted)]
    assert taken.scans == sum(not matches for matches in wanted)
    after = first_line + len(fed.lines)
    assert fed.places == [place % p.window_lines for place in range(first_line, after)]
    assert_lines_are_kept(p, tile, wanted, fed, taken)
    return after % p.window_lines


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Matches and ends equal golden tile after tile, and no weight is lost before its last match."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut)
    line = 0
    for count in (1, 2, 20, 60, 60, 60):
        line = await run(dut, rng, p, draw_tile(rng, p, count), line, stall=stall)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def keeps_the_lines_of_a_long_chunk(dut: Any) -> None:
    """While a chunk gives its matches, chunks that leave without one do not make room for lines over its own."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut)
    full = (1 << p.chunk_bits) - 1
    slots = [{0: draw_row(rng, p, full)} for _ in range(p.rows)]
    chunks = [draw_chunk(rng, p, 0, mask=full, address=int(number % 12 != 0), last=False) for number in range(36)]
    await run(dut, rng, p, Tile(slots, 0, chunks), 0, stall=False)


def schedule(wanted: Sequence[Sequence[LoomMatch]], first: int) -> list[int]:
    """Return the cycles of the matches when the lookup has its first chunk in cycle ``first`` and all others wait.

    A chunk is looked up in a cycle and leaves, with matches when at most ``QUEUE`` before it are unfinished.
    """
    cycles: list[int] = []
    ends: list[int] = []
    left = first - 1
    for matches in wanted:
        left += 1
        if matches:
            left = max(left, ends[-QUEUE] if len(ends) >= QUEUE else left)
            begin = max(left + FROM_LOOKUP, ends[-1] + 1 if ends else 0)
            cycles += range(begin, begin + len(matches))
            ends.append(cycles[-1])
    return cycles


@cocotb.test(timeout_time=500, timeout_unit="us")
async def takes_the_documented_cycles(dut: Any) -> None:
    """A chunk of n matches takes max(1, n) cycles, those behind it are looked up meanwhile, empty ones leave one a cycle."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut)
    line = 0
    for _ in range(12):
        tile = draw_tile(rng, p, p.window_chunks)
        while sum(chunk.lines for chunk in tile.chunks) >= p.window_lines:
            heavy = max(range(len(tile.chunks)), key=lambda n: tile.chunks[n].lines)
            light = draw_chunk(rng, p, tile.span_log2, mask=1 << rng.randrange(p.chunk_bits), last=tile.chunks[heavy].last)
            tile = Tile(tile.slots, tile.span_log2, [*tile.chunks[:heavy], light, *tile.chunks[heavy + 1 :]])
        fed, taken, wanted = Fed(), Taken(), tile.matches(p, line)
        taker = cocotb.start_soon(take(dut, p, taken))
        await feed(dut, p, tile.chunks, fed)
        await write(dut, rng, p, tile)
        dut.open.value, opened = 1, cycle()
        await leave(dut)
        dut.open.value, line = 0, (line + len(fed.lines)) % p.window_lines
        taker.cancel()
        assert taken.cycles == schedule(wanted, opened + 1)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def shows_the_first_match(dut: Any) -> None:
    """The first match of a chunk shows 4 cycles after it is put when nothing is before it."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut)
    tile = draw_tile(rng, p, 40)
    await write(dut, rng, p, tile)
    dut.open.value = 1
    taken = Taken()
    cocotb.start_soon(take(dut, p, taken))
    for chunk, matches in zip(tile.chunks, tile.matches(p), strict=True):
        fed, before = Fed(), len(taken.cycles)
        await feed(dut, p, [chunk], fed)
        await leave(dut)
        assert taken.cycles[before : before + 1] == [fed.chunks[0] + LATENCY][: len(matches)]


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(dense=[False, True])
async def holds_back(dut: Any, dense: bool) -> None:
    """While the rows are not complete, exactly ``window_chunks`` chunks and ``window_lines`` lines are taken, and kept."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut)
    tile = draw_tile(rng, p, 0)
    mask = (1 << p.chunk_bits) - 1 if dense else 1
    tile = Tile(tile.slots, tile.span_log2, [draw_chunk(rng, p, tile.span_log2, mask=mask) for _ in range(2 * p.window_chunks)])
    fed, taken = Fed(), Taken()
    await write(dut, rng, p, tile)
    cocotb.start_soon(take(dut, p, taken))
    feeder = cocotb.start_soon(feed(dut, p, tile.chunks, fed))
    for _ in range(2 * p.window_lines + p.window_chunks):
        await RisingEdge(dut.clk)
    assert not dut.idle.value and not taken.cycles
    if dense:
        assert len(fed.lines) == p.window_lines
    else:
        assert len(fed.chunks) == p.window_chunks
    dut.open.value = 1
    await feeder
    await leave(dut)
    assert taken.matches == [*itertools.chain.from_iterable(tile.matches(p))]
