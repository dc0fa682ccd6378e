"""Run an integer network on crossbars: the sums of its layers come from macros, all else is as in `golden.run`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from array_api_compat import array_namespace

from golden.imc.arch import ImcArch
from golden.imc.correction import Correction
from golden.imc.macro import Adc, Effects, Macro, build
from golden.imc.mapping import Mapped, map_layer, vectors
from golden.imc.tile import Program, run_tile
from golden.network import Array, Layer, Network, map_arrays
from golden.run import LayerTrace, Trace, run_tail, unpack
from golden.window import extent

# Vectors whose codes are in memory together.
BATCH = 512


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a network runs on tiles.

    scheme : of all weights
    adc, effects : of all macros
    skip : phases that drive no row rest
    once : an operand that all steps share is converted in the first one, where the core keeps what comes of its steps
    corrections : of the codes, by tile of the core
    trims : codes of its comparators, int64 [adcs], by tile of the core
    """

    scheme: str
    adc: Adc
    effects: Effects = field(default_factory=Effects)
    skip: bool = False
    once: bool = True
    corrections: Mapping[int, Correction] = field(default_factory=dict)
    trims: Mapping[int, Array] = field(default_factory=dict)

    def program(self, mapped: Mapped, tile: int) -> Program:
        """Return how a tile runs a layer."""
        return Program(scheme=self.scheme, bits=mapped.operand.bits, signed=mapped.operand.signed, skip=self.skip,
                       correction=self.corrections.get(tile, Correction()), trim=self.trims.get(tile))


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A layer on the crossbars of a core: ``macros[row block][column block]``, and their numbers, which key their noise.

    crossbar : the first one of the layer in every tile
    converted : steps whose inputs are converted; 1 where the sums of the first one serve all
    """

    mapped: Mapped
    macros: tuple[tuple[Macro, ...], ...]
    crossbar: int
    converted: int

    def crossbars(self, arch: ImcArch) -> int:
        """Return how many crossbars of every tile it takes."""
        return crossbars(arch, self.mapped.row_blocks, self.mapped.column_blocks)


def crossbars(arch: ImcArch, row_blocks: int, column_blocks: int) -> int:
    """Return how many crossbars of every tile so many blocks take."""
    return -(-row_blocks // arch.fan_in) * -(-column_blocks * arch.fan_in // arch.tiles)


def place(network: Network, arch: ImcArch, setting: Setting) -> tuple[Placed, ...]:
    """Return all layers of a network on crossbars, one behind the other: `place_layers`."""
    return place_layers(network.layers, network.steps, arch, setting)


def place_layers(layers: Iterable[Layer], steps: int, arch: ImcArch, setting: Setting) -> tuple[Placed, ...]:
    """Return layers on crossbars, one behind the other, as `place_layer` says each.

    Raises ParameterError for what a core does not run or hold.
    """
    placed, first = [], 0
    for layer in layers:
        placed.append(place_layer(layer, steps, arch, setting, first))
        first += placed[-1].crossbars(arch)
    return tuple(placed)


def place_layer(layer: Layer, steps: int, arch: ImcArch, setting: Setting, first: int, write: int = 0) -> Placed:
    """Return a layer on crossbars from ``first`` on.

    write : how often they were written before, a coordinate of what their cells draw

    With ``once`` a layer whose steps share their operand is converted in the first step alone, if there are at most
    ``input_bits`` steps: a core collects so many planes of a pixel. Not where channels share membranes, all of whose groups
    take a step before the next one.

    Row blocks go to the tiles of a tree, column blocks to lanes: block (r, c) lies in tile
    ``(c % lanes) * fan_in + r % fan_in``, crossbar ``first + (r // fan_in) * rounds + c // lanes``; its number is
    ``crossbar * tiles + tile``.

    Raises ParameterError for what a core does not run or hold.
    """
    mapped, lanes = map_layer(arch, setting.scheme, layer, steps), arch.tiles // arch.fan_in
    rounds = -(-mapped.column_blocks // lanes)
    macros = tuple(tuple(
        _built(arch, setting, mapped.cells(arch, r, c), number(arch, first, rounds, r, c), write)
        for c in range(mapped.column_blocks)) for r in range(mapped.row_blocks))
    shared = layer.neuron is not None and layer.neuron.share > 1
    once = setting.once and not mapped.operand.per_step and not shared and steps <= arch.input_bits
    return Placed(mapped=mapped, macros=macros, crossbar=first, converted=1 if once else steps)


def number(arch: ImcArch, first: int, rounds: int, row_block: int, column_block: int) -> int:
    """Return the number of a crossbar of a core: ``crossbar * tiles + tile``."""
    lanes = arch.tiles // arch.fan_in
    crossbar = first + row_block // arch.fan_in * rounds + column_block // lanes
    return crossbar * arch.tiles + column_block % lanes * arch.fan_in + row_block % arch.fan_in


def _built(arch: ImcArch, setting: Setting, cells: Array, crossbar: int, write: int) -> Macro:
    """Return a crossbar, which shares the ADCs of its tile with all others there."""
    return build(arch, setting.adc, cells, setting.effects, tile=crossbar, write=write, bank=crossbar % arch.tiles)


def run(network: Network, arch: ImcArch, setting: Setting, words: dict[str, Array], *, image: int = 0,
        placed: tuple[Placed, ...] | None = None) -> Trace:
    """Execute every layer on one image; see `run_images`."""
    return run_images(network, arch, setting, [words], first=image, placed=placed)[0]


def run_images(network: Network, arch: ImcArch, setting: Setting, images: Sequence[dict[str, Array]], *, first: int = 0,
               placed: tuple[Placed, ...] | None = None, progress: Callable[[], None] = lambda: None) -> list[Trace]:
    """Execute every layer on some images, in the kind of their words, whichever kind ``network`` holds.

    images : the input tensors of `golden.network.input_words` of each, int64 [C, H, W]
    first : number of the first image, which keys its noise; the others follow it
    placed : what `place` returned, in the kind of ``images``
    progress : called after each layer
    """
    network = map_arrays(network, array_namespace(*images[0].values()).asarray)
    placed = placed or place(network, arch, setting)
    tensors: list[dict[str, Array]] = [dict(words) for words in images]
    layers: list[dict[str, LayerTrace]] = [{} for _ in images]
    for entry in placed:
        layer = entry.mapped.layer
        for n, trace in enumerate(run_layer(arch, setting, entry, tensors, network.steps, first)):
            layers[n][layer.name] = trace
            if trace.output is not None:
                tensors[n][layer.name] = trace.output
        progress()
    return [Trace(inputs=words, layers=found) for words, found in zip(images, layers, strict=True)]


def run_layer(arch: ImcArch, setting: Setting, placed: Placed, tensors: Sequence[dict[str, Array]], steps: int, first: int
              ) -> list[LayerTrace]:
    """Execute one layer on images from ``first`` on.

    A vector is keyed by ``step * pixels + pixel``, also one whose sums serve all steps.
    """
    mapped, images = placed.mapped, len(tensors)
    x = [plane for words in tensors for plane in inputs(placed, words, steps)]
    xp, count = array_namespace(x[0]), placed.converted * x[0].shape[0]
    vector = xp.tile(xp.arange(count, dtype=xp.int64), (images,))
    image = first + xp.repeat(xp.arange(images, dtype=xp.int64), count)
    total = products(arch, setting, placed, xp.concat(x), image=image, vector=vector)
    sums = xp.reshape(total[:, : mapped.weight.shape[1]], (images, placed.converted, *_size(mapped, tensors[0]), -1))
    sums = xp.tile(xp.permute_dims(sums, (0, 1, 4, 2, 3)), (1, steps // placed.converted, 1, 1, 1))
    return [run_tail(mapped.layer, steps, sums[n, ...], 0, {}) for n in range(images)]


def products(arch: ImcArch, setting: Setting, placed: Placed, x: Array, *, image: Array, vector: Array) -> Array:
    """Return the sums int64 [vectors, outputs of all column blocks] of vectors [vectors, row blocks, rows].

    image, vector : int64 [vectors], which key the noise
    """
    xp = array_namespace(x)
    total: Array = 0
    for r, row in enumerate(placed.macros):
        parts = [xp.concat([
            run_tile(macro, setting.program(placed.mapped, macro.tile % arch.tiles), x[at : at + BATCH, r, :],
                     image=image[at : at + BATCH], vector=vector[at : at + BATCH]).y
            for at in range(0, x.shape[0], BATCH)]) for macro in row]
        total = total + xp.concat(parts, axis=1)
    return total


def inputs(placed: Placed, tensors: dict[str, Array], steps: int) -> Iterator[Array]:
    """Yield the inputs int64 [pixels, row blocks, rows] of all vectors of each step that is converted, numbers in their signed
    range.
    """
    mapped, operand = placed.mapped, placed.mapped.operand
    words = tensors[operand.sources[0]]
    if operand.per_step:
        yield from (vectors(mapped, plane) for plane in array_namespace(words).unstack(unpack(words, steps)))
        return
    low = 0
    value = array_namespace(words).zeros_like(words)
    for p in mapped.layer.passes:
        value = value + (tensors[p.source] << low)
        low += len(p.planes)
    if operand.signed:
        value = value - ((value >> operand.bits - 1 & 1) << operand.bits)
    x = vectors(mapped, value)
    for _ in range(placed.converted):
        yield x


def _size(mapped: Mapped, tensors: dict[str, Array]) -> tuple[int, int]:
    """Return (H, W) of the sums."""
    first = mapped.layer.passes[0]
    height, width = tensors[first.source].shape[-2:]
    return (extent(height, first.weight.shape[2], first.stride, first.padding),
            extent(width, first.weight.shape[3], first.stride, first.padding))
