"""Packets to words: order, ends, stalls and cycles."""

import itertools
import random
from typing import Any

import cocotb

from golden.imc.packet_sender import packet_sender
from hdl.imc.host_port import HostPort
from hdl.imc.packet_sender import PacketSender
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import get, put, reset, stalls, word

WORDS = 3


def test_packet_sender() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(PacketSender(WORDS), __name__)


def test_mutant_is_caught() -> None:
    """A packet that ends a word early is caught."""
    simulate(mutant(PacketSender, "o.p.last.eq(left == 1)", "o.p.last.eq(left == 2)")(WORDS), __name__, expect_failure=True)


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.5])
async def matches_golden(dut: Any, stall: float) -> None:
    """Words equal golden's; without stalls one comes in every cycle, the first one a cycle after its packet."""
    rng = random.Random(cocotb.RANDOM_SEED)
    await reset(dut)
    packets = [[rng.choice((0, 0xFFFF_FFFF, rng.getrandbits(32))) for _ in range(WORDS)] for _ in range(40)]
    at: list[int] = []
    sent = cocotb.start_soon(put(dut, "i", [sum(n << 32 * k for k, n in enumerate(p)) for p in packets], stalls(rng, stall)))
    got = await get(dut, "o", WORDS * len(packets), stalls(rng, stall), at)
    taken = await sent
    assert got == [word(HostPort.word_layout(), {"word": w, "last": last}) for w, last in packet_sender(packets)]
    if not stall:
        assert at[0] == taken[0] + 1 and all(b - a == 1 for a, b in itertools.pairwise(at))
