"""Random torch modules that go the whole way of a user's network: captured, lowered, and then run."""

import operator
import random
import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from golden.arch import Arch, ParameterError
from golden.capture import trace
from golden.dynamics import leaks
from golden.lower import lower
from golden.network import Network, map_arrays
from golden.store import Captured
from golden.window import extent
from hdl.image import build_image
from models.spiking import SeqToANNContainer
from models.statten import SpatialTemporalAttention

# What a build's limits, and no fault of lowering, refuse.
LIMITS = re.compile(r"needs (more than )?\d|words of one width|pools \d")
INPUTS = (("static", 8), ("static", 8), ("static", 5), ("steps", 1), ("steps", 3))
STEPS = (1, 2, 3, 4, 4, 5, 8, 16)
DENSITIES = (0.0, 0.1, 0.3, 0.6, 1.0, 1.0)


class IFNode(nn.Module):
    """A neuron of SpikingJelly's name, parameters and step: ``h = v + x``, fire ``h >= v_threshold``, then reset.

    ``step_mode`` ``"s"`` takes a step, ``"m"`` all of [T, ...].
    """

    def __init__(self, v_threshold: float, v_reset: float | None, step_mode: str = "s") -> None:
        super().__init__()
        self.v_threshold, self.v_reset, self.step_mode = v_threshold, v_reset, step_mode
        self.reset()

    def reset(self) -> None:
        """Return the membrane to rest."""
        self.v: Tensor | float = self.v_reset or 0.0

    def charge(self, x: Tensor) -> Tensor:
        """Return the membrane before it fires."""
        return self.v + x

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step, or all."""
        return self._step(x) if self.step_mode == "s" else torch.stack([self._step(current) for current in x])

    def _step(self, x: Tensor) -> Tensor:
        h = self.charge(x)
        spikes = (h >= self.v_threshold).to(x.dtype)
        self.v = h - spikes * self.v_threshold if self.v_reset is None else torch.where(spikes > 0, self.v_reset, h)
        return spikes


class LIFNode(IFNode):
    """SpikingJelly's leaky neuron: the membrane decays towards its reset value, with or without the input."""

    def __init__(self, v_threshold: float, v_reset: float | None, tau: float, decay_input: bool, step_mode: str = "s") -> None:
        self.tau, self.decay_input = tau, decay_input
        super().__init__(v_threshold, v_reset, step_mode)

    def charge(self, x: Tensor) -> Tensor:
        """Return the membrane before it fires."""
        above = self.v - (self.v_reset or 0.0)
        return self.v + (x - above) / self.tau if self.decay_input else self.v - above / self.tau + x


class Leaky(nn.Module):
    """snnTorch's leaky neuron: the membrane is reset in the step behind a spike, fire ``mem > threshold``."""

    def __init__(self, beta: float, threshold: float, reset_mechanism: str) -> None:
        super().__init__()
        self.beta, self.threshold, self.reset_mechanism = beta, threshold, reset_mechanism
        self.reset_delay, self.init_hidden, self.graded_spikes_factor = True, True, 1
        self.reset_mem()

    def reset_mem(self) -> None:
        """Return the membrane to rest."""
        self.mem: Tensor = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step."""
        fired = (self.mem > self.threshold).to(x.dtype)
        kept = self.mem * (1 - fired) if self.reset_mechanism == "zero" else self.mem
        self.mem = self.beta * kept + x - (fired * self.threshold if self.reset_mechanism == "subtract" else 0)
        return (self.mem > self.threshold).to(x.dtype)


def over_map(x: Tensor) -> Tensor:
    """Return the sum over the map."""
    return x.sum((-2, -1), keepdim=True)


class Stack(nn.Module):
    """A module whose ``forward`` follows a list.

    plan : name of a layer, or a function, and the values that it reads; value 0 is the input
    shapes : ``(C, H, W)`` of every value
    steps : T of a module that takes all steps at once; None for one that is called step by step
    """

    def __init__(self, shape: tuple[int, int, int], steps: int | None) -> None:
        super().__init__()
        self.plan: list[tuple[str | Callable[..., Tensor], tuple[int, ...]]] = []
        self.shapes, self.steps = [shape], steps

    def put(self, shape: tuple[int, int, int], layer: nn.Module | Callable[..., Tensor], *values: int) -> int:
        """Append one step and return the number of its value."""
        step: str | Callable[..., Tensor] = layer
        if isinstance(layer, nn.Module):
            step = f"{type(layer).__name__.lower()}{len(self.plan)}"
            alone = self.steps is None or isinstance(layer, (IFNode, SpatialTemporalAttention))
            self.add_module(step, layer if alone else SeqToANNContainer(layer))
        self.plan.append((step, values))
        self.shapes.append(shape)
        return len(self.plan)

    def forward(self, x: Tensor) -> Tensor:
        """Return the last value."""
        values = [x]
        for step, numbers in self.plan:
            call = self.get_submodule(step) if isinstance(step, str) else step
            values.append(call(*(values[number] for number in numbers)))
        return values[-1]


class ModuleMaker:
    """Draws random modules whose lowered networks fit a build.

    2 to 6 layers, 1 to 9 channels, maps up to 8 pixels wide and not square, kernels 1 to 5, strides 1 to 3, padding 0
    to 2, BatchNorm, max- and average pools of spikes and currents, linear layers in a row, spikes, shortcuts and
    residual streams that are added, every leak and reset of the libraries' neurons that the build has, weight
    densities 0 to 1, T from 1 to ``t_max``; where the build has requantisers sometimes ReLU in place of all neurons,
    and T = 1; where it has attention, modules that take all steps at once, with blocks of it or of spike-driven attention.
    """

    def __init__(self, arch: Arch, seed: int) -> None:
        self.arch, self.random = arch, random.Random(f"module {seed}")
        self.generator = torch.Generator().manual_seed(seed)
        self.rectified, self.whole = False, False
        self.lively: list[nn.Module] = []

    def network(self, name: str) -> Network:
        """Return the lowered network of the first module that fits, in torch tensors."""
        while True:
            steps = min(self.random.choice(STEPS), self.arch.t_max)
            captured = self.captured()
            kind, bits = self.random.choice(INPUTS)
            try:
                network = lower(captured, captured.steps or steps, self.arch, name=name, input_kind=kind, input_bits=bits,
                                input_scale=1 / max(1, (1 << bits - 1) - 1))
                build_image(network, self.arch)
            except ParameterError as error:
                if not LIMITS.search(str(error)):
                    raise
                continue
            return map_arrays(network, torch.asarray)

    def captured(self) -> Captured:
        """Return one random module as a captured network."""
        with torch.random.fork_rng(devices=[]):
            module = self.module()
        for layer in module.modules():
            self._fill(layer)
        shape = module.shapes[0] if module.steps is None else (1, *module.shapes[0])
        shown = torch.randn(8, *shape, generator=self.generator) if self.rectified else torch.zeros(module.steps or 1, *shape)
        return trace(module.eval(), shown)

    def module(self) -> Stack:
        """Return one random module, its weights not set."""
        draw = self.random.randint
        self.rectified = self.arch.requantise and self._coin(0.4)
        self.whole = self.arch.attention and not self.rectified and self._coin(0.6)
        steps = min(self.random.choice(STEPS), self.arch.t_max) if self.whole else None
        channels, height, width = draw(1, 5), draw(2, 8), draw(2, 8)
        stack = Stack((channels, height, height if self.whole and self._coin(0.6) else width), steps)
        spikes, streams = 0, list[int]()
        for _ in range(draw(1, 5)):
            currents = self._join(stack, self._convolution(stack, spikes), spikes, streams)
            if self._coin(0.3):
                streams.append(currents)
            elif self._coin(0.15):
                currents = self._max_pool(stack, currents)
            spikes = stack.put(stack.shapes[currents], self._neuron(), currents)
            if self._coin(0.2):
                spikes = self._max_pool(stack, spikes)
            elif self._coin(0.1):
                spikes = self._average(stack, spikes)
            elif stack.steps is not None and self._coin(0.6):
                spikes = self._attention(stack, spikes, stack.steps)
        self._read_out(stack, spikes)
        return stack

    def _coin(self, share: float) -> bool:
        return self.random.random() < share

    def _convolution(self, stack: Stack, source: int) -> int:
        """Append a convolution, maybe with BatchNorm2d and an average of its currents."""
        channels, height, width = stack.shapes[source]
        columns, kernel, stride = self.random.randint(1, 9), self.random.randint(1, 5), self.random.choice((1, 1, 1, 2, 3))
        kernel = min(kernel, height + 4, width + 4)
        padding = max(self.random.randint(0, 2), -(-(kernel - min(height, width)) // 2))
        if self._coin(0.4):
            columns, kernel, stride, padding = channels, 3, 1, 1
        after = map_size((height, width), kernel, stride, padding)
        value = stack.put((columns, *after), nn.Conv2d(channels, columns, kernel, stride, padding, bias=self._coin(0.7)),
                          source)
        if self._coin(0.4):
            value = stack.put((columns, *after), nn.BatchNorm2d(columns), value)
        return self._average(stack, value) if self._coin(0.1) else value

    def _join(self, stack: Stack, value: int, spikes: int, streams: list[int]) -> int:
        """Add what fits to currents: a stream, the spikes that they come from, or a shortcut of these."""
        shape, (channels, height, width) = stack.shapes[value], stack.shapes[spikes]
        same = [stream for stream in streams if stack.shapes[stream] == shape]
        if same and self._coin(0.8):
            return stack.put(shape, operator.add, value, same[-1])
        if not self._coin(0.4):
            return value
        if shape == stack.shapes[spikes] and self._coin(0.5):
            return stack.put(shape, operator.add, value, spikes)
        stride = next((s for s in (1, 2, 3) if map_size((height, width), 1, s, 0) == shape[1:]), None)
        if stride is None:
            return value
        shortcut = stack.put(shape, nn.Conv2d(channels, shape[0], 1, stride), spikes)
        return stack.put(shape, operator.add, value, shortcut)

    def _attention(self, stack: Stack, spikes: int, steps: int) -> int:
        """Append queries, keys, values and what they make: attention and its neurons, or a mask of every channel."""
        channels, height, width = stack.shapes[spikes]
        heads, head = self.random.randint(1, 2), 8 * self.random.randint(1, 2)
        shape = (heads * head, height, width)
        projections = [nn.Conv2d(channels, shape[0], 1) for _ in range(3)]
        self.lively += projections
        query, key, value = (stack.put(shape, self._neuron(), stack.put(shape, conv, spikes)) for conv in projections)
        if height == width and self._coin(0.5):
            pixel = (shape[0], 1, 1)
            sums = stack.put(pixel, over_map, stack.put(shape, operator.mul, key, value))
            return stack.put(shape, operator.mul, query, stack.put(pixel, self._neuron(), sums))
        chunk_steps = self.random.choice([n for n in range(1, steps + 1) if steps % n == 0])
        attention = SpatialTemporalAttention(heads, chunk_steps, 2 * self.random.randint(1, 4))
        spikes = stack.put(shape, self._neuron(hard=True), stack.put(shape, attention, query, key, value))
        if self._coin(0.5):
            spikes = stack.put(shape, operator.add, stack.put(shape, operator.mul, spikes, query), query)
        return spikes

    def _max_pool(self, stack: Stack, value: int) -> int:
        channels, height, width = stack.shapes[value]
        kernel, stride, padding = self.random.choice(((2, 2, 0), (3, 2, 1), (2, 1, 0), (3, 1, 1)))
        after = map_size((height, width), kernel, stride, padding)
        return value if min(after) < 1 else stack.put((channels, *after), nn.MaxPool2d(kernel, stride, padding), value)

    def _average(self, stack: Stack, value: int) -> int:
        """Append an average pool where it divides the map, as a padded convolution behind it needs."""
        channels, height, width = stack.shapes[value]
        if height % 2 or width % 2:
            return value
        adaptive = height == width and self._coin(0.7)
        pool = nn.AdaptiveAvgPool2d(height // 2) if adaptive else nn.AvgPool2d(2)
        return stack.put((channels, height // 2, width // 2), pool, value)

    def _read_out(self, stack: Stack, spikes: int) -> None:
        """Append Flatten and one or two Linear, or a convolution, and sometimes neurons whose spikes are counted."""
        channels, height, width = stack.shapes[spikes]
        classes = self.random.randint(1, 7)
        if self._coin(0.6):
            features = channels * height * width
            last = stack.put((features, 1, 1), nn.Flatten(), spikes)
            if self._coin(0.3):
                last, features = stack.put((5, 1, 1), nn.Linear(features, 5), last), 5
            last = stack.put((classes, 1, 1), nn.Linear(features, classes), last)
        else:
            last = stack.put((classes, height, width), nn.Conv2d(channels, classes, 1), spikes)
        if self._coin(0.2):
            stack.put(stack.shapes[last], self._neuron(), last)

    def _neuron(self, *, hard: bool = False) -> nn.Module:
        """Return a neuron; ``hard`` : one that is reset to 0 and whose threshold, over its gain, is a multiple of 1/2."""
        if self.rectified:
            return nn.ReLU()
        choose, mode = self.random.choice, "m" if self.whole else "s"
        leak, threshold = choose(sorted(leaks(self.arch))), choose((0.5, 1.0) if hard else (0.25, 0.5, 1.0))
        if not self.whole and self._coin(0.4):
            return Leaky(leak, threshold, choose(("zero", "subtract")))
        reset = 0.0 if hard else choose((0.0, -0.25, None))
        if leak == 1:
            return IFNode(threshold, reset, mode)
        return LIFNode(threshold, reset, 1 / (1 - leak), self._coin(0.5) and not (hard and leak == 0.25), mode)

    def _fill(self, layer: nn.Module) -> None:
        """Set the weights of a layer so that its currents are near 1; those of `lively` ones fire where nothing comes in."""
        if isinstance(layer, nn.BatchNorm2d):
            for name, low, high in (("weight", 0.3, 2.0), ("bias", -0.3, 0.5), ("running_mean", -0.3, 0.3),
                                    ("running_var", 0.2, 2.0)):
                getattr(layer, name).data.uniform_(low, high, generator=self.generator)
        elif isinstance(layer, (nn.Conv2d, nn.Linear)):
            weight, density = layer.weight.data, self.random.choice(DENSITIES)
            keep = torch.rand(weight.shape, generator=self.generator) < density
            weight.normal_(0, 1.5 / max(1.0, density * weight[0].numel()) ** 0.5, generator=self.generator)
            weight *= keep
            if layer.bias is not None:
                layer.bias.data.uniform_(-0.2, 1.2 if layer in self.lively else 0.4, generator=self.generator)


def map_size(size: tuple[int, int], kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """Return height and width of a map behind a square window."""
    height, width = (extent(side, kernel, stride, padding) for side in size)
    return height, width
