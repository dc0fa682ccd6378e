"""Proof, for all inputs and for ever: what a tile never does to its macro in another mode, by induction over the Verilog."""

import re
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch, Mode
from hdl.block import Block
from hdl.imc.mode_control import ModeControl
from hdl.imc.tile import Tile
from hdl.imc.writable_tile import WritableTile
from hdl.imc.write_job import settings_layout
from synth.synthesise import run_yosys
from verif.imc.test_write_proof import SMALL, STEPS
from verif.mutant import mutant
from verif.sim import design

NEVER = ("computes", "compares", "pulses", "abrupt")


class WatchedTile(Block):
    """A tile with all inputs free, and what it must never do.

    Members
    -------
    computes : rows driven, a precharge, a sample, a reference, or a vector at the macro, while the mode is not COMPUTE
    compares : a comparison of cells while the mode is not VERIFY
    pulses : a pulse, or a cell that is connected, while the mode is not PROGRAM; or SET and RESET at once
    abrupt : a mode follows another one without IDLE between them
    """

    def __init__(self, p: ImcArch, block: type[Block]) -> None:
        self.params, self.block = (p, block.__module__), block
        super().__init__({
            "settings": In(Tile.settings_layout(p)), "writing": In(settings_layout(p)), "write": In(Tile.write_layout(p)),
            "vector": In(Tile.vector_layout(p)), "job": In(WritableTile.order_layout(p)), "valid": In(2), "ready": In(3),
            "calibrate": In(1), "answers": In(2 * p.cols + 2), **{name: Out(1) for name in NEVER}})

    def build(self) -> Module:
        """Return the tile and its watcher."""
        m, p, before = Module(), self.params[0], Signal(2)
        m.submodules.dut = dut = self.block(p)
        m.d.comb += [
            dut.settings.eq(self.settings), dut.writing.eq(self.writing), dut.write.eq(self.write),
            dut.i.payload.eq(self.vector), dut.i_job.payload.eq(self.job), dut.i.valid.eq(self.valid[0]),
            dut.i_job.valid.eq(self.valid[1]), dut.o.ready.eq(self.ready[0]), dut.o_job.ready.eq(self.ready[1]),
            dut.o_fail.ready.eq(self.ready[2]), dut.calibrate.eq(self.calibrate), dut.cmp_rdy.eq(self.answers[0]),
            dut.vf_rdy.eq(self.answers[1]), dut.cmp.eq(self.answers[2:]), dut.vf_sa.eq(self.answers[2 + p.cols:]),
            self.computes.eq((dut.wl_go | dut.pre | dut.sample | dut.ref_on | dut.uses) & (dut.mode != Mode.COMPUTE)),
            self.compares.eq(dut.vf_go & (dut.mode != Mode.VERIFY)),
            self.pulses.eq(((dut.pg_go | dut.pg_mask.any() | dut.pg_op.any()) & (dut.mode != Mode.PROGRAM)) | dut.pg_op.all()),
            self.abrupt.eq((before != Mode.IDLE) & (dut.mode != Mode.IDLE) & (dut.mode != before)),
        ]
        m.d.sync += before.eq(dut.mode)
        return m


def prove(block: type[Block], folder: Path) -> tuple[bool, str]:
    """Return whether Yosys proves that a tile never does what `NEVER` names, and what it says."""
    text, top = design(WatchedTile(SMALL, block))
    (folder / "design.v").write_text(text)
    goals = " ".join(f"-prove {name} 0" for name in NEVER)
    done = run_yosys(str(folder), "-p", f"read_verilog design.v; hierarchy -check -top {top}; proc; flatten; memory; opt; "
                     f"tee -o proof.txt sat -verify -tempinduct -maxsteps {STEPS} -show-ports {goals} {top}")
    said = (folder / "proof.txt").read_text()
    return done.returncode == 0, said


def test_modes_are_kept(tmp_path: Path) -> None:
    """Rows are driven in mode COMPUTE alone, cells compared in VERIFY alone, pulsed in PROGRAM alone, IDLE between modes."""
    proved, said = prove(WritableTile, tmp_path)
    assert proved and re.search("Induction step proven: SUCCESS!", said), said[-3000:]


@pytest.mark.parametrize(("block", "old", "new", "breach"), [
    pytest.param(WritableTile, "tile.grant.eq(control.grant)", "tile.grant.eq(1)", "computes", id="deaf to grants"),
    pytest.param(ModeControl, 'Mux(user.ongoing("PROGRAM"), self.mode, Mode.COMPUTE)', "self.mode_req", "compares",
                 id="grants whatever is asked"),
    pytest.param(ModeControl, "self.mode.eq(Mode.IDLE)\n                    m.next",
                 "self.mode.eq(3)\n                    m.next", "abrupt", id="no rest"),
])
def test_a_breach_is_found(block: type[Block], old: str, new: str, breach: str, tmp_path: Path,
                           monkeypatch: pytest.MonkeyPatch) -> None:
    """A tile that is broken on purpose is not proved, and a run from reset shows the breach."""
    broken = mutant(block, old, new)
    monkeypatch.setattr("hdl.imc.writable_tile.ModeControl", broken if block is ModeControl else ModeControl)
    proved, said = prove(WritableTile if block is ModeControl else broken, tmp_path)
    shown = re.findall(rf"^ *\d+ \\{breach} +(\d)", said, re.M)
    assert not proved and "model found for base case: FAIL!" in said and shown[-1] == "1", said[-3000:]
