"""The simulated system, tried on a small copier in place of the accelerator.

The copier reads PROGRAM beats from INPUT, writes them to STATS and measures the memory: MATCHES is cycles from the
first read address to the first data, CORRECTIONS from the first to the last data beat, CHUNKS from the last write beat
to its response, STALL_FIFO from the first to the last write beat. Bits 31 to 24 of PROGRAM make it break one rule.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden.arch import PRESETS, ParameterError
from verif.chunks import WIDE
from verif.system import HARNESS, Result, Start, System, SystemFailure

ARCH = dataclasses.replace(WIDE, outstanding=4, burst_beats=32)
BEAT = ARCH.data_bits // 8

COPIER = """
module spikeloom_tail (
    output word_valid, output [63:0] word_data, output [3:0] word_lanes, output [15:0] word_layer,
    output [31:0] word_tile, output [15:0] word_member, output [15:0] word_column,
    output [31:0] word_rows,
    input taken, input [63:0] beat, input [31:0] index
);
    assign word_valid = taken;
    assign word_data = beat;
    assign word_lanes = beat[3:0];
    assign word_layer = index[15:0] + 16'd1;
    assign word_tile = index + 32'h12345;
    assign word_member = index[15:0] ^ 16'hffff;
    assign word_column = 16'd7;
    assign word_rows = beat[63:32];
endmodule

module copier_core (input taken, input [63:0] beat, input [31:0] index);
    wire valid;
    wire [63:0] data;
    wire [3:0] lanes;
    wire [15:0] layer, member, column;
    wire [31:0] tile, rows;
    spikeloom_tail tail (.word_valid(valid), .word_data(data), .word_lanes(lanes), .word_layer(layer), .word_tile(tile),
                         .word_member(member), .word_column(column), .word_rows(rows),
                         .taken(taken), .beat(beat), .index(index));
endmodule

module spikeloom_ftp #(parameter W = 64) (
    input aclk, input aresetn, output irq,
    output [39:0] m_axi_araddr, output [7:0] m_axi_arlen, output [2:0] m_axi_arsize, output [1:0] m_axi_arburst,
    output m_axi_arvalid, input m_axi_arready,
    input [W-1:0] m_axi_rdata, input [1:0] m_axi_rresp, input m_axi_rlast, input m_axi_rvalid, output m_axi_rready,
    output [39:0] m_axi_awaddr, output [7:0] m_axi_awlen, output [2:0] m_axi_awsize, output [1:0] m_axi_awburst,
    output m_axi_awvalid, input m_axi_awready,
    output [W-1:0] m_axi_wdata, output [W/8-1:0] m_axi_wstrb, output m_axi_wlast,
    output m_axi_wvalid, input m_axi_wready,
    input [1:0] m_axi_bresp, input m_axi_bvalid, output m_axi_bready,
    input [11:0] s_axi_ctrl_awaddr, input s_axi_ctrl_awvalid, output s_axi_ctrl_awready,
    input [31:0] s_axi_ctrl_wdata, input [3:0] s_axi_ctrl_wstrb, input s_axi_ctrl_wvalid, output s_axi_ctrl_wready,
    output [1:0] s_axi_ctrl_bresp, output s_axi_ctrl_bvalid, input s_axi_ctrl_bready,
    input [11:0] s_axi_ctrl_araddr, input s_axi_ctrl_arvalid, output s_axi_ctrl_arready,
    output [31:0] s_axi_ctrl_rdata, output [1:0] s_axi_ctrl_rresp, output s_axi_ctrl_rvalid, input s_axi_ctrl_rready
);
    reg [31:0] regs [0:63];
    reg [63:0] counter [0:15];
    reg [W-1:0] store [0:4095];
    reg busy, done, failed, bad, b_held, r_held, flip, in_flight;
    reg [31:0] r_value, asked, got, sent, offered, open, answered, bursts;
    reg [31:0] t_ar, t_r, t_w, now;
    wire [31:0] beats = {8'd0, regs[14][23:0]}, source = regs[15], target = regs[16];

    wire [7:0] fault = regs[14][31:24];
    wire [31:0] open_limit = fault == F_OUTSTANDING ? 8 : 4;
    localparam [7:0] F_AR_DROP = 1, F_AR_CHANGE = 2, F_AW_DROP = 3, F_AW_CHANGE = 4, F_W_DROP = 5, F_W_CHANGE = 6,
        F_SIZE = 7, F_BURST = 8, F_CROSS = 9, F_LENGTH = 10, F_ALIGN = 11, F_WLAST = 12, F_OUTSTANDING = 13,
        F_IRQ_READ = 14, F_IRQ_WRITE = 15, F_HANG = 16, F_STUCK = 17, F_SILENT = 18, F_B_EARLY = 19, F_R_EARLY = 20,
        F_SLOW_READY = 21, F_AW_SIZE = 22, F_AW_BURST = 23, F_AW_CROSS = 24, F_AW_LENGTH = 25, F_AW_ALIGN = 26,
        F_W_FIRST = 27;

    function [31:0] run(input [31:0] offset, input [31:0] left);
        run = left < 32 - (offset / (W / 8)) % 32 ? left : 32 - (offset / (W / 8)) % 32;
    endfunction

    wire [31:0] ar_run = fault == F_CROSS ? (beats - asked < 32 ? beats - asked : 32)
        : fault == F_LENGTH && source % 4096 == 0 && asked == 0 ? 64 : run(source + asked * (W / 8), beats - asked);
    wire [31:0] aw_run = fault == F_AW_CROSS ? (beats - offered < 32 ? beats - offered : 32)
        : fault == F_AW_LENGTH && offered == 0 ? 64 : run(target + offered * (W / 8), beats - offered);
    wire reading = busy && asked < beats && open < open_limit;
    wire writing = busy && got == beats && offered < beats && !in_flight;
    assign m_axi_arvalid = reading && !(fault == F_AR_DROP && flip);
    assign m_axi_araddr = {regs[13][7:0], regs[12]} + {8'd0, source} + {8'd0, asked} * (W / 8)
        + (fault == F_AR_CHANGE && flip ? 40'd4096 : 0) + (fault == F_ALIGN ? 40'd4 : 0);
    assign m_axi_arlen = ar_run[7:0] - 1;
    assign m_axi_arsize = fault == F_SIZE ? 2 : $clog2(W / 8);
    assign m_axi_arburst = fault == F_BURST ? 0 : 1;
    assign m_axi_rready = !(fault == F_SLOW_READY && flip);
    assign m_axi_awvalid = writing && !(fault == F_AW_DROP && flip);
    assign m_axi_awaddr = {regs[13][7:0], regs[12]} + {8'd0, target} + {8'd0, offered} * (W / 8)
        + (fault == F_AW_CHANGE && flip ? 40'd4096 : 0) + (fault == F_AW_ALIGN ? 40'd4 : 0);
    assign m_axi_awlen = aw_run[7:0] - 1;
    assign m_axi_awsize = fault == F_AW_SIZE ? 2 : $clog2(W / 8);
    assign m_axi_awburst = fault == F_AW_BURST ? 0 : 1;
    reg [31:0] w_end;
    assign m_axi_wvalid = sent < w_end && !(fault == F_W_DROP && flip)
        || fault == F_W_FIRST && writing && offered == 0;
    assign m_axi_wdata = store[sent[11:0]] + (fault == F_W_CHANGE && flip ? 64'd1 : 64'd0);
    assign m_axi_wstrb = {W / 8{1'b1}};
    assign m_axi_wlast = sent + 1 == w_end && fault != F_WLAST;
    assign m_axi_bready = !(fault == F_SLOW_READY && flip);
    wire finished = fault == F_IRQ_READ ? got == 1
        : got == beats && (answered == bursts || fault == F_IRQ_WRITE) && offered == beats && sent == beats
          && fault != F_HANG;
    reg enable;
    assign irq = (done || failed) && enable;

    copier_core core (.taken(m_axi_rvalid && m_axi_rready), .beat(m_axi_rdata[63:0]), .index(got));

    wire ctrl_write = s_axi_ctrl_awvalid && s_axi_ctrl_wvalid && !b_held;
    wire ctrl_read = s_axi_ctrl_arvalid && !r_held;
    assign s_axi_ctrl_awready = ctrl_write;
    assign s_axi_ctrl_wready = ctrl_write;
    assign s_axi_ctrl_bvalid = fault == F_SILENT ? 0 : b_held || fault == F_B_EARLY;
    assign s_axi_ctrl_bresp = 0;
    assign s_axi_ctrl_arready = ctrl_read;
    assign s_axi_ctrl_rvalid = r_held || fault == F_R_EARLY;
    assign s_axi_ctrl_rdata = r_value;
    assign s_axi_ctrl_rresp = s_axi_ctrl_araddr[11:9] == 0 ? 2'd0 : 2'd2;

    always @(posedge aclk)
        if (!aresetn) begin
            {busy, done, failed, bad, b_held, r_held, flip, in_flight, enable} <= 0;
            {asked, got, sent, offered, open, answered, bursts, w_end, now} <= 0;
            regs[14] <= 0;
        end else begin
            now <= now + 1;
            flip <= !flip;
            if (s_axi_ctrl_bready) b_held <= 0;
            if (s_axi_ctrl_rready) r_held <= 0;
            if (ctrl_read) begin
                r_held <= 1;
                r_value <= s_axi_ctrl_araddr == 12'h024 ? {29'd0, failed, done, busy}
                    : s_axi_ctrl_araddr == 12'h028 ? {15'd0, failed, 15'd0, failed}
                    : s_axi_ctrl_araddr[11:7] != 0 ? (s_axi_ctrl_araddr[2] ? counter[s_axi_ctrl_araddr[6:3]][63:32]
                                                      : counter[s_axi_ctrl_araddr[6:3]][31:0])
                    : regs[s_axi_ctrl_araddr[7:2]];
            end
            if (busy) begin
                counter[0] <= counter[0] + 1;
                if (m_axi_arvalid && m_axi_arready) begin
                    if (asked == 0) t_ar <= now;
                    asked <= asked + ar_run;
                end
                open <= open + {31'd0, m_axi_arvalid && m_axi_arready}
                    - {31'd0, m_axi_rvalid && m_axi_rready && m_axi_rlast};
                if (m_axi_rvalid && m_axi_rready) begin
                    store[got[11:0]] <= m_axi_rdata;
                    got <= got + 1;
                    if (got == 0) {t_r, counter[1]} <= {now, 32'd0, now - t_ar};
                    if (got + 1 == beats) counter[2] <= {32'd0, now - t_r};
                    if (m_axi_rresp != 0) bad <= 1;
                end
                if (m_axi_awvalid && m_axi_awready) begin
                    offered <= offered + aw_run;
                    w_end <= offered + aw_run;
                    bursts <= bursts + 1;
                    in_flight <= 1;
                end
                if (m_axi_wvalid && m_axi_wready) begin
                    sent <= sent + 1;
                    if (sent + 1 == w_end) in_flight <= 0;
                    if (sent == 0) t_w <= now;
                    if (sent + 1 == beats) {counter[4], t_ar} <= {32'd0, now - t_w, now};
                end
                if (m_axi_bvalid && m_axi_bready) begin
                    answered <= answered + 1;
                    counter[3] <= {32'd0, now - t_ar};
                    if (m_axi_bresp != 0) bad <= 1;
                end
                if (finished) {busy, done, failed} <= {1'b0, !bad, bad};
            end
            if (ctrl_write) begin
                b_held <= 1;
                if (s_axi_ctrl_awaddr == 12'h024 && s_axi_ctrl_wdata[1]) done <= fault == F_STUCK;
                if (s_axi_ctrl_awaddr == 12'h024 && s_axi_ctrl_wdata[2]) failed <= 0;
                if (s_axi_ctrl_awaddr == 12'h020) enable <= s_axi_ctrl_wdata[1];
                if (s_axi_ctrl_awaddr == 12'h020 && s_axi_ctrl_wdata[0]) begin
                    {busy, done, failed, bad} <= 4'b1000;
                    {asked, got, sent, offered, answered, bursts, w_end} <= 0;
                    counter[0] <= 0;
                end else regs[s_axi_ctrl_awaddr[7:2]] <= s_axi_ctrl_wdata;
            end
        end
endmodule
"""

QUIET = "/* verilator lint_off UNUSEDSIGNAL */\n/* verilator lint_off WIDTH */\n"
SOURCE, TARGET, BEATS = 0x1040, 0x8100, 200
IMAGE = np.random.default_rng(1).integers(0, 256, 32768, dtype=np.uint8).tobytes()

FAULTS = {
    1: "arvalid dropped before arready",
    2: "ar payload changed before arready",
    3: "awvalid dropped before awready",
    4: "aw payload changed before awready",
    5: "wvalid dropped before wready",
    6: "w payload changed before wready",
    7: "arsize is not the full width",
    8: "arburst is not INCR",
    9: "ar burst crosses a 4 KB boundary",
    10: "arlen is above the parameter burst_beats",
    11: "araddr is not aligned to a beat",
    12: "wlast is not on the last beat",
    13: "more outstanding reads than the parameter outstanding",
    14: "irq rose with a read outstanding",
    15: "irq rose with a write outstanding",
    19: "s_axi_ctrl write response without a request",
    20: "s_axi_ctrl read data without a request",
    22: "awsize is not the full width",
    23: "awburst is not INCR",
    24: "aw burst crosses a 4 KB boundary",
    25: "awlen is above the parameter burst_beats",
    26: "awaddr is not aligned to a beat",
}
HANG, STUCK, SILENT, SLOW_READY, WRITES_FIRST = 16, 17, 18, 21, 27


def system(*, monitor: bool = False, replace: tuple[str, str] | None = None, design: str = COPIER) -> System:
    """Return the copier in the harness; ``replace`` breaks one place of the harness."""
    harness = HARNESS.read_text()
    if replace:
        assert harness.count(replace[0]) == 1
        harness = harness.replace(*replace)
    return System(ARCH, QUIET + design, monitor=monitor, optimise="-O0", harness=harness)


def copy(one: System, *, starts: int = 1, beats: int = BEATS, fault: int = 0, source: int = SOURCE,
         **options: Any) -> Result:
    """Copy ``beats`` beats of a random image, 1 KB further at every start, and return the result."""
    options = {"dump": (TARGET, TARGET + beats * BEAT), "max_cycles": 5000, "stats_offset": TARGET,
               "program_offset": beats | fault << 24, "latency": 20, **options}
    return one.run(IMAGE, [Start(source + 1024 * index) for index in range(starts)], **options)


def copied(index: int = 0) -> bytes:
    """Return the bytes that start ``index`` copies."""
    return IMAGE[SOURCE + 1024 * index :][: BEATS * BEAT]


def test_copy() -> None:
    """Bytes arrive in order for several starts, cycles agree inside and outside, the monitors have nothing to say."""
    result = copy(system(), starts=3).check()
    assert result.dumps == [copied(index) for index in range(3)]
    assert [run.cycles for run in result.runs] == [run.counters["cycles"] for run in result.runs]
    assert (result.read_beats, result.write_beats) == (3 * BEATS, 3 * BEATS)
    assert result.simulated_cycles_per_second > 0


@pytest.mark.parametrize("latency", [1, 2, 20, 96, 100])
@pytest.mark.parametrize("bandwidth", [0, 3, 4, 8, 48])
def test_memory_cycles(latency: int, bandwidth: int) -> None:
    """Latency and bandwidth are exact, in both directions.

    The copier asks for its fifth burst when the first one, 24 beats, has arrived; the next three have 96, so a stream
    at full rate waits latency - 96 cycles for it. Between write bursts it pauses for a cycle.
    """
    counters = copy(system(), latency=latency, bandwidth=bandwidth).check().runs[0].counters
    assert counters["matches"] == counters["chunks"] == latency
    stream = (BEATS - 1) * BEAT // bandwidth if 0 < bandwidth < BEAT else BEATS - 1
    bursts = -(-(TARGET % 256 + BEATS * BEAT) // 256)
    assert counters["corrections"] == stream + (max(0, latency - 96) if stream == BEATS - 1 else 0)
    assert counters["stall_fifo"] == (stream if stream > BEATS else stream + bursts - 1)


def test_wide_port() -> None:
    """512 bits work as 64 do."""
    arch = dataclasses.replace(PRESETS["loas"], lanes=4, outstanding=4, burst_beats=32)
    one = System(arch, QUIET + COPIER.replace("W = 64", "W = 512"), optimise="-O0")
    result = one.run(IMAGE, [Start(0x40)], program_offset=100, stats_offset=0x10000, dump=(0x10007, 0x10000 + 6400))
    assert result.check().dumps == [IMAGE[0x47 : 0x40 + 6400]]
    words = result.runs[0].words
    assert words is not None
    assert np.array_equal(words.data, np.frombuffer(IMAGE, "<u2")[32:3232].reshape(100, 32)[:, :4])


def test_base_dump_fill() -> None:
    """Offsets are relative to the base, a dump needs no alignment, the rest of the memory holds the fill byte."""
    dump = (TARGET - 3, TARGET + BEATS * BEAT + 5)
    result = copy(system(), base=0x12_3456_7000, dump=dump, fill=0xA7).check()
    assert result.dumps == [b"\xa7" * 3 + copied() + b"\xa7" * 5]


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_stalls(kind: int, seed: int) -> None:
    """Random stalls cost cycles, repeat with their seed, and change neither data nor rules."""
    stall_seed = seed % (1 << 29) * 8 + kind
    first, again, free = (copy(system(), starts=2, stall_seed=s).check() for s in (stall_seed, stall_seed, 0))
    assert first.dumps == free.dumps == [copied(0), copied(1)]
    assert first.cycles == again.cycles > free.cycles


@pytest.mark.parametrize("window", [(SOURCE + 8, SOURCE + 9), (SOURCE + BEATS * BEAT - 8, 1 << 40)])
def test_read_error(window: tuple[int, int]) -> None:
    """A read inside the window is answered with SLVERR and zeros, and the next start works on."""
    result = copy(system(), starts=2, read_error=window)
    assert result.runs[0].status == 4
    assert result.runs[0].error_code == 1
    assert result.runs[0].error_layer == 1
    assert result.runs[1].done == (window[1] < 1 << 40)
    beat = (window[0] - SOURCE) // BEAT
    assert result.dumps[0][8 * beat : 8 * beat + 8] == bytes(8)
    assert result.dumps[0][: 8 * beat] == copied()[: 8 * beat]
    with pytest.raises(SystemFailure, match=r"^start 0: error 1 in layer 1, status 0x4 after \d+ cycles$"):
        result.check()


def test_error_outside() -> None:
    """Windows beside the range do not answer with an error; addresses outside the memory do."""
    copy(system(), read_error=(SOURCE - 64, SOURCE), write_error=(TARGET - 8, TARGET)).check()
    assert copy(system(), source=1 << 24).runs[0].error_code == 1
    assert copy(system(), stats_offset=(1 << 24) - 256).runs[0].error_code == 1


def test_write_error() -> None:
    """A write inside the window is answered with SLVERR and does not arrive."""
    result = copy(system(), write_error=(TARGET + 16, TARGET + 24))
    assert result.runs[0].error_code == 1
    assert result.dumps[0] == copied()[:16] + bytes(8) + copied()[24:]


def test_timeout() -> None:
    """A hang ends after ``max_cycles`` and leaves the registers; later starts do not happen."""
    result = copy(system(), starts=2, fault=HANG, max_cycles=3000)
    assert [run.timeout for run in result.runs] == [True]
    assert result.cycles == 3000
    assert result.runs[0].counters["cycles"] > 3000 - BEATS
    with pytest.raises(SystemFailure, match=r"^start 0: no irq after 3000 cycles, status 0x1, error 0, counters "):
        result.check()


def test_registers_do_not_answer() -> None:
    """A register write without a response ends the run with a message."""
    result = copy(system(), fault=SILENT)
    with pytest.raises(SystemFailure, match=r"^registers: s_axi_ctrl_: no answer to the write of 0x038 in 1000"):
        result.check()


def test_irq_stuck() -> None:
    """An interrupt that does not fall when done is cleared is a failure."""
    with pytest.raises(SystemFailure, match=r"^start 0: irq stays high after done was cleared$"):
        copy(system(), fault=STUCK).check()


@pytest.mark.parametrize("fault", FAULTS)
def test_protocol_monitor(fault: int) -> None:
    """Each broken rule is named, and by its own name first."""
    seed = {1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1}.get(fault, 0)
    source = {9: 0x1F40, 10: 0x2000}.get(fault, SOURCE)
    target = {24: 0x5F40, 25: 0x6000}.get(fault, TARGET)
    result = copy(system(), fault=fault, stall_seed=seed, source=source, stats_offset=target)
    assert result.violations
    assert result.violations[0].startswith(FAULTS[fault] + " (cycle ")
    with pytest.raises(SystemFailure, match=rf"^protocol: {FAULTS[fault]} "):
        result.check()


@pytest.mark.parametrize(("replace", "seen"), [
    (("rvalid <= read_busy;", "rvalid <= read_busy && now % 3 != 0;"), "rvalid dropped before rready"),
    (("bvalid <= answer_busy;", "bvalid <= answer_busy && now % 2 != 0;"), "bvalid dropped before bready"),
    (("rvalid <= read_busy;", "rvalid <= read_busy || now == 5;"), "read data without a request"),
    (("bvalid <= answer_busy;", "bvalid <= answer_busy || now == 5;"), "write response without a request"),
])
def test_monitor_sees_memory(replace: tuple[str, str], seen: str) -> None:
    """The monitor looks at the memory as well."""
    violations = copy(system(replace=replace), fault=SLOW_READY).violations
    assert any(text.startswith(seen) for text in violations)


def test_write_data_first() -> None:
    """Data that a memory takes before any address is seen."""
    eager = system(replace=("wready <= aw_in != aw_out && (", "wready <= (aw_in != aw_out || now != 0) && ("))
    violations = copy(eager, fault=WRITES_FIRST).violations
    assert violations[0].startswith("write data without an address (cycle ")


def test_valid_after_reset() -> None:
    """A request in the first cycle after reset is seen."""
    old = "assign m_axi_arvalid = reading"
    assert COPIER.count(old) == 1
    design = COPIER.replace(old, "assign m_axi_arvalid = now == 0 || reading")
    assert copy(system(design=design)).violations[0].startswith("valid is high in the first cycle after reset")


def test_neuron_monitor() -> None:
    """Every field of every record arrives, by start; without +words nothing is recorded."""
    one = system(monitor=True)
    result = copy(one, starts=2).check()
    index = np.arange(BEATS)
    for start, run in enumerate(result.runs):
        words = run.words
        assert words is not None
        assert len(words) == BEATS
        expected = np.frombuffer(copied(start), "<u2").reshape(BEATS, 4)
        assert np.array_equal(words.data, expected)
        assert np.array_equal(words.lanes, expected[:, :1] >> np.arange(4) & 1 == 1)
        assert np.array_equal(words.layer, index + 1)
        assert np.array_equal(words.tile, index + 0x12345)
        assert np.array_equal(words.member, index ^ 0xFFFF)
        assert np.array_equal(words.column, np.full(BEATS, 7))
        assert np.array_equal(words.rows, np.frombuffer(copied(start), "u1").reshape(BEATS, 8)[:, 4:])
        assert words.cycle[-1] - words.cycle[0] == run.counters["corrections"]
    assert copy(one, words=False).check().runs[0].words is None
    silent = copy(one, fault=HANG, beats=0).runs[0].words
    assert silent is not None
    assert silent.data.shape == (0, 4)


def test_trace(tmp_path: Path) -> None:
    """``trace`` leaves a waveform with the accelerator in it."""
    copy(system(), trace=tmp_path / "wave.vcd").check()
    text = (tmp_path / "wave.vcd").read_text()
    assert "$var" in text
    assert "m_axi_araddr" in text
    assert text.count("#") > 100


def test_bare_loop() -> None:
    """The bare loop runs the same starts: as many end as the cycles of one run allow."""
    bare = system().bare_speed(IMAGE, 100_000, input_offset=SOURCE, program_offset=BEATS, stats_offset=TARGET)
    one = copy(system(), latency=100).check().cycles
    between = 100_000 / bare["done"] - one
    assert bare["cycles"] >= 100_000
    assert bare["violations"] == 0
    assert bare["cycles_per_second"] > 0
    assert 0 < between < 10
    with pytest.raises(SystemFailure, match=r"^bare loop: no start ended in 100 cycles$"):
        system().bare_speed(IMAGE, 100, input_offset=SOURCE, program_offset=BEATS, stats_offset=TARGET)


@pytest.mark.parametrize(("options", "message"), [
    ({"base": 32}, "base: must be a multiple of 64 below 2^40, not 0x20"),
    ({"base": 1 << 40}, "base: must be a multiple of 64 below 2^40, not 0x10000000000"),
    ({"latency": 0}, "latency: must be in 1..1048576, not 0"),
    ({"bandwidth": -1}, "bandwidth: must be in 0..1048576, not -1"),
    ({"stall_seed": 1 << 32}, "stall_seed: must be in 0..4294967295, not 4294967296"),
    ({"fill": 256}, "fill: must be in 0..255, not 256"),
    ({"max_cycles": 0}, "max_cycles: must be in 1..1000000000000, not 0"),
])
def test_rejected(options: dict[str, int], message: str) -> None:
    """Options outside their range are refused by name."""
    with pytest.raises(ParameterError, match=f"^{re.escape(message)}$"):
        copy(system(), **options)
