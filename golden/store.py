"""The captured network file: tensors, with the graph as JSON in the metadata of one ``.safetensors`` file."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from golden.arch import ParameterError
from golden.network import Array

FORMAT = "spikeloom-captured"
VERSION = (1, 2)
OPERANDS = {"input": 0, "conv": 1, "linear": 1, "batchnorm": 1, "maxpool": 1, "avgpool": 1, "adaptive_avgpool": 1,
            "flatten": 1, "add": 2, "mul": 2, "sum": 1, "attention": 3, "neuron": 1, "relu": 1, "output": 1}
# Operations on spike times: of modules of the names in `golden.layers.TIMES`.
TIMES = {"ttfs_encode": 1, "ttfs_times": 1, "ttfs_fire": 1, "ttfs_earliest": 1, "ttfs_delay": 1, "ttfs_add": 2,
         "ttfs_concat": 2, "ttfs_race": 1}
RANKS = {"ttfs_encode": {"weight": 4}, "ttfs_fire": {"weight": 4}, "ttfs_delay": {"bias": 1},
         "conv": {"weight": 4}, "linear": {"weight": 2}, "batchnorm": {"mean": 1, "var": 1}}


_Legal = tuple[str, Callable[[Any], bool]]


def _integer(least: int) -> _Legal:
    return f"an integer of at least {least}", lambda value: type(value) is int and value >= least


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


_SIZE, _NUMBER, _TRUTH = _integer(1), ("a finite number", _is_number), ("true or false", lambda value: type(value) is bool)
_WINDOW = {"kernel": _SIZE, "stride": _SIZE, "padding": _integer(0)}
_TICKS: dict[str, _Legal] = {"window": _SIZE, "resolution": _integer(0)}
_INTEGRATE: dict[str, _Legal] = {
    "v_threshold": _NUMBER, "v_reset": ("a finite number or null", lambda value: value is None or _is_number(value))}
ARGS: dict[str, dict[str, _Legal]] = {
    "conv": {"stride": _SIZE, "padding": _integer(0), "groups": _SIZE, "dilation": (
        "two integers of at least 1", lambda value: isinstance(value, list) and len(value) == 2
        and all(type(v) is int and v >= 1 for v in value))},
    "ttfs_encode": {**_TICKS, "padding": _integer(0), "pool": _SIZE},
    "ttfs_times": _TICKS,
    "ttfs_fire": {**_TICKS, "stride": _SIZE, "padding": _integer(0), "exact": _TRUTH},
    "ttfs_earliest": _WINDOW,
    "ttfs_delay": _TICKS,
    "ttfs_add": {"resolution": _integer(0), "windows": (
        "two integers of at least 1", lambda value: isinstance(value, list) and len(value) == 2
        and all(type(v) is int and v >= 1 for v in value))},
    "batchnorm": {"eps": _NUMBER},
    "maxpool": _WINDOW,
    "avgpool": _WINDOW,
    "relu": {"peak": ("a finite number of at least 0", lambda value: _is_number(value) and value >= 0)},
    "adaptive_avgpool": {"output": _SIZE},
    "attention": {"heads": _SIZE, "chunk_steps": _SIZE, "scale": (
        "a number above 0", lambda value: _is_number(value) and value > 0)},
    "IFNode": _INTEGRATE,
    "LIFNode": {**_INTEGRATE, "decay_input": _TRUTH,
                "tau": ("a number of at least 1", lambda value: _is_number(value) and value >= 1)},
    "Leaky": {"beta": _NUMBER, "threshold": _NUMBER, "reset_delay": _TRUTH, "reset_mechanism": (
        "subtract, zero or none", lambda value: value in ("subtract", "zero", "none"))},
}


_SHARED: dict[str, _Legal] = {"share": ("2 or 4", lambda value: type(value) is int and value in (2, 4))}
# Arguments that an operation may have: a convolution of some steps names them, and T; `golden.float_run.measured` adds peaks;
# ``share``: `golden.network.Neuron`.
OPTIONAL: dict[str, dict[str, _Legal]] = {
    "add": {"peak": ARGS["relu"]["peak"]},
    "conv": {"peak": ARGS["relu"]["peak"], "of": _SIZE, "steps": (
        "a list of steps", lambda value: isinstance(value, list) and all(type(v) is int and v >= 0 for v in value))},
    "IFNode": _SHARED, "LIFNode": _SHARED, "Leaky": _SHARED,
}


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operation of a captured network.

    name : unique, of letters, digits and ``_``; its tensors are called ``<name>.<role>``
    op : a key of `OPERANDS` or `TIMES`, which says how many inputs it reads
    inputs : names of the nodes it reads
    path : module path in the torch model, empty for a function call
    args : the operation's arguments; a neuron's class and parameters as its library calls them
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    path: str = ""
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Captured:
    """A captured network.

    nodes : in execution order, the first is the input, the last the output
    tensors : by ``<node>.<role>``; roles ``weight``, ``bias``, ``mean``, ``var``
    example_shape : ``(C, H, W)`` of one image at one step
    steps : T of a model that runs all its steps in one call; None if it was called once per step, or the file is of
        version 1.0
    """

    nodes: tuple[Node, ...]
    tensors: dict[str, Array]
    example_shape: tuple[int, int, int]
    steps: int | None = None

    def tensor(self, node: Node, role: str) -> Array | None:
        """Return a node's tensor, None if it has none of that role."""
        return self.tensors.get(f"{node.name}.{role}")


def save(captured: Captured, path: str | Path) -> None:
    """Write the file under a temporary name beside ``path``, then rename it.

    Raises `ParameterError` if the folder cannot be written.
    """
    graph = {"version": VERSION, "example_shape": captured.example_shape, "steps": captured.steps,
             "nodes": [asdict(node) for node in captured.nodes]}
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in sorted(captured.tensors.items())}
    content = _ordered(safetensors.numpy.save(tensors, {"format": FORMAT, "graph": json.dumps(graph, sort_keys=True)}))
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ParameterError(f"captured file: {target}: cannot be written ({error.strerror}); "
                             "legal: a file in a writable folder") from None


def _ordered(content: bytes) -> bytes:
    """Return a ``.safetensors`` file with its metadata sorted, so that equal networks are equal files."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def load(path: str | Path) -> Captured:
    """Read a captured file.

    Raises `ParameterError` for a missing, truncated, foreign or damaged file, or one of another major version.
    """
    legal = "legal: a .safetensors file written by spikeloom.capture; try: spikeloom capture --help"
    try:
        with safetensors.safe_open(str(path), "np") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
    except (OSError, TypeError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ParameterError(f"captured file: {path}: cannot be read ({reason}); {legal}") from None
    if metadata.get("format") != FORMAT:
        raise ParameterError(f"captured file: {path}: format must be {FORMAT}, not {metadata.get('format')!r}; {legal}")
    try:
        graph = json.loads(metadata["graph"])
        major, minor = graph["version"]
        if major != VERSION[0]:
            raise ParameterError(f"captured file: {path}: version must be {VERSION[0]}.x, not {major}.{minor}; {legal}")
        nodes = tuple(Node(name=n["name"], op=n["op"], inputs=tuple(n["inputs"]), path=n["path"], args=n["args"])
                      for n in graph["nodes"])
        channels, height, width = graph["example_shape"]
        captured = Captured(nodes=nodes, tensors=tensors, example_shape=(channels, height, width),
                            steps=graph.get("steps"))
        check(captured)
    except ParameterError:
        raise
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ParameterError(f"captured file: {path}: graph is damaged ({error!r}); {legal}") from None
    except ValueError as error:
        raise ParameterError(f"captured file: {path}: graph is damaged ({error}); {legal}") from None
    return captured


def check(captured: Captured) -> None:
    """Raise `ValueError`, saying where, if a node lacks an operand, argument or tensor or has a wrong one."""
    nodes, seen, operands = captured.nodes, set[str](), {**OPERANDS, **TIMES}
    for node in nodes:
        if node.op not in operands:
            raise ValueError(f"unknown operation {node.op!r}")
        if not seen.issuperset(node.inputs):
            raise ValueError(f"{node.name} reads a later node")
        if node.name in seen:
            raise ValueError(f"two nodes are called {node.name}")
        if len(node.inputs) != operands[node.op]:
            raise ValueError(f"{node.name}: {node.op} must read {operands[node.op]} nodes, not {len(node.inputs)}")
        _check_args(node)
        _check_tensors(captured, node)
        seen.add(node.name)
    if not nodes or nodes[0].op != "input" or nodes[-1].op != "output":
        raise ValueError("no input or no output")
    if {node.op for node in nodes[1:-1]} & {"input", "output"}:
        raise ValueError("more than one input or output")
    if not all(type(size) is int and size >= 1 for size in captured.example_shape):
        raise ValueError(f"example_shape must be three sizes, not {list(captured.example_shape)}")
    if captured.steps is not None and (type(captured.steps) is not int or captured.steps < 1):
        raise ValueError(f"steps must be a number of timesteps, not {captured.steps!r}")


def _check_args(node: Node) -> None:
    if not isinstance(node.args, dict):
        raise ValueError(f"{node.path or node.name}: args must be an object, not {node.args!r}")
    kind = node.args.get("class") if node.op == "neuron" else node.op
    if node.op == "neuron" and kind not in ("IFNode", "LIFNode", "Leaky"):
        raise ValueError(f"{node.path or node.name}: unknown neuron {kind!r}")
    optional = {name: legal for name, legal in OPTIONAL.get(str(kind), {}).items() if name in node.args}
    for name, (legal, holds) in {**ARGS.get(str(kind), {}), **optional}.items():
        if name not in node.args:
            raise ValueError(f"{node.path or node.name}: {name} is missing")
        if not holds(node.args[name]):
            raise ValueError(f"{node.path or node.name}: {name} must be {legal}, not {node.args[name]!r}")


def _check_tensors(captured: Captured, node: Node) -> None:
    ranks = RANKS.get(node.op, {})
    size = None
    for role in ("weight", "mean", "var", "bias"):
        tensor, rank = captured.tensor(node, role), ranks.get(role, 1)
        if tensor is None and role in ranks:
            raise ValueError(f"{node.name}.{role}: the tensor is missing")
        if tensor is None or not ranks:
            continue
        size = tensor.shape[0] if size is None and tensor.ndim else size
        if tensor.ndim != rank or not tensor.size or tensor.shape[0] != size:
            shape = ", ".join([str(size or "N"), *(["any"] * (rank - 1))])
            raise ValueError(f"{node.name}.{role}: must be [{shape}], not {list(tensor.shape)}")
        if not np.issubdtype(tensor.dtype, np.floating) or not np.isfinite(tensor).all():
            raise ValueError(f"{node.name}.{role}: must be finite floating point numbers")
