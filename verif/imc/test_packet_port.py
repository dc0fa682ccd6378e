"""Words to packets: golden by hand, lengths that are wrong, packets that are held back or left out, stalls and cycles."""

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.packet_port import packet_port
from golden.imc.packet_sender import packet_sender
from hdl.imc.host_port import HostPort
from hdl.imc.packet_port import PacketPort
from verif.layers import start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import cycle, get, put, stalls, watch, word

MOST = 5


def test_packet_port() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(PacketPort(MOST), __name__)


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("take & (whole ^ i.p.last)", "take & i.p.last & ~whole", id="long packets are not told"),
    pytest.param("with m.If(o.ready | self.flush):", "with m.If(o.ready):", id="an offer stays"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Lengths that nobody notices, and packets that outlive a flush, are caught."""
    simulate(mutant(PacketPort, old, new)(MOST), __name__, expect_failure=True)


def test_by_hand() -> None:
    """Packets of two words: right, short, long by one and by three, right again, cut off."""
    assert packet_port(packet_sender([[1, 2], [3], [4, 5, 6], [7, 8, 9, 10, 11], [12, 13], [14]]), 2) == [
        (1, 2), None, None, None, (12, 13), None]
    assert packet_port([(1, False)], 2) == [] and packet_port([(1, False), (2, False)], 2) == [None]


def payload(value: int, length: int) -> tuple[int, ...]:
    """Return the words of a packet that count."""
    return tuple(value >> 32 * n & 0xFFFF_FFFF for n in range(length))


async def begin(dut: Any, length: int) -> None:
    """Reset."""
    await start(dut, ["i__valid", "o__ready", "length", "hold", "flush"])
    dut.rst.value, dut.length.value = 0, length


async def errors(dut: Any, at: list[int]) -> None:
    """Note the cycles of errors."""
    while True:
        await FallingEdge(dut.clk)
        if dut.error.value:
            at.append(cycle())


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.5], length=[1, 3, MOST])
async def matches_golden(dut: Any, stall: float, length: int) -> None:
    """Packets and errors equal golden's, an error comes with the word that makes it, a packet a cycle after its last word."""
    rng, told = random.Random(cocotb.RANDOM_SEED), list[int]()
    await begin(dut, length)
    for name in ("i", "o"):
        cocotb.start_soon(watch(dut, name))
    cocotb.start_soon(errors(dut, told))
    packets = [[rng.getrandbits(32) for _ in range(rng.choice((length, length, rng.randint(1, MOST + 3))))] for _ in range(40)]
    words = list(packet_sender([*packets, [5] * length]))
    wanted, at = packet_port(words, length), list[int]()
    sent = cocotb.start_soon(put(dut, "i", [word(HostPort.word_layout(), {"word": w, "last": last}) for w, last in words],
                                 stalls(rng, stall)))
    whole = [packet for packet in wanted if packet]
    got = await get(dut, "o", len(whole), stalls(rng, stall), at)
    taken = await sent
    assert [payload(value, length) for value in got] == whole
    ends = [n for n in range(len(words)) if packet_port(words[:n + 1], length) != packet_port(words[:n], length)]
    assert told == [taken[n] for n, packet in zip(ends, wanted, strict=True) if packet is None]
    if not stall:
        assert at == [taken[n] + 1 for n, packet in zip(ends, wanted, strict=True) if packet]


@cocotb.test(timeout_time=20, timeout_unit="us")
async def holds_and_flushes(dut: Any) -> None:
    """No packet begins while it is held back, one that began goes on; a flush leaves out what is on its way, or offered."""
    await begin(dut, 3)
    words = [word(HostPort.word_layout(), {"word": w, "last": last}) for w, last in packet_sender([[1, 2, 3]])]
    dut.hold.value = 1
    sender = cocotb.start_soon(put(dut, "i", words[:1]))
    for _ in range(5):
        await RisingEdge(dut.clk)
        assert not sender.done()
    dut.hold.value = 0
    await sender
    dut.hold.value = 1
    await put(dut, "i", words[1:])
    assert payload((await get(dut, "o", 1))[0], 3) == (1, 2, 3)
    dut.hold.value = 0
    for cut in (1, 3):
        await put(dut, "i", words[:cut])
        dut.flush.value = 1
        await RisingEdge(dut.clk)
        dut.flush.value = 0
        await put(dut, "i", words[cut:])
        for _ in range(4):
            await FallingEdge(dut.clk)
            assert not (dut.o__valid.value or dut.error.value or dut.busy.value)
        await RisingEdge(dut.clk)
    await put(dut, "i", words)
    assert payload((await get(dut, "o", 1))[0], 3) == (1, 2, 3)
