"""A pruned CNN without spikes for the 8x8 handwritten digits of scikit-learn: the same datapath, 8-bit values, one step.

conv 3x3 (1 to 16), conv 3x3 (16 to 32), max-pool 2, conv 3x3 (32 to 32), average pool 2, linear 128 to 10; BatchNorm and
ReLU behind each convolution.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

from models.datasets import digits
from models.training import learn, moved, repeatable

EPOCHS = 60
PRUNE_AT, PRUNED = 30, 0.7
SMOOTHING = 0.05


class CnnDigits(nn.Module):
    """x [N, 1, 8, 8] in 0..1 to logits [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.relu2 = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(32)
        self.relu3 = nn.ReLU()
        self.average = nn.AvgPool2d(2)
        self.fc = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.pool(self.relu2(self.bn2(self.conv2(x))))
        x = self.average(self.relu3(self.bn3(self.conv3(x))))
        out: Tensor = self.fc(x.flatten(1))
        return out


def example() -> Tensor:
    """Return the images that capture runs, [N, 1, 8, 8]: all of the training part."""
    return torch.from_numpy(digits()[0])


def accuracy(model: CnnDigits, x: Tensor, y: Tensor) -> float:
    """Return the share of ``x`` that the float network classifies as ``y``."""
    model.eval()
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


def train(seed: int = 0, progress: Callable[[int, int], None] = lambda done, of: None) -> CnnDigits:
    """Train from scratch on the training part, in float; return the network in evaluation mode.

    After `PRUNE_AT` epochs the smallest weights of every layer but the first are set to zero and stay so. Images are
    moved by up to one pixel. ``progress(done, of)`` is called after each epoch.
    """
    x, y, _, _ = map(torch.from_numpy, digits())
    with repeatable(seed):
        model = CnnDigits()
        pruned = (model.conv2, model.conv3, model.fc)

        def begin(epoch: int) -> None:
            if epoch == PRUNE_AT:
                for layer in pruned:
                    prune.l1_unstructured(layer, "weight", PRUNED)

        def loss(index: Tensor) -> Tensor:
            return F.cross_entropy(model(moved(x[index])), y[index], label_smoothing=SMOOTHING)

        learn(model, len(x), loss, rate=6e-3, decay=1e-3, epochs=EPOCHS, progress=progress, begin=begin)
        for layer in pruned:
            prune.remove(layer, "weight")
    return model.eval()
