"""Row blocks of random layers against golden: taps in place, planes, groups, padding, reads, stalls, cycles."""

import dataclasses
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import ImcArch
from golden.imc.gather import RowBlock, gather
from golden.imc.mapping import map_layer, vectors
from golden.imc.vector_walk import Vector, vector_walk
from golden.network import Layer, Pass, number_planes
from hdl.imc.activation import pack, split
from hdl.imc.gather import Gather
from verif.imc.layers import CORES, TINY, arch, corners, draw_layer, layer_word, vector_word
from verif.layers import start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import NEVER, cycle, get, put, stalls, watch, word

ARCHS = {"one tile": TINY, "long rows": dataclasses.replace(CORES["one tree of four"], rows=64, group_rows=16, input_bits=8),
         "twelve rows": dataclasses.replace(TINY, rows=12, group_rows=4),
         "heads share words": dataclasses.replace(TINY, tokens=4)}
# Cycles of a block beyond those of its words, and of the first one of a vector.
BESIDE, FIRST = 2, 3


@pytest.mark.parametrize("name", ARCHS)
def test_gather(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Gather(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("(column >= 0) & ", "", id="padding is read"),
    pytest.param("m.d.sync += bits.eq(0)", "m.d.sync += bits.eq(bits)", id="inputs of the block before"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Words outside of the map and inputs that stay are caught."""
    simulate(mutant(Gather, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True)


@pytest.mark.parametrize("name", ARCHS)
def test_golden_is_the_mapping(name: str, seed: int) -> None:
    """The blocks of all vectors of a number's map equal those that the mapping of a layer says."""
    rng, p = random.Random(seed), ARCHS[name]
    for channels in (1, 2, 3, 7, 12, 15, 16, 17, 37) * 3:
        layer = draw_layer(rng, p, most=60, pool=1, time_inner=0, steps=1, first_step=0, per_step=0, in_channels=channels,
                               in_shift=0, in_span=0)
        shape = (channels, layer["in_height"], layer["in_width"])
        x = np.random.default_rng(rng.getrandbits(32)).integers(0, 1 << layer["bits"], shape)
        weight = np.ones((1, channels, layer["kernel_height"], layer["kernel_width"]), np.int8)
        mapped = map_layer(p, "diff", Layer(name="one", bias=np.zeros(1, np.int64), readout=True, passes=(Pass(
            source="input.0", weight=weight, stride=layer["stride"], padding=layer["padding"],
            planes=number_planes(layer["bits"], False, (0,))),)), 1)
        memory = [0] * layer["in_base"] + whole(pack(split(x, layer["bits"]), p.rows))
        got = [[block.x for block in gather(layer, vector, memory, rows=p.rows)] for vector in vector_walk(layer)]
        assert np.array_equal(np.array(got), vectors(mapped, x)), layer


def whole(lines: Any) -> list[int]:
    """Return words of 32-bit parts as integers."""
    return [sum(int(part) << 32 * n for n, part in enumerate(line)) for line in lines]


def draw_memory(rng: random.Random, p: ImcArch, layer: dict[str, int]) -> list[int]:
    """Return words of which no bit beyond the channels of a word is set."""
    bits = p.rows if p.tokens else p.rows // layer["chunks"]
    return [rng.choice((0, (1 << bits) - 1, rng.getrandbits(bits))) for _ in range(p.map_words)]


async def serve(dut: Any, memory: list[int], rng: random.Random, rows: int, reads: list[int]) -> None:
    """Answer reads in the cycle after, anything when there was none; collect the addresses."""
    while True:
        await FallingEdge(dut.clk)
        asked = int(dut.address.value) if dut.read.value else None
        await RisingEdge(dut.clk)
        dut.word.value = rng.getrandbits(rows) if asked is None else memory[asked]
        if asked is not None:
            reads.append(asked)


async def run(dut: Any, p: ImcArch, rng: random.Random, layer: dict[str, int], stall: float) -> None:
    """Compare all blocks and reads of some vectors of a layer."""
    memory, reads = draw_memory(rng, p, layer), list[int]()
    dut.layer.value = layer_word(layer)
    server = cocotb.start_soon(serve(dut, memory, rng, p.rows, reads))
    every = [*vector_walk(layer)]
    chosen: list[Vector] = [every[n] for n in sorted({0, len(every) - 1, *rng.sample(range(len(every)), min(6, len(every)))})]
    blocks: list[list[RowBlock]] = [[*gather(layer, vector, memory, rows=p.rows)] for vector in chosen]
    flat, at = [block for some in blocks for block in some], list[int]()
    began = cycle()
    sender = cocotb.start_soon(put(dut, "i", [vector_word(p, v) for v in chosen], stalls(rng, stall) if stall else NEVER))
    got = await get(dut, "o", len(flat), stalls(rng, stall), at)
    taken = await sender
    layout = Gather.block_layout(p)
    assert got == [word(layout, {"x": dict(enumerate(b.x)), "last": b.last}) for b in flat], layer
    assert reads == [address for block in flat for address in block.addresses if address is not None]
    if not stall:
        cycles = [len(b.addresses) + (FIRST if b is some[0] else BESIDE) for some in blocks for b in some]
        assert [after - before for before, after in zip([began - 1, *at], at, strict=False)] == cycles, layer
        assert taken == [moment for moment, block in zip(at, flat, strict=True) if block.last]
    server.cancel()


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def matches_golden(dut: Any, stall: float) -> None:
    """Blocks and reads of corner and random layers equal golden; without stalls they come in the documented cycles."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await start(dut, ["i__valid", "layer", "o__ready", "word"])
    dut.rst.value = 0
    for name in ("i", "o"):
        cocotb.start_soon(watch(dut, name))
    for layer in corners(rng, p, 10):
        await run(dut, p, rng, layer, stall)
