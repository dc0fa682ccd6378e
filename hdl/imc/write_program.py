"""What the host sends to write the crossbars of a network: a packet for each row. NumPy only."""

from collections.abc import Iterator, Sequence
from typing import Any

from golden.imc.arch import ImcArch, Op
from hdl.imc.host_port import Target
from hdl.imc.job_port import words


def write_packets(p: ImcArch, placed: Sequence[Any]) -> Iterator[list[int]]:
    """Yield the packets that write a network that `golden.imc.run.place` put on crossbars, each to be answered by one.

    All columns of all rows are written, crossbar after crossbar, so that the cells are those of golden where no weight is, too.
    """
    for entry in placed:
        for r, row in enumerate(entry.macros):
            for c, macro in enumerate(row):
                crossbar, tile = divmod(macro.tile, p.tiles)
                for number, levels in enumerate(entry.mapped.cells(p, r, c).tolist()):
                    yield [Target.JOB | tile << 4, *job_words(
                        p, crossbar=crossbar, op=Op.PROG, row=number, levels=levels, mask=(1 << p.cols) - 1)]


def job_words(p: ImcArch, *, crossbar: int, op: int, row: int, levels: Sequence[int], mask: int) -> list[int]:
    """Return the packet of a job for `hdl.imc.job_port`; its fields are those of `hdl.imc.write_job.job_layout`."""
    joined = sum(int(level) << p.cell_bits * column for column, level in enumerate(levels))
    return [op | row << 8 | crossbar << 16, *split(mask, p.cols), *split(joined, p.cols * p.cell_bits)]


def split(value: int, bits: int) -> list[int]:
    """Return the 32-bit words of so many bits, the lowest first."""
    return [value >> 32 * n & 0xFFFF_FFFF for n in range(words(bits))]
