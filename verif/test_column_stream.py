"""Column stream against its golden twin, with the packing of the image in between, for even columns and for odd ones."""

import dataclasses
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import BURSTS, Arch
from golden.column_stream import Chunk, Column, layer_columns
from golden.formats import COLUMN_BYTES
from golden.tap_table import Tap, tap_table
from hdl.array import column_layout
from hdl.block import Block
from hdl.column_packing import column_stream as packed
from hdl.column_stream import ColumnStream, stream_window
from hdl.loom_join import column_chunk_layout
from verif.chunks import LOOM, LOOMS, arch, signed
from verif.columns import Place, draw_layer, draw_place
from verif.layers import describe, pass_record
from verif.memory import ReadMemory
from verif.mutant import mutant
from verif.sim import Outcome, simulate
from verif.stream import cycle, get, reset, stalls, watch

WIDE = "loom, 512 256-bit chunks"
ARCHS = LOOMS | {
    "loom, four 16-bit chunks": replace(LOOM, chunk_bits=16, data_bits=128, rows=2, max_chunks=4),
    WIDE: replace(LOOM, chunk_bits=256, data_bits=512, max_chunks=512, row_value_lines=16, fifo_depth=16,
                                        weight_bytes=4096, buffer_bytes=1 << 20),
}
MUTANTS = {
    "mask cut short": ("(tap.bytes > i)", "(tap.bytes > i + 1)"),
    "pass without an end": ("chunk.last.eq((left == 0) | tap.end)", "chunk.last.eq(left == 0)"),
    "one team": ("self.team.eq((self.team + 2)", "self.team.eq(self.team"),
    "team of the other stream": ("self.team.eq(self.number & (teams - 1))", "self.team.eq(0)"),
    "columns of the other stream": ("Mux(self.number, layer.stream_bytes, 0)", "0"),
    "an odd column too many": ("layer.columns + ~self.number", "layer.columns + 1"),
    "read too early": ("& self.read & ~self.layer_start", "& ~self.layer_start"),
    "room not heeded": ("(of_mask | of_weights) & self.room)", "(of_mask | of_weights))"),
    "queue overrun": ("(credit >= burst)", "(credit != 0)"),
    "page crossed": ("room.eq(Mux(to_page < most, to_page, most))", "room.eq(most)"),
    "request falls": ("(credit >= burst) & self.read & ~self.layer_start)",
                      "(credit >= burst) & self.read & ~self.r.valid)"),
    "rest of a round not taken away": ("(window.want | ended)", "window.want"),
    "slow": ("take_head.eq(step & of_head | ended & ~last_column & head_seen)", "take_head.eq(step & of_head)"),
}
# Cycles from the start of a tile to the head of its first column when memory is read ahead, and what a head and a line take.
FIRST_HEAD, HEAD, LINE = 3, 1, 1
READ_AHEAD = 600
Put = tuple[int, tuple[int, ...], tuple[int, ...]]


def bench(p: Arch, block: type[Block] = ColumnStream, **options: Any) -> Outcome:
    """Run the cocotb tests below."""
    return simulate(block(p), __name__, parameters=dataclasses.asdict(p), **options)


@pytest.mark.parametrize("name", ARCHS)
def test_column_stream(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    bench(ARCHS[name])


@pytest.mark.parametrize("wrong", MUTANTS)
def test_mutant_is_caught(wrong: str) -> None:
    """Wrong bytes, chunks, ends, teams, bursts and rounds, room that is not heeded, and a wasted cycle are caught."""
    p = ARCHS[WIDE if wrong == "page crossed" else "loom, four 16-bit chunks" if wrong == "slow" else "loom"]
    assert bench(p, mutant(ColumnStream, *MUTANTS[wrong]), expect_failure=True).failed


@dataclass(frozen=True)
class Layer:
    """The even or odd columns of a layer, its streams, the chunks of its rows, its descriptor, and which columns they are."""

    streams: bytes
    columns: list[Column]
    taps: list[Tap]
    fields: dict[str, int]
    records: list[bytes]
    number: int

    @property
    def stream(self) -> bytes:
        """The bytes of the columns."""
        size = len(self.streams) // 2
        return self.streams[self.number * size :][:size]

    @property
    def ends(self) -> bool:
        """Whether the last column of the layer is one of them."""
        return self.fields["columns"] % 2 != self.number


def layer_of(rng: random.Random, p: Arch, place: Place, count: int, density: float | None = None) -> Layer:
    """Return a layer of which so many columns are read."""
    number = rng.randrange(2)
    columns = 2 * count + (rng.choice((-1, 0)) if number == 0 else rng.choice((0, 1)))
    streams = packed(draw_layer(rng, p, place, columns, density), p)
    taps, teams_log2 = tap_table(place.passes, place.span_log2, p.chunk_bits), rng.randrange(p.lanes.bit_length())
    fields = {"passes": len(place.passes), "chunks": place.chunks, "columns": columns, "span_log2": place.span_log2,
              "teams_log2": teams_log2, "stream_bytes": len(streams) // 2, "weights": 64 * rng.randrange(32)}
    return Layer(streams, layer_columns(streams, columns, taps, p.weight_bits, 1 << teams_log2)[number::2], taps, fields,
                 [pass_record(sweep) for sweep in place.passes], number)


@dataclass
class Seen:
    """What went to the lanes in one tile, (team, chunk) with the taps' place in the slots, and the cycles of the steps."""

    chunks: list[Put] = field(default_factory=list)
    puts: list[int] = field(default_factory=list)
    starved: int = 0
    full: int = 0


def expected(p: Arch, layer: Layer) -> list[Put]:
    """Return (team, (address, segment, line, lines, last, mask), weights) of all chunks of a tile."""
    found: list[Put] = []
    for column in layer.columns:
        for chunk in column.chunks:
            tap = layer.taps[chunk.place]
            found.append((column.team, (tap.address, tap.segment, tap.line, lines(p, chunk), int(chunk.last), chunk.mask),
                          chunk.weights))
    return found


def lines(p: Arch, chunk: Chunk) -> int:
    """Return the lines of ``chunk_bits`` bits that hold the weights of a chunk."""
    return -(-len(chunk.weights) * p.weight_bits // p.chunk_bits)


class Lanes:
    """The lanes' side: gives ``room`` now and then, and keeps what they are given."""

    def __init__(self, dut: Any, p: Arch, pauses: Iterator[bool]) -> None:
        self.dut, self.p, self.pauses, self.seen = dut, p, pauses, Seen()
        self.lines: list[int] = []
        self.layout = column_chunk_layout(p)

    async def serve(self) -> None:
        """Take for ever."""
        dut = self.dut
        while True:
            room = not next(self.pauses)
            dut.room.value = int(room)
            await FallingEdge(dut.clk)
            self.seen.starved += int(dut.starve.value)
            self.seen.full += int(dut.full.value)
            if dut.line_put.value or dut.chunk_put.value:
                assert room, f"a line or chunk without room in cycle {cycle()}"
                self.seen.puts.append(cycle())
            if dut.line_put.value:
                self.lines.append(int(dut.weights.value))
            if dut.chunk_put.value:
                self._take(self.layout.from_bits(int(dut.chunk.value)), int(dut.team.value))
            await RisingEdge(dut.clk)

    def _take(self, chunk: Any, team: int) -> None:
        bits, count = self.p.weight_bits, int(chunk.mask).bit_count()
        assert len(self.lines) == chunk.lines == -(-count * bits // self.p.chunk_bits)
        joined = sum(line << number * self.p.chunk_bits for number, line in enumerate(self.lines))
        weights = tuple(signed(joined >> n * bits & (1 << bits) - 1, bits) for n in range(count))
        names = ("address", "segment", "line", "lines", "last", "mask")
        self.seen.chunks.append((team, tuple(int(getattr(chunk, name)) for name in names), weights))
        self.lines = []


async def begin(dut: Any, rng: random.Random, stall: bool) -> tuple[ReadMemory, bytearray, Lanes]:
    """Reset the block, with a memory and lanes behind it."""
    p, data = arch(), bytearray(rng.randbytes(1 << 17))
    for name in ("descriptor__valid", "layer", "base", "number", "layer_start", "tiles", "start", "read", "room"):
        getattr(dut, name).value = 0
    dut.column__ready.value = 0
    pauses = stalls(rng, rng.choice((0.1, 0.5))) if stall else itertools.repeat(False)
    memory = ReadMemory(dut, data, beat=p.data_bits // 8, address_bits=p.address_bits, burst_beats=p.burst_beats, pauses=pauses,
                        latency=lambda: rng.choice((1, 1, 4, 30)) if stall else 1)
    memory.start()
    await reset(dut, ())
    lanes = Lanes(dut, p, stalls(rng, rng.choice((0.1, 0.5))) if stall else itertools.repeat(False))
    cocotb.start_soon(lanes.serve())
    cocotb.start_soon(watch(dut, "column"))
    return memory, data, lanes


async def start_layer(dut: Any, rng: random.Random, memory: ReadMemory, data: bytearray, layer: Layer, tiles: int) -> int:
    """Put a layer's streams into memory and start it; return the number of the first beat that is read.

    Memory is read from 20 cycles after the start on.
    """
    base = 64 * rng.randrange(256)
    at = base + layer.fields["weights"]
    data[at : at + len(layer.streams)] = layer.streams
    dut.base.value, dut.tiles.value, dut.number.value, dut.read.value = base, tiles, layer.number, 0
    await describe(dut, layer.fields, layer.records)
    memory.requests.clear()
    dut.layer_start.value = 1
    await RisingEdge(dut.clk)
    dut.layer_start.value = 0
    for _ in range(20):
        await RisingEdge(dut.clk)
    assert not memory.requests
    dut.read.value = 1
    return (at + layer.number * len(layer.stream)) * 8 // arch().data_bits


async def play(dut: Any, lanes: Lanes, count: int, pauses: Iterator[bool]) -> tuple[Seen, list[Any], int]:
    """Start a tile and wait for its end; return what the lanes saw, its columns, and the cycle of the start."""
    lanes.seen = Seen()
    await FallingEdge(dut.clk)
    assert dut.idle.value
    await RisingEdge(dut.clk)
    columns = cocotb.start_soon(get(dut, "column", count, pauses))
    dut.start.value, began = 1, cycle()
    await RisingEdge(dut.clk)
    dut.start.value = 0
    await FallingEdge(dut.clk)
    while not dut.idle.value:
        await FallingEdge(dut.clk)
    await RisingEdge(dut.clk)
    layout = column_layout(arch())
    return lanes.seen, [layout.from_bits(word) for word in await columns], began


def check(p: Arch, layer: Layer, seen: Seen, columns: list[Any]) -> None:
    """Assert that a tile was what golden says."""
    assert [(signed(int(c.bias) & 0xFFFFFFFF, 32), signed(int(c.threshold) & 0xFFFFFFFF, 32)) for c in columns] == [
        (c.bias, c.threshold) for c in layer.columns]
    assert [int(c.tile_end) for c in columns] == [0] * (len(columns) - 1) + [int(layer.ends)]
    assert seen.chunks == expected(p, layer)


@cocotb.test(timeout_time=150, timeout_unit="us")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Every column, chunk and weight of every tile equals golden; each round reads the stream once, in order."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    memory, data, lanes = await begin(dut, rng, stall)
    beat = p.data_bits // 8
    for count in (1, 2, 7, 20, 40):
        layer, tiles = layer_of(rng, p, draw_place(rng, p, 0 if count == 7 else None), count), rng.randint(1, 3)
        first = await start_layer(dut, rng, memory, data, layer, tiles)
        for _ in range(tiles):
            for _ in range(rng.choice((0, 3, 200))):
                await RisingEdge(dut.clk)
            seen, columns, _ = await play(dut, lanes, count, stalls(rng) if stall else itertools.repeat(False))
            check(p, layer, seen, columns)
        assert memory.beats == [first + number for number in range(len(layer.stream) // beat)] * tiles


@cocotb.test(timeout_time=150, timeout_unit="us")
async def waits_for_the_lanes(dut: Any) -> None:
    """Nothing goes to lanes without room or leaves a queue of columns that nobody reads; all of it comes later."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    memory, data, lanes = await begin(dut, rng, False)
    layer = layer_of(rng, p, draw_place(rng, p, 1), 40, density=0.5)
    closed = [True]
    lanes.pauses = iter(lambda: closed[0], None)
    await start_layer(dut, rng, memory, data, layer, 1)
    tile = cocotb.start_soon(play(dut, lanes, 40, itertools.chain(itertools.repeat(True, 500), itertools.repeat(False))))
    for _ in range(200):
        await RisingEdge(dut.clk)
    assert not lanes.seen.puts and lanes.seen.full > 100
    closed[0] = False
    seen, columns, _ = await tile
    check(p, layer, seen, columns)


@cocotb.test(timeout_time=150, timeout_unit="us")
async def reads_ahead(dut: Any) -> None:
    """Before the first tile, ``weight_bytes`` are asked for, over the ends of rounds, and no more."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    memory, data, lanes = await begin(dut, rng, False)
    layer = layer_of(rng, p, draw_place(rng, p, 1), 3, density=0.5)
    beat = p.data_bits // 8
    rounds = p.weight_bytes // len(layer.stream) + 2
    await start_layer(dut, rng, memory, data, layer, rounds)
    for _ in range(READ_AHEAD):
        await RisingEdge(dut.clk)
    free = p.weight_bytes // beat - len(memory.beats)
    assert 0 <= free < p.weight_bytes // beat // BURSTS
    assert free < len(layer.stream) // beat
    for _ in range(rounds):
        check(p, layer, *(await play(dut, lanes, 3, itertools.repeat(False)))[:2])


def keeps_up(p: Arch, layer: Layer) -> bool:
    """Return whether beats, one a cycle, and the ring behind the window have what cycles take, at most.

    A beat is wanted when it fits beside the window and another beat, and is there two cycles later, so a ring that wants none
    has to last for three.
    """
    beat, line, head = p.data_bits // 8, p.chunk_bits // 8, COLUMN_BYTES + -(-len(layer.taps) // 8)
    takes = [head]
    for column in layer.columns:
        for chunk in column.chunks:
            takes += [2 * line, *[line] * (lines(p, chunk) - 1)]
        takes[-1] += head
    takes[-1] -= head
    return max(takes) <= beat and all(sum(takes[n:n + 3]) <= stream_window(p) + beat + 1 for n in range(len(takes)))


@cocotb.test(timeout_time=150, timeout_unit="us")
@cocotb.parametrize(density=[0.0, 0.1, 1.0])
async def takes_the_documented_cycles(dut: Any, density: float) -> None:
    """A chunk takes a cycle per line and at least one, the first head one; other heads take one when they are late.

    Where all is read ahead, and beats and ring have what cycles take, only the first beat is waited for, and no head is late.
    """
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    memory, data, lanes = await begin(dut, rng, False)
    for count in (1, 2, 4):
        layer = layer_of(rng, p, draw_place(rng, p, 1), count, density)
        await start_layer(dut, rng, memory, data, layer, 1)
        for _ in range(READ_AHEAD):
            await RisingEdge(dut.clk)
        seen, columns, began = await play(dut, lanes, count, itertools.repeat(False))
        check(p, layer, seen, columns)
        steps = HEAD + sum(LINE * max(1, lines(p, chunk)) for column in layer.columns for chunk in column.chunks)
        assert not seen.full
        late = seen.puts[-1] - began - steps - seen.starved
        assert 0 <= late <= HEAD * (count - 1)
        if len(layer.stream) <= p.weight_bytes and keeps_up(p, layer):
            assert (seen.starved, late) == (FIRST_HEAD - 1, 0)
