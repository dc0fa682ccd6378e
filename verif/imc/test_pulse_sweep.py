"""Sweep of programming pulses: hand-made sweeps, all six orders, random ones on the RTL, no step beyond a stop."""

import dataclasses
import random
from itertools import islice
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import ParameterError
from golden.imc.arch import BIT_BITS, MANTISSA_BITS, ORDERS, WORD_BITS
from golden.imc.pulse_sweep import Pulses, Sweep, pulse_sweep
from hdl.imc.pulse_sweep import PulseSweep, pulses_layout
from verif.layers import start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import word

SMALL = Pulses(width=Sweep(start=1, stop=2), exponent=3, word=Sweep(start=5, stop=9, step=3), bit=Sweep(start=30, stop=31))


def test_pulse_sweep() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(PulseSweep(), __name__)


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("Mux(after > sweep.stop, sweep.stop, after)", "after", id="wraps"),
    pytest.param("again[inner].eq(1), again[middle].eq(1)", "again[inner].eq(1)", id="middle loop stays at its stop"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """A sweep that goes beyond its stop, or does not start again, is caught."""
    simulate(mutant(PulseSweep, old, new)(), __name__, expect_failure=True)


@pytest.mark.parametrize(("order", "wanted"), [
    ("PWB", ["8 5 30", "8 5 31", "8 8 30", "8 8 31", "8 9 30", "8 9 31", "16 5 30"]),
    ("PBW", ["8 5 30", "8 8 30", "8 9 30", "8 5 31", "8 8 31", "8 9 31", "16 5 30"]),
    ("WPB", ["8 5 30", "8 5 31", "16 5 30", "16 5 31", "8 8 30", "8 8 31", "16 8 30"]),
    ("WBP", ["8 5 30", "16 5 30", "8 5 31", "16 5 31", "8 8 30", "16 8 30", "8 8 31"]),
    ("BPW", ["8 5 30", "8 8 30", "8 9 30", "16 5 30", "16 8 30", "16 9 30", "8 5 31"]),
    ("BWP", ["8 5 30", "16 5 30", "8 8 30", "16 8 30", "8 9 30", "16 9 30", "8 5 31"]),
])
def test_orders(order: str, wanted: list[str]) -> None:
    """The last letter steps with every pulse; after all twelve combinations the last one stays."""
    pulses = list(islice(pulse_sweep(SMALL, ORDERS.index(order)), 30))
    assert [" ".join(map(str, pulse)) for pulse in pulses[:7]] == wanted
    assert len({*pulses[:12]}) == 12 and {*pulses[11:]} == {(16, 9, 31)}


@pytest.mark.parametrize(("settings", "message"), [
    ({"width": Sweep(start=1, stop=32)}, "width: start and stop must be in 0..31 and in order, not (1, 32)"),
    ({"bit": Sweep(start=3, stop=2)}, "bit: start and stop must be in 0..31 and in order, not (3, 2)"),
    ({"word": Sweep(start=0, stop=255, step=0)}, "word: step must be in 1..255, not 0"),
    ({"exponent": 8}, "exponent must be in 0..7, not 8"),
    ({"count": 64}, "count must be in 0..63, not 64"),
])
def test_refusals(settings: dict[str, Any], message: str) -> None:
    """Sweeps that the settings cannot hold, or that go down, are refused in one line."""
    with pytest.raises(ParameterError) as error:
        Pulses(**settings)
    assert str(error.value) == message


def draw(rng: random.Random) -> Pulses:
    """Return a sweep: long or short, steps that meet the stop or pass it, some of them past the end of the code."""
    def sweep(bits: int) -> Sweep:
        top = (1 << bits) - 1
        first, last = sorted(rng.choice((0, top, top - 1, rng.randint(0, top))) for _ in range(2))
        return Sweep(start=first, stop=last, step=rng.choice((1, top, rng.randint(1, top), max(1, last - first))))

    return Pulses(width=sweep(MANTISSA_BITS), exponent=rng.randrange(8), word=sweep(WORD_BITS), bit=sweep(BIT_BITS))


@cocotb.test(timeout_time=400, timeout_unit="us")
@cocotb.parametrize(order=range(len(ORDERS)))
async def matches_golden(dut: Any, order: int) -> None:
    """Every pulse equals golden's, the cycle after it is asked for, and stands until the next one is."""
    rng = random.Random(cocotb.RANDOM_SEED + order)
    await start(dut, ["pulses", "order", "start", "step"])
    dut.rst.value = 0
    for number in range(40):
        pulses = SMALL if number == 0 else draw(rng)
        dut.pulses.value, dut.order.value = word(pulses_layout(), dataclasses.asdict(pulses)), order
        dut.start.value = 1
        await RisingEdge(dut.clk)
        for wanted in islice(pulse_sweep(pulses, order), 60):
            dut.start.value = dut.step.value = 0
            for _ in range(rng.choice((1, 1, 2))):
                await FallingEdge(dut.clk)
                assert (max(1, int(dut.width.value)), int(dut.vwl.value), int(dut.vbl.value)) == wanted, pulses
                await RisingEdge(dut.clk)
            dut.step.value = 1
            await RisingEdge(dut.clk)
        dut.step.value = 0
