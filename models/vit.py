"""A small vision transformer whose encoders may reuse the attention of an earlier one (TReX, arXiv:2408.12742).

Patches and a learnt position, encoders of attention and MLP behind LayerNorms on one residual stream, mean over the tokens,
read-out. Encoder j of the reuse set has no attention of its own: the attention output of the latest encoder ahead of it that
is not in the set passes a transformation block and is added in its place.

TReX publishes that a block consists of normalisation, linear layers and an activation; the order and the sizes are those of
imc 4.3, and the code is this project's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from golden.arch import require

# What stands in for the attention of an encoder that reuses: nothing (PIVOT's skip), or the other encoder's attention output as
# it is, or behind a LayerNorm, then behind a linear layer, then behind GELU. The last one is TReX's transformation block.
VARIANTS = ("skip", "identity", "norm", "linear", "activation")
# The largest magnitude of every value that is quantised, by name, or None where nobody asks.
Peaks = dict[str, float] | None


@dataclass(frozen=True, kw_only=True)
class VitSize:
    """Sizes: side of images and patches, width, heads, encoders, width of the MLP in widths, classes."""

    side: int = 8
    patch: int = 2
    dim: int = 32
    heads: int = 2
    depth: int = 8
    mlp: int = 2
    classes: int = 10

    def __post_init__(self) -> None:
        require(self.side % self.patch == 0, "patch", self.patch, f"a divisor of side ({self.side})")
        require(self.dim % self.heads == 0, "heads", self.heads, f"a divisor of dim ({self.dim})")

    @property
    def tokens(self) -> int:
        """Patches of an image."""
        return (self.side // self.patch) ** 2


def sources(depth: int, reuse: tuple[int, ...]) -> dict[int, int]:
    """Return src(j) of every encoder j of a reuse set: the latest encoder ahead of it that is not in the set.

    Encoders count from 1. Raises ParameterError for a set that holds encoder 1, or none of them.
    """
    require(all(2 <= j <= depth for j in reuse), "reuse", sorted(reuse), f"encoders 2..{depth}; encoder 1 has nothing to reuse")
    return {j: max(i for i in range(1, j) if i not in reuse) for j in sorted(reuse)}


class Attention(nn.Module):
    """Softmax attention of all heads, and its projection."""

    def __init__(self, p: VitSize) -> None:
        super().__init__()
        self.heads = p.heads
        self.qkv, self.proj = nn.Linear(p.dim, 3 * p.dim), nn.Linear(p.dim, p.dim)

    def forward(self, x: Tensor, seen: Peaks, name: str) -> Tensor:
        """Return [N, tokens, dim]; ``seen`` gets the peaks of what is quantised."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1)
        mixed = ((scores / math.sqrt(q.shape[-1])).softmax(-1) @ v).transpose(1, 2).flatten(2)
        out: Tensor = self.proj(mixed)
        for what, values in (("q", q), ("k", k), ("v", v), ("scores", scores), ("mixed", mixed), ("attention", out)):
            note(seen, f"{name}.{what}", values)
        return out


class Transformation(nn.Module):
    """What an encoder of the reuse set makes of another one's attention output."""

    def __init__(self, p: VitSize, variant: str) -> None:
        super().__init__()
        depth = VARIANTS.index(variant)
        self.norm = nn.LayerNorm(p.dim) if depth >= VARIANTS.index("norm") else nn.Identity()
        self.linear = nn.Linear(p.dim, p.dim) if depth >= VARIANTS.index("linear") else nn.Identity()
        self.act = nn.GELU() if depth >= VARIANTS.index("activation") else nn.Identity()

    def forward(self, a: Tensor, seen: Peaks, name: str) -> Tensor:
        """Return [N, tokens, dim]."""
        normal = self.norm(a)
        hidden = self.linear(normal)
        out: Tensor = self.act(hidden)
        for what, values in (("norm", normal), ("hidden", hidden), ("act", out)):
            note(seen, f"{name}.{what}", values)
        return out


class Encoder(nn.Module):
    """Attention, or what replaces it, and an MLP; each is added to the stream."""

    def __init__(self, p: VitSize, variant: str | None) -> None:
        super().__init__()
        if variant is None:
            self.norm1, self.attention = nn.LayerNorm(p.dim), Attention(p)
        elif variant != "skip":
            self.transformation = Transformation(p, variant)
        self.variant = variant
        self.norm2 = nn.LayerNorm(p.dim)
        self.up, self.act, self.down = nn.Linear(p.dim, p.mlp * p.dim), nn.GELU(), nn.Linear(p.mlp * p.dim, p.dim)

    def forward(self, x: Tensor, kept: Tensor, seen: Peaks, name: str) -> tuple[Tensor, Tensor]:
        """Return (stream, attention output for encoders behind that reuse); ``kept`` is that of the encoder ahead."""
        if self.variant is None:
            normal = self.norm1(x)
            note(seen, f"{name}.norm1", normal)
            kept = self.attention(normal, seen, f"{name}.attention")
            x = x + kept
        elif self.variant != "skip":
            x = x + self.transformation(kept, seen, f"{name}.transformation")
        note(seen, f"{name}.stream1", x)
        normal = self.norm2(x)
        hidden = self.up(normal)
        active = self.act(hidden)
        x = x + self.down(active)
        for what, values in (("norm2", normal), ("up", hidden), ("act", active), ("stream2", x)):
            note(seen, f"{name}.{what}", values)
        return x, kept


class Vit(nn.Module):
    """x [N, 1, side, side] in 0..1 to logits [N, classes].

    reuse : encoders, from 2 on, that reuse; variant : what replaces their attention, of `VARIANTS`
    """

    def __init__(self, p: VitSize, reuse: tuple[int, ...] = (), variant: str = "activation") -> None:
        super().__init__()
        require(variant in VARIANTS, "variant", variant, f"one of {', '.join(VARIANTS)}")
        self.size, self.reuse, self.variant = p, tuple(sorted(reuse)), variant
        self.sources = sources(p.depth, self.reuse)
        self.embed = nn.Linear(p.patch ** 2, p.dim)
        self.position = nn.Parameter(0.02 * torch.randn(p.tokens, p.dim))
        self.encoders = nn.ModuleDict({str(i): Encoder(p, variant if i in self.reuse else None)
                                       for i in range(1, p.depth + 1)})
        self.norm, self.head = nn.LayerNorm(p.dim), nn.Linear(p.dim, p.classes)

    def forward(self, x: Tensor, seen: Peaks = None, outputs: list[Tensor] | None = None) -> Tensor:
        """Return the logits.

        seen : gets the largest magnitude of every value that is quantised, by name
        outputs : gets the attention output [N, tokens, dim] that every encoder has or reuses
        """
        p = self.size
        patches = F.unfold(x, p.patch, stride=p.patch).transpose(1, 2)
        stream = self.embed(patches) + self.position
        note(seen, "embed.stream", stream)
        kept = torch.zeros_like(stream)
        for name, encoder in self.encoders.items():
            stream, kept = encoder(stream, kept, seen, f"encoders.{name}")
            if outputs is not None:
                outputs.append(kept)
        normal = self.norm(stream)
        note(seen, "norm", normal)
        out: Tensor = self.head(normal.mean(1))
        return out


def note(seen: Peaks, name: str, values: Tensor) -> None:
    """Keep the largest magnitude that a value has had; None keeps nothing."""
    if seen is not None:
        seen[name] = max(seen.get(name, 0.0), float(values.detach().abs().max()))


def continued(before: Mapping[str, Tensor], after: Vit) -> Vit:
    """Give a network that reuses the weights of one that does not, and return it; transformations keep those they have."""
    own = after.state_dict()
    after.load_state_dict({name: before.get(name, value) for name, value in own.items()})
    return after
