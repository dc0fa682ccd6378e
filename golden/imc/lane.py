"""Sums of the outputs of one lane of a core: over the tiles of a tree, and over all row blocks."""

from array_api_compat import array_namespace

from golden.imc.sum_bank import sum_bank
from golden.imc.sum_tree import sum_tree
from golden.network import Array
from golden.walker import Fields


def lane(layer: Fields, y: Array, *, number: int, lanes: int) -> list[tuple[int, int]]:
    """Return (channel, sum) of one vector, in the order in which they are complete: that of the channels.

    layer : blocks, rounds_in, column_blocks, outputs, channels, as in the register map of a core
    y : int64 [rounds_in, fan_in, words], what the tiles send in every row round: ``outputs`` words for each column block of the
        lane, ``number, number + lanes, ...``; of tiles without a row block in the last round anything. Sums fit 32 bits
    number : of the lane

    Outputs beyond the last channel are left out.

    Source: imc 10, B6; decision 0014.
    """
    xp = array_namespace(y)
    fan_in, outputs = y.shape[1], layer["outputs"]
    channels = [block * outputs + n for block in range(number, layer["column_blocks"], lanes) for n in range(outputs)]
    parts = []
    for turn, words in enumerate(xp.unstack(y) if channels else ()):
        active = turn * fan_in + xp.arange(fan_in) < layer["blocks"]
        sums, _, _ = sum_tree(words, xp.zeros(words.shape, dtype=xp.bool), active)
        parts += [(channel, int(part)) for channel, part in zip(channels, sums, strict=True) if channel < layer["channels"]]
    return list(sum_bank(parts, parts=layer["rounds_in"], keys=len(parts) // layer["rounds_in"]).sums)
