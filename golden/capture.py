"""Capture a trained torch network: trace it with torch.fx, write graph and tensors to one file.

Recognises neurons of SpikingJelly and snnTorch by class name and imports neither. A loop over timesteps inside
``forward`` is folded: calls of one module on the same input at different steps become one node. What the trace cannot
show (hooks, changed membranes, a class of the user's) is found by running the model beside the captured network.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from golden.arch import ParameterError
from golden.float_run import Protocol, compare, measured
from golden.layers import LAYERS, NEURONS, SUPPORTED, TIMES, describe, describe_steps, kind_of, neuron_args, unsupported
from golden.network import Array
from golden.store import Captured, Node, check, load, save
from golden.traced import Part, Sharing, Size, State, Value, parts

__all__ = ["capture", "load", "trace"]

CONTAINERS = ("SeqToANNContainer", "MultiStepContainer")
LIBRARIES = ("spikingjelly", "snntorch", "norse")
STEPS = 4


def capture(model: nn.Module, example: Tensor, path: str | Path) -> Captured:
    """Write ``model`` as a captured network to ``path`` and return it.

    example : [N, C, H, W], or [T, N, C, H, W] for a model that takes all steps at once; the model is run on its first two
        images and on random ones of their size; a ReLU's range is taken from all of it
    Raises `ParameterError` naming the module path, type and arguments of whatever is not supported, or the neuron layer
    whose spikes the captured network does not make.
    """
    captured = trace(model, example)
    save(captured, path)
    return captured


def trace(model: nn.Module, example: Tensor) -> Captured:
    """Return ``model`` as a captured network, without writing a file."""
    if not isinstance(example, Tensor):
        raise ParameterError(f"example: must be a torch tensor, not {type(example).__module__}.{type(example).__name__}; "
                             "try: torch.as_tensor(example)")
    if example.dim() not in (4, 5) or not example.numel():
        raise ParameterError(f"example: must be [N, C, H, W] or [T, N, C, H, W], not shape {list(example.shape)}")
    if not example.isfinite().all():
        raise ParameterError("example: must be finite numbers, not nan or inf")
    with _untouched(model):
        model.eval()
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
        folder = _Folder(model, example.shape)
        captured = folder.fold(graph)
        captured = measured(captured, example, folder.protocol.steps)
        try:
            check(captured)
        except ValueError as error:
            raise ParameterError(f"capture: {error}; try: training again") from None
        compare(model, captured, example, folder.protocol)
    return captured


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Leave the model's attributes, neuron states, buffers and modes, and torch's random generators, as they are."""
    attributes = [(module, dict(vars(module))) for module in model.modules()]
    boxes: list[tuple[Any, Any]] = [(box, box.copy()) for _, named in attributes for box in named.values()
                                    if isinstance(box, (dict, list))]
    loose = [value for _, named in attributes for value in named.values()]
    loose += [value for box, _ in boxes if isinstance(box, dict) for value in box.values()]
    tensors = [(value, value.detach().clone()) for value in loose
               if isinstance(value, Tensor) and not isinstance(value, nn.Parameter)]
    devices = {p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"}
    try:
        with torch.random.fork_rng(sorted(devices)):
            yield
    finally:
        for module, named in attributes:
            vars(module).clear()
            vars(module).update(named)
        for box, content in boxes:
            box.clear()
            box.extend(content) if isinstance(box, list) else box.update(content)
        for tensor, value in tensors:
            tensor.data.copy_(value)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        kind = kind_of(m)
        return (kind in NEURONS or kind in TIMES or (kind in LAYERS and not isinstance(m, nn.Sequential))
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
    """Turns an fx graph into nodes, one per distinct (operation, inputs), and finds how the model is called.

    example : shape of the example; five dimensions mean a model that takes all steps at once
    """

    def __init__(self, model: nn.Module, example: tuple[int, ...]) -> None:
        self.model, self.example = model, example
        self.multi_step = len(example) == 5
        self.nodes: list[Node] = []
        self.tensors: dict[str, Array] = {}
        self.known: dict[tuple[Any, ...], str] = {}
        self.calls: dict[str, int] = {}
        self.sharing = Sharing()
        self.protocol = Protocol(steps=STEPS, whole=False)

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
                values[node] = self._emit("input", "input", []) if first else State()
            elif node.op == "get_attr":
                values[node] = self._attribute(str(node.target))
            elif node.op == "output":
                taken = [n for n in graph.nodes if n.op == "placeholder" and not n.args and "*" not in str(n.target)]
                self._output(args[0], len(taken) - 1)
            elif node.op == "call_module":
                values[node] = self._module(str(node.target), args + list(kwargs.values()))
            else:
                values[node] = self._function(node, args, kwargs)
        channels, height, width = self.example[-3:]
        return Captured(nodes=tuple(self.nodes), tensors=self.tensors, example_shape=(channels, height, width),
                        steps=self.protocol.steps if self.protocol.whole else None)

    def _attribute(self, target: str) -> State:
        owner, _, name = target.rpartition(".")
        parameters = dict(self.model.get_submodule(owner).named_parameters(recurse=False))
        constant = name.startswith("_tensor_constant")
        return State("a constant tensor" if constant else f"the {'parameter' if name in parameters else 'buffer'} {target}")

    def _emit(self, op: str, name: str, inputs: list[Value], path: str = "", *, args: dict[str, Any] | None = None,
              tensors: dict[str, Tensor | None] | None = None, step: int | None = None) -> Value:
        steps = {v.step for v in inputs if v.step is not None}
        if len(steps) > 1:
            raise ParameterError(f"{path or name}: {op} mixes timesteps {sorted(steps)}; legal: operands of one step")
        if any(v.summed for v in inputs):
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
        return Value(self.known[key], step)

    def _unique(self, name: str) -> str:
        base = re.sub(r"\W", "_", name)
        base = f"layer{base}" if base[:1].isdigit() else base
        taken = {node.name for node in self.nodes}
        return next(n for n in [base, *(f"{base}_{i}" for i in range(1, len(taken) + 2))] if n not in taken)

    def _module(self, path: str, args: list[Any]) -> Any:
        module = self.model.get_submodule(path)
        kind = kind_of(module)
        data: Any = args[0] if args else None
        grouped = isinstance(data, Part) and data.number is not None and not data.path and kind in NEURONS
        if not isinstance(data, Value) and not grouped:
            found = data.what if isinstance(data, State) else "no tensor"
            raise unsupported(path, module, f"its first argument is {found}, not spikes or currents")
        if kind in ("Identity", "Dropout", "Dropout2d"):
            return data
        for hook in module._forward_pre_hooks.values():
            if type(hook).__module__.startswith("torch.nn.utils."):
                hook(module, ())
        try:
            if kind in NEURONS:
                return self._neuron(path, module, data)
            if kind == "StepConv2d":
                return self._step_conv(path, module, data)
            op, arguments, tensors = describe(path, module)
        except (AttributeError, TypeError) as error:
            raise unsupported(path, module, f"not the {kind} of its library ({error})") from None
        operands = args if op == "attention" or kind in TIMES else [data]
        if not all(isinstance(operand, Value) for operand in operands):
            raise unsupported(path, module, "its arguments must be spikes of three layers")
        return self._emit(op, path, operands, path, args=arguments, tensors=tensors)

    def _step_conv(self, path: str, module: nn.Module, data: Value) -> Value:
        """Return the sum of the kernels, each of which is 0 at the steps of the others."""
        parts = [self._emit(op, f"{path}.{number}", [data], path, args=arguments, tensors=tensors)
                 for number, (op, arguments, tensors) in enumerate(describe_steps(path, module))]
        total = parts[0]
        for part in parts[1:]:
            total = self._emit("add", path, [total, part], path)
        return total

    def _neuron(self, path: str, module: nn.Module, data: Value | Part) -> Any:
        arguments = neuron_args(path, module)
        spikes = self.sharing.take(path, data) if isinstance(data, Part) else self._spikes(path, module, data, arguments)
        pair = arguments["class"] == "Leaky" and (not getattr(module, "init_hidden", False)
                                                  or bool(getattr(module, "output", False)))
        return [spikes, State()] if pair else spikes

    def _spikes(self, path: str, module: nn.Module, data: Value, arguments: dict[str, Any]) -> Value:
        """Return the spikes of a timestep, of all channels."""
        step = self.calls.get(path, 0)
        self.calls[path] = step + 1
        value = self._emit("neuron", path, [data], path, args=arguments,
                           step=data.step if data.step is not None or self.multi_step else step)
        owners = [node for node in self.nodes if node.op == "neuron" and node.path == path]
        if len(owners) > 1:
            raise unsupported(path, module, f"called on {len(owners)} different inputs, which would share a membrane")
        return value

    def _joined(self, last: Part | None, call: str) -> Value:
        """Return the spikes of neurons that took the groups of channels of a tensor one after the other."""
        if last is None:
            raise ParameterError(f"{call}: must join, along dimension 1, what the same neurons made of all groups of channels "
                                 "of one tensor in their order, and of nothing else in between; legal: 2 or 4 groups; try: "
                                 "docs/layers.md, chunk")
        module = self.model.get_submodule(last.path)
        return self._spikes(last.path, module, last.value, {**neuron_args(last.path, module), "share": last.groups})

    def _function(self, node: fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        arguments = args + list(kwargs.values())
        grouped = any(isinstance(argument, Part) for argument in arguments)
        if name in ("_assert_is_none", "_assert", "eq") and isinstance(args[0], State):
            return State()
        if name in ("getattr", "size", "dim"):
            return Size()
        if name == "getitem" and isinstance(args[0], Size):
            return Size()
        if name == "getitem" and isinstance(args[0], list) and isinstance(args[1], int):
            return args[0][args[1]]
        if name == "getitem" and isinstance(args[0], Part) and args[0].number is None and type(args[1]) is int and args[1] >= 0:
            return replace(args[0], number=args[1])
        if name in ("chunk", "split", "tensor_split") and not self.multi_step and (groups := parts(name, arguments)):
            return groups
        if name in ("cat", "concat", "concatenate") and isinstance(args[0], list) and any(
                isinstance(item, Part) for item in args[0]):
            return self._joined(self.sharing.join(arguments), f"{node.name}: {name}({', '.join(map(_shown, arguments))})")
        if name == "getitem" and args[0] == Value("input") and isinstance(args[1], int):
            self.multi_step = False
            return Value("input", args[1])
        if name in ("add", "iadd", "add_") and not grouped:
            return self._add(arguments, node)
        elif name in ("mul", "imul", "mul_") and len(arguments) == 2 and all(isinstance(a, Value) for a in arguments):
            return self._emit("mul", "mul", arguments)
        elif name == "sum" and isinstance(args[0], Value) and arguments[1:] in ([[-2, -1], True], [self._map(), True]):
            return self._emit("sum", "sum", [args[0]])
        elif name == "stack" and isinstance(args[0], list) and arguments[1:] in ([], [0]):
            return args[0]
        elif name in ("sum", "mean") and arguments[1:] == [0] and not grouped:
            return self._reduce(name, args[0], node)
        elif name in ("truediv", "div") and isinstance(args[0], Value) and args[0].summed:
            return self._divide(args[0], args[1], node)
        elif name == "flatten" and arguments[1:] in ([1], [2], [1, -1], [2, -1]):
            return self._emit("flatten", "flatten", [args[0]])
        if name in ("view", "reshape") and isinstance(args[0], Value) and arguments[2:] == [-1]:
            return self._emit("flatten", "flatten", [args[0]])
        if name in ("relu", "relu_") and isinstance(args[0], Value) and not any(arguments[1:]):
            return self._emit("relu", "relu", [args[0]])
        if name in ("contiguous", "detach") and isinstance(args[0], (Value, State)):
            return args[0]
        raise ParameterError(f"{node.name}: {name}({', '.join(map(_shown, arguments))}) is not supported; "
                             f"legal: {SUPPORTED}; try: spikeloom capture --help")

    def _map(self) -> list[int]:
        """Return the dimensions of the map of a tensor inside ``forward``."""
        return [3, 4] if self.multi_step else [2, 3]

    def _add(self, args: list[Any], node: fx.Node) -> Any:
        states = [a for a in args if isinstance(a, State)]
        if states:
            mixed = len(states) < len(args) and any(isinstance(a, Value) for a in args)
            return State(f"a sum with {states[0].what}") if mixed else states[0]
        left, right = args[0], args[1]
        if isinstance(left, (int, float)) and left == 0:
            return right
        if isinstance(right, (int, float)) and right == 0:
            return left
        if len(args) != 2 or not isinstance(left, Value) or not isinstance(right, Value):
            raise ParameterError(f"{node.name}: add of {[type(a).__name__ for a in args]} is not supported; "
                                 "legal: two tensors of one shape")
        steps = [value.summed or (value.step,) for value in (left, right)]
        over_steps = left.summed or right.summed or left.step != right.step
        if left.name == right.name and over_steps and None not in steps[0] + steps[1] and left.scale == right.scale == 1:
            return Value(left.name, summed=tuple(sorted(step for part in steps for step in part if step is not None)))
        return self._emit("add", "add", [left, right])

    def _reduce(self, name: str, data: Any, node: fx.Node) -> Any:
        items = data if isinstance(data, list) else [data]
        states = [item for item in items if isinstance(item, State)]
        if states:
            return states[0]
        if len({item.name for item in items}) != 1:
            raise ParameterError(f"{node.name}: a sum over steps must take one layer's outputs, "
                                 f"not {sorted({item.name for item in items})}; legal: the same layer at every step")
        steps = tuple(item.step for item in items if item.step is not None and not item.summed)
        if not isinstance(data, list) and self.multi_step and not data.summed:
            steps = tuple(range(self.example[0]))
        elif not isinstance(data, list) or len(steps) != len(items):
            raise ParameterError(f"{node.name}: {name} over dimension 0 is over the images of a batch, not over timesteps; "
                                 "legal: the stacked steps of one layer, or a [T, N, ...] tensor; try: no such "
                                 f"{name}, outputs of all steps are summed anyway")
        return Value(items[0].name, summed=steps, scale=1 / len(steps) if name == "mean" else 1.0)

    def _divide(self, data: Value, divisor: Any, node: fx.Node) -> Value:
        if not isinstance(divisor, (int, float)) or divisor <= 0:
            shown = divisor if isinstance(divisor, (int, float)) else "a tensor or size"
            raise ParameterError(f"{node.name}: a sum over steps may be divided by a number above 0, not {shown}; "
                                 "legal: the number of steps, written as a number")
        return replace(data, scale=data.scale / divisor)

    def _output(self, data: Any, states: int) -> None:
        depth = 0
        while isinstance(data, list) and data and not _listed(data):
            data, depth = data[0], depth + 1
        items = data if isinstance(data, list) else [data]
        if not items or not isinstance(items[0], Value):
            found = items[0].what if items and isinstance(items[0], State) else "a membrane"
            raise ParameterError("output: the first thing that forward returns must be spikes or logits, "
                                 f"not {found}; legal: logits, spikes, (spikes, membrane) or lists of them per step")
        first, steps = items[0], [item.step for item in items]
        taken = list(first.summed) or [step for step in steps if step is not None]
        count = max([*self.calls.values(), *(step + 1 for step in taken)], default=1)
        if (count > 1 or first.summed) and taken and taken != list(range(count)):
            raise ParameterError(f"output: forward returns steps {taken} of layer {first.name}, not each of 0..{count - 1} "
                                 "once; legal: every step's output, or the sum or mean over all steps")
        unrolled = count > 1 or isinstance(data, list) or bool(first.summed and len(self.example) == 4)
        if len(self.example) == 5 and unrolled and count != self.example[0]:
            raise ParameterError(f"example: has {self.example[0]} timesteps, not the {count} of forward")
        whole = unrolled or len(self.example) == 5
        self.protocol = Protocol(
            steps=count if unrolled else self.example[0] if whole else STEPS, whole=whole, depth=depth,
            summed=bool(first.summed), scale=first.scale, states=0 if whole else states)
        self.nodes.append(Node(name="output", op="output", inputs=(first.name,)))


def _shown(argument: Any) -> str:
    if isinstance(argument, Part):
        part = "parts" if argument.number is None else f"part {argument.number}"
        return f"{argument.path} of {part}" if argument.path else part
    if isinstance(argument, list):
        return f"[{', '.join(map(_shown, argument))}]"
    return "tensor" if isinstance(argument, (Value, State)) else repr(argument)


def _listed(data: list[Any]) -> bool:
    """Return whether ``data`` is one layer's output at several steps, not several things."""
    values = [item for item in data if isinstance(item, Value)]
    one_layer = len(values) == len(data) and len({value.name for value in values}) == 1
    return one_layer and (len(data) == 1 or len({value.step for value in values}) > 1)


def _array(tensor: Tensor) -> Array:
    """Return a copy of ``tensor`` as a numpy array; half floats become float32, which numpy and files hold."""
    short = tensor.is_floating_point() and tensor.element_size() < 4
    return tensor.detach().to("cpu", torch.float32 if short else None, copy=True).numpy()
