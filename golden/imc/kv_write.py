"""Writes of K and V into crossbars of SRAM: which pulses a run needs, encoder by encoder."""

from dataclasses import astuple, dataclass, field

import numpy as np

from golden.arch import ParameterError
from golden.imc.arch import ImcArch, Op, WriteError
from golden.imc.devices import DEVICES, Cells, play
from golden.imc.macro import FRACTION, Adc, build
from golden.imc.mapping import Mapped, map_layer
from golden.imc.vit import Trace
from golden.imc.vit_crossbars import layer_of
from golden.imc.write_verify import Counts, Job, Pulse, Settings, Verify, write_verify
from golden.network import Array


@dataclass
class Writes:
    """What an encoder writes: weights of 8 bits, rows of crossbars, and what programming did.

    actions : comparisons and pulses, in order, of all rows
    """

    words: int = 0
    rows: int = 0
    counts: Counts = field(default_factory=Counts)
    actions: list[Verify | Pulse] = field(default_factory=list)

    @property
    def pulses(self) -> int:
        """Pulses of both polarities."""
        return self.counts.set + self.counts.reset

    @property
    def cells(self) -> int:
        """Cells pulsed, summed over pulses."""
        return self.counts.set_bits + self.counts.reset_bits


class WriteMemory:
    """The crossbars of SRAM that hold K^T and V of one encoder at a time; cells keep what they have until they are pulsed.

    arch : of tiles with one bit a cell
    """

    def __init__(self, arch: ImcArch) -> None:
        self.arch, self.settings = arch, DEVICES["sram"].settings(arch.cell_bits)
        self.cells: dict[str, list[Cells]] = {}

    def write(self, name: str, weight: Array, done: Writes) -> None:
        """Write K^T or V of one head, int64 [outputs, inputs], row after row of every column block.

        name : of the crossbars; columns that hold no weight are masked out. Raises ParameterError when a cell fails.
        """
        mapped = map_layer(self.arch, self.arch.scheme, layer_of(name, weight, x_bits=8, x_signed=True), 1)
        done.words += int(weight.shape[0]) * int(weight.shape[1])
        for number, cells in enumerate(self._cells(name, mapped)):
            jobs = crossbar_jobs(self.arch, mapped, *divmod(number, mapped.column_blocks))
            for job in jobs:
                _program(self.arch, self.settings, cells, job, done)
            wanted, columns = np.asarray([job.levels for job in jobs]) << FRACTION, jobs[0].mask.bit_count()
            if not np.array_equal(cells.conductance[: len(jobs), :columns], wanted[:, :columns]):
                raise ParameterError(f"{name}: cells, not at their levels; legal: all of them; try: another device")

    def _cells(self, name: str, mapped: Mapped) -> list[Cells]:
        """Return the crossbars of that name, empty where nothing was written yet."""
        if name not in self.cells:
            count = mapped.row_blocks * mapped.column_blocks
            empty = build(self.arch, Adc(bits=self.arch.adc_bits), np.zeros((self.arch.rows, self.arch.cols), np.int64))
            self.cells[name] = [Cells(empty, DEVICES["sram"].response) for _ in range(count)]
        return self.cells[name]


def crossbar_jobs(arch: ImcArch, mapped: Mapped, row_block: int, column_block: int) -> list[Job]:
    """Return the jobs that write one crossbar of a matrix: a row each of those that have inputs, the columns with weights."""
    scheme, (inputs, channels) = mapped.scheme, (mapped.layer.passes[0].weight.shape[1], mapped.weight.shape[1])
    columns = min(arch.outputs(scheme), channels - column_block * arch.outputs(scheme)) * len(arch.places(scheme))
    levels = np.asarray(mapped.cells(arch, row_block, column_block))[: min(arch.rows, inputs - row_block * arch.rows)]
    return [Job(op=Op.PROG, row=row, levels=tuple(line), mask=(1 << columns) - 1) for row, line in enumerate(levels.tolist())]


def kv_writes(trace: Trace, memory: WriteMemory, encoders: int, image: int) -> dict[int, Writes]:
    """Return what every encoder, from 1 on, writes for one image of a run; an encoder that reuses writes nothing.

    Source: imc 4.1 (what reuse saves), imc 10, B9.
    """
    done = {number: Writes() for number in range(1, encoders + 1)}
    for op in trace.of("write"):
        memory.write(op.name.split(".", 2)[2], op.operands["weight"][image, ...], done[op.encoder])
    return done


def _program(arch: ImcArch, settings: Settings, cells: Cells, job: Job, done: Writes) -> None:
    actions, outcome = play(write_verify(arch, settings, job), cells.verify, cells.pulse)
    if outcome.error != WriteError.NONE:
        raise ParameterError(f"row {job.row}: write, not {outcome.error.name}; legal: NONE; try: another device")
    done.rows += 1
    done.counts = Counts(*(a + b for a, b in zip(astuple(done.counts), astuple(outcome.counts), strict=True)))
    done.actions += actions
