"""One block of STAtten 8-768 for 224x224 images: 196 tokens of 768 channels, T = 4, attention over 2 steps and all tokens."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from models.published import channels
from models.spiking import SeqToANNContainer
from models.statten import Block, frames
from models.statten_sizes import CONFIGS

CONFIG = CONFIGS["imagenet-8-768"]
SIDE = 14


class Model(nn.Module):
    """x [T, N, C, H, W], added up as the stream that comes to a block, to the stream behind it.

    ``width`` is the share of the published channels; the scale of the attention is the published one for any map.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        d = channels(CONFIG.width, width)
        self.stream = SeqToANNContainer(nn.Conv2d(d, d, 1, groups=d, bias=False))
        self.block = Block(replace(CONFIG, width=d), SIDE)

    def forward(self, x: Tensor) -> Tensor:
        """Return the stream of every step."""
        out: Tensor = self.block(self.stream(x))
        return out


def example(width: float = 1.0, side: int = SIDE) -> Tensor:
    """Return a stream as the block takes it, [T, N, C, H, W]."""
    return frames(torch.zeros(1, channels(CONFIG.width, width), side, side), CONFIG.steps)
