// The core of tiles with a monitor of its neurons, whose records go to neurons.bin in the working folder.

module harness (
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
    input [31:0] s_axis_tdata,
    input s_axis_tlast,
    input s_axis_tvalid,
    output s_axis_tready,
    output [31:0] m_axis_tdata,
    output m_axis_tlast,
    output m_axis_tvalid,
    input m_axis_tready
);
    spikeloom_imc dut (.*);

    integer words, runs = 0;
    reg [31:0] cycle = 0;

    initial words = $fopen("neurons.bin", "wb");

    // One record of 32-bit words, lowest first: run, cycle, key, step, channel, spike.
    always @(posedge aclk) begin
        cycle <= cycle + 1;
        if (dut.core.start) runs <= runs + 1;
        if (dut.core.post.steps)
            $fwrite(words, "%u", {31'd0, dut.core.post.spikes, 32'(dut.core.post.stepped), 32'(dut.core.post.stepped_step),
                                   32'(dut.core.post.stepped_key), cycle, runs});
    end
    final $fclose(words);
endmodule
