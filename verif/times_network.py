"""Random integer networks of time-to-first-spike neurons: every kind of skip, pools, delays, an encoder and a race."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from golden.network import Input, Layer, Network, Pass, Pool, Requantise, Ttfs, input_planes, number_planes

Weights = Callable[..., Tensor]
LONGEST = 31


def zeros(count: int) -> Tensor:
    """Return int64 zeros."""
    return torch.zeros(count, dtype=torch.int64)


@dataclass(frozen=True, kw_only=True)
class Times:
    """Sizes of a network: ``channels`` of its hidden layers, ``classes`` of its race, ``height`` and ``width`` of its input.

    window : ticks of the encoder, at most `LONGEST`; behind the addition it doubles
    """

    window: int
    resolution: int
    channels: int = 6
    classes: int = 10
    height: int = 8
    width: int = 8
    plane_bits: int = 16


def times_network(name: str, form: Times, generator: torch.Generator, weight: Weights) -> Network:
    """Return pixels to times, neurons with stride 2, a skip added, a delayed skip concatenated, and the race.

    weight : called with a shape, returns int8 weights
    """
    count, window, zero = form.channels, form.window, zeros(form.channels)
    bits, wide = window.bit_length(), (2 * window).bit_length()

    def neurons(window: int, bits: int, count: int = count) -> Ttfs:
        threshold = torch.randint(20, 120, (count,), generator=generator)
        return Ttfs(threshold=threshold, window=window, resolution=form.resolution, bits=bits)

    def clip(bits: int) -> Requantise:
        return Requantise(multiplier=zero + 127, shift=zero + 7, bits=bits)

    spec = Input(kind="static", channels=1, height=form.height, width=form.width, bits=5, scale=1.0,
                 plane_bits=form.plane_bits)
    eye = torch.eye(count, dtype=torch.int8)[:, :, None, None]
    flipped = tuple(replace(plane, negate=True) for plane in number_planes(bits))
    middle = [(size // 2 + 1) // 2 for size in (form.height, form.width)]
    layers = (
        Layer(name="pixels", bias=zero, store_currents=True, passes=tuple(
            Pass(source=source, weight=weight(count, 1, 3, 3), padding=1, planes=planes)
            for source, planes in input_planes(spec, 1))),
        Layer(name="levels", bias=zero, passes=(), residual="pixels", max_pool=Pool(kernel=2, stride=2),
              requantise=Requantise(multiplier=zero + 80 * window, shift=zero + 16, bits=bits)),
        Layer(name="times", bias=zero + window, store_currents=True, requantise=clip(bits),
              passes=(Pass(source="levels", weight=eye, planes=flipped),)),
        Layer(name="first", bias=zero, ttfs=neurons(window, bits), passes=(
            Pass(source="times", weight=weight(count, count, 3, 3), padding=1, stride=2, planes=number_planes(bits)),)),
        Layer(name="earliest", bias=zero, passes=(), residual="times", max_pool=Pool(kernel=3, stride=2, padding=1),
              store_currents=True),
        Layer(name="delayed", bias=zero + window - torch.arange(count) % window, passes=(), residual="earliest",
              requantise=clip(wide)),
        Layer(name="added", bias=zero, residual="earliest", ttfs=neurons(window, wide), passes=(
            Pass(source="first", weight=weight(count, count, 3, 3), padding=1, planes=number_planes(bits)),)),
        Layer(name="joined", bias=zero, ttfs=neurons(2 * window, wide), passes=(
            Pass(source="added", weight=weight(count, count, 1, 1), planes=number_planes(wide)),
            Pass(source="delayed", weight=weight(count, count, 1, 1), planes=number_planes(wide)))),
        Layer(name="race", bias=zeros(form.classes), readout=True, ttfs=neurons(2 * window, wide, form.classes), passes=(
            Pass(source="joined", weight=weight(form.classes, count, *middle), planes=number_planes(wide)),)),
    )
    return Network(name=name, steps=1, input=spec, layers=layers)
