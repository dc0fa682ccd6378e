"""Small vision transformers with random weights."""

import torch

from golden.imc.vit_lower import FloatVit
from models.vit import Vit, VitSize
from verif.trex_networks import Integers, measured, pixels

SMALL = VitSize(side=4, dim=8, heads=2, depth=4)


def random_vit(seed: int, reuse: tuple[int, ...] = (), variant: str = "activation", size: VitSize = SMALL,
               images: int = 2) -> tuple[FloatVit, Integers]:
    """Return a network with random weights, and images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, x = Vit(size, reuse, variant), torch.randint(0, 17, (images, 1, size.side, size.side)) / 16
    return measured(model, x).floats, pixels(x)
