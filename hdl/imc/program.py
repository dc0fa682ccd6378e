"""What the host writes to run a network on a core of tiles: registers and packets of every layer. NumPy only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from golden.arch import ParameterError
from golden.imc.arch import ImcArch
from hdl.imc.layer import EXIT, FIELDS, MACHINE
from hdl.imc.pool import PoolMode
from hdl.imc.settings import Times, tile_settings
from hdl.parallel_lif import Reset

RESETS = {"hard": Reset.HARD, "soft": Reset.SOFT, "soft_delayed": Reset.SOFT_DELAYED}
FACTOR_BITS, SHIFT_BITS = 16, 5
USUAL = Times()
NO_EXIT = {"steps": 0, "threshold": 0}


@dataclass(frozen=True, kw_only=True)
class LayerProgram:
    """One layer of a network.

    fields : of `hdl.imc.layer.FIELDS`, all of them
    machine, exits : of `hdl.imc.layer.MACHINE` and of `hdl.imc.layer.EXIT`
    places : shift, negate << 4, used << 5 of every column of a weight
    biases, seconds : per channel, as 32-bit words
    planes, shape : of the output: planes of [C, H, W]; of a read-out, no planes
    """

    name: str
    fields: dict[str, int]
    machine: dict[str, int]
    exits: dict[str, int]
    places: tuple[int, ...]
    biases: tuple[int, ...]
    seconds: tuple[int, ...]
    planes: int
    shape: tuple[int, int, int]

    @property
    def registers(self) -> dict[str, int]:
        """Return all registers of the layer by name (`hdl.imc.register_map`)."""
        return {**{f"LAYER_{name.upper()}": value for name, value in self.fields.items()},
                **{f"MACHINE_{name.upper()}": value for name, value in self.machine.items()},
                **{f"EXIT_{name.upper()}": value for name, value in self.exits.items()},
                **{f"PLACE_{number}": place for number, place in enumerate(self.places)}}

    def only(self, step: int) -> "LayerProgram | None":
        """Return one step of a layer of a network with early exit, or None where its first one ran all of them."""
        if self.fields["once"]:
            return None if step else self
        fields = self.fields | {"steps": 1, "first_step": step, "fresh": int(step == 0)}
        return replace(self, fields=fields, planes=self.planes if self.fields["scale"] else min(1, self.planes))


def programs(p: ImcArch, network: Any, placed: Sequence[Any], *, flash: bool, adc_bits: int, average_log2: int = 0,
             skip: bool = False, gain: bool = False, time_inner: bool = True, exit_margin: int | None = None,
             times: Times = USUAL, patience: int = 100_000) -> Iterator[LayerProgram]:
    """Yield the layers of a network that `golden.imc.run.place` put on crossbars.

    The input lies in memory 0; every layer reads the one that the layer before it wrote. With ``exit_margin`` the core tells at
    which step an image stops. What layers write and their membranes then overlap nowhere, so that all layers take a step before
    the next one (`LayerProgram.only`), time outside.
    Raises ParameterError for a layer that the core does not hold.
    """
    bank, planes, shape = 0, 0, (network.input.channels, network.input.height, network.input.width)
    base, free, membrane, apart, exits = 0, [0, 0], 0, exit_margin is not None, NO_EXIT
    if exit_margin is not None:
        check_exit(placed[-1], network.steps)
        exits = {"steps": network.steps, "threshold": exit_margin}
    for entry in placed:
        mapped = entry.mapped
        operand, layer = mapped.operand, mapped.layer
        planes = operand.bits * (network.steps if operand.per_step else 1)
        fields = {"source": bank, "in_shift": 0, "in_span": 0, "factor": 0, **_source(p, mapped, shape, planes),
                  **crossbar_fields(p, entry)}
        size, once = _sums(mapped, shape), entry.converted < network.steps
        fields |= {"conv_width": size[1], "pixels": size[0] * size[1], "steps": network.steps, "first_step": 0, "fresh": 1,
                   "time_inner": (time_inner and not apart) or once, "per_step": operand.per_step, "once": once,
                   "bits": operand.bits}
        pool = layer.max_pool or layer.sum_pool or layer.or_pool
        kernel, stride = (pool.kernel, pool.stride) if pool else (1, 1)
        out = tuple((n - kernel) // stride + 1 for n in size)
        fields |= {"out_height": out[0], "out_width": out[1], "pool_kernel": kernel, "pool_stride": stride, **_tail(layer)}
        shape, planes = (mapped.weight.shape[1], *out), _planes(layer, network.steps)
        groups = -(-shape[0] // p.rows)
        if apart and not free[bank]:
            free[bank] = _operand_words(fields, mapped)
        fields |= {"in_base": base, "out_base": free[1 - bank], "out_plane": out[0] * out[1] * groups, "out_groups": groups,
                   "membrane": membrane}
        _check(p, mapped, fields, planes, network.steps)
        check_widths(p, mapped, network.steps, kernel, gain)
        settings = tile_settings(p, mapped.scheme, bits=operand.bits, signed=operand.signed, skip=skip, flash=flash,
                                 adc_bits=adc_bits, average_log2=average_log2, gain=gain, times=times)
        machine = machine_fields(settings, patience)
        check_fields(layer.name, fields, machine, exits)
        yield LayerProgram(name=layer.name, fields={name: int(value) for name, value in fields.items()}, machine=machine,
                           exits=exits, places=place_registers(settings), planes=planes, shape=shape,
                           biases=tuple(int(b) & 0xFFFF_FFFF for b in layer.bias), seconds=_seconds(layer, shape[0]))
        base, bank = free[1 - bank], 1 - bank
        if apart:
            free[bank] += planes * fields["out_plane"]
            membrane += 0 if once else _membranes(mapped, fields)


def _source(p: ImcArch, mapped: Any, shape: tuple[int, int, int], planes: int) -> dict[str, int]:
    """Return how the operand is read."""
    _, height, width = shape
    first = mapped.layer.passes[0]
    words = planes * height * width * mapped.groups
    if words > p.map_words:
        raise ParameterError(f"layer {mapped.layer.name}: words of the operand, not {words}; legal: 1..{p.map_words} on "
                             f"{p.name}; try: map_words = {1 << (words - 1).bit_length()}")
    return {
        "in_base": 0, "in_plane": height * width * mapped.groups, "in_row": width * mapped.groups, "in_groups": mapped.groups,
        "in_height": height, "in_width": width, "chunk_log2": mapped.chunk.bit_length() - 1, "chunks": p.rows // mapped.chunk,
        "kernel_height": first.weight.shape[2], "kernel_width": first.weight.shape[3], "stride": first.stride,
        "padding": first.padding}


def crossbar_fields(p: ImcArch, entry: Any) -> dict[str, int]:
    """Return where the weights are."""
    mapped = entry.mapped
    rounds_in, rounds_out = -(-mapped.row_blocks // p.fan_in), -(-mapped.column_blocks * p.fan_in // p.tiles)
    if entry.crossbar + rounds_in * rounds_out > p.crossbars:
        raise ParameterError(f"layer {mapped.layer.name}: crossbars of a tile, not {entry.crossbar + rounds_in * rounds_out}; "
                             f"legal: 1..{p.crossbars} on {p.name}; try: crossbars = {entry.crossbar + rounds_in * rounds_out}")
    return {"blocks": mapped.row_blocks, "rounds_in": rounds_in, "rounds_out": rounds_out,
            "column_blocks": mapped.column_blocks, "crossbar": entry.crossbar, "channels": mapped.weight.shape[1],
            "outputs": p.outputs(mapped.scheme)}


def _sums(mapped: Any, shape: tuple[int, int, int]) -> tuple[int, int]:
    """Return (H, W) of the sums."""
    first = mapped.layer.passes[0]
    height, width = ((n + 2 * first.padding - k) // first.stride + 1
                     for n, k in zip(shape[1:], first.weight.shape[2:], strict=True))
    return height, width


def _tail(layer: Any) -> dict[str, int]:
    """Return what follows the sums."""
    mode = PoolMode.MAX if layer.max_pool else PoolMode.SUM if layer.sum_pool else PoolMode.NONE
    neuron, scale = layer.neuron, layer.requantise
    return {
        "pool_mode": mode, "readout": layer.readout, "scale": scale is not None, "word_bits": scale.bits if scale else 1,
        "word_signed": bool(scale and scale.signed), "leak_shift": neuron.leak_shift if neuron else 0,
        "decay_input": bool(neuron and neuron.decay_input), "strict": bool(neuron and neuron.compare == ">"),
        "reset": RESETS[neuron.reset] if neuron else 0, "share_log2": neuron.share.bit_length() - 1 if neuron else 0}


def _planes(layer: Any, steps: int) -> int:
    """Return the planes that a layer writes."""
    return 0 if layer.readout else layer.requantise.bits if layer.requantise else steps


def _seconds(layer: Any, channels: int) -> tuple[int, ...]:
    """Return the thresholds, or ``mult | shift << 16``, of all channels."""
    if layer.neuron:
        return tuple(int(t) & 0xFFFF_FFFF for t in layer.neuron.threshold)
    if layer.requantise:
        pairs = zip(layer.requantise.multiplier, layer.requantise.shift, strict=True)
        return tuple(scale_word(layer.name, int(mult), int(shift)) for mult, shift in pairs)
    return (0,) * channels


def scale_word(name: str, mult: int, shift: int) -> int:
    """Return the second word of a channel that is scaled; raise ParameterError for what it does not hold."""
    for what, value, bits in (("multiplier", mult, FACTOR_BITS), ("shift", shift, SHIFT_BITS)):
        most = (1 << bits) - 1
        if not 0 <= value <= most:
            raise ParameterError(f"layer {name}: {what} of the requantiser, not {value}; legal: 0..{most}; "
                                 f"try: {what} = {min(max(value, 0), most)}")
    return mult | shift << FACTOR_BITS


def _operand_words(fields: dict[str, int], mapped: Any) -> int:
    """Return the words of the operand of the first layer."""
    steps = fields["steps"] if mapped.operand.per_step else 1
    return int(mapped.operand.bits) * steps * fields["in_plane"]


def _membranes(mapped: Any, fields: dict[str, int]) -> int:
    """Return the membranes that a layer has at the same time."""
    if not mapped.layer.neuron:
        return 0
    members = fields["pool_kernel"] ** 2 if fields["pool_mode"] == PoolMode.NONE else 1
    windows = 1 if fields["time_inner"] else fields["out_height"] * fields["out_width"]
    return int((fields["channels"] >> fields["share_log2"]) * members * windows)


def _check(p: ImcArch, mapped: Any, fields: dict[str, int], planes: int, steps: int) -> None:
    """Raise ParameterError for what the memories behind the tiles do not hold."""
    name, channels = mapped.layer.name, fields["channels"]
    windows = fields["out_height"] * fields["out_width"]
    lanes = p.tiles // p.fan_in
    lane = fields["rounds_out"] * fields["outputs"]
    output, membranes = planes * windows * fields["out_groups"], _membranes(mapped, fields)
    for what, value, most in (("outputs", channels, p.channels), ("outputs of a lane", lane, max(2, p.channels // lanes)),
                              ("words of the output", fields["out_base"] + output, p.map_words),
                              ("membranes", fields["membrane"] + membranes, p.membranes), ("timesteps", steps, p.t_max),
                              ("bits of a scaled number", fields["word_bits"], p.word_bits)):
        if value > most:
            raise ParameterError(f"layer {name}: {what}, not {value}; legal: 1..{most} on {p.name}; try: a larger build")
    if mapped.layer.readout and windows > 1 and not fields["time_inner"]:
        raise ParameterError(f"layer {name}: order of a read-out of {windows} pixels, not step after step; legal: all steps of "
                             "a pixel, then the next one; try: time_inner=True")
    if mapped.layer.requantise and steps > 1:
        raise ParameterError(f"layer {name}: timesteps of scaled numbers, not {steps}; legal: 1; try: --T 1")


def check_widths(p: ImcArch, mapped: Any, steps: int, kernel: int, gain: bool) -> None:
    """Raise ParameterError unless sums and membranes fit whatever the macros answer.

    A code less an offset is below ``2^(adc_bits + 1)``, twice that with a gain; it counts ``2^shift`` times for each place, in
    every phase of every row block, and once more where a dummy column or the popcount takes as much away.
    """
    layer, places = mapped.layer, p.places(mapped.scheme)
    largest = sum(1 << place.shift for place in places if place) << p.adc_bits + 1 + gain
    phases = (1 << mapped.operand.bits) * (p.rows // p.group_rows) * mapped.row_blocks
    sums = largest * phases * (1 + (mapped.scheme in ("dummy", "offset"))) + max(abs(int(b)) for b in layer.bias)
    sums *= kernel * kernel if layer.sum_pool else steps if layer.readout else 1
    needed = {"stream_bits": (sums, p.stream_bits)}
    if layer.neuron:
        visits = steps * layer.neuron.share
        needed["membrane_bits"] = (visits * (sums + max(abs(int(t)) for t in layer.neuron.threshold)), p.membrane_bits)
    for name, (value, bits) in needed.items():
        if value >= 1 << bits - 1:
            raise ParameterError(f"layer {layer.name}: {name}, not {value.bit_length() + 1}; legal: 1..{bits} on {p.name}; "
                                 "try: fewer inputs or input bits")


def check_exit(entry: Any, steps: int) -> None:
    """Raise ParameterError unless a network ends with sums of several classes, some in each step."""
    layer, classes = entry.mapped.layer, entry.mapped.weight.shape[1]
    if not layer.readout:
        raise ParameterError(f"exit-margin: layer {layer.name}, not a read-out; legal: a network that ends with one; "
                             "try: no --exit-margin")
    if classes < 2:
        raise ParameterError(f"exit-margin: classes of layer {layer.name}, not {classes}; legal: 2 and more, for a margin is "
                             "between two; try: no --exit-margin")
    if entry.converted < steps:
        raise ParameterError(f"exit-margin: sums of layer {layer.name}, not the same for all steps; legal: sums of each step; "
                             "try: --macro once=0")


def check_fields(name: str, fields: dict[str, int], machine: dict[str, int], exits: dict[str, int]) -> None:
    """Raise ParameterError for a value that its register does not hold."""
    for prefix, table, values in (("LAYER", FIELDS, fields), ("MACHINE", MACHINE, machine), ("EXIT", EXIT, exits)):
        for field in (field for field in table if field.name in values):
            value, most = values[field.name], (1 << field.width) - 1
            if not 0 <= value <= most:
                change = "a smaller layer" if table is FIELDS else f"{field.name}={min(max(value, 0), most)}"
                raise ParameterError(f"layer {name}: {prefix}_{field.name.upper()}, not {value}; legal: 0..{most} "
                                     f"({field.meaning}); try: {change}")


def machine_fields(settings: dict[str, Any], patience: int) -> dict[str, int]:
    """Return the settings of the machine from those of a tile."""
    given = settings | {"patience": patience}
    return {field.name: int(given[field.name]) for field in MACHINE if field.name in given}


def place_registers(settings: dict[str, Any]) -> tuple[int, ...]:
    """Return the registers of the places of a weight."""
    places = settings["places"]
    return tuple(places[k]["shift"] | places[k]["negate"] << 4 | 1 << 5 if k in places else 0
                 for k in range(1 << settings["width_log2"]))
