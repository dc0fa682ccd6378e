"""A core of in-memory-computing tiles in its simulated system: build once, play a script, compare what comes back.

The core is driven by ``driver.cpp``, its macros are ``macro_shell.cpp``: no Python runs while it simulates.
"""

import dataclasses
import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from golden.arch import ParameterError
from golden.imc.arch import ImcArch
from golden.imc.write_verify import Settings
from hdl.imc.host_port import Target
from hdl.imc.imc import Imc
from hdl.imc.program import LayerProgram
from hdl.imc.register_map import OFFSETS
from hdl.imc.write_registers import write_words
from verif import sim
from verif.imc.macro_shell import SOURCES, Report, verilog
from verif.system import SystemFailure

DRIVER = Path(__file__).parent / "driver.cpp"
HARNESS = Path(__file__).parent / "harness.sv"
# A record of the neuron monitor: starts of the core so far, clock cycle, key of the vector, step.
NEURON = np.dtype([(name, "<u4") for name in ("run", "cycle", "key", "step", "channel", "spike")])
START, IRQ_ENABLE, CALIBRATE, OPERATE, STORE = 1, 2, 4, 8, 16
DONE, ERROR = 2, 4
PATIENCE = 10_000_000


class Script:
    """What the host does, in order. Cycles are the longest time that a command may take before the run fails."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.words: list[NDArray[np.uint32]] = []
        self._length = self._reads = self._waits = 0

    def write(self, register: str | int, value: int) -> None:
        """Write a register, by its name in `hdl.imc.register_map` or its byte offset; a negative value as 32 bits."""
        self._add("write", _offset(register), value & 0xFFFF_FFFF)

    def read(self, register: str | int) -> int:
        """Read a register; return its place in `Result.reads`."""
        self._add("read", _offset(register))
        self._reads += 1
        return self._reads - 1

    def poll(self, register: str | int, mask: int, value: int, cycles: int = PATIENCE) -> int:
        """Read a register until ``read & mask == value``; return the place of its cycles in `Result.waits`."""
        self._add("poll", _offset(register), mask, value, cycles)
        return self._wait()

    def push(self, words: Sequence[int] | NDArray[np.uint32], *, last: bool = True) -> None:
        """Queue a packet of 32-bit words, at least one; it is offered while the next commands run. ``last``: it ends."""
        packet = np.asarray(words, dtype=np.int64).astype(np.uint32)
        if not packet.size:
            raise ParameterError("packet: words, not 0; legal: 1 and more; try: a header")
        self._add("push", self._length, packet.size, int(last))
        self.words.append(packet)
        self._length += packet.size

    def send(self, target: Target, index: int, words: Sequence[int] | NDArray[np.uint32]) -> None:
        """Queue a packet of `hdl.imc.host_port`: negative words as 32 bits."""
        self.push([target | index << 4, *(int(word) & 0xFFFF_FFFF for word in words)])

    def map(self, bank: int, first: int, words: NDArray[np.uint32]) -> None:
        """Queue words of an activation memory, their 32-bit parts one after the other."""
        self.send(Target(Target.MAP_0 + bank), first, words)

    def numbers(self, what: int, numbers: Sequence[int]) -> None:
        """Queue numbers of one kind of `hdl.imc.token_unit.TokenUnit.numbers_layout`, from the first one on."""
        self.send(Target.NUMBERS, what << 24, numbers)

    def writing(self, settings: Settings, cell_bits: int) -> None:
        """Write how cells are written, for a build whose cells have ``cell_bits``, as many as the settings or more."""
        given = dataclasses.asdict(settings)
        *levels, form, erase = given["entries"]
        given["entries"] = [*levels, *[levels[-1]] * ((1 << cell_bits) - len(levels)), form, erase]
        for name, value in write_words(given, cell_bits).items():
            self.write(name, value)

    def fetch(self, bank: int, first: int, count: int, cycles: int = PATIENCE) -> None:
        """Ask for words of an activation memory, and wait for the packet, the next one of `Result.packets`."""
        self.send(Target(Target.READ_0 + bank), first, [count])
        self.receive(1, cycles)

    def load(self, program: LayerProgram) -> None:
        """Write everything that a layer needs but its operand."""
        for name, value in program.registers.items():
            self.write(name, value)
        self.send(Target.BIAS, 0, program.biases)
        self.send(Target.SECOND, 0, program.seconds)

    def start(self, control: int = START, cycles: int = PATIENCE) -> tuple[int, int, int]:
        """Run a layer, or calibrate, when all packets are taken; wait for irq.

        Returns the places of STATUS and ERROR in `Result.reads` and of the run's cycles in `Result.waits`.
        """
        self.sent(cycles)
        self.write("STATUS", DONE | ERROR)
        self.write("CONTROL", control | IRQ_ENABLE)
        waited = self.wait(cycles)
        return self.read("STATUS"), self.read("ERROR"), waited

    def sent(self, cycles: int = PATIENCE) -> int:
        """Wait until all packets are taken; return the place of the cycles in `Result.waits`."""
        self._add("sent", cycles)
        return self._wait()

    def wait(self, cycles: int = PATIENCE) -> int:
        """Wait for irq; return the place of the cycles in `Result.waits`."""
        self._add("wait", cycles)
        return self._wait()

    def receive(self, packets: int, cycles: int = PATIENCE) -> int:
        """Wait until so many more packets have come than all `receive` before asked for; return the place of the cycles."""
        self._add("receive", packets, cycles)
        return self._wait()

    def leave(self, register: str | int, mask: int, value: int) -> None:
        """Read a register, and if ``read & mask == value`` leave out all up to `land`; what is left out reads and waits 0."""
        self._add("leave", _offset(register), mask, value)

    def land(self) -> None:
        """Go on here behind `leave`."""
        self._add("land")

    def idle(self, cycles: int) -> None:
        """Let time pass."""
        self._add("idle", cycles)

    def stalls(self, to_core: int, from_core: int, seed: int) -> None:
        """Hold back words of the streams, in percent of all cycles, from now on."""
        self._add("stalls", to_core, from_core, seed)

    def context(self, bits: int, groups: int) -> None:
        """Tell the macros the input bits and row groups of the layer that runs next."""
        self._add("context", bits, groups)

    def image(self, number: int) -> None:
        """Tell the macros which image runs next, a coordinate of their noise."""
        self._add("image", number)

    def macros(self, path: Path) -> None:
        """Load crossbars that `verif.imc.macro_shell.macro_tables` wrote."""
        self._add("macros", path.resolve())

    def values(self, path: Path) -> None:
        """Load phases that `verif.imc.macro_shell.values` wrote, in place of those before."""
        self._add("values", path.resolve())

    def actions(self, path: Path) -> None:
        """Load jobs that `verif.imc.macro_shell.actions` wrote, behind those that are to come."""
        self._add("actions", path.resolve())

    def log(self, path: Path) -> None:
        """Log samples and draws from now on, see `verif.imc.macro_shell.read_log`."""
        self._add("log", path.resolve())

    def carry(self, library: Path, groups: int, *words: object) -> int:
        """Let ``run`` of a shared library drive the core; return the place of what it returns in `Result.reads`.

        groups : row groups that the macros are told, with the bits that it writes to LAYER_BITS
        words : its arguments, without blanks
        """
        self._add("carry", library.resolve(), OFFSETS["LAYER_BITS"], groups, *words)
        self._reads += 1
        return self._reads - 1

    def progress(self, text: str) -> None:
        """Give ``text``, one line, to the caller of `ImcSystem.run`."""
        self._add("progress", text)

    def _add(self, *parts: object) -> None:
        self.commands.append(" ".join(map(str, parts)))

    def _wait(self) -> int:
        self._waits += 1
        return self._waits - 1


def _offset(register: str | int) -> int:
    return OFFSETS[register] if isinstance(register, str) else register


@dataclass(frozen=True)
class Result:
    """What a script left behind.

    reads, waits : values of registers and cycles of waits, in the order of the script
    words : all that the core sent; ends : where its packets end; at : the cycles of their ends
    macro : what the macros saw
    failure : of the command that ended the script early, or None
    violations, violation : broken rules of the streams, and the first one
    cycles, seconds : of the whole script, reset included
    neurons : records of `NEURON`, in order, when the build has the monitor
    """

    reads: list[int]
    waits: list[int]
    words: NDArray[np.uint32]
    ends: NDArray[np.int64]
    at: NDArray[np.int64]
    macro: Report
    failure: str | None
    violations: int
    violation: str
    cycles: int
    seconds: float
    neurons: NDArray[np.void]

    @property
    def packets(self) -> list[NDArray[np.uint32]]:
        """Words of every packet that the core sent."""
        return np.split(self.words, self.ends)[: len(self.ends)]

    def check(self, *, complete: bool = True) -> "Result":
        """Return self; raise `SystemFailure` unless the script ended and no rule was broken.

        complete : all phases that were loaded must have been sampled
        """
        if self.failure is not None:
            raise SystemFailure(f"script: {self.failure}{self._macro_error()}")
        if self.violations:
            raise SystemFailure(f"protocol: {self.violation} ({self.violations} in all)")
        self.macro.check(complete=complete)
        return self

    def _macro_error(self) -> str:
        """Return the first error of the macros, which may be why the script failed."""
        return "".join(f"; macro: {kind}, {first}" for kind, (_, first) in [*self.macro.errors.items()][:1])


class ImcSystem:
    """A build of a core with its macros and the driver.

    p : the build's parameters
    design : (Verilog, name of its top) with the ports of `hdl.imc.imc.Imc`; the core of ``p`` when None
    optimise : ``"-O3"`` for workloads, ``"-O0"`` for a quick build
    prefix : of the macro's name
    monitor : record every neuron step
    """

    def __init__(self, p: ImcArch, design: tuple[str, str] | None = None, *, optimise: str = "-O3",
                 prefix: str = "spikeloom", monitor: bool = False) -> None:
        self.params, self.optimise, self.prefix, self.monitor = p, optimise, prefix, monitor
        self._design = design

    def program(self, *, trace: bool = False) -> Path:
        """Build, or find in the cache, the simulator."""
        text, top = self._design or sim.design(Imc(self.params), self.prefix)
        texts = [text, verilog(self.params, self.prefix), *([HARNESS.read_text()] if self.monitor else [])]
        return sim.build(texts, "harness" if self.monitor else top, optimise=self.optimise, public_ports=False,
                         flags=["--trace"] * trace + ["-LDFLAGS", "-ldl"], main=DRIVER, cpp=SOURCES)

    def run(self, script: Script, *, trace: Path | None = None, progress: Callable[[str], None] = lambda text: None) -> Result:
        """Play ``script`` from reset and return what came back.

        trace : file for a waveform (VCD), which takes a build of its own
        progress : takes the texts of `Script.progress` while the script runs
        """
        program = self.program(trace=trace is not None)
        with tempfile.TemporaryDirectory(prefix="spikeloom-imc-") as name:
            folder = Path(name)
            (folder / "script.txt").write_text("".join(f"{command}\n" for command in script.commands))
            np.concatenate([np.zeros(0, np.uint32), *script.words]).tofile(folder / "packets.bin")
            words = [str(program), str(folder / "script.txt"), str(folder / "packets.bin"), name]
            words += [] if trace is None else [str(trace.resolve())]
            tail: list[str] = []
            with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    tail = [*tail[-20:], line]
                    progress(line.rstrip("\n"))
            result = folder / "result.json"
            if process.returncode or not result.exists():
                raise SystemFailure(f"driver: exit {process.returncode}:\n{''.join(tail)}")
            table = json.loads(result.read_text())
            ends = np.fromfile(folder / "ends.bin", dtype=np.int64).reshape(-1, 2)
            neurons = np.fromfile(folder / "neurons.bin", NEURON) if self.monitor else np.zeros(0, NEURON)
            return Result(**{**table, "macro": Report.of(table["macro"])}, ends=ends[:, 0], at=ends[:, 1], neurons=neurons,
                          words=np.fromfile(folder / "words.bin", dtype=np.uint32))
