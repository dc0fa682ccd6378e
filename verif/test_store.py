"""Store against a byte memory: unaligned pieces, joined neighbours, flush, crossing beats, errors, halt."""

import itertools
import random
from collections.abc import Iterator
from typing import Any

import cocotb
import pytest
from amaranth.lib import data
from cocotb.triggers import FallingEdge, RisingEdge

from hdl.bus.store import Store
from verif.memory import WriteMemory
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import put, reset, stalls, word

Piece = tuple[int, bytes]

FIELDS = ("data_bits", "address_bits", "piece_bytes", "outstanding")
SIZES = {"tiny": (64, 40, 4, 16), "piece of a beat": (64, 32, 8, 4), "wide": (512, 40, 16, 16)}
SMALL = SIZES["piece of a beat"]
MEMORY_BYTES = 4096


def bench(size: tuple[int, ...]) -> dict[str, int]:
    """Return the parameters of the bench."""
    return dict(zip(FIELDS, size, strict=True))


@pytest.mark.parametrize("name", SIZES)
def test_store(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Store(*SIZES[name]), __name__, parameters=bench(SIZES[name]))


@pytest.mark.parametrize(("old", "new", "catcher"), [
    pytest.param("same.eq(held & (held_address == i.p.address[log:]))", "same.eq(0)", "matches_memory",
                 id="neighbours not joined"),
    pytest.param("crossing.eq(window_strobes[beat:] != 0)", "crossing.eq(0)", "matches_memory", id="crossing part lost"),
    pytest.param("strobes.eq(Mux(same, strobes, 0) |", "strobes.eq(strobes |", "matches_memory", id="old strobes kept"),
    pytest.param("window_data.eq((i.p.data & spread) <<", "window_data.eq(i.p.data <<", "matches_memory",
                 id="undefined bytes kept"),
    pytest.param("held_data, 0) & ~written)", "held_data, 0))", "matches_memory", id="earlier byte wins"),
    pytest.param("with m.Elif(self.flush & held):", "with m.Elif(held):", "holds_until_flush", id="leaves unasked"),
    pytest.param("waiting != outstanding", "waiting != outstanding - 1", "keeps_to_outstanding", id="one too few"),
    pytest.param("(addresses.space == QUEUED) & (waiting == 0)", "(addresses.space == QUEUED)", "holds_until_flush",
                 id="idle too early"),
    pytest.param("addresses.o.ready.eq(go & self.awready)", "addresses.o.ready.eq(go)", "matches_memory", id="address lost"),
    pytest.param("room.eq(addresses.i.ready & queue.i.ready)", "room.eq(addresses.i.ready)", "matches_memory", id="data lost"),
    pytest.param("self.bvalid & self.bresp[1]", "self.bvalid & self.bresp[0]", "shows_errors", id="wrong response bit"),
    pytest.param("with m.Elif(i.valid & ~self.halt):", "with m.Elif(i.valid):", "halts", id="deaf to halt"),
])
def test_mutants_are_caught(old: str, new: str, catcher: str) -> None:
    """Each way to lose, repeat or mix up bytes, and each signal that does not do its work, is caught."""
    outcome = simulate(mutant(Store, old, new)(*SMALL), __name__, parameters=bench(SMALL), expect_failure=True,
                       all_tests=True)
    assert any(catcher in name for name in outcome.failed), outcome.failed


def piece_word(address: int, content: bytes, rng: random.Random) -> int:
    """Return the payload of ``i``; bytes above the piece's size are random."""
    p = parameters_of_bench()
    layout = data.StructLayout({"address": p["address_bits"], "data": 8 * p["piece_bytes"],
                                "bytes": range(p["piece_bytes"] + 1)})
    rest = rng.randbytes(p["piece_bytes"] - len(content))
    return word(layout, {"address": address, "data": int.from_bytes(content + rest, "little"), "bytes": len(content)})


def beats_of(pieces: list[Piece], beat: int) -> list[tuple[int, int]]:
    """Return (address, strobes) of every beat: pieces in the beat of the piece before are joined."""
    beats: list[tuple[int, int]] = []
    for address, content in pieces:
        for at in range(address, address + len(content)):
            base = at // beat * beat
            if not beats or beats[-1][0] != base:
                beats.append((base, 0))
            beats[-1] = (base, beats[-1][1] | 1 << at - base)
    return beats


def some_pieces(rng: random.Random, beat: int, most: int, count: int) -> list[Piece]:
    """Return pieces: anywhere, directly after the piece before, over it, empty, across beats."""
    pieces, after = [], 0
    for _ in range(count):
        size = rng.choice((0, 1, most, most, rng.randint(0, most)))
        kind = rng.randrange(4)
        address = (rng.randrange(MEMORY_BYTES - 2 * beat) if kind == 0 else
                   max(0, after - rng.randrange(2 * most)) if kind == 1 else after)
        address = address if address + size <= MEMORY_BYTES - beat else rng.randrange(beat)
        pieces.append((address, rng.randbytes(size)))
        after = address + size
    return pieces


async def begin(dut: Any, pauses: Iterator[bool], **options: Any) -> tuple[WriteMemory, bytearray]:
    """Reset the block with a memory behind it."""
    content = bytearray(MEMORY_BYTES)
    dut.flush.value = dut.halt.value = dut.bresp.value = 0
    memory = WriteMemory(dut, content, beat=parameters_of_bench()["data_bits"] // 8, pauses=pauses, **options)
    memory.start()
    await reset(dut, ["i"])
    return memory, content


async def drain(dut: Any) -> None:
    """Flush and wait for ``idle``."""
    dut.flush.value = 1
    await FallingEdge(dut.clk)
    while not dut.idle.value:
        await FallingEdge(dut.clk)
    await RisingEdge(dut.clk)
    dut.flush.value = 0


@cocotb.test(timeout_time=150, timeout_unit="us")
@cocotb.parametrize(density=[(0.0, 0.0), (0.5, 0.5), (0.0, 0.8), (0.8, 0.0)])
async def matches_memory(dut: Any, density: tuple[float, float]) -> None:
    """After a flush the memory holds every piece, written in exactly the beats that joining leaves."""
    p, rng = parameters_of_bench(), random.Random(cocotb.RANDOM_SEED)
    beat = p["data_bits"] // 8
    memory, content = await begin(dut, stalls(rng, density[0]), latency=lambda: rng.choice((1, 2, 30)))
    wanted, expected = bytearray(MEMORY_BYTES), []
    for _ in range(4):
        pieces = some_pieces(rng, beat, p["piece_bytes"], 60)
        for address, piece in pieces:
            wanted[address : address + len(piece)] = piece
        await put(dut, "i", [piece_word(*piece, rng) for piece in pieces], stalls(rng, density[1]))
        await drain(dut)
        expected += beats_of(pieces, beat)
        assert memory.answered == len(memory.beats)
        assert len(memory.beats) == len(expected)
        assert memory.beats == expected
        assert content == wanted
    assert not dut.error.value


@cocotb.test(timeout_time=20, timeout_unit="us")
async def holds_until_flush(dut: Any) -> None:
    """A beat waits for its neighbours; ``idle`` is low from its first piece until its response has come."""
    p, rng = parameters_of_bench(), random.Random(cocotb.RANDOM_SEED)
    memory, content = await begin(dut, itertools.repeat(False), latency=lambda: 9)
    await FallingEdge(dut.clk)
    assert dut.idle.value
    await RisingEdge(dut.clk)
    await put(dut, "i", [piece_word(at, bytes([at + 1]), rng) for at in range(3)])
    for _ in range(20):
        await FallingEdge(dut.clk)
        assert not dut.idle.value
        assert not dut.awvalid.value
    await RisingEdge(dut.clk)
    dut.flush.value = 1
    await FallingEdge(dut.clk)
    while memory.answered == 0:
        assert not dut.idle.value
        await FallingEdge(dut.clk)
    await RisingEdge(dut.clk)
    await FallingEdge(dut.clk)
    assert dut.idle.value
    assert memory.beats == [(0, 7)]
    assert content[:4] == bytes([1, 2, 3, 0])
    assert p["data_bits"] // 8 > 3


@cocotb.test(timeout_time=20, timeout_unit="us")
@cocotb.parametrize(behind=[False, True])
async def takes_the_documented_cycles(dut: Any, behind: bool) -> None:
    """A piece is taken in every cycle, one more cycle after a piece that crosses a beat, though data wait for addresses."""
    p, rng = parameters_of_bench(), random.Random(cocotb.RANDOM_SEED)
    beat, most = p["data_bits"] // 8, p["piece_bytes"]
    await begin(dut, itertools.repeat(False), behind=behind)
    for first in (0, beat, 2 * beat - 1):
        pieces = [(first + n * beat, bytes(min(2, most))) for n in range(20)]
        taken = await put(dut, "i", [piece_word(*piece, rng) for piece in pieces])
        spacing = 2 if first % beat == beat - 1 else 1
        assert [after - before for before, after in itertools.pairwise(taken)] == [spacing] * 19
        await drain(dut)


@cocotb.test(timeout_time=60, timeout_unit="us")
async def keeps_to_outstanding(dut: Any) -> None:
    """At most ``outstanding`` writes wait for their response, and that many do."""
    p, rng = parameters_of_bench(), random.Random(cocotb.RANDOM_SEED)
    memory, _ = await begin(dut, itertools.repeat(False), latency=lambda: 60)
    count = 2 * p["outstanding"] + 6
    await put(dut, "i", [piece_word(n * 64, b"x", rng) for n in range(count)])
    await drain(dut)
    assert memory.most_waiting == p["outstanding"]
    assert len(memory.beats) == count


@cocotb.test(timeout_time=20, timeout_unit="us")
@cocotb.parametrize(response=[0, 1, 2, 3])
async def shows_errors(dut: Any, response: int) -> None:
    """SLVERR (2) and DECERR (3) set ``error`` for good; OKAY and EXOKAY do not."""
    rng = random.Random(cocotb.RANDOM_SEED)
    answers = itertools.chain([0, response], itertools.repeat(0))
    await begin(dut, itertools.repeat(False), response=answers.__next__)
    assert not dut.error.value
    await put(dut, "i", [piece_word(64 * n, b"x", rng) for n in range(4)])
    await drain(dut)
    assert int(dut.error.value) == (response in (2, 3))


@cocotb.test(timeout_time=20, timeout_unit="us")
async def halts(dut: Any) -> None:
    """Under ``halt`` no piece is taken, but what was taken still leaves on ``flush``."""
    rng = random.Random(cocotb.RANDOM_SEED)
    memory, content = await begin(dut, itertools.repeat(False))
    beat = parameters_of_bench()["data_bits"] // 8
    await put(dut, "i", [piece_word(beat - 1, b"ab", rng)])
    dut.halt.value = dut.flush.value = 1
    sender = cocotb.start_soon(put(dut, "i", [piece_word(0, b"c", rng)]))
    for _ in range(20):
        await RisingEdge(dut.clk)
    assert len(memory.beats) == 2
    assert content[beat - 1 : beat + 1] == b"ab"
    assert dut.idle.value
    dut.halt.value = 0
    await sender
    await drain(dut)
    assert content[:1] == b"c"
