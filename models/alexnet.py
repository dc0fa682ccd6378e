"""AlexNet for 32x32 images as LoAS uses it (MICRO 2024, arXiv:2407.14073): no BatchNorm, convolutions with a bias.

conv 3x3 stride 2 (3 to 64), LIF, max-pool 2, conv 3x3 (64 to 192), LIF, conv 3x3 (192 to 384), LIF, conv 3x3 (384 to 256),
LIF, conv 3x3 (256 to 256), LIF, max-pool 2, average to 2x2, linear 1024 to 10; LIF with tau 4/3. The maps stay 8x8 from the
second convolution on: the authors' code computes a max-pool behind it and then reads the unpooled spikes.
"""

from torch import Tensor, nn

from models.published import channels
from models.spiking import LIFNode, Stepwise

EXAMPLE_SHAPE = (1, 3, 32, 32)
TAU = 4 / 3
CHANNELS = (64, 192, 384, 256, 256)


class Model(Stepwise):
    """One timestep: x [N, 3, 32, 32] to logits [N, 10]; ``width`` is the share of the published channels."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        sizes = [channels(size, width) for size in CHANNELS]
        self.conv1, self.lif1 = nn.Conv2d(3, sizes[0], 3, stride=2, padding=1), LIFNode(TAU)
        self.conv2, self.lif2 = nn.Conv2d(sizes[0], sizes[1], 3, padding=1), LIFNode(TAU)
        self.conv3, self.lif3 = nn.Conv2d(sizes[1], sizes[2], 3, padding=1), LIFNode(TAU)
        self.conv4, self.lif4 = nn.Conv2d(sizes[2], sizes[3], 3, padding=1), LIFNode(TAU)
        self.conv5, self.lif5 = nn.Conv2d(sizes[3], sizes[4], 3, padding=1), LIFNode(TAU)
        self.pool, self.average, self.flatten = nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        self.fc = nn.Linear(4 * sizes[4], 10)

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step."""
        x = self.pool(self.lif1(self.conv1(x)))
        x = self.lif3(self.conv3(self.lif2(self.conv2(x))))
        x = self.pool(self.lif5(self.conv5(self.lif4(self.conv4(x)))))
        out: Tensor = self.fc(self.flatten(self.average(x)))
        return out
