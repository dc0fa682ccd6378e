"""Float vision transformer to integers: the only lossy step of `golden.imc.vit`.

A value of 8 bits has the unit ``peak / 127`` of the largest magnitude that was seen, a weight that of its output's largest one.
The residual stream has one unit, of which the largest magnitude is `STREAM`: 16 bits hold eight times what was seen. Nothing
else is chosen; biases have the unit of their sums.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.arch import ParameterError
from golden.imc.reuse_buffer import MODES, ReuseLayer
from golden.imc.softmax import ONE
from golden.imc.vit import Attention, Encoder, Factor, Linear, Norm, Transformation, Vit
from golden.network import Array

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
PEAK, STREAM, PIXEL_BITS, PIXEL_PEAK = 127, 4096, 5, 16
MULT_BITS, MOST_SHIFT, NORM_GAIN_BITS, NORM_FRACTION, NORM_EPS = 16, 31, 15, 12, 1e-5


@dataclass(frozen=True, kw_only=True)
class FloatVit:
    """A trained network.

    tensors : float arrays by the names of `models.vit.Vit`
    peaks : largest magnitudes of what it computes, by the names of `models.vit.note`
    heads, depth, patch : sizes
    sources : of every encoder that reuses
    variant : what replaces attention, of `golden.imc.reuse_buffer.MODES`
    """

    tensors: Mapping[str, Floats]
    peaks: Mapping[str, float]
    heads: int
    depth: int
    patch: int
    sources: Mapping[int, int]
    variant: str

    def tensor(self, name: str) -> Floats:
        """Return a tensor; raise `ParameterError` where there is none."""
        if name not in self.tensors:
            raise ParameterError(f"network: must have a tensor {name}; legal: those of a vision transformer; "
                                 "try: spikeloom bench trex")
        return np.asarray(self.tensors[name], dtype=np.float64)

    def unit(self, name: str) -> float:
        """Return the unit of a value of 8 bits."""
        return max(self.peaks[name], 1e-6) / PEAK


def lower(net: FloatVit) -> Vit:
    """Return the integer network of a float one.

    Pixels are 0..16 of 5 bits. Raises ParameterError for a factor, bias or gain that does not fit its unit's words.
    """
    stream = max(peak for name, peak in net.peaks.items() if "stream" in name) / STREAM
    kept = set(net.sources.values())
    encoders = tuple(_encoder(net, number, stream, keep=number in kept) for number in range(1, net.depth + 1))
    head, unit = net.tensor("head.weight"), net.unit("norm")
    step = float(np.abs(head).max()) / PEAK
    return Vit(
        patch=net.patch, encoders=encoders, norm=_norm(net, "norm", unit, stream),
        embed=_linear(net, "embed", 1 / PIXEL_PEAK, stream, bits=16, x_bits=PIXEL_BITS, x_signed=False),
        position=_round(net.tensor("position") / stream),
        head=Linear(weight=_round(head / step), bias=_round(net.tensor("head.bias") / (step * unit)), mult=np.asarray(1),
                    shift=np.asarray(0), bits=0))


def factor(ratio: Floats | float) -> Factor:
    """Return ``mult / 2^shift`` next to a ratio, mult of 16 bits without sign.

    Raises ParameterError for a ratio beyond ``2^16 - 1``, or so small that nothing is left of it.
    """
    wanted = np.asarray(ratio, dtype=np.float64)
    shift = np.clip(MULT_BITS - np.frexp(wanted)[1], 0, MOST_SHIFT).astype(np.int64)
    mult = np.minimum(_round(wanted * 2.0 ** shift), (1 << MULT_BITS) - 1)
    if float(wanted.max()) >= 1 << MULT_BITS or int(mult.min()) < 1:
        raise ParameterError(f"scale: factor, not {float(wanted.min()):.3g}..{float(wanted.max()):.3g}; legal: 2^-31 to below "
                             "2^16; try: a network that is trained for longer")
    return Factor(mult=mult, shift=shift)


def exponentials(unit: float) -> Integers:
    """Return the table of `golden.imc.softmax`: ``floor(255 exp(-d unit) + 1/2)`` of distances d of 0..255."""
    return _round(ONE * np.exp(-unit * np.arange(256)))


def gelu_table(before: float, after: float) -> Integers:
    """Return the table of `golden.imc.lookup` from a value of unit ``before`` to GELU of unit ``after``, rounded half up."""
    values = np.concatenate([np.arange(128), np.arange(-128, 0)]) * before
    gelu = np.asarray([value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in values])
    return np.clip(_round(gelu / after), -PEAK - 1, PEAK)


def _round(x: Any) -> Integers:
    """Return the nearest integers, halves up."""
    return np.asarray(np.floor(np.asarray(x, dtype=np.float64) + 0.5), dtype=np.int64)


def _linear(net: FloatVit, name: str, before: float, after: float | Sequence[float], *, bits: int = 8, x_bits: int = 8,
            x_signed: bool = True) -> Linear:
    """Return a matrix.

    before : unit of its inputs; after : of its outputs, one or as many as divide them
    """
    weight, bias = net.tensor(f"{name}.weight"), net.tensor(f"{name}.bias")
    step = np.maximum(np.abs(weight).max(axis=1), 1e-9) / PEAK
    units = np.asarray([after] if isinstance(after, float) else after)
    scale = factor(step * before / np.repeat(units, len(step) // len(units)))
    added = _round(bias / (step * before))
    if int(np.abs(added).max()) >= 1 << 31:
        raise ParameterError(f"{name}: bias, not {int(np.abs(added).max())} units of its sums; legal: below 2^31; "
                             "try: a network whose weights are not all 0")
    return Linear(weight=_round(weight / step[:, None]), bias=added, mult=scale.mult, shift=scale.shift, x_bits=x_bits,
                  x_signed=x_signed, bits=bits)


def _norm(net: FloatVit, name: str, after: float, before: float) -> Norm:
    """Return a normalisation of values of unit ``before`` to those of unit ``after``."""
    gain, bias = net.tensor(f"{name}.weight") / after, net.tensor(f"{name}.bias") / after
    largest = float(np.abs(gain).max())
    shift = int(np.clip(NORM_GAIN_BITS - math.frexp(largest)[1], 0, MOST_SHIFT - NORM_FRACTION)) + NORM_FRACTION
    eps = max(1, int(_round(NORM_EPS * gain.shape[0] ** 2 / before ** 2)))
    scaled = np.minimum(_round(gain * 2.0 ** (shift - NORM_FRACTION)), (1 << NORM_GAIN_BITS) - 1)
    added = _round(bias * 2.0 ** shift)
    if largest >= 1 << NORM_GAIN_BITS or int(np.abs(added).max()) >= 1 << 31:
        raise ParameterError(f"{name}: gain and bias, not {largest:.3g} and {float(np.abs(bias).max()):.3g} units; legal: "
                             f"below 2^15 and 2^{31 - shift}; try: a network that is trained for longer")
    return Norm(gain=scaled, bias=added, shift=shift, eps=eps)


def _encoder(net: FloatVit, number: int, stream: float, *, keep: bool) -> Encoder:
    """Return one encoder."""
    at = f"encoders.{number}"
    source = net.sources.get(number)
    attention, transformation, added = None, None, None
    if source is None:
        attention = _attention(net, at, stream)
        added = factor(net.unit(f"{at}.attention.attention") / stream)
    elif net.variant != "skip":
        transformation, unit = _transformation(net, at, net.unit(f"encoders.{source}.attention.attention"))
        added = factor(unit / stream)
    hidden, active = net.unit(f"{at}.up"), net.unit(f"{at}.act")
    reuse = ReuseLayer(number=number, keep=keep, reuse=source is not None, src=source or 0, mode=net.variant)
    return Encoder(
        reuse=reuse, attention=attention, transformation=transformation, added=added,
        norm=_norm(net, f"{at}.norm2", net.unit(f"{at}.norm2"), stream),
        up=_linear(net, f"{at}.up", net.unit(f"{at}.norm2"), hidden), table=gelu_table(hidden, active),
        down=_linear(net, f"{at}.down", active, stream, bits=16))


def _attention(net: FloatVit, at: str, stream: float) -> Attention:
    """Return an attention; the root of its head's width is in the table of exponentials."""
    units = {what: net.unit(f"{at}.attention.{what}") for what in ("q", "k", "v", "scores", "mixed", "attention")}
    normal = net.unit(f"{at}.norm1")
    width = net.tensor(f"{at}.attention.proj.weight").shape[1] // net.heads
    return Attention(
        norm=_norm(net, f"{at}.norm1", normal, stream), heads=net.heads,
        qkv=_linear(net, f"{at}.attention.qkv", normal, [units["q"], units["k"], units["v"]]),
        scores=factor(units["q"] * units["k"] / units["scores"]), table=exponentials(units["scores"] / math.sqrt(width)),
        mixed=factor(units["v"] / 256 / units["mixed"]),
        proj=_linear(net, f"{at}.attention.proj", units["mixed"], units["attention"]))


def _transformation(net: FloatVit, at: str, unit: float) -> tuple[Transformation | None, float]:
    """Return what stands behind the buffer, which gives values of ``unit``, and the unit of what comes of it."""
    name = f"{at}.transformation"
    depth = MODES.index(net.variant)
    if depth < MODES.index("norm"):
        return None, unit
    normal, hidden, active = (net.unit(f"{name}.{what}") for what in ("norm", "hidden", "act"))
    of_norm = _norm(net, f"{name}.norm", normal, unit)
    if depth == MODES.index("norm"):
        return Transformation(norm=of_norm), normal
    linear = _linear(net, f"{name}.linear", normal, hidden)
    if depth == MODES.index("linear"):
        return Transformation(norm=of_norm, linear=linear), hidden
    return Transformation(norm=of_norm, linear=linear, table=gelu_table(hidden, active)), active


def classes(logits: Array) -> list[int]:
    """Return the class of the largest logit of each image, the lowest one of equal ones."""
    return [int(np.argmax(np.asarray(row))) for row in logits]
