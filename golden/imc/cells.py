"""How the signed weights of a layer lie in cells."""

from array_api_compat import array_namespace

from golden.arch import ParameterError
from golden.imc.arch import ImcArch, Place
from golden.network import Array


def weight_range(arch: ImcArch, scheme: str) -> tuple[int, int]:
    """Return the smallest and the largest weight that a scheme stores.

    Two's complement numbers of ``weight_bits`` bits; pairs of cells also hold the negative of the smallest.
    """
    half = 1 << arch.weight_bits - 1
    return -half, half if scheme == "diff" else half - 1


def levels(arch: ImcArch, scheme: str, weight: Array) -> Array:
    """Return int64 [rows, cols], the level of every cell, in ``0..2^cell_bits - 1``.

    weight : int64 [outputs, inputs]; at most what the tile has

    Column ``o * width + k`` holds what place k of `ImcArch.places` takes of output o: bits ``shift`` and on of the positive
    or negative part (diff), of the weight plus ``2^(weight_bits - 1)`` (offset, dummy), of the weight without its sign, or the
    sign (twos). The dummy column behind the last output holds ``2^(weight_bits - 1)`` in every row that has a weight. Other
    rows and columns are 0.

    Raises ParameterError for a weight beyond the scheme's range, or too many of them.

    Source: imc 10, B4 and B5.
    """
    xp = array_namespace(weight)
    outputs, inputs = weight.shape
    _check(arch, scheme, weight)
    half = 1 << arch.weight_bits - 1
    if scheme == "dummy":
        extra = xp.zeros((arch.outputs(scheme) + 1 - outputs, inputs), dtype=xp.int64)
        weight = xp.concat([weight + half, extra])
        weight[-1, :] = half
        outputs = weight.shape[0]
    elif scheme == "offset":
        weight = weight + half
    places = [xp.zeros_like(weight) if place is None else _stored(arch, scheme, weight, place) for place in arch.places(scheme)]
    cells = xp.zeros((arch.rows, arch.cols), dtype=xp.int64)
    cells[:inputs, : outputs * len(places)] = xp.reshape(xp.stack(places, axis=1), (-1, inputs)).T
    return cells


def _stored(arch: ImcArch, scheme: str, weight: Array, place: Place) -> Array:
    """Return the levels that one place holds, in the shape of the (shifted) weights."""
    xp = array_namespace(weight)
    mask = (1 << arch.cell_bits) - 1
    if scheme == "diff":
        part = -weight if place.negate else weight
        return (xp.where(part > 0, part, 0) >> place.shift) & mask
    if scheme == "twos":
        half = 1 << arch.weight_bits - 1
        return xp.astype(weight < 0, xp.int64) if place.negate else ((weight & (half - 1)) >> place.shift) & mask
    return (weight >> place.shift) & mask


def _check(arch: ImcArch, scheme: str, weight: Array) -> None:
    xp = array_namespace(weight)
    arch.check(scheme)
    outputs, inputs = weight.shape
    for what, number, most in (("outputs", outputs, arch.outputs(scheme)), ("inputs", inputs, arch.rows)):
        if not 1 <= number <= most:
            raise ParameterError(f"weights: {what}, not {number}; legal: 1..{most} with scheme {scheme} in a tile of "
                                 f"{arch.rows} x {arch.cols}; try: more tiles")
    low, high = weight_range(arch, scheme)
    for value in (int(xp.min(weight)), int(xp.max(weight))):
        if not low <= value <= high:
            raise ParameterError(f"weights: value, not {value}; legal: {low}..{high} with scheme {scheme} and "
                                 f"{arch.weight_bits} bits; try: weight_bits={max(value, ~value).bit_length() + 1}")
