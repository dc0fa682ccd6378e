"""Weight buffer against its golden twin."""

import dataclasses
import itertools
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge, Timer

from golden.arch import PRESETS, Arch, ParameterError
from golden.weight_buffer import Column, weight_buffer
from hdl.descriptor import LAYER_LAYOUT
from hdl.weight_buffer import WeightBuffer
from hdl.weight_tiles import packed_columns, weight_tiles
from verif import chunks
from verif.chunks import DENSITIES, arch, draw_weights, signed
from verif.mutant import mutant
from verif.sim import Outcome, simulate
from verif.stream import cycle, reset, stalls, watch, word

TINY = PRESETS["tiny"]
ARCHS = chunks.ARCHS | {
    "wide port": dataclasses.replace(TINY, data_bits=512, weight_bytes=1024, buffer_bytes=16384),
    "short bursts": dataclasses.replace(TINY, data_bits=128, burst_beats=16),
}
MUTANTS = {
    "tiles not kept": ("resident.eq(self.layer.column_tiles <= 2)", "resident.eq(0)"),
    "wrong half read": ("ram.r_addr.eq(Mux(read_half, half_words, 0) + reading[number])", "ram.r_addr.eq(reading[number])"),
    "values do not advance": ("reading[number].eq(reading[number] + 1)", "reading[number].eq(reading[number] + (number != 2))"),
    "burst too long": ("request.p.len.eq((burst - 1)[: len(burst)])", "request.p.len.eq(burst)"),
    "page crossed": ("burst.eq(Mux(room > to_page, to_page, room))", "burst.eq(room)"),
    "request falls": ("request.valid.eq(asked != want)", "request.valid.eq((asked != want) & ~self.r.valid)"),
}
FIRST_PARAMETER = 3
FIRST_CHUNK = {64: 7, 128: 5, 512: 5}
MOST_EXTRA = 10


def bench(p: Arch, **options: Any) -> Outcome:
    """Run the cocotb tests below."""
    return simulate(WeightBuffer(p), __name__, parameters=dataclasses.asdict(p), **options)


@pytest.mark.parametrize("name", ARCHS)
def test_weight_buffer(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    bench(ARCHS[name])


@pytest.mark.parametrize("wrong", MUTANTS)
def test_mutant_is_caught(wrong: str) -> None:
    """Tiles that are read again, columns of the wrong bytes, wrong bursts and a request that is taken back are caught."""
    assert simulate(mutant(WeightBuffer, *MUTANTS[wrong])(TINY), __name__, parameters=dataclasses.asdict(TINY),
                    expect_failure=True).failed


def test_golden_is_lossless(seed: int) -> None:
    """Columns that golden decodes hold the parameters and weights that went in."""
    rng = random.Random(seed)
    for name, tiles in itertools.product(ARCHS, (1, 2, 4)):
        layer = draw_layer(rng, ARCHS[name], tiles)
        columns = [c for tile in layer.tiles for c in weight_buffer(tile, layer.chunk_bytes, ARCHS[name].weight_bits)]
        assert [(c.bias, c.threshold) for c in columns] == list(zip(layer.bias, layer.threshold, strict=True))
        for number, column in enumerate(columns):
            dense: list[int] = []
            for (mask, weights), size in zip(column.chunks, layer.chunk_bytes, strict=True):
                left = iter(weights)
                dense += [next(left) if mask >> place & 1 else 0 for place in range(8 * size)]
            assert dense == layer.padded[number].tolist()


@dataclass(frozen=True)
class Layer:
    """A random layer's tiles, and what they were made of; ``padded`` [N, 8 x mask bytes] in the order of the masks."""

    tiles: list[bytes]
    chunk_bytes: list[int]
    bias: list[int]
    threshold: list[int]
    padded: np.ndarray[Any, np.dtype[np.int64]]


def draw_layer(rng: random.Random, p: Arch, tiles: int) -> Layer:
    """Return a layer of so many tiles: 1 or 2 passes, a few taps, columns of every density, dense and empty ones."""
    while True:
        shapes = [(rng.randint(1, 2 * p.chunk_bits), *rng.choice(((1, 1), (1, 2), (2, 2)))) for _ in range(rng.randint(1, 2))]
        columns: list[list[np.ndarray[Any, np.dtype[np.int64]]]] = []
        count = 0
        while count < tiles:
            columns += [[draw_column(rng, p, shape) for shape in shapes] for _ in range(1 + len(columns) // 6)]
            try:
                layer = pack(rng, p, columns)
            except ParameterError:
                break
            count = len(layer.tiles)
            if count == tiles:
                return layer


def draw_column(rng: random.Random, p: Arch, shape: tuple[int, int, int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return one column's weights [C, kh, kw]."""
    count = shape[0] * shape[1] * shape[2]
    density = rng.choice((0.0, *DENSITIES))
    weights = draw_weights(rng, p.weight_bits, count)
    return np.array([w if rng.random() < density else 0 for w in weights], np.int64).reshape(shape)


def pack(rng: random.Random, p: Arch, columns: Sequence[Sequence[np.ndarray[Any, np.dtype[np.int64]]]]) -> Layer:
    """Return the layer of these columns, each a list of one array per pass, with random parameters."""
    bias, threshold = ([rng.choice((0, -1, -(1 << 31), (1 << 31) - 1, rng.randint(-999, 999))) for _ in columns]
                       for _ in range(2))
    passes = [np.stack([column[number] for column in columns]) for number in range(len(columns[0]))]
    layer = SimpleNamespace(name="random", bias=bias, requantise=None, neuron=SimpleNamespace(threshold=threshold),
                            passes=[SimpleNamespace(weight=weight) for weight in passes])
    sizes, padded = [], []
    for weight in passes:
        tap, piece = -(-weight.shape[1] // 8), p.chunk_bits // 8
        for y, x in itertools.product(range(weight.shape[2]), range(weight.shape[3])):
            sizes += [min(piece, tap - start) for start in range(0, tap, piece)]
            padded.append(np.pad(weight[:, :, y, x], ((0, 0), (0, 8 * tap - weight.shape[1]))))
    return Layer(weight_tiles(layer, p, packed_columns(layer)), sizes, bias, threshold, np.concatenate(padded, axis=1))


@dataclass
class Memory:
    """Memory behind ``ar`` and ``r`` that answers in order, and the monitor of what is asked."""

    dut: Any
    p: Arch
    pauses: Iterator[bool]
    content: bytes = b""
    at: int = 0
    beats: int = 0
    queue: deque[int] = field(default_factory=deque)

    async def serve(self) -> None:
        """Answer for ever; a burst outside the tiles, too long or across 4 KB is an error."""
        dut, beat = self.dut, self.p.data_bits // 8
        while True:
            dut.ar__ready.value = int(not next(self.pauses))
            answer = bool(self.queue) and not next(self.pauses)
            start = self.queue.popleft() if answer else 0
            dut.r__valid.value = int(answer)
            dut.r__payload.value = int.from_bytes(self.content[start : start + beat], "little") if answer else 0
            self.beats += answer
            await FallingEdge(dut.clk)
            if dut.ar__valid.value and dut.ar__ready.value:
                payload = int(dut.ar__payload.value)
                address, count = payload & ((1 << self.p.address_bits) - 1), (payload >> self.p.address_bits) + 1
                end = address + count * beat
                assert address % beat == 0 and self.at <= address and end <= self.at + len(self.content)
                assert count <= self.p.burst_beats and address >> 12 == end - 1 >> 12, f"burst in cycle {cycle()}"
                self.queue.extend(range(address - self.at, end - self.at, beat))
            await RisingEdge(dut.clk)


async def start(dut: Any, rng: random.Random, pauses: Iterator[bool]) -> Memory:
    """Reset the block and put a memory behind it."""
    for name in ("layer", "base", "layer_start", "rounds", "open", "close", "ar__ready", "r__valid", "r__payload",
                 "param_take", "mask_take", "value_take"):
        getattr(dut, name).value = 0
    await reset(dut, ())
    cocotb.start_soon(watch(dut, "ar"))
    memory = Memory(dut, arch(), pauses)
    cocotb.start_soon(memory.serve())
    return memory


async def begin(dut: Any, rng: random.Random, memory: Memory, layer: Layer, rounds: int) -> None:
    """Put a layer's tiles somewhere into memory, 128 bytes below a 4 KB boundary if it has one tile, and start it."""
    offset = 64 * rng.randrange(1 << 10)
    base = 4096 * rng.randrange(1 << 10, 1 << 20) - offset + (3968 if len(layer.tiles) == 1 else 64 * rng.randrange(64))
    memory.content, memory.at, memory.beats = b"".join(layer.tiles), base + offset, 0
    dut.base.value, dut.rounds.value = base, rounds
    dut.layer.value = word(LAYER_LAYOUT, {"column_tiles": len(layer.tiles), "weights": offset})
    dut.layer_start.value = 1
    await RisingEdge(dut.clk)
    dut.layer_start.value = 0


@dataclass
class Played:
    """One tile as it was played: its columns, the cycle of the open, of each parameter and of each chunk."""

    opened: int = 0
    columns: list[Column] = field(default_factory=list)
    parameters: list[int] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)


async def play(dut: Any, p: Arch, layer: Layer, pause: Iterator[bool]) -> Played:
    """Take the oldest tile as the array does: a column's parameters, then its chunks; close with the last one."""
    played = Played()
    await Timer(1, "ns")
    while not dut.full.value or next(pause):
        await RisingEdge(dut.clk)
        await Timer(1, "ns")
    dut.open.value, played.opened, count = 1, cycle(), int(dut.columns.value)
    await RisingEdge(dut.clk)
    dut.open.value = 0
    for number in range(count):
        window = await take(dut, pause, {"param": 1})
        played.parameters.append(cycle() - 1)
        taken = []
        for place, size in enumerate(layer.chunk_bytes):
            final = number == count - 1 and place == len(layer.chunk_bytes) - 1
            mask, raw = await take_chunk(dut, pause, size, final)
            played.chunks.append(cycle() - 1)
            half = (1 << p.weight_bits) - 1
            taken.append((mask, tuple(signed(raw >> (p.weight_bits * n) & half, p.weight_bits)
                                      for n in range(mask.bit_count()))))
        played.columns.append(Column(signed(window & 0xFFFFFFFF, 32), signed(window >> 32, 32), tuple(taken)))
    return played


async def take(dut: Any, pause: Iterator[bool], wanted: dict[str, int]) -> int:
    """Take one unit of parameters as soon as it is there; return it."""
    await Timer(1, "ns")
    while int(dut.param_fill.value) < wanted["param"] or next(pause):
        await RisingEdge(dut.clk)
        await Timer(1, "ns")
    window, dut.param_take.value = int(dut.param_window.value), 1
    await RisingEdge(dut.clk)
    dut.param_take.value = 0
    return window


async def take_chunk(dut: Any, pause: Iterator[bool], size: int, final: bool) -> tuple[int, int]:
    """Take ``size`` bytes of mask and its weights as soon as both are there; return mask and weights."""
    while True:
        await Timer(1, "ns")
        mask = int(dut.mask_window.value) & ((1 << (8 * size)) - 1)
        there = int(dut.mask_fill.value) >= size and int(dut.value_fill.value) >= mask.bit_count()
        if there and not next(pause):
            break
        await RisingEdge(dut.clk)
    ring, place = int(dut.value_window.value), int(dut.value_head.value) * arch().weight_bits
    raw = ring >> place | ring << (len(dut.value_window) - place)
    dut.mask_take.value, dut.value_take.value, dut.close.value = size, mask.bit_count(), int(final)
    await RisingEdge(dut.clk)
    dut.mask_take.value, dut.value_take.value, dut.close.value = 0, 0, 0
    return mask, raw


@cocotb.test(timeout_time=600, timeout_unit="us")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Columns of kept and of streamed layers equal golden in every round; kept tiles are read once."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    quick = itertools.repeat(False)
    memory = await start(dut, rng, stalls(rng) if stall else quick)
    for tiles in (1, 2, 3, 5):
        layer, rounds = draw_layer(rng, p, tiles), rng.randint(1, 3)
        await begin(dut, rng, memory, layer, rounds)
        for tile in layer.tiles * rounds:
            played = await play(dut, p, layer, stalls(rng) if stall else quick)
            assert played.columns == weight_buffer(tile, layer.chunk_bytes, p.weight_bits)
        times = 1 if tiles <= 2 else rounds
        assert memory.beats * p.data_bits // 8 == times * len(memory.content)


def even_layer(rng: random.Random, p: Arch, density: float) -> Layer:
    """Return a layer of one tile: 3 columns of 4 whole chunks (2 of the largest), all of one density."""
    count = p.chunk_bits * (4 if p.chunk_bits < 128 else 2)
    columns = []
    for _ in range(3):
        weights = [w if rng.random() < density else 0 for w in draw_weights(rng, p.weight_bits, count)]
        columns.append([np.array(weights, np.int64).reshape(count, 1, 1)])
    return pack(rng, p, columns)


def beats(p: Arch, layer: Layer) -> int:
    """Return the beats of parameters, masks and values of a layer."""
    columns, beat = len(layer.bias), p.data_bits // 8
    values = -(-int(np.count_nonzero(layer.padded)) * p.weight_bits // 8)
    return sum(-(-size // beat) for size in (8 * columns, columns * sum(layer.chunk_bytes), values))


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(density=[0.0, 0.1, 1.0])
async def takes_the_documented_cycles(dut: Any, density: float) -> None:
    """Parameters are there 3 cycles after the open; short empty chunks leave one a cycle; no tile takes longer than said."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    memory = await start(dut, rng, itertools.repeat(False))
    layer = even_layer(rng, p, density)
    await begin(dut, rng, memory, layer, 2)
    chunks_of_column = len(layer.chunk_bytes)
    for tile in layer.tiles * 2:
        played = await play(dut, p, layer, itertools.repeat(False))
        assert played.columns == weight_buffer(tile, layer.chunk_bytes, p.weight_bits)
        assert played.parameters[0] == played.opened + FIRST_PARAMETER
        if density == 0.0 and p.chunk_bits < p.data_bits:
            first = played.opened + FIRST_CHUNK[p.data_bits]
            assert played.chunks == [first + column * (chunks_of_column + 1) + chunk for column, chunk in
                                     itertools.product(range(len(played.columns)), range(chunks_of_column))]
        if len(layer.tiles) == 1:
            most = max(beats(p, layer), len(played.columns) + len(played.chunks)) + MOST_EXTRA
            assert played.chunks[-1] - played.opened <= most
