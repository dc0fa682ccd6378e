"""What happens to the rows of a transformer between crossbars: from maps of an activation memory to another map."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from golden.imc.arch import TOKEN_BITS, TokenOp
from golden.imc.lookup import lookup
from golden.imc.norm import norm
from golden.imc.residual_add import residual_add
from golden.imc.reuse_buffer import ReuseLayer, Slot, reuse_buffer
from golden.imc.scale import scale
from golden.imc.softmax import normalised, softmax
from golden.imc.token_reader import TokenMap, token_reader
from golden.imc.token_writer import token_writer
from golden.network import Array

NOWHERE, ALONE = TokenMap(), ReuseLayer(number=0)


@dataclass(frozen=True, kw_only=True)
class TokenPass:
    """One operation on all tokens.

    op : what is done
    a : rows that are read: of NORM, SOFTMAX (8 bits) and LOOKUP (8 bits), of ADD the residual stream
    b : of ADD what is added, read unless ``layer`` reuses; 8 bits, but 16 where it is direct
    out : where the result goes
    tokens, channels : of the rows
    shift, eps : of the normalisation
    normalised : SOFTMAX gives probabilities in place of exponentials
    direct : ADD takes ``b`` as it is, past the reuse buffer
    mult, mult_shift : of ADD, the factor from 8 bits to the units of the residual stream
    layer : of ADD and TRANSFORM, what the reuse buffer does
    """

    op: TokenOp
    a: TokenMap = NOWHERE
    b: TokenMap = NOWHERE
    out: TokenMap
    tokens: int
    channels: int
    shift: int = 0
    eps: int = 1
    normalised: bool = False
    direct: bool = False
    mult: int = 1
    mult_shift: int = 0
    layer: ReuseLayer = ALONE


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What the host writes: gain and bias of each channel, exponentials, a function of a byte; int64."""

    gain: Array
    bias: Array
    exponentials: Array
    function: Array


@dataclass(frozen=True, kw_only=True)
class TokenResult:
    """What an operation leaves.

    writes : (address, word) in the memory ``out.bank``, in order
    factors : int64 [tokens], F of each row of a softmax, else empty
    slot : what is kept
    error : the reuse buffer holds another layer; nothing was done
    """

    writes: tuple[tuple[int, int], ...]
    factors: Array
    slot: Slot
    error: bool


def token_unit(work: TokenPass, memories: Sequence[Sequence[int]], tables: Tables, slot: Slot, *, rows: int) -> TokenResult:
    """Return what an operation on all tokens writes and keeps.

    Source: imc 4.3 and 10, B10; workloads 5.2.
    """
    shape, none = (work.tokens, work.channels), np.zeros(0, np.int64)
    adds, layer = work.op == TokenOp.ADD, work.layer
    pairs = [] if work.op == TokenOp.TRANSFORM else [*token_reader(
        memories, work.a, work.b if adds and (work.direct or not layer.reuse) else None, tokens=work.tokens,
        channels=work.channels, rows=rows)]
    a, b = (np.array([getattr(pair, name) for pair in pairs], np.int64) for name in ("a", "b"))
    factors, kept = none, slot
    if (adds and not work.direct) or work.op == TokenOp.TRANSFORM:
        kept, given = reuse_buffer(slot, layer, None if layer.reuse or not adds else _held(b, 8).reshape(shape))
        if given.tag_error:
            return TokenResult(writes=(), factors=none, slot=slot, error=True)
        again = np.zeros(shape, np.int64) if given.values is None else given.values
    if adds:
        added = _held(b, TOKEN_BITS).reshape(shape) if work.direct else scale(
            again, mult=np.asarray(work.mult), shift=np.asarray(work.mult_shift), bias=np.asarray(0), bits=TOKEN_BITS,
            signed=True)
        found = residual_add(_held(a, TOKEN_BITS).reshape(shape), added)
    elif work.op == TokenOp.LOOKUP:
        found = lookup(a.reshape(shape), tables.function)
    elif work.op == TokenOp.SOFTMAX:
        scores = _held(a, 8).reshape(shape)
        row = softmax(scores, tables.exponentials)
        found, factors = normalised(scores, tables.exponentials) if work.normalised else row.e, row.factor
    else:
        found = norm(a.reshape(shape) if work.op == TokenOp.NORM else again, gain=tables.gain[: work.channels],
                     bias=tables.bias[: work.channels], shift=work.shift, eps=work.eps)
    writes = token_writer(replace(work.out, signed=True), found.tolist(), rows=rows)
    return TokenResult(writes=tuple(writes), factors=factors, slot=kept, error=False)


def _held(x: Array, bits: int) -> Array:
    """Return the low bits of numbers, with sign."""
    half = 1 << bits - 1
    return (x + half) % (2 * half) - half
