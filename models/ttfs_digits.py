"""Training of the time-to-first-spike networks on the 8x8 handwritten digits of scikit-learn."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.datasets import digits
from models.digits import distort
from models.ttfs import TtfsNetwork

WINDOW, RESOLUTION = 18, 1
BATCH = 64
# Sharpness of the answer: the first spike by a tick is exp(SHARPNESS * ln 2 / 2) times as likely.
SHARPNESS = 4.0


@dataclass(frozen=True)
class Phase:
    """A part of the training: epochs, peak of the learning rate, and whether the times of the race are exact."""

    epochs: int
    rate: float
    exact: bool


PHASES = (Phase(40, 6e-3, exact=True), Phase(10, 3e-3, exact=False))


def example() -> Tensor:
    """Return the images that capture runs, [N, 1, 8, 8]: all of the training part."""
    return torch.from_numpy(digits()[0])


def accuracy(model: TtfsNetwork, x: Tensor, y: Tensor) -> float:
    """Return the share of ``x`` that the float network classifies as ``y``."""
    model.eval()
    with torch.no_grad():
        out = torch.cat([model(part) for part in x.split(BATCH)])
    return float((out.argmax(1) == y).float().mean())


def train_skip(skip: str, seed: int = 0, progress: Callable[[int, int], None] = lambda done, of: None, *,
               window: int = WINDOW, resolution: int = RESOLUTION) -> TtfsNetwork:
    """Train from scratch on distorted images; return the network in evaluation mode.

    skip : one of `models.ttfs.SKIPS`; window, resolution : ticks of the encoder's window, and log2 of those of an octave
    The loss is the cross entropy of minus the spike times, with the penalty of networks 3.3. At first the times of the race
    are exact, at the end they lie on ticks, as they run. ``progress(done, of)`` is called after each epoch.
    """
    of = sum(phase.epochs for phase in PHASES)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = TtfsNetwork(skip, window=window, resolution=resolution)
        for number, phase in enumerate(PHASES):
            if number:
                torch.manual_seed(seed + number)
            before = sum(earlier.epochs for earlier in PHASES[:number])
            for epoch in _epochs(model, phase):
                progress(before + epoch, of)
    model.fc.exact = True
    return model.eval()


def _epochs(model: TtfsNetwork, phase: Phase) -> Iterator[int]:
    """Train, and yield the number of epochs behind."""
    x, y, _, _ = map(torch.from_numpy, digits())
    model.fc.exact = phase.exact
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, phase.rate, phase.epochs * (len(x) // BATCH))
    for epoch in range(phase.epochs):
        model.train()
        for index in torch.randperm(len(x))[: len(x) // BATCH * BATCH].split(BATCH):
            loss = F.cross_entropy(SHARPNESS * model(distort(x[index])), y[index]) + model.reach()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        yield epoch + 1
