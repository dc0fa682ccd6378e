"""Energy and on-chip traffic of a run: what its counters saw, times one energy per event. Everything is in picojoules.

LoAS (MICRO 2024) gives power in Table IV and constants in its authors' simulator. Their formula adds pJ per operation, nJ of
leakage, and nJ per 32-byte access taken as a number per byte; here each figure is turned into pJ per event once:

- logic: dynamic mW of the unit library (neurons: of Table IV) times the 2.5 ns at which it was characterised;
- cache: CACTI's nJ per 32-byte access (256 KB, 16 banks, 32 nm) divided by 32;
- memory: HBM2 per bit; the authors' 2.9 per byte has no unit and is not used;
- leakage: mW times the 1.25 ns of an 800 MHz cycle.

They are figures of the paper's machine in 32 nm, not of a synthesised netlist of this one. The loom's queues and row slots are
counted at the price of the paper's cache, a bank of which is larger than they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from golden.arch import Arch

BYTE = 8
# Bits of a TPPE's accumulators: the pseudo sum of every match, and the corrections of four steps (LoAS, Fig. 10).
PSEUDO_BITS, CORRECTION_BITS = 12, 4 * 10


@dataclass(frozen=True)
class Cost:
    """Energy of one event.

    unit : what is counted
    """

    name: str
    picojoules: float
    unit: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a layer of one pass holds, beside the counters of its run.

    neurons : output words
    rows, row_chunks, row_words : rows, chunks of one of them, words of all of them that are not silent
    weights : that are not zero
    row_tiles : times that the columns are read
    spikes : of the words of all matches
    pixel_chunks : loom: chunks of the pixels of all tiles
    teams : loom: teams of lanes, each of which holds all rows
    word_bits : bits of a spike word
    """

    neurons: int
    rows: int
    row_chunks: int
    row_words: int
    weights: int
    row_tiles: int
    spikes: int
    pixel_chunks: int
    teams: int
    word_bits: int


@dataclass(frozen=True, kw_only=True)
class Events:
    """What happened in a run.

    accumulator_bits : bits of accumulators that something was added to
    prefixes : chunks whose words were counted when they were stored
    onchip_read, onchip_written : bytes read from and written into on-chip stores
    """

    cycles: int
    matches: int
    accumulator_bits: int
    prefixes: int
    neurons: int
    onchip_read: int
    onchip_written: int
    bytes_read: int
    bytes_written: int
    lanes: int

    @property
    def bytes_offchip(self) -> int:
        """Bytes on the memory port, both directions."""
        return self.bytes_read + self.bytes_written

    @property
    def bytes_onchip(self) -> int:
        """Bytes written into and read from on-chip stores."""
        return self.onchip_written + self.onchip_read


def events(counters: Mapping[str, int], work: Work, arch: Arch) -> Events:
    """Return the events of a layer's run.

    counters : of the accelerator, `golden.formats.STATS`

    *Lockstep*: what is read from memory is stored once. Per chunk of a column its mask is read once, for all lanes, and the
    mask of every lane's row; each broadcast weight once; a word per match. A match adds to the pseudo sum, and one whose word
    is not all ones to the corrections, all four of them: an upper bound, since steps that spike are not corrected.

    *Loom*: what is read from memory is stored and read once more, into the rows of every team, and into the queue of
    every lane of the team that a column goes to. A lane reads a chunk's mask and those of its row slots; a weight and a word
    per match. A match adds to the sum of every step in which its word has a spike.
    """
    chunk, weight = arch.chunk_bits // BYTE, arch.weight_bits
    values = work.weights * work.row_tiles * weight // BYTE
    words = _bytes(counters["matches"] * work.word_bits)
    if arch.loom:
        share = arch.lanes // work.teams
        rows = work.teams * (work.rows * work.row_chunks * chunk + _bytes(work.row_words * work.word_bits))
        written = counters["bytes_read"] + rows + share * (counters["chunks"] * chunk + values)
        read = (counters["bytes_read"] + share * counters["chunks"] * chunk * (1 + arch.rows)
                + _bytes(counters["matches"] * weight) + words)
        added, prefixes = work.spikes * arch.acc_bits, work.pixel_chunks
    else:
        written = counters["bytes_read"]
        read = counters["chunks"] * chunk * (1 + arch.lanes) + values + words
        added = counters["matches"] * PSEUDO_BITS + counters["corrections"] * CORRECTION_BITS
        prefixes = work.rows * work.row_chunks
    return Events(
        cycles=counters["cycles"], matches=counters["matches"], accumulator_bits=added, prefixes=prefixes,
        neurons=work.neurons, onchip_read=read, onchip_written=written, bytes_read=counters["bytes_read"],
        bytes_written=counters["bytes_written"], lanes=arch.lanes)


def _bytes(bits: int) -> int:
    return -(-bits // BYTE)


LIBRARY = "LoAS authors' 32 nm unit library, dynamic mW x 2.5 ns"
CACTI = "LoAS authors' CACTI log, 256 KB in 16 banks, 32 nm"
COSTS = {cost.name: cost for cost in (
    Cost("match", (2.3214 - 0.2698 - 0.1264) * 2.5, "match", f"{LIBRARY}: a TPPE's 2.3214 mW less laggy prefix sum and "
         "accumulators"),
    Cost("accumulator", 0.1264 * 2.5 / 52, "bit of accumulator that is added to", f"{LIBRARY}: 52 bits of accumulator are "
         "0.1264 mW"),
    Cost("prefix", 0.2698 * 2.5 * 8, "chunk of a row or pixel, when it is stored", f"{LIBRARY}: laggy prefix sum, 16 adders of "
         "3 bits and 128 bits of register (0.2698 mW) for 8 cycles"),
    Cost("neuron", 1.2 * 2.5 / 16, "output word", "LoAS Table IV: 16 P-LIF units 1.2 mW x 2.5 ns / 16"),
    Cost("sram_read", 64.8 / 32, "byte read on chip", f"{CACTI}: 0.0648 nJ per 32-byte read"),
    Cost("sram_write", 71.2 / 32, "byte written on chip", f"{CACTI}: 0.0712 nJ per 32-byte write"),
    Cost("dram", 3.92 * BYTE, "byte on the memory port", "O'Connor et al., Fine-Grained DRAM, MICRO 2017: HBM2 3.92 pJ/bit"),
    Cost("cache_leakage", 124.48 * 1.25, "cycle", f"{CACTI}: 124.48 mW x 1.25 ns"),
    Cost("lane_leakage", 0.4952 * 1.25, "cycle and lane", "LoAS authors' 32 nm unit library: 0.4952 mW per TPPE x 1.25 ns"),
)}


def energy(events: Events) -> dict[str, float]:
    """Return pJ by the names of `COSTS`."""
    counts = {
        "match": events.matches, "accumulator": events.accumulator_bits, "prefix": events.prefixes,
        "neuron": events.neurons, "sram_read": events.onchip_read, "sram_write": events.onchip_written,
        "dram": events.bytes_offchip, "cache_leakage": events.cycles, "lane_leakage": events.cycles * events.lanes,
    }
    return {name: count * COSTS[name].picojoules for name, count in counts.items()}
