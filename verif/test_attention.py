"""Attention of one head against its golden twin, and the golden twin against plain arithmetic."""

import dataclasses
import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge
from numpy.typing import NDArray

from golden.arch import Arch
from golden.attention import attention, attention_cycles
from golden.fiber import pack
from golden.network import Attention as Parameters
from golden.run import unpack
from hdl.attention import Attention
from verif.heads import ARCHS, HEADS, most_steps, random_words
from verif.layers import arch, layer_word, start
from verif.memory import ReadMemory
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import cycle, get, idle, stalls, watch

BASE, MEMORY_BYTES = 0x40, 1 << 16


@pytest.mark.parametrize("name", ARCHS)
def test_attention(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Attention(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("(chosen[n] & (count < layer.saturation))", "chosen[n]", id="products wrap"),
    pytest.param("same.eq(added & event & of_keys & (address == before))", "same.eq(0)", id="a row twice in a row"),
    pytest.param("m.d.sync += [value.eq(0) for value in values]", "m.d.sync += gone.eq(0)", id="values of the token before"),
    pytest.param("products.w_data.eq(Mux(clearing, 0, new))", "products.w_data.eq(Mux(clearing, 1, new))", id="not cleared"),
    pytest.param("with m.If(in_chunk + 1 == layer.chunk_steps)", "with m.If(in_chunk + 1 == layer.steps)", id="one chunk"),
    pytest.param("[token.eq(first), block.eq(block + 1)]", "[token.eq(after), block.eq(block + 1)]",
                 id="queries of another tile"),
    pytest.param("(o.p.channel == n)", "(o.p.channel == n ^ 1)", id="values of the neighbour"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Lost saturation, old products, wrong chunks, tiles and channels are caught."""
    outcome = simulate(mutant(Attention, old, new)(HEADS), __name__, parameters=dataclasses.asdict(HEADS),
                       test_filter="matches_golden", expect_failure=True)
    assert outcome.failed


def test_slow_one_is_caught() -> None:
    """Two cycles for every word of a value are caught, by the cycles alone."""
    slow = mutant(Attention, "m.d.comb += o.ready.eq(1)",
                  "m.d.comb += o.ready.eq(in_chunk[0]); m.d.sync += in_chunk.eq(in_chunk + 1)")
    outcome = simulate(slow(HEADS), __name__, parameters=dataclasses.asdict(HEADS), expect_failure=True, all_tests=True)
    assert all("documented_cycles" in name for name in outcome.failed), outcome.failed


def test_plain_arithmetic(kind: Any) -> None:
    """Sums equal those of Q (K^T V) without saturation, clipped at the end, and those of (Q K^T) V."""
    generator = np.random.default_rng(0)
    for steps, chunk_steps, heads, width, height in ((4, 2, 2, 3, 2), (6, 3, 1, 4, 1), (5, 1, 3, 2, 2), (4, 4, 1, 1, 1)):
        shape, saturation = (steps, heads * 8, height, width), int(generator.integers(1, 40))
        q, k, v = (generator.integers(0, 2, shape) for _ in range(3))
        got, additions = attention(kind.asarray(q), kind.asarray(k), kind.asarray(v), Parameters(
            query="q", key="k", value="v", heads=heads, chunk_steps=chunk_steps, saturation=saturation))
        wanted = np.zeros(shape, np.int64)
        for t in range(steps):
            chunk = slice(t // chunk_steps * chunk_steps, (t // chunk_steps + 1) * chunk_steps)
            for head in range(heads):
                part = slice(head * 8, head * 8 + 8)
                scores = np.einsum("dn,rdm->rnm", q[t, part].reshape(8, -1), k[chunk, part].reshape(chunk_steps, 8, -1))
                sums = np.einsum("rnm,rem->en", scores, v[chunk, part].reshape(chunk_steps, 8, -1))
                wanted[t, part] = np.minimum(sums, saturation).reshape(8, height, width)
        assert np.array_equal(np.asarray(got), wanted)
        assert additions == 8 * (q.sum() + k.sum())


class Head:
    """A head in memory: words of query, key and value [channels, tokens], and the layer's descriptor.

    dense : steps of a chunk of a head with all spikes; 0: a random head
    alone : but those of all channels of the query but the first, and S is the largest
    """

    def __init__(self, p: Arch, rng: random.Random, content: bytearray, *, dense: int = 0, alone: bool = False) -> None:
        generator = np.random.default_rng(rng.getrandbits(32))
        head = 8 * rng.randint(1, 2) if not dense else p.data_bits // 4
        self.chunk_steps = dense or rng.choice((1, 2, 3, 5))
        most = most_steps(p, head, self.chunk_steps)
        self.steps = most // self.chunk_steps * self.chunk_steps or 1
        self.chunk_steps = min(self.chunk_steps, self.steps)
        height, width = (3, 64 // p.t_max ** 2 + 5) if dense else (rng.randint(1, 3), rng.randint(1, 5))
        before = 8 * rng.randint(0, 3) * (not dense)
        self.saturation = (1 << p.attention_bits) - 1 if alone else rng.choice((1, 5, (1 << p.attention_bits) - 1, 8))
        shape, log2 = (before + head + 8 * rng.randint(0, 1) * (not dense), height * width), (self.steps - 1).bit_length()
        self.words, masks_at, at = [], [], 0
        for number in range(3):
            words = np.full(shape, (1 << self.steps) - 1) if dense else random_words(generator, shape, self.steps)
            words[1 if alone and not number else len(words) :] = 0
            masks, slots = pack(words[:, None, :], log2)
            to_words = -(-masks.size // 64) * 64
            for place, part in ((at, masks), (at + to_words, slots)):
                content[BASE + place : BASE + place + part.size] = part.tobytes()
            masks_at.append(at)
            at += to_words + -(-slots.size // 64) * 64
            self.words.append(words[before : before + head])
        self.size, self.tokens, self.blocks = head, height * width, -(-head // p.attention_columns)
        self.layer = layer_word({
            "attention": 1, "steps": self.steps, "chunk_steps": self.chunk_steps, "columns": head, "head_start": before,
            "head_blocks": self.blocks, "saturation": self.saturation, "query_masks": masks_at[0], "key_masks": masks_at[1],
            "value_masks": masks_at[2], "to_words": to_words, "operand_log2": log2, "out_height": height,
            "out_width": width, "out_mask_stride": masks.shape[1], "out_slot_stride": slots.shape[1]})

    def sums(self) -> tuple[NDArray[np.int64], int]:
        """Return the sums [T, channels, tokens] and the additions."""
        q, k, v = (unpack(words[:, None, :], self.steps) for words in self.words)
        sums, additions = attention(q, k, v, Parameters(
            query="q", key="k", value="v", heads=1, chunk_steps=self.chunk_steps, saturation=self.saturation))
        return sums[:, :, 0, :], additions

    def columns(self, p: Arch) -> list[int]:
        """Return the payloads of ``o``: tile after tile, column after column."""
        sums, _ = self.sums()
        return [sum(int(sums[t, column, token]) << ((token - tile) * p.t_max + t) * p.acc_bits
                    for token in range(tile, min(tile + p.lanes, self.tokens)) for t in range(self.steps))
                for tile in range(0, self.tokens, p.lanes) for column in range(self.size)]


async def begin(dut: Any, p: Arch, rng: random.Random, density: float, content: bytearray) -> None:
    """Reset with memory behind both ports."""
    await start(dut, ["layer", "layer_start", "o__ready"])
    for kind in ("mask", "value"):
        ReadMemory(dut, content, beat=p.data_bits // 8, address_bits=p.address_bits, burst_beats=p.burst_beats,
                   pauses=stalls(rng, density), ar=f"{kind}_ar", r=f"{kind}_r",
                   latency=lambda: rng.choice((1, 4, 20)) if density else 1).start()
    dut.base.value = BASE
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    cocotb.start_soon(watch(dut, "o"))


async def additions(dut: Any, seen: list[tuple[int, int]]) -> None:
    """Note (cycle, additions) for ever."""
    while True:
        await FallingEdge(dut.clk)
        if dut.match_count.value:
            seen.append((cycle(), int(dut.match_count.value)))


async def launch(dut: Any, layer: int) -> int:
    """Start a layer and return the cycle in which it starts."""
    dut.layer.value, dut.layer_start.value = layer, 1
    await RisingEdge(dut.clk)
    dut.layer_start.value = 0
    return cycle() - 1


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Columns of random heads, and the number of additions, equal golden's; a layer without attention does nothing."""
    p, rng, content = arch(), random.Random(cocotb.RANDOM_SEED), bytearray(MEMORY_BYTES)
    await begin(dut, p, rng, 0.4 if stall else 0.0, content)
    seen: list[tuple[int, int]] = []
    cocotb.start_soon(additions(dut, seen))
    for number in range(7):
        head = Head(p, rng, content, dense=(p.t_max, p.t_max, 1, *[0] * 4)[number], alone=number in (1, 2))
        await launch(dut, head.layer)
        wanted = head.columns(p)
        got = await get(dut, "o", len(wanted), stalls(rng, 0.5 if stall else 0.0))
        used = sum(((1 << head.steps * p.acc_bits) - 1) << lane * p.t_max * p.acc_bits for lane in range(p.lanes))
        assert [bits & used for bits in got] == wanted
        assert sum(count for _, count in seen) == head.sums()[1]
        seen.clear()
        await launch(dut, layer_word({"steps": 1}))
        await idle(dut, "o", 30)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def documented_cycles(dut: Any) -> None:
    """The last addition of full heads, whose words fill beats of memory, comes after the documented cycles."""
    p, content = arch(), bytearray(MEMORY_BYTES)
    await begin(dut, p, random.Random(0), 0.0, content)
    seen: list[tuple[int, int]] = []
    cocotb.start_soon(additions(dut, seen))
    for seed in range(2):
        head = Head(p, random.Random(seed), content, dense=p.t_max)
        began = await launch(dut, head.layer)
        await get(dut, "o", len(head.columns(p)))
        query, key, value = head.words
        wanted = attention_cycles(query, key, value, steps=head.steps, chunk_steps=head.chunk_steps,
                                  columns=p.attention_columns, lanes=p.lanes)
        assert seen[-1][0] - began == wanted
