"""Signed sums: the phases of a vector added up, less what stored weights have too much."""

from array_api_compat import array_namespace

from golden.imc.arch import ImcArch
from golden.network import Array


def signed_combine(arch: ImcArch, scheme: str, sums: Array, driven: Array, *, bits: int = 1, signed: bool = False) -> Array:
    """Return int64 [..., outputs], the outputs of vectors from the slice sums of their phases.

    sums : int64 [..., bits * groups, outputs and dummy] of `golden.imc.shift_add`
    driven : int64 [..., bits * groups], rows that were driven
    bits : of an input; phase ``bit * groups + group`` weighs ``2^bit``, that of the highest bit ``-2^bit`` if ``signed``

    ``offset`` takes ``2^(weight_bits - 1)`` away for each driven row, ``dummy`` the last output; what they take is the same for
    all outputs, so it is added up once and leaves at the end.

    Source: imc 10, B5.
    """
    xp = array_namespace(sums)
    weights = [1 << bit for bit in range(bits)]
    if signed:
        weights[-1] = -weights[-1]
    factors = xp.repeat(xp.asarray(weights, dtype=xp.int64), sums.shape[-2] // bits)
    total = xp.sum(sums * factors[:, None], axis=-2)
    if scheme == "dummy":
        return total[..., :-1] - total[..., -1:]
    taken = xp.sum(driven * factors, axis=-1) << arch.weight_bits - 1
    return total - taken[..., None] if scheme == "offset" else total
