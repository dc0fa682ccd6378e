"""Lower a captured float network to an integer network: the only lossy step.

BatchNorm folds into weights, weight scales fold into integer thresholds, average pooling into kernels. `golden.draft`
writes the layers, `golden.quantise` rounds them, `golden.limits` proves for all inputs that they fit the build.
"""

import math

from array_api_compat import array_namespace

from golden.arch import Arch, ParameterError
from golden.draft import draft_layers
from golden.limits import check
from golden.lower_times import has_times, lower_times
from golden.network import Array, Input, Network
from golden.quantise import quantise
from golden.store import Captured


def lower(captured: Captured, steps: int, arch: Arch, *, name: str, input_kind: str = "static", input_bits: int = 8,
          input_scale: float | None = None, leak_nearest: bool = False,
          calibration: Array | None = None) -> Network:
    """Return the integer network of ``captured`` for the build ``arch``, in numpy arrays.

    steps : timesteps T, at most ``arch.t_max``
    input_kind, input_bits : see `golden.network.Input`
    input_scale : real value of one integer step of the input; None takes it from ``calibration`` (any real input),
        so that its largest magnitude is the largest integer
    leak_nearest : replace a leak that does not exist by the nearest that does, instead of refusing
    Raises `ParameterError` naming the layer, the need and the limit.
    """
    if not 1 <= steps <= arch.t_max:
        raise ParameterError(f"T: must be in 1..{arch.t_max} for preset {arch.name}, not {steps}; "
                             f"try: --T {arch.t_max}")
    for node in captured.nodes:
        if node.args.get("of", steps) != steps or max(node.args.get("steps", [0]), default=0) >= steps:
            raise ParameterError(f"{node.path or node.name}: T: must be {node.args.get('of', steps)}, the steps that it has "
                                 f"kernels for, not {steps}; try: --T {node.args.get('of', steps)}")
    spec = _input_spec(captured, steps, arch, kind=input_kind, bits=input_bits, scale=input_scale,
                       calibration=calibration)
    if has_times(captured):
        if steps != 1:
            raise ParameterError(f"T: must be 1 for a network of spike times, which has one word for all ticks, not {steps}; "
                                 "try: --T 1")
        network = lower_times(captured, spec, arch, name)
        check(network, arch)
        return network
    drafts = draft_layers(captured, arch, leak_nearest=leak_nearest)
    if steps > 1 and any(draft.rectifier is not None for draft in drafts):
        raise ParameterError(f"T: must be 1 for a network with ReLU, which has no time, not {steps}; try: --T 1")
    network = quantise(name, drafts, spec, steps, arch)
    check(network, arch)
    return network


def quantise_input(x: Array, spec: Input) -> Array:
    """Return int64 ``floor(x / scale + 1/2)`` clipped to the signed range of ``spec.bits`` (0..1 for one bit)."""
    low, high = (0, 1) if spec.bits == 1 else (-(1 << (spec.bits - 1)), (1 << (spec.bits - 1)) - 1)
    xp = array_namespace(x)
    rounded = xp.floor(xp.astype(x, xp.float64) / spec.scale + 0.5)
    return xp.astype(xp.clip(rounded, low, high), xp.int64)


def _input_spec(captured: Captured, steps: int, arch: Arch, *, kind: str, bits: int, scale: float | None,
                calibration: Array | None) -> Input:
    if kind not in ("static", "steps"):
        raise ParameterError(f"input: kind must be static or steps, not {kind!r}")
    if not 1 <= bits <= 16 or (bits == 1 and kind == "static"):
        raise ParameterError(f"input: bits must be in {1 if kind == 'steps' else 2}..16, not {bits}")
    if scale is None:
        if bits == 1:
            scale = 1.0
        elif calibration is None:
            raise ParameterError("input: scale is not known; legal: a scale, or example inputs to take it from; "
                                 "try: --data x.npz")
        else:
            scale = float(abs(calibration).max()) / ((1 << (bits - 1)) - 1) or 1.0
    if not (math.isfinite(scale) and scale > 0):
        raise ParameterError(f"input: scale must be finite and above 0, not {scale}")
    channels, height, width = captured.example_shape
    plane_bits = steps if kind == "steps" and bits == 1 else min(arch.t_max, max(steps, 4))
    return Input(kind=kind, channels=channels, height=height, width=width, bits=bits, scale=scale,
                 plane_bits=plane_bits)
