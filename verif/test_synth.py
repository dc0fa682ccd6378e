"""Synthesis reports: known sizes, totals through the hierarchy, cache, refusals."""

import json
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import In, Out

from golden.arch import PRESETS, ParameterError
from hdl.block import Block
from hdl.bus.fifo import Fifo
from spikeloom.cli import run
from synth import fit
from synth import synthesise as flow
from synth.synthesise import FLOWS, block_rams, report, size, synthesise


class Inverter(Block):
    """Eight flip-flops behind eight exclusive-ors."""

    def __init__(self) -> None:
        super().__init__({"a": In(8), "b": In(8), "y": Out(8)})

    def build(self) -> Module:
        """Return the register."""
        m = Module()
        m.d.sync += self.y.eq(self.a ^ self.b)
        return m


class Pair(Block):
    """Three `Inverter` in a row, then two queues of 4 words of 8 bits."""

    def __init__(self) -> None:
        super().__init__({"a": In(8), "b": In(8), "y": Out(8), "take": In(1)})

    def build(self) -> Module:
        """Return the chain."""
        m = Module()
        value = self.a
        for index in range(3):
            m.submodules[f"stage_{index}"] = stage = Inverter()
            m.d.comb += [stage.a.eq(value), stage.b.eq(self.b)]
            value = stage.y
        for index in range(2):
            m.submodules[f"queue_{index}"] = queue = Fifo(8, 4)
            m.d.comb += [queue.i.payload.eq(value), queue.i.valid.eq(1), queue.o.ready.eq(self.take)]
            value = queue.o.payload
        m.d.comb += self.y.eq(value)
        return m


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test without stored results."""
    monkeypatch.setenv("SPIKELOOM_CACHE", str(tmp_path))


@pytest.mark.parametrize("target", FLOWS)
def test_known_size(target: str) -> None:
    """Eight registered exclusive-ors take eight flip-flops and, where there are LUTs, eight of them."""
    found = report(Inverter(), target)
    assert found["top"] == {"cells": 16, "luts": None if target == "generic" else 8, "ffs": 8, "memory_bits": 0,
                            "multipliers": 0}
    assert found["blocks"] == {"spikeloom_inverter": {"count": 1, **found["top"]}}


def test_totals() -> None:
    """The top is the sum of count x size; a RAM counts in bits, not in cells; nothing is optimised across blocks."""
    found = report(Pair(), "ice40")
    blocks = found["blocks"]
    assert {name: block["count"] for name, block in blocks.items()} == {
        "spikeloom_fifo": 2, "spikeloom_inverter": 3, "spikeloom_pair": 1}
    assert blocks["spikeloom_inverter"]["ffs"] == 8 and blocks["spikeloom_pair"]["ffs"] == 0
    assert blocks["spikeloom_fifo"]["memory_bits"] == 32
    assert found["rams"] == [{"depth": 4, "width": 8, "count": 2}]
    for key in ("cells", "luts", "ffs", "memory_bits", "multipliers"):
        assert found["top"][key] == sum(block["count"] * block[key] for block in blocks.values())
    assert found["top"]["memory_bits"] == 64


def test_size_counts_by_kind() -> None:
    """Carry cells count as two LUTs on ECP5; black boxes, scopes and multiplexers do not count as LUTs."""
    cells = {"LUT4": 5, "CCU2C": 2, "PFUMX": 3, "TRELLIS_FF": 4, "MULT18X18D": 6, "x_ram_1r1w": 2, "child": 1, "$scopeinfo": 9}
    below = {"x_ram_1r1w:16x8": 2, "child": 1}
    assert size(cells, below, "ecp5") == {"cells": 20, "luts": 9, "ffs": 4, "memory_bits": 256, "multipliers": 6}
    assert size({"$_SDFFE_PP0P_": 3, "$_AND_": 2, "$_DFF_P_": 1}, {}, "generic") == {
        "cells": 6, "luts": None, "ffs": 4, "memory_bits": 0, "multipliers": 0}
    assert size({"LUT6": 2, "LUT2": 1, "FDRE": 3, "FDSE": 1, "CARRY4": 1}, {}, "xilinx") == {
        "cells": 8, "luts": 3, "ffs": 4, "memory_bits": 0, "multipliers": 0}


def test_block_rams() -> None:
    """A block RAM holds 18 kbit in one of six shapes; a wide RAM takes several side by side, a deep one several in a row."""
    def of(depth: int, width: int, count: int = 1) -> int:
        return block_rams([{"depth": depth, "width": width, "count": count}])

    assert [of(512, 36), of(513, 36), of(16, 37), of(16, 92, 4), of(1024, 18), of(1024, 19), of(16384, 1)] == [
        1, 2, 2, 12, 1, 2, 1]
    assert of(2048, 9, 3) + of(4096, 9) == 5


ADDER = """module adder(input clk, input [15:0] a, b, output reg [15:0] y, output reg less);
    always @(posedge clk) begin y <= a + b; less <= a < b; end
endmodule"""
QUEUE = """module queue(input clk, input w_en, input [3:0] w_addr, r_addr, input [7:0] w_data, output reg [7:0] r_data);
    reg [7:0] storage [0:15];
    always @(posedge clk) begin
        if (w_en) storage[w_addr] <= w_data;
        r_data <= storage[r_addr];
    end
endmodule"""


@pytest.mark.parametrize(("text", "found"), [
    # Two chains of 8 carry cells, one inverter behind the comparison.
    (ADDER, {"luts": 2 * (2 * 8 + 4) + 1 + 2, "ffs": 17, "multipliers": 0, "block_rams": 0}),
    (QUEUE, {"luts": 2 * 6 + 2, "ffs": 8, "multipliers": 0, "block_rams": 0}),
    (QUEUE.replace("[7:0]", "[8:0]"), {"luts": 2, "ffs": 0, "multipliers": 0, "block_rams": 1}),
    (ADDER.replace("15:0", "3:0"), {"luts": 13, "ffs": 5, "multipliers": 0, "block_rams": 0}),
])
def test_packed(text: str, found: dict[str, int]) -> None:
    """Chains, RAMs in LUTs and block RAMs count as in nextpnr-ecp5 0.11.1, which takes a LUT less where no bit is 1."""
    assert fit.packed(fit.flat(text)) == found


def test_tiny_fits_an_ecp5_25f() -> None:
    """LUTs, flip-flops, multipliers and block RAMs of ``tiny`` are there; one too many of any of them is seen."""
    found = fit.fit(PRESETS["tiny"])
    assert fit.fits(found, fit.ECP5_25F), found
    for name, there in fit.ECP5_25F.items():
        assert found[name] > 0 and not fit.fits({**found, name: there + 1}, fit.ECP5_25F)


def test_only_small_builds_are_flat() -> None:
    """A build that would take hours as one netlist is refused before Yosys starts."""
    with pytest.raises(ParameterError) as error:
        fit.fit(PRESETS["loas"])
    assert str(error.value) == ("--flat: lanes x chunk_bits must be at most 256, not 16 x 128; legal: small builds; "
                                "try: --preset tiny")


@pytest.mark.parametrize(("block_rams", "fits"), [(56, True), (57, False)])
def test_flat_command(block_rams: int, fits: bool, monkeypatch: pytest.MonkeyPatch,
                      capsys: pytest.CaptureFixture[str]) -> None:
    """``synth --flat`` adds the whole design against the device, and says whether it fits (with counts given here)."""
    counts = {"luts": 23_186, "ffs": 8_125, "multipliers": 19, "block_rams": block_rams}
    nothing = dict.fromkeys(("cells", "luts", "ffs", "memory_bits"), 0)
    monkeypatch.setattr(fit, "fit", lambda arch, top: counts)
    monkeypatch.setattr(flow, "synthesise", lambda *arguments, **options: {"top": nothing, "blocks": {}})
    assert run(["synth", "--preset", "tiny", "--target", "ecp5", "--flat", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["flat"] == {**counts, "fits": fits}
    assert f"luts 23,186 of 24,288, ffs 8,125 of 24,288, multipliers 19 of 28, block rams {block_rams} of 56" in err
    assert run(["synth", "--preset", "tiny", "--target", "xilinx", "--flat"]) == 2
    assert capsys.readouterr().err == (
        "spikeloom: --flat: needs target ecp5, not 'xilinx'; legal: ecp5; try: --target ecp5 --flat\n")


def test_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """An equal module is not synthesised twice; another target is."""
    first = report(Inverter(), "generic")

    def refuse(*arguments: object) -> dict[str, int]:
        raise RuntimeError("Yosys was called")

    monkeypatch.setattr(flow, "_yosys", refuse)
    assert report(Inverter(), "generic") == first
    with pytest.raises(RuntimeError, match="Yosys was called"):
        report(Inverter(), "ice40")


def test_yosys_error_is_not_a_result() -> None:
    """A script that fails raises and names the module."""
    with pytest.raises(RuntimeError, match="Yosys failed on x"):
        flow._yosys("x", "module x(a); input a; endmodule\n", "", "no_such_command")


def test_unknown_target() -> None:
    """A target that does not exist is refused with the legal ones."""
    with pytest.raises(ParameterError) as error:
        synthesise(PRESETS["tiny"], "asic")
    assert str(error.value) == ("target: unknown name, not 'asic'; legal: generic, ice40, ecp5, xilinx; "
                                "try: --target generic")
