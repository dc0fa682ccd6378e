"""Step sums of a lane against their golden twin."""

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import Arch
from golden.pass_sum import Operation, add_currents, pass_sum
from hdl.pass_sum import PassSum
from verif.chunks import TINY, WIDE, arch, packed, signed
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import cycle, reset

ARCHS = {
    "tiny": TINY,
    "tiny, 16 steps": WIDE,
    "1 step": dataclasses.replace(TINY, t_max=1, acc_bits=16, stream_bits=16, membrane_bits=16),
    "4 steps, wide currents": dataclasses.replace(WIDE, t_max=4, stream_bits=32),
    "5 steps, narrow sums": dataclasses.replace(WIDE, t_max=5, acc_bits=16),
}
BROKEN = dataclasses.replace(WIDE, t_max=4)
KINDS = ("identity", "plane", "load")


@pytest.mark.parametrize("name", ARCHS)
def test_pass_sum(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(PassSum(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize("broken", [
    pytest.param(("^ op.negate.replicate(p.stream_bits)", ""), id="sign"),
    pytest.param(("negate.eq(op.plane & op.negate)", "negate.eq(0)"), id="carry of the sign"),
    pytest.param(("dot << op.shift", "dot << 0"), id="shift"),
    pytest.param(("op.first | op.load", "op.load"), id="first"),
    pytest.param(("op.steps[t] & ~op.load", "op.steps[max(0, t - 1)] & ~op.load"), id="step"),
    pytest.param(("self.currents[t]", "self.currents[0]"), id="currents of another step"),
    pytest.param(("operate | self.add)", "operate)"), id="no currents"),
])
def test_mutants_are_caught(broken: tuple[str, str]) -> None:
    """A lost sign, shift or start, a wrong step and lost currents are caught."""
    outcome = simulate(mutant(PassSum, *broken)(BROKEN), __name__, parameters=dataclasses.asdict(BROKEN),
                       expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed)


@dataclass(frozen=True)
class Step:
    """What the block is told in one cycle: an operation with its dots, a stored current, or nothing."""

    op: Operation | None = None
    dots: Sequence[int] = ()
    currents: Sequence[int] = ()

    def after(self, sums: Sequence[int]) -> list[int]:
        """Return golden's sums after this cycle."""
        if self.op:
            return pass_sum(sums, self.dots, self.op)
        if self.currents:
            return add_currents(sums, self.currents)
        return list(sums)


def magnitude(rng: random.Random, bits: int) -> int:
    """Return a signed number of at most ``bits`` bits, of any magnitude, the corners now and then."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    reach = 1 << rng.randrange(bits)
    return rng.choice((0, 1, -1, low, high, *(max(low, min(rng.randint(-reach, reach), high)) for _ in range(6))))


def draw(rng: random.Random, p: Arch) -> Step:
    """Return a random step; its result may not fit."""
    kind = rng.choice((*KINDS, "identity", "plane", "currents", "nothing"))
    if kind in KINDS:
        op = Operation(kind=kind, first=rng.random() < 0.3, steps=rng.choice((0, (1 << p.t_max) - 1, rng.getrandbits(p.t_max))),
                       bit=rng.randrange(p.t_max), shift=rng.choice((0, 0, 1, 7, rng.randrange(32))),
                       negate=rng.random() < 0.5, bias=magnitude(rng, p.stream_bits))
        return Step(op, [magnitude(rng, rng.choice((p.acc_bits, 8))) for _ in range(p.t_max)])
    if kind == "nothing":
        return Step()
    return Step(currents=[magnitude(rng, p.stream_bits) for _ in range(p.t_max)])


def steps(rng: random.Random, p: Arch, count: int) -> list[Step]:
    """Return steps whose results all fit ``stream_bits``, as lowering proves for a network."""
    high = (1 << (p.stream_bits - 1)) - 1
    sums = [0] * p.t_max
    out: list[Step] = []
    while len(out) < count:
        step = draw(rng, p)
        after = step.after(sums)
        if all(-high - 1 <= total <= high for total in after):
            sums = after
            out.append(step)
    return out


def drive(dut: Any, p: Arch, step: Step) -> None:
    """Put one step on the ports; what the step does not use is noise."""
    op = step.op or Operation(kind="none", steps=(1 << p.t_max) - 1, bias=-1)
    for kind in KINDS:
        getattr(dut, f"op__{kind}").value = int(op.kind == kind)
    dut.op__first.value, dut.op__steps.value, dut.op__bit.value = int(op.first), op.steps, op.bit
    dut.op__shift.value, dut.op__negate.value = op.shift, int(op.negate)
    dut.op__bias.value = op.bias & ((1 << p.stream_bits) - 1)
    dut.dots.value = packed(step.dots or [-1] * p.t_max, p.acc_bits)
    dut.add.value = int(bool(step.currents))
    dut.currents.value = packed(step.currents or [-1] * p.t_max, p.stream_bits)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def matches_golden(dut: Any) -> None:
    """Sums equal golden one cycle after each operation, one operation a cycle, and hold in between."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    drive(dut, p, Step())
    await reset(dut, ())
    sums = [0] * p.t_max
    for step in [*steps(rng, p, 3000), Step()]:
        drive(dut, p, step)
        await FallingEdge(dut.clk)
        bits = int(dut.sums.value)
        got = [signed(bits >> (p.stream_bits * t) & ((1 << p.stream_bits) - 1), p.stream_bits) for t in range(p.t_max)]
        assert got == sums, f"cycle {cycle()}: before {step}"
        sums = step.after(sums)
        await RisingEdge(dut.clk)
