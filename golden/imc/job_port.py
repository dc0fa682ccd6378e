"""Jobs that the host sends as packets, and what it is told of their ends."""

from collections.abc import Sequence
from dataclasses import astuple

from golden.imc.arch import ImcArch, Op
from golden.imc.write_verify import Job, Outcome

WORD_BITS = 32
# Stands for every job that does not exist.
ILLEGAL = max(Op) + 1


def job_port(arch: ImcArch, packet: Sequence[int]) -> tuple[int, Job] | None:
    """Return (crossbar, job) of a packet, or None: its length is wrong, nothing is done.

    packet : words of 32 bits: op | row << 8 | crossbar << 16; the mask of columns; the levels of all columns, ``cell_bits``
        each; mask and levels in whole words, the lowest bits first, what is left over counts for nothing

    An op, a row or a crossbar that does not exist makes the job `ILLEGAL`, which `golden.imc.write_verify` refuses.

    Source: imc 10, B0 and B9.
    """
    mask, level = _words(arch.cols), (1 << arch.cell_bits) - 1
    if len(packet) != 1 + mask + _words(arch.cols * arch.cell_bits):
        return None
    op, row, crossbar = packet[0] & 0xFF, packet[0] >> 8 & 0xFF, packet[0] >> 16
    levels = _joined(packet[1 + mask :])
    legal = op < ILLEGAL and row < arch.rows and crossbar < arch.crossbars
    return crossbar, Job(op=op if legal else ILLEGAL, row=row, mask=_joined(packet[1 : 1 + mask]) & (1 << arch.cols) - 1,
                         levels=tuple(levels >> arch.cell_bits * column & level for column in range(arch.cols)))


def ending(arch: ImcArch, outcome: Outcome) -> list[int]:
    """Return the packet that tells how a job ended: error, mask of columns that failed, levels, and all counts, a word each."""
    levels = sum(level << arch.cell_bits * column for column, level in enumerate(outcome.levels))
    return [int(outcome.error), *_split(outcome.mask, arch.cols), *_split(levels, arch.cols * arch.cell_bits),
            *astuple(outcome.counts)]


def _words(bits: int) -> int:
    return -(-bits // WORD_BITS)


def _joined(words: Sequence[int]) -> int:
    return sum(word << WORD_BITS * n for n, word in enumerate(words))


def _split(value: int, bits: int) -> list[int]:
    return [value >> WORD_BITS * n & 0xFFFF_FFFF for n in range(_words(bits))]
