"""Checker of the macro's ports: one table of rules, from which come SystemVerilog assertions and a page for users.

The checker is bound to every macro of a simulated design. It knows ports and times alone, so it holds for any array behind the
periphery, and is not for synthesis. Mode IDLE ends what was on its way: an error resets the periphery wherever it is.
"""

import re
import sys
from dataclasses import dataclass

from amaranth.hdl import Shape

from golden.imc.arch import ImcArch, Mode
from hdl.imc.macro import macro_members

# Registers of the host that decide how long something lasts; the checker's least cycles of each.
TIMES = ("MACHINE_T_PRE", "MACHINE_T_SETTLE", "MACHINE_T_GUARD", "MACHINE_T_MUX", "MACHINE_T_DAC", "MACHINE_T_FLASH",
         "WRITE_T_GUARD", "WRITE_T_VERIFY", "WRITE_T_PRE", "WRITE_T_COOL")
FLASH = "MACHINE_T_FLASH"
# Where counted cycles stay.
MOST = 65535
IDLE, COMPUTE, VERIFY, PROGRAM = map(int, Mode)
PULSE = "{pg_row, pg_mask, pg_op, pg_vwl, pg_vbl}"
SEEN = "{trim, ref_on, ref_level, col_sel}"
QUESTION = "{pg_row, vf_ref}"


@dataclass(frozen=True)
class Rule:
    """What the ports of a macro must not do.

    name : of the breach, as it is told; says : how it is right; breach : in SystemVerilog, of a cycle
    macro : it is the macro's to keep, else the periphery's
    """

    name: str
    says: str
    breach: str
    macro: bool = False

    @property
    def label(self) -> str:
        """Return the name of the assertion."""
        return re.sub(r"\W+", "_", self.name)

    @property
    def times(self) -> tuple[str, ...]:
        """Return the times of `TIMES` that it needs."""
        return tuple(time for time in TIMES if re.search(rf"\b{time}\b", self.breach))


def _was(vector: str) -> str:
    return re.sub(r"\w+", r"was_\g<0>", vector)


# Cycles that are counted: while something is so, and from which number on where it is not.
RUNS = {
    "pre_run": ("pre", 0), "go_run": ("wl_go", 0), "idle_run": (f"mode == {IDLE}", 0), "cool_run": ("!pg_go", 0),
    "rest_run": ("!cmp_en && !cmp_open", 0), "strobe_run": ("!cmp_en", 1), "mode_run": ("mode == was_mode", 1),
    "column_run": ("col_sel == was_col_sel", 1), "code_run": ("cdac == was_cdac", 1),
}
# What else is kept: the port that is as wide, or none for a bit, and the next value.
STATE = {
    "last_mode": ("mode", f"mode == {IDLE} ? last_mode : mode"),
    "phase_crossbar": ("crossbar", "pre ? crossbar : phase_crossbar"),
    "held": ("", f"mode == {COMPUTE} && !pre && (held || sample)"),
    "cmp_open": ("", f"mode == {COMPUTE} && (cmp_en || (cmp_open && !cmp_rdy && !read))"),
    "cmp_owed": ("", "cmp_en || (cmp_owed && !cmp_rdy)"),
    "strobed": ("", f"mode == {COMPUTE} && !pre && {SEEN} == {_was(SEEN)} && (cmp_en || strobed)"),
    "pulsed": ("", f"mode == {PROGRAM} && (pg_go || pulsed)"),
    "vf_open": ("", f"mode == {VERIFY} && (vf_go || (vf_open && !vf_rdy))"),
    "vf_owed": ("", "vf_go || (vf_owed && !vf_rdy)"),
    "asked_row": ("pg_row", "vf_go ? pg_row : asked_row"),
    "asked_ref": ("vf_ref", "vf_go ? vf_ref : asked_ref"),
}
RULES = (
    Rule("computes outside of mode COMPUTE", "`wl_go`, `pre`, `sample`, `cmp_en`, `ref_on` are 0 outside of mode COMPUTE",
         f"(wl_go || pre || sample || cmp_en || ref_on) && mode != {COMPUTE}"),
    Rule("a comparison of cells outside of mode VERIFY", "`vf_go` is 0 outside of mode VERIFY", f"vf_go && mode != {VERIFY}"),
    Rule("cells are connected outside of mode PROGRAM", "`pg_go`, `pg_mask`, `pg_op` are 0 outside of mode PROGRAM",
         f"(pg_go || |pg_mask || |pg_op) && mode != {PROGRAM}"),
    Rule("a mode follows another one without IDLE", "at least `WRITE_T_GUARD` cycles of IDLE lie between two different modes",
         f"mode != {IDLE} && last_mode != {IDLE} && mode != last_mode && idle_run < WRITE_T_GUARD"),
    Rule("the crossbar changes while cells are in use", "`crossbar` stands in modes VERIFY and PROGRAM",
         "mode[1] && mode == was_mode && crossbar != was_crossbar"),
    Rule("the crossbar changes within a phase", "`crossbar` stands from `pre` to the last answer of a phase",
         "(wl_go || cmp_en || cmp_open) && crossbar != phase_crossbar"),
    Rule("a precharge before comparators rest", "`pre` comes at least `MACHINE_T_GUARD` cycles behind the last answer",
         "pre && !was_pre && rest_run < MACHINE_T_GUARD"),
    Rule("rows are driven without a precharge", "`pre` is 1 for at least `MACHINE_T_PRE` cycles right ahead of `wl_go`",
         "wl_go && !was_wl_go && pre_run < MACHINE_T_PRE"),
    Rule("rows are driven in a precharge", "`wl_go` and `pre` are never 1 together", "wl_go && pre"),
    Rule("rows change while they are driven", "`wl_en` stands while `wl_go`", "wl_go && was_wl_go && wl_en != was_wl_en"),
    Rule("rows are high while none is driven", "`wl_en` is 0 while `wl_go` is", "!wl_go && |wl_en"),
    Rule("too many rows", "`wl_en` has at most `group_rows` ones, none while `ref_on`",
         "wl_go && !was_wl_go && $countones(wl_en) > (ref_on ? 0 : GROUP_ROWS)"),
    Rule("columns are sampled while no row is driven", "`sample` comes with `wl_go`", "sample && !wl_go"),
    Rule("columns are sampled before they settle", "`sample` comes in cycle `MACHINE_T_SETTLE` of `wl_go` or later",
         "sample && wl_go && go_run + 1 < MACHINE_T_SETTLE"),
    Rule("rows are driven on behind a sample", "the cycle of `sample` is the last one of `wl_go`",
         "wl_go && was_wl_go && was_sample"),
    Rule("rows fall without a sample", "`wl_go` ends with `sample`, or with the mode",
         f"!wl_go && was_wl_go && !was_sample && mode == {COMPUTE}"),
    Rule("columns are sampled while comparators work", "`sample` does not come between `cmp_en` and the answer",
         "sample && cmp_open"),
    Rule("comparators start without a sample", "columns were sampled behind the last `pre`, ahead of `cmp_en`",
         "cmp_en && !held"),
    Rule("comparators start while they work", "`cmp_en` lasts a cycle, and comes behind the answer to the one before",
         "cmp_en && cmp_open"),
    Rule("a column is compared before it settles", "`col_sel` stands for at least `MACHINE_T_MUX` cycles ahead of `cmp_en`",
         "cmp_en && (col_sel != was_col_sel || column_run < MACHINE_T_MUX)"),
    Rule("a code is compared before it settles",
         "`cdac` stands for at least `MACHINE_T_DAC` cycles ahead of `cmp_en`, unless it may be a flash conversion",
         f"cmp_en && {FLASH} == 0 && (cdac != was_cdac || code_run < MACHINE_T_DAC)"),
    Rule("a code changes while comparators work",
         "`cdac`, `col_sel`, `trim`, `ref_on`, `ref_level` stand from `cmp_en` to the answer",
         f"cmp_open && {{cdac, {SEEN}}} != {{was_cdac, {_was(SEEN)}}}"),
    Rule("an answer that was not asked for", "`cmp_rdy` comes at least a cycle after `cmp_en`, once", "cmp_rdy && !cmp_owed",
         macro=True),
    Rule("a thermometer moves after its time",
         "`therm` stands from `MACHINE_T_FLASH` cycles after `cmp_en` on, until the column, what it sees, or a phase changes",
         f"strobed && mode == {COMPUTE} && !pre && {FLASH} != 0 && strobe_run > {FLASH} && {SEEN} == {_was(SEEN)} "
         "&& therm != was_therm",
         macro=True),
    Rule("cells are compared before the mode settles",
         "mode VERIFY stands for at least `WRITE_T_VERIFY` cycles ahead of `vf_go`",
         "vf_go && (mode != was_mode || mode_run < WRITE_T_VERIFY)"),
    Rule("a question while cells answer", "`vf_go` lasts a cycle, and comes behind the answer to the one before, or its mode",
         "vf_go && vf_open"),
    Rule("a question changes before its answer", "`pg_row` and `vf_ref` are at the answer as they were with `vf_go`",
         f"vf_open && vf_rdy && {QUESTION} != {{asked_row, asked_ref}}"),
    Rule("an answer of cells that was not asked for", "`vf_rdy` comes at least a cycle after `vf_go`, once",
         "vf_rdy && !vf_owed", macro=True),
    Rule("SET and RESET at once", "`pg_op` is never 3", "pg_op == 3"),
    Rule("a pulse of no cell", "`pg_mask` and `pg_op` are not 0 while `pg_go`", "pg_go && (pg_mask == 0 || pg_op == 0)"),
    Rule("a pulse before the mode settles", "mode PROGRAM stands for at least `WRITE_T_PRE` cycles ahead of `pg_go`",
         f"pg_go && mode == {PROGRAM} && (mode != was_mode || mode_run < WRITE_T_PRE)"),
    Rule("a pulse changes",
         "`pg_row`, `pg_mask`, `pg_op`, `pg_vwl`, `pg_vbl` stand in mode PROGRAM, until mask and op fall to 0 behind the pulse",
         f"mode == {PROGRAM} && was_mode == {PROGRAM} && {PULSE} != {_was(PULSE)} && (pg_go || |pg_mask || |pg_op)"),
    Rule("cells are cut off before they cool", "cells stay connected for at least `WRITE_T_COOL` cycles behind `pg_go`",
         f"pulsed && |was_pg_mask && (mode != {PROGRAM} || pg_mask == 0) && cool_run < WRITE_T_COOL"),
)


def rules(p: ImcArch) -> list[Rule]:
    """Return the rules of a build: without flash those about thermometers are left out."""
    return [rule for rule in RULES if p.flash_bits or "therm" not in rule.breach]


def checks_name(macro: str) -> str:
    """Return the name of the checker's module, and the stem of its file."""
    return f"{macro}_checks"


def checks(p: ImcArch, macro: str) -> str:
    """Return the checker of the module ``macro`` as SystemVerilog, with the ``bind`` that puts it to every instance.

    ``<MACRO>_BROKEN(rule)`` is what a breach does, ``<MACRO>_<time>`` the least cycles of a time of `TIMES`; both may be
    defined ahead of the text. Without, a breach is an ``$error``, and a time 1. With MACHINE_T_FLASH 0 no conversion is by
    flash: a comparison then lasts until its answer, else at most so many cycles.
    """
    name, define, given = checks_name(macro), macro.upper(), rules(p)
    widths: dict[str, int] = {port: Shape.cast(member.shape).width for port, member in macro_members(p).items()}
    text = " ".join([*(rule.breach for rule in given), *(going for going, _ in RUNS.values()), *(
        following for _, following in STATE.values())])
    used = [port for port in widths if re.search(rf"\b(was_)?{port}\b", text)]
    times = [time for time in TIMES if p.flash_bits or time != FLASH]
    kept = {f"was_{port}": (widths[port], port) for port in used if re.search(rf"\bwas_{port}\b", text)} | {
        state: (widths.get(port, 1), following) for state, (port, following) in STATE.items()}
    return "\n".join([
        *(line for time in times for line in (f"`ifndef {define}_{time}", f"`define {define}_{time} 1", "`endif")),
        f"`ifndef {define}_BROKEN",
        f'`define {define}_BROKEN(rule) $error("tile %0d, cycle %0d: %s", TILE, cycle, rule)', "`endif", "",
        f"module {name} #(", "  parameter TILE = 0,",
        ",\n".join(f"  parameter int {time} = `{define}_{time}" for time in times),
        ") (", ",\n".join(["  input clk", *(f"  input {_range(widths[port])}{port}" for port in used)]), ");",
        *([] if p.flash_bits else [f"  localparam int {FLASH} = 0;"]), f"  localparam int GROUP_ROWS = {p.group_rows};",
        "  longint cycle;", *(f"  int {run};" for run in RUNS),
        *(f"  reg {_range(width)}{state};" for state, (width, _) in kept.items()),
        f"  wire read = {FLASH} != 0 && strobe_run >= {FLASH};", "",
        "  initial begin", "    cycle = 0;", *(f"    {run} = {MOST if run == 'rest_run' else 0};" for run in RUNS),
        *(f"    {state} = 0;" for state in kept), "  end", "",
        "  always @(posedge clk) begin", "    cycle <= cycle + 1;",
        *(f"    {run} <= {going} ? {run} + int'({run} != {MOST}) : {first};" for run, (going, first) in RUNS.items()),
        *(f"    {state} <= {following};" for state, (_, following) in kept.items()), "  end", "",
        "  always @(posedge clk) begin",
        *(f"    {rule.label}: assert (({rule.breach}) !== 1'b1)\n      else `{define}_BROKEN(\"{rule.name}\");"
          for rule in given),
        "  end", "endmodule", "", f"bind {macro} {name} #(.TILE(TILE)) checks (.*);", ""])


def _range(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""


def markdown() -> str:
    """Return the rules as a table for users."""
    head = ["| rule | what is told where it is broken | of the |", "|---|---|---|"]
    return "\n".join([*head, *(f"| {rule.says} | {rule.name} | {'macro' if rule.macro else 'periphery'} |"
                               for rule in RULES), ""])


if __name__ == "__main__":
    sys.stdout.write(markdown())
