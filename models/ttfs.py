"""Time-to-first-spike networks with skip connections, trainable: plain, addition, concatenation, learnable delay.

A neuron has no leak and an exponential synaptic current: ``V(t) = sum over t_i <= t of w_i * (1 - exp(t_i - t))``, it fires
once, when V reaches 1. Times are natural (``exp(t)`` is z) and lie on ticks of ``ln 2 / 2^resolution``; a neuron fires at
the first tick at which V is at least 1, a spike at or behind the end of the window never comes.

Source: arXiv 2312.00919 (Frontiers in Neuroscience 2024), networks 3.1 to 3.3; smaller maps. What the authors' code does
otherwise, and is not done here: time is continuous there; padding is z = 0, which a comparison with 0.1 takes back, where here
it is no spike; a neuron that needs all of its inputs never fires, because the "next input" of the last one is 1; the last layer
loses a spike that falls on the next input, if that input takes the drive away, because it alone compares strictly; an addition
moves the longest time by ln 2 (it doubles the longest z), whatever the skip's is, so that a silent neuron can spike behind it;
in the networks for images the delay is commented out, and the first skip averages over padding, so that neurons at the border
never spike.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from golden.arch import tick

SKIPS = ("none", "add", "concat", "delay")
# What ``sum of w - 1`` is at least where it divides a gradient.
LEAST = 0.1


def _late(t: Tensor, end: float) -> Tensor:
    """Return ``t`` with what is at or behind the end of the window at the end, where it never comes."""
    return t.clamp(max=end)


class TtfsEncode(nn.Module):
    """Convolution, BatchNorm, max-pool and ReLU whose value is a spike time: the larger, the later.

    window, resolution : ticks of the window, log2 of the ticks of an octave
    start : mean time before training, as a share of the window; an early one leaves the earliest of neighbours little to say
    """

    def __init__(self, channels: int, columns: int, kernel: int, *, padding: int, pool: int, window: int, resolution: int,
                 start: float = 0.5) -> None:
        super().__init__()
        self.window, self.resolution, self.pool = window, resolution, pool
        self.conv = nn.Conv2d(channels, columns, kernel, padding=padding, bias=False)
        self.norm = nn.BatchNorm2d(columns)
        nn.init.constant_(self.norm.bias, start * window * tick(resolution))

    def forward(self, x: Tensor) -> Tensor:
        """Return times [N, columns, H, W] of x [N, channels, H, W]."""
        unit = tick(self.resolution)
        t = F.max_pool2d(self.norm(self.conv(x)), self.pool).relu()
        t = t + ((t / unit + 0.5).floor() * unit - t).detach()
        return _late(t, self.window * unit)


class TtfsTimes(nn.Module):
    """Spike times from outside, on ticks; those at or behind the end of the window never come."""

    def __init__(self, *, window: int, resolution: int) -> None:
        super().__init__()
        self.window, self.resolution = window, resolution

    def forward(self, t: Tensor) -> Tensor:
        """Return times [N, C, H, W] of times [N, C, H, W]."""
        unit = tick(self.resolution)
        return _late((t / unit + 0.5).floor() * unit, self.window * unit)


class _Sums(torch.autograd.Function):
    """First ticks at which V is at least 1, and ``sum of w - 1`` and ``sum of w z`` of the inputs before them.

    The first tick of a neuron that does not fire is the window. Gradients hold the ticks as they are.
    """

    @staticmethod
    def forward(ctx: Any, t: Tensor, weight: Tensor, stride: int, padding: int, window: int, unit: float
                ) -> tuple[Tensor, Tensor, Tensor]:
        ticks = torch.arange(window, device=t.device).view(-1, 1, 1, 1, 1)
        z = (ticks * unit).exp()
        planes = ((t / unit).round() == ticks).to(t.dtype)
        came = F.conv2d(planes.flatten(0, 1), weight, None, stride, padding).unflatten(0, planes.shape[:2])
        w, wz, late = torch.full_like(came[0], -1), torch.zeros_like(came[0]), torch.ones_like(came[0], dtype=torch.bool)
        first = torch.zeros_like(late, dtype=torch.int64)
        for now, arrived in zip(z.flatten().tolist(), came, strict=True):
            w_here, wz_here = w + arrived, wz + arrived * now
            late = late & (now * w_here < wz_here)
            first = first + late
            w, wz = torch.where(late, w_here, w), torch.where(late, wz_here, wz)
        ctx.save_for_backward(planes, weight, z, first)
        ctx.stride, ctx.padding = stride, padding
        ctx.mark_non_differentiable(first)
        return first, w, wz

    @staticmethod
    def backward(ctx: Any, _: Tensor, for_w: Tensor, for_wz: Tensor
                 ) -> tuple[Tensor, Tensor, None, None, None, None]:
        planes, weight, z, first = ctx.saved_tensors
        rows, shape = planes.flatten(0, 1), planes.shape[:2]
        before = first > torch.arange(len(z), device=z.device).view_as(z)
        of_wz = (before * for_wz).flatten(0, 1)
        of_w = (before * (for_w + for_wz * z)).flatten(0, 1)
        later = conv2d_input(rows.shape, weight, of_wz, ctx.stride, ctx.padding).unflatten(0, shape)
        kernel = conv2d_weight(rows, weight.shape, of_w, ctx.stride, ctx.padding)
        return (later * planes * z).sum(0), kernel, None, None, None, None


class TtfsConv2d(nn.Module):
    """Convolution of spike times: the neurons of the module's head.

    A time at or behind the end of the window is no spike; padding never spikes. The gradient is that of the logarithm of
    ``z = sum of w z / (sum of w - 1)`` over the inputs that came before the spike, and without a spike that of minus the
    membrane at the end.

    exact : return these times themselves, not their ticks: what a race needs to have few ties
    reached : sum of new weights, in the mean, in thresholds
    """

    def __init__(self, channels: int, columns: int, kernel: int, *, stride: int = 1, padding: int = 0, window: int,
                 resolution: int, exact: bool = False, reached: float = 3.0) -> None:
        super().__init__()
        self.window, self.resolution, self.stride, self.padding, self.exact = window, resolution, stride, padding, exact
        self.weight = nn.Parameter(torch.empty(columns, channels, kernel, kernel))
        fan_in = channels * kernel * kernel
        nn.init.normal_(self.weight, reached / fan_in, 1.5 / math.sqrt(fan_in))

    def forward(self, t: Tensor) -> Tensor:
        """Return times [N, columns, H', W'] of times [N, channels, H, W]."""
        unit, end = tick(self.resolution), self.window * tick(self.resolution)
        first, w, wz = _Sums.apply(t, self.weight, self.stride, self.padding, self.window, unit)
        fired = first < self.window
        smooth = torch.where(fired, wz / w.clamp(min=LEAST), 1.0).clamp(min=1e-6).log()
        exact = torch.where(fired, wz / torch.where(fired, w, 1.0), 1.0).clamp(min=1e-6).log()
        spike = smooth + ((exact if self.exact else first * unit) - smooth).detach()
        late = w - wz / math.exp(end - unit)
        return torch.where(fired, spike, end - late + late.detach())

    def reach(self) -> Tensor:
        """Return how far the weights of the neurons stay below the threshold, in the mean."""
        return (1 - self.weight.flatten(1).sum(1)).relu().mean()


class TtfsMinPool2d(nn.Module):
    """Earliest spike of a window; padding never spikes."""

    def __init__(self, kernel_size: int, stride: int, padding: int = 0) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, t: Tensor) -> Tensor:
        """Return times [N, C, H', W']."""
        return -F.max_pool2d(-t, self.kernel_size, self.stride, self.padding)


class TtfsDelay(nn.Module):
    """Add ``max(0, d)`` to the times of each channel, d learnt, on ticks; what leaves the window never comes."""

    def __init__(self, channels: int, *, window: int, resolution: int) -> None:
        super().__init__()
        self.window, self.resolution = window, resolution
        self.delay = nn.Parameter(torch.full((channels,), 0.5))

    def forward(self, t: Tensor) -> Tensor:
        """Return times [N, C, H, W]."""
        unit = tick(self.resolution)
        d = self.delay.relu()
        d = d + ((d / unit + 0.5).floor() * unit - d).detach()
        return _late(t + d[:, None, None], self.window * unit)


class TtfsAdd(nn.Module):
    """Add the times of two tensors with windows of their own; never plus anything is never."""

    def __init__(self, *, windows: tuple[int, int], resolution: int) -> None:
        super().__init__()
        self.windows, self.resolution = windows, resolution

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return times whose window is as long as both."""
        unit = tick(self.resolution)
        never = (a > (self.windows[0] - 0.5) * unit) | (b > (self.windows[1] - 0.5) * unit)
        return torch.where(never, sum(self.windows) * unit, a + b)


class TtfsConcat(nn.Module):
    """Join two tensors of one window channel by channel."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return times [N, C of a + C of b, H, W]."""
        return torch.cat([a, b], 1)


class TtfsRace(nn.Module):
    """The first spike wins: minus the times, as logits."""

    def forward(self, t: Tensor) -> Tensor:
        """Return [N, C] of times [N, C, 1, 1]."""
        return -t.flatten(1)


class TtfsNetwork(nn.Module):
    """Four convolutions of spike times behind an encoder, with two skips from the encoder, and a race of the classes.

    Every second convolution halves the map. Addition: the times of a branch and of the earliest spikes of the encoder are
    added, channels twice at the second one, so the window grows by its base each time. Concatenation: the following
    convolution reads both; the split behind the authors' channel shuffle is left out, it reads all channels.

    skip : one of `SKIPS`; window, resolution, start : of the encoder
    reached : of the neurons
    times : the input is spike times, and neurons stand where the encoder does
    """

    def __init__(self, skip: str, *, window: int, resolution: int, inputs: int = 1, width: int = 16, classes: int = 10,
                 size: int = 8, start: float = 0.5, reached: float = 3.0, times: bool = False) -> None:
        super().__init__()
        add, joins = skip == "add", skip in ("concat", "delay")
        self.skip, self.window, self.resolution = skip, window, resolution

        def neurons(inputs: int, columns: int, window: int, kernel: int = 3, stride: int = 1, padding: int = 1, *,
                    exact: bool = False) -> TtfsConv2d:
            return TtfsConv2d(inputs, columns, kernel, stride=stride, padding=padding, window=window,
                              resolution=resolution, exact=exact, reached=reached)

        self.encode = nn.Sequential(TtfsTimes(window=window, resolution=resolution), neurons(inputs, width, window)
                                    ) if times else TtfsEncode(inputs, width, 3, padding=1, pool=1, window=window,
                                                               resolution=resolution, start=start)
        self.conv1 = neurons(width, width, window, stride=2)
        self.conv2 = neurons(width, width, window)
        second, last = (window * 2, window * 3) if add else (window, window)
        self.conv3 = neurons(width * (2 if joins else 1), 2 * width, second, stride=2)
        self.conv4 = neurons(2 * width, 2 * width, second)
        self.fc = neurons(width * (3 if joins else 2), classes, last, size // 4, padding=0, exact=True)
        self.race = TtfsRace()
        if skip != "none":
            self.pool1, self.pool2 = TtfsMinPool2d(3, 2, 1), TtfsMinPool2d(3, 2, 1)
        if add:
            self.add1, self.add2 = (TtfsAdd(windows=(w, window), resolution=resolution) for w in (window, second))
            self.twice = TtfsConcat()
        if joins:
            self.concat1, self.concat2 = TtfsConcat(), TtfsConcat()
        if skip == "delay":
            self.delay1, self.delay2 = (TtfsDelay(width, window=window, resolution=resolution) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Return minus the spike times of the classes, [N, classes], of x [N, inputs, H, W]."""
        t: Tensor = self.encode(x)
        out: Tensor = self.conv2(self.conv1(t))
        if self.skip != "none":
            one = self.pool1(t)
            two = self.pool2(one)
            if self.skip == "delay":
                one, two = self.delay1(one), self.delay2(two)
        if self.skip == "add":
            out = self.add1(out, one)
        elif self.skip != "none":
            out = self.concat1(one, out)
        out = self.conv4(self.conv3(out))
        if self.skip == "add":
            out = self.add2(out, self.twice(two, two))
        elif self.skip != "none":
            out = self.concat2(two, out)
        logits: Tensor = self.race(self.fc(out))
        return logits

    def reach(self) -> Tensor:
        """Return the penalty of networks 3.3 on neurons that cannot fire."""
        parts: list[Any] = [module.reach() for module in self.modules() if isinstance(module, TtfsConv2d)]
        return torch.stack(parts).sum()
