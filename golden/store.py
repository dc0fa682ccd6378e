"""The captured network file: tensors, with the graph as JSON in the metadata of one ``.safetensors`` file."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from golden.arch import ParameterError
from golden.network import Array

FORMAT = "spikeloom-captured"
VERSION = (1, 0)
OPS = ("input", "conv", "linear", "batchnorm", "maxpool", "avgpool", "flatten", "add", "neuron", "output")


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operation of a captured network.

    name : unique, of letters, digits and ``_``; its tensors are called ``<name>.<role>``
    op : one of `OPS`
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
    """

    nodes: tuple[Node, ...]
    tensors: dict[str, Array]
    example_shape: tuple[int, int, int]

    def tensor(self, node: Node, role: str) -> Array | None:
        """Return a node's tensor, None if it has none of that role."""
        return self.tensors.get(f"{node.name}.{role}")


def save(captured: Captured, path: str | Path) -> None:
    """Write the file under a temporary name beside ``path``, then rename it.

    Raises `ParameterError` if the folder cannot be written.
    """
    graph = {"version": VERSION, "example_shape": captured.example_shape,
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

    Raises `ParameterError` for a missing, truncated or foreign file, or one of another major version.
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
        _check(nodes)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ParameterError(f"captured file: {path}: graph is damaged ({error!r}); {legal}") from None
    except ParameterError:
        raise
    except ValueError as error:
        raise ParameterError(f"captured file: {path}: graph is damaged ({error}); {legal}") from None
    return Captured(nodes=nodes, tensors=tensors, example_shape=(channels, height, width))


def _check(nodes: tuple[Node, ...]) -> None:
    seen: set[str] = set()
    for node in nodes:
        if node.op not in OPS:
            raise ValueError(f"unknown operation {node.op!r}")
        if not seen.issuperset(node.inputs):
            raise ValueError(f"{node.name} reads a later node")
        seen.add(node.name)
    if not nodes or nodes[0].op != "input" or nodes[-1].op != "output":
        raise ValueError("no input or no output")
