"""What the shipped networks share: a neuron that learns, and networks that take one timestep per call."""

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
    """One step per call of ``h = v + (x - v) / tau``, fire ``h >= v_threshold``, hard reset to ``v_reset``.

    Same attributes and step as SpikingJelly's ``LIFNode(decay_input=True, step_mode="s")``.
    """

    def __init__(self, tau: float = 2.0) -> None:
        super().__init__()
        self.tau, self.decay_input, self.v_threshold, self.v_reset, self.step_mode = tau, True, 1.0, 0.0, "s"
        self.v: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step."""
        h = self.v + (x - self.v) / self.tau
        spike: Tensor = _Spike.apply(h - self.v_threshold)
        self.v = h * (1 - spike)
        return spike

    def reset(self) -> None:
        """Return the membrane to rest."""
        self.v = 0.0


class Stepwise(nn.Module):
    """A network whose ``forward`` advances one timestep, with `LIFNode` neurons."""

    def logits(self, x: Tensor, steps: int) -> Tensor:
        """Return the read-out summed over ``steps`` steps from rest, [N, classes], of images [N, C, H, W]."""
        for module in self.modules():
            if isinstance(module, LIFNode):
                module.reset()
        return torch.stack([self(x) for _ in range(steps)]).sum(0)
