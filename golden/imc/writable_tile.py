"""A tile whose cells are written at run time: jobs move cells, vectors find what the jobs before them left."""

from collections.abc import Iterable, Iterator, Sequence

from golden.imc.arch import Op
from golden.imc.devices import Cells, play
from golden.imc.macro import Macro, rewritten
from golden.imc.tile import Program, TileTrace, run_tile
from golden.imc.write_verify import Job, Outcome, Pulse, Settings, Verify, write_verify
from golden.network import Array


def write(cells: Cells, settings: Settings, job: Job) -> tuple[list[Verify | Pulse], Outcome]:
    """Return what a job asks of a crossbar, whose cells it moves, and how it ended."""
    return play(write_verify(cells.macro.arch, settings, job), cells.verify, cells.pulse)


def compute(cells: Cells, program: Program, x: Array, *, image: Array | int = 0, vector: Array | int = 0) -> TileTrace:
    """Return what a tile makes of vectors, with the cells as they are; see `golden.imc.tile.run_tile`."""
    return run_tile(written(cells), program, x, image=image, vector=vector)


def written(cells: Cells) -> Macro:
    """Return a crossbar as its cells are now."""
    return rewritten(cells.macro, cells.conductance.copy())


def row_jobs(levels: Iterable[Sequence[int]], op: Op = Op.PROG) -> Iterator[Job]:
    """Yield a job for each row of levels, [rows, cols], with all columns."""
    for row, wanted in enumerate(levels):
        yield Job(op=op, row=row, levels=tuple(int(level) for level in wanted), mask=(1 << len(wanted)) - 1)
