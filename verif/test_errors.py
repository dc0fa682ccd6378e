"""What goes wrong outside the accelerator ends in an error code within a cycle bound, and the next start works.

All cases of a test run in one simulation without a reset: a case that must fail, then a good run whose results are
compared, and so on.
"""

import json
import random
import struct
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles

from golden.arch import PRESETS, Arch
from golden.formats import (
    ALIGN,
    ERRORS,
    FORMAT_MAJOR,
    HEADER,
    HEADER_BYTES,
    LAYER,
    PASS,
    PLANE_WORD,
    RECORD_BYTES,
    TILE,
    align,
    pack,
    seal,
    unpack,
)
from golden.program_check import POSITIVE
from golden.run import logits, run
from hdl.bus.register_map import OFFSETS
from hdl.image import Image, build_image
from verif import sim
from verif.axi import AxiLite
from verif.chunks import LOOM
from verif.sim import parameters_of_bench
from verif.system import SMALLEST_MEMORY, System
from verif.system_bench import PERIOD_NS, start_once
from verif.workload import load_workload

ARCH = PRESETS["tiny"]
LATENCY = 40
BOUND = 20 * LATENCY
LIMIT = 400_000
BUSY, DONE, FAILED = 1, 2, 4
FLIPS = 30
SPACE = 1 << 17


@dataclass(frozen=True)
class Case:
    """One start. ``program``: bytes at an offset of their own, None for what lies at ``program_offset``.

    code : of ERROR, 0 for a run that ends well
    layer : of ERROR, None when the case does not say
    bound : cycles until irq, counted from the start
    """

    name: str
    code: int
    program: bytes | None = None
    layer: int | None = None
    bound: int = LIMIT
    input_offset: int = 0
    program_offset: int = 0
    stats_offset: int | None = None
    read_error: tuple[int, int] = (0, 0)
    write_error: tuple[int, int] = (0, 0)


GOOD = Case("good", 0)
BUILDS = pytest.mark.parametrize("arch", [ARCH, LOOM], ids=lambda arch: arch.name)


def impatient(arch: Arch) -> System:
    """Return the system of a build that waits for progress as short as one can."""
    return System(replace(arch, patience_log2=16))


@cache
def image(arch: Arch = ARCH) -> tuple[Image, bytes, tuple[int, ...]]:
    """Return digits' image for a build, its memory with the first input, and the golden logits."""
    workload = load_workload("digits", arch)
    built = build_image(workload.network, arch)
    words = workload.words(0)
    block = built.input_block(words)
    memory = bytearray(built.size)
    memory[: len(built.data)] = built.data
    memory[built.inputs : built.inputs + len(block)] = block
    return built, bytes(memory), tuple(logits(run(workload.network, words)).tolist())


def program(arch: Arch = ARCH) -> bytes:
    """Return the good program, header and descriptors."""
    built, memory, _ = image(arch)
    return memory[: built.program_bytes]


@cocotb.test()
async def run_cases(dut: Any) -> None:
    """Start every case in order, without a reset in between, and write what the registers say."""
    p = parameters_of_bench()
    bus = AxiLite(dut)
    bus.idle()
    for name in ("bandwidth", "stall_seed", "memory_base", "dump_lo", "start_index", "dump", "aresetn"):
        getattr(dut, name).value = 0
    dut.latency.value = p["latency"]
    dut.dump_hi.value = p["dump_hi"]
    runs = []
    for index, case in enumerate(p["cases"]):
        for kind in ("read_error", "write_error"):
            getattr(dut, f"{kind}_lo").value, getattr(dut, f"{kind}_hi").value = case[kind]
        if index == 0:
            Clock(dut.aclk, PERIOD_NS, "ns").start()
            await ClockCycles(dut.aclk, 8)
            dut.aresetn.value = 1
        await bus.write(OFFSETS["PROGRAM"], case["program_offset"])
        await bus.write(OFFSETS["STATS"], case["stats_offset"])
        runs.append(await start_once(dut, bus, index, case["input_offset"], p["max_cycles"]))
        if runs[-1]["timeout"]:
            break
        dut.dump.value = (index + 1) % 2
        await ClockCycles(dut.aclk, 2)
    Path(p["result"]).write_text(json.dumps({"runs": runs, "violations": int(dut.violations.value)}))


def start(cases: Sequence[Case], system: System | None = None, latency: int = LATENCY,
          violations: int = 0) -> list[dict[str, Any]]:
    """Run the cases and return, for each that was started, status, error, cycles and memory."""
    system = system or System(ARCH)
    built, memory, _ = image(system.arch)
    contents, rows = bytearray(memory.ljust(SPACE, b"\0")), []
    for case in cases:
        row = asdict(case) | {"stats_offset": built.stats if case.stats_offset is None else case.stats_offset}
        if case.program is not None:
            contents += bytes(max(-len(contents) % ALIGN, case.program_offset - len(contents)))
            row["program_offset"] = len(contents)
            contents += case.program
        rows.append({name: value for name, value in row.items() if name != "program"})
    beat = system.arch.data_bits // 8
    binary = system.program(memory_bytes(contents))
    with tempfile.TemporaryDirectory(prefix="spikeloom-errors-") as name:
        folder = Path(name)
        (folder / "image.bin").write_bytes(bytes(contents) + bytes(-len(contents) % beat))
        outcome, log = sim.run(
            binary, __name__, plusargs=[f"+image={folder / 'image.bin'}", f"+dump={folder / 'dump'}", "+fill=00"],
            parameters={"cases": rows, "latency": latency, "dump_hi": -(-built.size // beat), "max_cycles": LIMIT,
                        "result": str(folder / "result.json")})
        assert not outcome.failed, log[-4000:]
        table = json.loads((folder / "result.json").read_text())
        assert table["violations"] == violations, log[-4000:]
        for index, entry in enumerate(table["runs"]):
            file = folder / f"dump_{index}.bin"
            entry["dump"] = file.read_bytes() if file.exists() else b""
    runs: list[dict[str, Any]] = table["runs"]
    return runs


def memory_bytes(contents: bytes | bytearray) -> int:
    """Return the size of the simulated memory that holds ``contents``."""
    size = SMALLEST_MEMORY
    while size < len(contents):
        size *= 4
    return size


def results(dump: bytes, arch: Arch = ARCH) -> bytes:
    """Return what the network leaves in memory: masks of all layers and the read-out."""
    built, _, _ = image(arch)
    parts = [dump[t.masks : t.masks + t.pixels * t.mask_stride] for t in built.tensors.values()]
    return b"".join([*parts, *(dump[c.base : c.base + c.size] for c in built.currents.values())])


def check(cases: Sequence[Case], system: System | None = None) -> None:
    """Run every case with a good run before and after it; each must end as it says, every good run alike."""
    arch = system.arch if system else ARCH
    built, _, golden = image(arch)
    order = [GOOD] + [entry for case in cases for entry in (case, GOOD)]
    runs = start(order, system)
    region = built.currents["fc"]
    assert tuple(np.frombuffer(runs[0]["dump"][region.base :][: region.size], "<i4").tolist()) == golden
    for case, entry in zip(order, runs, strict=False):
        assert not entry["timeout"], f"{case.name}: no irq after {LIMIT} cycles"
        assert entry["error"] & 0xFF == case.code, f"{case.name}: code {entry['error'] & 0xFF}, not {case.code}"
        assert entry["error"] & 0xFF in ERRORS
        assert entry["status"] == (FAILED if case.code else DONE), case.name
        assert not entry["irq_stuck"], case.name
        assert entry["cycles"] <= case.bound, f"{case.name}: {entry['cycles']} cycles, not at most {case.bound}"
        assert case.layer is None or entry["error"] >> 16 == case.layer, f"{case.name}: layer {entry['error'] >> 16}"
        if case.code == 0:
            assert results(entry["dump"], arch) == results(runs[0]["dump"], arch), f"{case.name}: other results"
    assert len(runs) == len(order)


def flipped(bit: int) -> bytes:
    """Return the program with one flipped bit."""
    broken = bytearray(program())
    broken[bit // 8] ^= 1 << bit % 8
    return bytes(broken)


def sealed(**fields: int) -> bytes:
    """Return the program with other header fields and the CRC32 that belongs to them."""
    header = pack(HEADER, HEADER_BYTES, unpack(HEADER, program()[:HEADER_BYTES]) | fields)
    rest = header[16:] + program()[HEADER_BYTES:]
    return header[:12] + struct.pack("<I", zlib.crc32(rest)) + rest


def descriptor(number: int, sweep: int = 0, arch: Arch = ARCH, **fields: int) -> bytes:
    """Return the program with other fields in layer ``number``, or in one of its passes (1..), and a valid CRC32."""
    body, at = bytearray(program(arch)[HEADER_BYTES:]), 0
    for _ in range(number):
        at += RECORD_BYTES * (1 + unpack(LAYER, bytes(body[at : at + RECORD_BYTES]))["passes"])
    at += RECORD_BYTES * sweep
    table = PASS if sweep else LAYER
    known = unpack(table, bytes(body[at : at + RECORD_BYTES]))
    merged, size = pack(table, RECORD_BYTES, known | fields), 4 * PLANE_WORD if sweep else RECORD_BYTES
    body[at : at + size] = merged[:size]
    header = unpack(HEADER, program(arch)[:HEADER_BYTES])
    return seal(bytes(body), {name: value for name, value in header.items() if name not in ("length", "crc")})


def reading(length: int) -> int:
    """Return the most cycles in which a program of ``length`` bytes is read and found wrong."""
    return length + BOUND


@pytest.mark.parametrize("part", ["header", "descriptors"])
def test_one_flipped_bit(part: str, seed: int) -> None:
    """One flipped bit, anywhere from the magic to the last descriptor word, stops the program before its first layer.

    Only the format's minor version is free: a program of another minor version runs.
    """
    draw, cases = random.Random(seed), []
    words = range(HEADER_BYTES // 4) if part == "header" else sorted(
        {HEADER_BYTES // 4, len(program()) // 4 - 1,
         *draw.sample(range(HEADER_BYTES // 4, len(program()) // 4), FLIPS)})
    for word in words:
        bit = draw.randrange(16, 32) if word == 1 else draw.randrange(20) if word == 2 else draw.randrange(32)
        code, broken = 3, flipped(32 * word + bit)
        length = unpack(HEADER, broken[:HEADER_BYTES])["length"]
        if word == 2:
            code = 1 if length % 4 or length <= HEADER_BYTES else 3
        elif word < 2:
            code = (1, 2)[word]
        if word == 2 and length > len(broken):
            broken = broken.ljust(length, b"\0")
        cases.append(Case(f"word {word} bit {bit}", code, broken, layer=0, bound=reading(length if code == 3 else 0)))
    check(cases)


def test_length() -> None:
    """A length that is not a program's stops at the header; one that leaves what may be read is a bus error."""
    cases = [Case(f"length {n}", 1, sealed(length=n), layer=0, bound=BOUND)
             for n in (0, 4, HEADER_BYTES, len(program()) + 2, 1 << 20, 1 << 31)]
    cases += [Case(f"length {n}", 3, sealed(length=n), layer=0, bound=reading(n))
              for n in (HEADER_BYTES + 4, HEADER_BYTES + RECORD_BYTES, len(program()) - 4)]
    longer = align(len(program())) + 8192
    check([Case("unreadable", 6, sealed(length=longer), layer=0, bound=reading(longer), program_offset=SPACE,
                        read_error=(SPACE + longer - 64, SPACE + longer)), *cases])


def test_versions() -> None:
    """Another major version has a code of its own; another minor version runs."""
    check([Case(f"major {n}", 2, sealed(major=n), layer=0, bound=BOUND) for n in (0, FORMAT_MAJOR + 1, 65535)]
          + [Case("minor", 0, sealed(minor=7)), Case("magic", 1, sealed(magic=0), bound=BOUND)])


def test_limits_and_features() -> None:
    """A program that needs more than the build has, or is cut for another build, is refused before its first layer."""
    limits = {"chunks": ARCH.max_chunks + 1, "row_lines": ARCH.row_value_lines + 1,
              "weight_bytes": ARCH.weight_bytes + 1, "pool_channels": ARCH.pool_channels + 1, "t_max": ARCH.t_max + 1,
              "resume_tiles": ARCH.resume_tiles + 1,
              "weight_bits": 4, "chunk_bits": 64, "layers": 0}
    exact = {"chunks": ARCH.max_chunks, "row_lines": ARCH.row_value_lines, "weight_bytes": ARCH.weight_bytes,
             "pool_channels": ARCH.pool_channels, "t_max": ARCH.t_max, "resume_tiles": ARCH.resume_tiles}
    bound = reading(len(program()))
    check([Case(f"{name} {value}", 4, sealed(**{name: value}), layer=0, bound=bound)
           for name, value in limits.items()]
          + [Case(f"feature {bit}", 5, sealed(features=1 << bit), layer=0, bound=bound) for bit in (*range(7), 17, 31)]
          + [Case(f"exactly {exact}", 0, sealed(**exact))])


@BUILDS
def test_read_errors(arch: Arch) -> None:
    """An error response to a read stops the layer that reads, wherever it strikes."""
    built, _, _ = image(arch)
    at: dict[str, tuple[int, int | None]] = {
        "header": (0, 0), "descriptors": (HEADER_BYTES + RECORD_BYTES, 0),
        "first input": (built.inputs, 0), "last input": (built.inputs + built.input_bytes - 1, 0)}
    for number, plan in enumerate(built.plans):
        start_of, size = plan.weights
        at[f"first weights of {plan.name}"] = (start_of, number)
        at[f"values of {plan.name}"] = (start_of + size // 2, number)
    spikes = built.tensors["lif1"]
    at["masks of lif1"], at["values of lif1"] = (spikes.masks, 1), (spikes.values, 1)
    cases = [Case(name, 6, layer=layer, read_error=(offset, offset + 1)) for name, (offset, layer) in at.items()]
    outside = memory_bytes(bytes(SPACE))
    check([*cases, Case("everything", 6, layer=0, bound=BOUND, read_error=(0, outside)),
           Case("program outside", 6, layer=0, bound=BOUND, program_offset=outside),
           Case("input outside", 6, layer=0, input_offset=outside)], System(arch))


@BUILDS
def test_write_errors(arch: Arch) -> None:
    """An error response to a write stops the layer that writes."""
    built, _, _ = image(arch)
    first, second, region = built.tensors["lif1"], built.tensors["lif2"], built.currents["fc"]
    at = {"masks of lif1": (first.masks, 0), "masks of lif2": (second.masks, 1), "read-out": (region.base, 2),
          "last mask of lif1": (first.masks + first.pixels * first.mask_stride - 1, 0),
          "last logit": (region.base + region.size - 1, 2),
          "record of layer 0": (built.stats, None), "record of the last layer": (built.stats + 2 * 64, None)}
    cases = [Case(name, 7, layer=layer, write_error=(offset, offset + 1)) for name, (offset, layer) in at.items()]
    check([*cases, Case("everything", 7, layer=0, write_error=(0, SPACE)),
           Case("records outside", 7, stats_offset=align(memory_bytes(bytes(SPACE))))], System(arch))


@BUILDS
def test_illegal_fields(arch: Arch) -> None:
    """A layer or a pass with a field outside its range stops before it starts, under a valid CRC32."""
    nothing = ("steps", "height", "width", "out_height", "out_width", "columns", "pool_kernel", "pool_stride",
               "column_tiles", "row_tiles", "chunks")
    layer0 = unpack(LAYER, program(arch)[HEADER_BYTES : HEADER_BYTES + RECORD_BYTES])
    beyond = {"steps": arch.t_max + 1, "passes": 33, "chunks": arch.max_chunks + 1, "reset": 3, "leak_shift": 3}
    cases = [{name: 0} for name in nothing] + [{name: value} for name, value in beyond.items()]
    cases += [{"passes": 0}, {"weights": layer0["weights"] + 8}, {"passes": 255},
              {"resume": 1, "row_tiles": arch.resume_tiles + 1}, {"or_pool": 1, "columns": arch.pool_channels + 1}]
    cases += [{"groups": 0}, {"tile_pixels": 0}, {"stream_bytes": 0}] if arch.loom else []
    of_pass = [{name: 0} for name in POSITIVE] + [{"height": 0, "width": 0}]
    bound = reading(2 * len(program(arch)))
    check([Case(f"{sweep}: {fields}", 8, descriptor(0, sweep, arch, **fields), layer=0, bound=bound)
           for sweep, wrong in enumerate((cases, of_pass)) for fields in wrong], System(arch))


def test_contradictions() -> None:
    """A weight tile with an illegal header has a code; one that holds less than it says ends when nothing moves any more."""
    good = {"bytes": 704, "columns": 16, "masks": 128, "values": 256}
    tiles: list[tuple[int, dict[str, int]]] = [
        (8, {"bytes": 0}), (8, {"bytes": 700}), (8, {"bytes": ARCH.weight_bytes + 64}), (8, {"columns": 0}),
        (8, {"masks": 768}), (8, {"values": 1 << 31}), (9, {"columns": 65535})]
    order, at = [], SPACE
    for code, wrong in tiles:
        size = align(len(program()))
        content = descriptor(0, weights=at + size).ljust(size, b"\0") + pack(TILE, 64, good | wrong) + bytes(640)
        order += [Case(f"tile {wrong}", code, content, layer=0), GOOD]
        at += align(len(content))
    for case, entry in zip(order, start(order, impatient(ARCH)), strict=True):
        assert not entry["timeout"], f"{case.name}: no irq after {LIMIT} cycles"
        assert (entry["status"], entry["error"]) == (FAILED if case.code else DONE, case.code), case.name


@BUILDS
def test_any_descriptor_ends(arch: Arch, seed: int) -> None:
    """Random fields under a valid CRC32 end: with other results, or with a code; the next run is good.

    Fields that say how long a layer works are left alone: a layer of 2^40 steps is legal.
    """
    draw, order, kept = random.Random(seed), [], (0, image(arch)[0].outputs)
    long = {"row_tiles", "column_tiles", "columns", "pool_kernel", "kernel_height", "kernel_width", "tap_chunks"}
    in_layer, in_pass = ([field for field in table if field.name not in long] for table in (LAYER, PASS))
    for number in range(12):
        fields = {field.name: draw.choice((0, 1, draw.getrandbits(field.width)))
                  for field in draw.sample(in_layer, draw.randint(1, 3))}
        order += [Case(f"{number}: {fields}", -1, descriptor(draw.randrange(3), arch=arch, **fields),
                       write_error=kept), GOOD]
        fields = {field.name: draw.choice((0, 1, draw.getrandbits(field.width)))
                  for field in draw.sample(in_pass, draw.randint(1, 2))}
        order += [Case(f"{number}, pass: {fields}", -1, descriptor(draw.randrange(3), 1, arch, **fields),
                       write_error=kept), GOOD]
    runs = start(order, impatient(arch))
    good = results(runs[1]["dump"], arch)
    for case, entry in zip(order, runs, strict=False):
        assert not entry["timeout"], f"{case.name}: no irq after {LIMIT} cycles"
        assert entry["error"] & 0xFF in ({0} if case is GOOD else {0, 6, 7, 8, 9}), case.name
        assert case is not GOOD or results(entry["dump"], arch) == good, f"the run after {case.name}"
    assert len(runs) == len(order)


@BUILDS
def test_a_silent_memory(arch: Arch) -> None:
    """A memory that never answers ends in code 9, twice the patience after the start, while busy.

    Here alone irq rises while a read is open, which the monitor reports.
    """
    system = impatient(arch)
    (entry,) = start([GOOD], system, latency=1 << 30, violations=1)
    assert (entry["timeout"], entry["status"], entry["error"]) == (False, FAILED | BUSY, 9)
    assert entry["cycles"] <= 2 * (1 << system.arch.patience_log2) + 20


def test_checks_can_fail() -> None:
    """The checks of this file see a wrong code, a late answer, and results of another input."""
    with pytest.raises(AssertionError, match=r"^good flip: code 3, not 1"):
        check([Case("good flip", 1, flipped(8 * HEADER_BYTES))])
    with pytest.raises(AssertionError, match=r"^late: \d+ cycles, not at most 10"):
        check([Case("late", 3, flipped(8 * HEADER_BYTES), bound=10)])
    with pytest.raises(AssertionError, match=r"^other input: other results"):
        check([Case("other input", 0, input_offset=64)])

