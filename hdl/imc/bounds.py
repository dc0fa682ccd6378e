"""Sums of products that must not be larger than what was built, one multiplication after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from amaranth.hdl import Array, Const, Module, Signal, Value, ValueLike
from amaranth.lib.wiring import In, Out

from hdl.block import Block

FACTOR, WIDTH = 20, 24
Widths = tuple[tuple[tuple[int, ...], ...], ...]


@dataclass(frozen=True)
class Bound:
    """A sum of products, each of them of several factors, and its limit, below 2^24."""

    products: Sequence[Sequence[ValueLike]]
    limit: int


class Bounds(Block):
    """Compare sums of products with their limits, with one adder: what addresses and counts of a layer come to.

    Twin of `golden.imc.bounds.bounds`. A factor takes a cycle, one that is not the first of its product as many more as it has
    bits, and 1; a product takes 1 more, and a sum 1.

    Parameters
    ----------
    sums : (((int, ...), ...), ...)
        Bits of the factors of each product of each sum, up to 20.
    limits : (int, ...)
        Of each sum.

    Members
    -------
    factor_n : In, of all products in their order; stand from reset on, which begins anew
    done : Out(1), all sums are compared; wrong : Out(1), one of those compared is above its limit

    Source: imc 10, B0.
    """

    def __init__(self, sums: Widths, limits: tuple[int, ...]) -> None:
        self.params: tuple[Widths, tuple[int, ...]] = (sums, limits)
        widths = [*chain.from_iterable(chain.from_iterable(sums))]
        self.count = len(widths)
        super().__init__({"done": Out(1), "wrong": Out(1), **{f"factor_{n}": In(width) for n, width in enumerate(widths)}})

    @classmethod
    def of(cls, m: Module, bounds: Sequence[Bound]) -> "Bounds":
        """Return the block for sums, whose factors are joined to it."""
        sums = [[[Value.cast(factor) for factor in product] for product in bound.products] for bound in bounds]
        block = cls(tuple(tuple(tuple(map(len, product)) for product in products) for products in sums),
                    tuple(bound.limit for bound in bounds))
        for number, factor in enumerate(chain.from_iterable(chain.from_iterable(sums))):
            m.d.comb += getattr(block, f"factor_{number}").eq(factor)
        return block

    def build(self) -> Module:
        m, (sums, limits) = Module(), self.params
        begins, ends, closes, at = 0, 0, 0, 0
        for products in sums:
            for factors in products:
                begins, at = begins | 1 << at, at + len(factors)
                ends |= 1 << at - 1
            closes |= 1 << at - 1
        number, sum_number = Signal(range(at + 1)), Signal(range(len(sums) + 1))
        factor, product, total = Signal(FACTOR), Signal(WIDTH), Signal(WIDTH)
        multiplicand, multiplier, shifted_out, over = Signal(WIDTH), Signal(FACTOR), Signal(), Signal()
        added, summed, last = Signal(WIDTH + 1), Signal(WIDTH + 1), Signal()
        limit = Array(Const(limit, WIDTH) for limit in limits)[sum_number]
        m.d.comb += [
            factor.eq(Array(getattr(self, f"factor_{n}") for n in range(at))[number]), added.eq(product + multiplicand),
            summed.eq(total + product), last.eq(Const(ends, at).bit_select(number, 1)),
        ]

        def following() -> None:
            m.d.sync += number.eq(number + ~last)
            m.next = "FACTOR"
            with m.If(last):
                m.next = "PRODUCT"

        with m.FSM():
            with m.State("FACTOR"):
                m.d.sync += [multiplicand.eq(product), multiplier.eq(factor), shifted_out.eq(0)]
                with m.If(Const(begins, at).bit_select(number, 1)):
                    m.d.sync += product.eq(factor)
                    following()
                with m.Else():
                    m.d.sync += product.eq(0)
                    m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.d.sync += [multiplicand.eq(multiplicand << 1), multiplier.eq(multiplier >> 1),
                             shifted_out.eq(shifted_out | multiplicand[-1])]
                with m.If(multiplier[0]):
                    m.d.sync += [product.eq(added), over.eq(over | added[-1] | shifted_out)]
                with m.If(multiplier == 0):
                    following()
            with m.State("PRODUCT"):
                m.d.sync += [total.eq(summed), over.eq(over | summed[-1]), number.eq(number + 1)]
                m.next = "FACTOR"
                with m.If(Const(closes, at).bit_select(number, 1)):
                    m.next = "SUM"
            with m.State("SUM"):
                m.d.sync += [self.wrong.eq(self.wrong | over | (total > limit)), total.eq(0), over.eq(0),
                             sum_number.eq(sum_number + 1)]
                m.next = "FACTOR"
                with m.If(sum_number == len(sums) - 1):
                    m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += self.done.eq(1)
        return m
