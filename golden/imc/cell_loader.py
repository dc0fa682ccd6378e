"""Numbers of tokens as weights: the writes that bring a tensor from an activation memory onto crossbars."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from golden.imc.arch import ImcArch
from golden.imc.token_reader import TokenMap, address, number


@dataclass(frozen=True, kw_only=True)
class Load:
    """A tensor [tokens, channels] that becomes weights [outputs, inputs].

    source : where the tensor lies; its ``bits`` are those of a weight
    transposed : outputs are tokens and inputs channels (K of Q K^T), else outputs are channels (V of S V)
    inputs, outputs : of the weights
    groups : words of a token in a plane
    first_channel : of the tensor that counts
    columns : of a weight, a power of two, a plane in each of them from the lowest on (scheme twos, a bit a cell)
    crossbar : the first one, as `golden.imc.mapping` counts
    """

    source: TokenMap
    transposed: bool
    inputs: int
    outputs: int
    groups: int
    first_channel: int = 0
    columns: int
    crossbar: int


@dataclass(frozen=True, kw_only=True)
class RowWrite:
    """A row of a crossbar: the level of each column, and which columns are written."""

    tile: int
    crossbar: int
    row: int
    levels: tuple[int, ...]
    mask: int


def cell_loader(p: ImcArch, load: Load, memories: Sequence[Sequence[int]]) -> Iterator[RowWrite]:
    """Yield the rows that are written, those of a crossbar one after the other, column blocks inside of row blocks.

    memories : words of the two banks

    Source: imc 4 (K and V on dynamic crossbars) and 10, B9; workloads 5.2, WB; `golden.imc.mapping`, where blocks lie.
    """
    lanes, each = p.tiles // p.fan_in, p.cols // load.columns
    blocks = -(-load.outputs // each)
    rounds = -(-blocks // lanes)
    for row_block in range(-(-load.inputs // p.rows)):
        for block in range(blocks):
            for row in range(min(p.rows, load.inputs - row_block * p.rows)):
                levels, mask = [0] * p.cols, 0
                for n in range(min(each, load.outputs - block * each)):
                    places = (block * each + n, row_block * p.rows + row)
                    token, channel = places if load.transposed else reversed(places)
                    channel += load.first_channel
                    words = [memories[load.source.bank][address(load.source, token, channel // p.rows, load.groups, plane)]
                             for plane in range(load.source.bits)]
                    value = number(load.source, words, channel % p.rows)
                    for plane in range(load.source.bits):
                        levels[n * load.columns + plane] = value >> plane & 1
                    mask |= (1 << load.source.bits) - 1 << n * load.columns
                yield RowWrite(tile=block % lanes * p.fan_in + row_block % p.fan_in,
                               crossbar=load.crossbar + row_block // p.fan_in * rounds + block // lanes,
                               row=row, levels=tuple(levels), mask=mask)
