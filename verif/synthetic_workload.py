"""The published networks without their weights: random ones at the published counts, thresholds for the silent ratios."""

import importlib
from dataclasses import replace

from golden.arch import Arch, ParameterError
from golden.calibrate import calibrated
from golden.limits import check
from golden.lower import lower, quantise_input
from golden.network import Network, input_words
from golden.split_layer import split_layer
from golden.synthetic import Figures, with_weights
from models.datasets import seeded
from models.published import published
from models.workloads import Shipped


def synthetic_network(facts: Shipped, arch: Arch, steps: int, width: float = 1.0, *, leak_nearest: bool = False) -> Network:
    """Return the integer network that ``facts`` describe, at a share ``width`` of its channels.

    The layers are those of the torch module, captured and lowered; weights and thresholds are `golden.synthetic`'s, the
    latter for the first seeded image.
    Raises `ParameterError` when a build does not hold it.
    """
    import torch

    from golden.capture import trace

    if steps < 2:
        raise ParameterError(f"T: must be in 2..{arch.t_max} for {facts.name}, whose neurons that fire once are silent, "
                             f"not {steps}; try: --T {facts.steps}")
    module = importlib.import_module(f"models.{facts.name}")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        captured = trace(module.Model(width), torch.zeros(module.EXAMPLE_SHAPE))
    endless = replace(arch, dataflow="lockstep", rows=1, max_chunks=1024, row_value_lines=4096, weight_bits=8,
                      pool_channels=4096, buffer_bytes=1 << 40, acc_bits=32, stream_bits=32, membrane_bits=32)
    network = lower(captured, steps, endless, name=facts.name, input_kind=facts.input_kind, input_bits=facts.input_bits,
                    input_scale=facts.input_scale, leak_nearest=leak_nearest)
    figures = [Figures(layer.K, layer.N, layer.nonzeros, layer.silent) for layer in published(facts.name, width)]
    network = with_weights(network, figures)
    words = input_words(quantise_input(seeded(1)[0], network.input), network.input, steps)
    network = calibrated(network, {name: torch.from_numpy(word) for name, word in words.items()}, figures)
    layers = [part for layer in network.layers[:-1] for part in split_layer(layer, arch, steps, flat=False)]
    network = replace(network, layers=(*layers, *split_layer(network.layers[-1], arch, steps, flat=True)))
    check(network, arch)
    return network
