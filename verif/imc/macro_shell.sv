// The analog macro behind the periphery of a tile, as the simulated design sees it: C++ samples and compares.
//
// `IMC_MACRO is the module's name; `IMC_FLASH is defined where the build has a thermometer. The ports are those of
// hdl.imc.macro.macro_members; hdl.imc.macro_checks is bound to them and tells what breaks their rules. Comparators answer in the cycle after cmp_en; between answers cmp holds their opposite. So do
// those of cells, which a pulse or a comparison that golden's job has not leaves without an answer.

import "DPI-C" function void imc_broken(input int tile, input longint cycle, input string rule);

module `IMC_MACRO #(
    parameter TILE = 0,
    parameter ROWS = 64,
    parameter COLS = 64,
    parameter MUX = 8,
    parameter ADCS = 8,
    parameter ADC_BITS = 8,
    parameter FLASH_BITS = 0,
    parameter TRIM_BITS = 5,
    parameter INPUT_BITS = 8,
    parameter CROSSBARS = 16
) (
    input clk,
    input [1:0] mode,
    input [$clog2(CROSSBARS < 2 ? 2 : CROSSBARS)-1:0] crossbar,
    input [23:0] key,
    input [$clog2(INPUT_BITS < 2 ? 2 : INPUT_BITS)-1:0] phase_bit,
    input [$clog2(ROWS)-1:0] phase_group,
    input [ROWS-1:0] wl_en,
    input wl_go,
    input pre,
    input sample,
    input ref_on,
    input [ADC_BITS:0] ref_level,
    input [ADCS*TRIM_BITS-1:0] trim,
    input [$clog2(MUX < 2 ? 2 : MUX)-1:0] col_sel,
    input cmp_en,
    input [ADCS*ADC_BITS-1:0] cdac,
`ifdef IMC_FLASH
    output reg [ADCS*((1<<FLASH_BITS)-1)-1:0] therm,
`endif
    output reg [ADCS-1:0] cmp,
    output reg cmp_rdy,
    input [$clog2(ROWS)-1:0] pg_row,
    input [COLS-1:0] pg_mask,
    input [1:0] pg_op,
    input [7:0] pg_vwl,
    input [4:0] pg_vbl,
    input pg_go,
    input [5:0] vf_ref,
    input vf_go,
    output reg [COLS-1:0] vf_sa,
    output reg vf_rdy
);
    localparam THERM = FLASH_BITS > 0 ? (1 << FLASH_BITS) - 1 : 1;

    import "DPI-C" function void imc_open(input int tile, input int rows, input int cols, input int mux, input int adcs,
        input int adc_bits, input int flash_bits, input int trim_bits);
    import "DPI-C" function void imc_sample(input int tile, input longint cycle, input int crossbar, input int key,
        input int phase_bit, input int phase_group, input bit ref_on, input int ref_level, input bit [ROWS-1:0] lines);
    import "DPI-C" function bit imc_compare(input int tile, input longint cycle, input int column,
        input bit [ADCS*TRIM_BITS-1:0] trims, input bit [ADCS*ADC_BITS-1:0] codes,
        output bit [ADCS-1:0] answers, output bit [ADCS*THERM-1:0] thermometers);
    import "DPI-C" function bit imc_verify(input int tile, input longint cycle, input int crossbar, input int row,
        input int bound, input int cols, output bit [COLS-1:0] answers);
    import "DPI-C" function void imc_pulse(input int tile, input longint cycle, input int crossbar, input int row,
        input int cols, input bit [COLS-1:0] mask, input bit resets, input int width, input int word, input int bits);

    longint cycle = 0;
    reg [$clog2(CROSSBARS < 2 ? 2 : CROSSBARS)-1:0] crossbar_before;
    reg pulsing = 0;
    int width;
    wire [$clog2(ROWS)+COLS+14:0] pulse = {pg_row, pg_mask, pg_op, pg_vwl, pg_vbl};
    reg [$clog2(ROWS)+COLS+14:0] pulse_before;

    initial imc_open(TILE, ROWS, COLS, MUX, ADCS, ADC_BITS, FLASH_BITS, TRIM_BITS);

    always @(posedge clk) begin
        automatic bit by_flash;
        automatic bit [ADCS-1:0] answers;
        automatic bit [ADCS*THERM-1:0] thermometers;
        cycle <= cycle + 1;
        cmp_rdy <= 0;
        if (cmp_rdy) cmp <= ~cmp;
        if (sample)
            imc_sample(TILE, cycle, 32'(crossbar), 32'(key), 32'(phase_bit), 32'(phase_group), ref_on, 32'(ref_level),
                       wl_en);
        if (cmp_en) begin
            by_flash = imc_compare(TILE, cycle, 32'(col_sel), trim, cdac, answers, thermometers);
            cmp_rdy <= ~by_flash;
            if (~by_flash) cmp <= answers;
`ifdef IMC_FLASH
            if (by_flash) therm <= thermometers;
`endif
        end
        crossbar_before <= crossbar;
        pulse_before <= pulse;
        pulsing <= pg_go;
        width <= pg_go & pulsing ? width + 1 : 1;
        vf_rdy <= 0;
        if (vf_rdy) vf_sa <= ~vf_sa;
        if (~pg_go & pulsing)
            imc_pulse(TILE, cycle, 32'(crossbar_before), 32'(pulse_before[$clog2(ROWS)+COLS+14:COLS+15]), COLS,
                      pulse_before[COLS+14:15], pulse_before[14], width, 32'(pulse_before[12:5]), 32'(pulse_before[4:0]));
        if (vf_go) begin
            automatic bit [COLS-1:0] reached;
            vf_rdy <= imc_verify(TILE, cycle, 32'(crossbar), 32'(pg_row), 32'(vf_ref), COLS, reached);
            vf_sa <= reached;
        end
    end
endmodule
