"""Quantise drafted layers: scales, weights, biases and thresholds become integers.

No value is clipped. A scale is small enough for the largest weight of its channel, so every weight is off by at most
half a unit (the scale); where identity kernels need more than the build's weight bits they become several passes, one
per digit, which is exact. Biases and thresholds are rounded in the same unit. A threshold is at least 1, because
neurons without input must not fire: one that the largest weight exceeds more than ``2^(bits-1) - 1`` times is off by
less than one unit instead of half a unit.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch
from golden.draft import Draft, Term
from golden.dynamics import Dynamics, leaks
from golden.kernel import FloatArray
from golden.network import Input, Layer, Network, Neuron, Pass, input_planes, spike_planes


def quantise(name: str, drafts: list[Draft], spec: Input, steps: int, arch: Arch) -> Network:
    """Return the integer network of drafted layers; sets the ``scale`` of each draft.

    Layers that add to one residual stream share their scales, read-out channels share one.
    """
    groups: dict[int, list[Draft]] = {}
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
        passes = _term_passes(draft, spec, steps, arch)
        layers.append(_layer(draft, passes, arch))
        for term, parts in zip(draft.value.terms, passes, strict=True):
            if not term.identity:
                zeros += int((parts[0].weight == 0).sum())
                total += parts[0].weight.size
    info = {draft.name: {"scale_min": float(draft.scale.min()), "scale_max": float(draft.scale.max())}
            for draft in drafts}
    return Network(name=name, steps=steps, input=spec, layers=tuple(layers),
                   weight_sparsity=zeros / total if total else 0.0, float_info=info)


def _effective(term: Term, spec: Input) -> FloatArray:
    return term.weight * spec.scale if term.source is None else term.weight


def _native(found: Dynamics, arch: Arch) -> bool:
    """Whether the input decays by the hardware's own ``decay_input``."""
    return arch.leak == "2^-k" and found.decay == 0.5 and found.gain == 0.5


def _threshold(found: Dynamics, arch: Arch) -> float:
    """Return the threshold in units of the currents: the input gain that hardware lacks divides it."""
    return found.threshold if _native(found, arch) else found.threshold / found.gain


def _choose_scale(group: list[Draft], spec: Input, arch: Arch) -> None:
    """Set one scale per channel for layers that share a residual stream; 1 / scale divides every threshold."""
    top = (1 << (arch.weight_bits - 1)) - 1
    channels = group[0].value.shape[0]
    largest, bias = np.zeros(channels), np.zeros(channels)
    only_identity = all(term.identity for draft in group for term in draft.value.terms)
    for draft in group:
        bias = np.maximum(bias, np.abs(draft.value.bias))
        for term in draft.value.terms:
            if not term.identity or only_identity:
                largest = np.maximum(largest, np.abs(_effective(term, spec)).max((1, 2, 3)))
    if any(draft.readout for draft in group):
        largest, bias = np.full(channels, largest.max()), np.full(channels, bias.max())
    room = float(1 << (arch.stream_bits - 4))
    thresholds = [_threshold(draft.dynamics, arch) for draft in group if draft.dynamics is not None]
    unit = thresholds[0] if thresholds else 1.0
    levels = np.divide(top * unit, largest, out=np.full(channels, room), where=largest > 0)
    levels = np.minimum(levels, room * unit / np.maximum(bias, unit))
    if thresholds:
        levels = np.where(levels < 1, levels, np.floor(levels * (1 + 1e-12)))
    elif only_identity and (largest == 1).all() and not bias.any():
        levels = np.ones_like(levels)
    for draft in group:
        draft.scale = unit / levels


def _round(x: FloatArray) -> NDArray[np.int64]:
    return np.floor(x + 0.5).astype(np.int64)


def _digits(weight: NDArray[np.int64], weight_bits: int) -> list[tuple[int, NDArray[np.int8]]]:
    """Return (shift, digit) whose ``digit << shift`` add up to ``weight``; one with shift 0 where the weights fit."""
    bits, largest = weight_bits - 1, int(np.abs(weight).max())
    return [(shift, (np.sign(weight) * (np.abs(weight) >> shift & (1 << bits) - 1)).astype(np.int8))
            for shift in range(0, max(largest.bit_length(), 1), bits)]


def _term_passes(draft: Draft, spec: Input, steps: int, arch: Arch) -> list[list[Pass]]:
    """Return the passes of each term: one per input tensor and digit of the weights."""
    out = []
    for term in draft.value.terms:
        weight = _round(_effective(term, spec) / draft.scale[:, None, None, None])
        sources = input_planes(spec, steps) if term.source is None else [(term.source.name, spike_planes(steps))]
        out.append([
            Pass(source=source, weight=digit, stride=term.stride, padding=term.padding,
                 planes=tuple(replace(plane, shift=plane.shift + shift) for plane in planes))
            for source, planes in sources for shift, digit in _digits(weight, arch.weight_bits)])
    return out


def _layer(draft: Draft, passes: list[list[Pass]], arch: Arch) -> Layer:
    value, found = draft.value, draft.dynamics
    step = None
    if found is not None:
        step = Neuron(threshold=np.maximum(_round(_threshold(found, arch) / draft.scale), 1),
                      leak_shift=leaks(arch)[found.decay], decay_input=_native(found, arch), compare=found.compare,
                      reset=found.reset, leak=arch.leak)
    return Layer(name=draft.name, passes=tuple(p for group in passes for p in group),
                 bias=_round(value.bias / draft.scale), residual=value.residual.name if value.residual else None,
                 max_pool=draft.max_pool, store_currents=draft.store, neuron=step, or_pool=draft.or_pool,
                 readout=draft.readout, origin=value.origin)
