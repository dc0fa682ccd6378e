"""STAtten 2-256 for 32x32 images as published: two blocks of 256 channels, T = 4, attention over 2 steps and 64 tokens."""

from dataclasses import replace

import torch
from torch import Tensor

from models.published import channels
from models.statten import STAtten, frames
from models.statten_sizes import CONFIGS

CONFIG = CONFIGS["cifar-2-256"]


class Model(STAtten):
    """The float network; ``width`` is the share of the published channels."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__(replace(CONFIG, width=channels(CONFIG.width, width)))


def example() -> Tensor:
    """Return images as the network takes them, [T, N, 3, 32, 32]."""
    return frames(torch.zeros(1, *CONFIG.shape), CONFIG.steps)
