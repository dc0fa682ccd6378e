"""The published networks without their weights: random ones, thresholds for the silent ratios."""

import importlib
from dataclasses import replace
from typing import TYPE_CHECKING

from golden.arch import Arch, ParameterError
from golden.calibrate import calibrated, calibrated_evenly
from golden.limits import check
from golden.lower import lower, quantise_input
from golden.network import Array, Network, input_words
from golden.split_layer import split_layer
from golden.synthetic import Figures, with_sparsity, with_weights
from models.datasets import seeded
from models.published import published
from models.workloads import Shipped

if TYPE_CHECKING:
    from torch import Tensor, nn

# What a stream that is shown as an image is multiplied by: its spread is then that of the sums that are added to it.
STREAM_GAIN = 8


def synthetic_network(facts: Shipped, arch: Arch, steps: int, width: float = 1.0, *, leak_nearest: bool = False,
                      example: "Tensor | None" = None) -> Network:
    """Return the integer network that ``facts`` describe, at a share ``width`` of its channels.

    The layers are those of the torch module, captured and lowered; weights and thresholds are `golden.synthetic`'s, the
    latter for the first seeded image.
    example : an input of another size than the module's own
    Raises `ParameterError` when a build does not hold it.
    """
    import torch

    if steps < 2 and facts.silent is None:
        raise ParameterError(f"T: must be in 2..{arch.t_max} for {facts.name}, whose neurons that fire once are silent, "
                             f"not {steps}; try: --T {facts.steps}")
    module = importlib.import_module(f"models.{facts.name.replace('-', '_')}")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = module.Model(width)
    if facts.silent is None:
        network = _lowered(facts, model, torch.zeros(module.EXAMPLE_SHAPE), arch, steps, leak_nearest)
        figures = [Figures(layer.K, layer.N, layer.nonzeros, layer.silent) for layer in published(facts.name, width)]
        network = with_weights(network, figures)
        network = calibrated(network, _first(network), figures)
    else:
        network = _lowered(facts, model, module.example() if example is None else example, arch, steps, leak_nearest)
        network = with_sparsity(_stored(network), facts.weight_sparsity, STREAM_GAIN)
        network = calibrated_evenly(network, _first(network), facts.silent)
    layers = [part for layer in network.layers[:-1] for part in split_layer(layer, arch, steps, flat=False)]
    network = replace(network, layers=(*layers, *split_layer(network.layers[-1], arch, steps, flat=True)))
    check(network, arch)
    return network


def _lowered(facts: Shipped, model: "nn.Module", example: "Tensor", arch: Arch, steps: int, leak_nearest: bool) -> Network:
    """Return the module's layers as integers, for ``arch`` without its limits."""
    from golden.capture import trace

    endless = replace(arch, dataflow="lockstep", rows=1, max_chunks=1024, row_value_lines=4096, weight_bits=8,
                      pool_channels=4096, buffer_bytes=1 << 40, acc_bits=32, stream_bits=32, membrane_bits=32,
                      attention=True, attention_columns=64, token_sum=True)
    return lower(trace(model, example), steps, endless, name=facts.name, input_kind=facts.input_kind,
                 input_bits=facts.input_bits, input_scale=facts.input_scale, leak_nearest=leak_nearest)


def _stored(network: Network) -> Network:
    """Return ``network`` with a stream at its end stored step by step, as for layers behind it, in place of its sum."""
    *before, last = network.layers
    return replace(network, layers=(*before, replace(last, store_currents=True, readout=False) if last.residual else last))


def _first(network: Network) -> dict[str, Array]:
    """Return the operand words of the first seeded image, in tensors."""
    import torch

    spec = network.input
    words = input_words(quantise_input(seeded(1, (spec.channels, spec.height, spec.width))[0], spec), spec, network.steps)
    return {name: torch.from_numpy(word) for name, word in words.items()}
