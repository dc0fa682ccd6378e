"""Run a captured float network in torch, the reference that lowering is compared with, and the model it comes from.

`compare` runs both side by side. The captured network is fed with the spikes that the model's neurons made, so each
neuron step is judged alone and rounding never spreads from one layer to the next.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from golden.arch import ParameterError
from golden.dynamics import check_share, dynamics
from golden.float_times import float_times
from golden.network import Array
from golden.neuron import joined, visits
from golden.store import TIMES, Captured, Node


@dataclass(frozen=True, kw_only=True)
class FloatTrace:
    """The float network's run on a batch.

    logits : float32 [B, classes], summed over the steps
    spikes : bool [T, B, ...] per neuron node name
    margins : membrane before the reset minus threshold, as spikes; only of a run with given spikes
    peaks : largest output per ReLU node name, largest magnitude per convolution and sum
    times : float32 [B, ...] spike times per node name of neurons that fire once
    """

    logits: Tensor
    spikes: dict[str, Tensor]
    margins: dict[str, Tensor] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    times: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a model is called and what it returns.

    steps : T
    whole : one call runs all steps; else one call is one step
    depth : how often the first item of what forward returns is taken, to reach the output
    summed : the output is a sum over the steps, times ``scale``; else a tensor or list of all steps, or of this step
    states : membranes that forward takes after its input and returns after its output
    """

    steps: int
    whole: bool
    depth: int = 0
    summed: bool = False
    scale: float = 1.0
    states: int = 0


SAME = ("legal: forward only calls supported layers and adds their outputs, and returns the output of every step, or their "
        "sum or mean; neurons start at rest and only they change their membranes; no hook and no class of your own under "
        "a supported name changes a value; try: docs/layers.md, What is checked")


def float_run(captured: Captured, x: Array, steps: int) -> FloatTrace:
    """Run the captured float network in float32 from rest.

    x : [B, C, H, W], shown at every step, or [B, T, C, H, W]
    """
    batch = torch.as_tensor(x)
    frames = batch.movedim(1, 0) if batch.dim() == 5 else batch.expand(steps, *batch.shape)
    return _run(captured, frames.to(torch.float32))


def _run(captured: Captured, frames: Tensor, given: dict[str, list[Tensor]] | None = None) -> FloatTrace:
    """Run ``frames`` [T, B, C, H, W]; neurons send on, and reset by, the spikes of ``given``.

    given : the outputs of each neuron's calls in the model
    """
    values: dict[str, Tensor] = {}
    spikes: dict[str, Tensor] = {}
    margins: dict[str, Tensor] = {}
    peaks: dict[str, float] = {}
    times: dict[str, Tensor] = {}
    for node in captured.nodes:
        operands = [values[name] for name in node.inputs]
        if node.op == "input":
            values[node.name] = frames
        elif node.op == "output":
            return FloatTrace(logits=operands[0].sum(0).flatten(1), spikes=spikes, margins=margins, peaks=peaks, times=times)
        elif node.op == "neuron":
            sent = None if given is None else _sent(node, given[node.name], operands[0])
            fired, margin = _float_neuron(node, operands[0], sent)
            values[node.name], spikes[node.name] = fired if sent is None else sent, fired > 0
            if sent is not None:
                margins[node.name] = margin
        elif node.op == "add":
            values[node.name] = operands[0] + operands[-1]
            peaks[node.name] = float(values[node.name].abs().max())
        elif node.op == "mul":
            values[node.name] = operands[0] * operands[-1]
        elif node.op == "sum":
            values[node.name] = operands[0].sum((-2, -1), keepdim=True)
        elif node.op == "attention":
            query, key, value = operands
            sums = attended(query, key, value, node.args["heads"], node.args["chunk_steps"])
            values[node.name] = sums / node.args["scale"]
        elif node.op == "relu":
            values[node.name] = operands[0].relu()
            peaks[node.name] = float(values[node.name].max())
        elif node.op in TIMES:
            values[node.name] = _times(captured, node, operands)
            if node.op == "ttfs_fire":
                times[node.name] = values[node.name][0]
        elif node.op == "flatten":
            values[node.name] = operands[0].flatten(2)
        else:
            flat = _float_layer(captured, node, operands[0].flatten(0, 1))
            shaped = flat.reshape(*operands[0].shape[:2], *flat.shape[1:])
            if node.op == "conv":
                peaks[node.name] = float(shaped.abs().max())
            values[node.name] = _at_steps(shaped, node.args["steps"]) if "steps" in node.args else shaped
    raise AssertionError("a captured network ends in its output")


def _at_steps(x: Tensor, steps: list[int]) -> Tensor:
    """Return ``x`` [T, ...] with 0 at all steps but ``steps``."""
    kept = torch.zeros_like(x)
    kept[steps] = x[steps]
    return kept


def attended(query: Tensor, key: Tensor, value: Tensor, heads: int, chunk_steps: int) -> Tensor:
    """Return ``Q (K^T V)`` inside chunks of timesteps, [T, B, C, H, W] as its operands (networks 1.2)."""
    steps, batch, channels, height, width = query.shape

    def split(x: Tensor) -> Tensor:
        """Return [chunk, image, head, token of every step, channel]."""
        parts = x.reshape(steps // chunk_steps, chunk_steps, batch, heads, channels // heads, height * width)
        return parts.permute(0, 2, 3, 1, 5, 4).flatten(3, 4)

    out = (split(query) @ (split(key).transpose(-2, -1) @ split(value))).unflatten(3, (chunk_steps, -1))
    joined: Tensor = out.permute(0, 3, 1, 2, 5, 4).reshape(query.shape)
    return joined


def measured(captured: Captured, example: Tensor, steps: int) -> Captured:
    """Return ``captured`` with the largest output of each ReLU and inner convolution on ``example``.

    An inner convolution is one that only convolutions read, or the sum of convolutions of some steps that only convolutions
    read. T is 1 where there are ReLUs and none is known.

    example : [N, C, H, W], shown for ``steps`` steps where there is no ReLU, or [T, N, C, H, W]
    """
    if any(node.op in TIMES for node in captured.nodes):
        return replace(captured, steps=1)
    rectified = any(node.op == "relu" for node in captured.nodes)
    inner = {name for name in _convolutions(captured) if {
        other.op for other in captured.nodes if name in other.inputs} == {"conv"}}
    if not rectified and not inner:
        return captured
    frames = example if example.dim() == 5 else example.expand(1 if rectified else captured.steps or steps, *example.shape)
    with torch.no_grad():
        peaks = _run(captured, frames.to("cpu", torch.float32)).peaks
    nodes = [replace(node, args={**node.args, "peak": peaks[node.name]}) if node.op == "relu" or node.name in inner else node
             for node in captured.nodes]
    return replace(captured, nodes=tuple(nodes), steps=captured.steps or (1 if rectified else None))


def _convolutions(captured: Captured) -> list[str]:
    """Return the names of the convolutions, and of the sums of convolutions of some steps."""
    names: list[str] = []
    some: set[str] = set()
    for node in captured.nodes:
        if "steps" in node.args or (node.op == "add" and some.issuperset(node.inputs)):
            some.add(node.name)
        if node.op == "conv" or node.name in some:
            names.append(node.name)
    return names


def _sent(node: Node, spikes: list[Tensor], currents: Tensor) -> Tensor:
    """Return the spikes that the model's neuron made in its calls (one, or one per step or group of it) as [T, B, ...]."""
    share = node.args.get("share", 1)
    if share == 1 and [part.shape for part in spikes] == [currents.shape]:
        return spikes[0].to(currents.dtype)
    check_share(node, currents.shape[2])
    shapes, wanted = [list(part.shape) for part in spikes], [list(part.shape) for part in visits(currents, share, 2)]
    if shapes != wanted:
        shown = f"{len(shapes)} outputs {shapes[0]}" if shapes else "no output"
        raise ParameterError(f"{node.path}: {node.args['class']}: makes {shown} in the model, not {len(wanted)} "
                             f"{wanted[0]}; {SAME}")
    return torch.asarray(joined(torch.stack(spikes), share, 2)).to(currents.dtype)


def _times(captured: Captured, node: Node, operands: list[Tensor]) -> Tensor:
    """Return the spike times of an operation [T, B, ...]; every step is a run of its own."""
    flat = float_times(captured, node, [operand.flatten(0, 1).numpy() for operand in operands])
    return torch.as_tensor(flat, dtype=torch.float32).reshape(*operands[0].shape[:2], *flat.shape[1:])


def _float_layer(captured: Captured, node: Node, x: Tensor) -> Tensor:
    arrays = {role: captured.tensor(node, role) for role in ("weight", "bias", "mean", "var")}
    tensors = {role: torch.as_tensor(a, dtype=torch.float32) for role, a in arrays.items() if a is not None}
    bias, p = tensors.get("bias"), node.args
    if node.op == "conv":
        return F.conv2d(x, tensors["weight"], bias, p["stride"], p["padding"], p["dilation"], p["groups"])
    if node.op == "linear":
        return F.linear(x, tensors["weight"], bias)
    if node.op == "batchnorm":
        return F.batch_norm(x, tensors["mean"], tensors["var"], tensors.get("weight"), bias, eps=p["eps"])
    if node.op == "maxpool":
        return F.max_pool2d(x, p["kernel"], p["stride"], p["padding"])
    if node.op == "adaptive_avgpool":
        return F.adaptive_avg_pool2d(x, p["output"])
    return F.avg_pool2d(x, p["kernel"], p["stride"], p["padding"])


def _float_neuron(node: Node, x: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return what fires and the membrane minus the threshold; resets follow ``given`` if there is one."""
    found = dynamics(node)
    check_share(node, x.shape[2])
    x, given = visits(x, found.share, 2), None if given is None else visits(given, found.share, 2)
    v, owed, fired, margins = torch.zeros_like(x[0]), torch.zeros_like(x[0]), [], []
    for step, current in enumerate(x):
        h = found.decay * v + found.gain * current - owed
        fire = h > found.threshold if found.compare == ">" else h >= found.threshold
        fired.append(fire.to(x.dtype))
        margins.append(h - found.threshold)
        fire = fire if given is None else given[step] > 0
        if found.reset == "hard":
            v = torch.where(fire, 0.0, h)
        elif found.reset == "soft":
            v = torch.where(fire, h - found.threshold, h)
        else:
            v, owed = h, torch.where(fire, found.threshold, 0.0)
    return joined(torch.stack(fired), found.share, 2), joined(torch.stack(margins), found.share, 2)


def compare(model: nn.Module, captured: Captured, example: Tensor, protocol: Protocol) -> None:
    """Run ``model`` from rest on a few inputs; refuse it if it is not what ``captured`` says.

    example : as the model takes it; its first two images and random ones of its shape and size are run
    Every spike must agree, except where the captured membrane is as near to its threshold as the model's precision
    reaches (`_nearness` of the threshold, or of the layer's largest distance from it); outputs agree to the same precision.
    The model is left with other neuron states, in whatever mode it was.
    Raises `ParameterError` naming the first neuron layer that differs, or the output.
    """
    near = _nearness(model)
    recorded: dict[str, list[Tensor]] = {}
    hooks = [model.get_submodule(node.path).register_forward_hook(_recorder(recorded.setdefault(node.name, [])))
             for node in captured.nodes if node.op == "neuron"]
    try:
        with torch.no_grad():
            for x in _inputs(model, example):
                for spikes in recorded.values():
                    spikes.clear()
                output = _model_run(model, x, protocol)
                frames = x.expand(protocol.steps, *x.shape) if x.dim() == 4 else x
                trace = _run(captured, frames.to("cpu", torch.float32), recorded)
                _judge(captured, trace, recorded, near)
                _judge_output(output, protocol.scale * trace.logits, near)
    finally:
        for hook in hooks:
            hook.remove()


def _nearness(model: nn.Module) -> float:
    """Return how far rounding reaches, relative to the largest value: 1e-3 where TF32 may be in place of float32."""
    return max(1e-3, 16 * torch.finfo(_first(model).dtype).eps)


def _first(model: nn.Module) -> Tensor:
    """Return a tensor of the model's precision and device."""
    tensors = chain(model.parameters(), model.buffers())
    return next((tensor for tensor in tensors if tensor.is_floating_point()), torch.zeros(0))


def _inputs(model: nn.Module, example: Tensor) -> Iterator[Tensor]:
    """Return the example and two random inputs, one of them strong, so that deep layers fire too."""
    like = _first(model)
    shown = example[:2] if example.dim() == 4 else example[:, :2]
    size = float(shown.abs().max()) or 1.0
    generator = torch.Generator().manual_seed(0)
    yield shown.to(like)
    yield (size * torch.rand(shown.shape, generator=generator)).to(like)
    yield (4 * size * torch.randn(shown.shape, generator=generator)).to(like)


def _recorder(spikes: list[Tensor]) -> Any:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        spikes.append((output[0] if isinstance(output, tuple) else output).to("cpu", copy=True))

    return hook


def _model_run(model: nn.Module, x: Tensor, protocol: Protocol) -> Tensor:
    """Return the model's output summed over the steps (times ``protocol.scale``), float32 [B, ...]."""
    outputs: list[Tensor] = []
    states: list[Any] = [torch.zeros(0).to(x) for _ in range(protocol.states)]
    try:
        for module in model.modules():
            for name in ("reset", "reset_mem"):
                reset = getattr(module, name, None)
                if callable(reset) and not inspect.signature(reset).parameters:
                    reset()
        for _ in range(1 if protocol.whole else protocol.steps):
            output: Any = model(x, *states)
            rest: list[Any] = []
            for _ in range(protocol.depth):
                output, rest = output[0], [*_leaves(output[1:]), *rest]
            if protocol.states:
                states = rest
            if isinstance(output, (list, tuple)):
                output = torch.stack(tuple(output))
            outputs.append(output.to("cpu", torch.float32))
        total = torch.stack(outputs).sum(0)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ParameterError(f"capture: {type(model).__name__} cannot be run on inputs {list(x.shape)} ({reason}); "
                             "legal: an example that it takes with one or two images, membranes returned in the order in "
                             "which they are taken; try: model(example)") from error
    return total.sum(0) if protocol.whole and not protocol.summed else total


def _leaves(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, (list, tuple)) else [value]


def _judge(captured: Captured, trace: FloatTrace, given: dict[str, list[Tensor]], near: float) -> None:
    for node in captured.nodes:
        if node.op == "neuron":
            margin = trace.margins[node.name].abs()
            sent = _sent(node, given[node.name], margin)
            tie = margin <= near * max(float(margin.max()), dynamics(node).threshold)
            wrong = (sent != trace.spikes[node.name]) & ~tie
            if wrong.any():
                raise ParameterError(f"{node.path}: {node.args['class']}: the model's spikes are not those of the captured "
                                     f"network in {int(wrong.sum())} of {wrong.numel()} neuron steps, first at step "
                                     f"{int(wrong.nonzero()[0, 0])}; {SAME}")


def _judge_output(output: Tensor, expected: Tensor, near: float) -> None:
    if output.dim() < 2 or output.flatten(1).shape != expected.shape:
        raise ParameterError(f"output: the model returns {list(output.shape)}, not {list(expected.shape)} "
                             f"(images, classes); {SAME}")
    difference = float((output.flatten(1) - expected).abs().max())
    if not difference <= near * float(expected.abs().max()):
        raise ParameterError(f"output: the model's is up to {difference:g} away from the captured network's sum over all "
                             f"steps, not at most {near:g} of its largest value; {SAME}")
