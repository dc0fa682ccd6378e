"""A pruned spiking CNN for the 8x8 handwritten digits of scikit-learn.

conv 3x3 (1 to 16), LIF, conv 3x3 (16 to 32), LIF, max-pool 2, linear 512 to 10; tau 2, hard reset, threshold 1,
the image shown at each of 4 steps, class = largest sum of the read-out over the steps.
"""

from collections.abc import Callable
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

SOURCE = "scikit-learn load_digits (UCI optical recognition of handwritten digits, test part), trained by spikeloom"
STEPS = 4
INPUT_KIND = "static"
INPUT_BITS = 6
INPUT_SCALE = 1 / 16
EXAMPLE_SHAPE = (1, 1, 8, 8)
DENSITY = {"conv1": 0.5, "conv2": 0.09, "fc": 0.09}
EPOCHS = 45
PRUNE_EPOCHS = (8, 28)


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


class Digits(nn.Module):
    """One timestep: x [N, 1, 8, 8] in 0..1 to logits [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.lif1 = LIFNode()
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.lif2 = LIFNode()
        self.pool = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step."""
        x = self.lif1(self.bn1(self.conv1(x)))
        x = self.pool(self.lif2(self.bn2(self.conv2(x))))
        out: Tensor = self.fc(self.flatten(x))
        return out

    def logits(self, x: Tensor) -> Tensor:
        """Return the read-out summed over `STEPS` steps from rest, [N, 10]."""
        self.lif1.reset()
        self.lif2.reset()
        return torch.stack([self(x) for _ in range(STEPS)]).sum(0)


def split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return ``x_train, y_train, x_test, y_test``: 1,437 and 360 images [N, 1, 8, 8] in 0..1, labels 0..9."""
    digits = load_digits()
    parts = train_test_split(digits.images, digits.target, test_size=360, stratify=digits.target, random_state=0)
    x_train, x_test, y_train, y_test = parts
    images = [torch.tensor(x / 16, dtype=torch.float32)[:, None] for x in (x_train, x_test)]
    return images[0], torch.tensor(y_train), images[1], torch.tensor(y_test)


def accuracy(model: Digits, x: Tensor, y: Tensor) -> float:
    """Return the share of ``x`` that the float network classifies as ``y``."""
    model.eval()
    with torch.no_grad():
        return float((model.logits(x).argmax(1) == y).float().mean())


def train(seed: int = 0, progress: Callable[[int, int], None] = lambda done, of: None) -> Digits:
    """Train from scratch with magnitude pruning; return the network in evaluation mode.

    Between the two `PRUNE_EPOCHS` the share of weights kept falls on a cubic to `DENSITY`, then the rest is
    fine-tuned. The training part alone is used. ``progress(done, of)`` is called after each epoch.
    """
    x, y, _, _ = split()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Digits()
        masks = {name: torch.ones_like(model.get_parameter(f"{name}.weight")) for name in DENSITY}
        batches = -(-len(x) // 64)
        optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS * batches)
        for epoch in range(EPOCHS):
            model.train()
            _prune(model, masks, epoch)
            for index in torch.randperm(len(x)).split(64):
                loss = F.cross_entropy(model.logits(_jitter(x[index])) / STEPS, y[index], label_smoothing=0.05)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                _apply(model, masks)
            progress(epoch + 1, EPOCHS)
    return model.eval()


def _jitter(x: Tensor) -> Tensor:
    """Return images, half of them shifted by up to one pixel each way."""
    dy, dx = torch.randint(-1, 2, (2,)).tolist()
    padded = F.pad(x, (1, 1, 1, 1))
    moved = padded[..., 1 + dy:9 + dy, 1 + dx:9 + dx]
    return torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, moved, x)


def _prune(model: Digits, masks: dict[str, Tensor], epoch: int) -> None:
    first, last = PRUNE_EPOCHS
    done = min(max((epoch - first) / (last - first), 0.0), 1.0)
    for name, final in DENSITY.items():
        weight = model.get_parameter(f"{name}.weight").detach()
        keep = round(weight.numel() * (final + (1 - final) * (1 - done) ** 3))
        if keep < weight.numel():
            floor = weight.abs().flatten().kthvalue(weight.numel() - keep).values
            masks[name] = (weight.abs() > floor).to(weight.dtype)
    _apply(model, masks)


def _apply(model: Digits, masks: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_parameter(f"{name}.weight").mul_(mask)
