"""Scale behind the sums of tiles: bias, factor, rounding and saturation."""

from array_api_compat import array_namespace

from golden.network import Array
from golden.requantise import half_up


def scale(x: Array, *, mult: Array, shift: Array, bias: Array, bits: int, signed: bool) -> Array:
    """Return int64 ``((x + bias) * mult + half) >> shift`` held in ``bits`` bits; ``half = 2^(shift-1)``, 0 with a shift of 0.

    x, bias : int64 that broadcast, ``|x|, |bias| <= 2^31``
    mult, shift : int64 that broadcast with x, ``-2^16..2^16 - 1`` and 0..31; of a channel, or of a channel and a step
    bits : 1..32
    signed : saturate at ``-2^(bits-1)..2^(bits-1) - 1`` instead of ``0..2^bits - 1``

    Rounds half up. Below 2^63: a product is at most ``2^32 * 2^16``. The low ``bits`` bits are the word of
    `golden.requantise.requantise` of ``x + bias`` where that has the factor.

    Source: imc 10, B7; the bias is in units of the sums, so that it is exact.
    """
    xp = array_namespace(x)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return xp.clip(half_up((x + bias) * mult, shift), low, high)
