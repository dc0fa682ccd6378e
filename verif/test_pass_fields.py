"""Pass fields against their golden twin."""

import random
from collections.abc import Sequence
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.formats import MAX_PASSES, PLANE_WORD, RECORD_BYTES
from golden.pass_fields import pass_fields
from hdl.descriptor import PASS_LAYOUT
from hdl.pass_fields import PassFields
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import reset

LATENCY = 1
WORDS = RECORD_BYTES // 4
MUTANTS = {
    "the layer is a pass too": ("passes.w_en.eq(bus.valid & (bus.record != 0)", "passes.w_en.eq(bus.valid"),
    "passes one off": ("passes.w_addr.eq(bus.record - 1)", "passes.w_addr.eq(bus.record)"),
    "kept too early": ("(bus.word == PLANE_WORD)", "(bus.word == PLANE_WORD - 10)"),
    "quiet bus is heard": ("with m.If(bus.valid & (bus.record != 0))", "with m.If(bus.record != 0)"),
    "always read": ("passes.r_en.eq(self.load)", "passes.r_en.eq(1)"),
}


def test_pass_fields() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(PassFields(), __name__)


@pytest.mark.parametrize("wrong", MUTANTS)
def test_mutant_is_caught(wrong: str) -> None:
    """Records mixed up, words of a quiet bus, and a number that is followed without ``load`` are caught."""
    assert simulate(mutant(PassFields, *MUTANTS[wrong])(), __name__, expect_failure=True).failed


async def show(dut: Any, rng: random.Random, words: Sequence[tuple[int, int, int]], density: float) -> None:
    """Show words on the descriptor bus, with other values on it while it is not valid."""
    for record, word, data in words:
        while rng.random() < density:
            drive(dut, 0, rng.randrange(MAX_PASSES + 1), rng.randrange(WORDS), rng.getrandbits(32))
            await RisingEdge(dut.clk)
        drive(dut, 1, record, word, data)
        await RisingEdge(dut.clk)
    drive(dut, 0, 1, 0, rng.getrandbits(32))


def drive(dut: Any, valid: int, record: int, word: int, data: int) -> None:
    """Set the signals of the descriptor bus."""
    dut.descriptor__valid.value, dut.descriptor__record.value = valid, record
    dut.descriptor__word.value, dut.descriptor__data.value = word, data


async def read(dut: Any, number: int) -> dict[str, int]:
    """Read the fields of a pass."""
    dut.load.value, dut.number.value = 1, number
    for _ in range(LATENCY):
        await RisingEdge(dut.clk)
        dut.load.value = 0
    await FallingEdge(dut.clk)
    fields = PASS_LAYOUT.from_bits(int(dut.fields.value))
    await RisingEdge(dut.clk)
    return {name: int(getattr(fields, name)) for name, _ in PASS_LAYOUT}


def record_words(rng: random.Random, passes: int) -> list[tuple[int, int, int]]:
    """Return the words of a layer and its passes, as the sequencer shows them."""
    return [(record, word, rng.choice((0, (1 << 32) - 1, rng.getrandbits(32))))
            for record in range(passes + 1) for word in range(WORDS)]


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(density=[0.0, 0.4])
async def matches_golden(dut: Any, density: float) -> None:
    """Fields of every pass of every layer equal golden, in any order; passes of the layer before stay behind them."""
    rng, shown = random.Random(cocotb.RANDOM_SEED), []
    dut.load.value, dut.number.value = 0, 0
    drive(dut, 0, 0, 0, 0)
    await reset(dut, ())
    for passes in (MAX_PASSES, 1, 3, 0, 2):
        words = record_words(rng, passes)
        shown += words
        await show(dut, rng, words, density)
        known = pass_fields(shown)
        assert set(known) == set(range(MAX_PASSES))
        for number in rng.sample(range(MAX_PASSES), MAX_PASSES):
            assert await read(dut, number) == known[number], f"pass {number} after a layer of {passes}"


@cocotb.test(timeout_time=200, timeout_unit="us")
async def holds_what_was_read(dut: Any) -> None:
    """Fields stay while nothing is loaded, whatever number is asked and whatever the bus shows."""
    rng = random.Random(cocotb.RANDOM_SEED)
    dut.load.value, dut.number.value = 0, 0
    drive(dut, 0, 0, 0, 0)
    await reset(dut, ())
    words = record_words(rng, 4)
    await show(dut, rng, words, 0.0)
    known, wanted = pass_fields(words), rng.randrange(4)
    assert await read(dut, wanted) == known[wanted]
    kept = int(dut.fields.value)
    other = cocotb.start_soon(show(dut, rng, record_words(rng, 4), 0.0))
    for _ in range(4 * WORDS):
        dut.number.value = rng.randrange(4)
        await FallingEdge(dut.clk)
        assert int(dut.fields.value) == kept
        await RisingEdge(dut.clk)
    await other


@cocotb.test(timeout_time=200, timeout_unit="us")
async def a_pass_is_known_from_its_plane_word_on(dut: Any) -> None:
    """A record that ends before its first plane changes nothing; with that word it is there."""
    rng = random.Random(cocotb.RANDOM_SEED)
    dut.load.value, dut.number.value = 0, 0
    drive(dut, 0, 0, 0, 0)
    await reset(dut, ())
    shown = record_words(rng, 1)
    await show(dut, rng, shown, 0.0)
    short = [(1, word, rng.getrandbits(32)) for word in range(PLANE_WORD + 1)]
    await show(dut, rng, short[:-1], 0.0)
    assert await read(dut, 0) == pass_fields(shown + short[:-1])[0] == pass_fields(shown)[0]
    await show(dut, rng, short[-1:], 0.0)
    assert await read(dut, 0) == pass_fields(shown + short)[0] != pass_fields(shown)[0]
