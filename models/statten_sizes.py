"""Sizes of the networks of `models.statten`: configurations, the published ones among them, and the shapes of weights."""

from dataclasses import dataclass

from golden.arch import ParameterError

ATTENTIONS = ("STAtten", "SDT")
# The layer that reads the image.
FIRST = "conv0_0"

Shapes = dict[str, list[int]]


def divides(name: str, part: int, what: str, whole: int) -> None:
    """Raise `ParameterError` unless ``part`` divides ``whole``."""
    if part < 1 or whole % part:
        raise ParameterError(f"statten: {name} must divide {what} {whole}, not {part}; legal: "
                             f"{', '.join(str(n) for n in range(1, whole + 1) if whole % n == 0)}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of a network.

    shape : (C, H, W) of a frame; width : channels d; depth : blocks L; pool : behind which convolutions of the stem the map
    halves; steps, chunk_steps : T and the timesteps of a chunk; dvs : event-based; attention : one of `ATTENTIONS`
    """

    shape: tuple[int, int, int]
    width: int
    depth: int
    heads: int
    steps: int
    chunk_steps: int
    pool: str
    classes: int = 10
    dvs: bool = False
    attention: str = "STAtten"

    def __post_init__(self) -> None:
        if self.attention not in ATTENTIONS:
            raise ParameterError(f"statten: attention must be one of {', '.join(ATTENTIONS)}, not {self.attention!r}")
        divides("chunk_steps", self.chunk_steps, "T =", self.steps)
        divides("heads", self.heads, "the width", self.width)
        if self.width % 8 or len(self.pool) != 4 or set(self.pool) - {"0", "1"}:
            raise ParameterError(f"statten: width must be a multiple of 8 and pool four digits 0 or 1, not {self.width} and "
                                 f"{self.pool!r}; legal: as in the paper, 256 and '0011'")


CONFIGS = {
    "cifar-2-256": Config(shape=(3, 32, 32), width=256, depth=2, heads=8, steps=4, chunk_steps=2, pool="0011"),
    "cifar-2-512": Config(shape=(3, 32, 32), width=512, depth=2, heads=8, steps=4, chunk_steps=2, pool="0011"),
    "imagenet-8-512": Config(shape=(3, 224, 224), width=512, depth=8, heads=8, steps=4, chunk_steps=2, pool="1111",
                             classes=1000),
    "imagenet-8-768": Config(shape=(3, 224, 224), width=768, depth=8, heads=8, steps=4, chunk_steps=2, pool="1111",
                             classes=1000),
    "dvs-2-256-t10": Config(shape=(2, 64, 64), width=256, depth=2, heads=8, steps=10, chunk_steps=5, pool="0011", dvs=True),
    "dvs-2-256-t16": Config(shape=(2, 64, 64), width=256, depth=2, heads=8, steps=16, chunk_steps=4, pool="0011", dvs=True),
    "digits": Config(shape=(1, 8, 8), width=48, depth=1, heads=2, steps=4, chunk_steps=2, pool="0001"),
    "saccades": Config(shape=(2, 8, 8), width=64, depth=1, heads=4, steps=10, chunk_steps=5, pool="0100", dvs=True),
}


def weights(p: Config) -> Shapes:
    """Return the shapes of a network's weights by layer, [columns, inputs, ...]."""
    sizes = [p.shape[0], p.width // 8, p.width // 4, p.width // 2, p.width, p.width]
    names = (FIRST, "conv1_0", "conv2_0", "conv3_0", "rpe_0")
    stem = {name: [after, before, 3, 3] for name, before, after in zip(names, sizes, sizes[1:], strict=False)}
    blocks = {f"blocks_{number}_{name}": shape for number in range(p.depth) for name, shape in block_weights(p).items()}
    return {**stem, **blocks, "head": [p.classes, p.width]}


def block_weights(p: Config) -> Shapes:
    """Return the shapes of the weights of a block by layer, [columns, inputs, 1, 1]."""
    d = p.width
    attention = {f"attn_{name}_0": [d, d, 1, 1] for name in ("q_conv", "k_conv", "v_conv", "proj")}
    return {**attention, "mlp_fc1_0": [4 * d, d, 1, 1], "mlp_fc2_0": [d, 4 * d, 1, 1]}


def drawn(name: str) -> Shapes:
    """Return the shapes of the weights that are drawn for a shipped network, by layer; of other networks none."""
    if name == "statten-cifar-2-256":
        return weights(CONFIGS["cifar-2-256"])
    if name == "statten-imagenet-block":
        return {f"block_{layer}": shape for layer, shape in block_weights(CONFIGS["imagenet-8-768"]).items()}
    return {}
