"""Pixel loader of the loom against its golden twin: what its stores hold of every pixel, and the words it counts."""

import dataclasses
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import Arch
from golden.pixel_loader import Pixel, pixel_loader
from hdl.pixel_loader import PixelLoader, pixel_layout
from hdl.spike_buffer import row_chunk_layout
from verif.chunks import LOOM, LOOMS
from verif.layers import arch, describe, pass_record, start
from verif.memory import ReadMemory
from verif.mutant import mutant
from verif.row_tiles import draw_tiles
from verif.sim import simulate
from verif.stream import stalls, word

BASE, INPUT_OFFSET, MEMORY_BYTES = 0x40, 0x1000, 1 << 15
MASKS_AFTER, WORDS_AFTER = 7, 11
INPUTS = ("descriptor__valid", "layer", "layer_start", "start", "pixel_read", "mask_read", "line_read", "pixel_address",
          "mask_address", "line_address", "low_y", "high_y", "low_x", "high_x")


@pytest.mark.parametrize("name", LOOMS)
def test_pixel_loader(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(PixelLoader(LOOMS[name]), __name__, parameters=dataclasses.asdict(LOOMS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("fiber.eq(Mux(masks.o.p.last, 0, total))", "fiber.eq(total)", id="fibers run together"),
    pytest.param("bits.eq(total << self.layer.operand_log2)", "bits.eq(total)", id="words one bit wide"),
    pytest.param("masks.forget.eq(self.layer_start)", "masks.forget.eq(0)", id="keeps a beat of the layer before"),
    pytest.param("Mux(low > most, most, low)", "low", id="starts beyond the map"),
    pytest.param("own.first.eq(number == 0)", "own.first.eq(1)", id="counts all passes"),
    pytest.param("(values_left == 0)", "1", id="loaded before the words are there"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Wrong fibers, wrong rectangles, wrong counts and a signal too early are caught."""
    outcome = simulate(mutant(PixelLoader, old, new)(LOOM), __name__, parameters=dataclasses.asdict(LOOM),
                       test_filter="matches_golden", expect_failure=True)
    assert outcome.failed


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("piece, 1, p.outstanding", "piece, 1, 2", id="two beats of words on their way"),
    pytest.param("piece, user.size, p.outstanding", "piece, user.size, 2", id="two beats of masks on their way"),
])
def test_slow_loaders_are_caught(old: str, new: str) -> None:
    """What loads the right pixels in more cycles than documented is caught, by the cycles alone."""
    outcome = simulate(mutant(PixelLoader, old, new)(LOOM), __name__, parameters=dataclasses.asdict(LOOM),
                       expect_failure=True, all_tests=True)
    assert all("documented_cycles" in name for name in outcome.failed), outcome.failed


async def store(dut: Any, name: str, address: int, rng: random.Random) -> int:
    """Read one entry of a store, which must hold while no other is read."""
    getattr(dut, f"{name}_read").value, getattr(dut, f"{name}_address").value = 1, address
    await RisingEdge(dut.clk)
    getattr(dut, f"{name}_read").value, getattr(dut, f"{name}_address").value = 0, 0
    for _ in range(rng.choice((0, 0, 2))):
        await RisingEdge(dut.clk)
    await FallingEdge(dut.clk)
    value = int(getattr(dut, name).value)
    await RisingEdge(dut.clk)
    return value


async def load(dut: Any, low: tuple[int, int], high: tuple[int, int], counts: Counter[tuple[int, int]]) -> tuple[int, int]:
    """Load a rectangle; collect the counts, and return the cycles until ``counted`` and until ``loaded``."""
    dut.low_y.value, dut.low_x.value = low
    dut.high_y.value, dut.high_x.value = high
    dut.start.value = 1
    await RisingEdge(dut.clk)
    dut.start.value, waited, counted = 0, 0, 0
    while True:
        await FallingEdge(dut.clk)
        waited += 1
        if dut.count_valid.value:
            assert not counted, "counts after all are counted"
            counts[dut.count_y.value.to_signed(), dut.count_x.value.to_signed()] += int(dut.count.value)
        counted = counted or waited * int(dut.counted.value)
        if dut.loaded.value:
            assert counted, "loaded, but not counted"
            break
        await RisingEdge(dut.clk)
    await RisingEdge(dut.clk)
    return counted, waited


async def compare(dut: Any, p: Arch, rng: random.Random, sweeps: Sequence[Sequence[Pixel]], word_log2: int) -> None:
    """Compare all stores with the pixels of all passes; bits behind the last word are not defined."""
    masks = lines = 0
    for number, pixel in enumerate(pixel for sweep in sweeps for pixel in sweep):
        entry = pixel_layout().const({"y": pixel.y, "x": pixel.x, "lines": len(pixel.lines), "end": int(pixel.end)})
        assert await store(dut, "pixel", number, rng) == int(entry.as_bits()), pixel
        for chunk in pixel.chunks:
            kept = word(row_chunk_layout(p), {"mask": chunk.mask, "base": chunk.base, "bases": list(chunk.bases)})
            assert await store(dut, "mask", masks, rng) == kept, (pixel, masks)
            masks += 1
        bits = pixel.words << word_log2
        for at, line in enumerate(pixel.lines):
            known = min(p.chunk_bits, bits - at * p.chunk_bits)
            assert await store(dut, "line", lines, rng) & (1 << known) - 1 == line, (pixel, at)
            lines += 1


def serve(dut: Any, p: Arch, content: bytearray, rng: random.Random, stall: bool) -> None:
    """Answer both memory ports."""
    for kind in ("mask", "value"):
        ReadMemory(dut, content, beat=p.data_bits // 8, address_bits=p.address_bits, burst_beats=p.burst_beats,
                   pauses=stalls(rng, 0.4 if stall else 0.0), ar=f"{kind}_ar", r=f"{kind}_r",
                   latency=lambda: rng.choice((1, 4, 20)) if stall else 1).start()


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Every pixel of random rectangles, inside, across and outside the map, and the counts of the first pass."""
    p, rng, content = arch(), random.Random(cocotb.RANDOM_SEED), bytearray(MEMORY_BYTES)
    dut.base.value, dut.input_offset.value = BASE, INPUT_OFFSET
    await start(dut, INPUTS)
    serve(dut, p, content, rng, stall)
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    for _ in range(12):
        case = draw_tiles(rng, p)
        density = rng.choice((0, 30, 128, 255))
        content[:] = bytes(sum(1 << bit for bit in range(8) if rng.randrange(256) < density) if density < 255 else 255
                           for _ in range(MEMORY_BYTES))
        await describe(dut, case.layer, [pass_record(sweep) for sweep in case.passes])
        dut.layer_start.value = 1
        await RisingEdge(dut.clk)
        dut.layer_start.value = 0
        for _ in range(3):
            sizes = (case.layer["height"], case.layer["width"])
            low = (rng.randint(-2, sizes[0]), rng.randint(-2, sizes[1]))
            high = (rng.randint(low[0], sizes[0] + 1), rng.randint(low[1], sizes[1] + 1))
            wanted = pixel_loader(case.layer, case.passes, low, high, bytes(content), base=BASE, input_offset=INPUT_OFFSET,
                                  chunk_bits=p.chunk_bits)
            counts: Counter[tuple[int, int]] = Counter()
            await load(dut, low, high, counts)
            assert counts == {(pixel.y, pixel.x): pixel.words for pixel in wanted[0]}
            await compare(dut, p, rng, wanted, case.layer["operand_log2"])


def documented(p: Arch, *, chunks: int, count: int, lines: int) -> int:
    """Return the documented cycles of one pass of ``count`` pixels behind each other, the first at a whole beat.

    chunks : per pixel; lines : of words per pixel, which fill whole beats; 0: silent pixels
    """
    beat, size = p.data_bits // 8, chunks * p.chunk_bits // 8
    fresh = sum(number * size % beat == 0 for number in range(count))
    return WORDS_AFTER + chunks + count * (lines + 1) if lines else MASKS_AFTER + count * chunks + fresh


@cocotb.test(timeout_time=40, timeout_unit="us")
@cocotb.parametrize(chunks=[1, 2, 3], full=[False, True], count=[1, 2, 7])
async def documented_cycles(dut: Any, chunks: int, full: bool, count: int) -> None:
    """A row of pixels, silent or full, is loaded after the documented cycles."""
    p, values, bits = arch(), 4096, chunks * arch().chunk_bits
    steps = min(p.t_max, 4)
    content = bytearray(64) + bytearray(b"\xff" if full else b"\0") * (values - 64) + bytearray(values)
    dut.base.value = dut.input_offset.value = 0
    await start(dut, INPUTS)
    serve(dut, p, content, random.Random(0), False)
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    sweep = {"masks": 64, "mask_stride": bits // 8, "values": values, "slot_stride": bits * steps // 8, "height": 1,
             "width": count, "kernel_height": 1, "kernel_width": 1, "stride": 1, "identity": 1, "tap_chunks": chunks,
             "last_bytes": p.chunk_bits // 8}
    await describe(dut, {"passes": 1, "steps": steps, "operand_log2": steps.bit_length() - 1}, [pass_record(sweep)])
    counted, loaded = await load(dut, (0, 0), (0, count - 1), Counter())
    assert loaded == documented(p, chunks=chunks, count=count, lines=chunks * steps * full)
    assert full or counted == loaded
