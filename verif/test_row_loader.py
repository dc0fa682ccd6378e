"""Row loader against its golden twin: the masks and packed words that reach every lane."""

import dataclasses
import itertools
import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import Arch
from golden.row_loader import Row, row_loader
from golden.walker import walker
from hdl.row_loader import RowLoader
from verif.chunks import TINY
from verif.layers import ARCHS, arch, describe, draw_case, pass_record, start
from verif.memory import ReadMemory
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import cycle, stalls

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
                       test_filter="matches_golden", expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("value_user.size, p.outstanding", "value_user.size, 2", id="two beats of values on their way"),
    pytest.param("(filled != 2)", "(filled == 0)", id="no tile ahead"),
])
def test_slow_loaders_are_caught(old: str, new: str) -> None:
    """What delivers the right rows in more cycles than documented is caught, by the cycles alone."""
    outcome = simulate(mutant(RowLoader, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY),
                       expect_failure=True, all_tests=True)
    assert all("documented_cycles" in name for name in outcome.failed), outcome.failed


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


def documented(p: Arch, *, chunks: int, present: int, pieces: int) -> int:
    """Return the documented cycles of a tile of one pass.

    chunks : per row; every pixel's masks lie behind each other, from a whole beat on
    present : lanes with a pixel, the first ones
    pieces : of values in each present lane's row, which fill whole beats; 0: silent rows
    """
    piece = p.chunk_bits // 8
    beats = [(lane * chunks + chunk) * piece // (p.data_bits // 8) for chunk in range(chunks) for lane in range(present)]
    fresh = [number == 0 or beats[number - 1] != beat for number, beat in enumerate(beats)]
    masks = 26 + p.lanes * chunks + sum(fresh)
    first = 26 + p.lanes * (chunks - 1) + 1 + sum(fresh[: present * (chunks - 1) + 1])
    return max(masks, first + present * (pieces + 1) + (present < p.lanes)) if pieces else masks


@cocotb.test(timeout_time=40, timeout_unit="us")
@cocotb.parametrize(chunks=[1, 2, 3], full=[False, True], one=[False, True])
async def documented_cycles(dut: Any, chunks: int, full: bool, one: bool) -> None:
    """A tile, silent or full, of one lane or all, is ready after the documented cycles, the tile behind it one sooner."""
    p, steps, values = arch(), 4, 4096
    present, tiles, bits = 1 if one else p.lanes, 1 if one or p.lanes == 1 else 2, chunks * p.chunk_bits
    content = bytes(64) + (b"\xff" if full else b"\0") * (values - 64) + bytes(values)
    dut.base.value = dut.input_offset.value = 0
    await start(dut, ["descriptor__valid", "layer", "layer_start", "row_release"])
    for kind in ("mask", "value"):
        ReadMemory(dut, content, beat=p.data_bits // 8, address_bits=p.address_bits, burst_beats=p.burst_beats,
                   pauses=stalls(random.Random(0), 0.0), ar=f"{kind}_ar", r=f"{kind}_r").start()
    dut.lane_mask_ready.value, dut.lanes_idle.value = (1 << p.lanes) - 1, 1
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    sweep = {"masks": 64, "mask_stride": bits // 8, "values": values, "slot_stride": bits * steps // 8, "height": 1,
             "width": present * tiles, "kernel_height": 1, "kernel_width": 1, "stride": 1, "identity": 1,
             "tap_chunks": chunks, "last_bytes": p.chunk_bits // 8, "planes": steps, "steps": (1 << steps) - 1}
    layer = {"passes": 1, "steps": steps, "operand_log2": 2, "word_log2": 2, "height": 1, "width": present * tiles,
             "out_height": 1, "out_width": present * tiles, "chunks": chunks, "pool_kernel": 1, "pool_stride": 1,
             "row_tiles": tiles, "column_tiles": 1, "columns": 1, "min_spikes": 1}
    await describe(dut, layer, [pass_record(sweep)])
    dut.tiles.value, dut.layer_start.value = tiles, 1
    began = cycle()
    ready: list[int] = []
    await RisingEdge(dut.clk)
    dut.layer_start.value = 0
    while len(ready) < tiles:
        half = int(dut.half.value)
        await FallingEdge(dut.clk)
        if int(dut.half.value) != half:
            assert dut.full.value
            ready.append(cycle() - began)
        await RisingEdge(dut.clk)
    first = documented(p, chunks=chunks, present=present, pieces=chunks * steps * full)
    assert ready == [first, 2 * first - 1][:tiles]
