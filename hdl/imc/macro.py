"""The analog macro of a tile as generated Verilog sees it: a black box with the timing of its ports."""

from typing import Any

from amaranth.hdl import ClockSignal, Instance, Shape
from amaranth.lib.wiring import In, Member, Out

from golden.imc.arch import ImcArch
from hdl.block import Emitter
from hdl.imc.cell_access import CellAccess
from hdl.imc.tile import compute_members

MEANINGS = {
    "clk": "all ports change and are sampled at its rising edge",
    "mode": "0 idle, 1 compute, 2 verify, 3 program; between two others at least a cycle of idle",
    "crossbar": "which crossbar is in use; stands while a vector is on its way, and in modes verify and program",
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
    "pg_row": "row of pulses and of comparisons of cells",
    "pg_mask": "columns of the row whose cells are pulsed, 0 outside of mode program",
    "pg_op": "1 sets, 2 resets, 0 outside of mode program",
    "pg_vwl": "code of the word line",
    "pg_vbl": "code of the bit lines",
    "pg_go": "the pulse, t_pre cycles behind the mode and t_cool cycles ahead of its end; all of pg stands meanwhile",
    "vf_ref": "reference of a comparison of cells, 64 of them span the levels",
    "vf_go": "begin a comparison, for a cycle, t_verify cycles behind the mode",
    "vf_sa": "1 where a cell of the row conducts at least the reference, in the cycle of vf_rdy",
    "vf_rdy": "the comparison that was begun is over, at least a cycle after vf_go",
}


def macro_members(p: ImcArch) -> dict[str, Member]:
    """Return the periphery's side of the macro's contract (imc 10): mode, computing, programming.

    mode : a `golden.imc.arch.Mode`
    pg_*, vf_* : of `hdl.imc.cell_access.CellAccess`
    others : of `hdl.imc.tile.compute_members`
    """
    driven = CellAccess.driven(p)
    mode = driven.pop("mode_req")
    return {"mode": Out(mode), **compute_members(p), **{name: Out(shape) for name, shape in driven.items()},
            "vf_sa": In(p.cols), "vf_rdy": In(1)}


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


def instance(p: ImcArch, tile: Any, number: int = 0) -> Instance:
    """Return the macro of a tile, a block with the ports of `macro_members`: a black box, which simulations replace."""
    ports: dict[str, Any] = {"i_clk": ClockSignal()}
    for name, member in macro_members(p).items():
        ports[f"{'i' if member.flow is Out else 'o'}_{name}"] = getattr(tile, name)
    return Instance(Emitter.current.box("imc_macro", lambda name: black_box(p, name)), p_TILE=number, **ports,
                    **{f"p_{name}": size for name, size in parameters(p).items()})
