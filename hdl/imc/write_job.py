"""Jobs of write-verify programming, how they end, and the settings that they follow."""

from amaranth.lib import data

from golden.imc.arch import CONFIRM_BITS, ORDERS, PULSE_BITS, REFERENCE_BITS, Error, ImcArch
from hdl.imc.cell_access import TIMES
from hdl.imc.pulse_sweep import pulses_layout

COUNTS = ("set", "reset", "reads", "alternations", "set_bits", "reset_bits")
COUNT_BITS = 24
# Errors that a job ends with, by `golden.imc.arch.WriteError`.
OF_JOB = (Error.NONE, Error.CELLS, Error.SETTINGS, Error.SILENT)


def job_layout(p: ImcArch) -> data.StructLayout:
    """Return a job, `golden.imc.write_verify.Job`."""
    return data.StructLayout({"op": 3, "row": range(p.rows), "levels": data.ArrayLayout(p.cell_bits, p.cols), "mask": p.cols})


def outcome_layout(p: ImcArch) -> data.StructLayout:
    """Return how a job ended, `golden.imc.write_verify.Outcome`; ``fail``: mask of the columns that failed."""
    return data.StructLayout({"error": 2, "fail": p.cols, "levels": data.ArrayLayout(p.cell_bits, p.cols),
                              "counts": data.StructLayout(dict.fromkeys(COUNTS, COUNT_BITS))})


def fail_layout(p: ImcArch) -> data.StructLayout:
    """Return one cell that failed, and the entry of the settings that it was to follow."""
    return data.StructLayout({"row": range(p.rows), "column": range(p.cols), "entry": range((1 << p.cell_bits) + 2)})


def settings_layout(p: ImcArch) -> data.StructLayout:
    """Return the run-time settings, with the names of `golden.imc.write_verify.Settings`."""
    entry = data.StructLayout({"low": REFERENCE_BITS, "high": REFERENCE_BITS, "set": pulses_layout(), "reset": pulses_layout(),
                               "order": range(len(ORDERS))})
    return data.StructLayout({
        "entries": data.ArrayLayout(entry, (1 << p.cell_bits) + 2), "alternations": PULSE_BITS, "confirm_k": CONFIRM_BITS,
        "confirm_n": CONFIRM_BITS, "ignore_fail": 1, **TIMES})
