"""Fiber writer against golden: compressed fibers of all lanes, as they lie in memory."""

import random
from dataclasses import replace
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
])
def test_mutants_are_caught(broken: tuple[str, str]) -> None:
    """A write for a lane without a pixel, and a fiber that never ends, are caught."""
    simulate(FiberWriter(P), __name__, replace=broken, expect_failure=True)


def expected_bytes(words: Any, present: list[bool], tile: int, log2: int) -> dict[int, int]:
    """Return {address: byte} of the fibers of the lanes that hold a pixel."""
    masks, slots = pack(np.array(words, np.int64).reshape(len(words), 1, P.lanes), log2)
    out: dict[int, int] = {}
    for lane, used in enumerate(used_bytes(masks, log2)):
        if present[lane]:
            pixel = tile * P.lanes + lane
            parts = ((MASKS + pixel * masks.shape[1], masks[lane]), (VALUES + pixel * slots.shape[1], slots[lane, :used]))
            out |= {BASE + at + n: int(byte) for at, part in parts for n, byte in enumerate(part)}
    return out


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """The bytes written equal golden's fibers, no more and no less, with and without stalls of the memory."""
    rng, layout = random.Random(cocotb.RANDOM_SEED), piece_layout(P)
    for name in ("layer", "base", "tile", "present", "put", "words"):
        getattr(dut, name).value = 0
    await reset(dut, ("o",))
    pauses = stalls(rng)
    for _ in range(40):
        steps = rng.randint(1, P.t_max)
        log2 = word_bits(steps).bit_length() - 1
        columns = rng.choice((1, 7, 31, 32, 33, 70))
        density = rng.choice((0.0, 0.02, 0.5, 1.0))
        words = [[rng.randrange(1, 1 << steps) if rng.random() < density else 0 for _ in range(P.lanes)]
                 for _ in range(columns)]
        present, tile = [rng.random() < 0.8 for _ in range(P.lanes)], rng.randint(0, 9)
        dut.layer.value = layer_word({
            "columns": columns, "word_log2": log2, "out_masks": MASKS, "out_mask_stride": -(-columns // 8),
            "out_values": VALUES, "out_slot_stride": -(-(columns << log2) // 8)})
        dut.base.value, dut.tile.value = BASE, tile
        dut.present.value = sum(1 << lane for lane, there in enumerate(present) if there)
        memory: dict[int, int] = {}
        sent = 0
        for _ in range(20_000):
            dut.o__ready.value = int(not (stall and next(pauses)))
            await FallingEdge(dut.clk)
            free = not dut.waiting.value
            dut.put.value = int(free and sent < columns)
            if free and sent < columns:
                dut.words.value = sum(word << (P.t_max * lane) for lane, word in enumerate(words[sent]))
                sent += 1
            elif free:
                break
            if dut.o__valid.value and dut.o__ready.value:
                piece = layout.from_bits(int(dut.o__payload.value))
                for n in range(piece.bytes):
                    assert piece.address + n not in memory
                    memory[piece.address + n] = piece.data >> 8 * n & 255
            await RisingEdge(dut.clk)
        dut.put.value = 0
        await RisingEdge(dut.clk)
        assert memory == expected_bytes(words, present, tile, log2), f"{columns=} {steps=} {density=} {present=}"
