"""Delay, energy and area of a vision transformer on crossbars, with and without attention reuse, by counting what it does.

Layers run one after the other, tokens too. Two organisations: ``core``, the tiles of a build, each with many crossbars behind
one periphery, among them those of SRAM, which all encoders write in turn, row after row; ``spatial``, a periphery for every
crossbar, all of a layer at work at once, and crossbars of SRAM of its own for each encoder, written side by side, as simulators
of such hardware usually count.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from golden.arch import ParameterError, require
from golden.imc.arch import ImcArch
from golden.imc.devices import DEVICES
from golden.imc.reuse_buffer import MODES
from golden.imc.vit_crossbars import sram
from golden.imc.write_verify import Pulse, Verify
from perf.crossbar import (
    AREA,
    CLOCK_HZ,
    ENERGY,
    LOAD_CYCLES,
    OUTPUT_CYCLES,
    QUOTIENT_BITS,
    REUSE_CYCLES,
    ROOT_BITS,
    Macros,
    action_cycles,
    norm_cycles,
    phase_cycles,
    priced,
    softmax_cycles,
)

ORGANISATIONS = ("core", "spatial")
# Comparisons and pulses of a row of SRAM in which cells of both kinds change (`golden.imc.write_verify`): each of two levels is
# looked at, pulsed, looked at again and confirmed.
ROW_VERIFIES, ROW_PULSES = 8, 2
TABLE_BITS, STREAM_BITS, BYTE = 256 * 8, 16, 8


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes: tokens, width, heads, width of the MLP in widths, encoders, classes, numbers of a patch, their bits.

    read : tokens that the read-out takes: all of them, whose mean it is, or the class token alone
    """

    name: str
    tokens: int
    dim: int
    heads: int
    mlp: int
    depth: int
    classes: int
    patch: int
    read: int
    pixel_bits: int = 8


DEIT_S = Shape(name="DeiT-S", tokens=197, dim=384, heads=6, mlp=4, depth=12, classes=1000, patch=768, read=1)


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A product of every token with a matrix, as often as there are ``copies`` (heads); ``written`` at run time or not."""

    inputs: int
    outputs: int
    vectors: int
    copies: int = 1
    bits: int = 8
    written: bool = False

    @property
    def macs(self) -> int:
        """Products of numbers."""
        return self.inputs * self.outputs * self.vectors * self.copies


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a part of a network does.

    units : rows and values that pass the units, by name
    norms, softmaxes : lengths of the rows that are normalised, one for each row
    """

    matrices: tuple[Matrix, ...] = ()
    norm_rows: int = 0
    norm_length: int = 0
    softmax_rows: int = 0
    softmax_length: int = 0
    scaled: int = 0
    looked_up: int = 0
    added: int = 0
    kept: int = 0
    given: int = 0


def attention(p: Shape, *, keep: bool = False) -> Work:
    """Return the work of an attention with its norm, its projection and what is added to the stream."""
    n, d, head = p.tokens, p.dim, p.dim // p.heads
    matrices = (Matrix(inputs=d, outputs=3 * d, vectors=n),
                Matrix(inputs=head, outputs=n, vectors=n, copies=p.heads, written=True),
                Matrix(inputs=n, outputs=head, vectors=n, copies=p.heads, written=True), Matrix(inputs=d, outputs=d, vectors=n))
    return Work(matrices=matrices, norm_rows=n, norm_length=d, softmax_rows=n * p.heads, softmax_length=n,
                scaled=n * (7 * d + p.heads * n), added=n * d, kept=n * d if keep else 0)


def transformation(p: Shape, mode: str) -> Work:
    """Return the work of what replaces an attention, of `golden.imc.reuse_buffer.MODES`."""
    depth, n, d = MODES.index(mode), p.tokens, p.dim
    if mode == "skip":
        return Work()
    normed, linear = depth >= MODES.index("norm"), depth >= MODES.index("linear")
    return Work(matrices=(Matrix(inputs=d, outputs=d, vectors=n),) if linear else (), norm_rows=n if normed else 0,
                norm_length=d, scaled=n * d * (2 + linear), looked_up=n * d if mode == "activation" else 0, added=n * d,
                given=n * d)


def mlp(p: Shape) -> Work:
    """Return the work of an MLP with its norm and what is added to the stream."""
    n, d = p.tokens, p.dim
    return Work(matrices=(Matrix(inputs=d, outputs=p.mlp * d, vectors=n), Matrix(inputs=p.mlp * d, outputs=d, vectors=n)),
                norm_rows=n, norm_length=d, scaled=n * d * (p.mlp + 1), looked_up=n * d * p.mlp, added=n * d)


def ends(p: Shape) -> Work:
    """Return the work of patches, positions and read-out."""
    return Work(matrices=(Matrix(inputs=p.patch, outputs=p.dim, vectors=p.tokens, bits=p.pixel_bits),
                          Matrix(inputs=p.dim, outputs=p.classes, vectors=p.read)),
                norm_rows=p.tokens, norm_length=p.dim, scaled=p.tokens * p.dim, added=p.tokens * p.dim + p.read * p.classes)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A hybrid of tiles.

    static : whose cells are programmed once
    organisation : of `ORGANISATIONS`
    times : of the macros
    """

    static: ImcArch
    organisation: str
    times: Macros

    def __post_init__(self) -> None:
        if self.organisation not in ORGANISATIONS:
            raise ParameterError(f"organisation: unknown name, not {self.organisation!r}; legal: {', '.join(ORGANISATIONS)}; "
                                 f"try: {ORGANISATIONS[0]}")

    @cached_property
    def written(self) -> ImcArch:
        """The build of the crossbars that are written at run time; in a core they lie behind the same peripheries."""
        return sram(self.static)

    def arch(self, matrix: Matrix) -> ImcArch:
        """Return the build on which a matrix lies."""
        return self.written if matrix.written else self.static

    def blocks(self, matrix: Matrix) -> tuple[int, int]:
        """Return the row blocks and column blocks of one copy of a matrix."""
        p = self.arch(matrix)
        return -(-matrix.inputs // p.rows), -(-matrix.outputs // p.outputs(p.scheme))

    def crossbars(self, matrix: Matrix) -> int:
        """Return the crossbars of a matrix."""
        rows, cols = self.blocks(matrix)
        return rows * cols * matrix.copies

    def rounds(self, matrix: Matrix) -> int:
        """Return how often a vector is converted one after the other."""
        if self.organisation == "spatial":
            return 1
        p, (rows, cols) = self.arch(matrix), self.blocks(matrix)
        return -(-rows // p.fan_in) * -(-cols // (p.tiles // p.fan_in)) * matrix.copies

    def matrix_cycles(self, matrix: Matrix) -> int:
        """Return the cycles of a matrix: its phases, and the outputs of the last vector."""
        p = self.arch(matrix)
        phases = matrix.vectors * self.rounds(matrix) * matrix.bits
        return phases * phase_cycles(p, p.lossless_bits, self.times) + OUTPUT_CYCLES + p.outputs(p.scheme)

    def written_rows(self, matrix: Matrix) -> int:
        """Return the rows of crossbars that are programmed for a matrix that is written."""
        return matrix.inputs * self.blocks(matrix)[1] * matrix.copies if matrix.written else 0

    def write_cycles(self, matrix: Matrix) -> int:
        """Return the cycles of writing a matrix; in a core a row is loaded while the one ahead of it is written."""
        settings = DEVICES["sram"].settings(1)
        pulse = Pulse(row=0, mask=1, reset=False, width=1, word=1, bit=1)
        row = ROW_VERIFIES * action_cycles(Verify(0, 1), settings) + ROW_PULSES * action_cycles(pulse, settings)
        if self.organisation == "spatial":
            return min(matrix.inputs, self.written.rows) * row if matrix.written else 0
        return self.written_rows(matrix) * max(row, self.written.cols + LOAD_CYCLES)

    def cycles(self, work: Work) -> int:
        """Return the cycles of a part; scales, tables and additions pass while columns are converted."""
        rows = work.norm_rows * norm_cycles(work.norm_length) + work.softmax_rows * softmax_cycles(work.softmax_length)
        given = REUSE_CYCLES + work.given if work.given else 0
        return sum(self.matrix_cycles(one) + self.write_cycles(one) for one in work.matrices) + rows + given


@dataclass
class Cost:
    """What an image costs: cycles, pJ and um^2 by the constants' names, products, crossbars, K and V words, rows written."""

    cycles: int
    energy: dict[str, float]
    area: dict[str, float]
    macs: int
    crossbars: int
    kv_words: int
    kv_rows: int

    @property
    def picojoules(self) -> float:
        """Energy of an image."""
        return sum(self.energy.values())

    @property
    def square_mm(self) -> float:
        """Area."""
        return sum(self.area.values()) * 1e-6

    @property
    def seconds(self) -> float:
        """Delay of an image."""
        return self.cycles / CLOCK_HZ

    @property
    def edap(self) -> float:
        """Energy times delay times area, in pJ s mm^2."""
        return self.picojoules * self.seconds * self.square_mm


def parts(p: Shape, reused: int, mode: str) -> list[Work]:
    """Return the work of a network of which ``reused`` encoders reuse; one encoder keeps its output for them."""
    require(0 <= reused < p.depth, "reused encoders", reused, f"in 0..{p.depth - 1}")
    own = [attention(p, keep=reused > 0 and n == 0) for n in range(p.depth - reused)]
    return [ends(p), *own, *[transformation(p, mode) for _ in range(reused)], *[mlp(p) for _ in range(p.depth)]]


def cost(p: Shape, machine: Machine, reused: int = 0, mode: str = "activation") -> Cost:
    """Return what an image costs on a machine."""
    works = parts(p, reused, mode)
    matrices = [one for work in works for one in work.matrices]
    counts = _energy_counts(machine, works)
    area = _area_counts(machine, p, works)
    dynamic = [one for one in matrices if one.written]
    return Cost(
        cycles=sum(map(machine.cycles, works)), energy=priced(counts, ENERGY), area=priced(area, AREA),
        macs=sum(one.macs for one in matrices), crossbars=sum(map(machine.crossbars, matrices)),
        kv_words=sum(one.inputs * one.outputs * one.copies for one in dynamic), kv_rows=sum(map(machine.written_rows, dynamic)))


def _energy_counts(machine: Machine, works: list[Work]) -> Counter[str]:
    """Return events by the names of `ENERGY`; half of the bits that are written differ from those before."""
    counts: Counter[str] = Counter()
    for work in works:
        for one in work.matrices:
            p = machine.arch(one)
            phases = one.vectors * one.bits * machine.crossbars(one)
            rows = machine.written_rows(one)
            counts.update({
                "crossbar": phases, "tile_buffer": phases, "tree": phases, "mux": phases * p.cols,
                "conversion_bit": phases * p.cols * p.lossless_bits, "verify": rows * ROW_VERIFIES * p.cols,
                "write": one.inputs * one.outputs * one.copies * BYTE // 2 if one.written else 0})
        values = work.norm_rows * work.norm_length
        counts.update({
            "product": 3 * values + work.scaled,
            "addition": work.norm_rows * 2 * ROOT_BITS + work.softmax_rows * QUOTIENT_BITS + work.added,
            "byte": work.softmax_rows * work.softmax_length + work.looked_up + work.kept + work.given + 4 * work.added})
    return counts


def _area_counts(machine: Machine, p: Shape, works: list[Work]) -> Counter[str]:
    """Return parts by the names of `AREA`.

    A core has one unit of each kind and a scale a tile; in the spatial organisation each part of the network has its own units.
    Tables and the buffer of reuse are counted where they are used, and a stream of 16 bits.
    """
    core = machine.organisation == "core"
    static = sum(machine.crossbars(one) for work in works for one in work.matrices if not one.written)
    dynamic = [sum(machine.crossbars(one) for one in work.matrices if one.written) for work in works]
    sram_crossbars = max(dynamic) if core else sum(dynamic)
    peripheries = machine.static.tiles if core else static + sram_crossbars
    norms, softmaxes = sum(work.norm_rows > 0 for work in works), sum(work.softmax_rows > 0 for work in works)
    scales = peripheries if core else sum(len(work.matrices) for work in works)
    tables = sum((work.looked_up > 0) + (work.softmax_rows > 0) for work in works)
    units = (min(norms, 1), min(softmaxes, 1)) if core else (norms, softmaxes)
    slot = p.tokens * p.dim * BYTE if any(work.given for work in works) else 0
    cells = machine.static.rows * machine.static.cols / 64 ** 2
    return Counter({
        "cells_static": static * cells, "cells_sram": sram_crossbars * cells, "adc": peripheries * machine.static.adcs,
        "combine": peripheries, "tile_buffer": peripheries, "tree": peripheries,
        "bit": tables * TABLE_BITS + slot + p.tokens * p.dim * STREAM_BITS, "multiplier": 3 * units[0] + units[1] + scales,
        "adder": sum(units)})
