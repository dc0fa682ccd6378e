"""Proof, for all inputs and for ever: what programming never does to a macro, by induction over the generated Verilog."""

import dataclasses
import re
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from golden.imc.arch import IMC_PRESETS, ImcArch, Mode
from hdl.block import Block
from hdl.imc.cell_access import CellAccess
from hdl.imc.write_job import job_layout, settings_layout
from hdl.imc.write_verify import WriteVerify
from synth.synthesise import run_yosys
from verif.mutant import mutant
from verif.sim import design

TINY = IMC_PRESETS["tiny-ci"]
SMALL = dataclasses.replace(TINY, rows=2, cols=2, mux=1, group_rows=1, cell_bits=1, weight_bits=2,
                            scheme="offset")
NEVER = ("masked", "both", "elsewhere", "abrupt")
# Longest way to look for a breach: a pulse comes 12 cycles after a job at the earliest.
STEPS = 16


class Watched(Block):
    """`WriteVerify` with all inputs free, grants and answers included, and what it must never do.

    Members
    -------
    masked : a cell is connected that the last job did not have in its mask
    both : SET and RESET at once
    elsewhere : a pulse, or a cell that is connected, while the mode is not PROGRAM; a pulse without the grant of it
    abrupt : a mode follows another one without IDLE between them
    mask : of what was offered when the block was ready last, which is its job until it is ready again
    """

    def __init__(self, p: ImcArch, block: type[Block]) -> None:
        self.params, self.block = (p, block.__module__), block
        super().__init__({
            "settings": In(settings_layout(p)), "job": In(job_layout(p)), "valid": In(1), "ready": In(2), "mode_gnt": In(2),
            "vf_sa": In(p.cols), "vf_rdy": In(1), "mask": Out(p.cols), **{name: Out(1) for name in NEVER}})

    def build(self) -> Module:
        """Return the block and its watcher."""
        m, before = Module(), Signal(2)
        m.submodules.dut = dut = self.block(self.params[0])
        m.d.comb += [
            dut.settings.eq(self.settings), dut.i.payload.eq(self.job), dut.i.valid.eq(self.valid),
            dut.o.ready.eq(self.ready[0]), dut.o_fail.ready.eq(self.ready[1]), dut.mode_gnt.eq(self.mode_gnt),
            dut.vf_sa.eq(self.vf_sa), dut.vf_rdy.eq(self.vf_rdy),
            self.masked.eq((dut.pg_mask & ~self.mask).any()), self.both.eq(dut.pg_op == 3),
            self.elsewhere.eq(((dut.pg_go | dut.pg_mask.any() | dut.pg_op.any()) & (dut.mode_req != Mode.PROGRAM))
                              | (dut.pg_go & (self.mode_gnt != Mode.PROGRAM))),
            self.abrupt.eq((before != Mode.IDLE) & (dut.mode_req != Mode.IDLE) & (dut.mode_req != before)),
        ]
        m.d.sync += before.eq(dut.mode_req)
        with m.If(dut.i.ready):
            m.d.sync += self.mask.eq(self.job.mask)
        return m


def prove(block: type[Block], folder: Path, p: ImcArch = SMALL) -> tuple[bool, str]:
    """Return whether Yosys proves that a block never does what `NEVER` names, and what it says.

    The induction also shows that the mask of the watcher is the one that the block holds.
    """
    text, top = design(Watched(p, block))
    low = job_layout(p)["mask"].offset
    (folder / "design.v").write_text(text)
    goals = " ".join([*(f"-prove {name} 0" for name in NEVER), f"-prove mask \\dut.job[{low + p.cols - 1}:{low}]"])
    done = run_yosys(str(folder), "-p", f"read_verilog design.v; hierarchy -check -top {top}; proc; flatten; opt; "
                     f"tee -o proof.txt sat -verify -tempinduct -maxsteps {STEPS} -show-ports {goals} {top}")
    said = (folder / "proof.txt").read_text()
    return done.returncode == 0, said


@pytest.mark.parametrize("p", [SMALL, TINY], ids=["two columns", "tiny-ci"])
def test_programming_is_safe(p: ImcArch, tmp_path: Path) -> None:
    """Masked cells are never pulsed, never SET and RESET together, no pulse unless in mode PROGRAM, IDLE between modes."""
    proved, said = prove(WriteVerify, tmp_path, p)
    assert proved and re.search("Induction step proven: SUCCESS!", said), said[-3000:]


@pytest.mark.parametrize(("block", "old", "new", "breach"), [
    pytest.param(WriteVerify, "allowed.eq(job.mask)", "allowed.eq(~0)", "masked", id="mask not applied"),
    pytest.param(CellAccess, "Cat(~i.p.reset, i.p.reset)", "3", "both", id="both polarities"),
    pytest.param(CellAccess, 'states.ongoing("PULSE") & granted', 'states.ongoing("PULSE")', "elsewhere", id="deaf to grants"),
    pytest.param(CellAccess, '("SETTLE", "ASK", "ANSWER")', '("GUARD", "SETTLE", "ASK", "ANSWER")', "abrupt", id="no rest"),
])
def test_a_breach_is_found(block: type[Block], old: str, new: str, breach: str, tmp_path: Path,
                           monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that is broken on purpose is not proved, and a run from reset shows the breach."""
    broken = mutant(block, old, new)
    monkeypatch.setattr("hdl.imc.write_verify.CellAccess", broken if block is CellAccess else CellAccess)
    proved, said = prove(WriteVerify if block is CellAccess else broken, tmp_path)
    shown = re.findall(rf"^ *\d+ \\{breach} +(\d)", said, re.M)
    assert not proved and "model found for base case: FAIL!" in said and shown[-1] == "1", said[-3000:]
