"""Attention reuse: the attention output of a layer is kept and given again to later layers in place of their own."""

from dataclasses import dataclass

from array_api_compat import array_namespace

from golden.arch import require
from golden.imc.scale import scale
from golden.network import Array

# What happens to a tensor that is given again; its index is the code of the mode. SKIP gives none, IDENTITY goes to the
# residual, the others through a normalisation first, then through a linear layer on a static crossbar, then through a table.
MODES = ("skip", "identity", "norm", "linear", "activation")


@dataclass(frozen=True, kw_only=True)
class ReuseLayer:
    """What a layer does with its attention; run-time settings.

    number : of the layer
    keep : its output is kept, since a later layer reuses it
    reuse : it has no attention of its own, but the output that layer ``src`` kept
    mode : of `MODES`, where it reuses
    mult, shift : the kept values come as ``sat8((a * mult + half) >> shift)``; 0..2^16 - 1 and 0..31
    """

    number: int
    keep: bool = False
    reuse: bool = False
    src: int = 0
    mode: str = "identity"
    mult: int = 1
    shift: int = 0

    def __post_init__(self) -> None:
        require(self.mode in MODES, "mode", self.mode, f"one of {', '.join(MODES)}")
        require(not (self.keep and self.reuse), "keep", self.keep, "False where a layer reuses: the slot holds attention only")


@dataclass(frozen=True, kw_only=True)
class Slot:
    """The tensor that is kept, int64 in -128..127, and the layer that it comes from; None: nothing is kept."""

    tag: int | None = None
    values: Array | None = None


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a layer gets.

    values : int64, its attention or the kept one, or None: nothing is added to the residual
    attention_skip : no attention is computed, and no K or V is written
    route : code of its mode, where values go; IDENTITY (1) where it does not reuse
    starts : a transformation begins
    tag_error : another layer than ``src`` is in the slot; values are None
    """

    values: Array | None
    attention_skip: bool
    route: int
    starts: bool
    tag_error: bool


def reuse_buffer(slot: Slot, layer: ReuseLayer, attention: Array | None = None) -> tuple[Slot, Given]:
    """Return (what is kept behind a layer, what the layer gets).

    attention : int64 in -128..127 of any shape, tokens and channels in the order of the stream; None where the layer reuses

    One slot is enough where src is always the last layer that does not reuse.

    Source: imc 4.3 (formulation), imc 10, B10.
    """
    if not layer.reuse:
        kept = Slot(tag=layer.number, values=attention) if layer.keep else slot
        return kept, Given(values=attention, attention_skip=False, route=MODES.index("identity"), starts=False, tag_error=False)
    route = MODES.index(layer.mode)
    error = layer.mode != "skip" and slot.tag != layer.src
    if error or layer.mode == "skip":
        return slot, Given(values=None, attention_skip=True, route=route, starts=False, tag_error=error)
    xp = array_namespace(slot.values)
    again = scale(slot.values, mult=xp.asarray(layer.mult), shift=xp.asarray(layer.shift), bias=xp.asarray(0), bits=8,
                  signed=True)
    return slot, Given(values=again, attention_skip=True, route=route, starts=layer.mode != "identity", tag_error=False)
