"""First match of a chunk."""


def priority_encoder(mask: int) -> tuple[int, int]:
    """Return (position of the lowest set bit, ``mask`` without that bit); position 0 for an empty mask.

    Source: LoAS section IV-C, one matched position a cycle.
    """
    lowest = mask & -mask
    return max(0, lowest.bit_length() - 1), mask ^ lowest
