"""VGG16 with BatchNorm for 32x32 images as LoAS uses it (MICRO 2024, arXiv:2407.14073).

13 times conv 3x3, BatchNorm, LIF with tau 4/3, five max-pools 2 between them, linear 512 to 10.
"""

from torch import Tensor, nn

from models.published import channels
from models.spiking import LIFNode, Stepwise

EXAMPLE_SHAPE = (1, 3, 32, 32)
TAU = 4 / 3
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Model(Stepwise):
    """One timestep: x [N, 3, 32, 32] to logits [N, 10]; ``width`` is the share of the published channels."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        before, number = 3, 0
        for stage, sizes in enumerate(STAGES, 1):
            for full in sizes:
                number, size = number + 1, channels(full, width)
                self.add_module(f"conv{number}", nn.Conv2d(before, size, 3, padding=1))
                self.add_module(f"bn{number}", nn.BatchNorm2d(size))
                self.add_module(f"lif{number}", LIFNode(TAU))
                before = size
            self.add_module(f"pool{stage}", nn.MaxPool2d(2))
        self.flatten, self.fc = nn.Flatten(), nn.Linear(before, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Advance one step."""
        for layer in self.children():
            x = layer(x)
        return x
