"""Two memories with clients against a list: every word that is read, whoever wrote it, and no client out of its turn."""

import dataclasses
import random
from dataclasses import dataclass
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from hdl.bus.map_pair import MapPair
from verif.layers import start
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import word


@dataclass(frozen=True)
class Sizes:
    """Parameters of the block."""

    width: int = 12
    depth: int = 9
    clients: int = 3


SIZES = {"three clients": Sizes(), "one client": Sizes(width=40, depth=16, clients=1)}


@pytest.mark.parametrize("name", SIZES)
def test_map_pair(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    sizes = dataclasses.asdict(SIZES[name])
    simulate(MapPair(**sizes), __name__, parameters=sizes)


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("[self.user]", "[0]", id="always the first client"),
    pytest.param("(ask.write_bank == number)", "1", id="writes both"),
    pytest.param("with m.If(ask.read):", "with m.If(1):", id="forgets what it read"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Another client, another memory and a word that does not stay are caught."""
    sizes = dataclasses.asdict(Sizes())
    simulate(mutant(MapPair, old, new)(**sizes), __name__, parameters=sizes, expect_failure=True)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def is_a_memory(dut: Any) -> None:
    """Words that are read are those written last, and stay until the next read; asks of others change nothing."""
    p, rng = Sizes(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    layout = MapPair.client_layout(p.width, p.depth)
    await start(dut, ["user", "asks"])
    dut.rst.value = 0
    memory: dict[tuple[int, int], int] = {}
    shown: int | None = None
    for _ in range(600):
        user = rng.randrange(p.clients)
        asks = [{"read": rng.randrange(2), "read_bank": rng.randrange(2), "read_address": rng.randrange(p.depth),
                 "write": rng.randrange(2), "write_bank": rng.randrange(2), "write_address": rng.randrange(p.depth),
                 "data": rng.getrandbits(p.width)} for _ in range(p.clients)]
        ask = asks[user]
        if (ask["write_bank"], ask["write_address"]) == (ask["read_bank"], ask["read_address"]):
            ask["write"] = 0
        dut.user.value = user
        dut.asks.value = sum(word(layout, each) << n * layout.size for n, each in enumerate(asks))
        await FallingEdge(dut.clk)
        assert shown is None or int(dut.word.value) == shown
        if ask["read"]:
            shown = memory.get((ask["read_bank"], ask["read_address"]))
        if ask["write"]:
            memory[ask["write_bank"], ask["write_address"]] = ask["data"]
        await RisingEdge(dut.clk)
