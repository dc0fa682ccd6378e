"""The macro's side of programming, for benches: grants modes, answers comparisons, feels pulses, ends at a breach.

A tile grants modes itself: its macro sees the one that it is in.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, First, RisingEdge, ValueChange

from golden.imc.arch import Mode
from golden.imc.write_verify import Pulse, Verify
from verif.stream import cycle

DRIVEN = ("pg_row", "pg_mask", "pg_op", "pg_vwl", "pg_vbl", "mode_req", "mode_gnt")


class TilePorts:
    """Ports of a tile, whose mode is what is asked for and granted."""

    def __init__(self, dut: Any) -> None:
        self._dut = dut

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dut, "mode" if name in ("mode_req", "mode_gnt") else name)


@dataclass
class Chip:
    """What a macro saw.

    answer : comparison to mask of columns, or None: it is not answered
    feel : is told every pulse
    late : most cycles by which grants and answers come late
    mask : columns that may be pulsed
    wanted : actions to come; any other one ends the bench at once
    guard : least cycles between VERIFY and PROGRAM
    computes : the macro is a tile's, which computes as well
    trace : actions, with the cycles of a question, or the first and the one behind the last of a pulse
    """

    answer: Callable[[Verify], int | None]
    feel: Callable[[Pulse], None] = lambda pulse: None
    late: int = 0
    mask: int = -1
    guard: int = 1
    computes: bool = False
    seed: int = 0
    trace: list[tuple[Verify | Pulse, int, int]] = field(default_factory=list)
    wanted: list[Verify | Pulse] = field(default_factory=list)

    def start(self, dut: Any) -> None:
        """Serve ``dut`` from now on."""
        dut.mode_gnt.value, dut.vf_rdy.value, dut.vf_sa.value = int(Mode.IDLE), 0, 0
        for task in (self._modes, self._grant, self._compare, self._pulse, self._drive):
            cocotb.start_soon(task(dut, random.Random(self.seed)))

    def start_tile(self, dut: Any) -> None:
        """Serve a tile from now on."""
        dut.vf_rdy.value, dut.vf_sa.value, self.computes = 0, 0, True
        for task in (self._modes, self._compare, self._pulse, self._drive):
            cocotb.start_soon(task(TilePorts(dut), random.Random(self.seed)))

    def breach(self, what: str) -> None:
        """End the bench at a breach of contract."""
        raise AssertionError(f"cycle {cycle()}: {what}")

    def note(self, action: Verify | Pulse, begin: int) -> None:
        """Compare an action with the one that is to come."""
        place = len(self.trace)
        self.trace.append((action, begin, cycle()))
        assert self.wanted[place:place + 1] == [action], f"cycle {cycle()}, action {place}: {action} is not golden's"

    async def _modes(self, dut: Any, rng: random.Random) -> None:
        """Modes change by way of IDLE, and to another one than the last not before ``guard`` cycles of it."""
        before, since, last = Mode.IDLE, 0, Mode.IDLE
        while True:
            await ValueChange(dut.mode_req)
            asked = Mode(int(dut.mode_req.value))
            early = last not in (Mode.IDLE, asked) and cycle() - since < self.guard
            if asked and (before or early or (asked == Mode.COMPUTE and not self.computes)):
                self.breach(f"{asked.name} {cycle() - since} cycles after {last.name}")
            before, since, last = asked, cycle(), asked or last

    async def _grant(self, dut: Any, rng: random.Random) -> None:
        given = int(Mode.IDLE)
        while True:
            if int(dut.mode_req.value) == given:
                await ValueChange(dut.mode_req)
            for _ in range(rng.randint(0, self.late)):
                await RisingEdge(dut.clk)
            given = int(dut.mode_req.value)
            dut.mode_gnt.value = given

    async def _compare(self, dut: Any, rng: random.Random) -> None:
        while True:
            await RisingEdge(dut.vf_go)
            at, ask = cycle(), Verify(int(dut.pg_row.value), int(dut.vf_ref.value))
            if not dut.mode_req.value == dut.mode_gnt.value == Mode.VERIFY or dut.pg_go.value:
                self.breach("a comparison outside VERIFY")
            self.note(ask, at)
            answer = self.answer(ask)
            await RisingEdge(dut.clk)
            for _ in range(rng.randint(0, self.late)):
                dut.vf_sa.value = rng.getrandbits(len(dut.vf_sa))
                await RisingEdge(dut.clk)
            if answer is not None:
                dut.vf_sa.value, dut.vf_rdy.value = answer & (1 << len(dut.vf_sa)) - 1, 1
            await RisingEdge(dut.clk)
            if dut.vf_go.value:
                self.breach("a question of two cycles")
            dut.vf_sa.value, dut.vf_rdy.value = rng.getrandbits(len(dut.vf_sa)), 0

    async def _pulse(self, dut: Any, rng: random.Random) -> None:
        while True:
            await RisingEdge(dut.pg_go)
            stand = (*DRIVEN, "crossbar") if self.computes else DRIVEN
            at, seen = cycle(), {name: int(getattr(dut, name).value) for name in stand}
            if not seen["mode_req"] == seen["mode_gnt"] == Mode.PROGRAM or dut.vf_go.value:
                self.breach("a pulse outside PROGRAM")
            if seen["pg_mask"] == 0 or seen["pg_mask"] & ~self.mask or seen["pg_op"] not in (1, 2):
                self.breach(f"a pulse on {seen['pg_mask']:#x} of {self.mask:#x}, op {seen['pg_op']}")
            await First(FallingEdge(dut.pg_go), *(ValueChange(getattr(dut, name)) for name in stand))
            if dut.pg_go.value:
                self.breach("a pulse that changes")
            pulse = Pulse(seen["pg_row"], seen["pg_mask"], seen["pg_op"] == 2, cycle() - at, seen["pg_vwl"], seen["pg_vbl"])
            self.note(pulse, at)
            self.feel(pulse)

    async def _drive(self, dut: Any, rng: random.Random) -> None:
        """Cells are connected in mode PROGRAM alone, to one polarity."""
        while True:
            await First(ValueChange(dut.pg_op), ValueChange(dut.pg_mask), ValueChange(dut.mode_req))
            connected = (int(dut.pg_op.value), int(dut.pg_mask.value))
            if connected != (0, 0) and (dut.mode_req.value != Mode.PROGRAM or connected[0] == 3):
                self.breach(f"op and mask {connected} in mode {int(dut.mode_req.value)}")
