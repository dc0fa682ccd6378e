"""Hardware parameters: frozen, validated where they are born, shared by golden and hdl.

Imports neither torch nor amaranth.
"""

import dataclasses
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt, log
from pathlib import Path
from typing import Any, TypeVar

from golden.formats import CURRENT_BYTES

CHUNK_BITS = (16, 32, 64, 128, 256)
LANES = (1, 2, 4, 8, 16, 32)
WEIGHT_BITS = (4, 8)
DATA_BITS = (64, 128, 256, 512)
LEAKS = ("2^-k", "1-2^-k")
DATAFLOWS = ("lockstep", "loom")
ATTENTION_FIELDS = ("attention", "attention_columns", "attention_bits", "attention_rows")
LOOM_FIELDS = ("dataflow", "rows", "pixel_chunks", "pixel_lines", "window_chunks", "window_lines", "window_columns")
# Units that most builds lack; a build without them is what it was before they existed.
UNITS = ("digit", "skip_taps", "token_sum", "attention", "ttfs")
# Slots of the time-indexed sums: one more than the longest window of spike times.
TTFS_SLOTS = 64
# P of the table of mantissas of `z = e^t`, and the bits below a membrane that decide ties: one for each octave behind.
MANTISSA_BITS = 8
FRACTION_BITS = 32
# Of an open output fiber: bytes of whole words behind it, bits of the byte begun, that byte.
RESUME_BITS = 16 + 3 + 7
# Chunks and lines of a row slot, whose numbers are descriptor fields of 8 bits.
SLOT_SIZE = 128
# Width of the register field that says how large a half of the weight buffer is.
WEIGHT_BYTES_BITS = 24
# Loom: columns of a stream whose parameters wait for the tail; most that a request asks for, as a part of what is read ahead.
COLUMNS_QUEUED, BURSTS = 8, 4
# Writes that wait for their response: one a cycle at the usual latency of 100.
WRITES_OUTSTANDING = 128
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


Build = TypeVar("Build")


class ParameterError(ValueError):
    """A hardware parameter or user input outside its legal set; the text is the whole message."""


def require(ok: bool, name: str, value: object, legal: str) -> None:
    """Raise `ParameterError` unless ``ok``: what parameter ``name`` must be, not ``value``."""
    if not ok:
        raise ParameterError(f"{name} must be {legal}, not {value!r}")


def require_name(name: str) -> None:
    """Raise `ParameterError` unless a build may be called so."""
    require(re.fullmatch(NAME, name) is not None, "name", name,
            "letters, digits and _.- behind a letter or digit, because generated files bear it")


def word_bits(steps: int) -> int:
    """Return the stored width of a word of ``steps`` bits: the next power of two (1, 2, 4, 8, 16)."""
    return 1 << (steps - 1).bit_length()


def tick(resolution: int) -> float:
    """Return the time of a tick: an octave of ``exp(t)`` has ``2^resolution``."""
    return log(2) / (1 << resolution)


def mantissas(resolution: int) -> tuple[int, ...]:
    """Return ``M[i] = round(2^P * 2^(i / 2^resolution))``, half up, for i from 0 to ``2^resolution``: an octave and its end."""
    def root(x: int, halvings: int) -> int:
        return x if halvings == 0 else root(isqrt(x), halvings - 1)

    parts = 1 << resolution
    return tuple((root(1 << (MANTISSA_BITS + 1) * parts + i, resolution) + 1) // 2 for i in range(parts + 1))


@dataclass(frozen=True, kw_only=True)
class LifParams:
    """Parallel LIF: one neuron, up to ``t_max`` steps, ``steps_per_cycle`` steps in a clock cycle.

    stream_bits : width of the signed input current
    membrane_bits : width of the signed membrane and threshold, without fraction bits
    leak : ``"2^-k"`` (membrane times 1, 1/2, 1/4) or ``"1-2^-k"`` (times 0, 1/2, 3/4, 7/8)
    """

    t_max: int = 16
    stream_bits: int = 24
    membrane_bits: int = 32
    leak: str = "2^-k"
    steps_per_cycle: int = 4

    def __post_init__(self) -> None:
        require(1 <= self.t_max <= 16, "t_max", self.t_max, "in 1..16")
        require(8 <= self.stream_bits <= 32, "stream_bits", self.stream_bits, "in 8..32")
        require(self.stream_bits <= self.membrane_bits <= 32, "membrane_bits", self.membrane_bits,
                f"in {self.stream_bits}..32")
        require(self.leak in LEAKS, "leak", self.leak, f"one of {', '.join(LEAKS)}")
        require(self.steps_per_cycle in (1, 2, 4, 8, 16), "steps_per_cycle", self.steps_per_cycle,
                "one of 1, 2, 4, 8, 16")

    @property
    def k_max(self) -> int:
        """Largest ``leak_shift``."""
        return 2 if self.leak == "2^-k" else 3

    @property
    def fraction_bits(self) -> int:
        """Fraction bits kept below the membrane: none for 2^-k, k per step for 1-2^-k."""
        return 0 if self.leak == "2^-k" else self.k_max * self.t_max


@dataclass(frozen=True, kw_only=True)
class Arch:
    """One build of the FTP accelerator.

    name : what reports and generated files call it; letters, digits and ``_.-``
    lanes : TPPEs, one output row each
    chunk_bits : bits of a bitmask chunk
    t_max : widest word, which is also the most timesteps
    weight_bits : 4 or 8
    acc_bits, stream_bits, membrane_bits : widths of a dot (the sum of weights over one word bit), a current, a membrane
    max_chunks : chunks of one row that a lane holds
    row_value_lines : lines of ``chunk_bits`` bits for the packed words of one row
    weight_bytes : bytes of one half of the weight buffer
    pool_channels : most output channels of a layer that pools
    resume_tiles : row tiles whose output fibers can stay open between the parts of a layer
    data_bits, address_bits, outstanding, burst_beats : AXI4 port
    requantise : layers without time too: a requantiser beside the neurons
    skip_taps : dataflow lockstep: taps that are 0 in all columns are neither loaded nor scanned
    digit : words made of bits of the currents; a requantiser takes any step
    ttfs : layers of time-to-first-spike neurons: time-indexed sums in each lane, their neurons behind (dataflow lockstep)
    patience_log2 : a run without progress for ``2^patience_log2`` cycles ends in an error
    dataflow : ``"lockstep"`` (one row per lane, all lanes at the same chunk) or ``"loom"``, which alone reads what follows
    rows : row slots of a lane, which share ``max_chunks`` and ``row_value_lines`` evenly
    pixel_chunks, pixel_lines : chunks and lines of words of the pixels of one row tile
    window_chunks, window_lines, window_columns : column chunks, lines of ``chunk_bits`` bits of weights, and finished
        columns that a lane may be away from the others
    token_sum : sums over windows of stored currents
    attention : attention layers, which alone read what follows
    attention_columns : columns of a head that are worked on at once
    attention_bits : of a product of keys and values, and of a sum
    attention_rows : rows of products: chunks of steps x channels of a head x blocks of ``attention_columns``
    """

    name: str = "custom"
    lanes: int = 16
    chunk_bits: int = 128
    t_max: int = 16
    weight_bits: int = 8
    acc_bits: int = 24
    stream_bits: int = 24
    membrane_bits: int = 32
    leak: str = "2^-k"
    steps_per_cycle: int = 4
    max_chunks: int = 128
    row_value_lines: int = 160
    weight_bytes: int = 28672
    pool_channels: int = 512
    resume_tiles: int = 64
    data_bits: int = 512
    address_bits: int = 40
    outstanding: int = 32
    burst_beats: int = 64
    fifo_depth: int = 8
    requantise: bool = True
    patience_log2: int = 20
    buffer_bytes: int = 262144
    dataflow: str = "lockstep"
    rows: int = 1
    pixel_chunks: int = 512
    pixel_lines: int = 1536
    window_chunks: int = 16
    window_lines: int = 32
    window_columns: int = 4
    digit: bool = False
    skip_taps: bool = False
    token_sum: bool = False
    attention: bool = False
    attention_columns: int = 32
    attention_bits: int = 11
    attention_rows: int = 576
    ttfs: bool = False

    def __post_init__(self) -> None:
        require_name(self.name)
        require(self.lanes in LANES, "lanes", self.lanes, "one of 1, 2, 4, 8, 16, 32")
        require(self.chunk_bits in CHUNK_BITS, "chunk_bits", self.chunk_bits, "one of 16, 32, 64, 128, 256")
        require(self.weight_bits in WEIGHT_BITS, "weight_bits", self.weight_bits, "one of 4, 8")
        require(self.data_bits in DATA_BITS, "data_bits", self.data_bits, "one of 64, 128, 256, 512")
        require(self.data_bits >= self.chunk_bits, "data_bits", self.data_bits, f"at least chunk_bits ({self.chunk_bits})")
        require(16 <= self.acc_bits <= 32, "acc_bits", self.acc_bits, "in 16..32")
        require(self.acc_bits <= self.stream_bits, "acc_bits", self.acc_bits, f"at most stream_bits ({self.stream_bits})")
        require(32 <= self.address_bits <= 64, "address_bits", self.address_bits, "in 32..64")
        require(1 <= self.outstanding <= 256, "outstanding", self.outstanding, "in 1..256")
        require(self.burst_beats in (16, 32, 64, 128, 256), "burst_beats", self.burst_beats,
                "one of 16, 32, 64, 128, 256")
        require(self.burst_beats * self.data_bits // 8 <= 4096, "burst_beats", self.burst_beats,
                f"at most {4096 * 8 // self.data_bits} with {self.data_bits} data bits (4 KB boundary)")
        require(8 <= self.fifo_depth <= 64 and self.fifo_depth >= self.laggy_cycles, "fifo_depth", self.fifo_depth,
                f"in {max(8, self.laggy_cycles)}..64")
        require(2 <= self.max_chunks <= 1024, "max_chunks", self.max_chunks, "in 2..1024")
        require(1 <= self.row_value_lines <= 4096, "row_value_lines", self.row_value_lines, "in 1..4096")
        require(self.weight_bytes % (self.data_bits // 8) == 0 and self.weight_bytes >= 256, "weight_bytes",
                self.weight_bytes, f"a multiple of {self.data_bits // 8} of at least 256")
        require(self.weight_bytes < 1 << WEIGHT_BYTES_BITS, "weight_bytes", self.weight_bytes,
                f"below {1 << WEIGHT_BYTES_BITS}, which its register holds")
        require(1 <= self.pool_channels <= 4096, "pool_channels", self.pool_channels, "in 1..4096")
        require(1 <= self.resume_tiles <= 4096, "resume_tiles", self.resume_tiles, "in 1..4096")
        require(16 <= self.patience_log2 <= 31, "patience_log2", self.patience_log2, "in 16..31")
        self._check_loom()
        self._check_attention()
        require(not (self.ttfs and self.loom), "ttfs", self.ttfs, "false with dataflow loom")
        require(self.requantise or not self.ttfs, "ttfs", self.ttfs, "false without requantise, which clips spike times")
        LifParams(t_max=self.t_max, stream_bits=self.stream_bits, membrane_bits=self.membrane_bits, leak=self.leak,
                  steps_per_cycle=self.steps_per_cycle)
        require(self.used_bytes <= self.buffer_bytes, "buffer_bytes", self.buffer_bytes,
                f"at least {self.used_bytes}, what the row, weight, pool, resume and residual stores take")

    def _check_loom(self) -> None:
        require(self.dataflow in DATAFLOWS, "dataflow", self.dataflow, f"one of {', '.join(DATAFLOWS)}")
        require(self.rows in ((1, 2, 4) if self.loom else (1,)), "rows", self.rows,
                "one of 1, 2, 4" if self.loom else "1 with dataflow lockstep")
        require(not (self.loom and self.skip_taps), "skip_taps", self.skip_taps,
                "false with dataflow loom, whose column stream has no chunks without weights")
        if self.loom:
            require(self.lanes >= 4, "lanes", self.lanes, "at least 4 with dataflow loom")
            for name in ("max_chunks", "row_value_lines", "window_chunks", "window_lines", "window_columns"):
                value = getattr(self, name)
                require(value & (value - 1) == 0 and value >= 4, name, value,
                        "a power of two of at least 4 with dataflow loom")
            for name in ("max_chunks", "row_value_lines"):
                value = getattr(self, name)
                require(value <= SLOT_SIZE * self.rows, name, value,
                        f"at most {SLOT_SIZE} for each of the {self.rows} row slots")
            require(self.window_lines * self.chunk_bits >= 2 * self.chunk_bits * self.weight_bits, "window_lines",
                    self.window_lines, f"at least {2 * self.weight_bits}, the weights of two dense chunks")
            require(16 <= self.pixel_chunks <= 4096, "pixel_chunks", self.pixel_chunks, "in 16..4096")
            require(16 <= self.pixel_lines <= 4096, "pixel_lines", self.pixel_lines, "in 16..4096")

    def _check_attention(self) -> None:
        require((self.attention_columns in (4, 8, 16, 32, 64) and self.attention_columns >= self.lanes) or not self.attention,
                "attention_columns", self.attention_columns, f"one of 4, 8, 16, 32, 64, at least the lanes ({self.lanes})")
        require(2 <= self.attention_bits <= 16 and self.attention_bits < self.acc_bits, "attention_bits",
                self.attention_bits, "in 2..16, below acc_bits")
        require(2 <= self.attention_rows <= 4096, "attention_rows", self.attention_rows, "in 2..4096")

    @property
    def loom(self) -> bool:
        """Whether the lanes run the loom dataflow."""
        return self.dataflow == "loom"

    @property
    def slot_chunks(self) -> int:
        """Chunks that one row slot holds."""
        return self.max_chunks // self.rows

    @property
    def slot_lines(self) -> int:
        """Lines of words that one row slot holds."""
        return self.row_value_lines // self.rows

    @property
    def lif(self) -> LifParams:
        """Parameters of the parallel LIF."""
        return LifParams(t_max=self.t_max, stream_bits=self.stream_bits, membrane_bits=self.membrane_bits,
                         leak=self.leak, steps_per_cycle=self.steps_per_cycle)

    @property
    def laggy_cycles(self) -> int:
        """Cycles of the laggy prefix sum: 16 bits a cycle."""
        return self.chunk_bits // 16

    @property
    def count_bits(self) -> int:
        """Bits of a count of set bits in one chunk, 0..chunk_bits."""
        return self.chunk_bits.bit_length()

    @property
    def row_value_bits(self) -> int:
        """Bits of packed words that one row may take."""
        return self.row_value_lines * self.chunk_bits

    @property
    def index_bits(self) -> int:
        """Bits of a place among the packed words of a row (words may be one bit wide)."""
        return self.row_value_bits.bit_length()

    @property
    def row_entry_bits(self) -> int:
        """Bits that a lane keeps for one row chunk: mask, place of its first word, laggy group bases."""
        return self.chunk_bits + self.index_bits + (self.laggy_cycles - 1) * self.count_bits

    @property
    def ttfs_slots(self) -> int:
        """Slots of one half of a lane's time-indexed sums: one more than the largest earliness."""
        return min(TTFS_SLOTS, 1 << self.t_max)

    @property
    def residual_currents(self) -> int:
        """Stored currents of a lane that are read at once: those of a beat, or of a column when it has more."""
        return max(self.data_bits // (8 * CURRENT_BYTES), self.t_max)

    @property
    def residual_entries(self) -> int:
        """Lanes whose stored currents wait for the tail: one row tile and half a group of rows."""
        return self.lanes * self.rows + max(1, self.lanes // 2)

    @property
    def used_bytes(self) -> int:
        """Bytes of all stores, both halves."""
        queue = self.residual_entries * self.residual_currents * self.stream_bits
        row = self.max_chunks * self.row_entry_bits + self.row_value_bits
        rows = self.attention_rows + 2 * self.lanes * self.t_max
        heads = -(-rows * self.attention_columns * self.attention_bits // 8) if self.attention else 0
        if self.loom:
            window = (self.window_chunks + self.window_lines) * self.chunk_bits
            sums = self.window_columns * self.rows * self.t_max * self.acc_bits
            pixels = self.pixel_chunks * self.row_entry_bits + self.pixel_lines * self.chunk_bits
            return -(-(self.lanes * (row + window + sums) + pixels + queue) // 8) + 2 * self.weight_bytes + heads
        lane = 2 * row + self.pool_channels * self.t_max + self.resume_tiles * RESUME_BITS
        lane += 2 * self.ttfs_slots * (self.acc_bits + 1) if self.ttfs else 0
        return -(-(self.lanes * lane + queue) // 8) + 2 * self.weight_bytes + heads

    @property
    def hash(self) -> str:
        """First 8 hex digits of the SHA-256 of every parameter but the name, what the build does not read, absent units."""
        unread = {"name", *(() if self.loom else LOOM_FIELDS), *(() if self.attention else ATTENTION_FIELDS)}
        fields = {name: value for name, value in dataclasses.asdict(self).items()
                  if name not in unread and (value or name not in UNITS)}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]


PRESETS: dict[str, Arch] = {
    "tiny": Arch(name="tiny", lanes=4, chunk_bits=32, t_max=4, acc_bits=18, stream_bits=24, membrane_bits=26, max_chunks=64,
                 row_value_lines=96, weight_bytes=768, pool_channels=32, resume_tiles=8, data_bits=64, address_bits=32,
                 outstanding=16, buffer_bytes=8192, steps_per_cycle=1, requantise=False),
    "loas": Arch(name="loas", digit=True, skip_taps=True),
    "loom": Arch(name="loom", dataflow="loom", rows=4, row_value_lines=512, weight_bytes=4096, pool_channels=4096,
                 resume_tiles=16, outstanding=64, digit=True, token_sum=True, attention=True, buffer_bytes=304 << 10),
    "times": Arch(name="times", ttfs=True, weight_bytes=24576),
}


def load_preset(text: str) -> Arch:
    """Return a preset by name, or from a TOML file whose keys are fields of `Arch` (``base`` names a preset)."""
    return read_preset(text, PRESETS, "loas")


def read_preset(text: str, presets: Mapping[str, Build], usual: str) -> Build:
    """Return a preset by name, or from a TOML file whose keys are fields of a build (``base`` names a preset).

    usual : base of a file that names none
    Raises `ParameterError` for an unknown name, an unreadable file, an unknown key or an illegal value.
    """
    if text in presets:
        return presets[text]
    if not text.endswith(".toml"):
        raise ParameterError(f"preset: unknown name {text!r}; legal: {', '.join(presets)} or a FILE.toml; try: spikeloom list")
    kind: Any = type(presets[usual])
    try:
        table: dict[str, Any] = tomllib.loads(Path(text).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ParameterError(f"preset: {text}: cannot be read ({error}); legal: a TOML file of "
                             f"{kind.__name__} fields") from None
    base = table.pop("base", usual)
    if not isinstance(base, str) or base not in presets:
        raise ParameterError(f"preset: {text}: base: unknown name {base!r}; legal: {', '.join(presets)}")
    types = {f.name: type(f.default) for f in dataclasses.fields(kind)}
    for key, value in table.items():
        if key not in types:
            raise ParameterError(f"preset: {text}: unknown field {key!r}; legal: {', '.join(types)}")
        if type(value) is not types[key]:
            raise ParameterError(f"preset: {text}: {key} must be of type {types[key].__name__}, not {value!r}")
    table.setdefault("name", Path(text).stem)
    known: Any = presets[base]
    try:
        changed: Build = dataclasses.replace(known, **table)
    except ParameterError as error:
        raise ParameterError(f"preset: {text}: {error}") from None
    return changed
