"""How the shipped networks learn: batches in random order, one cycle of the learning rate, images that move."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH = 64


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Let torch draw from ``seed`` and compute in one thread, and leave both as they were.

    Sums are then rounded in one order whatever the number of cores, so the same seed gives the same weights, bit for bit, on
    processors with the same vector instructions.
    """
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def batches(count: int) -> list[Tensor]:
    """Return the indices of one epoch's full batches, in random order."""
    return list(torch.randperm(count)[: count // BATCH * BATCH].split(BATCH))


def learn(model: nn.Module, count: int, loss: Callable[[Tensor], Tensor], *, rate: float, decay: float, epochs: int,
          progress: Callable[[int, int], None] = lambda done, of: None, begin: Callable[[int], None] = lambda epoch: None,
          longest: float | None = None) -> None:
    """Train ``model`` with AdamW on batches of ``count`` examples.

    loss : of a batch, from the indices of its examples
    rate : peak of the learning rate; decay : of the weights
    begin : called with the number of each epoch before it; ``progress(done, of)`` after it
    longest : norm to which gradients are cut, or None
    """
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, epochs * (count // BATCH))
    for epoch in range(epochs):
        begin(epoch)
        model.train()
        for index in batches(count):
            missed = loss(index)
            optimiser.zero_grad()
            missed.backward()
            if longest is not None:
                nn.utils.clip_grad_norm_(model.parameters(), longest)
            optimiser.step()
            schedule.step()
        progress(epoch + 1, epochs)


def warped(x: Tensor, theta: Tensor) -> Tensor:
    """Return images [N, C, H, W], each seen through its affine map, theta [N, 2, 3] in a frame of -1..1."""
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)


def moved(x: Tensor) -> Tensor:
    """Return 8x8 images moved by up to one pixel each way."""
    theta = torch.eye(2, 3).repeat(len(x), 1, 1)
    theta[:, :, 2] = (2 * torch.rand(len(x), 2) - 1) / 4
    return warped(x, theta)
