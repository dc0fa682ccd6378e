"""A spiking VGG9 for the 8x8 handwritten digits of scikit-learn, with weights of 4 bits, for crossbars of 64 rows.

Seven 3x3 convolutions (32, 32, max-pool 2, 64, 64, max-pool 2, 64, 64, 64, max-pool 2) and two linear layers (64, 10), where
SpikeSim's VGG9 for CIFAR10 has wider ones; BatchNorm and LIF behind every convolution, tau 2, soft reset. The image is shown at
each of 4 steps, class = largest sum of the read-out over the steps.

Source: SpikeSim (arXiv:2210.12899), VGG9_Direct; its own BatchNorm for each step and its average pools, whose outputs are no
spikes, are left out.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from models.datasets import digits
from models.digits import distort
from models.spiking import LIFNode, Stepwise
from models.training import learn, repeatable
from models.workloads import find

STEPS = find("vgg9-digits").steps
# Channels of the convolutions; 0 is a pool.
CONVOLUTIONS = (32, 32, 0, 64, 64, 0, 64, 64, 64, 0)
HIDDEN, THRESHOLD = 64, 0.5
WEIGHT_BITS = 4
EPOCHS, ROUND_AT = 60, 20


class Rounded(nn.Module):
    """Weights as multiples of a step, the largest one of each output over ``2^(WEIGHT_BITS - 1) - 1``; the gradient passes.

    share : outputs that share a membrane, whose steps are the same behind ``norm``
    """

    def __init__(self, share: int = 1, norm: nn.BatchNorm2d | None = None) -> None:
        super().__init__()
        self.share, self.norms = share, [norm] if norm is not None and share > 1 else []

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weights in the shape that they have."""
        most = weight.detach().flatten(1).abs().amax(1)
        if self.share > 1:
            gain = torch.ones_like(most)
            for norm in self.norms:
                assert norm.running_var is not None
                gain = norm.weight.detach().abs() / torch.sqrt(norm.running_var + norm.eps)
            together = (most * gain).unflatten(0, (self.share, -1)).amax(0)
            most = together.repeat(self.share) / gain
        step = most.reshape(-1, *(1,) * (weight.ndim - 1)) / ((1 << WEIGHT_BITS - 1) - 1)
        rounded = (weight / step).round() * step
        return weight + (rounded - weight).detach()


class Vgg9Digits(Stepwise):
    """One timestep: x [N, 1, 8, 8] in 0..1 to logits [N, 10].

    share : contiguous groups of the channels of a layer that its LIF takes one after the other, with the same membranes
        (EfficientLIF-Net, arXiv:2305.18360)
    """

    def __init__(self, share: int = 1) -> None:
        super().__init__()
        self.share = share
        parts: list[tuple[str, nn.Module]] = []
        before = 1
        for size in CONVOLUTIONS:
            number = sum(name.startswith("conv") for name, _ in parts) + 1
            if size:
                parts += [(f"conv{number}", nn.Conv2d(before, size, 3, padding=1, bias=False)),
                          (f"bn{number}", nn.BatchNorm2d(size)), (f"lif{number}", LIFNode(2.0, THRESHOLD, soft=True))]
                before = size
            else:
                parts.append((f"pool{number - 1}", nn.MaxPool2d(2)))
        parts += [("flatten", nn.Flatten()), ("fc1", nn.Linear(before, HIDDEN)), ("lif8", LIFNode(2.0, THRESHOLD, soft=True)),
                  ("fc2", nn.Linear(HIDDEN, 10))]
        for name, part in parts:
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step."""
        for part in self.children():
            x = self._fired(part, x) if isinstance(part, LIFNode) else part(x)
        return x

    def _fired(self, lif: LIFNode, x: Tensor) -> Tensor:
        """Return the spikes of one timestep."""
        if self.share == 1:
            spikes: Tensor = lif(x)
            return spikes
        groups = x.chunk(self.share, 1)
        return torch.cat([lif(groups[number]) for number in range(self.share)], 1)

    def answers(self, x: Tensor) -> Tensor:
        """Return the mean read-out of the steps from rest, [N, 10]; every layer takes its steps at once."""
        count = len(x)
        for part in self.children():
            if isinstance(part, LIFNode):
                part.reset()
                steps = x.split(count) if len(x) > count else [x] * STEPS
                x = torch.cat([self._fired(part, current) for current in steps])
            else:
                x = part(x)
        mean: Tensor = x.unflatten(0, (STEPS, count)).mean(0)
        return mean


def example() -> Tensor:
    """Return the images that capture runs, [N, 1, 8, 8]: all of the training part."""
    return torch.from_numpy(digits()[0])


def accuracy(model: Vgg9Digits, x: Tensor, y: Tensor) -> float:
    """Return the share of ``x`` that the float network classifies as ``y``."""
    model.eval()
    with torch.no_grad():
        return float((model.answers(x).argmax(1) == y).float().mean())


def train(seed: int = 0, progress: Callable[[int, int], None] = lambda done, of: None, *, share: int = 1) -> Vgg9Digits:
    """Train from scratch on the training part; return the network in evaluation mode.

    From epoch `ROUND_AT` on weights are rounded to `WEIGHT_BITS` bits, in steps of each output channel, which BatchNorm does
    not move; of channels that share a membrane, in steps that are the same behind BatchNorm. ``progress(done, of)`` is called
    after each epoch.
    """
    x, y, _, _ = map(torch.from_numpy, digits())
    with repeatable(seed):
        model = Vgg9Digits(share)
        parts = [*model.children()]
        weighted = [(part, behind) for part, behind in zip(parts, [*parts[1:], None], strict=True)
                    if isinstance(part, (nn.Conv2d, nn.Linear))]

        def begin(epoch: int) -> None:
            if epoch == ROUND_AT:
                for part, behind in weighted:
                    norm = behind if isinstance(behind, nn.BatchNorm2d) else None
                    parametrize.register_parametrization(part, "weight", Rounded(share if behind else 1, norm))

        def loss(index: Tensor) -> Tensor:
            return F.cross_entropy(model.answers(distort(x[index])), y[index], label_smoothing=0.05)

        learn(model, len(x), loss, rate=6e-3, decay=1e-3, epochs=EPOCHS, progress=progress, begin=begin)
        for part, _ in weighted:
            if parametrize.is_parametrized(part):
                parametrize.remove_parametrizations(part, "weight")
    return model.eval()
