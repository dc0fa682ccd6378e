"""The driver of a core, tried on a small echo in place of it: every command, its failures, the rules of the streams.

The echo sends back what it takes. START runs a phase of the macro with the word lines of LINES: precharge, rows, sample, one
comparison with half of all codes; irq rises when it is answered, ANSWER has the answers. BREAK: 1 drops tvalid, 2 changes a
word, 3 answers SLVERR, 4 never takes a word, 5 never answers a register, 6 holds irq back.
"""

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden.arch import ParameterError
from golden.imc.arch import IMC_PRESETS, SCHEMES
from golden.imc.cells import levels
from golden.imc.macro import Adc, Effects, build
from golden.imc.noise import Kind
from golden.imc.run import Setting, inputs, place, run
from golden.run import unpack
from hdl.imc.activation import pack, split
from hdl.imc.host_port import Target
from hdl.imc.program import programs
from verif.imc.macro_shell import SAMPLE, MacroShellError, layer_phases, macro_tables, read_log, values
from verif.imc.networks import random_network
from verif.imc.system import ImcSystem, Result, Script
from verif.system import SystemFailure

TINY = dataclasses.replace(IMC_PRESETS["tiny-ci"], flash_bits=0)
START, BREAK, LINES, ANSWER = 0x10, 0x14, 0x100, 0x104
MACRO = build(TINY, Adc(bits=5), levels(TINY, "diff", np.arange(16, dtype=np.int64)[None] - 8),
              Effects(seed=5, read_noise=0.5, comparator_noise=0.5))

ECHO = """
module echo (
    input aclk, input aresetn, output reg irq,
    input [11:0] s_axi_ctrl_awaddr, input s_axi_ctrl_awvalid, output s_axi_ctrl_awready,
    input [31:0] s_axi_ctrl_wdata, input [3:0] s_axi_ctrl_wstrb, input s_axi_ctrl_wvalid, output s_axi_ctrl_wready,
    output [1:0] s_axi_ctrl_bresp, output reg s_axi_ctrl_bvalid, input s_axi_ctrl_bready,
    input [11:0] s_axi_ctrl_araddr, input s_axi_ctrl_arvalid, output s_axi_ctrl_arready,
    output reg [31:0] s_axi_ctrl_rdata, output [1:0] s_axi_ctrl_rresp, output reg s_axi_ctrl_rvalid, input s_axi_ctrl_rready,
    input [31:0] s_axis_tdata, input s_axis_tlast, input s_axis_tvalid, output s_axis_tready,
    output [31:0] m_axis_tdata, output m_axis_tlast, output m_axis_tvalid, input m_axis_tready
);
    reg [15:0] lines;
    reg [2:0] broken;
    reg [7:0] phase;
    reg [3:0] answer;
    reg [31:0] word;
    reg last, full, late, has_address, has_word;
    reg [11:0] address;
    reg [31:0] data;
    wire [3:0] cmp;
    wire cmp_rdy, vf_rdy;
    wire [7:0] vf_sa;

    assign s_axi_ctrl_awready = !has_address;
    assign s_axi_ctrl_wready = !has_word;
    assign s_axi_ctrl_arready = !s_axi_ctrl_rvalid && broken != 5;
    assign s_axi_ctrl_bresp = broken == 3 ? 2 : 0;
    assign s_axi_ctrl_rresp = s_axi_ctrl_bresp;
    assign s_axis_tready = (!full || (m_axis_tready && m_axis_tvalid)) && broken != 4;
    assign m_axis_tvalid = full && !(broken == 1 && late);
    assign m_axis_tdata = broken == 2 && late ? ~word : word;
    assign m_axis_tlast = last;

    spikeloom_imc_macro #(.TILE(0), .ROWS(16), .COLS(8), .MUX(2), .ADCS(4), .ADC_BITS(5), .FLASH_BITS(0), .TRIM_BITS(5),
                          .INPUT_BITS(4), .CROSSBARS(16)) macro (
        .clk(aclk), .mode(2'd1), .pg_row(4'd0), .pg_mask(8'd0), .pg_op(2'd0), .pg_vwl(8'd0), .pg_vbl(5'd0),
        .pg_go(1'b0), .vf_ref(6'd0), .vf_go(1'b0), .vf_sa(vf_sa), .vf_rdy(vf_rdy),
        .crossbar(4'd0), .key(24'd3), .phase_bit(2'd1), .phase_group(4'd0),
        .wl_en(phase[2] || phase[3] ? lines : 16'd0), .wl_go(phase[2] || phase[3]), .pre(phase[1]), .sample(phase[3]),
        .ref_on(1'b0), .ref_level(6'd0),
        .trim({4{5'd16}}), .col_sel(1'b0), .cmp_en(phase[5]), .cdac({4{5'd16}}), .cmp(cmp), .cmp_rdy(cmp_rdy));

    always @(posedge aclk) begin
        late <= full && !m_axis_tready;
        if (m_axis_tvalid && m_axis_tready) full <= 0;
        if (s_axis_tvalid && s_axis_tready) {full, last, word} <= {1'b1, s_axis_tlast, s_axis_tdata};
        if (s_axi_ctrl_awvalid && s_axi_ctrl_awready) {has_address, address} <= {1'b1, s_axi_ctrl_awaddr};
        if (s_axi_ctrl_wvalid && s_axi_ctrl_wready) {has_word, data} <= {s_axi_ctrl_wstrb == 15, s_axi_ctrl_wdata};
        if (s_axi_ctrl_bvalid && s_axi_ctrl_bready) s_axi_ctrl_bvalid <= 0;
        if (s_axi_ctrl_rvalid && s_axi_ctrl_rready) s_axi_ctrl_rvalid <= 0;
        phase <= {phase[6:0], 1'b0};
        if (cmp_rdy) {irq, answer} <= {broken != 6, cmp};
        if (has_address && has_word && !s_axi_ctrl_bvalid) begin
            {has_address, has_word, s_axi_ctrl_bvalid} <= 3'b001;
            if (address == 12'h010) {irq, phase[0]} <= 2'b01;
            if (address == 12'h014) broken <= data[2:0];
            if (address == 12'h100) lines <= data[15:0];
        end
        if (s_axi_ctrl_arvalid && s_axi_ctrl_arready) begin
            s_axi_ctrl_rvalid <= 1;
            s_axi_ctrl_rdata <= s_axi_ctrl_araddr == 12'h100 ? {16'd0, lines} : {28'd0, answer};
        end
        if (!aresetn) {irq, lines, broken, phase, answer, full, last, late, has_address, has_word, s_axi_ctrl_bvalid,
                       s_axi_ctrl_rvalid} <= 0;
    end
endmodule
"""
SYSTEM = ImcSystem(TINY, (ECHO, "echo"), optimise="-O0")


def phase(folder: Path, *, lines: int = 0x2d, expected: int | None = None) -> Script:
    """Return a script that runs a phase of the macro."""
    row = np.asarray([[(lines if expected is None else expected) >> r & 1 for r in range(16)]])
    script = Script()
    script.context(2, 2)
    script.image(9)
    script.macros(macro_tables(folder / "macros", {0: MACRO}))
    script.values(values(folder / "values", [(0, MACRO, np.asarray([14]), row)]))
    script.log(folder / "log")
    script.write(LINES, lines)
    script.write("CONTROL", 1)
    script.wait(100)
    script.read(ANSWER)
    return script


def test_phase(tmp_path: Path) -> None:
    """Registers, interrupt and macro: the answers are golden's, the log has its samples and draws."""
    script = phase(tmp_path)
    assert script.read(LINES) == 1
    result = SYSTEM.run(script).check()
    lines, column = np.asarray([0x2d >> r & 1 for r in range(16)]), np.arange(8)
    sampled = MACRO.sample(MACRO.columns(lines), column, image=9, phase=14)
    wanted = MACRO.compare(sampled[::2], column[::2], np.full(4, 16), image=9, phase=14)
    assert result.reads == [sum(int(one) << g for g, one in enumerate(wanted)), 0x2d]
    assert result.waits == [6] and (result.macro.samples, result.macro.comparisons) == (1, 4)
    log = read_log(tmp_path / "log")
    assert log[log["kind"] == SAMPLE]["value"].tolist() == sampled.tolist()
    assert log[log["kind"] == Kind.COMPARE]["column"].tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize("density", [(0, 0), (60, 0), (0, 60), (50, 50)])
def test_streams(density: tuple[int, int], seed: int) -> None:
    """Packets come back as they went, in the order and with the ends they had."""
    rng = np.random.default_rng(seed)
    packets = [rng.integers(0, 1 << 32, n, dtype=np.uint32) for n in (1, 2, 40, 1, 17)]
    script = Script()
    told: list[str] = []
    script.stalls(*density, seed & 0xFFFF)
    for number, packet in enumerate(packets):
        script.push(packet[:1].tolist(), last=len(packet) == 1)
        if len(packet) > 1:
            script.push(packet[1:])
        script.progress(f"packet {number}")
        if number == 2:
            script.receive(3, 1000)
    script.sent(1000)
    script.receive(2, 1000)
    result = SYSTEM.run(script, progress=told.append).check()
    assert [p.tolist() for p in result.packets] == [p.tolist() for p in packets]
    assert told == [f"packet {n}" for n in range(5)]
    assert len(result.waits) == 3 and result.at[-1] <= result.cycles and (np.diff(result.at) > 0).all()
    assert (result.cycles < 100) == (density == (0, 0))


def refused(script: Script, message: str) -> Result:
    """Assert that a script does not pass for the reason given."""
    result = SYSTEM.run(script)
    with pytest.raises((SystemFailure, MacroShellError), match=message):
        result.check()
    return result


@pytest.mark.parametrize(("fault", "more", "message"), [
    (1, lambda s: s.receive(1, 50), "protocol: cycle .*: m_axis: tvalid fell before tready"),
    (2, lambda s: s.receive(1, 50), "protocol: cycle .*: m_axis: a word changed before tready"),
    (3, lambda s: s.write(LINES, 1), "register 20: the write is refused"),
    (4, lambda s: s.sent(50), "packets are not taken after 50 cycles; 0 words sent, 1 packets wait, 0 words and 0 packets"),
    (5, lambda s: s.read(LINES), "register 256: no read response"),
    (6, lambda s: (s.write(START, 1), s.wait(50)), "script: line 5: wait: no irq after 50 cycles; 4 words sent"),
    (0, lambda s: s.receive(2, 50), "packets are missing after 50 cycles; 4 words sent, 0 packets wait, 4 words and 1"),
    (0, lambda s: s.poll(LINES, 0xff, 3, 50), "poll: register 256 after 50 cycles"),
    (0, lambda s: s.macros(Path("nowhere")), "nowhere: cannot be read"),
    (0, lambda s: s.commands.append("fly 1"), "line 4: fly: no such command"),
    (0, lambda s: s.commands.append("write 1"), "line 4: a number is missing"),
    (0, lambda s: s.commands.append("push 0 9 1"), "push: words beyond the file"),
])
def test_failures(fault: int, more: Callable[[Script], Any], message: str) -> None:
    """What the core or the script does wrong ends the run with one message."""
    script = Script()
    script.stalls(0, 50, 3)
    script.write(BREAK, fault)
    script.push([1, 2, 3, 4])
    more(script)
    refused(script, message)


def test_macro_failures(tmp_path: Path) -> None:
    """What the macro finds wrong is told, also where the script failed because of it."""
    result = refused(phase(tmp_path, expected=0x2c), "wrong word lines, 1 times.*expected 0x0000002c, got 0x0000002d")
    assert result.macro.phases == 1
    script = phase(tmp_path, expected=0x2c)
    script.wait(0)
    script.write(BREAK, 6)
    script.write(START, 1)
    script.wait(20)
    refused(script, "no irq.*macro: wrong word lines")
    script = phase(tmp_path)
    script.commands = [command for command in script.commands if not command.startswith("write 16")][:-2]
    refused(script, "macro: 0 of 1 phases were sampled")
    SYSTEM.run(script).check(complete=False)


def test_leaves() -> None:
    """What is left out is not done, reads and waits 0, and no packet of it is waited for; what is behind it is done."""
    for value, left in ((7, True), (5, False)):
        script = Script()
        script.write(LINES, value)
        script.leave(LINES, 3, 3)
        script.write(LINES, 9)
        assert script.read(LINES) == 0
        script.push([1, 2])
        script.receive(1, 50)
        script.land()
        assert script.read(LINES) == 1
        script.push([3])
        script.receive(1, 50)
        result = SYSTEM.run(script).check()
        assert result.reads == ([0, 7] if left else [9, 9])
        assert [p.tolist() for p in result.packets] == ([[3]] if left else [[1, 2], [3]])
        assert len(result.waits) == 2 and (result.waits[0] == 0) == left


def test_script_refuses() -> None:
    """A script knows registers and wants words."""
    script = Script()
    with pytest.raises(KeyError):
        script.write("NOWHERE", 1)
    with pytest.raises(ParameterError, match="packet: words, not 0"):
        script.push([])


@pytest.mark.parametrize(("change", "message"), [
    ({"multiplier": 70_000}, "layer layer: multiplier of the requantiser, not 70000; legal: 0..65535"),
    ({"multiplier": -1}, "multiplier of the requantiser, not -1"),
    ({"shift": 40}, "shift of the requantiser, not 40; legal: 0..31")])
def test_requantisers_fit_their_word(change: dict[str, int], message: str) -> None:
    """A factor or a shift that the word of a channel does not hold is refused, and would change the other one."""
    rng, scaled = random.Random(1), None
    while scaled is None:
        network, _ = random_network(rng, TINY, "diff")
        scaled = network.layers[0].requantise
    setting = Setting(scheme="diff", adc=Adc(bits=TINY.adc_bits))
    placed = place(network, TINY, setting)
    assert list(programs(TINY, network, placed, flash=False, adc_bits=TINY.adc_bits))
    wrong = dataclasses.replace(scaled, **{name: np.full_like(scaled.shift, value) for name, value in change.items()})
    network = dataclasses.replace(network, layers=(dataclasses.replace(network.layers[0], requantise=wrong),))
    with pytest.raises(ParameterError, match=message):
        list(programs(TINY, network, place(network, TINY, setting), flash=False, adc_bits=TINY.adc_bits))


def test_trace(tmp_path: Path) -> None:
    """A waveform of the same run is written."""
    script = Script()
    script.push([7])
    script.receive(1, 20)
    plain, traced = SYSTEM.run(script), SYSTEM.run(script, trace=tmp_path / "run.vcd")
    assert plain.words.tolist() == traced.words.tolist() == [7] and plain.cycles == traced.cycles
    assert "$var" in (tmp_path / "run.vcd").read_text()


def test_core(tmp_path: Path, seed: int) -> None:
    """Random layers on a core equal golden, one after the other in one script, under stalls."""
    p, rng, script = dataclasses.replace(TINY, tiles=2, fan_in=2, channels=16, membranes=1024), random.Random(seed), Script()
    script.read("MAGIC")
    script.stalls(30, 30, seed & 0xFFFF)
    expected: list[Any] = []
    counts: list[int] = []
    status: list[int] = []
    for case in range(4):
        scheme = SCHEMES[case]
        network, words = random_network(rng, p, scheme)
        adc, effects = Adc(bits=p.adc_bits), Effects(seed=rng.getrandbits(62), comparator_noise=0.4, read_noise=0.3)
        setting = Setting(scheme=scheme, adc=adc, effects=effects, skip=bool(case % 2))
        (entry,) = placed = place(network, p, setting)
        (program,) = programs(p, network, placed, flash=False, adc_bits=adc.bits, skip=setting.skip, time_inner=True)
        script.context(entry.mapped.operand.bits, p.rows // p.group_rows)
        script.image(case)
        script.macros(macro_tables(tmp_path / f"macros_{case}", {m.tile: m for row in entry.macros for m in row}))
        script.values(values(tmp_path / f"values_{case}", [
            found for step, x in enumerate(inputs(entry, words, network.steps))
            for found in layer_phases(p, entry, x, step, setting.skip)]))
        script.load(program)
        layer, operand = network.layers[0], words["input.0"]
        script.send(Target.MAP_0, 0, pack(split(operand, len(layer.passes[0].planes)), p.rows).ravel())
        status += script.start(cycles=1_000_000)[:2]
        trace = run(network, p, setting, words, image=case, placed=placed).layers["layer"]
        if layer.readout:
            readout = np.asarray(trace.readout)
            script.receive(readout.size)
            counts.append(readout.size)
            expected.append(sorted((c, int(v) & 0xFFFF_FFFF) for c, row in enumerate(readout) for v in np.ravel(row)))
            continue
        output = np.asarray(trace.output)
        planes = np.asarray(unpack(output, network.steps)) if layer.neuron else split(output, program.planes)
        line = pack(planes, p.rows)
        script.fetch(1, 0, len(line))
        counts.append(1)
        expected.append(line.ravel().tolist())
    result = ImcSystem(p, optimise="-O0").run(script).check(complete=False)
    assert result.reads[0] == 0x4D494C53 and [result.reads[n] for n in status] == [2, 0] * 4
    packets = iter(result.packets)
    for count, wanted in zip(counts, expected, strict=True):
        group = [next(packets).tolist() for _ in range(count)]
        assert (group[0] if wanted and isinstance(wanted[0], int) else sorted(map(tuple, group))) == wanted
    assert next(packets, None) is None
