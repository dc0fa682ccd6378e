"""A vision transformer in integers, as a list of operations on crossbars and their periphery.

Weights and activations have 8 bits, the residual stream has 16. Every product of matrices is a crossbar's: weights that are
programmed once, or K^T and V, which are written while the network runs. What is done is a list of `Operation`, each a pure
function of its operands with its result, which is what hardware is compared with.

All tensors are int64 [images, tokens, channels].
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from array_api_compat import array_namespace

from golden.arch import require
from golden.imc.lookup import lookup
from golden.imc.norm import norm
from golden.imc.residual_add import residual_add
from golden.imc.reuse_buffer import ReuseLayer, Slot, reuse_buffer
from golden.imc.row_factor import row_factor
from golden.imc.scale import scale
from golden.imc.softmax import softmax
from golden.network import Array

Numbers = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A matrix on crossbars, and what becomes of its sums.

    weight : int64 [outputs, inputs] of 8 bits
    bias, mult, shift : int64 [outputs], as `golden.imc.scale.scale` takes them
    x_bits, x_signed : of the inputs
    bits : of a result with sign; 0: sums and bias are the result
    """

    weight: Array
    bias: Array
    mult: Array
    shift: Array
    x_bits: int = 8
    x_signed: bool = True
    bits: int = 8


@dataclass(frozen=True, kw_only=True)
class Norm:
    """Parameters of `golden.imc.norm.norm`."""

    gain: Array
    bias: Array
    shift: int
    eps: int


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A factor ``mult / 2^shift`` of all channels."""

    mult: Array
    shift: Array


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Parameters of an attention.

    qkv : queries, keys and values of all heads, one behind the other
    scores : from the products of queries and keys to 8 bits
    table : int64 [256], of `golden.imc.softmax`
    mixed : from the means of the values, in 256ths, to 8 bits
    proj : to the attention output, 8 bits
    """

    norm: Norm
    qkv: Linear
    heads: int
    scores: Factor
    table: Array
    mixed: Factor
    proj: Linear


@dataclass(frozen=True, kw_only=True)
class Transformation:
    """What stands between the buffer and the residual stream: a normalisation, a linear layer, a table; None: not there."""

    norm: Norm | None = None
    linear: Linear | None = None
    table: Array | None = None


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Parameters of an encoder.

    reuse : what it does with attention, as `golden.imc.reuse_buffer` takes it
    attention : None where it reuses; transformation : None where it does not, or where nothing is added
    added : from 8 bits of attention or transformation to 16 bits of the stream
    norm, up, table, down : of the MLP; down has 16 bits
    """

    reuse: ReuseLayer
    attention: Attention | None
    transformation: Transformation | None
    added: Factor | None
    norm: Norm
    up: Linear
    table: Array
    down: Linear


@dataclass(frozen=True, kw_only=True)
class Vit:
    """A network: patches of ``patch`` by ``patch`` pixels, positions int64 [tokens, channels], encoders, read-out."""

    patch: int
    embed: Linear
    position: Array
    encoders: tuple[Encoder, ...]
    norm: Norm
    head: Linear

    def linears(self) -> dict[str, Linear]:
        """Return all matrices that are programmed once, by the name of their operation."""
        found = {"embed": self.embed}
        for encoder in self.encoders:
            at = f"encoders.{encoder.reuse.number}"
            if encoder.attention is not None:
                found |= {f"{at}.qkv": encoder.attention.qkv, f"{at}.proj": encoder.attention.proj}
            if encoder.transformation is not None and encoder.transformation.linear is not None:
                found[f"{at}.linear"] = encoder.transformation.linear
            found |= {f"{at}.up": encoder.up, f"{at}.down": encoder.down}
        return found | {"head": self.head}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One step: ``result = FUNCTIONS[kind](**operands)``.

    encoder : its number from 1 on, 0 of what is in none
    """

    name: str
    kind: str
    encoder: int
    operands: Numbers
    result: Any


@dataclass
class Trace:
    """What was done, in order; the last result is the logits int64 [images, classes]."""

    operations: list[Operation] = field(default_factory=list)

    @property
    def logits(self) -> Array:
        """Sums of the read-out."""
        return self.operations[-1].result

    def of(self, kind: str, encoder: int | None = None) -> list[Operation]:
        """Return the operations of a kind, of one encoder or of all."""
        return [op for op in self.operations if op.kind == kind and encoder in (None, op.encoder)]


def crossbar(x: Array, weight: Array, *, x_bits: int, x_signed: bool) -> Array:
    """Return int64 [images, tokens, outputs], ``weight @ x`` of every token: what an ideal macro with lossless codes gives.

    weight : int64 [outputs, inputs], or [images, outputs, inputs] where it was written at run time
    x_bits, x_signed : of the inputs, which are refused beyond
    """
    xp = array_namespace(x)
    low, high = (-(1 << x_bits - 1), (1 << x_bits - 1) - 1) if x_signed else (0, (1 << x_bits) - 1)
    found = int(xp.min(x)), int(xp.max(x))
    require(low <= found[0] and found[1] <= high, "inputs", found, f"in {low}..{high}")
    return x @ xp.matrix_transpose(weight)


def write(weight: Array) -> Array:
    """Return what cells hold that are written with ``weight`` int64 [images, outputs, inputs]: the same."""
    return weight


def readout(x: Array, bias: Array) -> Array:
    """Return int64 [images, classes], the sums over the tokens of x [images, tokens, classes], each with its bias."""
    return array_namespace(x).sum(x + bias, axis=1)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "crossbar": crossbar, "write": write, "scale": scale, "norm": norm, "softmax": softmax, "row_factor": row_factor,
    "lookup": lookup, "reuse": reuse_buffer, "residual_add": residual_add, "readout": readout}


class Crossbars(Protocol):
    """What gives the sums of a crossbar operation in place of `crossbar`."""

    def __call__(self, name: str, x: Array, weight: Array, *, x_bits: int, x_signed: bool) -> Array:
        """Return sums [images, tokens, outputs]; ``name`` is the operation's."""


@dataclass
class _Run:
    """A run so far; ``crossbars`` None: ideal ones."""

    trace: Trace
    crossbars: Crossbars | None
    encoder: int = 0

    def do(self, kind: str, name: str, **operands: Any) -> Any:
        """Do an operation and return its result."""
        at = f"encoders.{self.encoder}.{name}" if self.encoder else name
        if kind == "crossbar" and self.crossbars is not None:
            result = self.crossbars(at, **operands)
        else:
            result = FUNCTIONS[kind](**operands)
        self.trace.operations.append(Operation(name=at, kind=kind, encoder=self.encoder, operands=operands, result=result))
        return result

    def scaled(self, name: str, x: Array, p: Linear | Factor, bits: int) -> Array:
        """Return x scaled to ``bits`` bits with sign."""
        bias = p.bias if isinstance(p, Linear) else array_namespace(x).asarray(0)
        return self.do("scale", f"{name}.scale", x=x, mult=p.mult, shift=p.shift, bias=bias, bits=bits, signed=True)

    def linear(self, name: str, x: Array, p: Linear) -> Array:
        """Return what a matrix makes of x."""
        sums = self.do("crossbar", name, x=x, weight=p.weight, x_bits=p.x_bits, x_signed=p.x_signed)
        return self.scaled(name, sums, p, p.bits) if p.bits else sums

    def norm(self, name: str, x: Array, p: Norm) -> Array:
        """Return x normalised."""
        return self.do("norm", name, x=x, gain=p.gain, bias=p.bias, shift=p.shift, eps=p.eps)


def run(network: Vit, pixels: Array, crossbars: Crossbars | None = None) -> Trace:
    """Return all that happens to images, int64 [images, height, width] of the bits of the first layer.

    crossbars : gives the sums of crossbar operations; None: ideal ones

    Source: imc 4.3; workloads 5.2; imc 10, B10.
    """
    done = _Run(Trace(), crossbars)
    x = done.linear("embed", patches(pixels, network.patch), network.embed)
    x = done.do("residual_add", "position", x=x, a=network.position)
    slot = Slot()
    for p in network.encoders:
        done.encoder = p.reuse.number
        own = None if p.attention is None else _attention(done, x, p.attention)
        slot, given = done.do("reuse", "reuse", slot=slot, layer=p.reuse, attention=own)
        require(not given.tag_error, f"encoder {p.reuse.number}: source", p.reuse.src, f"{slot.tag}, the one that is kept")
        if given.values is not None and p.added is not None:
            a = given.values if p.transformation is None else _transformed(done, given.values, p.transformation)
            x = done.do("residual_add", "stream1", x=x, a=done.scaled("added", a, p.added, 16))
        hidden = done.linear("up", done.norm("norm2", x, p.norm), p.up)
        active = done.do("lookup", "act", x=hidden, table=p.table)
        x = done.do("residual_add", "stream2", x=x, a=done.linear("down", active, p.down))
    done.encoder = 0
    sums = done.linear("head", done.norm("norm", x, network.norm), network.head)
    done.do("readout", "readout", x=sums, bias=network.head.bias)
    return done.trace


def patches(pixels: Array, patch: int) -> Array:
    """Return int64 [images, tokens, patch * patch], patches in raster order, their pixels too."""
    xp = array_namespace(pixels)
    images, height, width = pixels.shape
    split = xp.reshape(pixels, (images, height // patch, patch, width // patch, patch))
    return xp.reshape(xp.permute_dims(split, (0, 1, 3, 2, 4)), (images, -1, patch * patch))


def _attention(done: _Run, x: Array, p: Attention) -> Array:
    """Return the attention output of 8 bits.

    K^T of a head has a row for each of its channels and an output for each token, V a row for each token and an output for each
    channel: what is written is K and the transpose of V.
    """
    xp = array_namespace(x)
    qkv = done.linear("qkv", done.norm("norm1", x, p.norm), p.qkv)
    dim = qkv.shape[-1] // 3
    width, mixed = dim // p.heads, []
    for head in range(p.heads):
        q, k, v = (qkv[..., part * dim + head * width : part * dim + (head + 1) * width] for part in range(3))
        keys = done.do("write", f"k.{head}", weight=k)
        values = done.do("write", f"v.{head}", weight=xp.matrix_transpose(v))
        products = done.do("crossbar", f"scores.{head}", x=q, weight=keys, x_bits=8, x_signed=True)
        row = done.do("softmax", f"softmax.{head}", z=done.scaled(f"scores.{head}", products, p.scores, 8), table=p.table)
        sums = done.do("crossbar", f"mixed.{head}", x=row.e, weight=values, x_bits=8, x_signed=False)
        means = done.do("row_factor", f"mixed.{head}.factor", x=sums, factor=row.factor[..., None])
        mixed.append(done.scaled(f"mixed.{head}", means, p.mixed, 8))
    return done.linear("proj", xp.concat(mixed, axis=-1), p.proj)


def _transformed(done: _Run, a: Array, p: Transformation) -> Array:
    """Return what is added in place of an attention output, 8 bits."""
    if p.norm is not None:
        a = done.norm("tnorm", a, p.norm)
    if p.linear is not None:
        a = done.linear("linear", a, p.linear)
    return a if p.table is None else done.do("lookup", "tact", x=a, table=p.table)


def replayed(op: Operation) -> Any:
    """Return what an operation gives when its function is called again with its operands."""
    return FUNCTIONS[op.kind](**op.operands)
