"""What becomes of the sums of vectors: bias, pool, neurons or scale, and words for the activation memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import or_

from array_api_compat import array_namespace

from golden.imc.membrane import membrane
from golden.imc.pool import MODES, pool
from golden.imc.row_factor import row_factor
from golden.imc.scale import scale
from golden.imc.vector_walk import Vector
from golden.network import Array, Neuron, Pool
from golden.parallel_lif import RESETS
from golden.walker import Fields

# Bits of a factor and its shift.
SECOND_BITS = 21


@dataclass(frozen=True, kw_only=True)
class Done:
    """What comes of one vector.

    writes : (address, word) of the activation memory
    readout : sums over the steps, of all channels or of none
    spikes : of all channels, for each step that neurons take
    """

    writes: tuple[tuple[int, int], ...] = ()
    readout: tuple[int, ...] = ()
    spikes: tuple[tuple[int, ...], ...] = ()


def post(layer: Fields, vectors: Iterable[tuple[Vector, Array]], *, biases: Array, seconds: Array, memory: tuple[Array, Array],
         rows: int, factors: Array | None = None) -> Iterator[Done]:
    """Yield what comes of the vectors of a layer, each with its sums int64 [channels].

    layer : channels, pool_mode, pool_kernel, readout, scale, factor, word_bits, word_signed, leak_shift, decay_input, strict,
        reset, share_log2, fresh, per_step, once, steps, out_base, out_plane, out_groups, as in the register map of a core. A
        read-out has no pool, and time inside or one pixel
    biases : int64 [channels]; with them and after a pool of sums, values are of 32 bits
    seconds : int64 [channels], the words of the host: a threshold in two's complement, or ``mult | shift << 16``; see `unfit`
    memory : membranes and what they owe, int64 [membranes] each, which change in place
    rows : bits of a word
    factors : int64 [windows], of the tokens of a layer with ``factor``

    A pool of sums gives one value for the members of a window, each of which else steps neurons of its own; spikes of members
    are joined by OR. With ``once`` the sums of a vector serve all steps, which its neurons take one after the other.
    With ``share_log2`` the channels of a vector are ``2^share_log2`` groups, each of which goes on from the membranes that the
    one before it left; only the first one starts at rest.

    Spikes of step t are plane t of the output, bit b of a number plane b, with ``per_step`` plane ``t * word_bits + b``. Word g
    of a pixel has channels ``g * rows`` and on, the lowest in bit 0.

    Source: imc 10, B7 and B8; DESIGN 4, tail.
    """
    mode, members, total = MODES[layer["pool_mode"]], list[Array](), biases
    kept, steps = biases & 0, layer["steps"] if layer["once"] else 1
    for vector, sums in vectors:
        x = sums + biases
        if vector.first:
            members, kept = [], biases & 0
        members.append(x)
        if layer["readout"]:
            total = steps * x if vector.starts else total + steps * x
            yield Done(readout=tuple(total.tolist()) if vector.ends else ())
            continue
        if mode != "none" and not vector.last:
            yield Done()
            continue
        x = _pooled(members, mode, layer["pool_kernel"])
        spikes = [_stepped(layer, vector, n, x, seconds, memory) for n in range(0 if layer["scale"] else steps)]
        if layer["factor"] and factors is not None:
            x = row_factor(x, factors[vector.window])
        kept = reduce(or_, [spike << n for n, spike in enumerate(spikes)] or [_scaled(layer, x, seconds)], kept)
        yield Done(writes=tuple(_writes(layer, vector, kept.tolist(), rows)) if vector.last else (),
                   spikes=tuple(tuple(spike.tolist()) for spike in spikes))


def unfit(layer: Fields, seconds: Array, *, membrane_bits: int) -> bool:
    """Return whether a word of the host is none that the layer takes: a wider threshold, or bits above those of a shift.

    seconds : as of `post`; a read-out takes none
    """
    top = 1 << membrane_bits - 1
    threshold = (seconds ^ 1 << 31) - (1 << 31)
    wide = seconds >> SECOND_BITS != 0 if layer["scale"] else (threshold < -top) | (threshold >= top)
    return not layer["readout"] and bool(wide.any())


def _pooled(members: list[Array], mode: str, kernel: int) -> Array:
    """Return the pool of the members [channels] of a window, or the last of them."""
    xp = array_namespace(members[0])
    if mode == "none":
        return members[-1]
    window = xp.reshape(xp.permute_dims(xp.stack(members), (1, 0)), (-1, kernel, kernel))
    return xp.reshape(pool(window, mode, Pool(kernel=kernel, stride=1)), (-1,))


def _scaled(layer: Fields, x: Array, seconds: Array) -> Array:
    """Return words of ``word_bits`` bits."""
    values = scale(x, mult=seconds & 0xFFFF, shift=seconds >> 16 & 31, bias=x & 0, bits=layer["word_bits"],
                   signed=bool(layer["word_signed"]))
    return values & (1 << layer["word_bits"]) - 1


def _stepped(layer: Fields, vector: Vector, number: int, x: Array, seconds: Array, memory: tuple[Array, Array]) -> Array:
    """Return the spikes of step ``number`` of a vector, and leave the membranes in memory."""
    xp = array_namespace(x)
    threshold = (seconds ^ 1 << 31) - (1 << 31)
    p = Neuron(threshold=threshold, leak_shift=layer["leak_shift"], decay_input=bool(layer["decay_input"]),
               compare=">" if layer["strict"] else ">=", reset=RESETS[layer["reset"]])
    size = x.shape[0] >> layer["share_log2"]
    place, spikes = slice(vector.membrane, vector.membrane + size), []
    for group in range(1 << layer["share_log2"]):
        own = slice(group * size, (group + 1) * size)
        first = xp.full((size,), bool(vector.starts and number == 0 and layer["fresh"] and group == 0))
        fired, memory[0][place], memory[1][place] = membrane(
            x[own], memory[0][place], memory[1][place], threshold=threshold[own], first=first, p=p)
        spikes.append(fired)
    return xp.concat(spikes)


def _writes(layer: Fields, vector: Vector, words: list[int], rows: int) -> Iterator[tuple[int, int]]:
    """Yield the words of a pixel, plane after plane."""
    planes = layer["word_bits"] if layer["scale"] else layer["steps"] if layer["once"] else 1
    first = (vector.step * planes if layer["per_step"] else 0) if layer["scale"] else vector.step
    for plane in range(planes):
        for group in range(layer["out_groups"]):
            some = words[group * rows : (group + 1) * rows]
            yield (layer["out_base"] + (first + plane) * layer["out_plane"] + vector.window * layer["out_groups"] + group,
                   sum((word >> plane & 1) << n for n, word in enumerate(some)))
