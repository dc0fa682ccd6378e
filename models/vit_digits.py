"""Training of a vision transformer on the 8x8 handwritten digits of scikit-learn, without reuse, then with it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from models.datasets import digits
from models.digits import distort
from models.training import BATCH, learn, repeatable
from models.vit import Vit, VitSize, continued

SIZE = VitSize()
EPOCHS, RATE = 80, 3e-3
REUSE_EPOCHS, REUSE_RATE = 40, 2e-3
TEMPERATURE = 2.0
SMOOTHING = 0.05


def accuracy(model: Vit, x: Tensor, y: Tensor) -> float:
    """Return the share of ``x`` that the float network classifies as ``y``."""
    model.eval()
    with torch.no_grad():
        out = torch.cat([model(part) for part in x.split(BATCH)])
    return float((out.argmax(1) == y).float().mean())


def train(seed: int = 0, progress: Callable[[int, int], None] = lambda done, of: None, *, size: VitSize = SIZE,
          epochs: int = EPOCHS) -> Vit:
    """Train from scratch without reuse on distorted images of the training part; return the network in evaluation mode."""
    x, y, _, _ = map(torch.from_numpy, digits())
    with repeatable(seed):
        model = Vit(size)

        def loss(index: Tensor) -> Tensor:
            return F.cross_entropy(model(distort(x[index])), y[index], label_smoothing=SMOOTHING)

        learn(model, len(x), loss, rate=RATE, decay=1e-2, epochs=epochs, progress=progress, longest=1.0)
    return model.eval()


def adapt(teacher: Vit, reuse: tuple[int, ...], variant: str, seed: int = 0,
          progress: Callable[[int, int], None] = lambda done, of: None, *, epochs: int = REUSE_EPOCHS) -> Vit:
    """Return a network that reuses, trained on from the weights of ``teacher``, which does not.

    The teacher's answers to the same distorted images are half of what is learnt.
    """
    x, y, _, _ = map(torch.from_numpy, digits())
    with repeatable(seed):
        model = continued(teacher.state_dict(), Vit(teacher.size, reuse, variant))

        def loss(index: Tensor) -> Tensor:
            shown = distort(x[index])
            with torch.no_grad():
                answers = (teacher(shown) / TEMPERATURE).softmax(1)
            out = model(shown)
            told = TEMPERATURE ** 2 * F.cross_entropy(out / TEMPERATURE, answers)
            return (F.cross_entropy(out, y[index], label_smoothing=SMOOTHING) + told) / 2

        learn(model, len(x), loss, rate=REUSE_RATE, decay=1e-2, epochs=epochs, progress=progress, longest=1.0)
    return model.eval()
