"""Training of the time-to-first-spike networks on the 8x8 handwritten digits of scikit-learn.

The recipes were chosen on 288 images of the training part, held out of the other 1,149 (`held_out`); the test part was not
looked at.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.datasets import Split, digits
from models.digits import distort
from models.training import BATCH, learn, repeatable
from models.ttfs import TtfsNetwork

WINDOW, RESOLUTION = 18, 1
# Sharpness of the answer: the first spike by a tick is exp(SHARPNESS * ln 2 / 2) times as likely.
SHARPNESS = 4.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a network is trained with.

    start : where the encoder's times start, as a share of the window
    reached : sum of the weights of a new neuron, in the mean, in thresholds
    rate : peak of the learning rate
    epochs : at 18 ticks
    """

    start: float = 1 / 2
    reached: float = 3.0
    rate: float = 1e-2
    epochs: int = 80


# Without skips, and with additions, which make times later twice and windows longer, times start early, with neurons that wait
# for less.
RECIPES = dict.fromkeys(("none", "add"), Recipe(start=1 / 3, reached=6.0)) | dict.fromkeys(("concat", "delay"), Recipe())


def example() -> Tensor:
    """Return the images that capture runs, [N, 1, 8, 8]: all of the training part."""
    return torch.from_numpy(digits()[0])


def held_out() -> Split:
    """Return the training part of the digits in two: 1,149 to train on, 288 to choose a recipe by."""
    from sklearn.model_selection import train_test_split

    x, y, _, _ = digits()
    x_train, x_held, y_train, y_held = train_test_split(x, y, test_size=288, stratify=y, random_state=0)
    return x_train, np.asarray(y_train), x_held, np.asarray(y_held)


def accuracy(model: TtfsNetwork, x: Tensor, y: Tensor) -> float:
    """Return the share of ``x`` that the float network classifies as ``y``."""
    model.eval()
    with torch.no_grad():
        out = torch.cat([model(part) for part in x.split(BATCH)])
    return float((out.argmax(1) == y).float().mean())


def train_skip(skip: str, seed: int = 0, progress: Callable[[int, int], None] = lambda done, of: None, *,
               window: int = WINDOW, resolution: int = RESOLUTION, epochs: int | None = None, data: Split | None = None
               ) -> TtfsNetwork:
    """Train from scratch on distorted images; return the network in evaluation mode.

    skip : one of `models.ttfs.SKIPS`; window, resolution : ticks of the encoder's window, and log2 of those of an octave
    epochs : None: the recipe's; data : of which the first half is learnt, None: the digits
    The loss is the cross entropy of minus the spike times, with the penalty of networks 3.3. ``progress(done, of)`` is
    called after each epoch.
    """
    x, y = map(torch.from_numpy, (data or digits())[:2])
    with repeatable(seed):
        recipe = RECIPES[skip]
        model = TtfsNetwork(skip, window=window, resolution=resolution, start=recipe.start, reached=recipe.reached)
        fit(model, x, y, recipe.rate, epochs or recipe.epochs, distort, progress)
    return model.eval()


def fit(model: TtfsNetwork, x: Tensor, y: Tensor, rate: float, epochs: int, show: Callable[[Tensor], Tensor],
        progress: Callable[[int, int], None]) -> None:
    """Train ``model`` to send the spike of class ``y`` first when it sees ``show(x)``."""
    def loss(index: Tensor) -> Tensor:
        return F.cross_entropy(SHARPNESS * model(show(x[index])), y[index]) + model.reach()

    learn(model, len(x), loss, rate=rate, decay=1e-4, epochs=epochs, progress=progress, longest=1.0)
