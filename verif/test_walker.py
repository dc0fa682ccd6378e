"""Convolution walker against its golden twin."""

import dataclasses
import itertools
import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import Arch
from golden.walker import ChunkRun, chunk_table, walker
from hdl.walker import Walker, chunk_run_layout
from verif.chunks import TINY
from verif.layers import ARCHS, arch, describe, draw_case, pass_record, start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import NEVER, cycle, get, idle, stalls, watch

BASE, INPUT_OFFSET = 0x92_B456_7000, 0x8000
FIELD_CYCLES = 16
BROKEN = dataclasses.replace(TINY, skip_taps=True)


@pytest.mark.parametrize("name", ARCHS)
def test_walker(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Walker(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("- fields.padding + tap_x", "+ tap_x", id="no padding"),
    pytest.param("(y < layer.out_height) & between(center_y", "between(center_y", id="lanes beyond the last pixel"),
    pytest.param("between(center_x, layer.width)", "1", id="member outside the map"),
    pytest.param("Mux(last_chunk, fields.last_bytes, p.chunk_bits // 8)", "p.chunk_bits // 8", id="long last chunk"),
    pytest.param("Mux(fields.input, self.input_offset, 0)", "0", id="no input offset"),
    pytest.param("skip.eq(ahead[0])", "skip.eq(0)", id="no tap skipped"),
    pytest.param("(last_x & last_y) | ahead[1:].all()", "last_x & last_y", id="corner not seen as skipped"),
    pytest.param("taps.skipped.eq(Cat(taps.skipped[1:], taps.skipped[-1]))", "taps.skipped.eq(taps.skipped >> 1)",
                 id="taps behind the last one"),
    pytest.param("m.d.sync += [member_x.eq(0), member_y.eq(after_member_y)]", "m.d.sync += member_x.eq(0)",
                 id="first row of members only"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Every way to name other bytes than golden's is caught."""
    outcome = simulate(mutant(Walker, old, new)(BROKEN), __name__, parameters=dataclasses.asdict(BROKEN),
                       expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def run_of(bits: int, p: Arch) -> ChunkRun:
    """Return a payload of ``o``; the addresses of a silent chunk mean nothing and read as 0."""
    step = chunk_run_layout(p).from_bits(bits)
    address, value_address = (int(step.address), int(step.value_address)) if step.bytes else (0, 0)
    return ChunkRun(address, int(step.bytes), int(step.lane), value_address, bool(step.fiber_end), bool(step.row_end))


async def chunks_shown(dut: Any, table: list[tuple[int, bool]]) -> None:
    """Collect the chunk table."""
    while True:
        await FallingEdge(dut.clk)
        if dut.chunk_en.value:
            assert int(dut.chunk.value) == len(table)
            table.append((int(dut.chunk_bytes.value), bool(dut.chunk_last.value)))


def base(p: Arch) -> int:
    """Return the base address: it takes nearly as many bits as an address has."""
    return BASE & (1 << p.address_bits) - 1


async def begin(dut: Any) -> None:
    """Reset, with the base addresses set."""
    await start(dut, ["descriptor__valid", "layer", "restart", "start", "o__ready"])
    dut.base.value, dut.input_offset.value = base(arch()), INPUT_OFFSET
    dut.rst.value = 0
    cocotb.start_soon(watch(dut, "o"))


async def pulse(dut: Any, name: str) -> None:
    """Raise an input for one cycle."""
    getattr(dut, name).value = 1
    await RisingEdge(dut.clk)
    getattr(dut, name).value = 0


@cocotb.test(timeout_time=400, timeout_unit="us")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """The walk of every tile and pool member equals golden, and so does the chunk table shown with it."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await begin(dut)
    for _ in range(12):
        case = draw_case(rng, p)
        await describe(dut, case.layer, [pass_record(sweep) for sweep in case.passes])
        await pulse(dut, "restart")
        walks = walker(case.layer, case.passes, base=base(p), input_offset=INPUT_OFFSET, lanes=p.lanes,
                       chunk_bits=p.chunk_bits)
        for wanted in itertools.islice(walks, rng.randint(1, 40)):
            table: list[tuple[int, bool]] = []
            watcher = cocotb.start_soon(chunks_shown(dut, table))
            await pulse(dut, "start")
            got = await get(dut, "o", len(wanted), stalls(rng) if stall else NEVER)
            assert [run_of(bits, p) for bits in got] == wanted, case
            await idle(dut, "o", 2)
            assert dut.idle.value
            watcher.cancel()
            assert table == chunk_table(case.passes, p.chunk_bits)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def takes_the_documented_cycles(dut: Any) -> None:
    """One step a cycle; the fields of a pass take 16 cycles before its first step, a tap that is skipped one."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await begin(dut)
    for _ in range(4):
        case = draw_case(rng, p)
        await describe(dut, case.layer, [pass_record(sweep) for sweep in case.passes])
        await pulse(dut, "restart")
        wanted = next(walker(case.layer, case.passes, base=base(p), input_offset=INPUT_OFFSET, lanes=p.lanes,
                             chunk_bits=p.chunk_bits))
        at: list[int] = []
        begun = cycle()
        await pulse(dut, "start")
        await get(dut, "o", len(wanted), at=at)
        expected: list[int] = []
        now = begun + 1
        for sweep in case.passes:
            now += FIELD_CYCLES
            taps = sweep["kernel_height"] * sweep["kernel_width"]
            kept = [not sweep["skipped"] >> tap & 1 for tap in range(taps)]
            for tap in range(taps):
                steps = sweep["tap_chunks"] * p.lanes if kept[tap] else 0
                expected += range(now, now + steps)
                now += steps or int(any(kept[tap:]))
        assert at == expected
        await RisingEdge(dut.clk)
