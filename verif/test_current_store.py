"""Stored currents of a column against golden: what lies in memory, nothing else written, cycles."""

import dataclasses
import random
from typing import Any

import cocotb
import pytest
import torch
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import Arch
from golden.current_store import stored_currents
from golden.formats import CURRENT_BYTES
from hdl.current_store import CurrentStore, piece_count
from hdl.fiber_writer import piece_bytes, piece_layout
from verif.chunks import TINY, packed
from verif.layers import ARCHS, arch, layer_word, start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import cycle, stalls, watch

BASE, OFFSET = 0x40, 0x24
WIDE_PIECES = dataclasses.replace(TINY, chunk_bits=64, t_max=5, row_value_lines=48, buffer_bytes=16384)
BUILDS = ARCHS | {"pieces of two steps": WIDE_PIECES,
                  "one lane, one step": dataclasses.replace(TINY, lanes=1, chunk_bits=16, t_max=1, row_value_lines=160),
                  "pieces of eight": dataclasses.replace(TINY, chunk_bits=256, data_bits=256, row_value_lines=32, t_max=3,
                                                         weight_bytes=1024, fifo_depth=16, burst_beats=16,
                                                         buffer_bytes=65536)}


@pytest.mark.parametrize("name", BUILDS)
def test_current_store(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(CurrentStore(BUILDS[name]), __name__, parameters=dataclasses.asdict(BUILDS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("lane < self.settled) & here", "self.settled != 0) & here", id="lanes that are not final"),
    pytest.param("so_far.eq(total + sum", "so_far.eq((total & 255) + sum", id="low bits of earlier steps"),
    pytest.param("Mux(n < taken, one, 0)", "one", id="steps that the layer does not have"),
    pytest.param("& here & (layer.store_currents", "& (layer.store_currents", id="lanes without a pixel"),
    pytest.param("CURRENT_BYTES * Mux(layer.readout, 1, taken)", "CURRENT_BYTES * width", id="whole pieces always"),
    pytest.param("part.eq(0), total.eq(0)", "part.eq(0)", id="lanes are summed"),
    pytest.param("(lane < self.settled) & (~o.valid | o.ready))", "(lane < self.settled))",
                 id="does not wait"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Currents that leave too early, too many, not at all or unsummed are caught."""
    outcome = simulate(mutant(CurrentStore, old, new)(WIDE_PIECES), __name__, parameters=dataclasses.asdict(WIDE_PIECES),
                       expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


async def column(dut: Any, rng: random.Random, p: Arch, *, readout: bool, stall: float) -> tuple[int, int]:
    """Store a random column; return its cycles and those that are documented."""
    steps, columns, number, pixels = rng.randint(1, p.t_max), 3, rng.randrange(3), rng.randint(1, p.lanes)
    first = rng.randrange(5)
    currents = torch.randint(-1 << p.stream_bits - 5, 1 << p.stream_bits - 5, (p.lanes, p.t_max),
                             generator=torch.Generator().manual_seed(rng.getrandbits(32)))
    field = torch.zeros((steps, columns, 1, first + pixels), dtype=torch.int64)
    field[:, number, 0, first:] = currents[:pixels, :steps].T
    depth = 1 if readout else steps
    wanted = stored_currents(field, readout=readout)
    dut.layer.value = layer_word({"steps": steps, "store_currents": int(not readout), "readout": int(readout),
                                  "currents": OFFSET, "current_stride": columns * depth * CURRENT_BYTES})
    dut.base.value, dut.first_pixel.value, dut.column.value = BASE, first, number
    dut.present.value = (1 << pixels) - 1
    dut.sums.value = packed([int(v) for v in currents.flatten()], p.stream_bits)
    waits = [rng.choice((0, 0, 1, 3)) if stall else 0 for _ in range(p.lanes)]
    final, taken, pauses, begin = 0 if stall else p.lanes, {}, stalls(rng, stall), cycle()
    dut.go.value = 1
    while True:
        takes = not next(pauses)
        dut.settled.value, dut.o__ready.value = final, int(takes)
        await FallingEdge(dut.clk)
        if takes and dut.o__valid.value:
            piece = piece_layout(p).from_bits(int(dut.o__payload.value))
            content = int(piece.data).to_bytes(piece_bytes(p), "little")[: piece.bytes]
            lane = (int(piece.address) - BASE - OFFSET) // (columns * depth * CURRENT_BYTES) - first
            assert lane < final
            for place, byte in enumerate(content, int(piece.address) - BASE - OFFSET):
                assert place not in taken
                taken[place] = byte
        done = bool(dut.done.value)
        await RisingEdge(dut.clk)
        if done:
            break
        if final < p.lanes:
            waits[final] -= 1
            final += waits[final] < 0
    dut.go.value = 0
    places = [(first + n) * columns * depth * CURRENT_BYTES + number * depth * CURRENT_BYTES + k
              for n in range(pixels) for k in range(depth * CURRENT_BYTES)]
    assert taken == {place: wanted[place] for place in places}
    return cycle() - begin, pixels * piece_count(p, steps) + p.lanes - pixels


@cocotb.test(timeout_time=400, timeout_unit="us")
@cocotb.parametrize(readout=[False, True], stall=[0.0, 0.5])
async def matches_golden(dut: Any, readout: bool, stall: float) -> None:
    """Memory equals golden, every byte written once, no lane before it is final; without stalls in the documented cycles."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut, ["go", "o__ready", "settled"])
    dut.rst.value = 0
    cocotb.start_soon(watch(dut, "o"))
    for _ in range(20):
        took, documented = await column(dut, rng, p, readout=readout, stall=stall)
        assert took == documented or stall
