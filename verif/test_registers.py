"""Control registers: every register over AXI4-Lite, the life of a run, cycle counts, protocol, generated documents."""

import json
import random
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import PRESETS
from hdl.bus.register_map import (
    COUNTERS,
    OFFSETS,
    REGISTERS,
    RTL_VERSION,
    base_mask,
    c_header,
    markdown,
    register_json,
    register_map,
    resets,
    svd,
)
from hdl.bus.registers import Registers
from verif.axi import AxiLite
from verif.sim import simulate
from verif.stream import cycle, reset, stalls

ARCH = PRESETS["tiny"]
RESETS = resets(ARCH)
RESPONSES = {"b": ("bresp",), "r": ("rresp", "rdata")}
PORTS = {"PROGRAM": "program_offset", "INPUT": "input_offset", "STATS": "stats_offset"}
MUTANTS = {
    "write response does not wait": ("bvalid & bready", "bvalid"),
    "read response does not wait": ("rvalid & rready", "rvalid"),
    "interrupt upside down": (r"assign irq = ", "assign irq = ~ "),
    "base words swapped": (r"base\[31:0\], base\[63:32\]", "base[63:32], base[31:0]"),
}


def test_registers() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Registers(ARCH), __name__)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutant_is_caught(mutant: str) -> None:
    """A block that breaks the protocol or a value is caught."""
    assert simulate(Registers(ARCH), __name__, replace=MUTANTS[mutant], expect_failure=True).failed


async def watch(dut: Any) -> None:
    """Monitor both response channels: valid waits for ready, the payload holds, every response has its request."""
    held: dict[str, tuple[int, ...] | None] = dict.fromkeys(RESPONSES)
    requests = {"aw": 0, "w": 0, "ar": 0}
    while True:
        await FallingEdge(dut.clk)
        if dut.rst.value:
            assert not dut.bvalid.value and not dut.rvalid.value, "a response during reset"
            continue
        for channel, fields in RESPONSES.items():
            valid, ready = getattr(dut, f"{channel}valid").value, getattr(dut, f"{channel}ready").value
            payload = tuple(int(getattr(dut, name).value) for name in fields)
            if held[channel] is not None:
                assert valid, f"{channel}valid fell in cycle {cycle()} before {channel}ready"
                assert payload == held[channel], f"{channel} payload changed in cycle {cycle()}"
            held[channel] = payload if valid and not ready else None
            if valid and ready:
                for request in ("aw", "w") if channel == "b" else ("ar",):
                    requests[request] -= 1
                    assert requests[request] >= 0, f"{channel}: a response without a request in cycle {cycle()}"
        for request in requests:
            if getattr(dut, f"{request}valid").value and getattr(dut, f"{request}ready").value:
                requests[request] += 1


async def started(dut: Any, *, paused: bool = False) -> tuple[AxiLite, random.Random]:
    """Reset the block and return a bus master and the random numbers of the test."""
    rng = random.Random(cocotb.RANDOM_SEED)
    bus = AxiLite(dut, "", clock=dut.clk, pauses=stalls(rng) if paused else None)
    bus.idle()
    for name in ("busy", "done", "error", "error_code", "error_layer", "counters"):
        getattr(dut, name).value = 0
    await reset(dut, ())
    cocotb.start_soon(watch(dut))
    return bus, rng


async def pulse(dut: Any, name: str) -> None:
    """Raise an input for one cycle."""
    getattr(dut, name).value = 1
    await RisingEdge(dut.clk)
    getattr(dut, name).value = 0
    await RisingEdge(dut.clk)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(paused=[False, True])
async def reset_values(dut: Any, paused: bool) -> None:
    """Every address of the map has its reset value, others read 0; writes to them and to read-only ones are lost."""
    bus, _ = await started(dut, paused=paused)
    names = {offset: name for name, offset in OFFSETS.items()}
    for offset in (*OFFSETS.values(), 0x02C, 0x044, 0x0D0, 0x100, 0x800, 0xFFC):
        assert await bus.read(offset) == RESETS.get(names.get(offset, ""), 0)
    fixed = [r.offset for r in REGISTERS if r.access == "ro"] + [0x02C, 0x100, 0xFFC]
    for offset in fixed:
        await bus.write(offset, 0xFFFFFFFF)
    for offset in fixed:
        assert await bus.read(offset) == RESETS.get(names.get(offset, ""), 0)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(paused=[False, True])
async def written_values(dut: Any, paused: bool) -> None:
    """Random writes with random byte strobes read back and appear on the ports."""
    bus, rng = await started(dut, paused=paused)
    model = dict.fromkeys(("BASE_LO", "BASE_HI", *PORTS), 0)
    for _ in range(60):
        name, value, strobe = rng.choice(list(model)), rng.getrandbits(32), rng.choice((0xF, 0xF, rng.getrandbits(4)))
        mask = sum(0xFF << 8 * byte for byte in range(4) if strobe >> byte & 1)
        keep = {"BASE_LO": base_mask(ARCH) & 0xFFFFFFFF, "BASE_HI": base_mask(ARCH) >> 32}.get(name, 0xFFFFFFFF)
        model[name] = model[name] & ~mask | value & mask & keep
        await bus.write(OFFSETS[name], value, strobe)
        assert await bus.read(OFFSETS[name] | rng.getrandbits(2)) == model[name]
        assert dut.base.value == model["BASE_HI"] << 32 | model["BASE_LO"]
        assert {name: int(getattr(dut, port).value) for name, port in PORTS.items()} == {k: model[k] for k in PORTS}


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def counters(dut: Any) -> None:
    """Each 64-bit counter reads as its low and high word."""
    bus, rng = await started(dut)
    values = [rng.getrandbits(64) for _ in COUNTERS]
    dut.counters.value = sum(value << 64 * index for index, value in enumerate(values))
    await RisingEdge(dut.clk)
    assert [await bus.read_pair(OFFSETS[f"{name.upper()}_LO"]) for name in COUNTERS] == values


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def life_of_a_run(dut: Any) -> None:
    """A start pulses once, busy holds the registers, done and error raise irq until they are cleared."""
    bus, _ = await started(dut)
    control, status = OFFSETS["CONTROL"], OFFSETS["STATUS"]
    pulses = []

    async def count_pulses() -> None:
        while True:
            await FallingEdge(dut.clk)
            if dut.start.value:
                pulses.append(cycle())

    cocotb.start_soon(count_pulses())
    await bus.write(OFFSETS["PROGRAM"], 0x40)
    await bus.write(control, 3, 0b1110)
    await bus.write(control, 2)
    assert (pulses, await bus.read(control)) == ([], 2)
    await bus.write(control, 3)
    await bus.write(control, 3)
    dut.busy.value = 1
    await bus.write(control, 3)
    await bus.write(OFFSETS["PROGRAM"], 0x80)
    assert (len(pulses), await bus.read(status), await bus.read(control)) == (1, 1, 2)
    assert (await bus.read(OFFSETS["PROGRAM"]), dut.irq.value) == (0x40, 0)
    dut.busy.value = 0
    await pulse(dut, "done")
    assert (dut.irq.value, await bus.read(status)) == (1, 2)
    await bus.write(status, 4)
    assert await bus.read(status) == 2
    await bus.write(status, 2)
    assert (dut.irq.value, await bus.read(status)) == (0, 0)
    await bus.write(control, 1)
    dut.error_code.value, dut.error_layer.value = 6, 0x1234
    await pulse(dut, "error")
    dut.error_code.value = 7
    assert (dut.irq.value, await bus.read(status), await bus.read(OFFSETS["ERROR"])) == (0, 4, 0x12340006)
    await bus.write(control, 2)
    assert dut.irq.value == 1
    await bus.write(control, 3)
    assert (len(pulses), await bus.read(status), await bus.read(OFFSETS["ERROR"]), dut.irq.value) == (3, 1, 0, 0)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def cycles(dut: Any) -> None:
    """A read answers after 1 cycle, a write after 2; both start again every 2 cycles when nothing waits."""
    await started(dut)
    dut.araddr.value, dut.arvalid.value, dut.rready.value = OFFSETS["MAGIC"], 1, 1
    dut.awaddr.value, dut.awvalid.value, dut.wvalid.value, dut.bready.value = OFFSETS["INPUT"], 1, 1, 1
    dut.wdata.value, dut.wstrb.value = 0xCAFE, 0xF
    seen: dict[str, list[int]] = {"ar": [], "r": [], "w": [], "b": []}
    for _ in range(24):
        await FallingEdge(dut.clk)
        for channel, at in seen.items():
            if getattr(dut, f"{channel}valid").value and getattr(dut, f"{channel}ready").value:
                at.append(cycle())
        if seen["b"]:
            assert dut.input_offset.value == 0xCAFE
        await RisingEdge(dut.clk)
    assert [r - ar for ar, r in zip(seen["ar"], seen["r"], strict=False)] == [1] * 12
    assert {b - a for a, b in zip(seen["r"], seen["r"][1:], strict=False)} == {2}
    assert [b - w for w, b in zip(seen["w"], seen["b"], strict=False)] == [2] * len(seen["b"])
    assert {b - a for a, b in zip(seen["b"], seen["b"][1:], strict=False)} == {2}


def test_map_is_consistent() -> None:
    """Offsets are distinct words in the address space, fields do not overlap, limits fit their fields."""
    assert len(set(OFFSETS.values())) == len(REGISTERS) == len(OFFSETS)
    assert all(offset % 4 == 0 and offset < 1 << 12 for offset in OFFSETS.values())
    for register in REGISTERS:
        bits = [bit for f in register.fields for bit in range(f.lsb, f.lsb + f.width)]
        assert len(set(bits)) == len(bits) and max(bits) < 32
        if register.name.startswith("LIMITS_"):
            for field in register.fields:
                value = RESETS[register.name] >> field.lsb & ((1 << field.width) - 1)
                assert value == getattr(ARCH, field.name)


def test_version_is_the_project_version() -> None:
    """The hardware version equals the version in pyproject.toml."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert ".".join(map(str, RTL_VERSION)) == project["version"]


def test_documents_agree() -> None:
    """Markdown, C header, JSON and SVD name every register with its offset and reset value."""
    table = json.loads(register_json(register_map(ARCH)))["registers"]
    assert {r["name"]: (r["offset"], r["reset"]) for r in table} == {n: (OFFSETS[n], RESETS[n]) for n in OFFSETS}
    found = ElementTree.fromstring(svd(register_map(ARCH))).iter("register")
    assert {(r.findtext("name"), int(r.findtext("addressOffset") or "", 16), int(r.findtext("resetValue") or "", 16))
            for r in found} == {(n, OFFSETS[n], RESETS[n]) for n in OFFSETS}
    rows = re.findall(r"^\| 0x(\w+) \| (\w+) \| \w+ \| 0x(\w+)", markdown(register_map(ARCH)), re.M)
    assert {name: (int(offset, 16), int(value, 16)) for offset, name, value in rows} == {
        n: (OFFSETS[n], RESETS[n]) for n in OFFSETS}


def test_fields_say_how_they_are_accessed() -> None:
    """In the SVD, start is write-only and busy read-only; every other field is accessed as its register."""
    found = {(register.findtext("name"), field.findtext("name")): field.findtext("access")
             for register in ElementTree.fromstring(svd(register_map(ARCH))).iter("register")
             for field in register.iter("field")}
    assert {place: access for place, access in found.items() if access} == {
        ("CONTROL", "start"): "write-only", ("STATUS", "busy"): "read-only"}


def test_page_is_current() -> None:
    """The page in docs is the one that the table makes."""
    page = Path(__file__).parents[1] / "docs" / "registers.md"
    assert page.read_text() == markdown(register_map()), (
        "try: python -m hdl.bus.register_map > docs/registers.md")


def test_header_compiles(tmp_path: Path) -> None:
    """A C compiler accepts the header and finds the same offsets and masks."""
    checks = [f"SPIKELOOM_{name} == {offset}" for name, offset in OFFSETS.items()]
    checks += ["SPIKELOOM_STATUS_DONE_MASK == 2", f"SPIKELOOM_MAGIC_RESET == {RESETS['MAGIC']}u"]
    (tmp_path / "registers.h").write_text(c_header(register_map(ARCH)))
    source = tmp_path / "check.c"
    lines = "\n".join(f'_Static_assert({check}, "{check}");' for check in checks)
    source.write_text(f'#include "registers.h"\n#include "registers.h"\n{lines}\n')
    compiler = shutil.which("cc") or "gcc"
    flags = ["-std=c11", "-Wall", "-Werror", "-pedantic"]
    command = [compiler, *flags, "-c", "-o", str(tmp_path / "check.o"), str(source)]
    subprocess.run(command, check=True)
    source.write_text('#include "registers.h"\n_Static_assert(SPIKELOOM_STATUS == 0, "wrong");\n')
    assert subprocess.run(command, capture_output=True).returncode != 0
