"""Host port against golden: all packets, malformed ones, read-outs in between, packets that wait, stalls, cycles."""

import dataclasses
import random
from typing import Any

import cocotb
import pytest
from amaranth.lib import data
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import ImcArch
from golden.imc.correction import tile_ranges
from golden.imc.host_port import BIAS, JOB, MAPS, NUMBERS, READS, SECOND, TILE, TOKEN_NUMBERS, Effects, host_port, readout
from hdl.imc.host_port import HostPort, Target
from hdl.imc.lane import Lane
from hdl.imc.tile import Tile
from hdl.imc.token_unit import TokenUnit
from verif.imc.layers import CORES, TINY, arch
from verif.layers import start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import NEVER, cycle, get, idle, put, stalls, watch, word

TREES = CORES["two trees of two"]
ARCHS = {"one tile": TINY, "two words": dataclasses.replace(TREES, rows=64, group_rows=16, map_words=32, stream_bits=20),
         "three words": dataclasses.replace(TREES, rows=80, group_rows=16, map_words=30, tokens=3, features=20)}
# Cycles from the count of a read to its first word, and of every memory word beyond its own.
TO_WORD, BETWEEN = 3, 2


@pytest.mark.parametrize("name", ARCHS)
def test_host_port(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(HostPort(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("part.eq(0), left.eq(0),", "left.eq(0),", id="words of the packet before"),
    pytest.param("(left == 0) & (part == parts - 1)", "left == 0", id="ends early"),
    pytest.param("i.ready.eq(~self.hold)", "i.ready.eq(1)", id="does not wait"),
    pytest.param("m.d.comb += i.ready.eq(1)\n                with m.If(take & i.p.last)", "with m.If(1)", id="does not drain"),
    pytest.param("with m.If(~self.working)", "with m.If(1)", id="does not wait for the end of a job"),
    pytest.param("done.eq(exists & fits)", "done.eq(exists)", id="cuts what is too wide"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Words of another packet, a packet that ends early, ones that do not wait, and a rest that is taken for a packet, are
    caught; so are numbers that are cut.
    """
    p = ARCHS["two words"]
    simulate(mutant(HostPort, old, new)(p), __name__, parameters=dataclasses.asdict(p), expect_failure=True)


def test_golden_by_hand() -> None:
    """Packets of all targets on words of 40 rows, worked out by hand; targets are those of the block."""
    p = dataclasses.replace(TREES, rows=40, group_rows=8)
    assert sorted(Target) == [*MAPS, BIAS, SECOND, TILE, NUMBERS, JOB, *READS]
    assert host_port(p, [1 | 7 << 4, 5, 0xFF, 6, 0x101, 7, 1, 9], ()) == Effects(
        writes=((1, 7, 5 | 0xFF << 32), (1, 9, 7 | 1 << 32)), malformed=True)
    narrow = dataclasses.replace(p, stream_bits=16)
    assert host_port(narrow, [2, 1 << 15, 0xFFFF_8000], ()) == Effects(parameters=((False, 1, 0xFFFF_8000),), malformed=True)
    for what, right, wrong in ((0, 31, 32), (0, -31, -32), (1, 31, 32), (1, 0, -1), (2, 511, 512), (3, 31, 32)):
        head = 4 | what << 6 + 4
        assert host_port(p, [head, right & 0xFFFF_FFFF], ()) == Effects(numbers=((0, what, 0, 0, right),))
        assert host_port(p, [head, wrong & 0xFFFF_FFFF], ()) == Effects(malformed=True)
    assert host_port(p, [3 | 4 << 4, 11, 0xFFFF_FFFF], ()) == Effects(parameters=((True, 4, 11), (True, 5, 0xFFFF_FFFF)))
    assert host_port(p, [4 | (3 | 2 << 6 | 1 << 8) << 4, 8, 511], ()) == Effects(
        numbers=((3, 2, 1, 0, 8), (3, 2, 1, 1, 511)))
    maps = [[0, 1 << 32 | 2, 3 << 32], [4, 5, 6]]
    assert host_port(p, [8 | 1 << 4, 2], maps) == Effects(answer=(2, 1, 0, 3))
    assert host_port(p, [9, 0], maps) == host_port(p, [0], maps) == Effects()
    for packet in ([9], [9, 1, 1], [9, p.map_words + 1], [7], [5, 1], [4 | p.tiles << 4, 3],
                   [6 | p.tiles << 4, 1]):
        assert host_port(p, packet, maps) == Effects(malformed=True)
    assert host_port(p, [6 | 3 << 4, 1, 2], maps) == Effects(job=(3, (1, 2))) and host_port(p, [6], maps) == Effects()
    assert host_port(p, [0, 1, 2, 3], maps) == Effects(writes=((0, 0, 1 | 2 << 32),), malformed=True)
    assert host_port(p, [2 | p.channels - 1 << 4, 8, 9], maps) == Effects(
        parameters=((False, p.channels - 1, 8),), malformed=True)
    assert host_port(p, [4 | 1 << 10, 3, 4], maps) == Effects(numbers=((0, 1, 0, 0, 3),), malformed=True)
    tokens = dataclasses.replace(p, tokens=2, features=20)
    assert host_port(tokens, [5 | (18 | 1 << 24) << 4, 7, 8, 9], maps) == Effects(
        tokens=((1, 18, 7), (1, 19, 8)), malformed=True)
    assert host_port(tokens, [5 | (255 | 3 << 24) << 4, 7], maps) == Effects(tokens=((3, 255, 7),))
    for kind, right, wrong in ((0, 0x7FFF, 0x8000), (1, 1 << 31, 1 << 32), (2, 255, 0xFFFF_FFFF), (3, 0xFFFF_FF80, 256)):
        assert host_port(tokens, [5 | kind << 28, right], maps) == Effects(tokens=((kind, 0, right),))
        assert wrong >> 32 or host_port(tokens, [5 | kind << 28, wrong], maps) == Effects(malformed=True)
    assert readout([(3, -2)]) == [(3, 0xFFFF_FFFE)]


class Sink:
    """The memories and blocks behind the port: what they are told, with reads answered in the cycle after."""

    def __init__(self, dut: Any, p: ImcArch, rng: random.Random) -> None:
        self.dut, self.p, self.rng, self.pauses = dut, p, rng, True
        self.maps = [[rng.getrandbits(p.rows) for _ in range(p.map_words)] for _ in MAPS]
        self.writes: list[tuple[int, int, int]] = []
        self.parameters: list[tuple[bool, int, int]] = []
        self.numbers: list[tuple[int, int, int, int, int]] = []
        self.tokens: list[tuple[int, int, int]] = []
        self.job: tuple[int, tuple[int, ...]] | None = None
        self.malformed = False

    async def jobs(self) -> None:
        """Take jobs, and tell of their ends what `told_of` says."""
        dut, taken = self.dut, list[int]()
        while True:
            taken += await get(dut, "o_job", 1, stalls(self.rng, 0.3) if self.pauses else NEVER)
            dut.working.value = taken[-1] >> 32
            if taken[-1] >> 32:
                self.job = int(dut.tile.value), tuple(value & 0xFFFF_FFFF for value in taken)
                taken.clear()
                await put(dut, "told", payloads(told_of(self.job)), stalls(self.rng, 0.3) if self.pauses else NEVER)
                dut.working.value = 0

    async def watch(self) -> None:
        """Serve for ever."""
        dut, layout = self.dut, parameters_layout(self.p)
        while True:
            await FallingEdge(dut.clk)
            bank, address = int(dut.bank.value), int(dut.address.value)
            read = self.maps[bank][address] if dut.read.value else self.rng.getrandbits(self.p.rows)
            if dut.write.value:
                self.writes.append((bank, address, int(dut.data.value)))
                self.maps[bank][address] = int(dut.data.value)
            self.malformed |= bool(dut.malformed.value)
            told = layout.from_bits(int(dut.parameters.value))
            if int(told.valid):
                self.parameters.append((bool(int(told.second)), int(told.channel), int(told.number)))
            number = Tile.write_layout(self.p).from_bits(int(dut.number.value))
            if int(number.valid):
                self.numbers.append((int(dut.tile.value), int(number.what), int(number.adc), int(number.column),
                                     int(number.number)))
            token = TokenUnit.numbers_layout(self.p).from_bits(int(dut.tokens.value))
            if int(token.valid):
                self.tokens.append((int(token.what), int(token.index), int(token.number)))
            await RisingEdge(dut.clk)
            dut.word.value = read

    def told(self) -> Effects:
        """Return what has been told since the last call."""
        effects = Effects(writes=tuple(self.writes), parameters=tuple(self.parameters), numbers=tuple(self.numbers),
                          tokens=tuple(self.tokens), job=self.job, malformed=self.malformed)
        self.writes, self.parameters, self.numbers, self.tokens, self.malformed = [], [], [], [], False
        self.job = None
        return effects


def told_of(job: tuple[int, tuple[int, ...]] | None) -> tuple[int, ...]:
    """Return what a job is answered: its words backwards, or nothing."""
    return job[1][::-1] if job and job[1][0] & 1 else ()


def parameters_layout(p: ImcArch) -> data.StructLayout:
    """Return the payload of the ``parameters`` port."""
    layout: data.StructLayout = HostPort(p).signature.members["parameters"].shape
    return layout


def draw_packet(rng: random.Random, p: ImcArch) -> list[int]:
    """Return a packet of any target that stays within what the build has, but for numbers that are too wide here and there; the
    first word alone now and then.
    """
    parts, target = -(-p.rows // 32), rng.choice((*MAPS, BIAS, SECOND, TILE, NUMBERS, JOB, *READS))
    if target in READS:
        index = rng.choice((0, p.map_words - 1, rng.randrange(p.map_words)))
        words = [rng.choice((0, 1, rng.randint(1, min(5, p.map_words - index))))]
    elif target in MAPS:
        index = rng.choice((0, p.map_words - 3, rng.randrange(p.map_words - 2)))
        last = rng.choice((0, 0, 0, 1)) + (p.rows - 1) % 32 + 1
        words = [rng.getrandbits(32 if (n + 1) % parts else min(last, 32)) for n in range(rng.randint(1, 3 * parts))]
    elif target == TILE:
        what = rng.randrange(4)
        index = rng.randrange(p.tiles) | what << 6 | rng.randrange(p.adcs) << 8
        words = [number(rng, tile_ranges(p)[what]) for _ in range(p.mux if what >= 2 else 1)]
    elif target == JOB:
        index, words = rng.randrange(p.tiles), [rng.getrandbits(32) for _ in range(rng.randint(1, 9))]
    elif target == NUMBERS:
        kind = rng.randrange(4)
        index = rng.choice((0, p.features - 2, 250)) | kind << 24
        words = [number(rng, TOKEN_NUMBERS[kind]) for _ in range(rng.randint(1, 8))]
    else:
        index, top = rng.randrange(p.channels - 5), 1 << p.stream_bits - 1
        words = [number(rng, (-top, top - 1)) for _ in range(rng.randint(1, 5))]
    packet = [target | index << 4, *(words if rng.random() < 0.9 else ())]
    return spoilt(rng, packet) if rng.random() < 0.2 else packet


def number(rng: random.Random, legal: tuple[int, int]) -> int:
    """Return a word, a number in a range or at its ends, or beyond them by one."""
    low, high = legal
    drawn = rng.randint(low, high) if rng.random() < 0.5 else rng.choice((low, high, low, high, low - 1, high + 1))
    return drawn & 0xFFFF_FFFF


def spoilt(rng: random.Random, packet: list[int]) -> list[int]:
    """Return a packet that is changed: another target, an index beyond all, more words or fewer."""
    head, *words = packet
    return rng.choice((
        [head & ~15 | rng.choice((5, 7, 10, 15)), *words], [head | rng.choice((1 << 31, 1 << 24, 15 << 10)), *words],
        [*packet, *(rng.getrandbits(4) for _ in range(rng.randint(1, 4)))], packet[:-1] or packet))


def payloads(packet: Any) -> list[int]:
    """Return the words of a packet, the last one marked."""
    return [word(HostPort.word_layout(), {"word": value, "last": n == len(packet) - 1}) for n, value in enumerate(packet)]


async def begin(dut: Any) -> tuple[ImcArch, random.Random, Sink]:
    """Reset; return the build, random numbers and what is behind the port."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut, ["hold", "word", "i__valid", "o__ready", "readout__valid", "o_job__ready", "told__valid", "working"])
    dut.rst.value = 0
    for name in ("i", "o", "readout", "told"):
        cocotb.start_soon(watch(dut, name))
    sink = Sink(dut, p, rng)
    cocotb.start_soon(sink.watch())
    cocotb.start_soon(sink.jobs())
    return p, rng, sink


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.5])
async def matches_golden(dut: Any, stall: float) -> None:
    """What packets do, and what comes back, equals golden; without stalls in the documented cycles."""
    p, rng, sink = await begin(dut)
    sink.pauses = stall > 0
    parts = -(-p.rows // 32)
    for _ in range(120):
        packet = draw_packet(rng, p)
        wanted, at = host_port(p, packet, sink.maps), list[int]()
        answer = wanted.answer or told_of(wanted.job)
        sender = cocotb.start_soon(put(dut, "i", payloads(packet), stalls(rng, stall) if stall else NEVER))
        got = await get(dut, "o", len(answer), stalls(rng, stall) if stall else NEVER, at)
        taken = await sender
        await idle(dut, "o", 3)
        assert got == payloads(answer) and dut.idle.value, packet
        assert sink.told() == dataclasses.replace(wanted, answer=()), packet
        if not stall:
            assert taken == [*range(taken[0], taken[0] + len(packet))]
            assert wanted.job or at == [taken[-1] + TO_WORD + n + BETWEEN * (n // parts) for n in range(len(at))]


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.5])
async def sums_leave_between_packets(dut: Any, stall: float) -> None:
    """Sums of a read-out leave as packets, and packets of the host wait meanwhile and are not lost."""
    p, rng, sink = await begin(dut)
    top = 1 << p.stream_bits - 1
    sums = [(rng.randrange(p.channels), rng.choice((-top, top - 1, -1, 0, rng.randrange(-top, top)))) for _ in range(20)]
    words = [word(Lane.o_layout(p), {"channel": channel, "d": d}) for channel, d in sums]
    packets = [packet for packet in (draw_packet(rng, p) for _ in range(20)) if packet[0] & 8 == 0 and packet[0] & 15 != JOB]
    wanted = [host_port(p, packet, sink.maps) for packet in packets]
    sender = cocotb.start_soon(put(dut, "readout", words, stalls(rng, stall) if stall else NEVER))
    host = cocotb.start_soon(put(dut, "i", [w for packet in packets for w in payloads(packet)], stalls(rng, 0.5)))
    got = await get(dut, "o", 2 * len(sums), stalls(rng, stall) if stall else NEVER)
    assert got == [w for packet in readout(sums) for w in payloads(packet)]
    await sender
    await host
    await idle(dut, "o", 3)
    assert sink.told() == Effects(
        writes=tuple(w for e in wanted for w in e.writes), parameters=tuple(w for e in wanted for w in e.parameters),
        numbers=tuple(w for e in wanted for w in e.numbers), tokens=tuple(w for e in wanted for w in e.tokens),
        malformed=any(e.malformed for e in wanted))


@cocotb.test(timeout_time=20, timeout_unit="us")
async def packets_wait(dut: Any) -> None:
    """A packet waits while it is held, and its rest does not; sums leave all the same, one in 3 cycles."""
    p, _, sink = await begin(dut)
    dut.hold.value = 1
    packet = [BIAS, 1, 2, 3]
    host = cocotb.start_soon(put(dut, "i", payloads(packet)))
    sender, at = cocotb.start_soon(put(dut, "readout", [word(Lane.o_layout(p), {"channel": 0, "d": 1})] * 3)), list[int]()
    await get(dut, "o", 6, NEVER, at)
    assert [moment - at[0] for moment in at] == [0, 1, 3, 4, 6, 7]
    await sender
    await idle(dut, "o", 10)
    assert not host.done() and sink.told() == Effects() and dut.idle.value
    dut.hold.value = 0
    began = cycle()
    await RisingEdge(dut.clk)
    dut.hold.value = 1
    await FallingEdge(dut.clk)
    assert not dut.idle.value
    assert await host == [*range(began, began + len(packet))]
    await RisingEdge(dut.clk)
    assert sink.told() == host_port(p, packet, sink.maps)
