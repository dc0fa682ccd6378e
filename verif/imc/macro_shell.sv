// The analog macro behind the periphery of a tile, as the simulated design sees it: C++ samples and compares.
//
// `IMC_MACRO is the module's name; `IMC_FLASH is defined where the build has a thermometer. The ports are those of
// hdl.imc.tile.macro_members. Comparators answer in the cycle after cmp_en; between answers cmp holds their opposite.

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
    output reg cmp_rdy
);
    localparam THERM = FLASH_BITS > 0 ? (1 << FLASH_BITS) - 1 : 1;

    import "DPI-C" function void imc_open(input int tile, input int rows, input int cols, input int mux, input int adcs,
        input int adc_bits, input int flash_bits, input int trim_bits);
    import "DPI-C" function void imc_sample(input int tile, input longint cycle, input int crossbar, input int key,
        input int phase_bit, input int phase_group, input bit ref_on, input int ref_level, input bit [ROWS-1:0] lines);
    import "DPI-C" function bit imc_compare(input int tile, input longint cycle, input int column,
        input bit [ADCS*TRIM_BITS-1:0] trims, input bit [ADCS*ADC_BITS-1:0] codes,
        output bit [ADCS-1:0] answers, output bit [ADCS*THERM-1:0] thermometers);
    import "DPI-C" function void imc_broken(input int tile, input longint cycle, input string rule);

    longint cycle = 0;
    reg precharged = 0, driven = 0, held = 0, works = 0;
    reg [ROWS-1:0] lines;
    reg [ADCS*ADC_BITS-1:0] codes;
    reg [$clog2(MUX < 2 ? 2 : MUX)-1:0] column;

    initial imc_open(TILE, ROWS, COLS, MUX, ADCS, ADC_BITS, FLASH_BITS, TRIM_BITS);

    always @(posedge clk) begin
        automatic bit by_flash;
        automatic bit [ADCS-1:0] answers;
        automatic bit [ADCS*THERM-1:0] thermometers;
        cycle <= cycle + 1;
        precharged <= (precharged | pre) & ~sample;
        held <= (held | sample) & ~pre;
        driven <= wl_go;
        lines <= wl_en;
        works <= cmp_en;
        cmp_rdy <= 0;
        if (cmp_rdy) cmp <= ~cmp;
        if (wl_go & ~driven & ~precharged) imc_broken(TILE, cycle, "rows are driven without a precharge");
        if (wl_go & pre) imc_broken(TILE, cycle, "rows are driven in a precharge");
        if (wl_go & driven & (wl_en != lines)) imc_broken(TILE, cycle, "rows change while they are driven");
        if (~wl_go & (|wl_en)) imc_broken(TILE, cycle, "rows are high while none is driven");
        if (sample & ~wl_go) imc_broken(TILE, cycle, "columns are sampled while no row is driven");
        if (sample & works) imc_broken(TILE, cycle, "columns are sampled while comparators work");
        if (cmp_en & works) imc_broken(TILE, cycle, "comparators start while they work");
        if (works & ((cdac != codes) | (col_sel != column)))
            imc_broken(TILE, cycle, "a code changes while comparators work");
        if (cmp_en & ~held) imc_broken(TILE, cycle, "comparators start without a sample");
        if (sample)
            imc_sample(TILE, cycle, 32'(crossbar), 32'(key), 32'(phase_bit), 32'(phase_group), ref_on, 32'(ref_level),
                       wl_en);
        if (cmp_en) begin
            codes <= cdac;
            column <= col_sel;
            by_flash = imc_compare(TILE, cycle, 32'(col_sel), trim, cdac, answers, thermometers);
            cmp_rdy <= ~by_flash;
            if (~by_flash) cmp <= answers;
`ifdef IMC_FLASH
            if (by_flash) therm <= thermometers;
`endif
        end
    end
endmodule
