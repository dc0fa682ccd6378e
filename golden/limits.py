"""The limits of a build: what an integer network needs, proven for all inputs by interval arithmetic."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from golden.arch import FRACTION_BITS, Arch, ParameterError, word_bits
from golden.formats import LAYER, LEAD_BITS, NEVER, PASS, PLANE, SCALE
from golden.kept_taps import kept_taps
from golden.network import Attention, Digit, Layer, Network, Neuron, Pass, Requantise, Ttfs, map_arrays
from golden.neuron import visits

Bound = NDArray[np.int64]


def check(network: Network, arch: Arch) -> None:
    """Prove for all inputs that ``network`` fits the build, or raise `ParameterError`.

    Dots, currents, read-outs, membranes and thresholds per channel; chunks and packed words per row; neurons, pools
    and descriptor fields that the hardware has; channels of pooled layers.
    """
    if not 1 <= network.steps <= arch.t_max:
        raise ParameterError(f"T: must be in 1..{arch.t_max} for preset {arch.name}, not {network.steps}")
    network = map_arrays(network, np.asarray)
    top = (1 << (arch.weight_bits - 1)) - 1
    currents: dict[str, tuple[Bound, Bound]] = {}
    for layer in network.layers:
        _check_fields(layer, arch)
        _check_tail(layer, arch)
        largest = max((int(np.abs(p.weight.astype(np.int64)).max()) for p in layer.passes), default=0)
        if largest > top:
            _refuse(layer, "weights", largest, f"at most {top}", arch)
        _check_row(layer, network, arch)
        for p in layer.passes:
            _check_width(layer, "dots", *_dot_bounds(p), bits=arch.acc_bits, arch=arch)
        if layer.ttfs is not None:
            _check_ttfs(layer, layer.ttfs, network, arch)
        if layer.attention is not None:
            _check_attention(layer, layer.attention, network, arch)
        low, high = current_bounds(replace(layer, residual=None, sum_pool=None), network.steps, {})
        _check_width(layer, "currents", low, high, bits=arch.stream_bits, arch=arch)
        low, high = currents[layer.name] = current_bounds(layer, network.steps, currents)
        _check_width(layer, "currents", low, high, bits=arch.stream_bits, arch=arch)
        if layer.readout:
            _check_width(layer, "read-out", low.clip(max=0).sum(0), high.clip(min=0).sum(0),
                         bits=arch.membrane_bits, arch=arch)
        if layer.neuron is not None:
            _check_neuron(layer, layer.neuron, arch)
            _check_width(layer, "thresholds", -layer.neuron.threshold, layer.neuron.threshold,
                         bits=arch.membrane_bits, arch=arch)
            floor, ceiling = membrane_bounds(layer.neuron, low, high)
            _check_width(layer, "membranes", floor, ceiling, bits=arch.membrane_bits, arch=arch)
        if layer.requantise is not None:
            _check_requantise(layer, layer.requantise, network.steps, arch)
        if layer.digit is not None:
            _check_digit(layer, layer.digit, network.steps, arch)
        if layer.or_pool is not None and len(layer.bias) > arch.pool_channels:
            _refuse(layer, "pooled channels", len(layer.bias), f"at most {arch.pool_channels}", arch)


def _where(layer: Layer) -> str:
    return f"{layer.name} ({layer.origin})" if layer.origin else layer.name


def _refuse(layer: Layer, what: str, need: int, legal: str, arch: Arch) -> None:
    raise ParameterError(f"{_where(layer)}: {what}: needs {need}; legal: {legal} on preset {arch.name}; "
                         "try: a larger preset or a smaller layer")


def _check_width(layer: Layer, what: str, low: Bound, high: Bound, *, bits: int, arch: Arch) -> None:
    need = width_of(low, high)
    if need > bits:
        _refuse(layer, f"{what} in bits", need, f"at most {bits}", arch)


def _check_fields(layer: Layer, arch: Arch) -> None:
    """Refuse what no descriptor field holds."""
    widest = {(record, field.name): (1 << field.width) - 1
              for record, table in (("layer", LAYER), ("pass", PASS), ("plane", PLANE)) for field in table}
    needs = [("layer", "passes", len(layer.passes)), ("layer", "columns", len(layer.bias)),
             ("layer", "min_spikes", layer.min_spikes)]
    pool = layer.max_pool or layer.sum_pool or layer.or_pool
    if pool is not None:
        needs += [("layer", "pool_kernel", pool.kernel), ("layer", "pool_stride", pool.stride),
                  ("layer", "pool_padding", pool.padding)]
    for p in layer.passes:
        needs += [("pass", "kernel_height", p.weight.shape[2]), ("pass", "kernel_width", p.weight.shape[3]),
                  ("pass", "stride", p.stride), ("pass", "padding", p.padding),
                  *(("plane", "shift", plane.shift) for plane in p.planes)]
        if not 1 <= len(p.planes) <= arch.t_max:
            _refuse(layer, "bits of an operand word", len(p.planes), f"1 to {arch.t_max}", arch)
    for record, name, value in needs:
        if not 0 <= value <= widest[record, name]:
            _refuse(layer, name.replace("_", " "), value, f"at most {widest[record, name]}", arch)


def _check_tail(layer: Layer, arch: Arch) -> None:
    """Refuse combinations of pools and stored currents that one layer of the hardware does not do."""
    if layer.or_pool is not None and (layer.neuron is None or layer.max_pool is not None or layer.store_currents
                                      or layer.residual is not None):
        raise ParameterError(f"{_where(layer)}: OR-pool: must follow a neuron on sums alone, not residual or stored "
                             "currents; legal: a layer of its own behind the neuron")
    for what, pool in (("signed max-pool", layer.max_pool), ("sum over a window", layer.sum_pool)):
        if pool is not None and (layer.passes or layer.bias.any() or layer.residual is None
                                 or (layer.max_pool is not None and layer.sum_pool is not None)):
            raise ParameterError(f"{_where(layer)}: {what}: must be alone on stored currents, not with passes or "
                                 "a bias; legal: a layer of its own behind them")
    if layer.sum_pool is not None and not arch.token_sum:
        raise ParameterError(f"{_where(layer)}: sum over a window: preset {arch.name} has none; legal: layers without; "
                             "try: token_sum = true in a preset file")
    for pool in (layer.max_pool, layer.sum_pool, layer.or_pool):
        if pool is not None and not (pool.kernel >= 1 and pool.stride >= 1 and 2 * pool.padding <= pool.kernel):
            raise ParameterError(f"{_where(layer)}: max-pool: must have its padding in half a window, not {pool}; "
                                 "legal: kernel and stride from 1, padding up to kernel / 2")
    if not layer.passes and layer.residual is None and layer.attention is None:
        raise ParameterError(f"{_where(layer)}: sums: must come from passes or stored currents, not from neither")


def _check_neuron(layer: Layer, p: Neuron, arch: Arch) -> None:
    """Refuse a neuron that the build does not have."""
    legal: dict[str, tuple[object, ...]] = {
        "leak": (arch.leak,), "leak_shift": tuple(range(arch.lif.k_max + 1)), "compare": (">=", ">"),
        "reset": ("hard", "soft", "soft_delayed"),
        "decay_input": (False, True) if arch.leak == "2^-k" and p.leak_shift <= 1 else (False,)}
    for name, values in legal.items():
        if getattr(p, name) not in values:
            raise ParameterError(f"{_where(layer)}: neuron: {name} must be one of {', '.join(map(str, values))} with "
                                 f"leak {arch.leak}, not {getattr(p, name)!r}; try: --leak nearest")


def _check_requantise(layer: Layer, p: Requantise, steps: int, arch: Arch) -> None:
    """Refuse a requantiser that the build does not have."""
    if not arch.requantise:
        raise ParameterError(f"{_where(layer)}: requantiser: preset {arch.name} has none; legal: layers with neurons; "
                             "try: --preset loas, or requantise = true in a preset file")
    if layer.neuron is not None or layer.min_spikes != 1:
        raise ParameterError(f"{_where(layer)}: requantiser: stands in place of the neuron and its mask, not beside them")
    if not 0 <= p.step < steps or (p.step and not arch.digit):
        raise ParameterError(f"{_where(layer)}: requantiser: step must be {f'in 0..{steps - 1}' if arch.digit else '0'} on "
                             f"preset {arch.name}, not {p.step}; try: digit = true in a preset file")
    if not 1 <= p.bits <= arch.t_max:
        _refuse(layer, "bits of a requantised word", p.bits, f"1 to {arch.t_max}", arch)
    top = {field.name: (1 << field.width) - 1 for field in SCALE}
    if not (((p.shift >= 1) & (p.shift <= top["shift"])).all() and (p.multiplier >= 0).all()
            and (p.multiplier < np.minimum(top["multiplier"] + 1, 1 << p.shift)).all()):
        raise ParameterError(f"{_where(layer)}: requantiser: multipliers {int(p.multiplier.min())}..{int(p.multiplier.max())} "
                             f"with shifts {int(p.shift.min())}..{int(p.shift.max())} do not fit; legal: shifts "
                             f"1..{top['shift']}, multipliers 0..{top['multiplier']} below 2^shift")


def _check_digit(layer: Layer, p: Digit, steps: int, arch: Arch) -> None:
    """Refuse digits that the build does not have."""
    if not arch.digit:
        raise ParameterError(f"{_where(layer)}: digits: preset {arch.name} makes no words of currents; legal: layers with "
                             "neurons; try: digit = true in a preset file")
    if layer.neuron is not None or layer.requantise is not None or layer.min_spikes != 1:
        raise ParameterError(f"{_where(layer)}: digits: stand in place of neuron, mask and requantiser, not beside them")
    top = next((1 << field.width) - 1 for field in LAYER if field.name == "digit_low")
    if not (0 <= p.low <= top and (p.step is None or 0 <= p.step < steps)):
        raise ParameterError(f"{_where(layer)}: digits: bit {p.low} of step {p.step} does not exist; legal: bits 0..{top}, "
                             f"steps 0..{steps - 1} or None")
    if not 1 <= p.bits * len(p.taken(steps)) <= arch.t_max:
        _refuse(layer, "bits of a word of digits", p.bits * len(p.taken(steps)), f"1 to {arch.t_max}", arch)


def _check_attention(layer: Layer, p: Attention, network: Network, arch: Arch) -> None:
    """Refuse attention that the build does not do."""
    if not arch.attention:
        raise ParameterError(f"{_where(layer)}: attention: preset {arch.name} has none; legal: networks without; "
                             "try: attention = true in a preset file")
    if layer.passes or layer.bias.any() or layer.neuron is None or any(
            (layer.residual, layer.or_pool, layer.store_currents, layer.readout)):
        raise ParameterError(f"{_where(layer)}: attention: must be alone before its neurons, not with passes, a bias, "
                             "residual, OR-pool or stored currents; legal: layers of their own around it")
    width, columns = len(layer.bias), {len(other.bias) for other in network.layers if other.name in p.sources}
    if not columns <= {width} or p.heads < 1 or width % (8 * p.heads):
        raise ParameterError(f"{_where(layer)}: attention: heads must be in parts of whole bytes of {width} channels, not "
                             f"{p.heads} on {sorted(columns)}; legal: widths that are multiples of 8 x heads")
    if p.chunk_steps < 1 or network.steps % p.chunk_steps:
        raise ParameterError(f"{_where(layer)}: attention: chunk_steps must divide T = {network.steps}, not {p.chunk_steps}; "
                             f"legal: {', '.join(str(n) for n in range(1, network.steps + 1) if network.steps % n == 0)}")
    head = width // p.heads
    rows = network.steps // p.chunk_steps * head * -(-head // arch.attention_columns)
    for what, need, most in (("channels of a head", head, arch.chunk_bits), ("rows of products", rows, arch.attention_rows),
                             ("saturation", p.saturation, (1 << arch.attention_bits) - 1)):
        if not 1 <= need <= most:
            _refuse(layer, f"attention: {what}", need, f"1 to {most}", arch)


def _check_ttfs(layer: Layer, p: Ttfs, network: Network, arch: Arch) -> None:
    """Refuse time-to-first-spike neurons that the build does not have, whose drive does not fit, or that race too far.

    The drive ``B - threshold`` bounds the membrane, D in units of the octave: ``|D| <= 2^(P+1) * |drive|`` for any window.
    """
    where = _where(layer)
    if not arch.ttfs:
        raise ParameterError(f"{where}: time-to-first-spike neurons: preset {arch.name} has none; legal: other neurons; "
                             "try: a preset file with ttfs = true and dataflow lockstep")
    if network.steps != 1 or not layer.passes or any(
            (layer.neuron, layer.requantise, layer.digit, layer.or_pool, layer.max_pool, layer.sum_pool)):
        raise ParameterError(f"{where}: time-to-first-spike neurons: must stand alone behind passes of a network of T 1, not "
                             f"T {network.steps} with other neurons or pools; legal: pools as layers of their own")
    for what, value, most in (("window in ticks", p.window, arch.ttfs_slots - 1), ("resolution", p.resolution + 1, 4),
                              ("bits of a spike time", p.bits, min(arch.t_max, arch.ttfs_slots.bit_length() - 1))):
        if not 1 <= value <= most:
            _refuse(layer, what, value, f"1 to {most}", arch)
    if p.threshold.min() < 1:
        raise ParameterError(f"{where}: thresholds: must be at least 1, not {int(p.threshold.min())}")
    weight = np.concatenate([s.weight.astype(np.int64).reshape(len(s.weight), -1) for s in layer.passes], axis=1)
    _check_width(layer, "drives", weight.clip(max=0).sum(1) - p.threshold, weight.clip(min=0).sum(1), bits=arch.acc_bits,
                 arch=arch)
    for sweep in layer.passes:
        source = next((n.ttfs for n in network.layers if n.name == sweep.source), None)
        if source is not None and (1 << source.bits) - 1 > arch.ttfs_slots - 1:
            _refuse(layer, f"bits of the spike times of {sweep.source}", source.bits, "6 or less", arch)
    if layer.readout:
        if layer.residual is not None or layer.bias.any() or layer.store_currents:
            raise ParameterError(f"{where}: race: must be of spike times alone, not with a bias, a residual or stored currents")
        if len(layer.bias) > 1 << LEAD_BITS:
            _refuse(layer, "columns of a race", len(layer.bias), f"at most {1 << LEAD_BITS}", arch)
        if (p.window - 1) >> p.resolution > FRACTION_BITS:
            _refuse(layer, "octaves of a race", (p.window - 1) >> p.resolution, f"at most {FRACTION_BITS}", arch)


def _check_row(layer: Layer, network: Network, arch: Arch) -> None:
    chunks = words = 0
    widths = {word_bits(network.input.plane_bits if p.source.startswith("input.") else len(p.planes))
              for p in layer.passes}
    if len(widths) > 1:
        raise ParameterError(f"{_where(layer)}: passes: must read words of one width, not {sorted(widths)} bits; "
                             f"legal: T whose word is as wide as the input's; try: --T {network.input.plane_bits}")
    for p in layer.passes:
        channels, taps = p.weight.shape[1], int(kept_taps(p.weight, arch.skip_taps).sum())
        chunks += taps * -(-channels // arch.chunk_bits)
        words += taps * channels
    bits = words * max(widths, default=0)
    if chunks > arch.max_chunks:
        _refuse(layer, "chunks of one row", chunks, f"at most {arch.max_chunks}", arch)
    if bits > arch.row_value_bits:
        _refuse(layer, f"bits of one row's {words} words, each stored {max(widths)} bits wide", bits,
                f"at most {arch.row_value_bits}", arch)


def _dot_bounds(p: Pass) -> tuple[Bound, Bound]:
    """Return int64 [N] lowest and highest sums of weights over one bit of the operand words."""
    weight = p.weight.astype(np.int64).reshape(len(p.weight), -1)
    return weight.clip(max=0).sum(1), weight.clip(min=0).sum(1)


def _sum_bounds(layer: Layer, steps: int) -> tuple[Bound, Bound]:
    """Return int64 [T, N] lowest and highest sums over all operand words, or of spike times and scores."""
    if layer.ttfs is not None:
        score = layer.ttfs.window << LEAD_BITS | (1 << LEAD_BITS) - 1
        least, most = (0, score) if layer.readout else (NEVER, layer.ttfs.window)
        return np.full((1, len(layer.bias)), least), np.full((1, len(layer.bias)), most)
    low, high = np.zeros((2, steps, len(layer.bias)), np.int64)
    for p in layer.passes:
        negative, positive = _dot_bounds(p)
        for plane in p.planes:
            ends = (-positive, -negative) if plane.negate else (negative, positive)
            for t in plane.steps:
                low[t] += ends[0] << plane.shift
                high[t] += ends[1] << plane.shift
    return low, high


def current_bounds(layer: Layer, steps: int, before: dict[str, tuple[Bound, Bound]]) -> tuple[Bound, Bound]:
    """Return int64 [T, N] lowest and highest currents of a layer; ``before`` holds those of the layers whose it adds."""
    low, high = _sum_bounds(layer, steps)
    if layer.attention is not None:
        high = high + layer.attention.saturation
    low, high = low + layer.bias, high + layer.bias
    if layer.residual is not None:
        least, most = before[layer.residual]
        low, high = low + (least if layer.ttfs is None else NEVER), high + most
    if layer.sum_pool is not None:
        low, high = (bound * layer.sum_pool.kernel ** 2 for bound in (low.clip(max=0), high.clip(min=0)))
    return low, high


def width_of(low: Bound, high: Bound) -> int:
    """Return the bits of the signed numbers from ``low`` to ``high``."""
    return max(max(int(high.max()), -int(low.min()) - 1).bit_length() + 1, 1)


def membrane_bounds(p: Neuron, low: Bound, high: Bound) -> tuple[Bound, Bound]:
    """Return the lowest and highest value, int64 [N], that ``h`` or any sum inside the neuron step can take.

    low, high : int64 [T, N] bounds of the currents; with ``leak="1-2^-k"`` the bounds are of ``h`` rounded down
    """
    if p.share > 1:
        alone = replace(p, share=1, threshold=p.threshold[: low.shape[1] // p.share])
        least, most = membrane_bounds(alone, visits(low, p.share), visits(high, p.share))
        return np.tile(least, p.share), np.tile(most, p.share)
    k = p.leak_shift
    v_low = v_high = owed = np.zeros_like(p.threshold)
    least, most = np.zeros_like(v_low), np.zeros_like(v_low)
    for lo, hi in zip(low, high, strict=True):
        rounding = (1 << k) - 1
        if p.leak == "1-2^-k":
            a, b = v_low + (-v_low >> k) + lo, v_high - (v_high >> k) + hi + 1
        elif p.decay_input:
            a, b = (v_low + lo) >> k, (v_high + hi + rounding) >> k
            least, most = np.minimum(least, v_low + lo), np.maximum(most, v_high + hi + rounding)
        else:
            a, b = (v_low >> k) + lo, ((v_high + rounding) >> k) + hi
            most = np.maximum(most, v_high + rounding)
        if p.reset == "soft_delayed":
            a, owed = a - owed, p.threshold
        least, most = np.minimum(least, a), np.maximum(most, b)
        if p.reset == "hard":
            v_low, v_high = a.clip(max=0), np.minimum(b, p.threshold).clip(min=0)
        elif p.reset == "soft":
            v_low = np.where(b >= p.threshold, np.minimum(a, np.zeros_like(a)), a)
            v_high = np.maximum(np.minimum(b, p.threshold), b - p.threshold)
        else:
            v_low, v_high = a, b
    return least, most
