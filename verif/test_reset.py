"""A reset in the middle of a run: whatever was under way is forgotten, and the next run is exact."""

import json
import random
import re
import tempfile
from pathlib import Path
from typing import Any

import cocotb
import pytest
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles

from golden.arch import PRESETS, Arch
from hdl.bus.register_map import OFFSETS
from verif import sim
from verif.axi import AxiLite
from verif.sim import parameters_of_bench
from verif.system import System
from verif.system_bench import IRQ_ENABLE, PERIOD_NS, START, start_once
from verif.test_errors import BUILDS, DONE, GOOD, LIMIT, image, memory_bytes, results, start

ARCH = PRESETS["tiny"]
LATENCY = 40
EARLY = (1, 3, 20, 60, 200, 700)
LATE = 6
LONGEST = 19_000
# docs/integrate.md asks for at least two cycles of reset.
LOW = (2, 3, 5, 16)
FORGETFUL = {"read requests stay": "read_port", "sequencer goes on": "sequencer"}


@cocotb.test()
async def run_cuts(dut: Any) -> None:
    """Start, pull reset after some cycles for some cycles, then run to the end; every cut, one after another."""
    p = parameters_of_bench()
    bus = AxiLite(dut)
    bus.idle()
    for name in ("bandwidth", "stall_seed", "memory_base", "dump_lo", "start_index", "dump", "aresetn", "read_error_lo",
                 "read_error_hi", "write_error_lo", "write_error_hi"):
        getattr(dut, name).value = 0
    dut.latency.value, dut.dump_hi.value = p["latency"], p["dump_hi"]
    Clock(dut.aclk, PERIOD_NS, "ns").start()
    await ClockCycles(dut.aclk, 8)
    dut.aresetn.value = 1
    runs = []
    for index, (cut, low) in enumerate(p["cuts"]):
        await bus.write(OFFSETS["STATS"], p["stats"])
        await bus.write(OFFSETS["CONTROL"], START | IRQ_ENABLE)
        await ClockCycles(dut.aclk, cut)
        dut.aresetn.value = 0
        await ClockCycles(dut.aclk, low)
        dut.aresetn.value = 1
        await ClockCycles(dut.aclk, 2)
        idle = await bus.read(OFFSETS["STATUS"])
        await bus.write(OFFSETS["STATS"], p["stats"])
        runs.append({**await start_once(dut, bus, index, 0, p["max_cycles"]), "idle": idle})
        if runs[-1]["timeout"]:
            break
        dut.dump.value = (index + 1) % 2
        await ClockCycles(dut.aclk, 2)
    Path(p["result"]).write_text(json.dumps({"runs": runs, "violations": int(dut.violations.value)}))


def cut(cuts: list[tuple[int, int]], system: System) -> tuple[list[dict[str, Any]], int]:
    """Return the runs after each (cycles until reset, cycles of reset), with their memory, and the protocol violations."""
    built, memory, _ = image(system.arch)
    beat = system.arch.data_bits // 8
    contents = memory + bytes(-len(memory) % beat)
    with tempfile.TemporaryDirectory(prefix="spikeloom-reset-") as name:
        folder = Path(name)
        (folder / "image.bin").write_bytes(contents)
        outcome, log = sim.run(
            system.program(memory_bytes(contents)), __name__,
            plusargs=[f"+image={folder / 'image.bin'}", f"+dump={folder / 'dump'}", "+fill=00"],
            parameters={"cuts": cuts, "latency": LATENCY, "stats": built.stats, "dump_hi": -(-built.size // beat),
                        "max_cycles": LIMIT, "result": str(folder / "result.json")})
        assert not outcome.failed, log[-4000:]
        table = json.loads((folder / "result.json").read_text())
        for index, entry in enumerate(table["runs"]):
            file = folder / f"dump_{index}.bin"
            entry["memory"] = results(file.read_bytes(), system.arch) if file.exists() else b""
    return table["runs"], table["violations"]


def wrong(runs: list[dict[str, Any]], violations: int, cuts: list[tuple[int, int]], arch: Arch = ARCH) -> list[str]:
    """Return what differs from a run that was never cut."""
    (reference,) = start([GOOD], System(arch))
    wanted = {"status": DONE, "error": 0, "timeout": False, "idle": 0, "memory": results(reference["dump"], arch)}
    found = [f"{at}: {name}" for run, at in zip(runs, cuts, strict=False) for name, value in wanted.items()
             if run[name] != value]
    return found + ["not every run ended"] * (len(runs) < len(cuts)) + ["protocol"] * bool(violations)


@BUILDS
def test_reset_in_the_middle(arch: Arch, seed: int) -> None:
    """Status is idle after the reset, and the run behind it leaves what a first run leaves, without a violation."""
    rng = random.Random(seed)
    cuts = [(cycles, rng.choice(LOW)) for cycles in (*EARLY, *(rng.randrange(LONGEST) for _ in range(LATE)))]
    assert wrong(*cut(cuts, System(arch)), cuts, arch) == []


@pytest.mark.parametrize("what", FORGETFUL)
def test_a_block_that_is_not_reset_is_caught(what: str) -> None:
    """A block that keeps its state over the reset breaks a later run."""
    def deaf(module: re.Match[str]) -> str:
        return module[0].replace(" rst ?", " 1'h0 ?").replace("(rst)", "(1'h0)")

    name = f"spikeloom_{FORGETFUL[what]}"
    design, count = re.subn(rf"module {name}\(.*?endmodule", deaf, System(ARCH).design, flags=re.S)
    assert count == 1 and design != System(ARCH).design
    cuts = [(cycles, 2) for cycles in (200, 700, 1500, 2500, 5000, 9000)]
    assert wrong(*cut(cuts, System(ARCH, design, optimise="-O0")), cuts)
