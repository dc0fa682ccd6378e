"""Laggy prefix sum: group bases of a row chunk, one group of 16 positions a cycle."""

from amaranth.hdl import Cat, Module, Signal, Value, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hdl.block import Block
from hdl.count_ones import count_ones

GROUP_BITS = 16


class LaggyPrefixSum(Block):
    """Count the set bits of a chunk before each of its groups, with the adders of one group.

    Twin of `golden.laggy_prefix_sum.laggy_prefix_sum`. ``n = chunk_bits / 16``: the result is offered ``n`` cycles
    after its mask is accepted, one mask every ``n`` cycles, full back-pressure.

    Parameters
    ----------
    chunk_bits : int
        Width of the chunk's bitmask: 16, 32, 64, 128 or 256.

    Members
    -------
    i : In(stream), {mask}
        Bitmask of a chunk.
    o : Out(stream), `o_layout`
        The mask, the bases of groups 1, 2, ... (none with one group) and the number of set bits.

    Source: LoAS section IV-C, the laggy prefix-sum circuit with 16 adders.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, chunk_bits: int) -> None:
        self.params: int = chunk_bits
        super().__init__({
            "i": In(stream.Signature(self.i_layout(chunk_bits))),
            "o": Out(stream.Signature(self.o_layout(chunk_bits))),
        })

    @staticmethod
    def i_layout(chunk_bits: int) -> data.StructLayout:
        """Return the payload of ``i``."""
        return data.StructLayout({"mask": unsigned(chunk_bits)})

    @staticmethod
    def o_layout(chunk_bits: int) -> data.StructLayout:
        """Return the payload of ``o``."""
        count_bits = chunk_bits.bit_length()
        return data.StructLayout({
            "mask": unsigned(chunk_bits),
            "bases": data.ArrayLayout(unsigned(count_bits), chunk_bits // GROUP_BITS - 1),
            "count": unsigned(count_bits),
        })

    def build(self) -> Module:
        """Return the contents: the group being counted comes from ``i`` first, then from a register that moves down."""
        m = Module()
        i, o, groups = self.i, self.o, self.params // GROUP_BITS
        todo = Signal(self.params)
        left = Signal(range(groups))        # groups that follow the ones counted so far
        group = Signal(GROUP_BITS)
        total = Signal(self.params.bit_length())
        base = o.payload.count              # set bits of the groups counted so far

        ones = count_ones(m, group)
        start = Signal()
        m.d.comb += [
            i.ready.eq((left == 0) & (~o.valid | o.ready)),
            start.eq(i.ready & i.valid),
        ]
        with m.If(left == 0):
            m.d.comb += [group.eq(i.payload.mask[:GROUP_BITS]), total.eq(ones)]
        with m.Else():
            m.d.comb += [group.eq(todo[:GROUP_BITS]), total.eq(base + ones)]

        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(start):
            m.d.sync += [
                o.payload.mask.eq(i.payload.mask), base.eq(total), o.valid.eq(groups == 1),
                todo.eq(i.payload.mask >> GROUP_BITS), left.eq(groups - 1),
            ]
        if groups > 1:
            bases = Value.cast(o.payload.bases)
            with m.If(left != 0):
                m.d.sync += [
                    bases.eq(Cat(bases, base)[len(base):]),
                    base.eq(total), o.valid.eq(left == 1), todo.eq(todo >> GROUP_BITS), left.eq(left - 1),
                ]
        return m
