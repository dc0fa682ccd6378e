"""How the shipped networks learn: batches in random order, one cycle of the learning rate, images that move."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH = 64


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
