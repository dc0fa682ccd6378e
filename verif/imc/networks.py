"""Random layers for cores of tiles, as integer networks of one layer."""

import random
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from golden.imc.arch import ImcArch
from golden.imc.cells import weight_range
from golden.network import (
    SHARES,
    Input,
    Layer,
    Network,
    Neuron,
    Pass,
    Pool,
    Requantise,
    number_planes,
    spike_planes,
)
from golden.window import extent

READINGS = 4096  # of a random layer at most: outputs * positions * steps * row groups * bits; a bench of them ends in seconds


def readings(p: ImcArch, network: Network) -> int:
    """Return how often columns of a layer of one pass are read: once for each output, position, group of rows and plane."""
    layer = network.layers[0]
    outputs, channels, kernel, _ = (int(n) for n in layer.passes[0].weight.shape)
    window = kernel, layer.passes[0].stride, layer.passes[0].padding
    positions = extent(network.input.height, *window) * extent(network.input.width, *window)
    return outputs * positions * len(layer.passes[0].planes) * -(-channels * kernel * kernel // p.group_rows)


def random_network(rng: random.Random, p: ImcArch, scheme: str, *,
                   numbers: bool | None = None) -> tuple[Network, dict[str, NDArray[np.int64]]]:
    """Return a layer that the core holds, of at most `READINGS`, and the words of its operand.

    numbers : operands of numbers of up to four bits, or of spikes of each step; None: of any
    """
    while True:
        network, words = draw(rng, p, scheme, numbers=numbers)
        if readings(p, network) <= READINGS:
            return network, words


def draw(rng: random.Random, p: ImcArch, scheme: str, *,
         numbers: bool | None = None) -> tuple[Network, dict[str, NDArray[np.int64]]]:
    """Return a layer that the core holds, of any size, and the words of its operand."""
    channels, outputs = rng.choice((1, 3, p.rows // 2, p.rows, p.rows + 5)), rng.randint(1, min(12, p.channels))
    height, width = rng.randint(2, 6), rng.randint(2, 6)
    kernel, stride, padding = rng.choice(((1, 1, 0), (3, 1, 1), (2, 2, 0), (3, 2, 1), (2, 1, 1)))
    numbers = rng.random() < 0.3 if numbers is None else numbers
    ends = rng.choice(("neuron", "neuron", "scale", "readout"))
    steps = 1 if ends == "scale" else rng.randint(1, 4)
    low, high = weight_range(p, scheme)
    weight = np.asarray([[[[rng.choice((0, 0, low, high, rng.randint(low, high))) for _ in range(kernel)]
                           for _ in range(kernel)] for _ in range(channels)] for _ in range(outputs)], np.int64)
    bits = rng.randint(1, min(4, p.input_bits)) if numbers else 1
    signed = numbers and bits > 1 and rng.random() < 0.5
    planes = number_planes(bits, signed, tuple(range(steps))) if numbers else spike_planes(steps)
    density = rng.choice((0.1, 0.5, 1.0))
    words = np.asarray([rng.getrandbits(len(planes)) if rng.random() < density else 0
                        for _ in range(channels * height * width)], np.int64).reshape(channels, height, width)
    out = [extent(n, kernel, stride, padding) for n in (height, width)]
    pools = rng.choice((None, Pool(kernel=2, stride=2), Pool(kernel=2, stride=1)))
    pool = pools if min(out) >= 2 and ends != "readout" else None
    spread = (high - low) * channels * kernel
    share = rng.choice([share for share in SHARES if outputs % share == 0])
    layer = Layer(
        name="layer", passes=(Pass(source="input.0", weight=weight, stride=stride, padding=padding, planes=planes),),
        bias=np.asarray([rng.randint(-9, 9) for _ in range(outputs)]),
        neuron=Neuron(threshold=np.asarray([rng.randint(1, max(2, spread // 4)) for _ in range(outputs // share)] * share),
                      leak_shift=rng.choice((0, 1)), decay_input=rng.random() < 0.5, compare=rng.choice((">=", ">")),
                      reset=rng.choice(("hard", "soft", "soft_delayed")), share=share) if ends == "neuron" else None,
        requantise=Requantise(multiplier=np.asarray([rng.randint(1, 1 << 15) for _ in range(outputs)]),
                              shift=np.asarray([rng.randint(16, 20) for _ in range(outputs)]),
                              bits=rng.randint(2, p.input_bits), signed=rng.random() < 0.5) if ends == "scale" else None,
        readout=ends == "readout")
    if pool:
        other = replace(layer, or_pool=pool) if ends == "neuron" else replace(layer, sum_pool=pool)
        layer = rng.choice((replace(layer, max_pool=pool), other))
    return Network(name="random", steps=steps, layers=(layer,), input=Input(
        kind="static" if numbers else "steps", channels=channels, height=height, width=width, bits=bits, scale=1.0,
        plane_bits=len(planes))), {"input.0": words}
