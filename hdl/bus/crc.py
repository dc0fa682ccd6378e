"""CRC32 as zlib computes it, one 32-bit word a cycle."""

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from hdl.block import Block

POLYNOMIAL = 0xEDB88320


class Crc32(Block):
    """Running CRC32 of little-endian words.

    Twin of ``zlib.crc32``. ``crc`` covers all words taken up to the last cycle. ``start`` begins anew.
    """

    def __init__(self) -> None:
        super().__init__({"start": In(1), "valid": In(1), "word": In(32), "crc": Out(32, init=0)})

    def build(self) -> Module:
        m = Module()
        matrix = [_advance(1 << bit) for bit in range(32)]
        state, mixed, following = Signal(32), Signal(32), Signal(32)
        m.d.comb += [
            mixed.eq(state ^ self.word),
            *(following[out].eq(_xor([mixed[bit] for bit in range(32) if matrix[bit] >> out & 1])) for out in range(32)),
            self.crc.eq(~state),
        ]
        with m.If(self.start):
            m.d.sync += state.eq(0xFFFFFFFF)
        with m.Elif(self.valid):
            m.d.sync += state.eq(following)
        return m


def _advance(state: int) -> int:
    for _ in range(32):
        state = state >> 1 ^ (POLYNOMIAL if state & 1 else 0)
    return state


def _xor(bits: list[Signal]) -> Signal:
    total = bits[0]
    for bit in bits[1:]:
        total = total ^ bit
    return total
