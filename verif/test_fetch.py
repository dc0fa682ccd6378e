"""Fetch and the shared read port against byte memory: pieces, requested beats, bursts, credit, order, errors."""

import itertools
import random
from collections import deque
from collections.abc import Iterator
from typing import Any

import cocotb
import pytest
from amaranth.lib import data
from cocotb.triggers import FallingEdge, RisingEdge

from hdl.bus.fetch import Fetch, ReadPort
from verif.memory import ReadMemory, check_burst
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, cycle, put, reset, stalls, start_clock, watch, word

Run = tuple[int, int]

FIELDS = ("data_bits", "address_bits", "piece_bytes", "user_bits", "depth", "burst_beats", "length_bits")
SIZES = {
    "tiny": (64, 40, 4, 9, 16, 64, 24),
    "piece of a beat": (64, 32, 8, 3, 5, 16, 10),
    "wide": (512, 40, 16, 40, 32, 64, 24),
}
MEMORY_BYTES = 1 << 14
SMALL = SIZES["piece of a beat"]
SHORT = (64, 32, 4, 3, 4, 16, 3)
PORT = {"masters": 3, "data_bits": 64, "address_bits": 32, "outstanding": 4}


def bench(size: tuple[int, ...]) -> dict[str, int]:
    """Return the parameters of the bench of `Fetch`."""
    return dict(zip(FIELDS, size, strict=True))


@pytest.mark.parametrize("name", SIZES)
def test_fetch(name: str) -> None:
    """Every cocotb test of `Fetch` passes on the generated Verilog."""
    simulate(Fetch(*SIZES[name]), __name__, parameters=bench(SIZES[name]), test_filter="fetch_")


def test_short_runs() -> None:
    """Runs whose length has fewer bits than an address in a beat still take their second beat."""
    simulate(Fetch(*SHORT), __name__, parameters=bench(SHORT), test_filter="fetch_matches")


def test_read_port() -> None:
    """Every cocotb test of `ReadPort` passes on the generated Verilog."""
    simulate(ReadPort(*PORT.values()), __name__, parameters=PORT, test_filter="port_")


@pytest.mark.parametrize(("old", "new", "catcher"), [
    pytest.param("reuse.eq(held_valid & (next_beat == second) & ~self.forget)", "reuse.eq(0)", "fetch_matches",
                 id="asks for a beat twice"),
    pytest.param("ar.valid.eq(active & (credit >= burst))", "ar.valid.eq(active)", "fetch_asks", id="no credit"),
    pytest.param("to_page.eq(page - next_beat[:page_bits])", "to_page.eq(page)", "fetch_matches",
                 id="crosses 4 KB"),
    pytest.param("need_next.eq(stop > beat)", "need_next.eq(stop > beat + 1)", "fetch_matches",
                 id="tail of a piece lost"),
    pytest.param("with m.Elif(self.forget):", "with m.Elif(0):", "fetch_forgets", id="keeps the held beat"),
    pytest.param("with m.If((i.p.bytes != 0) & ~reuse):", "with m.If(~reuse):", "fetch_matches",
                 id="empty run moves the held beat"),
    pytest.param("have.eq(beats.o.valid), offset.eq(0)]", "have.eq(0), offset.eq(0)]", "fetch_", id="beat skipped"),
])
def test_broken_fetch_is_caught(old: str, new: str, catcher: str) -> None:
    """A run that repeats a beat, overruns the queue, a page or a piece, or mixes up the held beat is caught."""
    outcome = simulate(mutant(Fetch, old, new)(*SMALL), __name__, parameters=bench(SMALL), test_filter="fetch_",
                       expect_failure=True, all_tests=True)
    assert any(catcher in name for name in outcome.failed), outcome.failed


@pytest.mark.parametrize(("old", "new", "catcher"), [
    pytest.param("order.i.ready & ~self.halt", "order.i.ready", "port_halts", id="deaf to halt"),
    pytest.param("self.rresp[1] == 1", "self.rresp[0] == 1", "port_error", id="wrong response bit"),
    pytest.param("order.o.valid & (order.o.payload == j)", "order.o.valid", "port_order", id="response for all"),
    pytest.param("m.d.sync += self.arvalid.eq(0)", "pass", "port_order", id="request repeated"),
    pytest.param("& request.valid & ~taken", "& request.valid", "port_prefers", id="two at once"),
])
def test_broken_read_port_is_caught(old: str, new: str, catcher: str) -> None:
    """A request in spite of halt, an unseen error, responses and requests for the wrong master are caught."""
    outcome = simulate(mutant(ReadPort, old, new)(*PORT.values()), __name__, parameters=PORT, test_filter="port_",
                       expect_failure=True, all_tests=True)
    assert any(catcher in name for name in outcome.failed), outcome.failed


def beats_of(runs: list[Run], beat: int) -> list[int]:
    """Return the beats that ``runs`` need, without a beat that ended the run before."""
    held: int | None = None
    beats: list[int] = []
    for address, size in runs:
        if size:
            first, final = address // beat, (address + size - 1) // beat
            beats += range(first + (first == held), final + 1)
            held = final
    return beats


def bursts_of(runs: list[Run], beat: int, most: int) -> list[tuple[int, int]]:
    """Return (address, beats) of every burst that ``runs`` need: as long as page, ``most`` and run allow."""
    held, bursts = None, []
    for address, size in runs:
        if size:
            first, final = address // beat, (address + size - 1) // beat
            at = first + (first == held)
            while at <= final:
                count = min(most, final - at + 1, 4096 // beat - at % (4096 // beat))
                bursts.append((at * beat, count))
                at += count
            held = final
    return bursts


def pieces_of(runs: list[Run], users: list[int], content: bytes, piece: int) -> list[tuple[bytes, int, bool]]:
    """Return (bytes, user, last) of every piece."""
    out = []
    for (address, size), user in zip(runs, users, strict=True):
        cuts = list(range(0, size, piece)) or [0]
        out += [(content[address + at : address + min(at + piece, size)], user, at == cuts[-1]) for at in cuts]
    return out


def some_runs(rng: random.Random, beat: int, count: int, most: int) -> list[Run]:
    """Return runs: anywhere, neighbours of the run before, inside its last beat, empty ones, across 4 KB."""
    runs: list[Run] = []
    after = 0
    for _ in range(count):
        size = rng.choice((0, 1, 2, 3, beat - 1, beat, beat + 1, rng.randrange(4 * beat), rng.randrange(20 * beat)))
        size = min(size, most)
        kind = rng.randrange(5)
        if kind == 0:
            address = rng.randrange(MEMORY_BYTES - 32 * beat)
        elif kind == 1:
            address = max(0, after - 1) // beat * beat + rng.randrange(beat)
        elif kind == 2:
            address = 4096 * rng.randint(1, 3) - rng.randrange(1, 3 * beat)
        else:
            address = after
        if address + size + beat > MEMORY_BYTES:
            address = rng.randrange(beat)
        runs.append((address, size))
        after = address + size
    return runs


async def begin(dut: Any, rng: random.Random, pauses: Iterator[bool], latency: int) -> tuple[ReadMemory, bytes]:
    """Reset the block with a memory of random bytes behind it."""
    p = parameters_of_bench()
    content = rng.randbytes(MEMORY_BYTES)
    memory = ReadMemory(dut, content, beat=p["data_bits"] // 8, address_bits=p["address_bits"],
                        burst_beats=min(p["burst_beats"], p["depth"]), pauses=pauses,
                        latency=lambda: rng.randint(1, latency))
    dut.i__valid.value = dut.o__ready.value = dut.forget.value = 0
    dut.rst.value = 1
    start_clock(dut)
    for _ in range(2):
        await RisingEdge(dut.clk)
    memory.start()
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    cocotb.start_soon(watch(dut, "i"))
    return memory, content


def run_word(address: int, size: int, user: int) -> int:
    """Return the payload of ``i``."""
    p = parameters_of_bench()
    layout = data.StructLayout({"address": p["address_bits"], "bytes": p["length_bits"], "user": p["user_bits"]})
    return word(layout, {"address": address, "bytes": size, "user": user})


def piece_of(bits: int) -> tuple[bytes, int, bool]:
    """Return (bytes, user, last) of a payload of ``o``; bytes above the piece's size are dropped."""
    p = parameters_of_bench()
    layout = data.StructLayout({"data": 8 * p["piece_bytes"], "bytes": range(p["piece_bytes"] + 1),
                                "user": p["user_bits"], "last": 1})
    piece = layout.from_bits(bits)
    return int(piece.data).to_bytes(p["piece_bytes"], "little")[: piece.bytes], int(piece.user), bool(piece.last)


async def take_pieces(dut: Any, count: int, pauses: Iterator[bool], at: list[int] | None = None,
                      got: list[tuple[bytes, int, bool]] | None = None) -> list[tuple[bytes, int, bool]]:
    """Receive pieces; a piece that waits must stay what it is, as far as it is defined."""
    got = [] if got is None else got
    waiting = None
    while len(got) < count:
        takes = not next(pauses)
        dut.o__ready.value = int(takes)
        await FallingEdge(dut.clk)
        piece = piece_of(int(dut.o__payload.value)) if dut.o__valid.value else None
        assert waiting is None or piece == waiting, f"o: a waiting piece changed in cycle {cycle()}"
        waiting = None if takes else piece
        if takes and piece is not None:
            got.append(piece)
            if at is not None:
                at.append(cycle())
        await RisingEdge(dut.clk)
    dut.o__ready.value = 0
    return got


@cocotb.test(timeout_time=150, timeout_unit="us")
@cocotb.parametrize(density=[(0.0, 0.0), (0.5, 0.5), (0.0, 0.8), (0.7, 0.0)], latency=[1, 40])
async def fetch_matches_memory(dut: Any, density: tuple[float, float], latency: int) -> None:
    """Pieces are the bytes of the runs; no beat is asked for twice in a row, no burst is shorter than it must be."""
    p, rng = parameters_of_bench(), random.Random(cocotb.RANDOM_SEED)
    memory, content = await begin(dut, rng, stalls(rng, density[0]), latency)
    beat, most = p["data_bits"] // 8, (1 << p["length_bits"]) - 1
    shared = [(64, 3), (67, 0), (67, 1), (64, 0), (66, 2), (0, 0), (68, 4), (72, 0), (72, min(beat, most))]
    runs = shared + some_runs(rng, beat, 60, most)
    users = [rng.getrandbits(p["user_bits"]) for _ in runs]
    wanted = pieces_of(runs, users, content, p["piece_bytes"])
    sent = [run_word(*run, user) for run, user in zip(runs, users, strict=True)]
    cocotb.start_soon(put(dut, "i", sent, stalls(rng, density[1])))
    assert await take_pieces(dut, len(wanted), stalls(rng, density[1])) == wanted
    assert len(memory.beats) == len(beats_of(runs, beat))
    assert memory.beats == beats_of(runs, beat)
    assert [request[1:] for request in memory.requests] == bursts_of(runs, beat, min(p["burst_beats"], p["depth"]))


@cocotb.test(timeout_time=60, timeout_unit="us")
async def fetch_asks_only_for_what_fits(dut: Any) -> None:
    """While no piece leaves, at most ``depth`` beats and the one in hand are asked for; then all bytes arrive."""
    p, rng = parameters_of_bench(), random.Random(cocotb.RANDOM_SEED)
    memory, content = await begin(dut, rng, itertools.repeat(False), 1)
    size = 6 * p["depth"] * p["data_bits"] // 8
    cocotb.start_soon(put(dut, "i", [run_word(5, size, 1), run_word(5 + size, 0, 0)]))
    for _ in range(4 * p["depth"] + 30):
        await RisingEdge(dut.clk)
        assert len(memory.beats) <= p["depth"] + 1
    assert len(memory.beats) >= p["depth"]
    wanted = pieces_of([(5, size), (5, 0)], [1, 0], content, p["piece_bytes"])
    assert await take_pieces(dut, len(wanted), itertools.repeat(False)) == wanted


@cocotb.test(timeout_time=60, timeout_unit="us")
async def fetch_gives_a_piece_a_cycle(dut: Any) -> None:
    """Inside a run whose beats come one a cycle, pieces leave one a cycle, whatever the run's first byte."""
    p, rng = parameters_of_bench(), random.Random(cocotb.RANDOM_SEED)
    _, content = await begin(dut, rng, itertools.repeat(False), 1)
    beat = p["data_bits"] // 8
    for first in (0, 1, p["piece_bytes"], beat - 1):
        size = (min(p["depth"], p["burst_beats"]) - 1) * beat
        at: list[int] = []
        cocotb.start_soon(put(dut, "i", [run_word(first, size, 0)]))
        wanted = pieces_of([(first, size)], [0], content, p["piece_bytes"])
        assert await take_pieces(dut, len(wanted), itertools.repeat(False), at) == wanted
        assert at == list(range(at[0], at[0] + len(at)))


@cocotb.test(timeout_time=60, timeout_unit="us")
async def fetch_answers_in_the_documented_cycles(dut: Any) -> None:
    """A request shows 1 cycle after its run is accepted, the first piece 3 after the beat; an empty run takes 3."""
    p, rng = parameters_of_bench(), random.Random(cocotb.RANDOM_SEED)
    memory, _ = await begin(dut, rng, itertools.repeat(False), 1)
    for size, latency, requests in ((p["piece_bytes"], 5, [1]), (0, 3, [])):
        at: list[int] = []
        taker = cocotb.start_soon(take_pieces(dut, 1, itertools.repeat(False), at))
        before = len(memory.requests)
        (accepted,) = await put(dut, "i", [run_word(1024, size, 0)])
        await taker
        assert at == [accepted + latency]
        assert [request[0] - accepted for request in memory.requests[before:]] == requests


@cocotb.test(timeout_time=60, timeout_unit="us")
async def fetch_forgets(dut: Any) -> None:
    """After ``forget`` the held beat is asked for again; without it, it is not."""
    rng = random.Random(cocotb.RANDOM_SEED)
    memory, content = await begin(dut, rng, itertools.repeat(False), 3)
    for forget, beats in ((0, 1), (0, 0), (1, 1), (0, 0)):
        before = len(memory.beats)
        dut.forget.value = forget
        await RisingEdge(dut.clk)
        dut.forget.value = 0
        cocotb.start_soon(put(dut, "i", [run_word(17, 2, 1)]))
        assert await take_pieces(dut, 1, itertools.repeat(False)) == [(content[17:19], 1, True)]
        assert len(memory.beats) - before == beats


class Port:
    """AXI4 read slave of the shared port: answers every beat with its own address, and checks the channels."""

    def __init__(self, dut: Any, pauses: Iterator[bool], responses: Iterator[int]) -> None:
        self.requests: list[tuple[int, int]] = []
        self.given = 0
        self._dut, self._pauses, self._responses = dut, pauses, responses

    async def serve(self, latency: int) -> None:
        """Serve for ever."""
        dut, waiting, held, shown = self._dut, deque[tuple[int, int, bool]](), None, False
        while True:
            takes = not next(self._pauses)
            shown = shown or (bool(waiting) and waiting[0][0] <= cycle() and not next(self._pauses))
            dut.arready.value, dut.rvalid.value = int(takes), int(shown)
            if shown:
                dut.rdata.value, dut.rlast.value = waiting[0][1], int(waiting[0][2])
                dut.rresp.value = next(self._responses)
            await FallingEdge(dut.clk)
            if shown:
                assert dut.rready.value, "rready low while a beat is due"
                waiting.popleft()
                self.given += 1
                shown = False
            now = (int(dut.araddr.value), int(dut.arlen.value)) if dut.arvalid.value else None
            assert held is None or now == held, f"ar: valid fell or payload changed in cycle {cycle()}"
            held = None if takes else now
            if takes and now is not None:
                check_burst(now[0], now[1] + 1, 8, 256)
                self.requests.append(now)
                waiting.extend((cycle() + latency, now[0] + 8 * n, n == now[1]) for n in range(now[1] + 1))
            await RisingEdge(dut.clk)


async def begin_port(dut: Any, pauses: Iterator[bool], responses: Iterator[int], latency: int = 4) -> Port:
    """Reset the port with a slave behind it."""
    dut.arready.value = dut.rvalid.value = dut.rlast.value = dut.rresp.value = dut.halt.value = 0
    names = [f"ar{n}" for n in range(parameters_of_bench()["masters"])]
    port = Port(dut, pauses, responses)
    await reset(dut, [])
    for name in names:
        getattr(dut, f"{name}__valid").value = 0
        cocotb.start_soon(watch(dut, name))
    cocotb.start_soon(port.serve(latency))
    return port


def request_word(address: int, beats: int) -> int:
    """Return the payload of ``ar{n}``."""
    return address | beats - 1 << int(parameters_of_bench()["address_bits"])


async def listen(dut: Any, heard: list[list[int]]) -> None:
    """Collect the beats that reach every master; at most one master hears a beat."""
    while True:
        await FallingEdge(dut.clk)
        valid = [n for n in range(len(heard)) if getattr(dut, f"r{n}__valid").value]
        assert len(valid) <= 1
        assert int(dut.beats.value) == len(valid)
        for n in valid:
            heard[n].append(int(getattr(dut, f"r{n}__payload").value))
        await RisingEdge(dut.clk)


@cocotb.test(timeout_time=150, timeout_unit="us")
@cocotb.parametrize(density=[0.0, 0.6], latency=[1, 30])
async def port_order(dut: Any, density: float, latency: int) -> None:
    """Every master gets exactly the beats it asked for, in its order; ``idle`` returns when all have come."""
    p, rng = parameters_of_bench(), random.Random(cocotb.RANDOM_SEED)
    port = await begin_port(dut, stalls(rng, density), itertools.repeat(0), latency)
    heard: list[list[int]] = [[] for _ in range(p["masters"])]
    cocotb.start_soon(listen(dut, heard))
    asked = [[(n << 28 | rng.randrange(1 << 16) << 12, rng.choice((1, 1, 2, 7, 16))) for _ in range(25)]
             for n in range(p["masters"])]
    senders = [cocotb.start_soon(put(dut, f"ar{n}", [request_word(*one) for one in mine], stalls(rng, density)))
               for n, mine in enumerate(asked)]
    for sender in senders:
        await sender
    wanted = [[address + 8 * k for address, beats in mine for k in range(beats)] for mine in asked]
    while heard != wanted:
        assert not dut.idle.value or sum(map(len, heard)) == sum(map(len, wanted))
        await RisingEdge(dut.clk)
        assert all(mine == all_of[: len(mine)] for mine, all_of in zip(heard, wanted, strict=True))
    await RisingEdge(dut.clk)
    assert dut.idle.value
    assert not dut.error.value
    assert len(port.requests) == 25 * p["masters"]


@cocotb.test(timeout_time=20, timeout_unit="us")
async def port_prefers_the_lowest(dut: Any) -> None:
    """A request shows 1 cycle later; while master 0 asks in every cycle the others wait, and are served after it."""
    await begin_port(dut, itertools.repeat(False), itertools.repeat(0), 1)
    taken = [cocotb.start_soon(put(dut, f"ar{n}", [request_word(n << 12, 1)] * 6)) for n in (2, 1, 0)]
    cycles = [await task for task in taken]
    order = sorted((at, n) for n, many in zip((2, 1, 0), cycles, strict=True) for at in many)
    assert [n for _, n in order] == [0] * 6 + [1] * 6 + [2] * 6
    sender = cocotb.start_soon(put(dut, "ar1", [request_word(0x5000, 1)]))
    (at,) = await sender
    await FallingEdge(dut.clk)
    assert dut.arvalid.value
    assert int(dut.araddr.value) == 0x5000
    assert cycle() == at + 1


@cocotb.test(timeout_time=20, timeout_unit="us")
async def port_halts(dut: Any) -> None:
    """Under ``halt`` no request is taken, those on their way are answered, and ``idle`` comes."""
    port = await begin_port(dut, itertools.repeat(False), itertools.repeat(0), 12)
    await put(dut, "ar1", [request_word(0x1000, 3), request_word(0x2000, 2)])
    dut.halt.value = 1
    sender = cocotb.start_soon(put(dut, "ar0", [request_word(0x3000, 1)]))
    for _ in range(40):
        await RisingEdge(dut.clk)
    assert port.given == 5
    assert dut.idle.value
    assert len(port.requests) == 2
    dut.halt.value = 0
    await sender
    while port.given != 6:
        await RisingEdge(dut.clk)


@cocotb.test(timeout_time=20, timeout_unit="us")
@cocotb.parametrize(response=[0, 1, 2, 3])
async def port_error(dut: Any, response: int) -> None:
    """SLVERR (2) and DECERR (3) set ``error`` for good; OKAY and EXOKAY do not."""
    await begin_port(dut, itertools.repeat(False), itertools.chain([0, response], itertools.repeat(0)))
    assert not dut.error.value
    await put(dut, "ar0", [request_word(0, 4)], NEVER)
    for _ in range(20):
        await RisingEdge(dut.clk)
    assert int(dut.error.value) == (response in (2, 3))
