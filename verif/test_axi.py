"""The AXI4-Lite master, on the copier of `verif.test_system`, watched by the harness's protocol monitor."""

import random
from collections.abc import Iterator
from typing import Any

import cocotb
import pytest
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles

from verif import sim
from verif.axi import OKAY, SLVERR, AxiError, AxiLite
from verif.test_system import COPIER, system


def pauses(share: float, seed: int) -> Iterator[bool]:
    """Yield True with probability ``share``, for ever."""
    generator = random.Random(seed)
    while True:
        yield generator.random() < share


async def reset(dut: Any, share: float = 0.0) -> AxiLite:
    """Start the clock, reset, and return the master."""
    bus = AxiLite(dut, timeout_cycles=100, pauses=pauses(share, cocotb.RANDOM_SEED))
    bus.idle()
    dut.aresetn.value = 0
    Clock(dut.aclk, 10, "ns").start()
    await ClockCycles(dut.aclk, 4)
    dut.aresetn.value = 1
    return bus


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(share=[0.0, 0.3, 0.8])
async def writes_read_back(dut: Any, share: float) -> None:
    """What is written is read, in 32 and 64 bits, with pauses on all channels and without a breach of the protocol."""
    bus = await reset(dut, share)
    generator = random.Random(cocotb.RANDOM_SEED)
    for _ in range(20):
        address, value = generator.choice((0x30, 0x3C, 0x40)), generator.getrandbits(24)
        assert await bus.write(address, value) == OKAY
        assert await bus.read(address) == value
    await bus.write_pair(0x30, 0x1234_5678_9ABC)
    assert await bus.read_pair(0x30) == 0x1234_5678_9ABC
    await ClockCycles(dut.aclk, 2)
    assert dut.violations.value == 0


@cocotb.test(timeout_time=100, timeout_unit="us")
async def responses(dut: Any) -> None:
    """A response other than the expected one raises, and can be asked for."""
    bus = await reset(dut)
    assert (await bus.read_response(0x200))[1] == SLVERR
    await bus.read(0x200, expect=SLVERR)
    with pytest.raises(AxiError, match=r"^s_axi_ctrl_: read of 0x200: OKAY expected, not SLVERR$"):
        await bus.read(0x200)
    with pytest.raises(AxiError, match=r"^s_axi_ctrl_: read of 0x030: SLVERR expected, not OKAY$"):
        await bus.read(0x30, expect=SLVERR)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def no_answer(dut: Any) -> None:
    """A slave that never answers is an error after ``timeout_cycles``, and one that answers early is one at once."""
    bus = await reset(dut)
    with pytest.raises(AxiError, match=r"^s_axi_ctrl_: no answer to the write of 0x038 in 100 cycles$"):
        await bus.write(0x38, 18 << 24)
    bus = await reset(dut)
    await ClockCycles(dut.aclk, 4)
    await bus.write(0x38, 19 << 24)
    with pytest.raises(AxiError, match=r"^s_axi_ctrl_bvalid: answer before the write of 0x030 was accepted$"):
        await bus.write(0x30, 0)


def program(replace: tuple[str, str] | None = None) -> tuple[sim.Outcome, str]:
    """Run the cocotb tests below on the copier, or on a broken one."""
    text = COPIER
    if replace:
        assert text.count(replace[0]) == 1
        text = text.replace(*replace)
    return sim.run(system(design=text).program(), __name__, seed=sim.CONTROL_SEED if replace else None)


def test_axi() -> None:
    """Every cocotb test of this file passes."""
    assert not program()[0].failed


@pytest.mark.parametrize(("replace", "failing", "rule"), [
    (("if (s_axi_ctrl_rready) r_held <= 0;", "r_held <= 0;"), "writes_read_back", "s_axi_ctrl_rvalid dropped before rready"),
    (("if (s_axi_ctrl_bready) b_held <= 0;", "b_held <= 0;"), "writes_read_back", "s_axi_ctrl_bvalid dropped before bready"),
    (("assign s_axi_ctrl_rdata = r_value;", "assign s_axi_ctrl_rdata = r_value + {31'd0, flip};"), "writes_read_back",
     "s_axi_ctrl r payload changed before rready"),
    (("assign s_axi_ctrl_bresp = 0;", "assign s_axi_ctrl_bresp = {1'b0, flip};"), "writes_read_back",
     "s_axi_ctrl b payload changed before bready"),
    (("s_axi_ctrl_araddr[11:9] == 0 ? 2'd0 : 2'd2", "0"), "responses", ""),
])
def test_axi_sees(replace: tuple[str, str], failing: str, rule: str) -> None:
    """A slave that forgets a rule fails, and the monitor names the rule; a wrong response fails by itself."""
    outcome, log = program(replace)
    assert any(failing in name for name in outcome.failed)
    assert f"AXI violation: {rule}" in log or not rule
