"""Clock, reset and valid/ready streams for cocotb benches, with the protocol monitor of every stream.

Benches drive after a rising edge and sample at the falling edge, where the signals of a cycle have settled; every
coroutine here starts and ends just after a rising edge.
"""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import cocotb
from amaranth.lib.data import Layout
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge, Timer
from cocotb.utils import get_sim_time

PERIOD_NS = 10
NEVER: tuple[bool, ...] = (False,)
CORNER_DENSITIES = (0.0, 0.02, 0.1, 0.5, 0.9, 1.0)


def stalls(rng: random.Random, density: float = 0.5) -> Iterator[bool]:
    """Yield random pauses for `put` and `get`, runs of both kinds included."""
    while True:
        pause = rng.random() < density
        yield from itertools.repeat(pause, rng.choice((1, 1, 1, 2, 5)))


def start_clock(dut: Any) -> None:
    """Start the clock of ``dut``, which toggles without Python."""
    Clock(dut.clk, PERIOD_NS, "ns").start()


def cycle() -> int:
    """Return the number of the clock cycle."""
    return round(get_sim_time("ns")) // PERIOD_NS


async def reset(dut: Any, streams: Sequence[str] = ("i", "o")) -> None:
    """Start the clock, hold ``rst`` for two cycles with quiet streams, then watch every stream of ``streams``."""
    start_clock(dut)
    dut.rst.value = 1
    for name in streams:
        quiet = f"{name}__ready" if driven_by_dut(name) else f"{name}__valid"
        getattr(dut, quiet).value = 0
    for _ in range(3):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    for name in streams:
        cocotb.start_soon(watch(dut, name))


def driven_by_dut(name: str) -> bool:
    """Return whether the stream's payload comes from the design: its name is ``o`` or starts with ``o_``."""
    return name == "o" or name.startswith("o_")


def word(layout: Layout, fields: Any) -> int:
    """Return the payload bits of ``fields`` (nested dicts and lists of integers)."""
    return int(layout.const(fields).as_bits())


async def put(dut: Any, name: str, words: Iterable[int], pauses: Iterable[bool] = NEVER) -> list[int]:
    """Send ``words`` on stream ``name``; return the cycle in which each of them was accepted.

    pauses : True where ``valid`` stays low for a cycle; repeated for ever
    """
    valid, ready, payload = _signals(dut, name)
    pause, accepted = itertools.cycle(pauses), []
    for value in words:
        while next(pause):
            valid.value = 0
            await RisingEdge(dut.clk)
        valid.value, payload.value = 1, value
        await FallingEdge(dut.clk)
        while not ready.value:
            await FallingEdge(dut.clk)
        accepted.append(cycle())
        await RisingEdge(dut.clk)
    valid.value = 0
    return accepted


async def get(dut: Any, name: str, count: int, pauses: Iterable[bool] = NEVER,
              at: list[int] | None = None) -> list[int]:
    """Receive ``count`` words from stream ``name``.

    pauses : True where ``ready`` stays low for a cycle; repeated for ever
    at : takes the cycle in which each word was accepted
    """
    valid, ready, payload = _signals(dut, name)
    pause = itertools.cycle(pauses)
    words: list[int] = []
    while len(words) < count:
        takes = not next(pause)
        ready.value = int(takes)
        await FallingEdge(dut.clk)
        if takes and valid.value:
            words.append(int(payload.value))
            if at is not None:
                at.append(cycle())
        await RisingEdge(dut.clk)
    ready.value = 0
    return words


async def idle(dut: Any, name: str, cycles: int) -> None:
    """Assert that stream ``name`` offers nothing for ``cycles`` cycles."""
    valid, ready, _ = _signals(dut, name)
    ready.value = 1
    for _ in range(cycles):
        await FallingEdge(dut.clk)
        assert not valid.value, f"{name}: a word that nothing asked for in cycle {cycle()}"
        await RisingEdge(dut.clk)
    ready.value = 0


async def watch(dut: Any, name: str) -> None:
    """Monitor the protocol of stream ``name``: ``valid`` waits for ``ready`` and the payload holds meanwhile."""
    valid, ready, payload = _signals(dut, name)
    waiting: int | None = None
    while True:
        await FallingEdge(dut.clk)
        if dut.rst.value:
            waiting = None
            continue
        value = int(payload.value) if valid.value else None
        if waiting is not None:
            assert value is not None, f"{name}: valid fell in cycle {cycle()} before ready"
            assert value == waiting, f"{name}: payload changed in cycle {cycle()} from {waiting:#x} to {value:#x}"
        waiting = None if ready.value else value


def _signals(dut: Any, name: str) -> tuple[Any, Any, Any]:
    return tuple(getattr(dut, f"{name}__{signal}") for signal in ("valid", "ready", "payload"))


async def combinational(dut: Any, inputs: dict[str, int], outputs: Sequence[str]) -> list[int]:
    """Drive ``inputs``, let the design settle, return the values of ``outputs``."""
    for name, value in inputs.items():
        getattr(dut, name).value = value
    await Timer(1, "ns")
    await ReadOnly()
    values = [int(getattr(dut, name).value) for name in outputs]
    await Timer(1, "ns")
    return values


def masks(rng: random.Random, bits: int, count: int) -> list[int]:
    """Return bitmasks: all zero, all ones, first, last and alternate positions, then random ones by density."""
    corners = [0, (1 << bits) - 1, 1, 1 << (bits - 1), int("01" * (bits // 2), 2), (1 << bits) - 2]
    densities = itertools.cycle(CORNER_DENSITIES[1:-1])
    drawn = [sum(1 << p for p in range(bits) if rng.random() < density)
             for _, density in zip(range(count), densities, strict=False)]
    return corners + drawn
