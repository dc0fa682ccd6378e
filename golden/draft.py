"""Draft the layers of a captured network: walk its graph and write each layer as float convolutions and a tail."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import isqrt
from typing import Any

import numpy as np

from golden.arch import Arch, ParameterError
from golden.dynamics import Dynamics, check_share, dynamics, leak_text, leaks
from golden.kernel import FloatArray, average_outputs, dense_kernel, unpool
from golden.network import Pool
from golden.store import Captured, Node
from golden.window import extent

ACTIVATION_BITS = 8
# Pixels each way of a window that gathers a whole map, and of a kernel that spreads one pixel over it: larger ones have rows
# that fewer builds hold, and take longer than several of these.
REACH = 4


@dataclass(eq=False)
class Term:
    """One float convolution of a source: spikes of a layer, or the input (None).

    identity : spikes that are added, or their average
    steps : the timesteps that it adds to; None: all
    currents : it reads the stored currents of ``source`` instead of its spikes
    number : what the currents are requantised to in every step; None: digits of them are read
    shift : set by quantisation; the weights are integers times ``2^shift`` units
    bits : set by quantisation; (lowest, count) of the bits of the currents that it reads
    """

    source: "Draft | None"
    weight: FloatArray
    stride: int = 1
    padding: int = 0
    identity: bool = False
    steps: tuple[int, ...] | None = None
    currents: bool = False
    number: "Rectifier | None" = None
    shift: int = 0
    bits: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class Heads:
    """Attention of spikes; ``sources`` are query, key and value, and currents are sums over ``scale``."""

    sources: tuple["Draft", "Draft", "Draft"]
    heads: int
    chunk_steps: int
    scale: float


@dataclass(eq=False)
class Linear:
    """A sum of terms, bias and stored currents, or attention alone; shape is ``(C, H, W)``."""

    terms: list[Term]
    bias: FloatArray
    shape: tuple[int, int, int]
    residual: "Draft | None" = None
    flat: bool = False
    origin: str = ""
    attention: Heads | None = None


@dataclass(eq=False)
class Words:
    """Spikes of one or more layers, added.

    shape : ``(C, H, W)`` of the spikes, before the average
    pool : window of a pending average
    currents : not the spikes but the stored currents of a layer, as a convolution reads them
    """

    sources: tuple["Draft | None", ...]
    shape: tuple[int, int, int]
    pool: int = 1
    flat: bool = False
    currents: bool = False


@dataclass(frozen=True)
class Rectifier:
    """A ReLU whose values are integers ``0..2^bits - 1`` times ``step``, or numbers of both signs."""

    step: float
    bits: int
    signed: bool = False


@dataclass(eq=False)
class Draft:
    """A layer before quantisation."""

    name: str
    value: Linear
    max_pool: Pool | None = None
    sum_pool: Pool | None = None
    store: bool = False
    dynamics: Dynamics | None = None
    rectifier: Rectifier | None = None
    or_pool: Pool | None = None
    readout: bool = False
    scale: FloatArray = field(default_factory=lambda: np.ones(1))


def draft_layers(captured: Captured, arch: Arch, *, leak_nearest: bool) -> list[Draft]:
    """Return the layers of ``captured`` in execution order, the read-out last.

    leak_nearest : replace a leak that ``arch`` does not have by the nearest that it has, instead of refusing
    Raises `ParameterError` naming the module path of what has no layer.
    """
    return _Builder(captured, arch, leak_nearest).build()


class _Builder:
    """Walks the captured nodes and drafts layers."""

    def __init__(self, captured: Captured, arch: Arch, leak_nearest: bool) -> None:
        self.captured, self.arch, self.leak_nearest = captured, arch, leak_nearest
        self.drafts: list[Draft] = []
        self.values: dict[str, Linear | Words] = {}
        self.users = {node.name: sum(node.name in other.inputs for other in captured.nodes) for node in captured.nodes}

    def build(self) -> list[Draft]:
        for node in self.captured.nodes:
            operands = [self.values[name] for name in node.inputs]
            if node.op != "neuron" and any(isinstance(value, Linear) and value.attention for value in operands):
                raise ParameterError(f"{node.path or node.name}: {node.op}: must not read the sums of attention; legal: a "
                                     "neuron between the two")
            if node.op == "input":
                self.values[node.name] = Words((None,), self.captured.example_shape)
            elif node.op == "output":
                self._output(node, operands[0])
            else:
                handler: Callable[..., Linear | Words] = getattr(self, f"_{node.op}")
                value = handler(node, *operands)
                if isinstance(value, Linear) and value.terms and self.users[node.name] > 1:
                    value = self._store(node.name, value)
                self.values[node.name] = value
        return self.drafts

    def _tensor(self, node: Node, role: str) -> FloatArray | None:
        tensor = self.captured.tensor(node, role)
        return None if tensor is None else tensor.astype(np.float64)

    def _need(self, node: Node, role: str) -> FloatArray:
        tensor = self._tensor(node, role)
        if tensor is None:
            raise ParameterError(f"captured file: {node.name}.{role}: the tensor is missing; "
                                 "legal: a .safetensors file written by spikeloom.capture")
        return tensor

    def _bias(self, node: Node, channels: int) -> FloatArray:
        bias = self._tensor(node, "bias")
        return np.zeros(channels) if bias is None else bias

    def _draft(self, name: str, value: Linear, **fields: Any) -> Draft:
        draft = Draft(self._free(name), value, **fields)
        self.drafts.append(draft)
        return draft

    def _store(self, name: str, value: Linear, **fields: Any) -> Linear:
        draft = self._draft(f"{name}_currents", value, store=True, **fields)
        return _stored(draft, value)

    def _conv(self, node: Node, value: Linear | Words) -> Linear:
        words = self._numbers(node, value) if isinstance(value, Linear) and self.arch.digit else self._words(node, value)
        weight = dense_kernel(self._need(node, "weight"), node.args["dilation"], node.args["groups"], words.shape[0], node)
        stride, padding = node.args["stride"], node.args["padding"]
        if words.pool > 1:
            if padding and (words.shape[1] % words.pool or words.shape[2] % words.pool):
                raise ParameterError(f"{node.path}: Conv2d: a padded convolution after AvgPool2d needs a map that "
                                     f"divides by {words.pool}, not {words.shape[1]}x{words.shape[2]}")
            weight, stride, padding = unpool(weight, words.pool), stride * words.pool, padding * words.pool
        _, height, width = words.shape
        shape = (weight.shape[0], *(extent(size, k, stride, padding)
                                    for size, k in ((height, weight.shape[2]), (width, weight.shape[3]))))
        if min(shape) < 1:
            raise ParameterError(f"{node.path}: Conv2d: the kernel is larger than the map {height}x{width}")
        steps = tuple(node.args["steps"]) if "steps" in node.args else None
        number = self._number(node) if words.currents else None
        terms = [Term(source, weight, stride, padding, steps=steps, currents=words.currents, number=number)
                 for source in words.sources]
        return Linear(terms, self._bias(node, shape[0]), (shape[0], shape[1], shape[2]), origin=node.path)

    def _numbers(self, node: Node, value: Linear) -> Words:
        """Return currents as what a convolution reads, which stores them."""
        if value.residual is None or value.terms or value.bias.any():
            value = self._store(node.inputs[0], value)
        return Words((value.residual,), value.shape, currents=True)

    def _number(self, node: Node) -> Rectifier | None:
        """Return the signed numbers that the convolution in front of ``node`` is requantised to, if nothing else reads it."""
        before = next(other for other in self.captured.nodes if other.name == node.inputs[0])
        if "peak" not in before.args or not self.arch.requantise or self.arch.t_max < ACTIVATION_BITS:
            return None
        return Rectifier((before.args["peak"] or 1) / ((1 << ACTIVATION_BITS - 1) - 1), ACTIVATION_BITS, signed=True)

    def _linear(self, node: Node, value: Linear | Words) -> Linear:
        if isinstance(value, Linear) and value.flat and value.residual is None and value.shape[1:] == (1, 1):
            return self._product(node, value)
        words = self._words(node, value)
        weight = self._need(node, "weight")
        channels, height, width = words.shape
        _, h, w = _shape(words)
        if not words.flat or weight.shape[1] != channels * h * w:
            raise ParameterError(f"{node.path}: Linear(in_features={weight.shape[1]}): needs a flat input of that "
                                 f"size, not {channels}x{h}x{w}; legal: Flatten before Linear")
        weight = unpool(weight.reshape(-1, channels, h, w), words.pool)
        weight = np.pad(weight, ((0, 0), (0, 0), (0, height - weight.shape[2]), (0, width - weight.shape[3])))
        terms = [Term(source, weight) for source in words.sources]
        return Linear(terms, self._bias(node, len(weight)), (len(weight), 1, 1), flat=True, origin=node.path)

    def _product(self, node: Node, value: Linear) -> Linear:
        """Return two linear layers without a neuron between them as one: their product."""
        weight = self._need(node, "weight")
        if weight.shape[1] != value.shape[0]:
            raise ParameterError(f"{node.path}: Linear(in_features={weight.shape[1]}): reads {value.shape[0]} features")
        terms = [replace(term, weight=np.tensordot(weight, term.weight, 1), identity=False) for term in value.terms]
        return Linear(terms, weight @ value.bias + self._bias(node, len(weight)), (len(weight), 1, 1), flat=True,
                      origin=node.path)

    def _batchnorm(self, node: Node, value: Linear | Words) -> Linear:
        linear = self._currents(value)
        if linear.residual is not None:
            raise ParameterError(f"{node.path}: BatchNorm2d: cannot fold into a residual stream or pooled currents; "
                                 "legal: directly after a convolution, or on spikes")
        mean, var = self._need(node, "mean"), self._need(node, "var") + node.args["eps"]
        if (var <= 0).any():
            raise ParameterError(f"{node.path}: BatchNorm2d: running_var + eps must be above 0, not {var.min()}")
        gain = 1 / np.sqrt(var)
        weight, bias = self._tensor(node, "weight"), self._tensor(node, "bias")
        gain = gain if weight is None else gain * weight
        terms = [replace(term, weight=term.weight * gain[:, None, None, None]) for term in linear.terms]
        shift = gain * (linear.bias - mean) + (0 if bias is None else bias)
        return replace(linear, terms=terms, bias=shift)

    def _add(self, node: Node, left: Linear | Words, right: Linear | Words | None = None) -> Linear | Words:
        right = left if right is None else right
        if _shape(left) != _shape(right) or left.flat != right.flat:
            raise ParameterError(f"{node.name}: add: needs two operands of one shape, not {list(_shape(left))} and "
                                 f"{list(_shape(right))}")
        if (isinstance(left, Words) and isinstance(right, Words) and (left.pool, left.shape) == (right.pool, right.shape)
                and None not in left.sources + right.sources):
            return replace(left, sources=left.sources + right.sources)
        a, b = self._currents(left), self._currents(right)
        while a.residual is not None and b.residual is not None:
            owner = b.residual.value
            if b.residual.max_pool is not None:
                raise ParameterError(f"{node.name}: add: at most one operand may be a residual stream with a max-pool")
            b = replace(b, terms=b.terms + owner.terms, bias=b.bias + owner.bias, residual=owner.residual)
        return Linear(a.terms + b.terms, a.bias + b.bias, a.shape, a.residual or b.residual, a.flat,
                       a.origin or b.origin)

    def _mul(self, node: Node, left: Linear | Words, right: Linear | Words | None = None) -> Words:
        """Return the AND of spikes: a neuron without memory of a step before that fires on two."""
        right = left if right is None else right
        pair = (self._spikes(node, left), self._spikes(node, right))
        first, second = sorted((_shape(left), _shape(right)))
        if first != second and (first != (second[0], 1, 1) or second[1] != second[2]):
            raise ParameterError(f"{node.name}: mul: needs two operands of one shape, or a single pixel and a square map, not "
                                 f"{list(_shape(left))} and {list(_shape(right))}")
        wide = [owner if _shape(value) == second else self._spread(node, owner, second)
                for owner, value in zip(pair, (left, right), strict=True)]
        a, b = (self._currents(Words((owner,), second)) for owner in wide)
        both = Dynamics(decay=min(leaks(self.arch)), gain=1.0, threshold=2.0, compare=">=", reset="hard")
        return self._fire(node, replace(a, terms=a.terms + b.terms), dynamics=both)

    def _spread(self, node: Node, pixel: Draft, shape: tuple[int, int, int]) -> Draft:
        """Return a layer whose spikes are those of one pixel, everywhere on a square map."""
        channels, side, _ = shape
        size = 1
        while size < side:
            kernel = min(REACH, side - size + 1)
            size += kernel - 1
            term = Term(pixel, _summing(channels, kernel, kernel), 1, kernel - 1, identity=True)
            pixel = self._copied(f"{node.name}_spread", Linear([term], np.zeros(channels), (channels, size, size)))
        return pixel

    def _sum(self, node: Node, value: Linear | Words) -> Linear:
        """Return the sum of spikes over their map: a convolution."""
        if isinstance(value, Linear) or value.pool > 1 or value.flat:
            raise ParameterError(f"{node.name}: sum: must read spikes of a map, not currents, averages or a flat tensor; "
                                 "legal: neurons, or a MaxPool2d of them, before it")
        channels, height, width = value.shape
        weight = _summing(channels, height, width)
        return Linear([Term(source, weight, identity=True) for source in value.sources], np.zeros(channels), (channels, 1, 1))

    def _attention(self, node: Node, query: Linear | Words, key: Linear | Words, value: Linear | Words) -> Linear:
        shape, p = _shape(query), node.args
        if not shape == _shape(key) == _shape(value) or shape[0] % p["heads"]:
            raise ParameterError(f"{node.path}: attention: needs query, key and value of one shape whose channels divide by "
                                 f"{p['heads']} heads, not {list(shape)}, {list(_shape(key))} and {list(_shape(value))}")
        sources = (self._spikes(node, query), self._spikes(node, key), self._spikes(node, value))
        return Linear([], np.zeros(shape[0]), shape, origin=node.path,
                      attention=Heads(sources, p["heads"], p["chunk_steps"], p["scale"]))

    def _spikes(self, node: Node, value: Linear | Words) -> Draft:
        """Return the layer whose spikes ``value`` is."""
        owner = value.sources[0] if isinstance(value, Words) and len(value.sources) == 1 and value.pool == 1 else None
        if owner is None or owner.dynamics is None:
            raise ParameterError(f"{node.path or node.name}: {node.op}: must read spikes of one layer; legal: neurons, or a "
                                 "MaxPool2d of them, before it")
        return owner

    def _flatten(self, node: Node, value: Linear | Words) -> Linear | Words:
        return replace(value, flat=True)

    def _maxpool(self, node: Node, value: Linear | Words) -> Linear | Words:
        pool = Pool(kernel=node.args["kernel"], stride=node.args["stride"], padding=node.args["padding"])
        shape = _pooled(_shape(value), pool, node)
        if isinstance(value, Words) and value.pool == 1 and len(value.sources) == 1 and value.sources[0] is not None:
            owner = value.sources[0]
            if owner.rectifier is not None:
                return self._rectified_maximum(node, owner, replace(value, shape=shape), pool)
            taken = owner.or_pool is not None or owner.value.residual is not None or owner.store
            if taken or self._shared(owner):
                owner = self._relay(f"{node.name}_spikes", value)
            owner.or_pool = pool
            return replace(value, sources=(owner,), shape=shape)
        linear = self._currents(value)
        if linear.terms or linear.bias.any():
            linear = self._store(node.inputs[0], linear)
        pooled = replace(linear, terms=[])
        result = self._store(node.name, pooled, max_pool=pool)
        return replace(result, shape=shape, origin=node.path)

    def _rectified_maximum(self, node: Node, owner: Draft, value: Words, pool: Pool) -> Words:
        """Pool the currents in front of a ReLU, which is the same because it is monotonic; pool words nowhere."""
        after = self._draft(node.name, _stored(owner, owner.value), max_pool=pool, rectifier=owner.rectifier)
        if not self._shared(owner):
            owner.rectifier = None
        return replace(value, sources=(after,))

    def _shared(self, owner: Draft) -> bool:
        """Whether something else than one chain of nodes reads the spikes of ``owner``."""
        return any(self.users[name] > 1 for name, value in self.values.items()
                   if isinstance(value, Words) and owner in value.sources)

    def _adaptive_avgpool(self, node: Node, value: Linear | Words) -> Linear | Words:
        _, height, width = _shape(value)
        output = node.args["output"]
        if height != width or height % output:
            raise ParameterError(f"{node.path}: AdaptiveAvgPool2d({output}): the map must be square and a multiple of the "
                                 f"output, not {height}x{width}; legal: windows of one size")
        return self._average(node, value, height // output)

    def _avgpool(self, node: Node, value: Linear | Words) -> Linear | Words:
        return self._average(node, value, node.args["kernel"])

    def _average(self, node: Node, value: Linear | Words, k: int) -> Linear | Words:
        """Return the average of k x k windows of ``value``."""
        if isinstance(value, Words):
            return replace(value, pool=value.pool * k)
        if value.residual is not None and self.arch.token_sum and min(value.shape[1:]) >= k:
            stream = self._store(node.inputs[0], value) if value.terms or value.bias.any() else value
            result = self._store(node.name, stream, sum_pool=Pool(kernel=k, stride=k))
            return replace(result, shape=(value.shape[0], value.shape[1] // k, value.shape[2] // k), origin=node.path)
        if value.residual is not None:
            kind = {"avgpool": "AvgPool2d", "adaptive_avgpool": "AdaptiveAvgPool2d"}[node.op]
            raise ParameterError(f"{node.path}: {kind}: cannot fold into a residual stream or pooled currents; "
                                 "legal: on spikes, directly after a convolution, or on a build that sums windows; "
                                 "try: token_sum = true in a preset file")
        terms = [replace(term, weight=average_outputs(term.weight, term.stride, k), stride=term.stride * k, identity=False)
                 for term in value.terms]
        return replace(value, terms=terms, shape=(value.shape[0], value.shape[1] // k, value.shape[2] // k))

    def _neuron(self, node: Node, value: Linear | Words) -> Words:
        found, linear = self._leak(node, dynamics(node)), self._currents(value)
        check_share(node, linear.shape[0])
        anywhere = self._anywhere(node, linear) if found.fires_on(1.0) and found.reset == "hard" else None
        return anywhere or self._fire(node, linear, dynamics=found)

    def _anywhere(self, node: Node, linear: Linear) -> Words | None:
        """Return what a neuron that fires on one spike makes of the sum of a square map: whether there is one anywhere.

        None for other currents. Nothing is left in such a neuron: a step without a spike adds nothing, one with resets it.
        """
        term = linear.terms[0] if len(linear.terms) == 1 else None
        if term is None or term.source is None or term.source.dynamics is None or linear.residual or linear.bias.any():
            return None
        channels, side, width = (len(term.weight), *term.weight.shape[2:])
        if not term.identity or side == 1 or side != width or not np.array_equal(term.weight, _summing(channels, side, side)):
            return None
        words = Words((term.source,), (channels, side, side))
        most = min(REACH, isqrt(self.arch.lanes)) if self.arch.loom else REACH
        while words.shape[1] > 1:
            kernel = min(words.shape[1], most)
            window = {"kernel": kernel, "stride": kernel, "padding": (-words.shape[1] % kernel + 1) // 2}
            pooled = self._maxpool(replace(node, op="maxpool", args=window), words)
            assert isinstance(pooled, Words)
            words = pooled
        return words

    def _relu(self, node: Node, value: Linear | Words) -> Words:
        bits = min(ACTIVATION_BITS, self.arch.t_max)
        return self._fire(node, self._currents(value), rectifier=Rectifier((node.args["peak"] or 1) / ((1 << bits) - 1), bits))

    def _fire(self, node: Node, linear: Linear, **tail: Any) -> Words:
        """Return the words of a layer whose tail ends in ``tail``: a new one, or one whose currents are just these."""
        owner = linear.residual
        if (not linear.terms and owner is not None and owner.dynamics is None and owner.rectifier is None
                and not linear.bias.any()):
            vars(owner).update(tail, name=self._free(node.name))
        else:
            owner = self._draft(node.name, linear, **tail)
        return Words((owner,), linear.shape, flat=linear.flat)

    def _free(self, name: str) -> str:
        taken = {draft.name for draft in self.drafts}
        return next(n for n in [name, *(f"{name}_{i}" for i in range(1, len(taken) + 2))] if n not in taken)

    def _output(self, node: Node, value: Linear | Words) -> None:
        name = f"{node.inputs[0]}_count" if isinstance(value, Words) else node.inputs[0]
        self._draft(name, self._currents(value), readout=True)
        for draft in self.drafts:
            draft.store = any(other.value.residual is draft or any(
                term.currents and term.source is draft for term in other.value.terms) for other in self.drafts)

    def _words(self, node: Node, value: Linear | Words) -> Words:
        if isinstance(value, Linear):
            kind = {"conv": "Conv2d", "linear": "Linear"}[node.op]
            if value.residual is not None and value.residual.max_pool is not None:
                raise ParameterError(f"{value.origin}: MaxPool2d: gives multi-bit currents, not spikes, because it reads "
                                     f"averages or currents; legal: a neuron between it and {node.path} ({kind}); "
                                     "try: MaxPool2d before AvgPool2d")
            raise ParameterError(f"{node.path}: {kind}: reads multi-bit currents of "
                                 f"{value.origin or 'a residual stream'}; legal: the input or spikes; "
                                 "try: a neuron between the two layers, or merge them, or preset loas")
        return value

    def _currents(self, value: Linear | Words) -> Linear:
        if isinstance(value, Linear):
            return value
        channels, k = value.shape[0], value.pool
        eye = np.eye(channels)[:, :, None, None] * np.ones((k, k)) / k ** 2
        terms = [Term(source, eye, k, 0, identity=True) for source in value.sources]
        return Linear(terms, np.zeros(channels), _shape(value), flat=value.flat)

    def _relay(self, name: str, value: Words) -> Draft:
        return self._copied(name, self._currents(value))

    def _copied(self, name: str, linear: Linear) -> Draft:
        """Return neurons that fire on a sum of 1 in the same step."""
        copy = Dynamics(decay=min(leaks(self.arch)), gain=1.0, threshold=1.0, compare=">=", reset="hard")
        return self._draft(name, linear, dynamics=copy)

    def _leak(self, node: Node, found: Dynamics) -> Dynamics:
        nearest = sorted(sorted(leaks(self.arch)), key=lambda leak: abs(leak - found.decay))[:2]
        if abs(nearest[0] - found.decay) < 1e-6:
            return replace(found, decay=nearest[0])
        if self.leak_nearest:
            return replace(found, decay=nearest[0])
        key = "beta" if "beta" in node.args else "tau"
        given = f"{key} {node.args[key]:g}" if key in node.args else "no leak"
        shown = " and ".join(leak_text(leak, key) for leak in sorted(nearest))
        raise ParameterError(f"{node.path}: {node.args['class']}: {given} does not exist with leak "
                             f"{self.arch.leak}; legal nearest: {shown}; try: --leak nearest")


def _summing(channels: int, height: int, width: int) -> FloatArray:
    """Return the kernel that adds a window of each channel."""
    kernel: FloatArray = np.eye(channels)[:, :, None, None] * np.ones((height, width))
    return kernel


def _stored(draft: Draft, value: Linear) -> Linear:
    return Linear([], np.zeros_like(value.bias), value.shape, draft, value.flat, value.origin)


def _shape(value: Linear | Words) -> tuple[int, int, int]:
    """Return ``(C, H, W)`` as whoever reads ``value`` sees it: with its pending average taken."""
    if isinstance(value, Linear):
        return value.shape
    channels, height, width = value.shape
    return channels, height // value.pool, width // value.pool


def _pooled(shape: tuple[int, int, int], pool: Pool, node: Node) -> tuple[int, int, int]:
    height, width = (extent(size, pool.kernel, pool.stride, pool.padding) for size in shape[1:])
    if min(height, width) < 1:
        raise ParameterError(f"{node.path}: MaxPool2d: the window {pool.kernel} is larger than the map "
                             f"{shape[1]}x{shape[2]}")
    return shape[0], height, width


