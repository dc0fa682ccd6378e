"""Group bases of a row chunk: number of set bits before each group of 16 positions."""

GROUP_BITS = 16


def laggy_prefix_sum(mask: int, chunk_bits: int) -> tuple[list[int], int]:
    """Return (bases of groups 1, 2, ...; number of set bits of the whole chunk).

    mask : bitmask of ``chunk_bits`` bits
    bases : chunk_bits / 16 - 1 numbers; entry g - 1 counts the set bits below position 16 g (group 0 starts at 0)

    Source: LoAS section IV-C, the laggy prefix-sum circuit with 16 adders.
    """
    bases = [(mask & ((1 << place) - 1)).bit_count() for place in range(GROUP_BITS, chunk_bits, GROUP_BITS)]
    return bases, mask.bit_count()
