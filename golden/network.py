"""The integer network: what lowering writes, `golden.run` executes and `hdl.image` lays out in memory.

Arrays are numpy arrays or torch tensors; golden functions return the kind that they are given.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from array_api_compat import array_namespace

from golden.arch import ParameterError

Array = Any


# Channels that may have one membrane.
SHARES = (1, 2, 4)


@dataclass(frozen=True, kw_only=True)
class Plane:
    """What one bit of an operand word adds to: ``sum[t] += (-1)^negate * 2^shift * dot`` for t in ``steps``."""

    steps: tuple[int, ...] = ()
    shift: int = 0
    negate: bool = False


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One sweep over an operand tensor.

    source : name of the operand tensor, ``input.<j>`` or a layer that writes words
    weight : int8 [N, C, kh, kw]; zero means pruned
    planes : one entry per bit of the operand word, bit 0 first
    rows : (first, stop) of the map rows that it reads, as if the operand had no others; None reads all
    """

    source: str
    weight: Array
    stride: int = 1
    padding: int = 0
    planes: tuple[Plane, ...]
    rows: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Neuron:
    """Neuron step of a layer; thresholds are integers in units of the layer's sums.

    threshold : int64 [N]
    leak_shift : k in 0..2 (0..3 with ``leak="1-2^-k"``)
    decay_input : the input decays with the membrane (only k = 0 or 1, only ``leak="2^-k"``)
    compare : ``">="`` or ``">"``
    reset : ``"hard"`` (to 0), ``"soft"`` (minus threshold) or ``"soft_delayed"`` (minus threshold one step later)
    share : S, 1, 2 or 4 contiguous groups of the channels, which the neurons of one group take one after the other in every
        timestep: channel c has the membrane of ``c mod (N / S)`` as the group before it left it, and its threshold; not with
        ``leak="1-2^-k"``

    Raises ParameterError for a share that does not exist, or of channels that differ.
    Source: EfficientLIF-Net (arXiv:2305.18360), as its authors' code has it.
    """

    threshold: Array
    leak_shift: int
    decay_input: bool = False
    compare: str = ">="
    reset: str = "hard"
    leak: str = "2^-k"
    share: int = 1

    def __post_init__(self) -> None:
        if self.share == 1:
            return
        count = int(self.threshold.shape[0])
        if self.share not in SHARES or count % self.share:
            legal = ", ".join(str(share) for share in SHARES if count % share == 0)
            raise ParameterError(f"neuron: share, not {self.share}; legal: {legal} with {count} channels; try: share=1")
        groups = array_namespace(self.threshold).reshape(self.threshold, (self.share, -1))
        if not bool((groups == groups[:1, ...]).all()):
            raise ParameterError("neuron: thresholds of channels that share a membrane, not different ones; legal: those of "
                                 f"the first of {self.share} groups in all; try: share=1")
        if self.leak != "2^-k":
            raise ParameterError(f"neuron: share, not {self.share}; legal: 1 with leak {self.leak}; try: leak 2^-k")


@dataclass(frozen=True, kw_only=True)
class Requantise:
    """What a layer does instead of a neuron step: the current of one step becomes a word of ``bits`` bits.

    multiplier : int64 [N], 0..2^16 - 1 and below ``2^shift``
    shift : int64 [N], 1..31
    bits : of the word that is stored
    signed : clip to the two's complement of ``bits`` bits instead of ``0..2^bits - 1`` (a rectifier)
    step : whose current is taken; a layer of several steps has a requantiser for each that is read
    """

    multiplier: Array
    shift: Array
    bits: int
    signed: bool = False
    step: int = 0

    @property
    def range(self) -> tuple[int, int]:
        """Lowest and highest value of a word."""
        return (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if self.signed else (0, (1 << self.bits) - 1)


@dataclass(frozen=True, kw_only=True)
class Digit:
    """What a layer does instead of a neuron step: bits of its currents become a word, an operand made of currents.

    low : lowest bit that is taken, 0..31; beyond a current's width its sign stands
    bits : taken of each current
    step : whose current is taken; None takes all steps, step t at bit ``t * bits`` of the word
    clip : clip ``current >> low`` to ``0..2^bits - 1`` instead of taking its low bits
    """

    low: int
    bits: int
    step: int | None = None
    clip: bool = False

    def taken(self, steps: int) -> tuple[int, ...]:
        """Return the steps whose bits are in the word, lowest first."""
        return tuple(range(steps)) if self.step is None else (self.step,)


@dataclass(frozen=True, kw_only=True)
class Ttfs:
    """Time-to-first-spike neurons, which fire once or never; words of their passes and of their own are earliness.

    A word is ``e = window - n`` of the spike's tick n, 0 is a neuron that never fires.

    threshold : int64 [N], at least 1
    window : ticks of what arrives, 1..63: the largest word of every pass
    resolution : log2 of the ticks in which ``e^t`` doubles, 0..3
    bits : of the word that is stored
    """

    threshold: Array
    window: int
    resolution: int
    bits: int


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Pool window in pixels."""

    kernel: int
    stride: int
    padding: int = 0


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Spatial-temporal attention on the spikes of three layers with one shape [T, C, H, W].

    query, key, value : names of layers with neurons
    heads : of C / heads channels each
    chunk_steps : timesteps that attend to each other, a divisor of T
    saturation : S; products of keys and values stop there, and so do the sums
    """

    query: str
    key: str
    value: str
    heads: int
    chunk_steps: int
    saturation: int

    @property
    def sources(self) -> tuple[str, str, str]:
        """Names of the three layers."""
        return self.query, self.key, self.value


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Sums from 1..P passes or from attention (neither: sums are 0), then one tail in the order of the fields below.

    bias : int64 [N], added at every step
    residual : name of a layer whose stored currents are added, or None
    max_pool : signed max-pool of currents, or None
    store_currents : write the currents ``[y][x][c][t]``
    neuron : None for a read-out
    requantise : in place of a neuron, or None
    min_spikes : words with fewer spikes become silent (1 keeps all words)
    or_pool : max-pool of spikes, or None
    readout : write the currents summed over t, ``[y][x][c]``
    origin : module path in the captured network
    digit : in place of a neuron, or None
    attention : in place of passes, or None
    sum_pool : in place of `max_pool`: the sum of the currents in a window, or None
    ttfs : neurons ahead of the tail, which takes their spike times for sums of step 0, or None. Bias and residual move a
        spike; a residual of 0 or less is never. What is above 0 then is stored as the word
    """

    name: str
    passes: tuple[Pass, ...]
    bias: Array
    residual: str | None = None
    max_pool: Pool | None = None
    store_currents: bool = False
    neuron: Neuron | None = None
    requantise: Requantise | None = None
    min_spikes: int = 1
    or_pool: Pool | None = None
    readout: bool = False
    origin: str = ""
    digit: Digit | None = None
    attention: Attention | None = None
    sum_pool: Pool | None = None
    ttfs: Ttfs | None = None

    @property
    def stores_words(self) -> bool:
        """Whether other layers can read words of this one: neurons', a requantiser's or digits, but not of a race."""
        return any((self.neuron, self.requantise, self.digit)) or (self.ttfs is not None and not self.readout)

    @property
    def spikes(self) -> bool:
        """Whether the words are one bit per timestep."""
        return self.neuron is not None

    def word_width(self, steps: int) -> int:
        """Return the bits of a stored word: one per timestep, the requantiser's, the digits' of all steps, a spike time's."""
        if self.digit is not None:
            return self.digit.bits * len(self.digit.taken(steps))
        own = self.requantise or self.ttfs
        return steps if own is None else own.bits


@dataclass(frozen=True, kw_only=True)
class Input:
    """How a real-valued example becomes operand words.

    kind : ``"static"`` (``x [C, H, W]`` at every step) or ``"steps"`` (``x [T, C, H, W]``)
    bits : bits of the quantised value (1: binary frames, sent as spikes)
    scale : integer = round-half-up(x / scale), clipped to the signed (bits > 1) range
    plane_bits : bits of one operand word
    """

    kind: str
    channels: int
    height: int
    width: int
    bits: int
    scale: float
    plane_bits: int


@dataclass(frozen=True, kw_only=True)
class Network:
    """An integer network.

    layers : in execution order; the last one is the read-out
    float_info : per layer name, what lowering knows of the float network (``scale`` per channel and so on)
    """

    name: str
    steps: int
    input: Input
    layers: tuple[Layer, ...]
    weight_sparsity: float = 0.0
    float_info: dict[str, dict[str, float]] = field(default_factory=dict)

    def layer(self, name: str) -> Layer:
        """Return the layer called ``name``."""
        return next(layer for layer in self.layers if layer.name == name)


def map_arrays(network: Network, function: Callable[[Array], Array]) -> Network:
    """Return ``network`` with every weight, bias, threshold, multiplier and shift replaced by ``function`` of it.

    ``map_arrays(network, torch.asarray)`` makes all of them tensors, ``map_arrays(network, numpy.asarray)`` arrays.
    """
    layers = [replace(
        layer, bias=function(layer.bias),
        passes=tuple(replace(p, weight=function(p.weight)) for p in layer.passes),
        neuron=layer.neuron and replace(layer.neuron, threshold=function(layer.neuron.threshold)),
        requantise=layer.requantise and replace(
            layer.requantise, multiplier=function(layer.requantise.multiplier), shift=function(layer.requantise.shift)),
        ttfs=layer.ttfs and replace(layer.ttfs, threshold=function(layer.ttfs.threshold)))
        for layer in network.layers]
    return replace(network, layers=tuple(layers))


def operand(words: Array, p: Pass) -> Array:
    """Return the part of a pass's operand [..., H, W] that it reads."""
    return words if p.rows is None else words[..., p.rows[0] : p.rows[1], :]


def spike_planes(steps: int) -> tuple[Plane, ...]:
    """Return the planes of a spike word: bit b goes to step b."""
    return tuple(Plane(steps=(t,)) for t in range(steps))


def number_planes(bits: int, signed: bool = False, steps: tuple[int, ...] = (0,)) -> tuple[Plane, ...]:
    """Return the planes of a number of ``bits`` bits that is added to ``steps``: bit b weighs 2^b, the sign's less than 0."""
    return tuple(Plane(steps=steps, shift=b, negate=signed and b == bits - 1) for b in range(bits))


def digit_planes(p: Digit, steps: int, shift: int = 0, signed: bool = False) -> tuple[Plane, ...]:
    """Return the planes of a word of digits: bit b of step t adds ``2^(shift + b)`` to step t.

    signed : the top bit of each current is its sign
    """
    return tuple(plane for t in p.taken(steps) for plane in (
        replace(plane, shift=plane.shift + shift) for plane in number_planes(p.bits, signed, (t,))))


def input_words(x: Array, spec: Input, steps: int) -> dict[str, Array]:
    """Return the operand words ``{"input.<j>": int64 [C, H, W]}`` of quantised values.

    x : int64 [C, H, W] (static) or [T, C, H, W] (steps), in the signed range of ``spec.bits`` (0..1 for one bit).
    A binary step-by-step input is one spike tensor; otherwise each (step, group of planes) is one tensor,
    step-major, low planes first.
    """
    if spec.kind == "steps" and spec.bits == 1:
        return {"input.0": sum(x[t, ...] << t for t in range(steps))}
    frames = array_namespace(x).unstack(x) if spec.kind == "steps" else (x,)
    groups = -(-spec.bits // spec.plane_bits)
    mask = (1 << spec.bits) - 1
    words = [((frame & mask) >> (g * spec.plane_bits)) & ((1 << spec.plane_bits) - 1)
             for frame in frames for g in range(groups)]
    return {f"input.{j}": word for j, word in enumerate(words)}


def input_planes(spec: Input, steps: int) -> list[tuple[str, tuple[Plane, ...]]]:
    """Return (tensor name, planes) for every pass that an input layer makes, in the order of `input_words`."""
    if spec.kind == "steps" and spec.bits == 1:
        return [("input.0", spike_planes(steps))]
    groups = -(-spec.bits // spec.plane_bits)
    targets = [(t,) for t in range(steps)] if spec.kind == "steps" else [tuple(range(steps))]
    out = []
    for s, target in enumerate(targets):
        for g in range(groups):
            planes = number_planes(spec.bits, spec.bits > 1, target)[g * spec.plane_bits : (g + 1) * spec.plane_bits]
            out.append((f"input.{s * groups + g}", planes))
    return out
