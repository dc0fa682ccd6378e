"""STAtten, a spiking transformer with spatial-temporal attention (CVPR 2025, arXiv:2409.19764), on digits and their events.

Stem of four convolutions and a relative position embedding, blocks of attention and MLP on a membrane-shortcut stream of
currents, mean over the tokens, read-out. Queries, keys and values attend to each other over all tokens and ``chunk_steps``
timesteps. Event-based networks (``dvs``) widen spikes by a 3x3 maximum and send ``p * a + a`` in place of the attention's
spikes p, as published. LIF with tau 2, hard reset, threshold 1, behind the attention 0.5. ``attention="SDT"`` is the
alternative of the published code, the attention of the spike-driven transformer (arXiv:2307.01694).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from golden.arch import ParameterError
from models.datasets import SPLITS
from models.spiking import LIFNode, SeqToANNContainer
from models.statten_sizes import Config, divides
from models.training import BATCH, learn, repeatable


class SpatialTemporalAttention(nn.Module):
    """Q (K^T V) / ``scale`` inside chunks of ``chunk_steps`` timesteps, for every head."""

    def __init__(self, heads: int, chunk_steps: int, scale: float) -> None:
        super().__init__()
        self.heads, self.chunk_steps, self.scale = heads, chunk_steps, scale

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return sums [T, N, C, H, W] of spikes of that shape; raise `ParameterError` for parts that do not divide T or C."""
        divides("chunk_steps", self.chunk_steps, "T =", len(query))
        divides("heads", self.heads, "the width", query.shape[2])

        def heads(x: Tensor) -> Tensor:
            split = x.reshape(-1, self.chunk_steps, x.shape[1], self.heads, x.shape[2] // self.heads, x[0, 0, 0].numel())
            return split.permute(0, 2, 3, 1, 5, 4).flatten(3, 4)

        q, k, v = heads(query), heads(key), heads(value)
        out = (q @ (k.transpose(-2, -1) @ v) / self.scale).unflatten(3, (self.chunk_steps, -1))
        joined: Tensor = out.permute(0, 3, 1, 2, 5, 4).reshape(query.shape)
        return joined


class SpikeDrivenAttention(nn.Module):
    """``q LIF(sum over the tokens of k v)``, for every channel and timestep: no product of matrices, no chunks, no scale."""

    def __init__(self) -> None:
        super().__init__()
        self.attn_lif = _lif(0.5)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return the spikes [T, N, C, H, W] of the queries in the channels in which a key meets a value."""
        out: Tensor = query * self.attn_lif((key * value).sum((-2, -1), keepdim=True))
        return out


def _conv(before: int, after: int, kernel: int, *, bias: bool = False) -> SeqToANNContainer:
    return SeqToANNContainer(nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=bias), nn.BatchNorm2d(after))


def _pool(halves: str) -> nn.Module:
    return SeqToANNContainer(nn.MaxPool2d(3, 2, 1)) if halves == "1" else nn.Identity()


def _lif(threshold: float = 1.0) -> LIFNode:
    return LIFNode(v_threshold=threshold, step_mode="m")


def _attention(p: Config, side: int) -> nn.Module:
    if p.attention == "SDT":
        return SpikeDrivenAttention()
    return SpatialTemporalAttention(p.heads, p.chunk_steps, side * side * p.chunk_steps if p.dvs else side)


class Attention(nn.Module):
    """Shortcut neurons, queries, keys, values, attention, projection."""

    def __init__(self, p: Config, side: int) -> None:
        super().__init__()
        self.dvs, d = p.dvs, p.width
        self.shortcut_lif = _lif()
        self.q_conv, self.q_lif = _conv(d, d, 1), _lif()
        self.k_conv, self.k_lif = _conv(d, d, 1), _lif()
        self.v_conv, self.v_lif = _conv(d, d, 1), _lif()
        self.pool = SeqToANNContainer(nn.MaxPool2d(3, 1, 1)) if p.dvs else nn.Identity()
        self.driven, self.attention = p.attention == "SDT", _attention(p, side)
        self.attn_lif = nn.Identity() if self.driven else _lif(0.5)
        self.proj = _conv(d, d, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return what is added to the stream."""
        a = self.shortcut_lif(x)
        q = self.pool(self.q_lif(self.q_conv(a)))
        k = self.pool(self.k_lif(self.k_conv(a)))
        v = self.pool(self.v_lif(self.v_conv(a)))
        p = self.attn_lif(self.attention(q, k, v))
        if self.dvs and self.driven:
            p = self.pool(p)
        elif self.dvs:
            wide = self.pool(a)
            p = p * wide + wide
        out: Tensor = self.proj(p)
        return out


class Mlp(nn.Module):
    """Two layers of neurons and 1x1 convolutions, four times as wide between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1_lif, self.fc1 = _lif(), _conv(width, 4 * width, 1, bias=True)
        self.fc2_lif, self.fc2 = _lif(), _conv(4 * width, width, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return what is added to the stream."""
        out: Tensor = self.fc2(self.fc2_lif(self.fc1(self.fc1_lif(x))))
        return out


class Block(nn.Module):
    """Attention and MLP, each added to the stream."""

    def __init__(self, p: Config, side: int) -> None:
        super().__init__()
        self.attn, self.mlp = Attention(p, side), Mlp(p.width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the stream behind the block."""
        x = x + self.attn(x)
        out: Tensor = x + self.mlp(x)
        return out


class STAtten(nn.Module):
    """All steps at once: x [T, N, C, H, W] to logits [T, N, classes]."""

    def __init__(self, p: Config) -> None:
        super().__init__()
        self.config, d, (channels, side, _) = p, p.width, p.shape
        self.conv0, self.lif0, self.pool0 = _conv(channels, d // 8, 3), _lif(), _pool(p.pool[0])
        self.conv1, self.lif1, self.pool1 = _conv(d // 8, d // 4, 3), _lif(), _pool(p.pool[1])
        self.conv2, self.lif2, self.pool2 = _conv(d // 4, d // 2, 3), _lif(), _pool(p.pool[2])
        self.conv3, self.lif3, self.pool3 = _conv(d // 2, d, 3), _lif(), _pool(p.pool[3])
        for halves in p.pool:
            side = (side + 1) // 2 if halves == "1" else side
        self.rpe = _conv(d, d, 3)
        self.blocks = nn.Sequential(*(Block(p, side) for _ in range(p.depth)))
        self.average = SeqToANNContainer(nn.AdaptiveAvgPool2d(1))
        self.head_lif, self.flatten, self.head = _lif(), SeqToANNContainer(nn.Flatten()), nn.Linear(d, p.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the read-out of every step."""
        x = self.pool0(self.lif0(self.conv0(x)))
        x = self.pool1(self.lif1(self.conv1(x)))
        x = self.pool2(self.lif2(self.conv2(x)))
        x = self.pool3(self.conv3(x))
        x = x + self.rpe(self.lif3(x))
        x = self.blocks(x)
        out: Tensor = self.head(self.flatten(self.head_lif(self.average(x))))
        return out


def frames(x: Tensor, steps: int) -> Tensor:
    """Return [T, N, C, H, W] of images [N, C, H, W], shown at every step, or of events [N, T, C, H, W]."""
    return x.transpose(0, 1) if x.dim() == 5 else x.expand(steps, *x.shape)


def logits(model: STAtten, x: Tensor) -> Tensor:
    """Return the read-out summed over the steps from rest, [N, classes]."""
    for module in model.modules():
        if isinstance(module, LIFNode):
            module.reset()
    out: Tensor = model(frames(x, model.config.steps)).sum(0)
    return out


def accuracy(model: STAtten, x: Tensor, y: Tensor) -> float:
    """Return the share of ``x`` that the float network classifies as ``y``."""
    model.eval()
    with torch.no_grad():
        return float((torch.cat([logits(model, part) for part in x.split(BATCH)]).argmax(1) == y).float().mean())


def fit(config: Config, x: Tensor, y: Tensor, epochs: int, moved: Callable[[Tensor], Tensor], seed: int,
        progress: Callable[[int, int], None]) -> STAtten:
    """Train a network from scratch on ``x``, each batch changed by ``moved``; return it in evaluation mode."""
    if epochs < 1:
        raise ParameterError(f"statten: epochs must be at least 1, not {epochs}")
    with repeatable(seed):
        model = STAtten(config)

        def loss(index: Tensor) -> Tensor:
            return F.cross_entropy(logits(model, moved(x[index])) / config.steps, y[index], label_smoothing=0.05)

        learn(model, len(x), loss, rate=5e-3, decay=1e-2, epochs=epochs, progress=progress)
    return model.eval()


def validated(config: Config, name: str, epochs: int, moved: Callable[[Tensor], Tensor], seed: int = 0,
              progress: Callable[[int, int], None] = lambda done, of: None) -> float:
    """Return the accuracy on every fifth example of the training part of a network trained on the others.

    Recipes are chosen by it; the test part has no say.
    """
    x, y, _, _ = map(torch.from_numpy, SPLITS[name]())
    held = torch.arange(len(x)) % 5 == 0
    return accuracy(fit(config, x[~held], y[~held], epochs, moved, seed, progress), x[held], y[held])
