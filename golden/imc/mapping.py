"""How a layer lies on crossbars: row blocks of taps and channels, column blocks of outputs."""

from dataclasses import dataclass

from array_api_compat import array_namespace

from golden.arch import ParameterError
from golden.imc.arch import ImcArch
from golden.imc.cells import levels
from golden.network import Array, Layer, Pass, Plane, number_planes, spike_planes
from golden.window import windows


@dataclass(frozen=True, kw_only=True)
class Operand:
    """What a layer reads: spikes of each step, or numbers, bit-serial.

    sources : tensors whose words, one behind the other from the low bits on, are the planes
    bits : of a number, 1 of spikes
    signed : the highest bit counts negative
    per_step : every step has its own planes; else all steps share them
    """

    sources: tuple[str, ...]
    bits: int
    signed: bool
    per_step: bool


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """A layer on crossbars.

    weight : int64 [row blocks, outputs of the layer, rows], inputs in the order (ky, kx, channel), channels of a tap filled up
        to a part or a multiple of the rows
    chunk : inputs of a word of the activation memory
    groups : words of a pixel
    column_blocks : crossbars side by side
    """

    layer: Layer
    operand: Operand
    scheme: str
    weight: Array
    chunk: int
    groups: int
    column_blocks: int

    @property
    def row_blocks(self) -> int:
        """Crossbars that the inputs of an output fill."""
        return int(self.weight.shape[0])

    def cells(self, arch: ImcArch, row_block: int, column_block: int) -> Array:
        """Return the levels int64 [rows, cols] of one crossbar."""
        outputs = arch.outputs(self.scheme)
        return levels(arch, self.scheme, self.weight[row_block, column_block * outputs : (column_block + 1) * outputs, :])


def operand_of(layer: Layer, steps: int) -> Operand:
    """Return what a layer reads.

    Raises ParameterError for a layer that a core of tiles does not run.
    """
    _check(layer)
    first = layer.passes[0]
    sources, planes = tuple(p.source for p in layer.passes), tuple(plane for p in layer.passes for plane in p.planes)
    if len(layer.passes) == 1 and first.planes == spike_planes(steps):
        return Operand(sources=sources, bits=1, signed=False, per_step=True)
    everywhere = tuple(range(steps))
    for signed in (False, True):
        if planes == number_planes(len(planes), signed, everywhere):
            return Operand(sources=sources, bits=len(planes), signed=signed, per_step=False)
    raise ParameterError(f"layer {layer.name}: operand, not {_short(planes)}; legal: spikes of every step, or one number for "
                         "all steps; try: --top ftp")


def map_layer(arch: ImcArch, scheme: str, layer: Layer, steps: int) -> Mapped:
    """Return a layer on crossbars of ``arch``; raises ParameterError when they do not hold it, or the core does not run it.

    Source: imc 2.1, a crossbar per tap where a pixel fills its rows; several taps where it does not.
    """
    operand = operand_of(layer, steps)
    first: Pass = layer.passes[0]
    xp = array_namespace(first.weight)
    outputs, channels, height, width = first.weight.shape
    if operand.bits > arch.input_bits:
        raise ParameterError(f"layer {layer.name}: bits of an input, not {operand.bits}; legal: 1..{arch.input_bits} on "
                             f"{arch.name}; try: input_bits = {operand.bits}")
    chunk = chunk_of(arch.rows, channels)
    groups = -(-channels // chunk)
    taps = xp.permute_dims(xp.astype(first.weight, xp.int64), (0, 2, 3, 1))
    taps = xp.concat([taps, xp.zeros((outputs, height, width, groups * chunk - channels), dtype=xp.int64)], axis=3)
    flat = xp.reshape(taps, (outputs, -1))
    blocks = -(-flat.shape[1] // arch.rows)
    flat = xp.concat([flat, xp.zeros((outputs, blocks * arch.rows - flat.shape[1]), dtype=xp.int64)], axis=1)
    return Mapped(layer=layer, operand=operand, scheme=scheme, chunk=chunk, groups=groups,
                  weight=xp.permute_dims(xp.reshape(flat, (outputs, blocks, arch.rows)), (1, 0, 2)),
                  column_blocks=-(-outputs // arch.outputs(scheme)))


def chunk_of(rows: int, channels: int) -> int:
    """Return how many inputs a word of the activation memory brings: a power of two that divides ``rows``, or all of them."""
    part = 1 << (channels - 1).bit_length()
    return part if part < rows and rows % part == 0 else rows


def vectors(mapped: Mapped, planes: Array) -> Array:
    """Return the inputs int64 [pixels, row blocks, rows] of all vectors of one step.

    planes : int64 [C, H, W], spikes of the step, or numbers of ``bits`` bits as their low bits
    """
    xp = array_namespace(planes)
    first, rows = mapped.layer.passes[0], mapped.weight.shape[2]
    channels, height, width = planes.shape
    wide = xp.concat([planes, xp.zeros((mapped.groups * mapped.chunk - channels, height, width), dtype=xp.int64)], axis=0)
    members = windows(wide, first.weight.shape[2:], stride=first.stride, padding=first.padding)
    taps = xp.permute_dims(xp.stack(members), (2, 3, 0, 1))
    flat = xp.reshape(taps, (taps.shape[0] * taps.shape[1], -1))
    fill = xp.zeros((flat.shape[0], mapped.row_blocks * rows - flat.shape[1]), dtype=xp.int64)
    return xp.reshape(xp.concat([flat, fill], axis=1), (flat.shape[0], mapped.row_blocks, rows))


def _check(layer: Layer) -> None:
    """Raise ParameterError for what a core of tiles does not do."""
    pools = [pool for pool in (layer.max_pool, layer.sum_pool, layer.or_pool) if pool is not None]
    wrong = {
        "attention": layer.attention is not None, "a residual": layer.residual is not None,
        "stored currents": layer.store_currents, "digits": layer.digit is not None, "spike times": layer.ttfs is not None,
        "a mask of few spikes": layer.min_spikes > 1, "no passes": not layer.passes,
        "several weight sets": any(not _like(p, layer.passes[0]) for p in layer.passes),
        "pools of sums and of spikes": len(pools) > 1, "a padded pool": any(pool.padding for pool in pools),
        "a pool of a read-out": bool(pools) and layer.readout,
        "rows of a map": any(p.rows is not None for p in layer.passes),
        "a leak of 1-2^-k": layer.neuron is not None and layer.neuron.leak != "2^-k",
    }
    for what, there in wrong.items():
        if there:
            raise ParameterError(f"layer {layer.name}: tail or operand, not {what}; legal: convolutions and linear layers with "
                                 "neurons, a requantiser or a read-out; try: --top ftp")


def _like(one: Pass, other: Pass) -> bool:
    """Return whether two passes differ in nothing but their operands."""
    same = (one.stride, one.padding, one.weight.shape) == (other.stride, other.padding, other.weight.shape)
    return same and bool((one.weight == other.weight).all())


def _short(planes: tuple[Plane, ...]) -> str:
    return ", ".join(f"2^{plane.shift} to {list(plane.steps)}" for plane in planes[:4])
