"""Port of jobs: golden by hand, packets of any length and jobs that do not exist, ends that are told, flushes, cycles."""

import dataclasses
import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import ImcArch, Op, WriteError
from golden.imc.job_port import ILLEGAL, ending, job_port
from golden.imc.packet_sender import packet_sender
from golden.imc.write_verify import Counts, Job, Outcome
from hdl.imc.host_port import HostPort
from hdl.imc.job_port import JobPort
from hdl.imc.writable_tile import WritableTile
from hdl.imc.write_job import COUNT_BITS, outcome_layout
from hdl.imc.write_program import job_words
from verif.layers import start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import get, put, stalls, watch, word

# Neither rows nor columns are a power of two; mask and levels end within a word.
P = ImcArch(name="jobs", rows=12, cols=40, mux=8, group_rows=4, cell_bits=3, crossbars=3)
LENGTH = 1 + 2 + 4


def test_job_port() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(JobPort(P), __name__)


def test_mutant_is_caught() -> None:
    """A job on a row that does not exist, given to the tile as it is, is caught."""
    simulate(mutant(JobPort, "(head[8:16] < p.rows) & ", "")(P), __name__, expect_failure=True, test_filter="matches_golden")


def test_by_hand() -> None:
    """A job of three columns and two bits a cell, other ones of wrong length, op, row and crossbar; what is told of an end."""
    p = dataclasses.replace(P, cols=3, mux=1, cell_bits=2, weight_bits=2, scheme="offset")
    assert job_port(p, [2 | 11 << 8 | 1 << 16, 0b1101, 0b11_10_01_00]) == (1, Job(op=Op.PROG, row=11, levels=(0, 1, 2), mask=5))
    assert job_port(p, [2, 1]) is job_port(p, [2, 1, 1, 0]) is job_port(p, []) is None
    for head, crossbar in ((6, 0), (12 << 8, 0), (3 << 16, 3)):
        found = job_port(p, [head, 0, 0])
        assert found is not None and (found[0], found[1].op) == (crossbar, ILLEGAL)
    outcome = Outcome(error=WriteError.CELLS, fails=((2, 1), (0, 2)), levels=(3, 0, 1), counts=Counts(set=9, reads=8))
    assert ending(p, outcome) == [1, 0b101, 0b010011, 9, 0, 8, 0, 0, 0]


def test_host_and_golden_agree(seed: int) -> None:
    """A packet that the host makes of a job is that job in golden."""
    rng = random.Random(seed)
    for _ in range(20):
        job, crossbar = draw_job(rng), rng.randrange(P.crossbars)
        assert job_port(P, job_words(P, crossbar=crossbar, **dataclasses.asdict(job))) == (crossbar, job)


def draw_job(rng: random.Random) -> Job:
    """Return a job that exists."""
    return Job(op=rng.choice(list(Op)), row=rng.randrange(P.rows), mask=rng.getrandbits(P.cols),
               levels=tuple(rng.getrandbits(P.cell_bits) for _ in range(P.cols)))


def draw_packet(rng: random.Random) -> list[int]:
    """Return a packet, with bits beyond its columns: mostly of a job that exists, else with another op, place or length."""
    packet = job_words(P, crossbar=rng.randrange(P.crossbars), **dataclasses.asdict(draw_job(rng)))
    packet[2] |= rng.getrandbits(24) << 8
    wrong = rng.random()
    if wrong < 0.2:
        packet[0] = rng.choice((packet[0] & ~255 | rng.randrange(6, 256), packet[0] & ~0xFF00 | rng.randrange(12, 256) << 8,
                                packet[0] & 0xFFFF | rng.randrange(3, 1 << 16) << 16))
    return packet[:rng.randint(1, LENGTH - 1)] if wrong > 0.9 else [*packet, 7] if wrong > 0.8 else packet


def draw_outcome(rng: random.Random) -> Outcome:
    """Return any end of a job."""
    columns = rng.sample(range(P.cols), rng.randint(0, 5))
    return Outcome(error=rng.choice(list(WriteError)), fails=tuple((column, 0) for column in columns),
                   levels=tuple(rng.getrandbits(P.cell_bits) for _ in range(P.cols)),
                   counts=Counts(*(rng.getrandbits(COUNT_BITS) for _ in dataclasses.fields(Counts))))


def words_of(packet: list[int]) -> list[int]:
    """Return the payloads of a packet."""
    return [word(HostPort.word_layout(), {"word": w, "last": last}) for w, last in packet_sender([packet])]


async def begin(dut: Any) -> random.Random:
    """Reset."""
    await start(dut, ["hold", "flush", "i__valid", "o__ready", "ended__valid", "answer__ready"])
    dut.rst.value = 0
    for name in ("i", "ended"):
        cocotb.start_soon(watch(dut, name))
    return random.Random(cocotb.RANDOM_SEED)


async def ends(dut: Any, outcome: Outcome, pauses: Any) -> int:
    """Tell the end of a job; return the cycle in which it is taken."""
    fields = {"error": outcome.error, "fail": outcome.mask, "levels": list(outcome.levels),
              "counts": dataclasses.asdict(outcome.counts)}
    return (await put(dut, "ended", [word(outcome_layout(P), fields)], pauses))[0]


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.5])
async def matches_golden(dut: Any, stall: float) -> None:
    """Jobs and what is told of their ends equal golden's, in the documented cycles; a packet of another length is an error."""
    rng = await begin(dut)
    for _ in range(40):
        packet, at = draw_packet(rng), list[int]()
        wanted = job_port(P, packet)
        sent = cocotb.start_soon(put(dut, "i", words_of(packet), stalls(rng, stall)))
        if wanted is None:
            while not dut.error.value:
                await FallingEdge(dut.clk)
            await sent
            await FallingEdge(dut.clk)
            assert not (dut.busy.value or dut.o__valid.value)
            await RisingEdge(dut.clk)
            continue
        (given,) = await get(dut, "o", 1, stalls(rng, stall), at)
        assert stall or at == [(await sent)[-1] + 1]
        crossbar, job = wanted
        order = WritableTile.order_layout(P).from_bits(given)
        assert int(order.job.op) == job.op
        if job.op != ILLEGAL:
            assert given == word(WritableTile.order_layout(P), {"crossbar": crossbar, "job": dataclasses.asdict(job)})
        outcome = draw_outcome(rng)
        ended = cocotb.start_soon(ends(dut, outcome, stalls(rng, stall)))
        at.clear()
        assert await get(dut, "answer", LENGTH + 6, stalls(rng, stall), at) == words_of(ending(P, outcome))
        assert stall or at == [*range(await ended + 1, await ended + 1 + len(at))]
        await FallingEdge(dut.clk)
        assert not dut.busy.value
        await RisingEdge(dut.clk)


@cocotb.test(timeout_time=20, timeout_unit="us")
async def one_at_a_time(dut: Any) -> None:
    """No end is taken of a job that was not given; busy stands from the first word to the last that is told, or to a flush."""
    rng = await begin(dut)
    packet, outcome = job_words(P, crossbar=1, **dataclasses.asdict(draw_job(rng))), draw_outcome(rng)
    early = cocotb.start_soon(ends(dut, outcome, [False]))
    dut.hold.value = 1
    sender = cocotb.start_soon(put(dut, "i", words_of(packet)))
    for _ in range(4):
        await RisingEdge(dut.clk)
        assert not sender.done() and not dut.busy.value
    dut.hold.value = 0
    await sender
    for _ in range(10):
        await FallingEdge(dut.clk)
        assert dut.busy.value and not dut.ended__ready.value
        await RisingEdge(dut.clk)
    await get(dut, "o", 1)
    await early
    await get(dut, "answer", LENGTH + 6)
    for cut in ("packet", "job", "end"):
        await put(dut, "i", words_of(packet)[:3 if cut == "packet" else LENGTH])
        if cut != "packet":
            await get(dut, "o", 1)
        if cut == "end":
            await ends(dut, outcome, [False])
        dut.flush.value = 1
        await RisingEdge(dut.clk)
        dut.flush.value = 0
        if cut == "packet":
            await put(dut, "i", words_of(packet)[3:])
        for _ in range(4):
            await FallingEdge(dut.clk)
            assert not (dut.busy.value or dut.o__valid.value or dut.answer__valid.value or dut.error.value)
        await RisingEdge(dut.clk)
