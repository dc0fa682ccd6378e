"""Row loader against its golden twin: the masks and packed words that reach every lane."""

import dataclasses
import itertools
import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.row_loader import Row, row_loader
from golden.walker import walker
from hdl.row_loader import RowLoader
from verif.layers import ARCHS, TINY, arch, describe, draw_case, pass_record, start
from verif.memory import ReadMemory
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import stalls

BASE, INPUT_OFFSET, MEMORY_BYTES = 0x40, 0x1000, 1 << 16


@pytest.mark.parametrize("name", ARCHS)
def test_row_loader(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(RowLoader(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("bits.eq(total << self.layer.operand_log2)", "bits.eq(total)", id="words one bit wide"),
    pytest.param("Mux(user.fiber_end, 0, total)", "total", id="fibers run together"),
    pytest.param("(filled != 2)", "1", id="fills a half in use"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """A wrong length of a value read and a half that is overwritten are caught."""
    outcome = simulate(mutant(RowLoader, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY),
                       expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


async def collect(dut: Any, rows: list[list[Row]], rng: random.Random, stall: bool) -> None:
    """Take the pieces of all lanes, close a tile on ``lane_flush`` and release halves at most two behind."""
    p = arch()
    pauses = stalls(rng, 0.4 if stall else 0.0)
    held = 0
    masks: list[list[int]] = [[] for _ in range(p.lanes)]
    words, sizes = [0] * p.lanes, [0] * p.lanes
    while True:
        ready = 0 if next(pauses) else (1 << p.lanes) - 1
        dut.lane_mask_ready.value, dut.lanes_idle.value = ready, int(not next(pauses))
        release = held > 0 and rng.random() < 0.01
        dut.row_release.value = int(release)
        await FallingEdge(dut.clk)
        assert int(dut.full.value) == (held > 0)
        mask_valid, value_valid = int(dut.lane_mask_valid.value), int(dut.lane_value_valid.value)
        assert not mask_valid & ~ready
        for lane in range(p.lanes):
            if mask_valid >> lane & 1:
                masks[lane].append(int(dut.lane_mask.value))
            if value_valid >> lane & 1:
                size = int(dut.lane_bits.value)
                words[lane] |= (int(dut.lane_data.value) & (1 << size) - 1) << sizes[lane]
                sizes[lane] += size
        held -= release
        if value_valid and dut.lane_flush.value:
            assert value_valid == (1 << p.lanes) - 1
            assert int(dut.half.value) == len(rows) % 2
            rows.append([Row(tuple(masks[lane]), words[lane], sizes[lane]) for lane in range(p.lanes)])
            masks, words, sizes = [[] for _ in range(p.lanes)], [0] * p.lanes, [0] * p.lanes
            held += 1
            assert held <= 2, "a half was filled that the array still reads"
        await RisingEdge(dut.clk)


@cocotb.test(timeout_time=600, timeout_unit="us")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Masks and packed words of every lane and tile equal golden; no half is filled before it is released."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    content = bytes(rng.choice((0, rng.randrange(256), 255)) for _ in range(MEMORY_BYTES))
    dut.base.value, dut.input_offset.value = BASE, INPUT_OFFSET
    await start(dut, ["descriptor__valid", "layer", "layer_start", "row_release", "lane_mask_ready", "lanes_idle"])
    for kind in ("mask", "value"):
        ReadMemory(dut, content, beat=p.data_bits // 8, address_bits=p.address_bits, burst_beats=p.burst_beats,
                   pauses=stalls(rng, 0.4 if stall else 0.0), latency=lambda: rng.choice((1, 4, 20)), ar=f"{kind}_ar",
                   r=f"{kind}_r").start()
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    for _ in range(4):
        case = draw_case(rng, p)
        walks = list(itertools.islice(walker(case.layer, case.passes, base=BASE, input_offset=INPUT_OFFSET,
                                             lanes=p.lanes, chunk_bits=p.chunk_bits), 5))
        wanted = [row_loader(walk, content, lanes=p.lanes, word_log2=case.layer["operand_log2"]) for walk in walks]
        await describe(dut, case.layer, [pass_record(sweep) for sweep in case.passes])
        dut.tiles.value, dut.layer_start.value = len(walks), 1
        await RisingEdge(dut.clk)
        dut.layer_start.value = 0
        rows: list[list[Row]] = []
        taker = cocotb.start_soon(collect(dut, rows, rng, stall))
        while len(rows) < len(wanted):
            await RisingEdge(dut.clk)
            assert rows == wanted[: len(rows)], case
        for _ in range(20):
            await RisingEdge(dut.clk)
        assert rows == wanted, case
        taker.cancel()
        dut.row_release.value = 0
