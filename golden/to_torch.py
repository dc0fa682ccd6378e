"""An integer network as a torch module whose spikes a library's neurons make."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from golden.arch import ParameterError
from golden.digit import digit
from golden.float_run import attended
from golden.network import Array, Network, Neuron, Pass, Pool, input_words, map_arrays, operand
from golden.neuron import joined, visits
from golden.requantise import requantise

MakeNeuron = Callable[[float, Neuron], nn.Module]


def spikingjelly_neuron(threshold: float, p: Neuron) -> nn.Module:
    """Return a SpikingJelly single-step node that does ``p`` with one threshold; ``>`` is the next float above it."""
    from spikingjelly.activation_based import neuron as library

    decay = 2.0 ** -p.leak_shift if p.leak == "2^-k" else 1 - 2.0 ** -p.leak_shift
    if p.reset == "soft_delayed" or (p.reset == "soft" and p.compare == ">") or decay == 0:
        raise ParameterError(f"to_torch: SpikingJelly has no neuron with reset {p.reset!r}, compare {p.compare!r}, "
                             f"leak {decay:g}; legal: hard, or soft with '>='; try: a neuron factory of your own")
    level = threshold if p.compare == ">=" else float(torch.nextafter(torch.tensor(threshold), torch.tensor(torch.inf)))
    reset = 0.0 if p.reset == "hard" else None
    node: nn.Module
    if decay == 1:
        node = library.IFNode(v_threshold=level, v_reset=reset)
    else:
        node = library.LIFNode(tau=1 / (1 - decay), decay_input=p.decay_input, v_threshold=level, v_reset=reset)
    return node


class IntegerModule(nn.Module):
    """A torch module with the integer network's weights as float32, its spikes made by a library's neurons.

    ``spikes`` holds [T, B, N, H, W] per layer after a call. Exact wherever float32 is (networks F4).
    """

    def __init__(self, network: Network, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.network, self.make_neuron = map_arrays(network, torch.asarray), make_neuron
        self.spikes: dict[str, Tensor] = {}

    def forward(self, x: Array) -> Tensor:
        """Return logits [B, classes] of quantised inputs, int64 [B, C, H, W] or [B, T, C, H, W]."""
        network = self.network
        images = [input_words(image, network.input, network.steps) for image in torch.as_tensor(x)]
        words = {name: torch.stack([image[name] for image in images]) for name in images[0]}
        values: dict[str, Tensor] = {}
        stored: dict[str, Tensor] = {}
        self.spikes, currents = {}, torch.empty(0)
        for layer in network.layers:
            parts = [self._pass(p, words, values) for p in layer.passes]
            if layer.residual is not None:
                parts.append(stored[layer.residual])
            if layer.attention is not None:
                p = layer.attention
                query, key, value = (values[name] for name in p.sources)
                parts.append(attended(query, key, value, p.heads, p.chunk_steps).clamp(max=p.saturation))
            currents = torch.stack(parts).sum(0) + layer.bias.float()[:, None, None]
            if layer.max_pool is not None:
                currents = _pool(currents, layer.max_pool)
            if layer.sum_pool is not None:
                currents = _sum_pool(currents, layer.sum_pool)
            stored[layer.name] = currents
            if layer.neuron is not None:
                spikes = self._neuron(currents, layer.neuron)
                self.spikes[layer.name] = spikes
                spikes = spikes * (spikes.sum(0) >= layer.min_spikes)
                values[layer.name] = spikes if layer.or_pool is None else _pool(spikes, layer.or_pool)
            elif layer.requantise is not None:
                number = requantise(_whole(currents)[layer.requantise.step], layer.requantise)
                values[layer.name] = _bits(number, layer.requantise.bits)
            elif layer.digit is not None:
                values[layer.name] = _bits(digit(_whole(currents), layer.digit), layer.word_width(network.steps))
        return currents.sum(0).flatten(1)

    def _pass(self, p: Pass, words: dict[str, Tensor], values: dict[str, Tensor]) -> Tensor:
        steps = self.network.steps
        if p.source in words:
            source = torch.stack([(words[p.source] >> b) & 1 for b in range(len(p.planes))]).float()
        else:
            source = values[p.source]
        source = operand(source, p)
        summed = torch.zeros(steps, *source.shape[1:])
        for bit, plane in zip(source, p.planes, strict=True):
            for t in plane.steps:
                summed[t] += (-bit if plane.negate else bit) * 2.0 ** plane.shift
        out = F.conv2d(summed.flatten(0, 1), p.weight.float(), None, p.stride, p.padding)
        return out.reshape(steps, -1, *out.shape[1:])

    def _neuron(self, currents: Tensor, p: Neuron) -> Tensor:
        currents = visits(currents, p.share, 2)
        spikes, thresholds = torch.zeros_like(currents), p.threshold[: currents.shape[2]]
        for threshold in sorted(set(thresholds.tolist())):
            channels = thresholds == threshold
            node = self.make_neuron(float(threshold), p)
            spikes[:, :, channels] = torch.stack([node(x) for x in currents[:, :, channels]]).detach()
        return torch.asarray(joined(spikes, p.share, 2))


def _whole(currents: Tensor) -> Tensor:
    """Return currents [T, B, N, H, W] as int64 [T, N, B, H, W]."""
    return currents.movedim(2, 1).to(torch.int64)


def _bits(number: Tensor, bits: int) -> Tensor:
    """Return the bits [bits, B, N, H, W] of words [N, B, H, W]."""
    return torch.stack([(number.movedim(0, 1) >> b & 1).float() for b in range(bits)])


def _pool(x: Tensor, pool: Pool) -> Tensor:
    out = F.max_pool2d(x.flatten(0, 1), pool.kernel, pool.stride, pool.padding)
    return out.reshape(*x.shape[:2], *out.shape[1:])


def _sum_pool(x: Tensor, pool: Pool) -> Tensor:
    out = F.avg_pool2d(x.flatten(0, 1), pool.kernel, pool.stride, pool.padding, divisor_override=1)
    return out.reshape(*x.shape[:2], *out.shape[1:])


def to_torch(network: Network, make_neuron: MakeNeuron = spikingjelly_neuron) -> IntegerModule:
    """Return ``network`` as a torch module whose neurons ``make_neuron(threshold, parameters)`` builds.

    Raises `ParameterError` for time-to-first-spike neurons, which no library has.
    """
    if any(layer.ttfs for layer in network.layers):
        raise ParameterError("to_torch: no library has the time-to-first-spike neurons of this network; legal: neurons of "
                             "SpikingJelly; try: golden.run.run")
    return IntegerModule(network, make_neuron)
