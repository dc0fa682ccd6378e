"""Lower a captured network of spike times: weights and thresholds become integers, times become ticks.

A word is an earliness ``e = window - n``, 0 for never (`golden.network.Ttfs`). The encoder is a convolution whose current
is requantised to ticks, and a pass over these that turns them around; the earliest spike of a window is a signed max-pool of
stored earliness; a delay is a bias on stored earliness; an addition of times is a residual of stored earliness on a layer of
neurons, whose window grows by that of the other; a concatenation is one pass for each source: no data moves.

A neuron is homogeneous in weights and threshold, so each output channel has the scale ``1 / threshold`` of its own, in which
the largest weight fits the build; the columns of a race share one, so that their ties compare.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch, ParameterError, tick
from golden.network import Input, Layer, Network, Pass, Pool, Requantise, Ttfs, input_planes, number_planes
from golden.store import TIMES, Captured, Node

MULTIPLIER_BITS, MOST_SHIFT = 16, 31
# The requantiser of factor (2^7 - 1) / 2^7 leaves the numbers up to 64 as they are.
CLIP = (127, 7)


@dataclass(frozen=True)
class Times:
    """Spike times of a node: the layers that hold them, channel after channel, with the channels of each."""

    parts: tuple[tuple[str, int], ...]
    window: int

    @property
    def channels(self) -> int:
        """Channels of all parts."""
        return sum(count for _, count in self.parts)

    @property
    def bits(self) -> int:
        """Bits of a word."""
        return self.window.bit_length()


def has_times(captured: Captured) -> bool:
    """Return whether a captured network computes with spike times."""
    return any(node.op in TIMES for node in captured.nodes)


def lower_times(captured: Captured, spec: Input, arch: Arch, name: str) -> Network:
    """Return the integer network of a captured network of spike times.

    Raises `ParameterError` naming the module of what has no layer.
    """
    return _Builder(captured, spec, arch).build(name)


class _Builder:
    """Walks the captured nodes and writes layers."""

    def __init__(self, captured: Captured, spec: Input, arch: Arch) -> None:
        self.captured, self.spec, self.top = captured, spec, (1 << arch.weight_bits - 1) - 1
        self.layers: dict[str, Layer] = {}
        self.values: dict[str, Times] = {}
        self.users = {node.name: sum(other.inputs.count(node.name) for other in captured.nodes) for node in captured.nodes}

    def build(self, name: str) -> Network:
        for node in self.captured.nodes:
            if node.op in ("input", "output"):
                continue
            if node.op not in TIMES:
                raise ParameterError(f"{node.path or node.name}: {node.op}: does not take spike times; legal: modules of "
                                     "models/ttfs.py alone; try: docs/layers.md, Layers of spike times")
            missing = [one for one in node.inputs if one not in self.values]
            if bool(missing) != (node.op in ("ttfs_encode", "ttfs_times")):
                raise ParameterError(f"{node.path}: {node.op}: must read {'the input' if not missing else 'spike times'}, not "
                                     f"{'spike times' if not missing else 'the input'}; legal: one encoder, first")
            getattr(self, f"_{node.op[5:]}")(node, *(self.values[one] for one in node.inputs if one in self.values))
        if not self.layers or not list(self.layers.values())[-1].readout:
            raise ParameterError("output: must be a race of spike times; legal: TtfsRace at the end of forward")
        kernels = [p.weight for layer in self.layers.values() if layer.origin for p in layer.passes]
        total = sum(kernel.size for kernel in kernels)
        return Network(name=name, steps=1, input=self.spec, layers=tuple(self.layers.values()),
                       weight_sparsity=sum(int((kernel == 0).sum()) for kernel in kernels) / total)

    def _tensor(self, node: Node, role: str) -> NDArray[np.float64]:
        return np.asarray(self.captured.tensor(node, role), np.float64)

    def _put(self, name: str, *, channels: int, **fields: Any) -> str:
        self.layers[name] = replace(Layer(name=name, passes=(), bias=np.zeros(channels, np.int64)), **fields)
        return name

    def _currents(self, value: Times, name: str) -> str:
        """Return the layer that stores the earliness of ``value`` as currents; several parts are gathered."""
        if len(value.parts) > 1:
            eye, at, passes = np.eye(value.channels, dtype=np.int8), 0, []
            for part, count in self._words(value):
                passes.append(Pass(source=part, weight=eye[:, at : at + count, None, None], planes=number_planes(value.bits)))
                at += count
            return self._put(f"{name}_gathered", channels=value.channels, passes=tuple(passes), store_currents=True)
        layer = value.parts[0][0]
        self.layers[layer] = replace(self.layers[layer], store_currents=True)
        return layer

    def _words(self, value: Times) -> tuple[tuple[str, int], ...]:
        """Return the parts of ``value`` with their words stored."""
        for layer, count in value.parts:
            if not self.layers[layer].stores_words:
                self.layers[layer] = replace(self.layers[layer], requantise=_clip(count, value.bits))
        return value.parts

    def _turned(self, node: Node, passes: tuple[Pass, ...], channels: int) -> None:
        window = node.args["window"]
        self._put(node.name, channels=channels, passes=passes, bias=np.full(channels, window))
        self.values[node.name] = Times(((node.name, channels),), window)

    def _times(self, node: Node) -> None:
        eye = -np.eye(self.spec.channels, dtype=np.int8)[:, :, None, None]
        self._turned(node, tuple(Pass(source=source, weight=eye, planes=planes)
                                 for source, planes in input_planes(self.spec, 1)), self.spec.channels)

    def _encode(self, node: Node) -> None:
        p, weight = node.args, self._tensor(node, "weight") * self.spec.scale
        unit, bits = tick(p["resolution"]), p["window"].bit_length()
        scale = np.maximum(np.abs(weight).max((1, 2, 3)) / self.top, 1e-6 * unit)
        if (scale >= unit).any():
            raise ParameterError(f"{node.path}: TtfsEncode: a weight of one step of the input must be below {self.top} ticks, "
                                 f"{self.top * unit:g}, not {float(np.abs(weight).max()):g}")
        passes = tuple(Pass(source=source, weight=_round(weight / scale[:, None, None, None]).astype(np.int8),
                            padding=p["padding"], planes=planes) for source, planes in input_planes(self.spec, 1))
        channels, levels = len(weight), f"{node.name}_levels"
        self._put(levels, channels=channels, passes=passes, bias=_round(self._tensor(node, "bias") / scale), origin=node.path)
        if p["pool"] > 1:
            first = f"{node.name}_currents"
            self.layers[first] = replace(self.layers.pop(levels), name=first, store_currents=True)
            self._put(levels, channels=channels, residual=first, max_pool=Pool(kernel=p["pool"], stride=p["pool"]))
        shift = np.minimum(MULTIPLIER_BITS - np.frexp(scale / unit)[1], MOST_SHIFT).astype(np.int64)
        multiplier = np.minimum(_round(scale / unit * 2.0 ** shift), (1 << MULTIPLIER_BITS) - 1)
        self.layers[levels] = replace(self.layers[levels], requantise=Requantise(multiplier=multiplier, shift=shift, bits=bits))
        eye = np.eye(channels, dtype=np.int8)[:, :, None, None]
        self._turned(node, (Pass(source=levels, weight=eye, planes=tuple(
            replace(plane, negate=True) for plane in number_planes(bits))),), channels)

    def _fire(self, node: Node, value: Times) -> None:
        p, weight = node.args, self._tensor(node, "weight")
        self._match(node, value.window, p["window"])
        if weight.shape[1] != value.channels:
            raise ParameterError(f"{node.path}: TtfsConv2d: reads {value.channels} channels, not {weight.shape[1]}")
        largest = np.abs(weight).max((1, 2, 3))
        if any(other.op == "ttfs_race" and node.name in other.inputs for other in self.captured.nodes):
            largest = np.full(len(weight), largest.max())
        if largest.max() > self.top:
            raise ParameterError(f"{node.path}: TtfsConv2d: weights: must be at most {self.top} thresholds, "
                                 f"not {largest.max():g}")
        threshold = np.floor(self.top / np.maximum(largest, self.top / (1 << 12))).astype(np.int64)
        kernel, at, passes = _round(weight * threshold[:, None, None, None]).astype(np.int8), 0, []
        for source, count in self._words(value):
            passes.append(Pass(source=source, weight=kernel[:, at : at + count], stride=p["stride"], padding=p["padding"],
                               planes=number_planes(value.bits)))
            at += count
        self._put(node.name, channels=len(weight), passes=tuple(passes), origin=node.path, ttfs=Ttfs(
            threshold=threshold, window=value.window, resolution=p["resolution"], bits=value.bits))
        self.values[node.name] = Times(((node.name, len(weight)),), value.window)

    def _earliest(self, node: Node, value: Times) -> None:
        p = node.args
        self._put(node.name, channels=value.channels, residual=self._currents(value, node.name),
                  max_pool=Pool(kernel=p["kernel"], stride=p["stride"], padding=p["padding"]))
        self.values[node.name] = Times(((node.name, value.channels),), value.window)

    def _delay(self, node: Node, value: Times) -> None:
        self._match(node, value.window, node.args["window"])
        ticks = _round(np.maximum(self._tensor(node, "bias"), 0) / tick(node.args["resolution"]))
        if ticks.max() >= value.window:
            raise ParameterError(f"{node.path}: TtfsDelay: delays must be in 0..{value.window - 1} ticks, below the window, "
                                 f"not {int(ticks.max())}; try: a longer window")
        self._put(node.name, channels=value.channels, residual=self._currents(value, node.name), bias=-ticks)
        self.values[node.name] = Times(((node.name, value.channels),), value.window)

    def _add(self, node: Node, left: Times, right: Times) -> None:
        for value, window in zip((left, right), node.args["windows"], strict=True):
            self._match(node, value.window, window)
        free = [n for n, (value, name) in enumerate(zip((left, right), node.inputs, strict=True)) if self._free(value, name)]
        if not free:
            raise ParameterError(f"{node.path}: TtfsAdd: must add to a TtfsConv2d that nothing else reads, not "
                                 f"{' and '.join(node.inputs)}; legal: one addition to each")
        branch, skip = (left, right) if free[0] == 0 else (right, left)
        residual, layer = self._currents(skip, node.name), self.layers.pop(branch.parts[0][0])
        total = left.window + right.window
        assert layer.ttfs is not None
        self.layers[layer.name] = replace(layer, residual=residual, ttfs=replace(layer.ttfs, bits=total.bit_length()))
        self.values[node.name] = Times(branch.parts, total)

    def _free(self, value: Times, name: str) -> bool:
        layer = self.layers[value.parts[0][0]]
        return len(value.parts) == 1 and self.users[name] == 1 and layer.ttfs is not None and layer.residual is None

    def _concat(self, node: Node, left: Times, right: Times) -> None:
        self._match(node, left.window, right.window)
        self.values[node.name] = Times(left.parts + right.parts, left.window)

    def _race(self, node: Node, value: Times) -> None:
        layer = self.layers[value.parts[0][0]]
        if not self._free(value, node.inputs[0]):
            raise ParameterError(f"{node.path}: TtfsRace: must be the only reader of a TtfsConv2d, not of {node.inputs[0]}")
        self.layers[layer.name] = replace(layer, readout=True)

    def _match(self, node: Node, there: int, wanted: int) -> None:
        if there != wanted:
            raise ParameterError(f"{node.path}: window: must be the {there} ticks of what it reads, not {wanted}")


def _clip(channels: int, bits: int) -> Requantise:
    multiplier, shift = CLIP
    return Requantise(multiplier=np.full(channels, multiplier), shift=np.full(channels, shift), bits=bits)


def _round(x: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.floor(x + 0.5).astype(np.int64)
