"""Checker of the macro's ports, bound to an array as users bind it: one rule after the other is broken, by both sides."""

import json
import re
from pathlib import Path
from typing import Any

import cocotb
import pytest
from amaranth.hdl import Shape
from amaranth.lib.wiring import In
from cocotb.triggers import RisingEdge

from golden.imc.arch import IMC_PRESETS, Mode
from hdl.generate import BOX_WAIVERS
from hdl.imc.macro import black_box, macro_members
from hdl.imc.macro_checks import RULES, TIMES, checks, markdown, rules
from verif import sim
from verif.stream import start_clock

P, MACRO = IMC_PRESETS["tiny-ci"], "spikeloom_imc_macro"
PAGE = Path(__file__).parents[2] / "docs" / "imc.md"
# A second checker of the same ports, as tile 1: longer times, no conversion by flash.
ANSWERS = [name for name, member in macro_members(P).items() if member.flow is In]
LONGER = dict.fromkeys(TIMES, 2) | {"MACHINE_T_GUARD": 3, "MACHINE_T_FLASH": 0}
SECOND = (f"bind {MACRO} {MACRO}_checks #(.TILE(1), " + ", ".join(f".{time}({least})" for time, least in LONGER.items())
          + ") others (.*);\n")
Cycle = dict[str, int]


def i(**ports: int) -> Cycle:
    """Return the ports of a cycle in mode IDLE; all others are 0."""
    return {"mode": Mode.IDLE, **ports}


def c(**ports: int) -> Cycle:
    """Return a cycle in mode COMPUTE."""
    return {"mode": Mode.COMPUTE, **ports}


def v(**ports: int) -> Cycle:
    """Return a cycle in mode VERIFY."""
    return {"mode": Mode.VERIFY, **ports}


def g(**ports: int) -> Cycle:
    """Return a cycle in mode PROGRAM with cells connected."""
    return {"mode": Mode.PROGRAM, "pg_row": 3, "pg_mask": 5, "pg_op": 2, "pg_vwl": 9, "pg_vbl": 7, **ports}


PRE, GO, ASK, ANSWER = {"pre": 1}, {"wl_go": 1, "wl_en": 9}, {"cmp_en": 1}, {"cmp_rdy": 1}
DRIVE = [c(**PRE), c(**PRE), c(**GO)]
PHASE = [*DRIVE, c(**GO, sample=1)]
CELLS, PULSE, P0 = [v(), v()], [g(), g(), g(pg_go=1)], {"mode": int(Mode.PROGRAM)}
BOTH, SHORT, LONG = (0, 1), (0,), (1,)
# Breach, the tiles that tell it, what the ports do between two pairs of IDLE, and what else is told there.
BREACHES: list[tuple[str, tuple[int, ...], list[Cycle], set[str]]] = [
    ("computes outside of mode COMPUTE", BOTH, [i(ref_on=1)], set()),
    ("a comparison of cells outside of mode VERIFY", BOTH, [P0, P0, {**P0, "vf_go": 1}, {**P0, "vf_rdy": 1}], set()),
    *(("cells are connected outside of mode PROGRAM", BOTH, [c(**{port: 1})], set()) for port in ("pg_mask", "pg_op")),
    ("a mode follows another one without IDLE", BOTH, [v(), c()], set()),
    ("a mode follows another one without IDLE", LONG, [v(), i(), c()], set()),
    ("the crossbar changes while cells are in use", BOTH, [v(), v(crossbar=1)], set()),
    ("the crossbar changes within a phase", BOTH, [*DRIVE, c(**GO, sample=1, crossbar=1)], set()),
    ("the crossbar changes within a phase", BOTH, [*PHASE, c(**ASK, crossbar=1), c(**ANSWER)], set()),
    ("a precharge before comparators rest", BOTH, [*PHASE, c(**ASK), c(**ANSWER), c(**PRE)], set()),
    ("a precharge before comparators rest", LONG, [*PHASE, c(**ASK), c(**ANSWER), c(), c(), c(**PRE)], set()),
    ("rows are driven without a precharge", BOTH, [c(), c(**GO), c(**GO, sample=1)], set()),
    ("rows are driven without a precharge", LONG, [c(**PRE), c(**GO), c(**GO, sample=1)], set()),
    ("rows are driven in a precharge", BOTH, [c(**PRE), c(**PRE), c(**GO, **PRE), c(**GO, sample=1)], set()),
    ("rows change while they are driven", BOTH, [*DRIVE, c(wl_go=1, wl_en=8, sample=1)], set()),
    ("rows are high while none is driven", BOTH, [c(wl_en=1)], set()),
    ("too many rows", BOTH, [c(**PRE), c(**PRE), c(wl_go=1, wl_en=0x1ff), c(wl_go=1, wl_en=0x1ff, sample=1)], set()),
    ("too many rows", BOTH, [c(**PRE), c(**PRE), c(**GO, ref_on=1), c(**GO, ref_on=1, sample=1)], set()),
    ("columns are sampled while no row is driven", BOTH, [c(**PRE), c(sample=1)], set()),
    ("columns are sampled before they settle", LONG, [c(**PRE), c(**PRE), c(**GO, sample=1)], set()),
    ("rows are driven on behind a sample", BOTH, [*PHASE, c(**GO, sample=1)], set()),
    ("rows fall without a sample", BOTH, [*DRIVE, c()], set()),
    ("columns are sampled while comparators work", BOTH, [*PHASE, c(**ASK), c(**ANSWER, sample=1)],
     {"columns are sampled while no row is driven"}),
    ("comparators start without a sample", BOTH, [c(), c(**PRE), c(**ASK), c(**ANSWER)], set()),
    ("comparators start while they work", BOTH, [*PHASE, c(**ASK), c(**ASK), c(**ANSWER)], set()),
    ("comparators start while they work", LONG, [*PHASE, c(**ASK), c(), c(**ASK), c(**ANSWER)], set()),
    ("a column is compared before it settles", BOTH, [*PHASE, c(**ASK, col_sel=1), c(**ANSWER, col_sel=1)], set()),
    ("a column is compared before it settles", LONG,
     [*PHASE, c(col_sel=1), c(**ASK, col_sel=1), c(**ANSWER, col_sel=1)], set()),
    ("a code is compared before it settles", LONG, [*PHASE, c(**ASK, cdac=1), c(**ANSWER, cdac=1)], set()),
    ("a code is compared before it settles", LONG, [*PHASE, c(cdac=1), c(**ASK, cdac=1), c(**ANSWER, cdac=1)], set()),
    *(("a code changes while comparators work", BOTH, [*PHASE, c(**ASK), c(**ANSWER, **{port: 1})], set())
      for port in ("cdac", "col_sel", "trim", "ref_on", "ref_level")),
    ("a code changes while comparators work", LONG, [*PHASE, c(**ASK), c(), c(**ANSWER, cdac=1)], set()),
    ("an answer that was not asked for", BOTH, [c(**ANSWER)], set()),
    ("an answer that was not asked for", BOTH, [*PHASE, c(**ASK, **ANSWER), c(**ANSWER)], set()),
    ("an answer that was not asked for", BOTH, [*PHASE, c(**ASK), c(**ANSWER), c(**ANSWER)], set()),
    ("a thermometer moves after its time", SHORT, [*PHASE, c(**ASK), c(therm=1), c(therm=3), c(therm=3, **ANSWER)], set()),
    ("cells are compared before the mode settles", BOTH, [v(vf_go=1), v(vf_rdy=1)], set()),
    ("cells are compared before the mode settles", LONG, [v(), v(vf_go=1), v(vf_rdy=1)], set()),
    ("a question while cells answer", BOTH, [*CELLS, v(vf_go=1), v(vf_go=1), v(vf_rdy=1)], set()),
    *(("a question changes before its answer", BOTH, [*CELLS, v(vf_go=1), v(vf_rdy=1, **{port: 1})], set())
      for port in ("pg_row", "vf_ref")),
    ("an answer of cells that was not asked for", BOTH, [v(vf_rdy=1)], set()),
    ("an answer of cells that was not asked for", BOTH, [*CELLS, v(vf_go=1, vf_rdy=1), v(vf_rdy=1)], set()),
    ("SET and RESET at once", BOTH, [{**P0, "pg_op": 3}], set()),
    *(("a pulse of no cell", BOTH, [P0 | ports, P0 | ports, P0 | ports | {"pg_go": 1}, P0 | ports, P0 | ports], set())
      for ports in ({"pg_mask": 1}, {"pg_op": 1})),
    ("a pulse before the mode settles", BOTH, [g(pg_go=1), g(), g()], set()),
    ("a pulse before the mode settles", LONG, [g(), g(pg_go=1), g(), g()], set()),
    *(("a pulse changes", BOTH, [*PULSE, g(pg_go=1, **{port: 1}), *[g(**{port: 1})] * 2], set())
      for port in ("pg_row", "pg_mask", "pg_op", "pg_vwl", "pg_vbl")),
    ("a pulse changes", BOTH, [*PULSE, *[g(pg_mask=1)] * 2], set()),
    ("cells are cut off before they cool", BOTH, PULSE, set()),
    ("cells are cut off before they cool", BOTH, [*PULSE, P0], set()),
    ("cells are cut off before they cool", LONG, [*PULSE, g(), P0], set()),
]
# What keeps all rules of both checkers.
KEPT: list[list[Cycle]] = [
    [*PHASE, c(cdac=3), c(cdac=3), c(**ASK, cdac=3), c(cdac=3), c(cdac=3), c(cdac=3, **ANSWER), c(col_sel=1), c(col_sel=1),
     c(**ASK, col_sel=1), c(**ANSWER, col_sel=1), *[c()] * 3, *PHASE],
    [*PHASE, c(**ASK), c(therm=1), c(therm=1), c(therm=1, **ANSWER), c(therm=1, col_sel=1), c(therm=2, col_sel=1)],
    [*DRIVE, i()], [*PHASE, c(**ASK), i(), i(**ANSWER)],
    [*CELLS, v(vf_go=1, pg_row=3, vf_ref=9), v(pg_row=4), v(pg_row=3, vf_ref=9), v(pg_row=3, vf_ref=9, vf_rdy=1)],
    [*CELLS, v(vf_go=1), v(vf_ref=3), i(), i(vf_rdy=1)],
    [*PULSE, g(pg_go=1), g(), g(), P0, P0], [v(), i(), v()], [v(), i(), i(), c()],
]


@pytest.fixture(scope="module")
def program() -> Path:
    """Return an array in place of the black box, which answers as Python says, with both checkers.

    The first one is what ``generate`` writes.
    """
    answers = "\n".join(f"  reg [{Shape.cast(macro_members(P)[name].shape).width - 1}:0] played_{name};\n"
                        f"  assign {name} = played_{name};" for name in ANSWERS)
    array = black_box(P, MACRO).replace("endmodule", f"{answers}\nendmodule")
    return sim.build([array, checks(P, MACRO), SECOND], MACRO, flags=[f"-Wno-{rule}" for rule in BOX_WAIVERS],
                     vlt=[f'public_flat_rw -module "{MACRO}" -var "played_{name}"' for name in ANSWERS])


def test_breaches(program: Path, tmp_path: Path) -> None:
    """Each rule that is broken is told once, by its name, tile and cycle, by the assertion of its name, and no other one."""
    _, log = sim.run(program, __name__, parameters={"out": str(tmp_path / "ends")}, plusargs=["+verilator+error+limit+1000"],
                     test_filter="plays")
    ends = json.loads((tmp_path / "ends").read_text())
    assert len(ends) == len(BREACHES) + len(KEPT)
    told = re.findall(r"Assertion failed in \S*\.(\w+)\.(\w+): tile (\d), cycle (\d+): (.*)", log)
    labels = {rule.name: rule.label for rule in RULES}
    assert all((checker, label) == (("checks", "others")[int(tile)], labels[rule]) for checker, label, tile, _, rule in told)
    begin = 0
    for end, (breach, tiles, _, more) in zip(ends, [*BREACHES, *[("", (), [], set[str]())] * len(KEPT)], strict=True):
        found = [(rule, int(tile)) for _, _, tile, at, rule in told if begin <= int(at) < end]
        begin = end
        assert sorted(found) == sorted([(rule, tile) for rule in more for tile in BOTH] + [(breach, tile) for tile in tiles])
    assert {breach for breach, *_ in BREACHES} == {rule.name for rule in RULES}


def test_a_breach_ends_the_run(program: Path, tmp_path: Path) -> None:
    """Without more words the first breach is an error that stops the simulator."""
    outcome, log = sim.run(program, __name__, parameters={"out": str(tmp_path / "ends")}, test_filter="plays")
    assert outcome.passed == () and not (tmp_path / "ends").exists()
    assert len(re.findall(r"\.computes_outside_of_mode_COMPUTE: tile [01], cycle 2: computes outside of mode", log)) == 1


def test_rules() -> None:
    """Names and labels are the rules' own; without flash there is no rule about thermometers; the page has the table."""
    assert len({rule.name for rule in RULES}) == len({rule.label for rule in RULES}) == len(RULES)
    assert {time for rule in RULES for time in rule.times} == {*TIMES}
    without = IMC_PRESETS["trex-fefet"]
    assert {rule.name for rule in RULES} - {rule.name for rule in rules(without)} == {"a thermometer moves after its time"}
    assert "therm" not in checks(without, MACRO) and rules(P) == [*RULES]
    assert markdown() in PAGE.read_text(), "try: python -m hdl.imc.macro_checks, into docs/imc.md"


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def plays(dut: Any) -> None:
    """Drive all ports, the macro's answers as well; write down the cycles at which each part ends."""
    ports, ends, cycle = list(macro_members(P)), list[int](), 0
    start_clock(dut)
    for cycles in [*(part for _, _, part, _ in BREACHES), *KEPT]:
        for drive in [i(), i(), *cycles, i()]:
            for name in ports:
                getattr(dut, f"played_{name}" if name in ANSWERS else name).value = int(drive.get(name, 0))
            await RisingEdge(dut.clk)
            cycle += 1
        ends.append(cycle)
    Path(sim.parameters_of_bench()["out"]).write_text(json.dumps(ends))
