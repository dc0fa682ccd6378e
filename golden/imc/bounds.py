"""Sums of products that must not be larger than what was built."""

from collections.abc import Sequence
from itertools import accumulate
from operator import mul

WIDTH = 24


def bounds(sums: Sequence[Sequence[Sequence[int]]], limits: Sequence[int]) -> list[bool]:
    """Return of each sum of products whether it is above its limit.

    sums : factors of each product of each sum, 0 to 2^20 - 1
    limits : below 2^24

    A product that reaches 2^24 on its way, from the first factor on, is above every limit, whatever follows.
    """
    return [any(part >> WIDTH for product in products for part in accumulate(product, mul))
            or sum([*accumulate(product, mul)][-1] for product in products) > limit
            for products, limit in zip(sums, limits, strict=True)]
