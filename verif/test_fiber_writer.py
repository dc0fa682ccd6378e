"""Fiber writer against golden: compressed fibers of all lanes, as they lie in memory."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise, repeat
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import PRESETS, Arch, word_bits
from golden.fiber import pack, used_bytes
from hdl.fiber_writer import FiberWriter, piece_layout
from verif.layers import layer_word
from verif.sim import simulate
from verif.stream import reset, stalls

P: Arch = replace(PRESETS["tiny"], t_max=4, lanes=4)
BASE, MASKS, VALUES = 0x1000, 64, 2048


def test_fiber_writer() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(FiberWriter(P), __name__)


@pytest.mark.parametrize("broken", [
    pytest.param((r"wanted = ", "wanted = 1'h1 | "), id="absent lane written"),
    pytest.param((r"\.close\(.*?\)", ".close(1'h0)"), id="fiber never ends"),
    pytest.param((r"\.load_bits\(.*?\)", ".load_bits(3'h0)"), id="byte begun is forgotten"),
    pytest.param((r"\.w_addr\(tile.*?\)", ".w_addr(3'h0)"), id="all tiles end at one place"),
])
def test_mutants_are_caught(broken: tuple[str, str]) -> None:
    """A write for a lane without a pixel, and a fiber that never ends, are caught."""
    simulate(FiberWriter(P), __name__, replace=broken, expect_failure=True)


@dataclass
class Part:
    """Some channels of a tile's fibers, and the bytes that writing them must leave.

    words : per channel, per lane; resume : they continue the part before
    """

    tile: int
    words: list[list[int]]
    present: list[bool]
    log2: int
    first: int
    of: int
    resume: bool


def parts(rng: random.Random) -> list[Part]:
    """Return the parts of the tiles of one layer: all first parts, then all second parts."""
    steps = rng.randint(1, P.t_max)
    log2 = word_bits(steps).bit_length() - 1
    columns, density = rng.choice((1, 7, 31, 32, 33, 70)), rng.choice((0.0, 0.02, 0.5, 1.0))
    cuts = [0, *sorted(rng.sample(range(8, columns, 8), min(len(range(8, columns, 8)), rng.randint(0, 2)))), columns]
    tiles = rng.sample(range(P.resume_tiles), 3)
    present = {tile: [rng.random() < 0.8 for _ in range(P.lanes)] for tile in tiles}
    return [Part(tile, [[rng.randrange(1, 1 << steps) if rng.random() < density else 0 for _ in range(P.lanes)]
                        for _ in range(start, stop)], present[tile], log2, start, columns, start > 0)
            for start, stop in pairwise(cuts) for tile in tiles]


def expected_bytes(layer: list[Part]) -> dict[int, int]:
    """Return {address: byte} of all fibers of the lanes that hold a pixel."""
    out: dict[int, int] = {}
    for tile in {part.tile for part in layer}:
        mine = [part for part in layer if part.tile == tile]
        words = [column for part in mine for column in part.words]
        masks, slots = pack(np.array(words, np.int64).reshape(len(words), 1, P.lanes), mine[0].log2)
        for lane, used in enumerate(used_bytes(masks, mine[0].log2)):
            if mine[0].present[lane]:
                pixel = tile * P.lanes + lane
                places = ((MASKS + pixel * masks.shape[1], masks[lane]),
                          (VALUES + pixel * slots.shape[1], slots[lane, :used]))
                out |= {BASE + at + n: int(byte) for at, content in places for n, byte in enumerate(content)}
    return out


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """The bytes written equal golden's fibers, whole or in parts, no more and no less, with and without stalls."""
    rng = random.Random(cocotb.RANDOM_SEED)
    for name in ("layer", "base", "tile", "first_pixel", "present", "put", "words"):
        getattr(dut, name).value = 0
    await reset(dut, ("o",))
    pauses = stalls(rng) if stall else repeat(False)
    for _ in range(25):
        layer = parts(rng)
        memory: dict[int, int] = {}
        for part in layer:
            await write(dut, part, memory, pauses)
        assert memory == expected_bytes(layer), layer


async def write(dut: Any, part: Part, memory: dict[int, int], pauses: Iterator[bool]) -> None:
    """Send one part and collect its bytes; only the byte begun by the part before is written again."""
    layout, columns = piece_layout(P), len(part.words)
    dut.layer.value = layer_word({
        "columns": columns, "word_log2": part.log2, "resume": int(part.resume),
        "out_masks": MASKS + part.first // 8, "out_mask_stride": -(-part.of // 8),
        "out_values": VALUES, "out_slot_stride": -(-(part.of << part.log2) // 8)})
    dut.base.value, dut.tile.value, dut.first_pixel.value = BASE, part.tile, part.tile * P.lanes
    dut.present.value = sum(1 << lane for lane, there in enumerate(part.present) if there)
    for _ in range(2):
        await RisingEdge(dut.clk)
    sent, written, again = 0, set[int](), 0
    for _ in range(20_000):
        dut.o__ready.value = int(not next(pauses))
        await FallingEdge(dut.clk)
        free = not dut.waiting.value
        dut.put.value = int(free and sent < columns)
        if free and sent < columns:
            dut.words.value = sum(word << (P.t_max * lane) for lane, word in enumerate(part.words[sent]))
            sent += 1
        elif free:
            break
        if dut.o__valid.value and dut.o__ready.value:
            piece = layout.from_bits(int(dut.o__payload.value))
            for n in range(piece.bytes):
                place = piece.address + n
                assert place not in written
                again += place in memory
                written.add(place)
                memory[place] = piece.data >> 8 * n & 255
        await RisingEdge(dut.clk)
    dut.put.value = 0
    await RisingEdge(dut.clk)
    assert again <= P.lanes * part.resume
