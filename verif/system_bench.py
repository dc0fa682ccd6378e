"""What runs inside the simulator for `verif.system`: starts the accelerator, awaits irq, reads the counters.

Python runs only at register accesses; between a start and irq the simulator runs alone.
"""

import json
import time
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, SimTimeoutError, with_timeout

from hdl.bus.register_map import COUNTER_BASE, COUNTERS, OFFSETS
from verif.axi import AxiError, AxiLite
from verif.sim import parameters_of_bench

PERIOD_NS = 10
START, IRQ_ENABLE = 1, 2
DONE, FAILED = 2, 4


async def start_once(dut: Any, bus: AxiLite, index: int, input_offset: int, max_cycles: int) -> dict[str, Any]:
    """Start the accelerator on one input and return what the registers say when it ends or ``max_cycles`` are over."""
    dut.start_index.value = index
    await bus.write(OFFSETS["INPUT"], input_offset)
    await bus.write(OFFSETS["CONTROL"], START | IRQ_ENABLE)
    first_cycle, first_second = int(dut.cycle.value), time.perf_counter()
    timeout = False
    try:
        if dut.irq.value != 1:
            await with_timeout(RisingEdge(dut.irq), max_cycles * PERIOD_NS, "ns")
    except SimTimeoutError:
        timeout = True
    cycles, seconds = int(dut.cycle.value) - first_cycle, time.perf_counter() - first_second
    status, error = await bus.read(OFFSETS["STATUS"]), await bus.read(OFFSETS["ERROR"])
    counters = {name: await bus.read_pair(COUNTER_BASE + 8 * index) for index, name in enumerate(COUNTERS)}
    if not timeout:
        await bus.write(OFFSETS["STATUS"], DONE | FAILED)
        irq = int(dut.irq.value)
    else:
        irq = 0
    return {"status": status, "error": error, "timeout": timeout, "cycles": cycles, "seconds": seconds,
            "irq_stuck": bool(irq), "counters": counters}


@cocotb.test()
async def run_system(dut: Any) -> None:
    """Run every start of the parameters in order, without a reset in between, and write the results as JSON."""
    p = parameters_of_bench()
    bus = AxiLite(dut)
    result: dict[str, Any] = {"runs": [], "bus_error": None}
    bus.idle()
    for name in ("latency", "bandwidth", "stall_seed", "memory_base", "read_error_lo", "read_error_hi",
                 "write_error_lo", "write_error_hi", "dump_lo", "dump_hi"):
        getattr(dut, name).value = p[name]
    dut.start_index.value = 0
    dut.dump.value = 0
    dut.aresetn.value = 0
    Clock(dut.aclk, PERIOD_NS, "ns").start()
    await ClockCycles(dut.aclk, 8)
    dut.aresetn.value = 1
    try:
        await bus.write_pair(OFFSETS["BASE_LO"], p["memory_base"])
        await bus.write(OFFSETS["PROGRAM"], p["program_offset"])
        await bus.write(OFFSETS["STATS"], p["stats_offset"])
        for index, input_offset in enumerate(p["starts"]):
            run = await start_once(dut, bus, index, input_offset, p["max_cycles"])
            result["runs"].append(run)
            if run["timeout"]:
                break
            if p["dump_hi"] > p["dump_lo"]:
                dut.dump.value = (index + 1) % 2
                await ClockCycles(dut.aclk, 2)
    except AxiError as error:
        result["bus_error"] = str(error)
    await ClockCycles(dut.aclk, p["tail_cycles"])
    result["violations"] = int(dut.violations.value)
    result["read_beats"], result["write_beats"] = int(dut.read_beats.value), int(dut.write_beats.value)
    Path(p["result"]).write_text(json.dumps(result))
