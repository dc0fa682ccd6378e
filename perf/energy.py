"""Energy and on-chip traffic of a run: what its counters saw, times one energy per event. Everything is in picojoules.

LoAS (MICRO 2024) gives power in Table IV and constants in its authors' simulator. Their formula adds pJ per operation, nJ of
leakage, and nJ per 32-byte access taken as a number per byte; here each figure is turned into pJ per event once:

- logic: dynamic mW of the unit library times the 2.5 ns at which it was characterised;
- cache: CACTI's nJ per 32-byte access (256 KB, 16 banks, 32 nm) divided by 32;
- memory: HBM2 per bit; the authors' 2.9 per byte has no unit and is not used;
- leakage: mW times the 1.25 ns of an 800 MHz cycle.

They are figures of the paper's machine in 32 nm, not of a synthesised netlist of this one.
"""

from dataclasses import dataclass

BYTE = 8


@dataclass(frozen=True)
class Cost:
    """Energy of one event.

    unit : what is counted
    """

    name: str
    picojoules: float
    unit: str
    source: str


@dataclass(frozen=True)
class Events:
    """What happened in a run.

    cycles, matches, corrections, chunks, bytes_read, bytes_written : counters of the accelerator
    neurons : output words
    row_chunks : chunks of rows that went into a lane's store
    weights : non-zero weights that were broadcast, one byte each: those of the layer once per tile of rows
    chunk_bytes, lanes : of the build
    word_bits : bits of a spike word
    """

    cycles: int
    matches: int
    corrections: int
    chunks: int
    neurons: int
    row_chunks: int
    weights: int
    bytes_read: int
    bytes_written: int
    chunk_bytes: int
    lanes: int
    word_bits: int

    @property
    def bytes_offchip(self) -> int:
        """Bytes on the memory port, both directions."""
        return self.bytes_read + self.bytes_written

    @property
    def onchip_written(self) -> int:
        """Bytes written into on-chip stores: all that is read from memory is stored once."""
        return self.bytes_read

    @property
    def onchip_read(self) -> int:
        """Bytes read from on-chip stores.

        Per chunk of a column: its mask once, for all lanes, and the mask of every lane's row; each broadcast weight once;
        a spike word per match.
        """
        return (self.chunks * self.chunk_bytes * (1 + self.lanes) + self.weights
                + -(-self.matches * self.word_bits // BYTE))

    @property
    def bytes_onchip(self) -> int:
        """Bytes written into and read from on-chip stores."""
        return self.onchip_written + self.onchip_read


LIBRARY = "LoAS authors' 32 nm unit library, dynamic mW x 2.5 ns"
CACTI = "LoAS authors' CACTI log, 256 KB in 16 banks, 32 nm"
COSTS = {cost.name: cost for cost in (
    Cost("match", 4.82 + 0.07, "match", f"{LIBRARY}: a TPPE's 2.3214 mW less laggy prefix sum and accumulators, plus 12 bits "
         "of accumulator"),
    Cost("correction", 0.24, "match with a word that is not all ones", f"{LIBRARY}: 4 accumulators of 10 bits (52 bits of "
         "accumulator are 0.1264 mW); an upper bound, since steps that spike are not corrected"),
    Cost("prefix", 5.40, "chunk of a row, when a lane stores it", f"{LIBRARY}: laggy prefix sum, 16 adders of 3 bits "
         "and 128 bits of register (0.2698 mW) for 8 cycles"),
    Cost("neuron", 0.19, "output word", "LoAS Table IV: 16 P-LIF units 1.2 mW x 2.5 ns / 16"),
    Cost("sram_read", 64.8 / 32, "byte read on chip", f"{CACTI}: 0.0648 nJ per 32-byte read"),
    Cost("sram_write", 71.2 / 32, "byte written on chip", f"{CACTI}: 0.0712 nJ per 32-byte write"),
    Cost("dram", 3.92 * BYTE, "byte on the memory port", "O'Connor et al., Fine-Grained DRAM, MICRO 2017: HBM2 3.92 pJ/bit"),
    Cost("cache_leakage", 124.48 * 1.25, "cycle", f"{CACTI}: 124.48 mW x 1.25 ns"),
    Cost("lane_leakage", 0.4952 * 1.25, "cycle and lane", "LoAS authors' 32 nm unit library: 0.4952 mW per TPPE x 1.25 ns"),
)}


def energy(events: Events) -> dict[str, float]:
    """Return pJ by the names of `COSTS`."""
    counts = {
        "match": events.matches, "correction": events.corrections, "prefix": events.row_chunks,
        "neuron": events.neurons, "sram_read": events.onchip_read, "sram_write": events.onchip_written,
        "dram": events.bytes_offchip, "cache_leakage": events.cycles, "lane_leakage": events.cycles * events.lanes,
    }
    return {name: count * COSTS[name].picojoules for name, count in counts.items()}
