"""Vision transformers of the tests: from torch to integers, and random small ones."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from golden.imc.vit_lower import FloatVit
from models.vit import Vit, VitSize

Integers = NDArray[np.int64]
SMALL = VitSize(side=4, dim=8, heads=2, depth=4)


def float_vit(model: Vit, x: Tensor) -> FloatVit:
    """Return what lowering takes of a torch module, with peaks from images [N, 1, side, side]."""
    peaks: dict[str, float] = {}
    model.eval()
    with torch.no_grad():
        model(x, peaks)
    return FloatVit(tensors={name: tensor.numpy() for name, tensor in model.state_dict().items()}, peaks=peaks,
                    heads=model.size.heads, depth=model.size.depth, patch=model.size.patch, sources=model.sources,
                    variant=model.variant)


def pixels(x: Tensor) -> Integers:
    """Return images [N, 1, side, side] of 0..1 as the integers 0..16 that the first layer reads, [N, side, side]."""
    return np.asarray((x[:, 0] * 16).round().to(torch.int64))


def random_vit(seed: int, reuse: tuple[int, ...] = (), variant: str = "activation", size: VitSize = SMALL,
               images: int = 2) -> tuple[FloatVit, Integers]:
    """Return a network with random weights, and images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, x = Vit(size, reuse, variant), torch.randint(0, 17, (images, 1, size.side, size.side)) / 16
    return float_vit(model, x), pixels(x)
