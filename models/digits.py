"""A pruned spiking CNN for the 8x8 handwritten digits of scikit-learn.

conv 3x3 (1 to 16), LIF, conv 3x3 (16 to 32), LIF, max-pool 2, linear 512 to 10; tau 2, hard reset, threshold 1,
the image shown at each of 4 steps, class = largest sum of the read-out over the steps.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.datasets import digits
from models.spiking import LIFNode, Stepwise
from models.training import BATCH, batches, learn, repeatable, warped
from models.workloads import find

STEPS = find("digits").steps
DENSITY = {"conv1": 1.0, "conv2": 0.115, "fc": 0.06}
EPOCHS = 120
PRUNE = (0.1, 0.6)
TEMPERATURE = 2.0


class Digits(Stepwise):
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


def example() -> Tensor:
    """Return the images that capture runs, [N, 1, 8, 8]: all of the training part."""
    return torch.from_numpy(digits()[0])


def accuracy(model: Digits, x: Tensor, y: Tensor) -> float:
    """Return the share of ``x`` that the float network classifies as ``y``."""
    model.eval()
    with torch.no_grad():
        return float((model.logits(x, STEPS).argmax(1) == y).float().mean())


def train(seed: int = 0, progress: Callable[[int, int], None] = lambda done, of: None) -> Digits:
    """Train from scratch with magnitude pruning; return the network in evaluation mode.

    A dense network without spikes learns first and teaches: the loss compares the answers of the two to the same
    distorted images. Between the two shares `PRUNE` of the epochs the share of weights kept falls on a cubic to
    `DENSITY`; what is returned is a running mean of the weights from there on. The training part alone is used.
    ``progress(done, of)`` is called after each epoch.
    """
    x, y, _, _ = map(torch.from_numpy, digits())
    with repeatable(seed):
        teacher = _teacher(x, y)
        model = Digits()
        masks = {name: torch.ones_like(model.get_parameter(f"{name}.weight")) for name in DENSITY}
        optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS * (len(x) // BATCH))
        mean: dict[str, Tensor] = {}
        for epoch in range(EPOCHS):
            model.train()
            _prune(model, masks, epoch / EPOCHS)
            for index in batches(len(x)):
                shown = distort(x[index])
                with torch.no_grad():
                    answers = (teacher(shown) / TEMPERATURE).softmax(1)
                loss = TEMPERATURE ** 2 * F.cross_entropy(_answers(model, shown) / TEMPERATURE, answers)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                _apply(model, masks)
                if epoch / EPOCHS >= PRUNE[1]:
                    _average(mean, model)
            progress(epoch + 1, EPOCHS)
        model.load_state_dict(mean or model.state_dict())
    return model.eval()


def _teacher(x: Tensor, y: Tensor) -> nn.Module:
    """Return a dense network with rectifiers, trained on the same images."""
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(1024, 10))

    def loss(index: Tensor) -> Tensor:
        return F.cross_entropy(model(distort(x[index])), y[index], label_smoothing=0.05)

    learn(model, len(x), loss, rate=6e-3, decay=1e-2, epochs=max(1, EPOCHS // 4))
    return model.eval()


def _answers(model: Digits, x: Tensor) -> Tensor:
    """Return the mean read-out of the steps, [N, 10]; every layer takes its steps at once."""
    model.lif1.reset()
    model.lif2.reset()
    current = model.bn1(model.conv1(x))
    spikes = torch.cat([model.lif1(current) for _ in range(STEPS)])
    currents = model.bn2(model.conv2(spikes)).split(len(x))
    spikes = model.pool(torch.cat([model.lif2(current) for current in currents]))
    out: Tensor = model.fc(model.flatten(spikes.unflatten(0, (STEPS, len(x))).mean(0)))
    return out


def distort(x: Tensor) -> Tensor:
    """Return images turned by up to 8 degrees, scaled by 8 %, sheared by 15 % and moved by 0.8 pixels."""
    def draw(limit: float) -> Tensor:
        return (2 * torch.rand(len(x)) - 1) * limit

    angle = draw(torch.pi * 8 / 180)
    across = torch.stack([(1 + draw(0.08)) * angle.cos(), draw(0.15) - angle.sin(), draw(0.2)], 1)
    down = torch.stack([angle.sin(), (1 + draw(0.08)) * angle.cos(), draw(0.2)], 1)
    return warped(x, torch.stack([across, down], 1))


def _average(mean: dict[str, Tensor], model: Digits) -> None:
    """Move ``mean`` by 2 % towards the model's parameters and statistics."""
    for name, value in model.state_dict().items():
        if name in mean and value.is_floating_point():
            mean[name].lerp_(value, 0.02)
        else:
            mean[name] = value.clone()


def _prune(model: Digits, masks: dict[str, Tensor], share: float) -> None:
    first, last = PRUNE
    done = min(max((share - first) / (last - first), 0.0), 1.0)
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
