"""Mode of a macro: golden by hand, rests and turns of any two users, the RTL against golden in every cycle."""

import itertools
import random
from collections.abc import Iterator
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import Mode
from golden.imc.mode_control import Grants, Wishes, mode_control
from hdl.imc.mode_control import ModeControl
from verif.layers import start
from verif.mutant import mutant
from verif.sim import simulate

LETTERS = dict(zip("-cvp", Mode, strict=True))
WRITES = (Mode.IDLE, Mode.VERIFY, Mode.PROGRAM)


def test_mode_control() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(ModeControl(), __name__)


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("rest + 1 >= self.guard", "rest >= self.guard", id="a longer rest"),
    pytest.param("wrote | ~self.claims", "~self.claims", id="programming always first"),
    pytest.param("self.uses | ~self.claims", "~self.claims", id="a vector is cut short"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Rests and turns that are not golden's are caught."""
    simulate(mutant(ModeControl, old, new)(), __name__, expect_failure=True)


@pytest.mark.parametrize(("asks", "uses", "claims", "mode", "guard", "wanted"), [
    # Two vectors with a pause between them: each begins when it asks, and its macro is in COMPUTE a cycle later.
    ("10000100000", "01110011100", "00000000000", "-----------", 4, "-cccc-cccc-"),
    # Two vectors one behind the other: COMPUTE stays.
    ("10001000000", "01110111000", "00000000000", "-----------", 4, "-cccccccc--"),
    # A job: a cycle of IDLE between two times VERIFY, two between VERIFY and PROGRAM.
    ("0000000000000000", "0000000000000000", "1111111111111100", "-vv-vvppppppp---", 2, "--vv-vv--ppppp--"),
    # Both ask from the beginning: programming first, the vector behind it, a job that waits behind the vector.
    ("11111000000", "00000111000", "11100011111", "-v---------", 1, "--v--cccc--"),
], ids=["apart", "in a row", "a job", "turns"])
def test_by_hand(asks: str, uses: str, claims: str, mode: str, guard: int, wanted: str) -> None:
    """Sequences of modes worked out by hand."""
    wishes = [Wishes(asks=a == "1", uses=u == "1", claims=c == "1", mode=LETTERS[m], guard=guard)
              for a, u, c, m in zip(asks, uses, claims, mode, strict=True)]
    assert "".join("-cvp"[grant.mode] for grant in mode_control(wishes)) == wanted


class Users:
    """Two users that keep to their grants, with vectors and jobs of random length and distance, a cycle between jobs."""

    def __init__(self, rng: random.Random, guard: int) -> None:
        self.rng, self.guard = rng, guard
        self.grant = Grants(Mode.IDLE, False, Mode.COMPUTE)
        self.busy = [rng.random() < 0.5, rng.random() < 0.5]
        self.left = self.job = 0
        self.mode = Mode.IDLE
        self.vectors = self.jobs = 0

    def wishes(self, cycles: int) -> Iterator[Wishes]:
        """Yield what they want, cycle by cycle."""
        rng, asks, claims = self.rng, False, False
        for _ in range(cycles):
            asks = asks or rng.random() < (0.9 if self.busy[0] else 0.05)
            if not (self.job or claims) and rng.random() < (0.9 if self.busy[1] else 0.05):
                self.job = rng.randint(2, 6)
            before, claims = self.mode, self.job > 0
            yield Wishes(asks=asks, uses=self.left > 0, claims=claims, mode=self.mode, guard=self.guard)
            began = asks and not self.left and self.grant.compute
            self.left = rng.randint(1, 9) if began else max(0, self.left - 1)
            asks, self.vectors = asks and not began, self.vectors + began
            if claims and self.grant.write == before and rng.random() < 0.5:
                self.mode = rng.choice(WRITES[1:]) if before == Mode.IDLE and self.job > 1 else Mode.IDLE
                self.job -= before == Mode.IDLE
                self.jobs += self.job == 0

    def run(self, cycles: int) -> list[tuple[Wishes, Grants]]:
        """Return what they wanted and got."""
        given, seen = itertools.tee(self.wishes(cycles))
        told = []
        for self.grant in mode_control(given):
            told.append((next(seen), self.grant))
        return told


def test_modes_rest(seed: int) -> None:
    """Between two different modes lie guard cycles of IDLE; nobody is in the way of the other, and nobody starves."""
    for number in range(40):
        users = Users(random.Random(seed + number), number % 6)
        told = users.run(3000)
        runs = [(mode, len(list(group))) for mode, group in itertools.groupby(grant.mode for _, grant in told)]
        for (one, _), (rest, cycles), (other, _) in zip(runs, runs[1:], runs[2:], strict=False):
            assert Mode.IDLE in (one, rest)
            assert rest != Mode.IDLE or one == other or cycles >= max(1, users.guard)
        assert all(grant.mode == Mode.COMPUTE for wish, grant in told if wish.uses)
        assert not any(grant.compute and grant.write != Mode.COMPUTE for _, grant in told)
        assert min(users.vectors, users.jobs) > 20


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def matches_golden(dut: Any) -> None:
    """Grants and modes equal golden's in every cycle: of users that keep to them, and of any wishes."""
    rng = random.Random(cocotb.RANDOM_SEED)
    await start(dut, ["asks", "uses", "claims", "mode_req", "guard"])
    for number in range(24):
        guard = rng.choice((0, 1, 2, 5, 15))
        wishes = [wish for wish, _ in Users(rng, guard).run(500)]
        if number % 2:
            wishes = [Wishes(asks=rng.random() < 0.3, uses=rng.random() < 0.5, claims=rng.random() < 0.5,
                             mode=rng.choice(WRITES), guard=guard) for _ in wishes]
        dut.rst.value = 1
        await RisingEdge(dut.clk)
        dut.rst.value = 0
        for cycle, (wish, grant) in enumerate(zip(wishes, mode_control(wishes), strict=True)):
            dut.asks.value, dut.uses.value, dut.claims.value = wish.asks, wish.uses, wish.claims
            dut.mode_req.value, dut.guard.value = int(wish.mode), wish.guard
            await FallingEdge(dut.clk)
            got = Grants(Mode(int(dut.mode.value)), bool(dut.grant.value), Mode(int(dut.mode_gnt.value)))
            assert got == grant, (number, cycle, wish)
            await RisingEdge(dut.clk)
