"""Energy, delay and area of a core of tiles, from what SpikeSim charges. Energies are in picojoules, areas in um^2.

SpikeSim (arXiv:2210.12899, its hardware evaluation at commit c2627bc; imc 2.1) charges whole PE cycles. One of them reads 9
words of 64 spikes, one for each tap of a 3x3 kernel, and gives 64 sums. Here each event has its own price:

- *least*: what SpikeSim charges for a PE cycle, shared among the spikes that it reads or the sums that it gives;
- *most*: the whole of a charge for each event, where SpikeSim does not say what one is for.

Its formulas do not agree with each other (imc 2.3). Of what matters here: its PE energy is multiplied by the 8 columns of an
ADC although it holds 8 ADCs (point 10). That is right for conversions, 64 for 64 columns; crossbars it counts 8 times, as if
word lines were driven anew for each column. Tiles here sample all columns at once, so a phase is one reading (least), or 8
(most). Its energy counts out_dim^2 PE cycles a layer and step, its latency Cout times as many (point 9); delay here is neither,
it is the cycles of the RTL at SpikeSim's 250 MHz. Its membranes are those of the first five layers behind their pools
(point 10); here they are what the layers take.

They are figures of a simulator in 65 nm for RRAM, not of a netlist of this periphery.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from golden.imc.arch import ImcArch
from perf.spikesim import (
    ADC_AREA,
    ADC_BITS,
    BIT_AREA,
    CONVERSION,
    CROSSBAR,
    CROSSBAR_AREA,
    FETCH,
    HERTZ,
    MUX,
    MUX_AREA,
    NEURON,
    PES,
    SIDE,
    SOURCE,
    SUBTRACTOR,
    SUBTRACTOR_AREA,
    SWITCH,
    TAPS,
    TEMPORARY,
    TEMPORARY_AREA,
    TILE_BUFFER,
    TREE,
    TREE_AREA,
)

# Comparisons of a conversion of SpikeSim's flash.
FLASH = (1 << ADC_BITS) - 1


@dataclass(frozen=True)
class Cost:
    """Energy of one event of `perf.imc_events.EVENTS`.

    event : what it counts; ``bits``: those of the words that are read and written
    least, most : picojoules, as above
    other : what ``most`` counts, where that is another event
    """

    name: str
    event: str
    least: float
    most: float
    source: str
    other: str = ""


COSTS = {cost.name: cost for cost in (
    Cost("crossbar", "phases", CROSSBAR, CROSSBAR * MUX, f"{SOURCE}: {CROSSBAR} pJ a 64x64 RRAM crossbar, 8 times a PE cycle"),
    Cost("ADC", "comparisons", CONVERSION / FLASH, CONVERSION / ADC_BITS,
         f"{SOURCE}: {CONVERSION} pJ a conversion of 4 bits; as a flash it asks 15 comparators, as a SAR it finds 4 bits",
         other="code_bits"),
    Cost("mux", "conversions", SWITCH, SWITCH, f"{SOURCE}: {SWITCH} pJ a conversion"),
    Cost("tree", "outputs", TREE / SIDE, TREE / SIDE, f"{SOURCE}: H-tree 19.64 x 8 pJ a PE cycle, 64 sums"),
    Cost("sums", "outputs", TEMPORARY / SIDE + SUBTRACTOR, TEMPORARY + SUBTRACTOR,
         f"{SOURCE}: temporary buffer 0.2 x 8 pJ a PE cycle, subtractor {SUBTRACTOR} pJ"),
    Cost("maps", "bits", TILE_BUFFER / (TAPS * SIDE), TILE_BUFFER / (TAPS * SIDE),
         f"{SOURCE}: tile buffer {TILE_BUFFER:g} pJ a PE cycle, 576 spikes"),
    Cost("neuron", "steps", NEURON / SIDE, NEURON, f"{SOURCE}: 1.274 x 4 pJ a PE cycle, 64 sums or one"),
    Cost("membrane", "steps", FETCH / SIDE, FETCH, f"{SOURCE}: memory fetch {FETCH} pJ a PE cycle, 64 sums or one"),
)}
# What SpikeSim charges for a PE cycle of its VGG9, by the names of COSTS.
SPIKESIM_ENERGY = {
    "crossbar": TAPS * CROSSBAR * MUX, "ADC": SIDE * CONVERSION, "mux": SIDE * SWITCH, "tree": TREE,
    "sums": TEMPORARY + SUBTRACTOR, "maps": TILE_BUFFER, "neuron": NEURON, "membrane": FETCH}

AREAS = {
    "crossbar": f"{CROSSBAR_AREA} um^2 each, RRAM", "ADC": f"{ADC_AREA} um^2 each", "mux": f"{MUX_AREA} um^2 each",
    "tree": "216830 x 2 um^2 for each 8 tiles",
    "sums": f"subtractor {SUBTRACTOR_AREA} and temporary buffer {TEMPORARY_AREA} um^2 each tile",
    "maps": f"{BIT_AREA} um^2 a bit", "membrane": f"{BIT_AREA} um^2 a bit"}
# SpikeSim's VGG9 for CIFAR10: PEs and tiles; words of membrane behind the pools of its first five layers; bits of one, and of
# a neuron's place in the global buffer; all of its area, of which the global buffer is what nothing else takes.
SPIKESIM_PES, SPIKESIM_TILES, SPIKESIM_MEMBRANES, SPIKESIM_BITS, SPIKESIM_AREA = 48, 6, 139_264, 22, 8.43e6


def energy(events: Mapping[str, float], arch: ImcArch, *, most: bool = False) -> dict[str, float]:
    """Return pJ by the names of `COSTS`.

    events : by the names of `perf.imc_events.EVENTS`
    """
    counts = {**events, "bits": (events["read"] + events["words"]) * arch.rows}
    least = {name: counts[cost.event] * cost.least for name, cost in COSTS.items()}
    if not most:
        return least
    return {name: max(least[name], counts[cost.other or cost.event] * cost.most) for name, cost in COSTS.items()}


def delay(cycles: float) -> float:
    """Return seconds at SpikeSim's clock."""
    return cycles / HERTZ


def area(arch: ImcArch, *, crossbars: int, map_words: int, membranes: int) -> dict[str, float]:
    """Return um^2 by the names of `AREAS`.

    crossbars : of all tiles, each of which is a PE of SpikeSim with ``adcs`` ADCs
    map_words : of each activation memory; membranes : words of their memory
    """
    bits = {"maps": 2 * map_words * arch.rows, "membrane": membranes * arch.membrane_bits}
    return {
        "crossbar": crossbars * CROSSBAR_AREA, "ADC": arch.tiles * arch.adcs * ADC_AREA,
        "mux": arch.tiles * arch.adcs * MUX_AREA, "tree": -(-arch.tiles // PES) * TREE_AREA,
        "sums": arch.tiles * (SUBTRACTOR_AREA + TEMPORARY_AREA), **{name: count * BIT_AREA for name, count in bits.items()}}


def spikesim_area() -> dict[str, float]:
    """Return um^2 of SpikeSim's own VGG9 by the names of `AREAS`; its global and tile buffers are ``maps``."""
    known = {
        "crossbar": SPIKESIM_PES * TAPS * CROSSBAR_AREA, "ADC": SPIKESIM_PES * MUX * ADC_AREA,
        "mux": SPIKESIM_PES * MUX * MUX_AREA, "tree": SPIKESIM_TILES * TREE_AREA,
        "sums": SPIKESIM_TILES * (MUX * SUBTRACTOR_AREA + TEMPORARY_AREA),
        "membrane": SPIKESIM_MEMBRANES * SPIKESIM_BITS * BIT_AREA}
    return {**known, "maps": SPIKESIM_AREA - sum(known.values())}


def shares(parts: Mapping[str, float]) -> dict[str, float]:
    """Return each part's share of the sum."""
    whole = sum(parts.values())
    return {name: value / whole for name, value in parts.items()}
