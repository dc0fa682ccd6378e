"""Bit slices: the codes of the columns of a weight, shifted to their place and added."""

from collections.abc import Sequence

from array_api_compat import array_namespace

from golden.imc.arch import Place
from golden.network import Array


def shift_add(codes: Array, places: Sequence[Place | None]) -> Array:
    """Return int64 [..., outputs], the sum over the places of a weight of ``+-code << shift``.

    codes : int64 [..., cols]; column ``o * len(places) + k`` belongs to place k of output o; columns behind the last whole
        weight count nothing

    Source: imc 10, B4; the sign of a place is the first half of B5.
    """
    xp = array_namespace(codes)
    factors = xp.asarray([0 if place is None else (-1 if place.negate else 1) << place.shift for place in places])
    outputs = codes.shape[-1] // len(places)
    whole = codes[..., : outputs * len(places)]
    return xp.sum(xp.reshape(whole, (*codes.shape[:-1], outputs, len(places))) * factors, axis=-1)
