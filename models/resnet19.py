"""ResNet19 for 32x32 images as LoAS uses it (MICRO 2024, arXiv:2407.14073).

conv 3x3 (3 to 64), BatchNorm, LIF; 3, 3 and 2 blocks of 128, 256 and 512 channels, each stage beginning with stride 2;
average of the 4x4 map, linear 512 to 256, linear 256 to 10 with no neuron between them; LIF with tau 4/3.
"""

from torch import Tensor, nn

from models.published import channels
from models.spiking import LIFNode, Stepwise

EXAMPLE_SHAPE = (1, 3, 32, 32)
TAU = 4 / 3
STEM = 64
STAGES = ((3, 128), (3, 256), (2, 512))
HIDDEN = 256


class Block(nn.Module):
    """Two convolutions; the shortcut, spikes or their 1x1 convolution, adds to what the second neurons integrate."""

    def __init__(self, before: int, size: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, size, 3, stride=stride, padding=1, bias=False)
        self.bn1, self.lif1 = nn.BatchNorm2d(size), LIFNode(TAU)
        self.conv2 = nn.Conv2d(size, size, 3, padding=1, bias=False)
        self.bn2, self.lif2 = nn.BatchNorm2d(size), LIFNode(TAU)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(before, size, 1, stride=stride, bias=False), nn.BatchNorm2d(size))

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step."""
        out = self.bn2(self.conv2(self.lif1(self.bn1(self.conv1(x)))))
        spikes: Tensor = self.lif2(out + self.shortcut(x))
        return spikes


class Model(Stepwise):
    """One timestep: x [N, 3, 32, 32] to logits [N, 10]; ``width`` is the share of the published channels."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        before = channels(STEM, width)
        self.conv1 = nn.Conv2d(3, before, 3, padding=1, bias=False)
        self.bn1, self.lif1 = nn.BatchNorm2d(before), LIFNode(TAU)
        for stage, (blocks, full) in enumerate(STAGES, 1):
            size = channels(full, width)
            parts = [Block(before if index == 0 else size, size, 2 if index == 0 else 1) for index in range(blocks)]
            self.add_module(f"layer{stage}", nn.Sequential(*parts))
            before = size
        self.average, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.fc1 = nn.Linear(before, channels(HIDDEN, width))
        self.fc2 = nn.Linear(self.fc1.out_features, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step."""
        for layer in self.children():
            x = layer(x)
        return x
