"""What the shipped networks share: a neuron that learns, networks that take one timestep per call, layers of all steps."""

from typing import Any

import torch
from torch import Tensor, nn


class _Spike(torch.autograd.Function):
    """Step function forward, derivative of ``atan(pi x) / pi`` backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        slope: Tensor = gradient / (1 + (torch.pi * x) ** 2)
        return slope


class LIFNode(nn.Module):
    """Steps of ``h = v + (x - v) / tau``, fire ``h >= v_threshold``, hard reset to 0, or soft reset where ``v_reset`` is None.

    Same attributes and step as SpikingJelly's ``LIFNode(decay_input=True)``: with ``step_mode`` ``"s"`` a call is one step,
    with ``"m"`` it takes all of [T, ...].
    """

    def __init__(self, tau: float = 2.0, v_threshold: float = 1.0, step_mode: str = "s", *, soft: bool = False) -> None:
        super().__init__()
        self.tau, self.decay_input, self.v_threshold, self.step_mode = tau, True, v_threshold, step_mode
        self.v_reset = None if soft else 0.0
        self.v: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step, or all."""
        return self._step(x) if self.step_mode == "s" else torch.stack([self._step(current) for current in x])

    def _step(self, x: Tensor) -> Tensor:
        h = self.v + (x - self.v) / self.tau
        spike: Tensor = _Spike.apply(h - self.v_threshold)
        self.v = h - spike * self.v_threshold if self.v_reset is None else h * (1 - spike)
        return spike

    def reset(self) -> None:
        """Return the membrane to rest."""
        self.v = 0.0


class _Window(torch.autograd.Function):
    """Strict step function forward, a window of one threshold each side backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, half: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.half = half
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() < ctx.half) / (2 * ctx.half), None


class Leaky(nn.Module):
    """``h = beta * v + x``, fire ``h > threshold`` (strict), hard reset to 0; ``steps`` steps in a call.

    Same attributes and step as snnTorch's ``Leaky(reset_mechanism="zero", init_hidden=True)``. With ``steps`` above 1 a call
    takes [steps * N, ...], step-major, from where the last one ended.
    """

    inhibition = state_quant = output = False
    reset_delay = init_hidden = True
    reset_mechanism, graded_spikes_factor = "zero", 1.0

    def __init__(self, beta: float, threshold: float) -> None:
        super().__init__()
        self.beta, self.threshold, self.steps = beta, threshold, 1
        self.v: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Advance ``steps`` steps."""
        spikes = []
        for current in x.chunk(self.steps):
            h = self.beta * self.v + current
            spikes.append(_Window.apply(h - self.threshold, self.threshold))
            self.v = h * (1 - spikes[-1])
        return torch.cat(spikes)

    def reset(self) -> None:
        """Return the membrane to rest."""
        self.v = 0.0


class SeqToANNContainer(nn.Sequential):
    """Layers without state for all steps at once, as SpikingJelly's container of that name: [T, N, ...] to [T, N, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layers make of every step."""
        out: Tensor = super().forward(x.flatten(0, 1))
        return out.reshape(*x.shape[:2], *out.shape[1:])


class Stepwise(nn.Module):
    """A network whose ``forward`` advances one timestep, with `LIFNode` neurons."""

    def logits(self, x: Tensor, steps: int) -> Tensor:
        """Return the read-out summed over ``steps`` steps from rest, [N, classes], of images [N, C, H, W]."""
        for module in self.modules():
            if isinstance(module, LIFNode):
                module.reset()
        return torch.stack([self(x) for _ in range(steps)]).sum(0)
