"""What capture knows of torch modules: supported layers and neurons, their limits, and what each one becomes."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from golden.arch import ParameterError

LAYERS = {
    "Conv2d": "square stride and padding, zero padding mode; dilation and groups are expanded into zeros",
    "StepConv2d": "`spikeloom`'s own (`models/ttsnn.py`): Conv2d modules `convs`, of which step t takes "
                  "`convs[kernel_of_step[t]]`; T must be the length of `kernel_of_step`",
    "Linear": "after Flatten or Linear; becomes a convolution whose kernel is the map; two without a neuron between them are "
              "multiplied before quantisation",
    "BatchNorm2d": "evaluation mode with running statistics, after a convolution or on spikes; folded into weights",
    "MaxPool2d": "square, no dilation, no ceil_mode; OR of spikes, or signed maximum of currents before a neuron",
    "AvgPool2d": "square, stride equal to kernel, no padding, no ceil_mode; folded into the weights beside it, or the sum of "
                 "currents of a residual stream where the build has `token_sum`",
    "ReLU": "module, `torch.relu`, `F.relu`, `Tensor.relu`, for T = 1: 8-bit values, 0 to the largest one on the example",
    "AdaptiveAvgPool2d": "output of one size both ways that divides a square map; becomes AvgPool2d",
    "Flatten": "module, `torch.flatten`, `Tensor.flatten`, `Tensor.view(n, -1)`; all dimensions but the batch",
    "add": "`+`, `torch.add`, `Tensor.add` of two tensors of one shape: spikes, convolution outputs, residual streams",
    "mul": "`*`, `torch.mul` of two tensors of spikes, each of one layer: AND; one of them may be a single pixel for the whole "
           "of a square map",
    "sum": "`Tensor.sum((-2, -1), keepdim=True)` of spikes over the whole map; before a neuron that fires on one spike, with a "
           "hard reset, it is an OR-pool",
    "chunk": "`x.chunk(S, 1)` or `x.split(size, 1)` into S = 2 or 4 groups of channels; in every step the same neurons take "
             "group 0, then 1, and so on, and `torch.cat` joins their spikes along dimension 1: channels share membranes, "
             "which `--top imc` runs",
    "SpatialTemporalAttention": "STAtten: spikes `(query, key, value)` [T, N, C, H, W] of one shape, `heads`, `chunk_steps`, "
                                "`scale`; before neurons with a hard reset whose threshold x scale is a whole number",
    "Identity": "removed",
    "Dropout": "removed (as in evaluation mode); also Dropout2d",
}
TIMES = {
    "TtfsEncode": "first layer: `conv` (no bias), `norm`, square `pool`; ReLU's value is a spike time, on ticks",
    "TtfsTimes": "first layer: the input is spike times, which it rounds to ticks",
    "TtfsConv2d": "neurons that fire once, threshold 1, no bias; `window`, `resolution`; also a kernel as large as the map; "
                  "`exact` only in front of TtfsRace, where larger membranes win the ties of the ticks",
    "TtfsMinPool2d": "earliest spike of a square window",
    "TtfsDelay": "`delay` per channel, above 0, below the window",
    "TtfsAdd": "the times of a TtfsConv2d that nothing else reads, and of another tensor",
    "TtfsConcat": "channels of two tensors of one window",
    "TtfsRace": "end of the network: the first spike of its TtfsConv2d wins",
}
NEURONS = {
    "IFNode": "SpikingJelly: `v_threshold`, `v_reset` (a number: hard, None: soft), `step_mode` `s` or `m`",
    "LIFNode": "SpikingJelly: as IFNode, with `tau` and `decay_input`",
    "Leaky": "snnTorch: `beta` (one number), `threshold`, `reset_mechanism` `subtract` (with `reset_delay=True`) "
             "or `zero`, `init_hidden`, `output`",
}
SUPPORTED = ", ".join([*LAYERS, *NEURONS, *TIMES])
CHECKED = """After the trace, capture runs the model itself from rest (`reset()` of its modules, evaluation mode) and compares
every spike of every neuron layer, and the output, with the captured network: on the example's first two images and on
random images of its shape and size. A model called once per step is called for 4 steps; one that loops inside `forward`, or
takes `[T, N, C, H, W]`, runs its own. The model, its neurons' states and the random generators stay as they were.

It is refused if a spike differs, unless the membrane is as near to its threshold as rounding reaches (a thousandth of the
threshold, or of the layer's largest distance from it; 1.6 % for float16, 12.5 % for bfloat16), or if the output differs by
more than that. Later layers are fed with the model's own spikes, so one such spike excuses no other. These are refused, not
captured as something else: hooks that change a value, membranes that start elsewhere than at rest or are changed outside
their neuron, spikes used a step later, sums over some of the steps or over the batch, classes of your own under a
supported name.

Weights are read as the next call of the model would use them: pruned by `torch.nn.utils.prune`, normalised by
`weight_norm` or `spectral_norm`, or parametrized.

The whole example is the calibration set of a network with ReLU: each one's largest output there is the largest value that
its 8 bits hold, so give `capture` images of the training data. Such a network has no time; its file says T = 1.

A model that runs all its steps in one call gives its number of steps to the file; `simulate` and `compile` take it unless
`--T`, or data with another number of frames, says otherwise."""


Description = tuple[str, dict[str, Any], dict[str, Tensor | None]]


def kind_of(module: nn.Module) -> str:
    """Return the name of the module's class, as it was before a parametrization."""
    name: str = parametrize.type_before_parametrizations(module).__name__
    return name


def unsupported(path: str, module: nn.Module, what: str) -> ParameterError:
    """Return the error of a module that cannot be captured."""
    shown = module.extra_repr()
    return ParameterError(f"{path}: {type(module).__name__}({shown}): {what}; legal: {SUPPORTED}; "
                          "try: docs/layers.md for the limits of each")


def _conv(path: str, module: Any) -> Description:
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        raise unsupported(path, module, "padding must be numbers, with zeros")
    if module.stride[0] != module.stride[1] or module.padding[0] != module.padding[1]:
        raise unsupported(path, module, "stride and padding must be the same both ways")
    args = {"stride": module.stride[0], "padding": module.padding[0], "dilation": list(module.dilation),
            "groups": module.groups}
    return "conv", args, {"weight": module.weight, "bias": module.bias}


def _linear(path: str, module: Any) -> Description:
    return "linear", {}, {"weight": module.weight, "bias": module.bias}


def _batchnorm(path: str, module: Any) -> Description:
    if module.running_mean is None:
        raise unsupported(path, module, "it has no running statistics")
    return "batchnorm", {"eps": module.eps}, {"weight": module.weight, "bias": module.bias,
                                              "mean": module.running_mean, "var": module.running_var}


def _window(path: str, module: Any) -> dict[str, Any]:
    window = {}
    for key, value in (("kernel", module.kernel_size), ("stride", module.stride), ("padding", module.padding)):
        both = (value, value) if isinstance(value, int) else tuple(value)
        if both[0] != both[1]:
            raise unsupported(path, module, f"{key} must be the same both ways")
        window[key] = both[0]
    if module.ceil_mode:
        raise unsupported(path, module, "ceil_mode must be False")
    return window


def _maxpool(path: str, module: Any) -> Description:
    if module.dilation not in (1, (1, 1)) or module.return_indices:
        raise unsupported(path, module, "dilation must be 1 and return_indices False")
    return "maxpool", _window(path, module), {}


def _avgpool(path: str, module: Any) -> Description:
    window = _window(path, module)
    if window["kernel"] != window["stride"] or window["padding"] or module.divisor_override is not None:
        raise unsupported(path, module, "stride must be the kernel, padding 0, no divisor_override")
    return "avgpool", window, {}


def _adaptive_avgpool(path: str, module: Any) -> Description:
    size = module.output_size
    both = (size, size) if isinstance(size, int) else tuple(size)
    if both[0] != both[1] or both[0] is None:
        raise unsupported(path, module, "output_size must be one number, the same both ways")
    return "adaptive_avgpool", {"output": both[0]}, {}


def _flatten(path: str, module: Any) -> Description:
    if module.start_dim not in (1, 2) or module.end_dim != -1:
        raise unsupported(path, module, "it must flatten everything but the batch")
    return "flatten", {}, {}


def _attention(path: str, module: Any) -> Description:
    return "attention", {"heads": int(module.heads), "chunk_steps": int(module.chunk_steps), "scale": float(module.scale)}, {}


def _relu(path: str, module: Any) -> Description:
    return "relu", {}, {}


def _number(path: str, module: nn.Module, name: str) -> float:
    value = getattr(module, name)
    tensor = torch.as_tensor(value, dtype=torch.float64)
    if tensor.numel() != 1:
        raise unsupported(path, module, f"{name} must be one number, not {tensor.numel()}")
    return float(tensor)


def neuron_args(path: str, module: Any) -> dict[str, Any]:
    """Return class and parameters of a supported neuron, as `golden.store` holds them."""
    kind = type(module).__name__
    if kind == "Leaky":
        for name in ("inhibition", "state_quant"):
            if getattr(module, name, False):
                raise unsupported(path, module, f"{name} is not supported")
        if _number(path, module, "graded_spikes_factor") != 1:
            raise unsupported(path, module, "graded_spikes_factor must be 1")
        return {"class": kind, "beta": min(max(_number(path, module, "beta"), 0.0), 1.0),
                "threshold": _number(path, module, "threshold"), "reset_mechanism": str(module.reset_mechanism),
                "reset_delay": bool(module.reset_delay)}
    args: dict[str, Any] = {"class": kind, "v_threshold": _number(path, module, "v_threshold"),
                            "v_reset": None if module.v_reset is None else _number(path, module, "v_reset"),
                            "step_mode": str(module.step_mode)}
    if kind == "LIFNode":
        args |= {"tau": _number(path, module, "tau"), "decay_input": bool(module.decay_input)}
    return args


def _ticks(module: Any) -> dict[str, Any]:
    return {"window": int(module.window), "resolution": int(module.resolution)}


def _encode(path: str, module: Any) -> Description:
    _, args, tensors = _conv(path, module.conv)
    weight, norm = tensors["weight"], module.norm
    plain = (args["stride"], args["groups"], args["dilation"]) == (1, 1, [1, 1])
    if not plain or tensors["bias"] is not None or weight is None:
        raise unsupported(path, module, "its convolution must have stride 1, one group, no dilation and no bias")
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return "ttfs_encode", {**_ticks(module), "padding": args["padding"], "pool": int(module.pool)}, {
        "weight": weight * gain[:, None, None, None], "bias": norm.bias - norm.running_mean * gain}


def _fire(path: str, module: Any) -> Description:
    args = {"stride": int(module.stride), "padding": int(module.padding), "exact": bool(module.exact)}
    return "ttfs_fire", {**_ticks(module), **args}, {"weight": module.weight}


def _earliest(path: str, module: Any) -> Description:
    return "ttfs_earliest", {"kernel": int(module.kernel_size), "stride": int(module.stride),
                             "padding": int(module.padding)}, {}


def _delay(path: str, module: Any) -> Description:
    return "ttfs_delay", _ticks(module), {"bias": module.delay}


def _add_times(path: str, module: Any) -> Description:
    return "ttfs_add", {"windows": list(module.windows), "resolution": int(module.resolution)}, {}


DESCRIBE = {"TtfsEncode": _encode, "TtfsTimes": lambda path, module: ("ttfs_times", _ticks(module), {}),
            "TtfsConv2d": _fire, "TtfsMinPool2d": _earliest, "TtfsDelay": _delay, "TtfsAdd": _add_times,
            "TtfsConcat": lambda path, module: ("ttfs_concat", {}, {}), "TtfsRace": lambda path, module: ("ttfs_race", {}, {}),
            "Conv2d": _conv, "Linear": _linear, "BatchNorm2d": _batchnorm, "MaxPool2d": _maxpool, "AvgPool2d": _avgpool,
            "AdaptiveAvgPool2d": _adaptive_avgpool, "Flatten": _flatten, "ReLU": _relu,
            "SpatialTemporalAttention": _attention}


def describe_steps(path: str, module: Any) -> list[Description]:
    """Return a convolution for each kernel of a `StepConv2d`, with ``steps`` that it is for ``of`` how many."""
    chosen, out = [int(kernel) for kernel in module.kernel_of_step], []
    if not chosen or {*chosen} != {*range(len(module.convs))}:
        raise unsupported(path, module, f"kernel_of_step must name each of its {len(module.convs)} kernels, not {chosen}")
    for number, conv in enumerate(module.convs):
        op, args, tensors = _conv(f"{path}.convs.{number}", conv)
        steps = [t for t, kernel in enumerate(chosen) if kernel == number]
        out.append((op, {**args, "steps": steps, "of": len(chosen)}, tensors))
    return out


def describe(path: str, module: nn.Module) -> Description:
    """Return operation, arguments and tensors of a layer; raise `ParameterError` when it is not supported.

    Raises AttributeError or TypeError for a class that has a supported name and lacks what its library gives it.
    """
    kind = kind_of(module)
    if kind not in DESCRIBE:
        raise unsupported(path, module, "its type is not supported")
    return DESCRIBE[kind](path, module)


def layers_markdown() -> str:
    """Return the text of ``docs/layers.md``."""
    lines = ["# Supported layers", "", "Generated from `golden/layers.py`; a test keeps it up to date.", "",
             "| layer | limits |", "|---|---|"]
    lines += [f"| {name} | {limits} |" for name, limits in LAYERS.items()]
    lines += ["", "# Layers of spike times", "", "Classes by these names with the attributes of `models/ttfs.py`; T is 1.", "",
              "| class | what it is |", "|---|---|"]
    lines += [f"| {name} | {limits} |" for name, limits in TIMES.items()]
    lines += ["", "# Supported neurons", "", "| class | parameters |", "|---|---|"]
    lines += [f"| {name} | {limits} |" for name, limits in NEURONS.items()]
    return "\n".join([*lines, "", "# What is checked", "", CHECKED]) + "\n"
