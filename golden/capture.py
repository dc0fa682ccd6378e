"""Capture a trained torch network: trace it with torch.fx, write graph and tensors to one file.

Recognises neurons of SpikingJelly and snnTorch by class name and imports neither. A loop over timesteps inside
``forward`` is folded: calls of one module on the same input at different steps become one node.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from golden.arch import ParameterError
from golden.network import Array
from golden.store import Captured, Node, load, save

__all__ = ["capture", "layers_markdown", "load", "trace"]

LAYERS = {
    "Conv2d": "square stride and padding, zero padding mode; dilation and groups are expanded into zeros",
    "Linear": "after Flatten or Linear; becomes a convolution whose kernel is the map",
    "BatchNorm2d": "evaluation mode with running statistics, after a convolution or on spikes; folded into weights",
    "MaxPool2d": "square, no dilation, no ceil_mode; OR of spikes, or signed maximum of currents before a neuron",
    "AvgPool2d": "square, stride equal to kernel, no padding, no ceil_mode; folded into the weights beside it",
    "Flatten": "module, `torch.flatten`, `Tensor.flatten`, `Tensor.view(n, -1)`; all dimensions but the batch",
    "add": "`+`, `torch.add`, `Tensor.add` of two tensors of one shape: spikes, convolution outputs, residual streams",
    "Identity": "removed",
    "Dropout": "removed (as in evaluation mode); also Dropout2d",
}
NEURONS = {
    "IFNode": "SpikingJelly: `v_threshold`, `v_reset` (a number: hard, None: soft), `step_mode` `s` or `m`",
    "LIFNode": "SpikingJelly: as IFNode, with `tau` and `decay_input`",
    "Leaky": "snnTorch: `beta` (one number), `threshold`, `reset_mechanism` `subtract` (with `reset_delay=True`) "
             "or `zero`, `init_hidden`, `output`",
}
CONTAINERS = ("SeqToANNContainer", "MultiStepContainer")
LIBRARIES = ("spikingjelly", "snntorch", "norse")
SUPPORTED = ", ".join([*LAYERS, *NEURONS])


@dataclass(frozen=True)
class _Value:
    """A captured node's output inside the trace: at which unrolled step, and whether it was summed over steps."""

    name: str
    step: int | None = None
    reduced: bool = False


class _State:
    """A membrane: passed around by the user's code, never data."""


class _Size:
    """A shape or size, legal only as the argument of a flattening view."""


def capture(model: nn.Module, example: Tensor, path: str | Path) -> Captured:
    """Write ``model`` as a captured network to ``path`` and return it.

    example : [N, C, H, W], or [T, N, C, H, W] for a model that takes all steps at once; only its shape is used
    Raises `ParameterError` naming the module path, type and arguments of whatever is not supported.
    """
    captured = trace(model, example)
    save(captured, path)
    return captured


def trace(model: nn.Module, example: Tensor) -> Captured:
    """Return ``model`` as a captured network, without writing a file."""
    if example.dim() not in (4, 5):
        raise ParameterError(f"example: must be [N, C, H, W] or [T, N, C, H, W], not shape {list(example.shape)}")
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        tracer = _Tracer()
        optional = {name: p.default for name, p in inspect.signature(model.forward).parameters.items()
                    if p.default is not inspect.Parameter.empty}
        try:
            graph = tracer.trace(model, optional)
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ParameterError(
                f"capture: torch.fx cannot trace {type(model).__name__}.forward ({reason}); legal: module calls, "
                f"loops of fixed length and {SUPPORTED}; try: move data-dependent code out of forward") from error
        return _Folder(model, tuple(example.shape[-3:])).fold(graph)
    finally:
        for module, training in modes.items():
            module.training = training


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        kind = type(m).__name__
        return (kind in NEURONS or (kind in LAYERS and not isinstance(m, nn.Sequential))
                or type(m).__module__.split(".")[0] in LIBRARIES
                or super().is_leaf_module(m, module_qualified_name))

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...],
                    kwargs: dict[str, Any]) -> Any:
        if type(m).__name__ in CONTAINERS:
            value = args[0]
            for child in m.children():
                value = child(value)
            return value
        return super().call_module(m, forward, args, kwargs)


class _Folder:
    """Turns an fx graph into nodes, one per distinct (operation, inputs)."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        self.model, self.shape = model, shape
        self.nodes: list[Node] = []
        self.tensors: dict[str, Array] = {}
        self.known: dict[tuple[Any, ...], str] = {}
        self.calls: dict[str, int] = {}

    def fold(self, graph: fx.Graph) -> Captured:
        values: dict[fx.Node, Any] = {}

        def value(argument: Any) -> Any:
            if isinstance(argument, fx.Node):
                return values[argument]
            if isinstance(argument, (list, tuple)):
                return [value(item) for item in argument]
            return argument

        for node in graph.nodes:
            args = [value(a) for a in node.args]
            kwargs = {k: value(a) for k, a in node.kwargs.items()}
            if node.op == "placeholder":
                first = not self.nodes
                values[node] = self._emit("input", "input", []) if first else _State()
            elif node.op == "get_attr":
                values[node] = _State()
            elif node.op == "output":
                self._output(args[0])
            elif node.op == "call_module":
                values[node] = self._module(str(node.target), args + list(kwargs.values()))
            else:
                values[node] = self._function(node, args, kwargs)
        channels, height, width = self.shape
        return Captured(nodes=tuple(self.nodes), tensors=self.tensors, example_shape=(channels, height, width))

    def _emit(self, op: str, name: str, inputs: list[_Value], path: str = "", *, args: dict[str, Any] | None = None,
              tensors: dict[str, Tensor | None] | None = None, step: int | None = None) -> _Value:
        steps = {v.step for v in inputs if v.step is not None}
        if len(steps) > 1:
            raise ParameterError(f"{path or name}: {op} mixes timesteps {sorted(steps)}; legal: operands of one step")
        if any(v.reduced for v in inputs):
            raise ParameterError(f"{path or name}: {op} after a sum or mean over timesteps; legal: the end of forward")
        step = step if step is not None else next(iter(steps), None)
        names = tuple(v.name for v in inputs)
        key = (op, names, path, repr(args))
        if key not in self.known:
            unique = self._unique(name)
            self.known[key] = unique
            self.nodes.append(Node(name=unique, op=op, inputs=names, path=path, args=args or {}))
            present = {r: t for r, t in (tensors or {}).items() if t is not None}
            self.tensors.update({f"{unique}.{role}": _array(t) for role, t in present.items()})
        return _Value(self.known[key], step)

    def _unique(self, name: str) -> str:
        base = re.sub(r"\W", "_", name)
        base = f"layer{base}" if base[:1].isdigit() else base
        taken = {node.name for node in self.nodes}
        return next(n for n in [base, *(f"{base}_{i}" for i in range(1, len(taken) + 2))] if n not in taken)

    def _module(self, path: str, args: list[Any]) -> Any:
        module = self.model.get_submodule(path)
        kind = type(module).__name__
        data = args[0] if args else None
        if not isinstance(data, _Value):
            raise _unsupported(path, module, "its first argument is not a tensor of the network")
        if kind in ("Identity", "Dropout", "Dropout2d"):
            return data
        if kind in NEURONS:
            return self._neuron(path, module, data)
        describe = {"Conv2d": _conv, "Linear": _linear, "BatchNorm2d": _batchnorm, "MaxPool2d": _maxpool,
                    "AvgPool2d": _avgpool, "Flatten": _flatten}.get(kind)
        if describe is None:
            raise _unsupported(path, module, "its type is not supported")
        op, arguments, tensors = describe(path, module)
        return self._emit(op, path, [data], path, args=arguments, tensors=tensors)

    def _neuron(self, path: str, module: nn.Module, data: _Value) -> Any:
        arguments = _neuron_args(path, module)
        step = self.calls.get(path, 0)
        self.calls[path] = step + 1
        value = self._emit("neuron", path, [data], path, args=arguments,
                           step=data.step if data.step is not None else step)
        owners = [node for node in self.nodes if node.op == "neuron" and node.path == path]
        if len(owners) > 1:
            raise _unsupported(path, module, f"called on {len(owners)} different inputs, which would share a membrane")
        pair = arguments["class"] == "Leaky" and (not getattr(module, "init_hidden", False)
                                                  or bool(getattr(module, "output", False)))
        return [value, _State()] if pair else value

    def _function(self, node: fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        arguments = args + list(kwargs.values())
        if name in ("getattr", "size", "dim"):
            return _Size()
        if name == "getitem" and isinstance(args[0], _Size):
            return _Size()
        if name == "getitem" and isinstance(args[0], list) and isinstance(args[1], int):
            return args[0][args[1]]
        if name == "getitem" and args[0] == _Value("input") and isinstance(args[1], int):
            return _Value("input", args[1])
        if name in ("add", "iadd", "add_"):
            return self._add(arguments, node)
        elif name == "stack" and isinstance(args[0], list):
            return args[0]
        elif name in ("sum", "mean") and arguments[1:] == [0]:
            return self._reduce(args[0], node)
        elif name in ("truediv", "div") and isinstance(args[0], _Value) and args[0].reduced:
            return args[0]
        elif name == "flatten" and arguments[1:] in ([1], [2], [1, -1], [2, -1]):
            return self._emit("flatten", "flatten", [args[0]])
        if name in ("view", "reshape") and isinstance(args[0], _Value) and arguments[2:] == [-1]:
            return self._emit("flatten", "flatten", [args[0]])
        if name in ("contiguous", "detach") and isinstance(args[0], (_Value, _State)):
            return args[0]
        shown = ", ".join("tensor" if isinstance(a, (_Value, _State)) else repr(a) for a in arguments)
        raise ParameterError(f"{node.name}: {name}({shown}) is not supported; legal: {SUPPORTED}; "
                             "try: spikeloom capture --help")

    def _add(self, args: list[Any], node: fx.Node) -> Any:
        if any(isinstance(a, _State) for a in args):
            return _State()
        left, right = args[0], args[1]
        if isinstance(left, (int, float)) and left == 0:
            return right
        if isinstance(right, (int, float)) and right == 0:
            return left
        if len(args) != 2 or not isinstance(left, _Value) or not isinstance(right, _Value):
            raise ParameterError(f"{node.name}: add of {[type(a).__name__ for a in args]} is not supported; "
                                 "legal: two tensors of one shape")
        if left.name == right.name and right.step is not None and (left.reduced or left.step != right.step):
            return _Value(left.name, right.step, reduced=True)
        return self._emit("add", "add", [left, right])

    def _reduce(self, data: Any, node: fx.Node) -> Any:
        items = data if isinstance(data, list) else [data]
        if any(isinstance(item, _State) for item in items):
            return _State()
        if len({item.name for item in items}) != 1:
            raise ParameterError(f"{node.name}: a sum over steps must take one layer's outputs, "
                                 f"not {sorted({item.name for item in items})}; legal: the same layer at every step")
        return _Value(items[0].name, None, reduced=True)

    def _output(self, data: Any) -> None:
        while isinstance(data, list) and data:
            data = data[0]
        if not isinstance(data, _Value):
            raise ParameterError("output: the first thing that forward returns must be spikes or logits, "
                                 "not a membrane; legal: logits, spikes, (spikes, membrane) or lists of them per step")
        self.nodes.append(Node(name="output", op="output", inputs=(data.name,)))


def _array(tensor: Tensor) -> Array:
    """Return a copy of ``tensor`` as a numpy array; half floats become float32, which numpy and files hold."""
    short = tensor.is_floating_point() and tensor.element_size() < 4
    return tensor.detach().to("cpu", torch.float32 if short else None, copy=True).numpy()


def _unsupported(path: str, module: nn.Module, what: str) -> ParameterError:
    shown = module.extra_repr()
    return ParameterError(f"{path}: {type(module).__name__}({shown}): {what}; legal: {SUPPORTED}; "
                          "try: docs/layers.md for the limits of each")


_Description = tuple[str, dict[str, Any], dict[str, Tensor | None]]


def _conv(path: str, module: Any) -> _Description:
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        raise _unsupported(path, module, "padding must be numbers, with zeros")
    if module.stride[0] != module.stride[1] or module.padding[0] != module.padding[1]:
        raise _unsupported(path, module, "stride and padding must be the same both ways")
    args = {"stride": module.stride[0], "padding": module.padding[0], "dilation": list(module.dilation),
            "groups": module.groups}
    return "conv", args, {"weight": module.weight, "bias": module.bias}


def _linear(path: str, module: Any) -> _Description:
    return "linear", {}, {"weight": module.weight, "bias": module.bias}


def _batchnorm(path: str, module: Any) -> _Description:
    if module.running_mean is None:
        raise _unsupported(path, module, "it has no running statistics")
    return "batchnorm", {"eps": module.eps}, {"weight": module.weight, "bias": module.bias,
                                              "mean": module.running_mean, "var": module.running_var}


def _window(path: str, module: Any) -> dict[str, Any]:
    window = {}
    for key, value in (("kernel", module.kernel_size), ("stride", module.stride), ("padding", module.padding)):
        both = (value, value) if isinstance(value, int) else tuple(value)
        if both[0] != both[1]:
            raise _unsupported(path, module, f"{key} must be the same both ways")
        window[key] = both[0]
    if module.ceil_mode:
        raise _unsupported(path, module, "ceil_mode must be False")
    return window


def _maxpool(path: str, module: Any) -> _Description:
    if module.dilation not in (1, (1, 1)) or module.return_indices:
        raise _unsupported(path, module, "dilation must be 1 and return_indices False")
    return "maxpool", _window(path, module), {}


def _avgpool(path: str, module: Any) -> _Description:
    window = _window(path, module)
    if window["kernel"] != window["stride"] or window["padding"] or module.divisor_override is not None:
        raise _unsupported(path, module, "stride must be the kernel, padding 0, no divisor_override")
    return "avgpool", window, {}


def _flatten(path: str, module: Any) -> _Description:
    if module.start_dim not in (1, 2) or module.end_dim != -1:
        raise _unsupported(path, module, "it must flatten everything but the batch")
    return "flatten", {}, {}


def _number(path: str, module: nn.Module, name: str) -> float:
    value = getattr(module, name)
    tensor = torch.as_tensor(value, dtype=torch.float64)
    if tensor.numel() != 1:
        raise _unsupported(path, module, f"{name} must be one number, not {tensor.numel()}")
    return float(tensor)


def _neuron_args(path: str, module: Any) -> dict[str, Any]:
    kind = type(module).__name__
    if kind == "Leaky":
        for name in ("inhibition", "state_quant"):
            if getattr(module, name, False):
                raise _unsupported(path, module, f"{name} is not supported")
        if _number(path, module, "graded_spikes_factor") != 1:
            raise _unsupported(path, module, "graded_spikes_factor must be 1")
        return {"class": kind, "beta": min(max(_number(path, module, "beta"), 0.0), 1.0),
                "threshold": _number(path, module, "threshold"), "reset_mechanism": str(module.reset_mechanism),
                "reset_delay": bool(module.reset_delay)}
    args: dict[str, Any] = {"class": kind, "v_threshold": _number(path, module, "v_threshold"),
                            "v_reset": None if module.v_reset is None else _number(path, module, "v_reset"),
                            "step_mode": str(module.step_mode)}
    if kind == "LIFNode":
        args |= {"tau": _number(path, module, "tau"), "decay_input": bool(module.decay_input)}
    return args


def layers_markdown() -> str:
    """Return the text of ``docs/layers.md``."""
    lines = ["# Supported layers", "", "Generated from `golden/capture.py`; a test keeps it up to date.", "",
             "| layer | limits |", "|---|---|"]
    lines += [f"| {name} | {limits} |" for name, limits in LAYERS.items()]
    lines += ["", "# Supported neurons", "", "| class | parameters |", "|---|---|"]
    lines += [f"| {name} | {limits} |" for name, limits in NEURONS.items()]
    return "\n".join(lines) + "\n"
