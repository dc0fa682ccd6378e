"""TT-SNN (DATE 2024, arXiv:2401.08001): MS-ResNet whose 3x3 convolutions are tensor trains, merged for inference.

A convolution is four cores of one rank r: G1 1x1 (Cin to r), G2 3x1, G3 1x3 (r to r), G4 1x1 (r to Cout).
``stt``: ``G4 G3 G2 G1 x``; ``ptt``: ``G4 (G2 G1 x + G3 G1 x) / 2``; ``htt``: as ``ptt`` in the first half of the steps,
``G4 G1 x`` in the second half. Where the published code returns zeros at steps that it has no kernel for, this one refuses
them.

Blocks are ``u' = BN(conv2(LIF(BN(conv1(LIF(u)))))) + shortcut(u)``; the shortcut of a block that halves the map is a 1x1
convolution of the residual stream itself, of stride 2. A convolution of cores keeps the map and a 2x2 maximum of its
multi-bit output halves it; it follows the BatchNorm, which is the published order where the BatchNorm's factor is above 0.
LIF: ``v = v / 4 * (1 - s) + x``, fire ``v > 1/2``.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from golden.arch import ParameterError
from models.datasets import digits
from models.spiking import Leaky
from models.training import learn, repeatable, warped

KINDS = ("dense", "stt", "ptt", "htt")
STEPS = 4
DECAY, THRESHOLD = 0.25, 0.5
# What BatchNorm starts from: behind the first and behind the second convolution of a block.
GAINS = (0.5, 0.1)
WIDTHS, BLOCKS, RATIO = (16, 32, 64), (1, 1, 1), 0.3
EPOCHS = 45
# Bounds of the search for the noise of a matrix, in golden sections.
SECTIONS = 80


class StepConv2d(nn.Module):
    """Convolutions that are chosen by the timestep: step t is taken by ``convs[kernel_of_step[t]]``.

    ``steps`` steps in a call: [steps * N, C, H, W], step-major; outputs of all kernels have one shape.
    """

    def __init__(self, convs: Sequence[nn.Conv2d], kernel_of_step: Sequence[int]) -> None:
        super().__init__()
        self.convs, self.kernel_of_step = nn.ModuleList(convs), tuple(kernel_of_step)
        self.steps, self.step = 1, 0

    def forward(self, x: Tensor) -> Tensor:
        """Advance ``steps`` steps; raise `ParameterError` for a step without a kernel."""
        if self.step + self.steps > len(self.kernel_of_step):
            raise ParameterError(f"T: must be at most {len(self.kernel_of_step)}, the steps that have a kernel, not "
                                 f"{self.step + self.steps}")
        kernels = self.kernel_of_step[self.step : self.step + self.steps]
        self.step += self.steps
        return torch.cat([self.convs[kernel](part) for kernel, part in zip(kernels, x.chunk(self.steps), strict=True)])

    def reset(self) -> None:
        """Return to the first step."""
        self.step = 0


class TtConv2d(nn.Module):
    """A 3x3 convolution, padding 1, as cores of one rank; ``steps`` as in `StepConv2d`."""

    def __init__(self, kind: str, before: int, size: int, rank: int) -> None:
        super().__init__()
        if rank < 1:
            raise ParameterError(f"rank: must be at least 1, not {rank}: a layer of rank 0 passes nothing on; legal: a rank of "
                                 "your own, or `ranks` of a trained network, because EVBMF finds only noise in random "
                                 "weights; try: rank=8")
        self.kind, self.steps = kind, 1
        self.g1 = nn.Conv2d(before, rank, 1, bias=False)
        self.g2 = nn.Conv2d(rank, rank, (3, 1), padding=(1, 0), bias=False)
        self.g3 = nn.Conv2d(rank, rank, (1, 3), padding=(0, 1), bias=False)
        self.g4 = nn.Conv2d(rank, size, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the currents of ``steps`` steps, from the first one on."""
        y = self.g1(x)
        if self.kind == "stt":
            out = self.g3(self.g2(y))
        elif self.kind == "ptt":
            out = (self.g2(y) + self.g3(y)) / 2
        else:
            half = len(y) // 2
            out = torch.cat([(self.g2(y[:half]) + self.g3(y[:half])) / 2, y[half:]])
        currents: Tensor = self.g4(out)
        return currents

    def kernels(self) -> list[Tensor]:
        """Return the merged kernels [Cout, Cin, 3, 3] or [Cout, Cin, 1, 1], float64: two for ``htt``, else one."""
        g1, g2, g3, g4 = (g.weight.detach().double() for g in (self.g1, self.g2, self.g3, self.g4))
        g1, g4 = g1[:, :, 0, 0], g4[:, :, 0, 0]
        if self.kind == "stt":
            return [torch.einsum("od,dcw,cbh,bi->oihw", g4, g3[:, :, 0], g2[..., 0], g1)]
        cross = torch.zeros(len(g4), g1.shape[1], 3, 3, dtype=torch.float64)
        cross[:, :, :, 1] += torch.einsum("od,dbh,bi->oih", g4, g2[..., 0], g1) / 2
        cross[:, :, 1, :] += torch.einsum("od,dbw,bi->oiw", g4, g3[:, :, 0], g1) / 2
        return [cross] if self.kind == "ptt" else [cross, (g4 @ g1)[:, :, None, None]]

    def merged(self) -> nn.Module:
        """Return one dense convolution, cross-shaped for ``ptt``, or for ``htt`` two that the step chooses."""
        convs = [_conv(kernel) for kernel in self.kernels()]
        return convs[0] if len(convs) == 1 else _halves(convs)

    def pipeline(self) -> nn.Module:
        """Return the cores as layers one after the other.

        The middle pair of ``ptt`` is one cross of five taps; ``htt`` has an identity in its place in the second half.
        """
        if self.kind == "stt":
            return nn.Sequential(*(_conv(_square(g.weight)) for g in (self.g1, self.g2, self.g3, self.g4)))
        cross = _conv((_square(self.g2.weight) + _square(self.g3.weight)) / 2)
        identity = _conv(torch.eye(len(cross.weight))[:, :, None, None])
        middle = cross if self.kind == "ptt" else _halves([cross, identity])
        return nn.Sequential(_conv(self.g1.weight), middle, _conv(self.g4.weight))


def _halves(convs: Sequence[nn.Conv2d]) -> StepConv2d:
    """Return the first convolution for the first half of the steps and the second one for the second half."""
    return StepConv2d(convs, [t >= STEPS // 2 for t in range(STEPS)])


def _square(weight: Tensor) -> Tensor:
    """Return a 3x1 or 1x3 kernel as 3x3, filled up with zeros."""
    height, width = weight.shape[2:]
    return F.pad(weight, ((3 - width) // 2,) * 2 + ((3 - height) // 2,) * 2) if (height, width) != (1, 1) else weight


def _conv(weight: Tensor, stride: int = 1) -> nn.Conv2d:
    size, before, height, width = weight.shape
    conv = nn.Conv2d(before, size, (height, width), stride=stride, padding=(height // 2, width // 2), bias=False)
    conv.weight = nn.Parameter(weight.detach().to(conv.weight.dtype))
    return conv


class Block(nn.Module):
    """Two convolutions of spikes and a shortcut of the stream; ``ranks`` of both, if they are cores."""

    def __init__(self, kind: str, before: int, size: int, stride: int, ranks: tuple[int, int]) -> None:
        super().__init__()
        self.lif1 = Leaky(DECAY, THRESHOLD)
        self.conv1, self.bn1 = _three(kind, before, size, stride, ranks[0]), _norm(size, GAINS[0])
        self.pool: nn.Module = nn.MaxPool2d(stride) if kind != "dense" and stride != 1 else nn.Identity()
        self.lif2 = Leaky(DECAY, THRESHOLD)
        self.conv2, self.bn2 = _three(kind, size, size, 1, ranks[1]), _norm(size, GAINS[1])
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(before, size, 1, stride=stride, bias=False), _norm(size, GAINS[0]))

    def forward(self, u: Tensor) -> Tensor:
        """Return the stream behind the block."""
        x = self.lif2(self.pool(self.bn1(self.conv1(self.lif1(u)))))
        out: Tensor = self.bn2(self.conv2(x)) + self.shortcut(u)
        return out


def _three(kind: str, before: int, size: int, stride: int, rank: int) -> nn.Module:
    if kind == "dense":
        return nn.Conv2d(before, size, 3, stride=stride, padding=1, bias=False)
    return TtConv2d(kind, before, size, rank)


def _norm(size: int, gain: float) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(size)
    nn.init.constant_(norm.weight, gain)
    return norm


class TtSnn(nn.Module):
    """One timestep, or ``steps`` at once: x [steps * N, C, H, W] to logits [steps * N, classes].

    kind : ``"dense"``, ``"stt"``, ``"ptt"`` or ``"htt"``
    widths, blocks : channels and blocks of every stage; stages but the first halve the map
    ranks : of every 3x3 convolution of the blocks in order; None takes ``RATIO`` of its outputs.
        As an attribute () of ``"dense"``
    """

    def __init__(self, kind: str, *, channels: int = 1, classes: int = 10, widths: Sequence[int] = WIDTHS,
                 blocks: Sequence[int] = BLOCKS, ranks: Sequence[int] | None = None) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ParameterError(f"kind: must be one of {', '.join(KINDS)}, not {kind!r}")
        sizes = [size for size, count in zip(widths, blocks, strict=True) for _ in range(2 * count)]
        chosen = [round(RATIO * size) for size in sizes] if ranks is None else list(ranks)
        if len(chosen) != len(sizes):
            raise ParameterError(f"ranks: must be {len(sizes)}, one for each 3x3 convolution of the blocks, not {len(chosen)}")
        self.ranks = () if kind == "dense" else tuple(chosen)
        self.conv, self.bn = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), _norm(widths[0], GAINS[0])
        pairs, before, parts = iter(zip(chosen[::2], chosen[1::2], strict=True)), widths[0], []
        for stage, (size, count) in enumerate(zip(widths, blocks, strict=True)):
            for index in range(count):
                parts.append(Block(kind, before, size, 2 if stage and not index else 1, next(pairs)))
                before = size
        self.blocks = nn.Sequential(*parts)
        self.lif, self.average, self.flatten = Leaky(DECAY, THRESHOLD), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.fc = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Advance ``steps`` steps."""
        out: Tensor = self.fc(self.flatten(self.average(self.lif(self.blocks(self.bn(self.conv(x)))))))
        return out

    def logits(self, x: Tensor) -> Tensor:
        """Return the read-out summed over `STEPS` steps from rest, [N, classes], of images [N, C, H, W]."""
        self._set_steps(STEPS)
        out: Tensor = self(x.repeat(STEPS, 1, 1, 1))
        self._set_steps(1)
        return out.reshape(STEPS, len(x), -1).sum(0)

    def _set_steps(self, steps: int) -> None:
        """Return everything to rest, and let it take ``steps`` steps in a call."""
        for module in self.modules():
            if isinstance(module, (Leaky, StepConv2d, TtConv2d)):
                module.steps = steps
            if isinstance(module, (Leaky, StepConv2d)):
                module.reset()

    def dense_kernels(self) -> dict[str, Tensor]:
        """Return the weight of every 3x3 convolution of the blocks of a dense network, by its name in captured files."""
        return {f"blocks_{number // 2}_{name}": getattr(owner, name).weight
                for number, (owner, name) in enumerate(self.convolutions())}

    def convolutions(self) -> list[tuple[nn.Module, str]]:
        """Return (owner, attribute) of every 3x3 convolution of the blocks."""
        return [(block, name) for block in self.blocks for name in ("conv1", "conv2")]

    def replaced(self, how: str) -> "TtSnn":
        """Return the network itself with its cores ``"merged"`` or as a ``"pipeline"``."""
        for owner, name in self.convolutions():
            conv = getattr(owner, name)
            if isinstance(conv, TtConv2d):
                setattr(owner, name, getattr(conv, how)())
        return self


def ranks(kernels: Mapping[str, Tensor]) -> list[int]:
    """Return the rank of every kernel [Cout, Cin, 3, 3] of a trained dense network by EVBMF of its first two unfoldings.

    Raises `ParameterError` naming the convolution of rank 0, which random weights have.
    """
    found = []
    for name, kernel in kernels.items():
        weight = kernel.detach().double()
        rank = evbmf_rank(weight.flatten(1)) or evbmf_rank(weight.transpose(0, 1).flatten(1))
        if not rank:
            raise ParameterError(f"ranks: {name} of {list(weight.shape)} has rank 0: EVBMF tells its weights from noise in no "
                                 "direction, as in a network that is not trained; legal: a trained dense network; "
                                 "try: ranks of your own")
        found.append(rank)
    return found


def evbmf_rank(matrix: Tensor) -> int:
    """Return how many singular values of a float64 matrix [L, M] stand out of noise of unknown size.

    The noise is the one of the lowest free energy. Source: Nakajima et al., Global analytic solution of fully-observed
    variational Bayesian matrix factorization, JMLR 14 (2013), theorem 2 and corollary 1.
    """
    small, large = sorted(matrix.shape)
    alpha = small / large
    tau = 2.5129 * alpha ** 0.5
    edge = (1 + tau) * (1 + alpha / tau)
    squares = torch.linalg.svdvals(matrix) ** 2
    most = min(int(-(-small // (1 + alpha))) - 1, small) - 1
    low = max(float(squares[most + 1]) / (large * edge), float(squares[most + 1 :].mean()) / large)
    high = float(squares.sum()) / (small * large)

    def energy(noise: float) -> float:
        x = squares / (large * noise)
        signal, rest = x[x > edge], x[x <= edge]
        reach = signal - (1 + alpha)
        shrunk = (reach + (reach ** 2 - 4 * alpha).sqrt()) / 2
        return float((rest - rest.log()).sum() + (signal - shrunk).sum() + ((shrunk + 1) / signal).log().sum()
                     + alpha * (shrunk / alpha + 1).log().sum())

    golden = (5 ** 0.5 - 1) / 2
    for _ in range(SECTIONS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if energy(left) < energy(right) else (left, high)
    return int((squares > large * (low + high) / 2 * edge).sum())


def example() -> Tensor:
    """Return the images that capture runs, [N, 1, 8, 8]: all of the training part."""
    return torch.from_numpy(digits()[0])


def accuracy(model: TtSnn, x: Tensor, y: Tensor) -> float:
    """Return the share of ``x`` that the float network classifies as ``y``."""
    model.eval()
    with torch.no_grad():
        return float((model.logits(x).argmax(1) == y).float().mean())


def cores(kind: str, seed: int = 0, progress: Callable[[int, int], None] = lambda done, of: None,
          ranks: Sequence[int] | None = None) -> TtSnn:
    """Train a network on digits from scratch on the training part; return it in evaluation mode, not merged.

    ``ranks`` as in `TtSnn`. BatchNorm is shared over the steps. Images are turned, scaled and moved a little.
    ``progress(done, of)`` is called after each epoch.
    """
    x, y, _, _ = map(torch.from_numpy, digits())
    with repeatable(seed):
        model = TtSnn(kind, ranks=ranks)

        def loss(index: Tensor) -> Tensor:
            return F.cross_entropy(model.logits(_moved(x[index])) / STEPS, y[index], label_smoothing=0.05)

        learn(model, len(x), loss, rate=1e-2, decay=1e-3, epochs=EPOCHS, progress=progress)
    return model.eval()


def train(kind: str, seed: int = 0, progress: Callable[[int, int], None] = lambda done, of: None,
          ranks: Sequence[int] | None = None) -> TtSnn:
    """Return `cores`, merged."""
    return cores(kind, seed, progress, ranks).replaced("merged")


def _moved(x: Tensor) -> Tensor:
    """Return images turned by up to 8 degrees, scaled by 8 % and moved by 0.8 pixels."""
    angle, size, move = (2 * torch.rand(n, len(x)) - 1 for n in (1, 1, 2))
    turn, scale = torch.pi * 8 / 180 * angle[0], 1 + 0.08 * size[0]
    across = torch.stack([scale * turn.cos(), -turn.sin(), 0.2 * move[0]], 1)
    down = torch.stack([turn.sin(), scale * turn.cos(), 0.2 * move[1]], 1)
    return warped(x, torch.stack([across, down], 1))
