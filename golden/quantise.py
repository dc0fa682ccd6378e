"""Quantise drafted layers: scales, weights, biases and thresholds become integers.

No value is clipped and no weight is pruned. Layers that write one residual stream share one unit (the ``scale``) per
channel, in which currents, biases and thresholds are rounded. A convolution's weights are rounded to its *step*, the
unit times ``2^shift``, one shift for all channels, which the planes of its passes add again: exact in integers. Its
*own step* in a channel is its largest weight there over ``2^(bits-1) - 1``, the step that it would have alone.

The rule: a step is at most `COARSEST` own steps, so a weight becomes zero only below ``COARSEST / 2`` own steps; alone on
its currents a convolution has its own step. (Both grow by less than ``1 / threshold``, because the threshold of the first
neuron is an integer too.) Where all writers keep the rule in one unit without shifts, they have none; otherwise the
shifts follow the medians over the channels, and a channel in which a writer's weights then exceed the build's weight bits
makes them several passes, one per digit, which is exact. Only a build whose rows do not hold these passes, or whose
widths do not hold such currents, gets a coarser unit; where rows are too long in all of them, layers are split.

Identity kernels (spikes that are added) have no shift and as many digits as they need. A threshold is at least 1, because
neurons without input must not fire: one that the largest weight exceeds more than ``2^(bits-1) - 1`` times is off by
less than one unit instead of half a unit.

A convolution of another convolution alone, or of kernels that the step chooses, reads 8 bits of each step, requantised to the
largest output on the example. Any other convolution of stored currents reads the `OPERAND_BITS` highest bits of their proven
width, or as many of them as the build's currents hold, at least `FEWEST_BITS`, in as many layers of digits as their words
need; what the lower ones are on average is in the bias, where no padding makes it depend on the place.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch, ParameterError, word_bits
from golden.draft import Draft, Heads, Rectifier, Term
from golden.dynamics import Dynamics, leaks
from golden.kernel import FloatArray
from golden.limits import Bound, check, current_bounds, width_of
from golden.network import (
    Attention,
    Digit,
    Input,
    Layer,
    Network,
    Neuron,
    Pass,
    Plane,
    Requantise,
    digit_planes,
    input_planes,
    number_planes,
    spike_planes,
)
from golden.split_layer import split_layer

COARSEST = 4
OPERAND_BITS, FEWEST_BITS = 12, 6
MULTIPLIER_BITS, MOST_SHIFT = 16, 31


# What the currents of a draft, by name, are requantised to for the convolutions that read them.
Numbers = dict[str, set[Rectifier]]


def quantise(name: str, drafts: list[Draft], spec: Input, steps: int, arch: Arch) -> Network:
    """Return the integer network of drafted layers; sets the ``scale`` of each draft and the ``shift`` of each term.

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
    numbers: Numbers = {}
    for draft in drafts:
        for term in draft.value.terms:
            if term.source is not None and term.number is not None:
                numbers.setdefault(term.source.name, set()).add(term.number)
    layers: dict[str, tuple[Layer, ...]] = {}
    bounds: dict[str, tuple[Bound, Bound]] = {}
    for group in groups.values():
        made, bounds = _narrowest(group, numbers, bounds, spec, steps, arch)
        layers |= {parts[-1].name: parts for parts in made}
    for draft in drafts:
        layers[draft.name] = (*_digit_layers(draft, layers, steps, arch), *layers[draft.name])
    kernels = [_integers(term, draft, spec) for draft in drafts for term in draft.value.terms if not term.identity]
    total = sum(kernel.size for kernel in kernels)
    info = {draft.name: {"scale_min": float(draft.scale.min()), "scale_max": float(draft.scale.max())}
            for draft in drafts}
    return Network(name=name, steps=steps, input=spec, layers=tuple(part for draft in drafts for part in layers[draft.name]),
                   weight_sparsity=sum(int((kernel == 0).sum()) for kernel in kernels) / total if total else 0.0,
                   float_info=info)


def _effective(term: Term, spec: Input) -> FloatArray:
    if term.source is None:
        return term.weight * spec.scale
    if term.number is not None:
        return term.weight * term.number.step
    if term.currents:
        return term.weight * (term.source.scale * 2.0 ** term.bits[0])[:, None, None]
    return term.weight if term.source.rectifier is None else term.weight * term.source.rectifier.step


def _native(found: Dynamics, arch: Arch) -> bool:
    """Whether the input decays by the hardware's own ``decay_input``."""
    return arch.leak == "2^-k" and found.decay == 0.5 and found.gain == 0.5


def _threshold(found: Dynamics, arch: Arch) -> float:
    """Return the threshold in units of the currents: the input gain that hardware lacks divides it."""
    return found.threshold if _native(found, arch) else found.threshold / found.gain


def _layers(group: list[Draft], numbers: Numbers, spec: Input, steps: int, arch: Arch) -> list[tuple[Layer, ...]]:
    """Return the layers of each draft of a residual stream, in the finest unit that the build holds, else in the coarsest.

    In the coarsest, a draft whose rows are too long for the build is several layers.
    """
    if group[0].value.attention is not None:
        return [(_attention(draft, draft.value.attention, arch),) for draft in group if draft.value.attention is not None]
    layers: list[tuple[Layer, ...]] = []
    for shifts, largest in _units(group, spec, arch):
        _choose_scale(group, largest, arch)
        finer = _finer(group, numbers)
        for draft in group:
            draft.scale = draft.scale / 2.0 ** finer / _summed(draft)
        for term, shift in zip(_terms(group), shifts, strict=True):
            term.shift = shift + finer
        layers = [_parts(draft, spec, steps, arch) for draft in group]
        try:
            check(Network(name="", steps=steps, input=spec, layers=tuple(part for parts in layers for part in parts)), arch)
        except ParameterError:
            continue
        return layers
    return [tuple(piece for part in parts for piece in _split(draft, part, spec, steps, arch))
            for draft, parts in zip(group, layers, strict=True)]


def _narrowest(group: list[Draft], numbers: Numbers, before: dict[str, tuple[Bound, Bound]], spec: Input, steps: int,
               arch: Arch) -> tuple[list[tuple[Layer, ...]], dict[str, tuple[Bound, Bound]]]:
    """Return `_layers` with as many bits of the currents that they read as the build's currents hold, and all bounds so far."""
    read = [term for term in _terms(group) if term.currents and term.number is None]
    for bits in range(OPERAND_BITS, FEWEST_BITS - 1, -1):
        for term in read:
            assert term.source is not None
            width = width_of(*before[term.source.name])
            term.bits = (max(width - bits, 0), min(width, bits))
        layers, bounds = _layers(group, numbers, spec, steps, arch), dict(before)
        for part in (part for parts in layers for part in parts):
            bounds[part.name] = current_bounds(part, steps, bounds)
        if not read or all(width_of(*bounds[part.name]) <= arch.stream_bits for parts in layers for part in parts):
            break
    return layers, bounds


def _summed(draft: Draft) -> int:
    """Return how many currents of the stream's writers one current of a layer adds: averages are not divided."""
    before = 1 if draft.value.residual is None else _summed(draft.value.residual)
    return before if draft.sum_pool is None else before * draft.sum_pool.kernel ** 2


def _attention(draft: Draft, heads: Heads, arch: Arch) -> Layer:
    """Return attention and its neurons: sums are counts, the scale multiplies the threshold, counters stop at twice that."""
    found = draft.dynamics
    assert found is not None
    threshold = _threshold(found, arch) * heads.scale
    if found.reset != "hard" or threshold < 1 or abs(threshold - round(threshold)) > 1e-6:
        raise ParameterError(f"{draft.value.origin}: attention: the neuron's threshold x scale must be a whole number of at "
                             f"least 1, its reset hard, not {threshold:g} and {found.reset}; legal: as in the paper 0.5 and "
                             "an even scale")
    draft.scale = np.full(len(draft.value.bias), 1 / heads.scale)
    query, key, value = (source.name for source in heads.sources)
    return replace(_layer(draft, (), arch), attention=Attention(
        query=query, key=key, value=value, heads=heads.heads, chunk_steps=heads.chunk_steps, saturation=2 * round(threshold)))


def _split(draft: Draft, layer: Layer, spec: Input, steps: int, arch: Arch) -> tuple[Layer, ...]:
    bits = max([spec.plane_bits if p.source.startswith("input.") else len(p.planes) for p in layer.passes], default=steps)
    flat = draft.value.shape[1:] == (1, 1) and not any(term.padding for term in draft.value.terms)
    return split_layer(layer, arch, bits, flat=flat)


def _parts(draft: Draft, spec: Input, steps: int, arch: Arch) -> tuple[Layer, ...]:
    """Return the layer of a draft, behind one for each further width of words that its convolutions read."""
    widths: dict[int, list[Pass]] = {}
    for term in sorted(draft.value.terms, key=lambda term: not term.currents):
        for p in _passes(draft, [term], spec, steps, arch):
            width = word_bits(spec.plane_bits if p.source.startswith("input.") else len(p.planes))
            widths.setdefault(width, []).append(p)
    *before, own = widths.values() or [[]]
    layer, parts = _layer(draft, tuple(own), arch), list[Layer]()
    for passes in before:
        parts.append(Layer(name=f"{draft.name}.operand{len(parts) or ''}", passes=tuple(passes), bias=np.zeros_like(layer.bias),
                           residual=layer.residual, store_currents=True, origin=layer.origin))
        layer = replace(layer, residual=parts[-1].name)
    return (*parts, layer)


def _digits_of(term: Term, steps: int, arch: Arch) -> list[tuple[str, Digit]]:
    """Return (layer's name, digits) of the words of the currents that a term reads, lowest bits first."""
    assert term.source is not None
    low, count = term.bits
    bits = arch.t_max // steps
    return [(f"{term.source.name}.bits{at}", Digit(low=at, bits=bits)) for at in range(low, low + count, bits)]


def _digit_layers(draft: Draft, layers: dict[str, tuple[Layer, ...]], steps: int, arch: Arch) -> Iterator[Layer]:
    """Yield the layers that make words of the currents that a draft reads, each once, unless ``layers`` has them already."""
    there = {part.name for parts in layers.values() for part in parts}
    for term in draft.value.terms:
        if not term.currents or term.source is None:
            continue
        source = Layer(name="", passes=(), bias=np.zeros(term.source.value.shape[0], np.int64), residual=term.source.name,
                       origin=draft.value.origin)
        if term.number is not None:
            scale = _factor(term.source, term.number)
            made = [replace(source, name=f"{term.source.name}.step{t}", requantise=replace(scale, step=t))
                    for t in range(steps)]
        else:
            made = [replace(source, name=name, digit=digit) for name, digit in _digits_of(term, steps, arch)]
        yield from (layer for layer in made if layer.name not in there)
        there.update(layer.name for layer in made)


def _finer(group: list[Draft], numbers: Numbers) -> int:
    """Return the bits by which the unit must be finer for every requantiser's factor to be below 1."""
    ratios = [float(draft.scale.max()) / draft.rectifier.step for draft in group if draft.rectifier is not None]
    ratios += [float(draft.scale.max()) / number.step for draft in group for number in numbers.get(draft.name, ())]
    return max(math.frexp(max(ratios, default=0.0))[1], 0)


def _terms(group: list[Draft]) -> list[Term]:
    return [term for draft in group for term in draft.value.terms]


def _units(group: list[Draft], spec: Input, arch: Arch) -> Iterator[tuple[list[int], FloatArray]]:
    """Yield (shift per term, float [N] weights that take the whole weight range in the unit), finest unit first.

    The first that has no shift at all ends it when it keeps the rule; the last one always has none.
    """
    terms, channels = _terms(group), group[0].value.shape[0]
    own = np.array([np.abs(_effective(term, spec)).max((1, 2, 3)) for term in terms]).reshape(-1, channels)
    own = _alike(group, own)
    fixed = np.array([term.identity for term in terms])
    fixed &= not fixed.all()
    used = np.where(own > 0, own, np.inf)
    finest = used.min(0, initial=np.inf)
    one = own[~fixed].max(0, initial=0)
    if not (one > COARSEST * finest).any():
        yield [0] * len(terms), one
        return
    wanted = [0 if still or not (row > 0).any() else round(float(np.median(np.log2(row[row > 0] / finest[row > 0]))))
              for row, still in zip(own, fixed, strict=True)]
    for less in range(max(wanted) + 1):
        shifts = np.array([max(shift - less, 0) for shift in wanted])
        spread = own / 2.0 ** shifts[:, None]
        most = spread[~fixed].max(0, initial=0)
        yield shifts.tolist(), np.minimum(most, COARSEST * np.where(own > 0, spread, np.inf).min(0, initial=np.inf))
        yield shifts.tolist(), most


def _alike(group: list[Draft], largest: FloatArray) -> FloatArray:
    """Return the largest magnitudes [..., N] of all channels that have one scale: those of a read-out, or of one membrane."""
    if any(draft.readout for draft in group):
        return np.broadcast_to(largest.max(-1, keepdims=True), largest.shape)
    share = max((draft.dynamics.share for draft in group if draft.dynamics is not None), default=1)
    most = largest.reshape(*largest.shape[:-1], share, -1).max(-2)
    return np.tile(most, share)


def _choose_scale(group: list[Draft], largest: FloatArray, arch: Arch) -> None:
    """Set one scale per channel for layers that share a residual stream; 1 / scale divides every threshold.

    largest : float [N], the weights that take the whole range of the build's weights
    """
    top = (1 << (arch.weight_bits - 1)) - 1
    bias = _alike(group, np.abs([draft.value.bias for draft in group]).max(0))
    room = float(1 << (arch.stream_bits - 4))
    thresholds = [_threshold(draft.dynamics, arch) for draft in group if draft.dynamics is not None]
    unit = thresholds[0] if thresholds else 1.0
    levels = np.divide(top * unit, largest, out=np.full(len(bias), room), where=largest > 0)
    levels = np.minimum(levels, room * unit / np.maximum(bias, unit))
    if thresholds:
        levels = np.where(levels < 1, levels, np.floor(levels * (1 + 1e-12)))
    elif all(term.identity for term in _terms(group)) and (largest == 1).all() and not bias.any():
        levels = np.ones_like(levels)
    for draft in group:
        draft.scale = unit / levels


def _round(x: FloatArray) -> NDArray[np.int64]:
    return np.floor(x + 0.5).astype(np.int64)


def _base_128(weight: NDArray[np.int64], weight_bits: int) -> list[tuple[int, NDArray[np.int8]]]:
    """Return (shift, digit) whose ``digit << shift`` add up to ``weight``; one with shift 0 where the weights fit."""
    bits, largest = weight_bits - 1, int(np.abs(weight).max())
    return [(shift, (np.sign(weight) * (np.abs(weight) >> shift & (1 << bits) - 1)).astype(np.int8))
            for shift in range(0, max(largest.bit_length(), 1), bits)]


def _integers(term: Term, draft: Draft, spec: Input) -> NDArray[np.int64]:
    """Return a term's weights in its steps."""
    return _round(_effective(term, spec) / (draft.scale * 2.0 ** term.shift)[:, None, None, None])


def _passes(draft: Draft, terms: list[Term], spec: Input, steps: int, arch: Arch) -> tuple[Pass, ...]:
    """Return the passes of ``terms``: for each one per tensor that it reads and digit of the weights."""
    out = []
    for term in terms:
        kept = range(steps) if term.steps is None else term.steps
        out += [
            Pass(source=source, weight=digit, stride=term.stride, padding=term.padding, planes=tuple(
                replace(plane, shift=plane.shift + term.shift + shift, steps=tuple(t for t in plane.steps if t in kept))
                if {*plane.steps} & {*kept} else Plane() for plane in planes))
            for source, planes in _operands(term, spec, steps, arch)
            for shift, digit in _base_128(_integers(term, draft, spec), arch.weight_bits)]
    return tuple(out)


def _operands(term: Term, spec: Input, steps: int, arch: Arch) -> list[tuple[str, tuple[Plane, ...]]]:
    """Return (tensor, planes) of what a term reads."""
    if term.source is None:
        return input_planes(spec, steps)
    if term.number is not None:
        return [(f"{term.source.name}.step{t}", number_planes(term.number.bits, True, (t,)))
                for t in (range(steps) if term.steps is None else term.steps)]
    if term.currents:
        digits = _digits_of(term, steps, arch)
        return [(name, digit_planes(digit, steps, digit.low - term.bits[0], name == digits[-1][0])) for name, digit in digits]
    rectifier = term.source.rectifier
    return [(term.source.name, spike_planes(steps) if rectifier is None else number_planes(rectifier.bits))]


def _requantise(draft: Draft) -> Requantise | None:
    """Return the requantiser of a rectifier: the factor from the layer's units to its steps, in 16 bits."""
    return None if draft.rectifier is None else _factor(draft, draft.rectifier)


def _factor(draft: Draft, wanted: Rectifier) -> Requantise:
    ratio = draft.scale / wanted.step
    shift = np.minimum(MULTIPLIER_BITS - np.frexp(ratio)[1], MOST_SHIFT).astype(np.int64)
    multiplier = np.minimum(_round(ratio * 2.0 ** shift), (1 << MULTIPLIER_BITS) - 1)
    return Requantise(multiplier=multiplier, shift=shift, bits=wanted.bits, signed=wanted.signed)


def _layer(draft: Draft, passes: tuple[Pass, ...], arch: Arch) -> Layer:
    value, found = draft.value, draft.dynamics
    lost = [np.tensordot(term.weight.sum((2, 3)), term.source.scale * ((1 << term.bits[0]) - 1) / 2, 1)
            for term in value.terms if term.currents and term.source is not None and term.number is None and not term.padding]
    step = None
    if found is not None:
        step = Neuron(threshold=np.maximum(_round(_threshold(found, arch) / draft.scale), 1),
                      leak_shift=leaks(arch)[found.decay], decay_input=_native(found, arch), compare=found.compare,
                      reset=found.reset, leak=arch.leak, share=found.share)
    return Layer(name=draft.name, passes=passes,
                 bias=_round((value.bias + sum(lost)) / draft.scale), residual=value.residual.name if value.residual else None,
                 max_pool=draft.max_pool, sum_pool=draft.sum_pool, store_currents=draft.store, neuron=step,
                 requantise=_requantise(draft),
                 or_pool=draft.or_pool, readout=draft.readout, origin=value.origin)
