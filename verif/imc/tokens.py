"""Random maps of tokens for the benches of what works on rows of a transformer."""

import random
from collections.abc import Iterator, Mapping
from typing import Any

from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import TOKEN_BITS, ImcArch
from golden.imc.token_reader import TokenMap
from hdl.imc.token_reader import token_map_layout
from verif.stream import word

# Tokens, channels: one of each; a full word; a word and one more.
CORNERS = ((1, 1), (3, 16), (2, 17), (5, 33))


def shapes(rng: random.Random, count: int) -> Iterator[tuple[int, int]]:
    """Yield corners, then random numbers of tokens and channels."""
    yield from CORNERS
    for _ in range(count):
        yield rng.randint(1, 6), rng.randint(1, 40)


def draw_maps(rng: random.Random, p: ImcArch, tokens: int, channels: int, count: int) -> list[TokenMap]:
    """Return so many maps that share nothing, each anywhere in one of both memories."""
    size = tokens * -(-channels // p.rows)
    drawn, free = list[TokenMap](), [0, 0]
    for _ in range(count):
        bank, bits, gap = rng.randrange(2), rng.choice((1, 8, TOKEN_BITS, rng.randint(1, TOKEN_BITS))), rng.randrange(4)
        base, signed = free[bank] + rng.randrange(4), bits == TOKEN_BITS or rng.random() < 0.5
        drawn.append(TokenMap(bank=bank, base=base, plane=size + gap, bits=bits, signed=signed))
        free[bank] = base + bits * (size + gap)
    assert max(free) <= p.map_words
    return drawn


def map_word(token_map: TokenMap) -> int:
    """Return the value of a block's port of a map."""
    return word(token_map_layout(), {"bank": token_map.bank, "base": token_map.base, "plane": token_map.plane,
                                     "bits": token_map.bits, "is_signed": int(token_map.signed)})


def draw_memories(rng: random.Random, p: ImcArch) -> list[list[int]]:
    """Return two memories full of anything, silent and full words among it."""
    full = (1 << p.rows) - 1
    return [[rng.choice((0, full, rng.getrandbits(p.rows), rng.getrandbits(p.rows))) for _ in range(p.map_words)]
            for _ in range(2)]


async def serve(dut: Any, memories: list[list[int]], rng: random.Random, rows: int) -> None:
    """Answer reads in the cycle after, anything when there was none."""
    while True:
        await FallingEdge(dut.clk)
        found = memories[int(dut.bank.value)][int(dut.address.value)] if dut.read.value else rng.getrandbits(rows)
        await RisingEdge(dut.clk)
        dut.word.value = found


async def pulse(dut: Any, name: str) -> None:
    """Raise an input for a cycle."""
    getattr(dut, name).value = 1
    await RisingEdge(dut.clk)
    getattr(dut, name).value = 0


def drive(dut: Any, values: Mapping[str, int]) -> None:
    """Drive inputs by name."""
    for name, value in values.items():
        getattr(dut, name).value = value
