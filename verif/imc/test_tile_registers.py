"""Control registers of a tile: every register over AXI4-Lite, its lock while busy, settings of programming, the page."""

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge

from golden.imc.arch import IMC_PRESETS, Error, ImcArch
from golden.imc.correction import tile_ranges
from golden.imc.devices import DEVICES
from hdl.bus.axi_lite import ADDRESS_BITS
from hdl.bus.register_map import markdown, register_json
from hdl.imc.tile import Tile
from hdl.imc.tile_register_map import COUNTED, NUMBER_FIELDS, OFFSETS, identity, register_map, registers
from hdl.imc.tile_registers import TileRegisters
from hdl.imc.write_job import settings_layout
from hdl.imc.write_registers import LEVELS, write_words
from verif.axi import AxiLite
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import reset, stalls, word
from verif.test_registers import pulse, watch

TINY = IMC_PRESETS["tiny-ci"]
PAGE = Path(__file__).parents[2] / "docs" / "imc-tile-registers.md"
START, IRQ_ENABLE, CALIBRATE, STOP = 1, 2, 4, 8
BUSY, DONE, FAILED = 1, 2, 4
OTHERS = ("MAGIC", "RTL_VERSION", "CONFIG_HASH", "CONTROL", "STATUS", "ERROR", "NUMBER")
# What a register of a setting holds.
SETTINGS = {r.name: sum((1 << f.width) - 1 << f.lsb for f in r.fields)
            for r in registers() if r.name not in OTHERS and r.name.lower() not in COUNTED}
BUILT = [name for name in SETTINGS if not (name.startswith("LEVEL_") and int(name.split("_")[1]) >> TINY.cell_bits)]


def test_tile_registers() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(TileRegisters(TINY), __name__, parameters=dataclasses.asdict(TINY))


@pytest.mark.parametrize(("old", "new", "caught"), [
    pytest.param('given.writes(OFFSETS["NUMBER"]) & ~active', 'given.writes(OFFSETS["NUMBER"])', "life", id="no lock"),
    pytest.param("access.word[3]", "access.word[2]", "life", id="no stop"),
    pytest.param("tile_number(p, number", "1 | tile_number(p, number", "numbers", id="numbers that are cut"),
])
def test_mutants_are_caught(old: str, new: str, caught: str) -> None:
    """Numbers that change while busy or are cut, and a stop that is none, are caught."""
    outcome = simulate(mutant(TileRegisters, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY),
                       expect_failure=True)
    assert any(caught in name for name in outcome.failed), outcome.failed


def test_page_is_current() -> None:
    """The page in docs is the one that the table makes."""
    assert PAGE.read_text() == markdown(register_map()), (
        "try: python -m hdl.imc.tile_register_map > docs/imc-tile-registers.md")


def test_registers_have_places_of_their_own() -> None:
    """Offsets are words below the end of the slave, no two are the same, fields do not overlap, builds differ in their hash."""
    assert len({register.name for register in registers()}) == len({*OFFSETS.values()}) == len(registers())
    assert all(not offset % 4 and 0 <= offset < 1 << ADDRESS_BITS for offset in OFFSETS.values())
    for register in registers():
        bits = [bit for field in register.fields for bit in range(field.lsb, field.lsb + field.width)]
        assert len(bits) == len(set(bits)) and max(bits) < 32, register.name
    maps = [json.loads(register_json(register_map(p)))["registers"] for p in IMC_PRESETS.values()]
    assert {row["name"] for rows in maps for row, first in zip(rows, maps[0], strict=True) if row != first} == {"CONFIG_HASH"}


async def started(dut: Any, *, paused: bool = False) -> tuple[AxiLite, random.Random]:
    """Reset the block; return a bus master and the random numbers of the test."""
    rng = random.Random(cocotb.RANDOM_SEED)
    bus = AxiLite(dut, "", clock=dut.clk, pauses=stalls(rng) if paused else None)
    bus.idle()
    for name in ("busy", "done", "error", "code", "counters"):
        getattr(dut, name).value = 0
    await reset(dut, ())
    cocotb.start_soon(watch(dut))
    return bus, rng


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(paused=[False, True])
async def written_values(dut: Any, paused: bool) -> None:
    """Identity and settings read back, levels that the build has not stay 0; wider words are left out and told."""
    bus, rng = await started(dut, paused=paused)
    built = identity(ImcArch(**parameters_of_bench()))
    for name in rng.sample([*SETTINGS], len(SETTINGS)):
        assert await bus.read(OFFSETS[name]) == 0
        room, held = SETTINGS[name] if name in BUILT else 0, 0
        for value in rng.sample((room, rng.getrandbits(32) & room, 0xFFFF_FFFF), 3):
            value &= ~0x20 if name.startswith("PLACE") and not value & ~room else -1
            await bus.write(OFFSETS[name], value)
            held = held if value & ~room else value
            assert (await bus.read(OFFSETS[name]), dut.misfit.value) == (held, value & ~room != 0), name
            dut.code.value = int(Error.SETTINGS)
            await pulse(dut, "error")
            assert not dut.misfit.value
    for name, value in built.items():
        await bus.write(OFFSETS[name], 0)
        assert await bus.read(OFFSETS[name]) == value


@cocotb.test(timeout_time=500, timeout_unit="us")
async def numbers(dut: Any) -> None:
    """Numbers at the ends of their ranges reach the tile, those beyond, and for no ADC or column, are left out and told."""
    bus, _ = await started(dut)
    p, pulses = ImcArch(**parameters_of_bench()), dict.fromkeys(("start", "calibrate", "stop", "write", "seen"), 0)
    cocotb.start_soon(count(dut, pulses))
    dut.code.value = int(Error.SETTINGS)
    for what, (low, high) in enumerate(tile_ranges(p)):
        most = p.mux - 1 if what >= 2 else 0
        for number, adc, column in ((low, 0, 0), (high, p.adcs - 1, most), (low - 1, 0, 0), (high + 1, 0, 0), (low, p.adcs, 0),
                                    (low, 0, most + 1)):
            before = pulses["write"]
            await bus.write(OFFSETS["NUMBER"], number_word(what=what, adc=adc, column=column, number=number))
            await bus.read(OFFSETS["NUMBER"])
            fits = low <= number <= high and adc < p.adcs and column <= most
            assert (pulses["write"] - before, dut.misfit.value) == (fits, not fits), (what, number, adc, column)
            await pulse(dut, "error")
            assert not dut.misfit.value
    await bus.write(OFFSETS["NUMBER"], 1 << 31)
    assert dut.misfit.value


def number_word(**fields: int) -> int:
    """Return the word of the register NUMBER."""
    return sum((value & (1 << NUMBER_FIELDS[name][1]) - 1) << NUMBER_FIELDS[name][0] for name, value in fields.items())


@cocotb.test(timeout_time=200, timeout_unit="us")
async def programming(dut: Any) -> None:
    """Settings of every device are on their port as they were written."""
    bus, _ = await started(dut)
    p = ImcArch(**parameters_of_bench())
    for device in (device for device in DEVICES.values() if device.cell_bits >= p.cell_bits):
        settings = dataclasses.asdict(device.settings(p.cell_bits))
        words = write_words(settings, p.cell_bits)
        assert set(words) == {name for name in BUILT if name.startswith(("WRITE", "LEVEL", "FORM", "ERASE"))}
        for name, value in words.items():
            await bus.write(OFFSETS[name], value)
        assert int(dut.writing.value) == word(settings_layout(p), settings)
    assert f"LEVEL_{LEVELS - 1}_BOUNDS" in SETTINGS


@cocotb.test(timeout_time=200, timeout_unit="us")
async def counters(dut: Any) -> None:
    """Each counter reads as its word of those that are counted."""
    bus, rng = await started(dut)
    names = ("cycles", "phases", "skipped", "rows", "conversions", "steps", "spikes", "words", "pulses", "reads")
    values = {name: rng.getrandbits(32) for name in names}
    dut.counters.value = sum(value << 32 * n for n, value in enumerate(values.values()))
    assert {name: await bus.read(OFFSETS[name.upper()]) for name in COUNTED} == {name: values[name] for name in COUNTED}


async def count(dut: Any, pulses: dict[str, int]) -> None:
    """Count the cycles in which a command is given, and those in which a number is written."""
    while True:
        await FallingEdge(dut.clk)
        for name in ("start", "calibrate", "stop"):
            pulses[name] += int(getattr(dut, name).value)
        write = Tile.write_layout(TINY).from_bits(int(dut.write.value))
        if write.valid:
            pulses["write"] += 1
            pulses["seen"] = (int(write.what), int(write.adc), int(write.column), int(write.number)) == (2, 3, 1, 5)


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(command=[START, CALIBRATE])
async def life_of_a_run(dut: Any, command: int) -> None:
    """A command pulses once, settings and numbers are held while busy, a stop is always heard, done and error raise irq."""
    bus, _ = await started(dut)
    pulses = dict.fromkeys(("start", "calibrate", "stop", "write", "seen"), 0)
    cocotb.start_soon(count(dut, pulses))
    await bus.write(OFFSETS["NUMBER"], number_word(what=2, adc=3, column=1, number=5))
    await bus.write(OFFSETS["CONTROL"], command | IRQ_ENABLE)
    dut.busy.value = 1
    await bus.write(OFFSETS["CONTROL"], command | IRQ_ENABLE | STOP)
    for name in ("VECTOR_BITS", "MACHINE_GROUPS", "PLACE_3", "WRITE_PATIENCE", "LEVEL_1_SET_BIT", "NUMBER"):
        await bus.write(OFFSETS[name], 1)
        assert await bus.read(OFFSETS[name]) == 0
    assert pulses == {"start": int(command == START), "calibrate": int(command == CALIBRATE), "stop": 1, "write": 1, "seen": 1}
    assert (await bus.read(OFFSETS["STATUS"]), dut.irq.value) == (BUSY, 0)
    dut.code.value = 7
    await pulse(dut, "error")
    assert (dut.irq.value, await bus.read(OFFSETS["STATUS"]), await bus.read(OFFSETS["ERROR"])) == (1, BUSY | FAILED, 7)
    await bus.write(OFFSETS["STATUS"], FAILED)
    await pulse(dut, "done")
    dut.busy.value = 0
    assert (dut.irq.value, await bus.read(OFFSETS["STATUS"])) == (1, DONE)
    await bus.write(OFFSETS["CONTROL"], command)
    assert (await bus.read(OFFSETS["STATUS"]), dut.irq.value) == (0, 0)
