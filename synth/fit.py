"""Whether an accelerator fits an ECP5: the whole of it in one netlist, counted as nextpnr packs it."""

import json
import tempfile
from pathlib import Path
from typing import Any

from golden.arch import Arch, ParameterError
from hdl.generate import modules, top_block
from synth.synthesise import remembered, run_yosys

SCRIPT = Path(__file__).parent / "ecp5.ys"
ECP5_25F = {"luts": 24_288, "ffs": 24_288, "multipliers": 28, "block_rams": 56}
CELLS = {"ffs": "TRELLIS_FF", "multipliers": "MULT18X18D", "block_rams": "DP16KD"}
# A carry cell is two LUTs; a RAM in LUTs is four, and two more for its write port.
LUTS = {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6}
# Chunk bits of all lanes up to which a whole design is one netlist in minutes: those of ``tiny``, twice.
LARGEST = 256
CHAIN_LUTS, TAP_LUTS, CONSTANT_LUTS = 4, 2, 2


def fit(arch: Arch, top: str = "ftp") -> dict[str, int]:
    """Return LUTs, flip-flops, multipliers and block RAMs of an accelerator after ``SCRIPT``, as `packed` counts them.

    Raises `ParameterError` for a build that is too large to be one netlist.
    """
    if arch.lanes * arch.chunk_bits > LARGEST:
        raise ParameterError(f"--flat: lanes x chunk_bits must be at most {LARGEST}, not {arch.lanes} x {arch.chunk_bits}; "
                             "legal: small builds; try: --preset tiny")
    texts, _, _ = modules(top_block(arch, top), "spikeloom")
    text = "\n".join(texts.values())
    made_from = [text, SCRIPT.read_text(), Path(__file__).read_text()]
    return remembered(made_from, lambda: packed(flat(text)))


def flat(text: str) -> dict[str, Any]:
    """Return the netlist that ``SCRIPT`` makes of Verilog text."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "design.v").write_text(text)
        (Path(folder) / SCRIPT.name).write_text(SCRIPT.read_text())
        done = run_yosys(folder, "-s", SCRIPT.name, "design.v")
        if done.returncode:
            raise RuntimeError(f"Yosys failed: {done.stderr[-2000:]}")
        netlist: dict[str, Any] = json.loads((Path(folder) / "ecp5.json").read_text())
        return netlist


def packed(netlist: dict[str, Any]) -> dict[str, int]:
    """Return what nextpnr-ecp5 needs for the top module of a netlist, which Yosys wrote as JSON.

    ``luts`` is its number of TRELLIS_COMB: beside the cells, LUTs that lead into a carry chain, that lead a carry out of
    the middle of one, and that drive 0 and 1. I/O buffers are left out.
    """
    (top,) = (module for module in netlist["modules"].values() if int(module["attributes"].get("top", "0"), 2))
    cells = top["cells"].values()
    kinds = [cell["type"] for cell in cells]
    carries = [cell["connections"] for cell in cells if cell["type"] == "CCU2C"]
    inner = {bit for ports in carries for bit in ports["COUT"]} & {bit for ports in carries for bit in ports["CIN"]}
    chains = sum(inner.isdisjoint(ports["CIN"]) for ports in carries)
    read = {bit for cell in cells for port, bits in cell["connections"].items()
            if cell["port_directions"][port] == "input" and (cell["type"], port) != ("CCU2C", "CIN") for bit in bits}
    return {"luts": sum(LUTS.get(kind, 0) for kind in kinds) + CHAIN_LUTS * chains + TAP_LUTS * len(inner & read)
            + CONSTANT_LUTS,
            **{name: kinds.count(kind) for name, kind in CELLS.items()}}


def fits(found: dict[str, int], device: dict[str, int]) -> bool:
    """Return whether a device has everything that a design needs."""
    return all(found[name] <= there for name, there in device.items())
