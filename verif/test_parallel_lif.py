"""Parallel LIF against its golden twin."""

import dataclasses
import itertools
import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from golden.arch import LifParams, ParameterError
from golden.parallel_lif import parallel_lif
from hdl.parallel_lif import ParallelLif
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, get, idle, put, reset, stalls, word

Case = dict[str, Any]

PARAMS = {
    "default": LifParams(),
    "one step a cycle": LifParams(t_max=4, steps_per_cycle=1),
    "all steps in a cycle": LifParams(t_max=6, steps_per_cycle=16),
    "uneven groups": LifParams(t_max=13, steps_per_cycle=4, stream_bits=16, membrane_bits=24),
    "one timestep": LifParams(t_max=1, stream_bits=8, membrane_bits=8),
    "1-2^-k": LifParams(leak="1-2^-k", t_max=16, steps_per_cycle=2),
    "1-2^-k, narrow": LifParams(leak="1-2^-k", t_max=5, stream_bits=12, membrane_bits=18, steps_per_cycle=2),
}
BROKEN = LifParams(t_max=4, steps_per_cycle=4, stream_bits=12, membrane_bits=18)


@pytest.mark.parametrize("name", PARAMS)
def test_parallel_lif(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(ParallelLif(PARAMS[name]), __name__, parameters=dataclasses.asdict(PARAMS[name]))


@pytest.mark.parametrize("broken", [
    pytest.param(("above >= 0", "above < 0"), id="comparison"),
    pytest.param(("Mux(k == 1, v >> 1, v >> 2)).as_signed()", "v).as_signed()"), id="leak"),
    pytest.param(("strict & lost", "0"), id="rounding"),
    pytest.param(("v[0] & x[0])", "0)"), id="carry of a decaying input"),
])
def test_mutants_are_caught(broken: tuple[str, str]) -> None:
    """A turned comparison, a missing leak and a lost half are caught."""
    outcome = simulate(mutant(ParallelLif, *broken)(BROKEN), __name__, parameters=dataclasses.asdict(BROKEN),
                       expect_failure=True)
    assert "matches_golden" in " ".join(outcome.failed)


def test_rejected_values() -> None:
    """Steps and leaks that the build does not have are refused with their legal set."""
    legal: Case = {"x": [0] * 16, "threshold": 1, "decay_input": False, "strict": False, "reset": 0,
                   "params": LifParams()}
    with pytest.raises(ParameterError) as error:
        parallel_lif(**legal, leak_shift=0, steps=17)
    assert str(error.value) == "steps must be in 1..16, not 17"
    with pytest.raises(ParameterError) as error:
        parallel_lif(**legal, leak_shift=3, steps=16)
    assert str(error.value) == "leak_shift must be in 0..2, not 3"


def params() -> LifParams:
    """Return the parameters of the block in the simulator."""
    return LifParams(**parameters_of_bench())


def variants(p: LifParams) -> list[Case]:
    """Return every legal combination of leak, comparison and reset."""
    leaks = [(k, False) for k in range(p.k_max + 1)]
    if p.leak == "2^-k":
        leaks += [(0, True), (1, True)]
    return [{"leak_shift": k, "decay_input": decay, "strict": strict, "reset": code}
            for (k, decay), strict, code in itertools.product(leaks, (False, True), (0, 1, 2))]


def cases(rng: random.Random, p: LifParams, count: int) -> list[Case]:
    """Return random neurons: every variant, all magnitudes, currents at the threshold, corners of the width.

    A membrane moves by at most ``|x| + |threshold|`` a step, so both stay below what ``t_max`` steps can hold, in
    the block and in golden's 64 bits.
    """
    room = max(1, (1 << (p.membrane_bits - 1)) // (2 * p.t_max) - 1)
    most = min((1 << (p.stream_bits - 1)) - 1, room)
    every = list(itertools.islice(itertools.cycle(variants(p)), count))
    out = []
    for index, variant in enumerate(every):
        reach = min(most, 1 << rng.randrange(1, p.stream_bits))
        threshold = rng.choice((reach, reach // 2 + 1, 1, 0, -reach, rng.randint(1, reach + 1)))
        kinds = ((-reach, reach), (0, reach), (threshold, threshold), (threshold - 1, threshold + 1), (most, most),
                 (-most, -most), (0, 0))
        low, high = kinds[index % len(kinds)]
        low, high = sorted(max(-most, min(bound, most)) for bound in (low, high))
        x = [rng.randint(low, high) for _ in range(p.t_max)]
        out.append({**variant, "x": x, "threshold": threshold, "steps": rng.choice((p.t_max, rng.randint(1, p.t_max)))})
    return out


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Words equal golden, bit for bit, with and without stalls on both sides."""
    p, rng = params(), random.Random(cocotb.RANDOM_SEED)
    await reset(dut)
    wanted = cases(rng, p, 420)
    layout = ParallelLif.i_layout(p)
    cocotb.start_soon(put(dut, "i", [word(layout, case) for case in wanted], stalls(rng) if stall else NEVER))
    got = await get(dut, "o", len(wanted), stalls(rng) if stall else NEVER)
    for index, (case, bits) in enumerate(zip(wanted, got, strict=True)):
        assert bits == parallel_lif(**case, params=p), f"neuron {index}: {case}"
    await idle(dut, "o", 40)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def takes_the_documented_cycles(dut: Any) -> None:
    """A word leaves n + 1 cycles after its currents, and neurons follow each other every n cycles."""
    p, rng = params(), random.Random(cocotb.RANDOM_SEED)
    await reset(dut)
    layout = ParallelLif.i_layout(p)
    for steps in {1, p.t_max // 2 + 1, p.t_max}:
        cycles = -(-steps // p.steps_per_cycle)
        words = [word(layout, {**case, "steps": steps}) for case in cases(rng, p, 6)]
        left: list[int] = []
        sender = cocotb.start_soon(put(dut, "i", words))
        await get(dut, "o", len(words), at=left)
        taken = await sender
        assert [out - into for into, out in zip(taken, left, strict=True)] == [cycles + 1] * len(words)
        assert [after - before for before, after in itertools.pairwise(taken)] == [cycles] * (len(words) - 1)
        await RisingEdge(dut.clk)
