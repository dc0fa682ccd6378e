"""Offset of a match among the packed values of a fiber chunk."""


def fast_prefix_sum(mask: int, position: int) -> int:
    """Return how many bits of a chunk's ``mask`` are set strictly below ``position``.

    mask : bitmask of chunk_bits bits
    position : 0..chunk_bits - 1

    Source: LoAS section IV-C.
    """
    return (mask & ((1 << position) - 1)).bit_count()
