"""The analog macro of a tile as generated Verilog sees it: a black box with the timing of its ports."""

from amaranth.hdl import Shape
from amaranth.lib.wiring import Out

from golden.imc.arch import ImcArch
from hdl.imc.tile import macro_members

MEANINGS = {
    "clk": "all ports change and are sampled at its rising edge",
    "crossbar": "which crossbar is in use; stands while a vector is on its way",
    "key": "number of the vector, for models; may stay open",
    "phase_bit": "input bit of the phase, for models; may stay open",
    "phase_group": "row group of the phase, for models; may stay open",
    "wl_en": "rows that are driven, stable while wl_go",
    "wl_go": "rows are driven, for t_settle cycles",
    "pre": "precharge of the columns, for t_pre cycles ahead of wl_go",
    "sample": "capture all columns, in the last cycle of wl_go",
    "ref_on": "ADCs see a reference in place of their columns",
    "ref_level": "the reference, in half steps of an ADC",
    "trim": "codes of the comparators, the middle moves nothing",
    "col_sel": "column of every ADC, t_mux cycles ahead of the first cmp_en",
    "cmp_en": "begin a comparison, for a cycle",
    "cdac": "trial codes of successive approximation, t_dac cycles ahead of cmp_en and until cmp_rdy",
    "cmp": "1 where the column is at least the threshold of the trial code, in the cycle of cmp_rdy",
    "cmp_rdy": "the comparison that was begun is over, at least a cycle after cmp_en",
    "therm": "all thresholds of a flash converter, t_flash cycles after cmp_en",
}


def parameters(p: ImcArch) -> dict[str, int]:
    """Return the parameters that an instance gets, beside the number of its tile."""
    return {"ROWS": p.rows, "COLS": p.cols, "MUX": p.mux, "ADCS": p.adcs, "ADC_BITS": p.adc_bits, "FLASH_BITS": p.flash_bits,
            "TRIM_BITS": p.trim_bits, "INPUT_BITS": p.input_bits, "CROSSBARS": p.crossbars}


def black_box(p: ImcArch, name: str) -> str:
    """Return the module ``name`` with its ports and nothing in it."""
    widths = {"clk": (1, "input")} | {
        port: (Shape.cast(member.shape).width, "input" if member.flow is Out else "output")
        for port, member in macro_members(p).items()}
    head = ",\n".join(f"  parameter {parameter} = {value}" for parameter, value in {"TILE": 0, **parameters(p)}.items())
    lines = [f"  {way} {f'[{width - 1}:0] ' if width > 1 else ''}{port};  // {MEANINGS[port]}"
             for port, (width, way) in widths.items()]
    return "\n".join(["(* blackbox *)", f"module {name} #(", head, f") ({', '.join(widths)});", *lines, "endmodule", ""])
