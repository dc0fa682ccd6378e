"""What crossbars and the units around them cost: cycles as the hardware documents them, energies and areas with their sources.

Cycles are those of `hdl.imc`: phases and conversions (docs/imc.md), write actions (`hdl.imc.cell_access`), rows of softmax and
norm (`hdl.imc.softmax`, `hdl.imc.norm`), rows that are loaded (`hdl.imc.cell_loader`). Energies and areas are other projects'
figures for 40 to 65 nm, of which none is a measurement of this hardware; leakage is not counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from golden.imc.arch import ImcArch
from golden.imc.write_verify import Pulse, Settings, Verify
from perf import spikesim
from perf.spikesim import SOURCE as SPIKESIM

HOROWITZ = "Horowitz, ISSCC 2014, 45 nm"
CLOCK_HZ = spikesim.HERTZ
CLOCK_SOURCE = f"{SPIKESIM}: 250 MHz"
# Digits of a root and of its quotient, and the cycles around them (`hdl.imc.norm`); digits of a softmax's quotient.
ROOT_BITS, NORM_CYCLES, QUOTIENT_BITS = 41, 12, 33
# Cycles from the last score to the first exponential, and from the last one to the sums (`hdl.imc.softmax`).
SOFTMAX_CYCLES = 5 + 36
# Cycles from the start of a tensor that is given again to its first value (`hdl.imc.reuse_buffer`).
REUSE_CYCLES = 6
# Cycles of a row of cells that is loaded, beside one for each of its bits (`hdl.imc.cell_loader`).
LOAD_CYCLES = 3
# Cycles from the last phase of a vector to its first output (docs/imc.md).
OUTPUT_CYCLES = 3


@dataclass(frozen=True)
class Constant:
    """Energy in pJ of an event, or area in um^2 of a part."""

    name: str
    value: float
    unit: str
    source: str


class Macros(Protocol):
    """Cycles that a macro needs: `hdl.imc.settings.Times`."""

    @property
    def t_pre(self) -> int:
        """Precharge."""

    @property
    def t_settle(self) -> int:
        """Rows driven until columns are sampled."""

    @property
    def t_guard(self) -> int:
        """Rest behind a phase."""

    @property
    def t_mux(self) -> int:
        """A column is selected."""

    @property
    def t_dac(self) -> int:
        """A trial code settles."""


ENERGY = {entry.name: entry for entry in (
    Constant("crossbar", 8 * spikesim.CROSSBAR, "pJ a phase",
             f"{SPIKESIM}: RRAM 64x64, {spikesim.CROSSBAR} pJ for each of 8 places of a mux; "
             f"taken for FeFET and SRAM too (its SRAM figure, {spikesim.SRAM_AREA}, is also its SRAM area)"),
    Constant("conversion_bit", spikesim.CONVERSION / spikesim.ADC_BITS, "pJ a bit of a conversion",
             f"{SPIKESIM}: {spikesim.CONVERSION} pJ a conversion of 4 bits; a "
             "successive approximation of b bits counts as b/4 of it"),
    Constant("mux", spikesim.SWITCH, "pJ a conversion", SPIKESIM),
    Constant("tile_buffer", spikesim.TILE_BUFFER, "pJ a phase", f"{SPIKESIM}, a PE cycle"),
    Constant("tree", spikesim.TREE, "pJ a phase", f"{SPIKESIM}: H-tree, a PE cycle"),
    Constant("write", 10 / 64, "pJ a cell pulsed", f"{HOROWITZ}: 10 pJ an access of 64 bits of an 8 KB SRAM"),
    Constant("verify", spikesim.CONVERSION / spikesim.ADC_BITS, "pJ a column compared",
             f"{SPIKESIM}: a comparison, as in a conversion"),
    Constant("product", 3.1 + 0.1, "pJ a product and its sum", f"{HOROWITZ}: 32-bit integers"),
    Constant("addition", 0.1, "pJ an addition", f"{HOROWITZ}: 32-bit integers"),
    Constant("byte", 10 / 8, "pJ a byte of a table or buffer", f"{HOROWITZ}: 10 pJ an access of 64 bits of an 8 KB SRAM"),
)}
AREA = {entry.name: entry for entry in (
    Constant("cells_static", spikesim.CROSSBAR_AREA, "um2 a crossbar of 64x64",
             f"{SPIKESIM}: RRAM, 4F^2 at 40 nm; taken for FeFET"),
    Constant("cells_sram", spikesim.SRAM_AREA, "um2 a crossbar of 64x64", f"{SPIKESIM}: SRAM"),
    Constant("adc", spikesim.ADC_AREA + spikesim.MUX_AREA, "um2 an ADC with its multiplexer", SPIKESIM),
    Constant("combine", spikesim.SUBTRACTOR_AREA, "um2 a periphery",
             f"{SPIKESIM}: subtractor of DIFF, one for 8 columns of a tile"),
    Constant("tile_buffer", spikesim.BIT_AREA * spikesim.TILE_BUFFER_BITS / 8, "um2 a periphery",
             f"{SPIKESIM}: tile buffer, an eighth"),
    Constant("tree", spikesim.TREE_AREA / 8, "um2 a periphery", f"{SPIKESIM}: H-tree of a tile, an eighth"),
    Constant("bit", spikesim.BIT_AREA, "um2 a bit of a table or buffer", f"{SPIKESIM}: SRAM"),
    Constant("multiplier", 3495.0, "um2 a multiplier of 32 bits", HOROWITZ),
    Constant("adder", 137.0, "um2 an adder of 32 bits", HOROWITZ),
)}


def conversion_cycles(bits: int, times: Macros) -> int:
    """Return the cycles of a successive approximation whose comparators answer in the next cycle."""
    return bits * (max(1, times.t_dac) + 2)


def phase_cycles(p: ImcArch, adc_bits: int, times: Macros) -> int:
    """Return the cycles of a phase: all columns of its macro converted once."""
    pre, settle, guard, mux = (max(1, cycles) for cycles in (times.t_pre, times.t_settle, times.t_guard, times.t_mux))
    return 2 + pre + settle + p.mux * (mux + conversion_cycles(adc_bits, times) + 1) + guard


def action_cycles(action: Verify | Pulse, p: Settings) -> int:
    """Return the cycles of an action of write-verify whose grants and answers do not wait (`hdl.imc.cell_access`)."""
    guard, verify, pre, cool = (max(1, cycles) for cycles in (p.t_guard, p.t_verify, p.t_pre, p.t_cool))
    return 3 + verify if isinstance(action, Verify) else 1 + guard + pre + action.width + cool + guard


def norm_cycles(values: int) -> int:
    """Return the cycles of a row: it is read, a root and a quotient are made, it is given."""
    return 2 * values + 2 * ROOT_BITS + NORM_CYCLES


def softmax_cycles(values: int) -> int:
    """Return the cycles of a row: it is read, exponentials are given, their sum is divided."""
    return 2 * values + SOFTMAX_CYCLES


def priced(counts: Mapping[str, float], prices: Mapping[str, Constant]) -> dict[str, float]:
    """Return counts times what one of each costs, by the names of the prices."""
    return {name: counts[name] * entry.value for name, entry in prices.items() if name in counts}
