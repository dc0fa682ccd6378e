"""Lower a captured float network to an integer network: the only lossy step.

BatchNorm folds into weights, weight scales fold into integer thresholds, average pooling into kernels. Every
limit of the build is proven for all inputs, or the layer is refused by name.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from golden.arch import Arch, ParameterError, word_bits
from golden.network import (
    Input,
    Layer,
    Network,
    Neuron,
    Pass,
    Pool,
    input_planes,
    input_words,
    spike_planes,
)
from golden.store import Captured, Node

DIGIT = {8: 7, 4: 3}


@dataclass(frozen=True, kw_only=True)
class FloatTrace:
    """The float network's run on a batch.

    logits : float32 [B, classes], summed over the steps
    spikes : bool [T, B, ...] per neuron node name
    """

    logits: Tensor
    spikes: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Dynamics:
    """A library neuron in common words: ``h = decay * v + gain * x`` with ``v`` measured from its reset value."""

    decay: float
    gain: float
    threshold: float
    compare: str
    reset: str


@dataclass(eq=False)
class _Term:
    """One float convolution of a source: spikes of a layer, or the input (None)."""

    source: "_Draft | None"
    weight: Tensor
    stride: int = 1
    padding: int = 0
    identity: bool = False


@dataclass(eq=False)
class _Linear:
    """A sum of terms, bias and stored currents; shape is ``(C, H, W)``."""

    terms: list[_Term]
    bias: Tensor
    shape: tuple[int, int, int]
    residual: "_Draft | None" = None
    flat: bool = False
    origin: str = ""


@dataclass(eq=False)
class _Words:
    """Spikes of one or more layers, added; ``pool`` is the window of a pending average."""

    sources: tuple["_Draft | None", ...]
    shape: tuple[int, int, int]
    pool: int = 1
    flat: bool = False


@dataclass(eq=False)
class _Draft:
    """A layer before quantisation."""

    name: str
    value: _Linear
    max_pool: Pool | None = None
    store: bool = False
    dynamics: Dynamics | None = None
    or_pool: Pool | None = None
    readout: bool = False
    scale: Tensor = field(default_factory=lambda: torch.ones(1, dtype=torch.float64))


def lower(captured: Captured, steps: int, arch: Arch, *, name: str, input_kind: str = "static", input_bits: int = 8,
          input_scale: float | None = None, leak_nearest: bool = False,
          calibration: Tensor | None = None) -> Network:
    """Return the integer network of ``captured`` for the build ``arch``.

    steps : timesteps T, at most ``arch.t_max``
    input_kind, input_bits : see `golden.network.Input`
    input_scale : real value of one integer step of the input; None takes it from ``calibration`` (any real input),
        so that its largest magnitude is the largest integer
    leak_nearest : replace a leak that does not exist by the nearest that does, instead of refusing
    Raises `ParameterError` naming the layer, the need and the limit.
    """
    if not 1 <= steps <= arch.t_max:
        raise ParameterError(f"T: must be in 1..{arch.t_max} for preset {arch.name}, not {steps}; "
                             f"try: --T {arch.t_max}")
    spec = _input_spec(captured, steps, arch, kind=input_kind, bits=input_bits, scale=input_scale,
                       calibration=calibration)
    builder = _Builder(captured, arch, leak_nearest)
    drafts = builder.build()
    network = _quantise(name, drafts, spec, steps, arch)
    check(network, arch)
    return network


def quantise_input(x: Tensor, spec: Input) -> Tensor:
    """Return int64 ``floor(x / scale + 1/2)`` clipped to the signed range of ``spec.bits`` (0..1 for one bit)."""
    low, high = (0, 1) if spec.bits == 1 else (-(1 << (spec.bits - 1)), (1 << (spec.bits - 1)) - 1)
    return torch.floor(x.to(torch.float64) / spec.scale + 0.5).clamp(low, high).to(torch.int64)


def dynamics(node: Node) -> Dynamics:
    """Return what a captured neuron does, in common words."""
    p = node.args
    if p["class"] == "Leaky":
        if p["reset_mechanism"] == "none" or (p["reset_mechanism"] == "subtract" and not p["reset_delay"]):
            raise ParameterError(f"{node.path}: Leaky: reset_mechanism {p['reset_mechanism']!r} with reset_delay="
                                 f"{p['reset_delay']} does not exist in hardware; legal: 'zero', or 'subtract' with "
                                 "reset_delay=True; try: train with reset_mechanism='zero'")
        found = Dynamics(decay=p["beta"], gain=1.0, threshold=p["threshold"], compare=">",
                         reset="hard" if p["reset_mechanism"] == "zero" else "soft_delayed")
    else:
        tau = p.get("tau")
        found = Dynamics(decay=1.0 if tau is None else 1 - 1 / tau,
                         gain=1 / tau if tau is not None and p["decay_input"] else 1.0,
                         threshold=p["v_threshold"] - (p["v_reset"] or 0.0), compare=">=",
                         reset="soft" if p["v_reset"] is None else "hard")
    if found.threshold <= 0:
        raise ParameterError(f"{node.path}: {p['class']}: the threshold must be above the reset value, "
                             f"not {found.threshold} from it")
    return found


def _input_spec(captured: Captured, steps: int, arch: Arch, *, kind: str, bits: int, scale: float | None,
                calibration: Tensor | None) -> Input:
    if kind not in ("static", "steps"):
        raise ParameterError(f"input: kind must be static or steps, not {kind!r}")
    if not 1 <= bits <= 16 or (bits == 1 and kind == "static"):
        raise ParameterError(f"input: bits must be in {1 if kind == 'steps' else 2}..16, not {bits}")
    if scale is None:
        if bits == 1:
            scale = 1.0
        elif calibration is None:
            raise ParameterError("input: scale is not known; legal: a scale, or example inputs to take it from; "
                                 "try: --data x.npz")
        else:
            scale = float(calibration.abs().max()) / ((1 << (bits - 1)) - 1) or 1.0
    if not (math.isfinite(scale) and scale > 0):
        raise ParameterError(f"input: scale must be finite and above 0, not {scale}")
    channels, height, width = captured.example_shape
    plane_bits = steps if kind == "steps" and bits == 1 else min(arch.t_max, max(steps, 4))
    return Input(kind=kind, channels=channels, height=height, width=width, bits=bits, scale=scale,
                 plane_bits=plane_bits)


class _Builder:
    """Walks the captured nodes and drafts layers."""

    def __init__(self, captured: Captured, arch: Arch, leak_nearest: bool) -> None:
        self.captured, self.arch, self.leak_nearest = captured, arch, leak_nearest
        self.drafts: list[_Draft] = []
        self.values: dict[str, _Linear | _Words] = {}
        self.users = {node.name: sum(node.name in other.inputs for other in captured.nodes) for node in captured.nodes}

    def build(self) -> list[_Draft]:
        for node in self.captured.nodes:
            operands = [self.values[name] for name in node.inputs]
            if node.op == "input":
                self.values[node.name] = _Words((None,), self.captured.example_shape)
            elif node.op == "output":
                self._output(node, operands[0])
            else:
                handler: Callable[..., _Linear | _Words] = getattr(self, f"_{node.op}")
                value = handler(node, *operands)
                if isinstance(value, _Linear) and value.terms and self.users[node.name] > 1:
                    value = self._store(node.name, value)
                self.values[node.name] = value
        return self.drafts

    def _draft(self, name: str, value: _Linear, **fields: Any) -> _Draft:
        taken = {draft.name for draft in self.drafts}
        unique = next(n for n in [name, *(f"{name}_{i}" for i in range(1, len(taken) + 2))] if n not in taken)
        draft = _Draft(unique, value, **fields)
        self.drafts.append(draft)
        return draft

    def _store(self, name: str, value: _Linear, **fields: Any) -> _Linear:
        draft = self._draft(f"{name}_currents", value, store=True, **fields)
        return _stored(draft, value)

    def _conv(self, node: Node, value: _Linear | _Words) -> _Linear:
        words = self._words(node, value)
        weight = _dense_kernel(_need(self.captured.tensor(node, "weight")), node.args["dilation"], node.args["groups"],
                               words.shape[0], node)
        stride, padding = node.args["stride"], node.args["padding"]
        if words.pool > 1:
            if padding and (words.shape[1] % words.pool or words.shape[2] % words.pool):
                raise ParameterError(f"{node.path}: Conv2d: a padded convolution after AvgPool2d needs a map that "
                                     f"divides by {words.pool}, not {words.shape[1]}x{words.shape[2]}")
            weight, stride, padding = _unpool(weight, words.pool), stride * words.pool, padding * words.pool
        _, height, width = words.shape
        shape = (weight.shape[0], *(_extent(size, k, stride, padding)
                                    for size, k in ((height, weight.shape[2]), (width, weight.shape[3]))))
        if min(shape) < 1:
            raise ParameterError(f"{node.path}: Conv2d: the kernel is larger than the map {height}x{width}")
        terms = [_Term(source, weight, stride, padding) for source in words.sources]
        return _Linear(terms, _bias(self.captured, node, shape[0]), (shape[0], shape[1], shape[2]), origin=node.path)

    def _linear(self, node: Node, value: _Linear | _Words) -> _Linear:
        words = self._words(node, value)
        weight = _need(self.captured.tensor(node, "weight")).to(torch.float64)
        channels, height, width = words.shape
        h, w = height // words.pool, width // words.pool
        if not words.flat or weight.shape[1] != channels * h * w:
            raise ParameterError(f"{node.path}: Linear(in_features={weight.shape[1]}): needs a flat input of that "
                                 f"size, not {channels}x{h}x{w}; legal: Flatten before Linear")
        weight = _unpool(weight.reshape(-1, channels, h, w), words.pool)
        weight = F.pad(weight, (0, width - weight.shape[3], 0, height - weight.shape[2]))
        terms = [_Term(source, weight) for source in words.sources]
        return _Linear(terms, _bias(self.captured, node, len(weight)), (len(weight), 1, 1), flat=True,
                       origin=node.path)

    def _batchnorm(self, node: Node, value: _Linear | _Words) -> _Linear:
        linear = self._currents(value)
        if linear.residual is not None:
            raise ParameterError(f"{node.path}: BatchNorm2d: cannot fold into a residual stream or pooled currents; "
                                 "legal: directly after a convolution, or on spikes")
        mean, var = (_need(self.captured.tensor(node, role)).to(torch.float64) for role in ("mean", "var"))
        gain = 1 / torch.sqrt(var + node.args["eps"])
        weight, bias = self.captured.tensor(node, "weight"), self.captured.tensor(node, "bias")
        gain = gain if weight is None else gain * weight
        terms = [replace(term, weight=term.weight * gain[:, None, None, None]) for term in linear.terms]
        shift = gain * (linear.bias - mean) + (0 if bias is None else bias)
        return replace(linear, terms=terms, bias=shift)

    def _add(self, node: Node, left: _Linear | _Words, right: _Linear | _Words | None = None) -> _Linear | _Words:
        right = left if right is None else right
        if left.shape != right.shape or left.flat != right.flat:
            raise ParameterError(f"{node.name}: add: needs two operands of one shape, not {list(left.shape)} and "
                                 f"{list(right.shape)}")
        if (isinstance(left, _Words) and isinstance(right, _Words) and left.pool == right.pool
                and None not in left.sources + right.sources):
            return replace(left, sources=left.sources + right.sources)
        a, b = self._currents(left), self._currents(right)
        while a.residual is not None and b.residual is not None:
            owner = b.residual.value
            if b.residual.max_pool is not None:
                raise ParameterError(f"{node.name}: add: at most one operand may be a residual stream with a max-pool")
            b = replace(b, terms=b.terms + owner.terms, bias=b.bias + owner.bias, residual=owner.residual)
        return _Linear(a.terms + b.terms, a.bias + b.bias, a.shape, a.residual or b.residual, a.flat,
                       a.origin or b.origin)

    def _flatten(self, node: Node, value: _Linear | _Words) -> _Linear | _Words:
        return replace(value, flat=True)

    def _maxpool(self, node: Node, value: _Linear | _Words) -> _Linear | _Words:
        pool = Pool(kernel=node.args["kernel"], stride=node.args["stride"], padding=node.args["padding"])
        shape = _pooled(value.shape, pool, node)
        if isinstance(value, _Words) and value.pool == 1 and len(value.sources) == 1 and value.sources[0] is not None:
            owner = value.sources[0]
            if self.users[node.inputs[0]] > 1 or owner.or_pool is not None or owner.value.residual is not None:
                owner = self._relay(f"{node.name}_spikes", value)
            owner.or_pool = pool
            return replace(value, sources=(owner,), shape=shape)
        linear = self._currents(value)
        if linear.terms:
            linear = self._store(node.inputs[0], linear)
        pooled = replace(linear, terms=[], bias=torch.zeros_like(linear.bias))
        result = self._store(node.name, pooled, max_pool=pool)
        return replace(result, shape=shape)

    def _avgpool(self, node: Node, value: _Linear | _Words) -> _Linear | _Words:
        k = node.args["kernel"]
        if isinstance(value, _Words):
            return replace(value, pool=value.pool * k)
        if value.residual is not None:
            raise ParameterError(f"{node.path}: AvgPool2d: cannot fold into a residual stream or pooled currents; "
                                 "legal: on spikes, or directly after a convolution")
        terms = [_average_outputs(term, k) for term in value.terms]
        return replace(value, terms=terms, shape=(value.shape[0], value.shape[1] // k, value.shape[2] // k))

    def _neuron(self, node: Node, value: _Linear | _Words) -> _Words:
        linear = self._currents(value)
        found = self._leak(node, dynamics(node))
        owner = linear.residual
        if not linear.terms and owner is not None and owner.dynamics is None and not linear.bias.any():
            owner.dynamics = found
            owner.name = self._free(node.name)
        else:
            owner = self._draft(node.name, linear, dynamics=found)
        return _Words((owner,), linear.shape, flat=linear.flat)

    def _free(self, name: str) -> str:
        taken = {draft.name for draft in self.drafts}
        return next(n for n in [name, *(f"{name}_{i}" for i in range(1, len(taken) + 2))] if n not in taken)

    def _output(self, node: Node, value: _Linear | _Words) -> None:
        name = f"{node.inputs[0]}_count" if isinstance(value, _Words) else node.inputs[0]
        self._draft(name, self._currents(value), readout=True)
        for draft in self.drafts:
            draft.store = any(other.value.residual is draft for other in self.drafts)

    def _words(self, node: Node, value: _Linear | _Words) -> _Words:
        if isinstance(value, _Linear):
            kind = {"conv": "Conv2d", "linear": "Linear"}[node.op]
            raise ParameterError(f"{node.path}: {kind}: reads multi-bit currents of "
                                 f"{value.origin or 'a residual stream'}; legal: the input or spikes; "
                                 "try: a neuron between the two layers, or merge them")
        return value

    def _currents(self, value: _Linear | _Words) -> _Linear:
        if isinstance(value, _Linear):
            return value
        channels, k = value.shape[0], value.pool
        eye = torch.eye(channels, dtype=torch.float64)[:, :, None, None].expand(-1, -1, k, k) / k ** 2
        terms = [_Term(source, eye, k, 0, identity=True) for source in value.sources]
        shape = (channels, value.shape[1] // k, value.shape[2] // k)
        return _Linear(terms, torch.zeros(channels, dtype=torch.float64), shape, flat=value.flat)

    def _relay(self, name: str, value: _Words) -> _Draft:
        copy = Dynamics(decay=min(_leaks(self.arch)), gain=1.0, threshold=1.0, compare=">=", reset="hard")
        return self._draft(name, self._currents(value), dynamics=copy)

    def _leak(self, node: Node, found: Dynamics) -> Dynamics:
        leaks = sorted(_leaks(self.arch))
        nearest = sorted(leaks, key=lambda leak: abs(leak - found.decay))[:2]
        if abs(nearest[0] - found.decay) < 1e-6:
            return replace(found, decay=nearest[0])
        if self.leak_nearest:
            return replace(found, decay=nearest[0])
        key = "beta" if "beta" in node.args else "tau"
        given = f"{key} {node.args[key]:g}" if key in node.args else "no leak"
        shown = " and ".join(_leak_text(leak, key) for leak in sorted(nearest))
        raise ParameterError(f"{node.path}: {node.args['class']}: {given} does not exist with leak "
                             f"{self.arch.leak}; legal nearest: {shown}; try: --leak nearest")


def _leak_text(leak: float, key: str) -> str:
    if key == "beta":
        return f"beta {leak:g}"
    return "no leak (IFNode)" if leak == 1 else f"tau {1 / (1 - leak):.6g}"


def _leaks(arch: Arch) -> dict[float, int]:
    """Return the membrane factors that exist, with their ``leak_shift``."""
    if arch.leak == "2^-k":
        return {2.0 ** -k: k for k in range(arch.lif.k_max + 1)}
    return {1 - 2.0 ** -k: k for k in range(arch.lif.k_max + 1)}


def _need(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise ParameterError("captured file: a tensor is missing; "
                             "legal: a .safetensors file written by spikeloom.capture")
    return tensor


def _bias(captured: Captured, node: Node, channels: int) -> Tensor:
    bias = captured.tensor(node, "bias")
    return torch.zeros(channels, dtype=torch.float64) if bias is None else bias.to(torch.float64)


def _stored(draft: _Draft, value: _Linear) -> _Linear:
    return _Linear([], torch.zeros_like(value.bias), value.shape, draft, value.flat, value.origin)


def _extent(size: int, kernel: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - kernel) // stride + 1


def _pooled(shape: tuple[int, int, int], pool: Pool, node: Node) -> tuple[int, int, int]:
    height, width = (_extent(size, pool.kernel, pool.stride, pool.padding) for size in shape[1:])
    if min(height, width) < 1:
        raise ParameterError(f"{node.path}: MaxPool2d: the window {pool.kernel} is larger than the map "
                             f"{shape[1]}x{shape[2]}")
    return shape[0], height, width


def _dense_kernel(weight: Tensor, dilation: list[int], groups: int, channels: int, node: Node) -> Tensor:
    """Return float64 [N, C, kh, kw] with groups and dilation written out as zeros."""
    n, per_group, kh, kw = weight.shape
    if per_group * groups != channels:
        raise ParameterError(f"{node.path}: Conv2d(in_channels={per_group * groups}): reads {channels} channels")
    dense = torch.zeros(n, channels, dilation[0] * (kh - 1) + 1, dilation[1] * (kw - 1) + 1, dtype=torch.float64)
    for g in range(groups):
        rows, columns = slice(g * n // groups, (g + 1) * n // groups), slice(g * per_group, (g + 1) * per_group)
        dense[rows, columns, ::dilation[0], ::dilation[1]] = weight[rows].to(torch.float64)
    return dense


def _unpool(weight: Tensor, k: int) -> Tensor:
    """Return the kernel that reads the unpooled map where ``weight`` read the average-pooled one."""
    return weight.repeat_interleave(k, 2).repeat_interleave(k, 3) / k ** 2


def _average_outputs(term: _Term, k: int) -> _Term:
    """Return the term whose outputs are averages over k x k outputs of ``term``."""
    n, c, kh, kw = term.weight.shape
    reach = (k - 1) * term.stride
    weight = torch.zeros(n, c, kh + reach, kw + reach, dtype=torch.float64)
    for i in range(0, reach + 1, term.stride):
        for j in range(0, reach + 1, term.stride):
            weight[:, :, i:i + kh, j:j + kw] += term.weight / k ** 2
    return replace(term, weight=weight, stride=term.stride * k, identity=False)


def _quantise(name: str, drafts: list[_Draft], spec: Input, steps: int, arch: Arch) -> Network:
    groups: dict[int, list[_Draft]] = {}
    root = {id(draft): id(draft) for draft in drafts}
    for draft in drafts:
        if draft.value.residual is not None:
            old, new = root[id(draft)], root[id(draft.value.residual)]
            root = {key: new if value == old else value for key, value in root.items()}
    for draft in drafts:
        groups.setdefault(root[id(draft)], []).append(draft)
    for group in groups.values():
        _choose_scale(group, spec, arch)
    layers, zeros, total = [], 0, 0
    for draft in drafts:
        layers.append(_layer(draft, spec, steps, arch))
        for term, passes in zip(draft.value.terms, _term_passes(draft, spec, steps, arch), strict=True):
            if not term.identity:
                zeros += int((passes[0].weight == 0).sum())
                total += passes[0].weight.numel()
    info = {draft.name: {"scale_min": float(draft.scale.min()), "scale_max": float(draft.scale.max())}
            for draft in drafts}
    return Network(name=name, steps=steps, input=spec, layers=tuple(layers),
                   weight_sparsity=zeros / total if total else 0.0, float_info=info)


def _effective(term: _Term, spec: Input) -> Tensor:
    return term.weight * spec.scale if term.source is None else term.weight


def _native(found: Dynamics, arch: Arch) -> bool:
    """Whether the input decays by the hardware's own ``decay_input``."""
    return arch.leak == "2^-k" and found.decay == 0.5 and found.gain == 0.5


def _threshold(found: Dynamics, arch: Arch) -> float:
    """Return the threshold in units of the currents: the input gain that hardware lacks divides it."""
    return found.threshold if _native(found, arch) else found.threshold / found.gain


def _choose_scale(group: list[_Draft], spec: Input, arch: Arch) -> None:
    """Set one scale per channel for layers that share a residual stream; 1 / scale divides every threshold."""
    top = (1 << (arch.weight_bits - 1)) - 1
    channels = group[0].value.shape[0]
    largest = torch.zeros(channels, dtype=torch.float64)
    bias = torch.zeros(channels, dtype=torch.float64)
    terms = [term for draft in group for term in draft.value.terms]
    only_identity = all(term.identity for term in terms)
    for draft in group:
        bias = torch.maximum(bias, draft.value.bias.abs())
        for term in draft.value.terms:
            if not term.identity or only_identity:
                largest = torch.maximum(largest, _effective(term, spec).abs().flatten(1).amax(1))
    if any(draft.readout for draft in group):
        largest, bias = largest.max().expand(channels), bias.max().expand(channels)
    room = float(1 << (arch.stream_bits - 4))
    thresholds = [_threshold(draft.dynamics, arch) for draft in group if draft.dynamics is not None]
    unit = thresholds[0] if thresholds else 1.0
    levels = torch.where(largest > 0, top * unit / largest, room)
    levels = torch.minimum(levels, room * unit / torch.maximum(bias, torch.tensor(unit)))
    if thresholds:
        levels = torch.floor(levels * (1 + 1e-12)).clamp(min=1)
    elif only_identity and bool((largest == 1).all()) and not bias.any():
        levels = torch.ones_like(levels)
    for draft in group:
        draft.scale = unit / levels


def _round(x: Tensor) -> Tensor:
    return torch.floor(x + 0.5).to(torch.int64)


def _term_passes(draft: _Draft, spec: Input, steps: int, arch: Arch) -> list[list[Pass]]:
    """Return the passes of each term: one per input tensor and, for large identity weights, per digit."""
    out = []
    top = (1 << (arch.weight_bits - 1)) - 1
    for term in draft.value.terms:
        weight = _round(_effective(term, spec) / draft.scale[:, None, None, None])
        shifts = [0]
        if term.identity and int(weight.abs().max()) > top:
            bits = DIGIT[arch.weight_bits]
            shifts = list(range(0, int(weight.abs().max()).bit_length(), bits))
            weights = [weight.sign() * ((weight.abs() >> s) & top) for s in shifts]
        else:
            weights = [weight.clamp(-top, top)]
        sources = input_planes(spec, steps) if term.source is None else [(term.source.name, spike_planes(steps))]
        out.append([
            Pass(source=source, weight=digit.to(torch.int8), stride=term.stride, padding=term.padding,
                 planes=tuple(replace(plane, shift=plane.shift + shift) for plane in planes))
            for source, planes in sources for shift, digit in zip(shifts, weights, strict=True)])
    return out


def _layer(draft: _Draft, spec: Input, steps: int, arch: Arch) -> Layer:
    value, found = draft.value, draft.dynamics
    step = None
    if found is not None:
        step = Neuron(threshold=_round(_threshold(found, arch) / draft.scale).clamp(min=1),
                      leak_shift=_leaks(arch)[found.decay], decay_input=_native(found, arch), compare=found.compare,
                      reset=found.reset, leak=arch.leak)
    return Layer(name=draft.name, passes=tuple(p for group in _term_passes(draft, spec, steps, arch) for p in group),
                 bias=_round(value.bias / draft.scale), residual=value.residual.name if value.residual else None,
                 max_pool=draft.max_pool, store_currents=draft.store, neuron=step, or_pool=draft.or_pool,
                 readout=draft.readout, origin=value.origin)


def check(network: Network, arch: Arch) -> None:
    """Prove for all inputs that ``network`` fits the build, or raise `ParameterError`.

    Sums, currents, membranes and thresholds per channel by interval arithmetic; chunks and packed words per row;
    channels of pooled layers.
    """
    if not 1 <= network.steps <= arch.t_max:
        raise ParameterError(f"T: must be in 1..{arch.t_max} for preset {arch.name}, not {network.steps}")
    top = (1 << (arch.weight_bits - 1)) - 1
    currents: dict[str, tuple[Tensor, Tensor]] = {}
    for layer in network.layers:
        for p in layer.passes:
            if int(p.weight.to(torch.int64).abs().max()) > top:
                _refuse(layer, "weights", int(p.weight.to(torch.int64).abs().max()), f"at most {top}", arch)
        _check_row(layer, network, arch)
        low, high = _sum_bounds(layer, network.steps)
        _check_width(layer, "sums", low, high, bits=arch.acc_bits, arch=arch)
        low, high = low + layer.bias, high + layer.bias
        if layer.residual is not None:
            low, high = low + currents[layer.residual][0], high + currents[layer.residual][1]
        _check_width(layer, "currents", low, high, bits=arch.stream_bits, arch=arch)
        currents[layer.name] = (low, high)
        if layer.readout:
            _check_width(layer, "read-out", low.clamp(max=0).sum(0), high.clamp(min=0).sum(0),
                         bits=arch.membrane_bits, arch=arch)
        if layer.neuron is not None:
            _check_width(layer, "thresholds", -layer.neuron.threshold, layer.neuron.threshold,
                         bits=arch.membrane_bits, arch=arch)
            floor, ceiling = _membrane_bounds(layer.neuron, low, high)
            _check_width(layer, "membranes", floor, ceiling, bits=arch.membrane_bits, arch=arch)
        if layer.or_pool is not None and len(layer.bias) > arch.pool_channels:
            _refuse(layer, "pooled channels", len(layer.bias), f"at most {arch.pool_channels}", arch)


def _refuse(layer: Layer, what: str, need: int, legal: str, arch: Arch) -> None:
    where = f"{layer.name} ({layer.origin})" if layer.origin else layer.name
    raise ParameterError(f"{where}: {what}: needs {need}; legal: {legal} on preset {arch.name}; "
                         "try: a larger preset or a smaller layer")


def _check_width(layer: Layer, what: str, low: Tensor, high: Tensor, *, bits: int, arch: Arch) -> None:
    need = max(max(int(high.max()), -int(low.min()) - 1).bit_length() + 1, 1)
    if need > bits:
        _refuse(layer, f"{what} in bits", need, f"at most {bits}", arch)


def _check_row(layer: Layer, network: Network, arch: Arch) -> None:
    chunks = bits = 0
    for p in layer.passes:
        _, c, kh, kw = p.weight.shape
        width = network.input.plane_bits if p.source.startswith("input.") else network.steps
        chunks += kh * kw * -(-c // arch.chunk_bits)
        bits += kh * kw * c * word_bits(width)
    if chunks > arch.max_chunks:
        _refuse(layer, "chunks of one row", chunks, f"at most {arch.max_chunks}", arch)
    if bits > arch.row_value_bits:
        _refuse(layer, "bits of one row's words", bits, f"at most {arch.row_value_bits}", arch)


def _sum_bounds(layer: Layer, steps: int) -> tuple[Tensor, Tensor]:
    """Return int64 [T, N] lowest and highest sums over all operand words."""
    low = torch.zeros(steps, len(layer.bias), dtype=torch.int64)
    high = low.clone()
    for p in layer.passes:
        weight = p.weight.to(torch.int64).flatten(1)
        positive, negative = weight.clamp(min=0).sum(1), weight.clamp(max=0).sum(1)
        for plane in p.planes:
            ends = (-positive, -negative) if plane.negate else (negative, positive)
            for t in plane.steps:
                low[t] += ends[0] << plane.shift
                high[t] += ends[1] << plane.shift
    return low, high


def _membrane_bounds(p: Neuron, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lowest and highest value that ``h`` or any sum inside the neuron step can take."""
    k = p.leak_shift
    v_low = v_high = owed = torch.zeros_like(p.threshold)
    least, most = torch.zeros_like(v_low), torch.zeros_like(v_low)
    for lo, hi in zip(low, high, strict=True):
        rounding = (1 << k) - 1
        if p.leak == "1-2^-k":
            a, b = v_low - (v_low >> k) + lo, v_high - (v_high >> k) + hi + 1
        elif p.decay_input:
            a, b = (v_low + lo) >> k, (v_high + hi + rounding) >> k
            least, most = torch.minimum(least, v_low + lo), torch.maximum(most, v_high + hi + rounding)
        else:
            a, b = (v_low >> k) + lo, ((v_high + rounding) >> k) + hi
        if p.reset == "soft_delayed":
            a, owed = a - owed, p.threshold
        least, most = torch.minimum(least, a), torch.maximum(most, b)
        if p.reset == "hard":
            v_low, v_high = a.clamp(max=0), torch.minimum(b, p.threshold).clamp(min=0)
        elif p.reset == "soft":
            v_low = torch.where(b >= p.threshold, torch.minimum(a, torch.zeros_like(a)), a)
            v_high = torch.maximum(torch.minimum(b, p.threshold), b - p.threshold)
        else:
            v_low, v_high = a, b
    return least, most


def float_run(captured: Captured, x: Tensor, steps: int) -> FloatTrace:
    """Run the captured float network in float32 from rest.

    x : [B, C, H, W], shown at every step, or [B, T, C, H, W]
    """
    frames = x.movedim(1, 0) if x.dim() == 5 else x.expand(steps, *x.shape)
    values: dict[str, Tensor] = {}
    spikes: dict[str, Tensor] = {}
    for node in captured.nodes:
        operands = [values[name] for name in node.inputs]
        if node.op == "input":
            values[node.name] = frames.to(torch.float32)
        elif node.op == "output":
            return FloatTrace(logits=operands[0].sum(0).flatten(1), spikes=spikes)
        elif node.op == "neuron":
            values[node.name] = _float_neuron(node, operands[0])
            spikes[node.name] = values[node.name] > 0
        elif node.op == "add":
            values[node.name] = operands[0] + operands[-1]
        elif node.op == "flatten":
            values[node.name] = operands[0].flatten(2)
        else:
            flat = _float_layer(captured, node, operands[0].flatten(0, 1))
            values[node.name] = flat.reshape(*operands[0].shape[:2], *flat.shape[1:])
    raise AssertionError("a captured network ends in its output")


def _float_layer(captured: Captured, node: Node, x: Tensor) -> Tensor:
    weight, bias, p = captured.tensor(node, "weight"), captured.tensor(node, "bias"), node.args
    if node.op == "conv":
        return F.conv2d(x, _need(weight), bias, p["stride"], p["padding"], p["dilation"], p["groups"])
    if node.op == "linear":
        return F.linear(x, _need(weight), bias)
    if node.op == "batchnorm":
        mean, var = _need(captured.tensor(node, "mean")), _need(captured.tensor(node, "var"))
        return F.batch_norm(x, mean, var, weight, bias, eps=p["eps"])
    if node.op == "maxpool":
        return F.max_pool2d(x, p["kernel"], p["stride"], p["padding"])
    return F.avg_pool2d(x, p["kernel"], p["stride"], p["padding"])


def _float_neuron(node: Node, x: Tensor) -> Tensor:
    found = dynamics(node)
    v, owed, out = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
    for current in x:
        h = found.decay * v + found.gain * current - owed
        fire = h > found.threshold if found.compare == ">" else h >= found.threshold
        out.append(fire.to(x.dtype))
        if found.reset == "hard":
            v = torch.where(fire, 0.0, h)
        elif found.reset == "soft":
            v = torch.where(fire, h - found.threshold, h)
        else:
            v, owed = h, torch.where(fire, found.threshold, 0.0)
    return torch.stack(out)


MakeNeuron = Callable[[float, Neuron], nn.Module]


def spikingjelly_neuron(threshold: float, p: Neuron) -> nn.Module:
    """Return a SpikingJelly single-step node that does ``p`` with one threshold; ``>`` is the next float above it."""
    from spikingjelly.activation_based import neuron as library

    decay = 2.0 ** -p.leak_shift if p.leak == "2^-k" else 1 - 2.0 ** -p.leak_shift
    if p.reset == "soft_delayed" or (p.reset == "soft" and p.compare == ">") or decay == 0:
        raise ParameterError(f"to_torch: SpikingJelly has no neuron with reset {p.reset!r}, compare {p.compare!r}, "
                             f"leak {decay:g}; legal: hard, or soft with '>='; try: a neuron factory of your own")
    level = threshold if p.compare == ">=" else float(torch.nextafter(torch.tensor(threshold), torch.tensor(torch.inf)))
    reset = 0.0 if p.reset == "hard" else None
    node: nn.Module
    if decay == 1:
        node = library.IFNode(v_threshold=level, v_reset=reset)
    else:
        node = library.LIFNode(tau=1 / (1 - decay), decay_input=p.decay_input, v_threshold=level, v_reset=reset)
    return node


class IntegerModule(nn.Module):
    """A torch module with the integer network's weights as float32, its spikes made by a library's neurons.

    ``spikes`` holds [T, B, N, H, W] per layer after a call. Exact wherever float32 is (networks F4).
    """

    def __init__(self, network: Network, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.network, self.make_neuron = network, make_neuron
        self.spikes: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes] of quantised inputs, int64 [B, C, H, W] or [B, T, C, H, W]."""
        network = self.network
        images = [input_words(image, network.input, network.steps) for image in x]
        words = {name: torch.stack([image[name] for image in images]) for name in images[0]}
        values: dict[str, Tensor] = {}
        stored: dict[str, Tensor] = {}
        self.spikes, currents = {}, torch.empty(0)
        for layer in network.layers:
            parts = [self._pass(p, words, values) for p in layer.passes]
            if layer.residual is not None:
                parts.append(stored[layer.residual])
            currents = torch.stack(parts).sum(0) + layer.bias.float()[:, None, None]
            if layer.max_pool is not None:
                currents = _pool(currents, layer.max_pool)
            stored[layer.name] = currents
            if layer.neuron is not None:
                spikes = self._neuron(currents, layer.neuron)
                self.spikes[layer.name] = spikes
                spikes = spikes * (spikes.sum(0) >= layer.min_spikes)
                values[layer.name] = spikes if layer.or_pool is None else _pool(spikes, layer.or_pool)
        return currents.sum(0).flatten(1)

    def _pass(self, p: Pass, words: dict[str, Tensor], values: dict[str, Tensor]) -> Tensor:
        steps = self.network.steps
        if p.source in words:
            source = torch.stack([(words[p.source] >> b) & 1 for b in range(len(p.planes))]).float()
        else:
            source = values[p.source]
        operand = torch.zeros(steps, *source.shape[1:])
        for bit, plane in zip(source, p.planes, strict=True):
            for t in plane.steps:
                operand[t] += (-bit if plane.negate else bit) * 2.0 ** plane.shift
        out = F.conv2d(operand.flatten(0, 1), p.weight.float(), None, p.stride, p.padding)
        return out.reshape(steps, -1, *out.shape[1:])

    def _neuron(self, currents: Tensor, p: Neuron) -> Tensor:
        spikes = torch.zeros_like(currents)
        for threshold in sorted(set(p.threshold.tolist())):
            channels = p.threshold == threshold
            node = self.make_neuron(float(threshold), p)
            spikes[:, :, channels] = torch.stack([node(x) for x in currents[:, :, channels]]).detach()
        return spikes


def _pool(x: Tensor, pool: Pool) -> Tensor:
    out = F.max_pool2d(x.flatten(0, 1), pool.kernel, pool.stride, pool.padding)
    return out.reshape(*x.shape[:2], *out.shape[1:])


def to_torch(network: Network, make_neuron: MakeNeuron = spikingjelly_neuron) -> IntegerModule:
    """Return ``network`` as a torch module whose neurons ``make_neuron(threshold, parameters)`` builds."""
    return IntegerModule(network, make_neuron)
