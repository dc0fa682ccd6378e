"""The accelerator in its simulated system: build once, load an image, start it, compare what comes back.

`run` is the shipped path (cocotb writes registers and waits), `bare_speed` the bare C++ loop on the same model. Both
use ``verif/harness.sv``: a memory with latency and bandwidth, protocol monitors, a record of every neuron word.
"""

import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch, ParameterError
from hdl.bus.register_map import OFFSETS
from verif import sim

HERE = Path(__file__).parent
HARNESS = HERE / "harness.sv"
BARE = HERE / "bare.cpp"
SMALLEST_MEMORY = 1 << 24
PRINTED = 100

WAIVERS = {
    "BLKSEQ": "memory and monitors of the harness are programs, in which one statement follows the other",
    "WIDTHTRUNC": "the harness counts in 64 bits and indexes its memory with them",
    "CASEOVERLAP": "Yosys writes a choice with priorities as a casez in which the first pattern that fits wins",
    "UNUSEDPARAM": "LANES and T_MAX matter to the neuron monitor only",
}


class SystemFailure(sim.BenchError):
    """A simulated run that hung, failed, or broke a protocol; the text is the whole message."""


@dataclass(frozen=True)
class Start:
    """One start of the accelerator.

    input_offset : value of the INPUT register, bytes from the base
    """

    input_offset: int = 0


@dataclass(frozen=True)
class Words:
    """What left the neuron stage during one start, one row per cycle with ``word_valid``, in order.

    cycle, layer, tile, member, column : int64 [R]
    lanes : bool [R, lanes], the lanes that hold a real pixel
    data : int64 [R, lanes], the spike words (bit t is timestep t)
    rows : int64 [R, lanes], which row of the tile each lane holds
    """

    cycle: NDArray[np.int64]
    layer: NDArray[np.int64]
    tile: NDArray[np.int64]
    member: NDArray[np.int64]
    column: NDArray[np.int64]
    lanes: NDArray[np.bool_]
    data: NDArray[np.int64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.cycle)


@dataclass(frozen=True)
class Run:
    """What one start left behind.

    status, error : the registers STATUS and ERROR when irq rose
    cycles : from the response to the write that starts until irq rises, counted outside the accelerator
    counters : the counter registers by name (``hdl.bus.register_map.COUNTERS``)
    timeout : irq did not rise within ``max_cycles``; later starts did not happen
    dump : bytes of the memory range asked for, empty without one
    words : records of the neuron monitor, None without one
    """

    status: int
    error: int
    cycles: int
    counters: dict[str, int]
    timeout: bool
    irq_stuck: bool
    dump: bytes
    words: Words | None

    @property
    def error_code(self) -> int:
        """Field ``code`` of ERROR."""
        return self.error & 0xFF

    @property
    def error_layer(self) -> int:
        """Field ``layer`` of ERROR."""
        return self.error >> 16

    @property
    def done(self) -> bool:
        """The run ended, without an error."""
        return not self.timeout and self.status & 6 == 2


@dataclass(frozen=True)
class Result:
    """What `run` returns.

    runs : one entry per start that happened
    bus_error : message of a register access without an answer, or None
    violations : texts of the protocol monitors, in order, the first 100
    read_beats, write_beats : beats that the memory has moved in all
    simulated_cycles_per_second : clock cycles between starts and irq by the seconds they took
    """

    runs: tuple[Run, ...]
    bus_error: str | None
    violations: tuple[str, ...]
    read_beats: int
    write_beats: int
    simulated_cycles_per_second: float
    log: str

    @property
    def cycles(self) -> int:
        """Cycles of all starts together."""
        return sum(run.cycles for run in self.runs)

    @property
    def dumps(self) -> list[bytes]:
        """Memory range of every start."""
        return [run.dump for run in self.runs]

    def check(self) -> "Result":
        """Return self; raise `SystemFailure` unless every start ended well and no protocol was broken."""
        if self.violations:
            raise SystemFailure(f"protocol: {self.violations[0]} ({len(self.violations)} in all)")
        if self.bus_error is not None:
            raise SystemFailure(f"registers: {self.bus_error}")
        for index, run in enumerate(self.runs):
            if run.timeout:
                raise SystemFailure(f"start {index}: no irq after {run.cycles} cycles, status {run.status:#x}, "
                                   f"error {run.error_code}, counters {run.counters}")
            if not run.done:
                raise SystemFailure(f"start {index}: error {run.error_code} in layer {run.error_layer}, "
                                   f"status {run.status:#x} after {run.cycles} cycles")
            if run.irq_stuck:
                raise SystemFailure(f"start {index}: irq stays high after done was cleared")
        return self


@cache
def accelerator(arch: Arch) -> str:
    """Return the Verilog of the accelerator of ``arch``."""
    from hdl.ftp import Ftp

    return sim.design(Ftp(arch))[0]


class System:
    """A build of the accelerator and the harness around it.

    arch : the build's parameters
    design : Verilog with a module ``spikeloom_ftp``; the accelerator of ``arch`` when None
    monitor : record neuron words (needs the instance ``dut.core.tail``)
    optimise : ``"-O3"`` for workloads, ``"-O0"`` for a quick build
    harness : Verilog of another harness, to test the monitors
    """

    def __init__(self, arch: Arch, design: str | None = None, *, monitor: bool = True, optimise: str = "-O3",
                 harness: str | None = None) -> None:
        self.arch = arch
        self.monitor = monitor
        self.optimise = optimise
        self._design = design
        self._harness = HARNESS.read_text() if harness is None else harness

    @property
    def design(self) -> str:
        """Verilog of the accelerator."""
        return accelerator(self.arch) if self._design is None else self._design

    def program(self, memory_bytes: int = SMALLEST_MEMORY, *, trace: bool = False, bare: bool = False) -> Path:
        """Build, or find in the cache, the simulator with a memory of at least ``memory_bytes``."""
        size = SMALLEST_MEMORY
        while size < memory_bytes:
            size *= 4
        parameters = {"DATA_BITS": self.arch.data_bits, "ADDRESS_BITS": self.arch.address_bits,
                      "MEM_WORDS": size * 8 // self.arch.data_bits, "OUTSTANDING": self.arch.outstanding,
                      "BURST_BEATS": self.arch.burst_beats, "LANES": self.arch.lanes, "T_MAX": self.arch.t_max,
                      "PRINTED": PRINTED}
        flags = [f"-Wno-{name}" for name in WAIVERS]
        flags += [f"-G{name}={value}" for name, value in parameters.items()]
        flags += ["-DMONITOR"] * self.monitor
        flags += ["--trace", "-CFLAGS", "-UVM_TRACE -DVM_TRACE=1"] * trace
        flags += [word for name, offset in OFFSETS.items() for word in ("-CFLAGS", f"-DREG_{name}={offset}")] * bare
        return sim.build([self.design, self._harness], "harness", optimise=self.optimise, public_ports=not bare,
                         flags=flags, main=BARE if bare else None)

    def run(
        self,
        image: bytes,
        starts: Sequence[Start],
        *,
        base: int = 0,
        program_offset: int = 0,
        stats_offset: int = 0,
        dump: tuple[int, int] = (0, 0),
        latency: int = 100,
        bandwidth: int = 0,
        max_cycles: int = 1_000_000,
        memory_bytes: int = 0,
        fill: int = 0,
        read_error: tuple[int, int] = (0, 0),
        write_error: tuple[int, int] = (0, 0),
        stall_seed: int = 0,
        words: bool = True,
        trace: Path | None = None,
        tail_cycles: int = 4,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Result:
        """Run every start in order, without a reset in between, and return what came back.

        image : bytes of the memory from offset 0
        base : address of offset 0, the BASE register
        program_offset, stats_offset : registers PROGRAM and STATS
        dump : range of byte offsets returned after each start; empty: none
        latency, bandwidth : cycles, and bytes a cycle in each direction (0: a beat every cycle)
        max_cycles : longest run of one start
        memory_bytes : least size of the memory (the image and the dump always fit)
        fill : byte of the memory behind the image
        read_error, write_error : byte offsets that are answered with SLVERR; empty: none
        stall_seed : seed of random stalls of the memory, 0 for none; with bit 1, ready also waits for valid
        words : keep the records of the neuron monitor, when the build has one
        trace : file for a waveform (VCD), which takes a build of its own
        tail_cycles : cycles after the last start in which the monitors still look
        progress : called now and then, from another thread, with the starts that have ended; needs a dump
        """
        self._check_base(base)
        _check_ranges(latency=latency, bandwidth=bandwidth, stall_seed=stall_seed, fill=fill, max_cycles=max_cycles)
        beat = self.arch.data_bits // 8
        program = self.program(max(len(image), dump[1], memory_bytes), trace=trace is not None)
        with tempfile.TemporaryDirectory(prefix="spikeloom-run-") as name:
            folder = Path(name)
            (folder / "image.bin").write_bytes(image + bytes([fill]) * (-len(image) % beat))
            plusargs = [f"+image={folder / 'image.bin'}", f"+dump={folder / 'dump'}", f"+fill={fill:02x}"]
            record = words and self.monitor
            plusargs += [f"+words={folder / 'words.bin'}"] * record
            if trace is not None:
                plusargs += ["--trace", "--trace-file", str(trace.resolve())]
            parameters = {
                "starts": [start.input_offset for start in starts], "memory_base": base,
                "program_offset": program_offset, "stats_offset": stats_offset, "latency": latency,
                "bandwidth": bandwidth, "stall_seed": stall_seed, "max_cycles": max_cycles, "tail_cycles": tail_cycles,
                "dump_lo": dump[0] // beat, "dump_hi": -(-dump[1] // beat) if dump[1] > dump[0] else dump[0] // beat,
                "read_error_lo": read_error[0], "read_error_hi": read_error[1],
                "write_error_lo": write_error[0], "write_error_hi": write_error[1],
                "result": str(folder / "result.json"),
            }
            with sim.watching(lambda: progress(len([*folder.glob("dump_*.bin")]))):
                outcome, log = sim.run(program, "verif.system_bench", parameters=parameters, plusargs=plusargs)
            if outcome.failed:
                raise SystemFailure(f"system_bench: the bench itself failed:\n{log[-4000:]}")
            table = json.loads((folder / "result.json").read_text())
            seen = _words((folder / "words.bin").read_bytes(), self.arch, len(starts)) if record else None
            files = [folder / f"dump_{index}.bin" for index in range(len(starts))]
            skip = dump[0] % beat
            dumps = [file.read_bytes()[skip : skip + dump[1] - dump[0]] if file.exists() else b"" for file in files]
            return _result(table, log, dumps, seen)

    def bare_speed(self, image: bytes, cycles: int, *, input_offset: int = 0, base: int = 0, program_offset: int = 0,
                   stats_offset: int = 0, latency: int = 100, bandwidth: int = 0) -> dict[str, Any]:
        """Clock the same model ``cycles`` cycles in a bare C++ loop, starting again at every irq.

        Returns ``cycles, seconds, done`` (starts that ended), ``violations`` and ``cycles_per_second``.
        """
        self._check_base(base)
        _check_ranges(latency=latency, bandwidth=bandwidth, cycles=cycles)
        program = self.program(len(image), bare=True)
        with tempfile.NamedTemporaryFile(prefix="spikeloom-image-") as file:
            file.write(image + bytes(-len(image) % (self.arch.data_bits // 8)))
            file.flush()
            result = subprocess.run(
                [str(program), f"+image={file.name}", f"+cycles={cycles}", f"+base={base}",
                 f"+program={program_offset}", f"+input={input_offset}", f"+stats={stats_offset}",
                 f"+latency={latency}", f"+bandwidth={bandwidth}"],
                check=False, capture_output=True, text=True)
        if result.returncode:
            raise SystemFailure(f"bare loop: exit {result.returncode}: {(result.stdout + result.stderr)[-2000:]}")
        table: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
        if not table["done"]:
            raise SystemFailure(f"bare loop: no start ended in {cycles} cycles")
        table["cycles_per_second"] = table["cycles"] / table["seconds"]
        return table

    def _check_base(self, base: int) -> None:
        if not 0 <= base < 1 << self.arch.address_bits or base % 64:
            raise ParameterError(f"base: must be a multiple of 64 below 2^{self.arch.address_bits}, not {base:#x}")


RANGES = {"latency": (1, 1 << 20), "bandwidth": (0, 1 << 20), "stall_seed": (0, (1 << 32) - 1), "fill": (0, 255),
          "max_cycles": (1, 10**12), "cycles": (1, 10**12)}


def _check_ranges(**values: int) -> None:
    for name, value in values.items():
        low, high = RANGES[name]
        if not low <= value <= high:
            raise ParameterError(f"{name}: must be in {low}..{high}, not {value!r}")


def _words(data: bytes, arch: Arch, starts: int) -> list[Words]:
    lane_words, data_words = -(-arch.lanes // 32), -(-arch.lanes * arch.t_max // 32)
    kind = np.dtype([("start", "<u4"), ("cycle", "<u8"), ("layer", "<u4"), ("tile", "<u4"), ("member", "<u4"),
                     ("column", "<u4"), ("lanes", "<u4", (lane_words,)), ("data", "<u4", (data_words,)),
                     ("rows", "<u4", (-(-arch.lanes // 4),))])
    table = np.frombuffer(data, dtype=kind)

    def bits(field: str) -> NDArray[np.uint8]:
        raw = np.ascontiguousarray(table[field]).view(np.uint8).reshape(len(table), 4 * table[field].shape[1])
        return np.unpackbits(raw, axis=1, bitorder="little")

    lanes = bits("lanes")[:, : arch.lanes].astype(bool)
    planes = bits("data")[:, : arch.lanes * arch.t_max].reshape(len(table), arch.lanes, arch.t_max)
    values = planes.astype(np.int64) @ (1 << np.arange(arch.t_max, dtype=np.int64))
    numbers = np.ascontiguousarray(table["rows"]).view(np.uint8)[:, : arch.lanes].astype(np.int64)
    scalar = {name: table[name].astype(np.int64) for name in ("cycle", "layer", "tile", "member", "column")}
    result = []
    for start in range(starts):
        rows = table["start"] == start
        result.append(Words(**{name: column[rows] for name, column in scalar.items()},
                            lanes=lanes[rows], data=values[rows], rows=numbers[rows]))
    return result


def _result(table: dict[str, Any], log: str, dumps: list[bytes], words: list[Words] | None) -> Result:
    runs = []
    for index, entry in enumerate(table["runs"]):
        runs.append(Run(status=entry["status"], error=entry["error"], cycles=entry["cycles"],
                        counters=entry["counters"], timeout=entry["timeout"], irq_stuck=entry["irq_stuck"],
                        dump=dumps[index], words=words[index] if words is not None else None))
    seconds = sum(entry["seconds"] for entry in table["runs"])
    violations = tuple(re.findall(r"AXI violation: (.*)", log))
    if len(violations) < min(table["violations"], PRINTED):
        raise SystemFailure(f"protocol: {table['violations']} violations counted, {len(violations)} in the log")
    cycles = sum(run.cycles for run in runs)
    return Result(runs=tuple(runs), bus_error=table["bus_error"], violations=violations,
                  read_beats=table["read_beats"], write_beats=table["write_beats"],
                  simulated_cycles_per_second=cycles / seconds if seconds else 0.0, log=log)


def run(arch: Arch, image: bytes, starts: Sequence[Start], **options: Any) -> Result:
    """Run the accelerator of ``arch``; options as `System.run`."""
    return System(arch).run(image, starts, **options)


def bare_speed(arch: Arch, image: bytes, cycles: int, **options: Any) -> dict[str, Any]:
    """Clock the accelerator of ``arch`` in a bare C++ loop; options and result as `System.bare_speed`."""
    return System(arch).bare_speed(image, cycles, **options)
