// The simulated system around the accelerator: memory, protocol monitor, neuron monitor.
//
// Everything that happens every clock cycle is here, so that the program that drives the ports only writes registers,
// waits for irq and asks for dumps. Plusargs: +image=FILE (memory at time 0, little-endian bytes, a whole number of
// beats), +fill=HH (byte of the rest of the memory), +dump=PREFIX (dump n is written to PREFIX_n.bin), +words=FILE
// (records of the neuron monitor, only with `define MONITOR).

module harness #(
    parameter DATA_BITS = 512,
    parameter ADDRESS_BITS = 40,
    parameter MEM_WORDS = 262144,
    parameter OUTSTANDING = 32,
    parameter BURST_BEATS = 64,
    parameter LANES = 16,
    parameter T_MAX = 16,
    parameter PRINTED = 100
) (
    input aclk,
    input aresetn,
    output irq,
    input [11:0] s_axi_ctrl_awaddr,
    input s_axi_ctrl_awvalid,
    output s_axi_ctrl_awready,
    input [31:0] s_axi_ctrl_wdata,
    input [3:0] s_axi_ctrl_wstrb,
    input s_axi_ctrl_wvalid,
    output s_axi_ctrl_wready,
    output [1:0] s_axi_ctrl_bresp,
    output s_axi_ctrl_bvalid,
    input s_axi_ctrl_bready,
    input [11:0] s_axi_ctrl_araddr,
    input s_axi_ctrl_arvalid,
    output s_axi_ctrl_arready,
    output [31:0] s_axi_ctrl_rdata,
    output [1:0] s_axi_ctrl_rresp,
    output s_axi_ctrl_rvalid,
    input s_axi_ctrl_rready,
    input [31:0] latency,
    input [31:0] bandwidth,
    input [31:0] stall_seed,
    input [63:0] memory_base,
    input [63:0] read_error_lo,
    input [63:0] read_error_hi,
    input [63:0] write_error_lo,
    input [63:0] write_error_hi,
    input dump,
    input [63:0] dump_lo,
    input [63:0] dump_hi,
    input [31:0] start_index,
    output reg [63:0] cycle,
    output [63:0] read_beats,
    output [63:0] write_beats,
    output [31:0] violations
);
    wire [ADDRESS_BITS-1:0] araddr, awaddr;
    wire [7:0] arlen, awlen;
    wire [2:0] arsize, awsize;
    wire [1:0] arburst, awburst, rresp, bresp;
    wire arvalid, arready, awvalid, awready, rvalid, rready, rlast, wvalid, wready, wlast, bvalid, bready;
    wire [DATA_BITS-1:0] rdata, wdata;
    wire [DATA_BITS/8-1:0] wstrb;

    always @(posedge aclk) cycle <= aresetn ? cycle + 1 : 0;

    spikeloom_ftp dut (
        .aclk(aclk), .aresetn(aresetn), .irq(irq),
        .m_axi_araddr(araddr), .m_axi_arlen(arlen), .m_axi_arsize(arsize), .m_axi_arburst(arburst),
        .m_axi_arvalid(arvalid), .m_axi_arready(arready),
        .m_axi_rdata(rdata), .m_axi_rresp(rresp), .m_axi_rlast(rlast), .m_axi_rvalid(rvalid), .m_axi_rready(rready),
        .m_axi_awaddr(awaddr), .m_axi_awlen(awlen), .m_axi_awsize(awsize), .m_axi_awburst(awburst),
        .m_axi_awvalid(awvalid), .m_axi_awready(awready),
        .m_axi_wdata(wdata), .m_axi_wstrb(wstrb), .m_axi_wlast(wlast), .m_axi_wvalid(wvalid), .m_axi_wready(wready),
        .m_axi_bresp(bresp), .m_axi_bvalid(bvalid), .m_axi_bready(bready),
        .s_axi_ctrl_awaddr(s_axi_ctrl_awaddr), .s_axi_ctrl_awvalid(s_axi_ctrl_awvalid),
        .s_axi_ctrl_awready(s_axi_ctrl_awready), .s_axi_ctrl_wdata(s_axi_ctrl_wdata),
        .s_axi_ctrl_wstrb(s_axi_ctrl_wstrb), .s_axi_ctrl_wvalid(s_axi_ctrl_wvalid),
        .s_axi_ctrl_wready(s_axi_ctrl_wready), .s_axi_ctrl_bresp(s_axi_ctrl_bresp),
        .s_axi_ctrl_bvalid(s_axi_ctrl_bvalid), .s_axi_ctrl_bready(s_axi_ctrl_bready),
        .s_axi_ctrl_araddr(s_axi_ctrl_araddr), .s_axi_ctrl_arvalid(s_axi_ctrl_arvalid),
        .s_axi_ctrl_arready(s_axi_ctrl_arready), .s_axi_ctrl_rdata(s_axi_ctrl_rdata),
        .s_axi_ctrl_rresp(s_axi_ctrl_rresp), .s_axi_ctrl_rvalid(s_axi_ctrl_rvalid),
        .s_axi_ctrl_rready(s_axi_ctrl_rready)
    );

    harness_memory #(.DATA_BITS(DATA_BITS), .ADDRESS_BITS(ADDRESS_BITS), .MEM_WORDS(MEM_WORDS)) memory (
        .aclk(aclk), .aresetn(aresetn), .latency(latency), .bandwidth(bandwidth), .stall_seed(stall_seed),
        .base(memory_base), .read_error_lo(read_error_lo), .read_error_hi(read_error_hi),
        .write_error_lo(write_error_lo), .write_error_hi(write_error_hi),
        .dump(dump), .dump_lo(dump_lo), .dump_hi(dump_hi), .read_beats(read_beats), .write_beats(write_beats),
        .araddr(araddr), .arlen(arlen), .arvalid(arvalid), .arready(arready),
        .rdata(rdata), .rresp(rresp), .rlast(rlast), .rvalid(rvalid), .rready(rready),
        .awaddr(awaddr), .awlen(awlen), .awvalid(awvalid), .awready(awready),
        .wdata(wdata), .wstrb(wstrb), .wvalid(wvalid), .wready(wready),
        .bresp(bresp), .bvalid(bvalid), .bready(bready)
    );

    harness_protocol #(.DATA_BITS(DATA_BITS), .ADDRESS_BITS(ADDRESS_BITS), .OUTSTANDING(OUTSTANDING),
                       .BURST_BEATS(BURST_BEATS), .PRINTED(PRINTED)) protocol (
        .aclk(aclk), .aresetn(aresetn), .irq(irq), .cycle(cycle), .violations(violations),
        .araddr(araddr), .arlen(arlen), .arsize(arsize), .arburst(arburst), .arvalid(arvalid), .arready(arready),
        .rresp(rresp), .rlast(rlast), .rvalid(rvalid), .rready(rready),
        .awaddr(awaddr), .awlen(awlen), .awsize(awsize), .awburst(awburst), .awvalid(awvalid), .awready(awready),
        .wdata(wdata), .wstrb(wstrb), .wlast(wlast), .wvalid(wvalid), .wready(wready),
        .bresp(bresp), .bvalid(bvalid), .bready(bready),
        .ctrl_aw(s_axi_ctrl_awvalid && s_axi_ctrl_awready), .ctrl_w(s_axi_ctrl_wvalid && s_axi_ctrl_wready),
        .ctrl_b(s_axi_ctrl_bresp), .ctrl_bvalid(s_axi_ctrl_bvalid), .ctrl_bready(s_axi_ctrl_bready),
        .ctrl_ar(s_axi_ctrl_arvalid && s_axi_ctrl_arready), .ctrl_r({s_axi_ctrl_rresp, s_axi_ctrl_rdata}),
        .ctrl_rvalid(s_axi_ctrl_rvalid), .ctrl_rready(s_axi_ctrl_rready)
    );

`ifdef MONITOR
    localparam DATA_PAD = (32 - LANES * T_MAX % 32) % 32;
    localparam ROWS_PAD = (32 - LANES * 8 % 32) % 32;
    localparam LANES_PAD = (32 - LANES % 32) % 32;
    integer words = 0;
    string words_name;

    initial if ($value$plusargs("words=%s", words_name)) words = $fopen(words_name, "wb");

    // One record of 32-bit words, lowest first: start, cycle low and high, layer, tile, member, column, lanes, data, rows.
    always @(posedge aclk)
        if (words != 0 && aresetn && dut.core.tail.word_valid)
            $fwrite(words, "%u", {
                {ROWS_PAD{1'b0}}, dut.core.tail.word_rows, {DATA_PAD{1'b0}}, dut.core.tail.word_data, {LANES_PAD{1'b0}}, dut.core.tail.word_lanes,
                16'd0, dut.core.tail.word_column, 16'd0, dut.core.tail.word_member, dut.core.tail.word_tile,
                16'd0, dut.core.tail.word_layer, cycle, start_index});
    final if (words != 0) $fclose(words);
`endif
endmodule


// In-order AXI4 memory, INCR bursts of full width, one beat a cycle.
//
// The first beat of a read is transferred `latency` cycles (at least 1) after its address, a write response `latency`
// cycles after the last beat. Each direction moves `bandwidth` bytes a cycle (0: a beat every cycle); beat k of an
// unbroken stream leaves floor(k * bytes / bandwidth) cycles after beat 0. stall_seed other than 0 stalls all channels
// at random; with bit 1 of it, ready also waits for valid. Addresses in [error_lo, error_hi), relative to base, are
// answered with SLVERR and not written, addresses outside the memory with DECERR.
module harness_memory #(
    parameter DATA_BITS = 512,
    parameter ADDRESS_BITS = 40,
    parameter MEM_WORDS = 262144,
    parameter QUEUE = 256
) (
    input aclk,
    input aresetn,
    input [31:0] latency,
    input [31:0] bandwidth,
    input [31:0] stall_seed,
    input [63:0] base,
    input [63:0] read_error_lo,
    input [63:0] read_error_hi,
    input [63:0] write_error_lo,
    input [63:0] write_error_hi,
    input dump,
    input [63:0] dump_lo,
    input [63:0] dump_hi,
    output reg [63:0] read_beats,
    output reg [63:0] write_beats,
    input [ADDRESS_BITS-1:0] araddr,
    input [7:0] arlen,
    input arvalid,
    output reg arready,
    output reg [DATA_BITS-1:0] rdata,
    output reg [1:0] rresp,
    output reg rlast,
    output reg rvalid,
    input rready,
    input [ADDRESS_BITS-1:0] awaddr,
    input [7:0] awlen,
    input awvalid,
    output reg awready,
    input [DATA_BITS-1:0] wdata,
    input [DATA_BITS/8-1:0] wstrb,
    input wvalid,
    output reg wready,
    output reg [1:0] bresp,
    output reg bvalid,
    input bready
);
    localparam BYTES = DATA_BITS / 8;
    localparam SHIFT = $clog2(BYTES);
    localparam [1:0] OKAY = 0, SLVERR = 2, DECERR = 3;

    reg [DATA_BITS-1:0] mem [0:MEM_WORDS-1];
    reg [63:0] now, due, read_credit, write_credit, credit_max;
    reg [31:0] random;
    reg [63:0] ar_address [0:QUEUE-1], ar_due [0:QUEUE-1], aw_address [0:QUEUE-1], b_due [0:QUEUE-1];
    reg [7:0] ar_length [0:QUEUE-1], aw_length [0:QUEUE-1], read_beat, write_beat;
    reg [1:0] b_resp [0:QUEUE-1], beat_resp, burst_resp;
    reg [63:0] ar_in, ar_out, aw_in, aw_out, b_out, at;
    reg stalling, read_busy, answer_busy;

    function automatic [1:0] response(input [63:0] offset, input [63:0] lo, input [63:0] hi);
        response = (offset >> SHIFT) >= MEM_WORDS ? DECERR : offset + BYTES > lo && offset < hi ? SLVERR : OKAY;
    endfunction

    function automatic [63:0] filled(input [63:0] credit);
        filled = credit + {32'd0, bandwidth} > credit_max ? credit_max : credit + {32'd0, bandwidth};
    endfunction

    function automatic [31:0] next_random(input [31:0] value);
        next_random = value ^ (value << 13);
        next_random = next_random ^ (next_random >> 17);
        next_random = next_random ^ (next_random << 5);
    endfunction

    always @(posedge aclk) begin
        credit_max = BYTES + {32'd0, bandwidth} - 1;
        stalling = stall_seed != 0;
        if (!aresetn) begin
            now = 0;
            random = stall_seed;
            {ar_in, ar_out, aw_in, aw_out, b_out} = '0;
            {read_beat, write_beat, read_busy, answer_busy} = '0;
            burst_resp = OKAY;
            read_credit = credit_max;
            write_credit = credit_max;
            read_beats <= 0;
            write_beats <= 0;
            {arready, awready, wready, rvalid, bvalid} <= '0;
        end else begin
            now = now + 1;
            if (stalling) random = next_random(random);
            due = now + (latency == 0 ? 0 : {32'd0, latency} - 1);
            read_credit = filled(read_credit);
            write_credit = filled(write_credit);

            if (arvalid && arready) begin
                ar_address[ar_in % QUEUE] = 64'(araddr) - base;
                ar_length[ar_in % QUEUE] = arlen;
                ar_due[ar_in % QUEUE] = due;
                ar_in = ar_in + 1;
            end
            if (rvalid && rready) read_busy = 0;
            if (!read_busy && ar_in != ar_out && ar_due[ar_out % QUEUE] <= now
                && (bandwidth == 0 || read_credit >= BYTES) && !(stalling && random[1:0] == 0)) begin
                at = ar_address[ar_out % QUEUE] + {56'd0, read_beat} * BYTES;
                beat_resp = response(at, read_error_lo, read_error_hi);
                rresp <= beat_resp;
                rdata <= beat_resp == OKAY ? mem[at >> SHIFT] : '0;
                rlast <= read_beat == ar_length[ar_out % QUEUE];
                if (read_beat == ar_length[ar_out % QUEUE]) begin
                    ar_out = ar_out + 1;
                    read_beat = 0;
                end else read_beat = read_beat + 1;
                if (bandwidth != 0) read_credit = read_credit - BYTES;
                read_busy = 1;
                read_beats <= read_beats + 1;
            end
            rvalid <= read_busy;
            arready <= ar_in - ar_out < QUEUE && !(stalling && (random[5:4] == 0 || stall_seed[1] && !arvalid));

            if (awvalid && awready) begin
                aw_address[aw_in % QUEUE] = 64'(awaddr) - base;
                aw_length[aw_in % QUEUE] = awlen;
                aw_in = aw_in + 1;
            end
            if (wvalid && wready) begin
                at = aw_address[aw_out % QUEUE] + {56'd0, write_beat} * BYTES;
                beat_resp = response(at, write_error_lo, write_error_hi);
                if (beat_resp == OKAY)
                    for (integer i = 0; i < BYTES; i = i + 1)
                        if (wstrb[i]) mem[at >> SHIFT][8*i +: 8] = wdata[8*i +: 8];
                if (beat_resp > burst_resp) burst_resp = beat_resp;
                if (write_beat == aw_length[aw_out % QUEUE]) begin
                    b_due[aw_out % QUEUE] = due;
                    b_resp[aw_out % QUEUE] = burst_resp;
                    burst_resp = OKAY;
                    aw_out = aw_out + 1;
                    write_beat = 0;
                end else write_beat = write_beat + 1;
                if (bandwidth != 0) write_credit = write_credit - BYTES;
                write_beats <= write_beats + 1;
            end
            if (bvalid && bready) answer_busy = 0;
            if (!answer_busy && aw_out != b_out && b_due[b_out % QUEUE] <= now && !(stalling && random[9:8] == 0)) begin
                bresp <= b_resp[b_out % QUEUE];
                b_out = b_out + 1;
                answer_busy = 1;
            end
            bvalid <= answer_busy;
            awready <= aw_in - b_out < QUEUE && !(stalling && (random[13:12] == 0 || stall_seed[1] && !awvalid));
            wready <= aw_in != aw_out && (bandwidth == 0 || filled(write_credit) >= BYTES)
                      && !(stalling && (random[17:16] == 0 || stall_seed[1] && !wvalid));
        end
    end

    reg [DATA_BITS-1:0] word;
    reg [7:0] fill;
    string image_name, dump_prefix;
    integer file, dumped = 0;
    reg dump_last = 0;

    initial begin
        if (!$value$plusargs("fill=%h", fill)) fill = 0;
        for (integer i = 0; i < MEM_WORDS; i = i + 1) mem[i] = {BYTES{fill}};
        if ($value$plusargs("image=%s", image_name)) begin
            file = $fopen(image_name, "rb");
            if (file == 0) $fatal(1, "memory: cannot read %s", image_name);
            for (integer i = 0; i < MEM_WORDS && $fread(word, file) == BYTES; i = i + 1) mem[i] = {<<8{word}};
            $fclose(file);
        end
        if (!$value$plusargs("dump=%s", dump_prefix)) dump_prefix = "dump";
    end

    // Words [dump_lo, dump_hi) go to a file when dump changes.
    always @(posedge aclk) begin
        if (dump != dump_last) begin
            file = $fopen($sformatf("%s_%0d.bin", dump_prefix, dumped), "wb");
            if (file == 0) $fatal(1, "memory: cannot write %s_%0d.bin", dump_prefix, dumped);
            for (reg [63:0] i = dump_lo; i < dump_hi; i = i + 1) $fwrite(file, "%u", mem[i]);
            $fclose(file);
            dumped = dumped + 1;
        end
        dump_last <= dump;
    end
endmodule


// AXI4 rules that the accelerator must keep on its memory port, AXI4-Lite rules on its register port.
//
// Each breach counts in `violations`, which never clears; the first PRINTED print a line that begins with
// "AXI violation:".
module harness_protocol #(
    parameter DATA_BITS = 512,
    parameter ADDRESS_BITS = 40,
    parameter OUTSTANDING = 32,
    parameter BURST_BEATS = 64,
    parameter PRINTED = 100,
    parameter QUEUE = 512
) (
    input aclk,
    input aresetn,
    input irq,
    input [63:0] cycle,
    output reg [31:0] violations,
    input [ADDRESS_BITS-1:0] araddr,
    input [7:0] arlen,
    input [2:0] arsize,
    input [1:0] arburst,
    input arvalid,
    input arready,
    input [1:0] rresp,
    input rlast,
    input rvalid,
    input rready,
    input [ADDRESS_BITS-1:0] awaddr,
    input [7:0] awlen,
    input [2:0] awsize,
    input [1:0] awburst,
    input awvalid,
    input awready,
    input [DATA_BITS-1:0] wdata,
    input [DATA_BITS/8-1:0] wstrb,
    input wlast,
    input wvalid,
    input wready,
    input [1:0] bresp,
    input bvalid,
    input bready,
    input ctrl_aw,
    input ctrl_w,
    input [1:0] ctrl_b,
    input ctrl_bvalid,
    input ctrl_bready,
    input ctrl_ar,
    input [33:0] ctrl_r,
    input ctrl_rvalid,
    input ctrl_rready
);
    localparam BYTES = DATA_BITS / 8;
    localparam [2:0] SIZE = $clog2(BYTES);

    reg ar_held, r_held, aw_held, w_held, b_held, ctrl_b_held, ctrl_r_held, irq_last, reset_last;
    reg [ADDRESS_BITS+12:0] ar_payload, aw_payload;
    reg [DATA_BITS+BYTES:0] w_payload;
    reg [33:0] ctrl_r_payload;
    reg [1:0] ctrl_b_payload;
    reg [31:0] reads, aw_in, w_out, b_out, ctrl_aw_open, ctrl_w_open, ctrl_ar_open;
    reg [7:0] aw_length [0:QUEUE-1], beat;

    initial violations = 0;

    task automatic breach(input string text);
        begin
            if (violations < PRINTED) $display("AXI violation: %s (cycle %0d)", text, cycle);
            violations = violations + 1;
        end
    endtask

    task automatic check_burst(input string name, input [ADDRESS_BITS-1:0] address, input [7:0] length,
                               input [2:0] size, input [1:0] burst);
        begin
            if (size != SIZE) breach({name, "size is not the full width"});
            if (burst != 1) breach({name, "burst is not INCR"});
            if (address % BYTES != 0) breach({name, "addr is not aligned to a beat"});
            if ({24'd0, length} >= BURST_BEATS) breach({name, "len is above the parameter burst_beats"});
            if (({20'd0, address[11:0]} & ~(BYTES - 1)) + ({24'd0, length} + 1) * BYTES > 4096)
                breach({name, " burst crosses a 4 KB boundary"});
        end
    endtask

    always @(posedge aclk) begin
        reset_last <= aresetn;
        if (!aresetn) begin
            {ar_held, r_held, aw_held, w_held, b_held, ctrl_b_held, ctrl_r_held, irq_last} = '0;
            {reads, aw_in, w_out, b_out, ctrl_aw_open, ctrl_w_open, ctrl_ar_open, beat} = '0;
        end else begin
            if (!reset_last && (arvalid || awvalid || wvalid)) breach("valid is high in the first cycle after reset");

            if (ar_held && !arvalid) breach("arvalid dropped before arready");
            else if (ar_held && ar_payload != {araddr, arlen, arsize, arburst}) breach("ar payload changed before arready");
            if (aw_held && !awvalid) breach("awvalid dropped before awready");
            else if (aw_held && aw_payload != {awaddr, awlen, awsize, awburst}) breach("aw payload changed before awready");
            if (w_held && !wvalid) breach("wvalid dropped before wready");
            else if (w_held && w_payload != {wdata, wstrb, wlast}) breach("w payload changed before wready");
            if (ctrl_b_held && !ctrl_bvalid) breach("s_axi_ctrl_bvalid dropped before bready");
            else if (ctrl_b_held && ctrl_b_payload != ctrl_b) breach("s_axi_ctrl b payload changed before bready");
            if (ctrl_r_held && !ctrl_rvalid) breach("s_axi_ctrl_rvalid dropped before rready");
            else if (ctrl_r_held && ctrl_r_payload != ctrl_r) breach("s_axi_ctrl r payload changed before rready");
            if (r_held && !rvalid) breach("rvalid dropped before rready");
            if (b_held && !bvalid) breach("bvalid dropped before bready");

            if (rvalid && reads == 0) breach("read data without a request");
            if (bvalid && b_out == w_out) breach("write response without a request");
            if (ctrl_bvalid && (ctrl_aw_open == 0 || ctrl_w_open == 0)) breach("s_axi_ctrl write response without a request");
            if (ctrl_rvalid && ctrl_ar_open == 0) breach("s_axi_ctrl read data without a request");

            if (wvalid && wready) begin
                if (aw_in == w_out) breach("write data without an address");
                else begin
                    if (wlast != (beat == aw_length[w_out % QUEUE])) breach("wlast is not on the last beat");
                    if (beat == aw_length[w_out % QUEUE]) begin
                        w_out = w_out + 1;
                        beat = 0;
                    end else beat = beat + 1;
                end
            end
            if (arvalid && arready) begin
                check_burst("ar", araddr, arlen, arsize, arburst);
                reads = reads + 1;
                if (reads > OUTSTANDING) breach("more outstanding reads than the parameter outstanding");
            end
            if (awvalid && awready) begin
                check_burst("aw", awaddr, awlen, awsize, awburst);
                aw_length[aw_in % QUEUE] = awlen;
                aw_in = aw_in + 1;
            end
            if (rvalid && rready && rlast) reads = reads - 1;
            if (bvalid && bready) b_out = b_out + 1;
            if (ctrl_bvalid && ctrl_bready) {ctrl_aw_open, ctrl_w_open} = {ctrl_aw_open - 1, ctrl_w_open - 1};
            if (ctrl_rvalid && ctrl_rready) ctrl_ar_open = ctrl_ar_open - 1;
            if (ctrl_aw) ctrl_aw_open = ctrl_aw_open + 1;
            if (ctrl_w) ctrl_w_open = ctrl_w_open + 1;
            if (ctrl_ar) ctrl_ar_open = ctrl_ar_open + 1;

            if (irq && !irq_last && (arvalid || reads != 0)) breach("irq rose with a read outstanding");
            if (irq && !irq_last && (awvalid || wvalid || aw_in != b_out)) breach("irq rose with a write outstanding");
            irq_last = irq;
            ar_held = arvalid && !arready;
            r_held = rvalid && !rready;
            aw_held = awvalid && !awready;
            w_held = wvalid && !wready;
            b_held = bvalid && !bready;
            ctrl_b_held = ctrl_bvalid && !ctrl_bready;
            ctrl_r_held = ctrl_rvalid && !ctrl_rready;
            if (ar_held) ar_payload = {araddr, arlen, arsize, arburst};
            if (aw_held) aw_payload = {awaddr, awlen, awsize, awburst};
            if (w_held) w_payload = {wdata, wstrb, wlast};
            if (ctrl_b_held) ctrl_b_payload = ctrl_b;
            if (ctrl_r_held) ctrl_r_payload = ctrl_r;
        end
    end
endmodule
