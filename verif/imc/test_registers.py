"""Control registers of a core of tiles: every register over AXI4-Lite, runs and calibrations, protocol, cycles, map."""

import dataclasses
import itertools
import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import Error
from golden.imc.devices import DEVICES
from hdl.imc.early_exit import EarlyExit
from hdl.imc.event_counters import EVENTS
from hdl.imc.layer import EXIT, FIELDS, MACHINE, exit_layout, layer_layout, machine_layout
from hdl.imc.register_map import OFFSETS, identity, registers, verdict
from hdl.imc.registers import Registers
from hdl.imc.shift_add import PLACES, ShiftAdd
from hdl.imc.write_job import settings_layout
from hdl.imc.write_registers import write_words
from verif.axi import AxiLite
from verif.imc.layers import TINY, arch
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import cycle, reset, stalls, word
from verif.test_registers import pulse, watch

START, IRQ_ENABLE, CALIBRATE = 1, 2, 4
BUSY, DONE, FAILED = 1, 2, 4
# Addresses behind the last register of every part, and the last one.
EMPTY = (0x00C, 0x01C, 0x040 + 4 * len(EVENTS), 0x100 + 4 * len(FIELDS), 0x200 + 4 * len(MACHINE), 0x300 + 4 * PLACES,
         0xA08 + 4 * len(EXIT), 0xFFC)
SETTINGS = {r.name: sum((1 << f.width) - 1 << f.lsb for f in r.fields) for r in registers()
            if r.access == "rw" and r.name.startswith(("LAYER_", "MACHINE_", "PLACE_", "EXIT_"))}
PORTS = {"LAYER": layer_layout(), "MACHINE": machine_layout(), "EXIT": exit_layout()}


def test_registers() -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Registers(TINY), __name__, parameters=dataclasses.asdict(TINY))


@pytest.mark.parametrize(("old", "new", "caught"), [
    pytest.param("& ~active):\n            m.d.sync += target", "):\n            m.d.sync += target", "life_of_a_run",
                 id="no lock"),
    pytest.param("irq_enable & (done | failed)", "irq_enable & done", "life_of_a_run", id="errors without interrupt"),
    pytest.param("access.write & fits", "access.write", "written_values", id="words that are cut"),
])
def test_mutants_are_caught(old: str, new: str, caught: str) -> None:
    """Settings that change in a run, errors that nobody hears, and words that are cut, are caught."""
    outcome = simulate(mutant(Registers, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True)
    assert any(caught in name for name in outcome.failed), outcome.failed


def test_response_that_does_not_wait_is_caught() -> None:
    """A block that breaks the protocol is caught."""
    simulate(Registers(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True,
             replace=("rvalid & rready", "rvalid"))


def test_map_is_consistent() -> None:
    """Offsets are distinct words in the address space, fields do not overlap, settings are as wide as their ports."""
    assert len({*OFFSETS.values()}) == len(registers()) == len(OFFSETS)
    assert all(offset % 4 == 0 and offset < 1 << 12 for offset in OFFSETS.values())
    assert not {*EMPTY} & {*OFFSETS.values()}
    for register in registers():
        bits = [bit for f in register.fields for bit in range(f.lsb, f.lsb + f.width)]
        assert len({*bits}) == len(bits) and max(bits) < 32
    for prefix, layout in PORTS.items():
        assert {name: (1 << size) - 1 for name, size in layout.members.items()} == {
            name.removeprefix(f"{prefix}_").lower(): mask for name, mask in SETTINGS.items() if name.startswith(prefix)}


async def started(dut: Any, *, paused: bool = False) -> tuple[AxiLite, random.Random]:
    """Reset the block; return a bus master and the random numbers of the test."""
    rng = random.Random(cocotb.RANDOM_SEED)
    bus = AxiLite(dut, "", clock=dut.clk, pauses=stalls(rng) if paused else None)
    bus.idle()
    for name in ("busy", "writes", "done", "error", "code", "counters", "verdict"):
        getattr(dut, name).value = 0
    await reset(dut, ())
    cocotb.start_soon(watch(dut))
    return bus, rng


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_values(dut: Any) -> None:
    """Identity reads as it is built, all else 0; writes to what is only read, and to no register, are lost."""
    bus, _ = await started(dut)
    wanted = dict.fromkeys((*OFFSETS.values(), *EMPTY), 0) | {OFFSETS[n]: value for n, value in identity(arch()).items()}
    for offset, value in wanted.items():
        assert await bus.read(offset) == value, hex(offset)
    fixed = [*EMPTY, *(r.offset for r in registers() if r.access == "ro")]
    for offset in fixed:
        await bus.write(offset, 0xFFFF_FFFF)
    for offset in fixed:
        assert await bus.read(offset) == wanted[offset], hex(offset)
    assert not dut.layer.value and not dut.machine.value and not dut.places.value


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(paused=[False, True])
async def written_values(dut: Any, paused: bool) -> None:
    """Every setting reads back, written whole whatever the strobes, and is seen on its port. A wider word is left out and told
    until an error has told it; so is one for a register that the build has not.

    A shift that the weights of the build do not need is told, and is seen in as many bits as they need.
    """
    bus, rng = await started(dut, paused=paused)
    model: dict[str, int] = dict.fromkeys(SETTINGS, 0)
    places = ShiftAdd.settings_layout(arch()).members["places"]
    shift = (1 << (arch().weight_bits - 1).bit_length()) - 1
    assert arch().weight_bits <= 15 and not dut.misfit.value
    for name in rng.sample([*SETTINGS], len(SETTINGS)):
        room = SETTINGS[name]
        for value in rng.sample((room, rng.getrandbits(32) & room, (room + 1) & 0xFFFF_FFFF, 0xFFFF_FFFF), 4):
            await bus.write(OFFSETS[name] | rng.getrandbits(2), value, rng.choice((15, 15, rng.getrandbits(4))))
            wide = value & ~room != 0
            model[name] = model[name] if wide else value
            assert await bus.read(OFFSETS[name]) == model[name], name
            used = [value & 15 for name, value in model.items() if name.startswith("PLACE") and value >> 5]
            misplaced = max(used, default=0) >= arch().weight_bits
            assert dut.misfit.value == (wide or misplaced), (name, value)
            if wide:
                await told(dut, misplaced)
    for name in ("WORK_OP", "LOAD_EACH", "LEVEL_15_BOUNDS"):
        await bus.write(OFFSETS[name], 0)
        await told(dut, misplaced)
        await bus.write(OFFSETS[name], 1)
        assert dut.misfit.value and not await bus.read(OFFSETS[name])
        await told(dut, misplaced)
    for port, (prefix, layout) in zip((dut.layer, dut.machine, dut.exits), PORTS.items(), strict=True):
        assert int(port.value) == word(layout, {name: model[f"{prefix}_{name.upper()}"] for name in layout.members})
    assert int(dut.places.value) == word(places, [
        {"shift": value & shift, "negate": value >> 4 & 1, "used": value >> 5}
        for value in (model[f"PLACE_{n}"] for n in range(PLACES))])
    for name, value in model.items():
        assert await bus.read(OFFSETS[name]) == value, name


async def told(dut: Any, misplaced: bool) -> None:
    """An error for another reason leaves what does not fit as it is; one about settings has told it."""
    before = int(dut.misfit.value)
    for code, wanted in ((Error.PACKET, before), (Error.SETTINGS, misplaced)):
        dut.code.value = int(code)
        await pulse(dut, "error")
        assert dut.misfit.value == wanted


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def programming(dut: Any) -> None:
    """How cells are written is on its port as the host wrote it, and stands while busy and while a job is on its way."""
    bus, _ = await started(dut)
    settings = dataclasses.asdict(DEVICES["rram"].settings(arch().cell_bits))
    words = write_words(settings, arch().cell_bits)
    for name, value in words.items():
        await bus.write(OFFSETS[name], value)
    for lock in ("writes", "busy"):
        getattr(dut, lock).value = 1
        for name in ("WRITE_PATIENCE", "LEVEL_1_BOUNDS"):
            await bus.write(OFFSETS[name], 1)
            assert await bus.read(OFFSETS[name]) == words[name]
        getattr(dut, lock).value = 0
    assert int(dut.writing.value) == word(settings_layout(arch()), settings)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def counters(dut: Any) -> None:
    """Each counter reads as its word, and the verdict of early exit as its parts."""
    bus, rng = await started(dut)
    values = [rng.getrandbits(32) for _ in EVENTS]
    dut.counters.value = sum(value << 32 * n for n, value in enumerate(values))
    assert [await bus.read(OFFSETS[name.upper()]) for name in EVENTS] == values
    for _ in range(4):
        dut.verdict.value = bits = rng.getrandbits(len(dut.verdict))
        told = EarlyExit.verdict_layout(arch()).from_bits(bits)
        got = verdict(await bus.read(OFFSETS["EXIT_VERDICT"])) | {"margin": await bus.read(OFFSETS["EXIT_MARGIN"])}
        assert got == {name: int(told[name]) for name in got}


async def count(dut: Any, pulses: dict[str, int]) -> None:
    """Count the cycles in which a start is given, none of them while busy."""
    while True:
        await FallingEdge(dut.clk)
        for name in pulses:
            pulses[name] += int(getattr(dut, name).value)
            assert not (getattr(dut, name).value and dut.busy.value)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(command=[START, CALIBRATE])
async def life_of_a_run(dut: Any, command: int) -> None:
    """A start pulses once; busy holds settings and further starts; done and error raise irq until they are cleared."""
    bus, _ = await started(dut)
    control, status, setting = OFFSETS["CONTROL"], OFFSETS["STATUS"], OFFSETS["LAYER_CHANNELS"]
    pulses = {"start": 0, "calibrate": 0}
    cocotb.start_soon(count(dut, pulses))
    given = {"start": int(command == START), "calibrate": int(command == CALIBRATE)}
    await bus.write(setting, 5)
    await bus.write(control, command | IRQ_ENABLE, 0b1110)
    await bus.write(control, IRQ_ENABLE)
    assert (pulses, await bus.read(control)) == ({"start": 0, "calibrate": 0}, IRQ_ENABLE)
    await bus.write(control, command | IRQ_ENABLE)
    dut.busy.value = 1
    for again in (START, CALIBRATE, START | CALIBRATE):
        await bus.write(control, again | IRQ_ENABLE)
    for name in ("LAYER_CHANNELS", "MACHINE_PATIENCE", "EXIT_STEPS", "PLACE_31"):
        before = await bus.read(OFFSETS[name])
        await bus.write(OFFSETS[name], 0xFFFF_FFFF if name == "PLACE_31" else 63)
        assert await bus.read(OFFSETS[name]) == before and not dut.misfit.value
    assert (pulses, await bus.read(status), await bus.read(control), await bus.read(setting)) == (given, BUSY, IRQ_ENABLE, 5)
    assert not dut.irq.value
    await pulse(dut, "done")
    dut.busy.value = 0
    assert (dut.irq.value, await bus.read(status)) == (1, DONE)
    await bus.write(status, FAILED)
    await bus.write(status, DONE, 0b1110)
    assert await bus.read(status) == DONE
    await bus.write(status, DONE)
    assert (dut.irq.value, await bus.read(status)) == (0, 0)
    dut.code.value = int(Error.DROOP)
    await pulse(dut, "error")
    assert (dut.irq.value, await bus.read(status), await bus.read(OFFSETS["ERROR"])) == (1, FAILED, Error.DROOP)
    await bus.write(control, 0)
    assert not dut.irq.value
    await bus.write(control, IRQ_ENABLE)
    assert dut.irq.value
    await bus.write(control, command | IRQ_ENABLE)
    assert (pulses, await bus.read(status), dut.irq.value) == ({name: 2 * n for name, n in given.items()}, 0, 0)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def a_start_is_not_a_calibration(dut: Any) -> None:
    """With both bits a layer is started; settings that follow at once are held off by the start."""
    bus, _ = await started(dut)
    pulses = {"start": 0, "calibrate": 0}
    cocotb.start_soon(count(dut, pulses))
    await bus.write(OFFSETS["CONTROL"], START | CALIBRATE)
    assert (pulses, await bus.read(OFFSETS["CONTROL"])) == ({"start": 1, "calibrate": 0}, 0)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def cycles(dut: Any) -> None:
    """A read answers after 1 cycle, a write after 2, with it comes a start; both again every 2 cycles."""
    await started(dut)
    dut.araddr.value, dut.arvalid.value, dut.rready.value = OFFSETS["MAGIC"], 1, 1
    dut.awaddr.value, dut.awvalid.value, dut.wvalid.value, dut.bready.value = OFFSETS["CONTROL"], 1, 1, 1
    dut.wdata.value, dut.wstrb.value = START, 15
    seen: dict[str, list[int]] = {"ar": [], "r": [], "w": [], "b": []}
    starts = list[int]()
    for _ in range(24):
        await FallingEdge(dut.clk)
        for channel, at in seen.items():
            if getattr(dut, f"{channel}valid").value and getattr(dut, f"{channel}ready").value:
                at.append(cycle())
        if dut.start.value:
            starts.append(cycle())
        await RisingEdge(dut.clk)
    assert [r - ar for ar, r in zip(seen["ar"], seen["r"], strict=False)] == [1] * 12
    assert [b - w for w, b in zip(seen["w"], seen["b"], strict=False)] == [2] * len(seen["b"])
    assert {after - before for at in (seen["r"], seen["b"]) for before, after in itertools.pairwise(at)} == {2}
    assert starts == seen["b"]
