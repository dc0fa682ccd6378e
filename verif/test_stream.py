"""The checks that every bench relies on can fail: protocol monitor, hangs, empty benches, mutations, lint."""

import itertools
import random
from typing import Any

import cocotb
import pytest
from amaranth.hdl import Module
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out
from cocotb.triggers import RisingEdge

from hdl.block import Block
from verif.sim import BenchError, Outcome, build, design, lint, ports, run, simulate
from verif.stream import NEVER, get, idle, put, reset, stalls


class Stage(Block):
    """One register between two streams: latency 1 cycle, one word a cycle, full back-pressure."""

    i: stream.Interface
    o: stream.Interface

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8))})

    def build(self) -> Module:
        """Return the contents."""
        m = Module()
        with m.If(self.o.ready | ~self.o.valid):
            m.d.comb += self.i.ready.eq(1)
            m.d.sync += [self.o.valid.eq(self.i.valid), self.o.payload.eq(self.i.payload)]
        return m


def bench(**options: Any) -> Outcome:
    """Run the cocotb tests named `passes...` below on a `Stage`."""
    return simulate(Stage(), __name__, **{"test_filter": "passes", **options})


def test_stage() -> None:
    """The register passes, with and without stalls, and every test is counted."""
    assert len(bench().passed) == 2


@pytest.mark.parametrize("broken", [
    pytest.param((r"o__valid <= .*;", "o__valid <= i__valid;"), id="valid falls"),
    pytest.param((r"o__payload <= .*;", "o__payload <= i__payload;"), id="payload moves"),
    pytest.param((r"assign i__ready = .*;", "assign i__ready = 1'h1;"), id="word lost"),
])
def test_broken_handshakes_are_caught(broken: tuple[str, str]) -> None:
    """Each broken handshake fails the stalled test and only that one."""
    outcome = bench(replace=broken, expect_failure=True)
    assert [name.rsplit("/", 1)[-1] for name in outcome.failed] == ["stall=True"]


def test_monitor_alone_catches_a_moving_payload() -> None:
    """The monitor fails a test that looks at no word."""
    outcome = bench(replace=(r"o__payload <= .*;", "o__payload <= i__payload;"), expect_failure=True,
                    test_filter="unread")
    assert len(outcome.failed) == 1


def test_hang_is_a_failure() -> None:
    """A block that never answers fails by the timeout, and the first test that fails is the last one, unless all are to run."""
    hangs = (r"o__valid <= .*;", "o__valid <= 1'h0;")
    outcome = bench(replace=hangs, expect_failure=True)
    assert (outcome.failed, outcome.causes, outcome.passed) == (("passes_words/stall=False",), ("SimTimeoutError",), ())
    assert len(bench(replace=hangs, expect_failure=True, all_tests=True).failed) == 2


def test_failure_names_the_test_and_the_seed() -> None:
    """A failing bench raises with the names of its tests and the command that repeats it."""
    with pytest.raises(BenchError) as error:
        bench(replace=(r"o__valid <= .*;", "o__valid <= i__valid;"), seed=7)
    first = str(error.value).splitlines()[0]
    assert first == ("spikeloom_stage: 1 of 2 cocotb tests failed: passes_words/stall=True; "
                     "try: pytest verif/test_stream.py --seed 7")


def test_survivor_is_an_error() -> None:
    """A mutant that no test catches is an error, and so is a mutation that changes nothing."""
    with pytest.raises(BenchError, match=r"all 2 tests pass on a broken spikeloom_stage"):
        bench(mutate=lambda text: text + "\n\n", expect_failure=True)
    with pytest.raises(BenchError, match=r"the mutation changed nothing"):
        bench(replace=("no such text", ""), expect_failure=True)


def test_bench_error_is_not_a_catch() -> None:
    """A negative control that fails for another reason than an assertion or a timeout is an error."""
    with pytest.raises(BenchError, match=r"ended by ZeroDivisionError"):
        bench(test_filter="crashes", mutate=lambda text: text + "\n", expect_failure=True)


def test_no_tests_is_an_error() -> None:
    """A bench in which nothing runs is an error."""
    with pytest.raises(BenchError):
        bench(test_filter="no_such_test")


def test_lint_and_build_refuse_a_warning() -> None:
    """A Verilator warning without a waiver is an error; the same text without it is not."""
    text, top = design(Stage())
    lint(text, top)
    broken = text.replace("endmodule", "  wire nobody;\n  wire copy;\n  assign copy = nobody;\nendmodule")
    with pytest.raises(BenchError, match="UNDRIVEN"):
        lint(broken, top)
    with pytest.raises(BenchError, match="UNDRIVEN"):
        build([broken], top)


def test_builds_are_found_again() -> None:
    """Equal sources give the same program; ports are read in both Verilog styles."""
    text, top = design(Stage())
    program = build([text], top)
    before = program.stat().st_mtime_ns
    assert build([text], top) == program
    assert program.stat().st_mtime_ns == before
    assert set(ports(text, top)) == {"clk", "rst", *(f"{side}__{signal}" for side in "io"
                                                     for signal in ("payload", "valid", "ready"))}
    ansi = "module top (\n  input wire clk,\n  output reg [7:0] q,\n  input signed [3:0] d\n);\nendmodule\n"
    assert ports(ansi, "top") == ["clk", "q", "d"]


def test_seed_repeats_the_stimulus() -> None:
    """The same seed gives the same log of random numbers, another seed another one."""
    text, top = design(Stage())
    program = build([text], top)
    logs = [run(program, __name__, test_filter="draws", seed=seed)[1] for seed in (1, 1, 2)]
    drawn = [next(line.split()[-1] for line in log.splitlines() if "drawn" in line) for log in logs]
    assert drawn[0] == drawn[1] != drawn[2]


@cocotb.test(timeout_time=20, timeout_unit="us")
@cocotb.parametrize(stall=[False, True])
async def passes_words(dut: Any, stall: bool) -> None:
    """Words arrive in order and once, one cycle after they were sent."""
    rng = random.Random(cocotb.RANDOM_SEED)
    words = [rng.randrange(256) for _ in range(200)]
    await reset(dut)
    left: list[int] = []
    sender = cocotb.start_soon(put(dut, "i", words, stalls(rng) if stall else NEVER))
    assert await get(dut, "o", 200, stalls(rng) if stall else NEVER, at=left) == words
    if not stall:
        assert [out - into for into, out in zip(await sender, left, strict=True)] == [1] * 200
    await idle(dut, "o", 3)


@cocotb.test(timeout_time=20, timeout_unit="us")
async def leaves_words_unread(dut: Any) -> None:
    """Words of which none is looked at."""
    await reset(dut)
    cocotb.start_soon(put(dut, "i", itertools.count()))
    for _ in range(10):
        await RisingEdge(dut.clk)


@cocotb.test(timeout_time=20, timeout_unit="us")
async def draws_a_number(dut: Any) -> None:
    """A number from the seed, in the log."""
    dut._log.info("drawn %d", random.Random(cocotb.RANDOM_SEED).getrandbits(40))


@cocotb.test(timeout_time=20, timeout_unit="us", expect_fail=False)
async def crashes(dut: Any) -> None:
    """A bench with an error of its own."""
    assert 1 / 0
