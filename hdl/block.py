"""Base class of every block, and the writer of one Verilog module per distinct block.

A `Block` placed inside another one becomes an instance of its own module, so sixteen equal lanes
share one module. Blocks with equal class and parameters are the same module.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from amaranth._toolchain.yosys import find_yosys
from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, ClockSignal, Instance, Module, ResetSignal, Signal, Value
from amaranth.hdl._ir import PortDirection
from amaranth.lib import wiring


class Block(wiring.Component):
    """A component that is emitted as a module of its own.

    Subclasses define ports through the dict form of `wiring.Component`, keep their frozen parameters in
    ``self.params`` and build their contents in `build` instead of ``elaborate``. ``clocked`` is False for
    purely combinational blocks. ``also_reset`` is a signal of the parent that resets the block as well.
    """

    clocked = True
    params: Any = None
    also_reset: Any = None

    def build(self) -> Module:
        """Return the contents of the block."""
        raise NotImplementedError

    @classmethod
    def stem(cls) -> str:
        """Return the block's name in Verilog: the class name in snake case."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    def elaborate(self, platform: Any) -> Any:
        if Emitter.root is self:
            return self.build()
        return Emitter.current.place(self)


class Emitter:
    """Collects the distinct blocks below a top block and converts each of them once."""

    current: "Emitter"
    root: Block | None = None

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._names: dict[tuple[type, str], str] = {}
        self._queue: list[tuple[str, Block]] = []
        self.rams: dict[tuple[int, int], int] = {}
        self.instances: dict[str, dict[str, int]] = {}
        self.boxes: dict[str, str] = {}

    def name(self, block: Block) -> str:
        """Return the module name of ``block``, queueing the block when it is new."""
        key = (type(block), repr(block.params))
        if key not in self._names:
            base = f"{self.prefix}_{block.stem()}"
            same = sum(1 for cls, _ in self._names if cls is type(block))
            self._names[key] = base if not same else f"{base}_{same + 1}"
            self._queue.append((self._names[key], block))
        return self._names[key]

    def place(self, block: Block) -> Instance:
        """Return an instance that stands for ``block`` in its parent."""
        module = self.name(block)
        counts = self.instances.setdefault(self._parent, {})
        counts[module] = counts.get(module, 0) + 1
        reset = ResetSignal() if block.also_reset is None else ResetSignal() | block.also_reset
        ports: dict[str, Any] = {"i_clk": ClockSignal(), "i_rst": reset} if block.clocked else {}
        for name, (value, direction) in _ports(block).items():
            ports[f"{'o' if direction is PortDirection.Output else 'i'}_{name}"] = value
        return Instance(module, **ports)

    def ram(self, width: int, depth: int) -> str:
        """Count one RAM of the parent being converted and return the RAM module's name."""
        counts = self.instances.setdefault(self._parent, {})
        key = f"{self.prefix}_ram_1r1w:{depth}x{width}"
        counts[key] = counts.get(key, 0) + 1
        return f"{self.prefix}_ram_1r1w"

    def box(self, stem: str, write: Callable[[str], str]) -> str:
        """Count a black box of the parent being converted and return its module's name, whose text ``write`` gives."""
        name = f"{self.prefix}_{stem}"
        counts = self.instances.setdefault(self._parent, {})
        counts[f"{name}:box"] = counts.get(f"{name}:box", 0) + 1
        self.boxes[name] = write(name)
        return name

    def convert(self, top: Block) -> Iterator[tuple[str, str]]:
        """Yield (module name, RTLIL text) of ``top`` and every distinct block below it."""
        self.name(top)
        done = 0
        while done < len(self._queue):
            name, block = self._queue[done]
            done += 1
            self._parent = name
            with self._as_root(block):
                yield name, rtlil.convert(block, name=name, ports=_ports(block), emit_src=False, platform=None)

    @contextmanager
    def _as_root(self, block: Block) -> Iterator[None]:
        Emitter.current, Emitter.root = self, block
        try:
            yield
        finally:
            Emitter.root = None


def entry(m: Module, clock: Signal, reset_low: Signal) -> None:
    """Clock a top by ``clock``, and reset it by ``reset_low``, active low and registered once."""
    m.domains.sync = ClockDomain("sync", local=True)
    reset = Signal(init=1)
    m.domains.entry = ClockDomain("entry", local=True, reset_less=True)
    m.d.entry += reset.eq(~reset_low)
    m.d.comb += [ClockSignal("entry").eq(clock), ClockSignal("sync").eq(clock), ResetSignal("sync").eq(reset)]


def _ports(block: Block) -> dict[str, tuple[Value, PortDirection]]:
    """Return the block's ports by flat name; members that are constants (``always_ready``) have none."""
    ports = {}
    for path, member, value in block.signature.flatten(block):
        signal = Value.cast(value)
        if isinstance(signal, Signal):
            direction = PortDirection.Output if member.flow is wiring.Out else PortDirection.Input
            ports["__".join(map(str, path))] = (signal, direction)
    return ports


def verilog(top: Block, prefix: str = "spikeloom") -> tuple[dict[str, str], Emitter]:
    """Return ({module: Verilog-2005 text}, emitter) of ``top``, the RAM primitive included.

    The text is the same from run to run.
    """
    emitter = Emitter(prefix)
    texts = dict(emitter.convert(top))
    script = ["read_rtlil <<rtlil", *texts.values(), "rtlil", "proc -norom -noopt", "memory_collect", "opt_clean -purge"]
    joined = find_yosys(lambda ver: ver >= (0, 40)).run(
        ["-q", "-"], "\n".join([*script, "write_verilog -norename -noattr"]) + "\n")
    joined = re.sub(r"^/\*.*?\*/\n", "", joined, flags=re.DOTALL)
    modules = {match[1]: match[0] for match in re.finditer(r"^module (\S+?)\(.*?^endmodule\n", joined, re.M | re.S)}
    return modules, emitter
