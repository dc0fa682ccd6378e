"""OR-pool against its golden twin."""

import itertools
import random
from typing import Any

import cocotb
import pytest
import torch
from torch import Tensor

from golden.network import Pool
from golden.or_pool import or_pool
from hdl.or_pool import OrPool
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, get, idle, put, reset, stalls, word

SIZES = ((1, 1), (5, 4), (48, 16), (512, 8))
POOLS = (Pool(kernel=2, stride=2), Pool(kernel=3, stride=2, padding=1), Pool(kernel=1, stride=1),
         Pool(kernel=2, stride=1))


@pytest.mark.parametrize(("channels", "t_max"), SIZES)
def test_or_pool(channels: int, t_max: int) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(OrPool(channels, t_max), __name__, parameters={"channels": channels, "t_max": t_max})


@pytest.mark.parametrize("broken", [
    pytest.param((r"clash = .*;", "clash = 1'h0;"), id="read before write"),
    pytest.param((r"w_data = (.*) \| ", r"w_data = \1 & "), id="and"),
])
def test_mutants_are_caught(broken: tuple[str, str]) -> None:
    """A member that overtakes the write of its predecessor and an AND in place of the OR are caught."""
    outcome = simulate(OrPool(5, 4), __name__, parameters={"channels": 5, "t_max": 4}, replace=broken,
                       expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed)


def members(words: Tensor, pool: Pool, rng: random.Random) -> list[dict[str, int]]:
    """Return the fields of ``i`` for all windows of ``words`` [C, H, W]; padding is sent as silent or left out."""
    _, height, width = words.shape
    out = []
    rows, columns = ((size + 2 * pool.padding - pool.kernel) // pool.stride + 1 for size in (height, width))
    for y, x in itertools.product(range(rows), range(columns)):
        window = []
        for dy, dx in itertools.product(range(pool.kernel), repeat=2):
            at_y, at_x = y * pool.stride - pool.padding + dy, x * pool.stride - pool.padding + dx
            if 0 <= at_y < height and 0 <= at_x < width:
                window.append(words[:, at_y, at_x].tolist())
            elif rng.random() < 0.5:
                window.append([0] * len(words))
        for place, member in enumerate(window):
            out += [{"word": value, "channel": channel, "first": place == 0, "last": place == len(window) - 1}
                    for channel, value in enumerate(member)]
    return out


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Pooled words equal golden for every window shape, word density and number of channels."""
    p, rng = parameters_of_bench(), random.Random(cocotb.RANDOM_SEED)
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    await reset(dut)
    i_layout, o_layout = OrPool.i_layout(p["t_max"]), OrPool.o_layout(p["t_max"])
    for pool, channels in itertools.product(POOLS, {1, min(2, p["channels"]), min(p["channels"], 48)}):
        density = rng.choice((0.0, 0.02, 0.1, 0.5, 1.0))
        ones = (torch.rand(channels, 3, 5, p["t_max"], generator=generator) < density).to(torch.int64)
        words = (ones << torch.arange(p["t_max"])).sum(-1)
        wanted = or_pool(words, pool)
        sent = [word(i_layout, fields) for fields in members(words, pool, rng)]
        cocotb.start_soon(put(dut, "i", sent, stalls(rng) if stall else NEVER))
        got = [o_layout.from_bits(bits) for bits in
               await get(dut, "o", wanted.numel(), stalls(rng) if stall else NEVER)]
        order = wanted.permute(1, 2, 0).flatten().tolist()
        assert [out.word for out in got] == order
        assert [out.channel for out in got] == list(range(channels)) * (wanted.numel() // channels)
        await idle(dut, "o", 4)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def last_channel_works(dut: Any) -> None:
    """The last word of the RAM keeps its own sum apart from channel 0."""
    p = parameters_of_bench()
    await reset(dut)
    last, layout = p["channels"] - 1, OrPool.i_layout(p["t_max"])
    sent = [word(layout, {"word": value, "channel": channel, "first": place == 0, "last": place == 1})
            for place in range(2) for channel, value in ((0, 0), (last, place))]
    cocotb.start_soon(put(dut, "i", sent))
    got = [OrPool.o_layout(p["t_max"]).from_bits(bits) for bits in await get(dut, "o", 2)]
    assert [(out.channel, out.word) for out in got] == [(0, 0), (last, 1)]


@cocotb.test(timeout_time=100, timeout_unit="us")
async def takes_the_documented_cycles(dut: Any) -> None:
    """Words leave 2 cycles after they come; one a cycle, but the same channel every second cycle."""
    p = parameters_of_bench()
    await reset(dut)
    layout = OrPool.i_layout(p["t_max"])
    for channels in {1, p["channels"]}:
        left: list[int] = []
        words = [word(layout, {"word": 1, "channel": index % channels, "first": 1, "last": 1}) for index in range(8)]
        sender = cocotb.start_soon(put(dut, "i", words))
        await get(dut, "o", len(words), at=left)
        taken = await sender
        assert [out - into for into, out in zip(taken, left, strict=True)] == [2] * len(words)
        spacing = 2 if channels == 1 else 1
        assert [after - before for before, after in itertools.pairwise(taken)] == [spacing] * (len(words) - 1)
