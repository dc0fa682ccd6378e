"""Geometry of an in-memory-computing tile, its presets, and how signed weights lie in its columns."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from enum import IntEnum
from itertools import permutations

from golden.arch import ParameterError, read_preset, require_name

SCHEMES = ("diff", "offset", "dummy", "twos")
# Bits of what programming drives and compares with: codes of both DACs, mantissa and exponent of a pulse's width, references.
WORD_BITS, BIT_BITS, MANTISSA_BITS, EXPONENT_BITS, REFERENCE_BITS = 8, 5, 5, 3, 6
# Bits of numbers of pulses, of alternations, and of confirming reads.
PULSE_BITS, CONFIRM_BITS = 6, 4
# Bits of the widest number of a token, the residual stream of a transformer.
TOKEN_BITS = 16
# How width (P), word-line code (W) and bit-line code (B) of pulses are nested, the outermost first.
ORDERS = tuple("".join(order) for order in permutations("PWB"))


class Mode(IntEnum):
    """What a macro is asked for; between two other modes it is idle (imc 10, macro contract)."""

    IDLE = 0
    COMPUTE = 1
    VERIFY = 2
    PROGRAM = 3


class Op(IntEnum):
    """A job of `golden.imc.write_verify`."""

    FORM = 0        # raise cells that conduct nothing yet
    ERASE = 1       # lower cells to where programming begins
    PROG = 2        # bring cells to their levels
    READ = 3        # tell their levels
    REFRESH = 4     # bring them to the levels that they are read at
    TEST = 5        # tell which are not at their levels


class WriteError(IntEnum):
    """How a job of `golden.imc.write_verify` ended."""

    NONE = 0
    CELLS = 1       # some cells are not where they should be
    SETTINGS = 2    # the job or the settings are illegal, nothing was done
    SILENT = 3      # a comparison was not answered


class TokenOp(IntEnum):
    """What a token unit does with the rows of a transformer."""

    NORM = 0        # normalise
    SOFTMAX = 1     # exponentials of scores, and the factor of each row
    LOOKUP = 2      # a function of each number
    ADD = 3         # add what a block gives, or what the reuse buffer gives in its place, to the residual stream
    TRANSFORM = 4   # normalise what the reuse buffer gives


class Error(IntEnum):
    """Why a core of tiles, or a tile of its own, stopped; 0: it did not."""

    NONE = 0
    SETTINGS = 1        # a setting is beyond what was built
    CALIBRATION = 2     # an ADC is beyond the limit
    DROOP = 3           # columns were held for too long
    SUMS = 4            # outputs of tiles do not fit together
    STALLED = 5         # nothing happened for as long as the host's patience
    REUSE = 6           # the reuse buffer holds the attention of another layer
    CELLS = 7           # a cell is not at the level that was written
    PACKET = 8          # a packet of another length, or for what was not built
    SILENT = 9          # a comparison of cells was not answered


def _built(ok: bool, name: str, value: int, legal: str) -> None:
    """Raise `ParameterError` unless ``ok``: a field of a build that it cannot have."""
    if not ok:
        legal = legal.removeprefix("in ").removeprefix("one of ")
        raise ParameterError(f"{name}: field of a build, not {value}; legal: {legal}; try: a preset of spikeloom list")


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the code of one column adds to its output: ``code << shift``, or its negative."""

    shift: int
    negate: bool = False


@dataclass(frozen=True, kw_only=True)
class ImcArch:
    """One build of an IMC tile.

    name : what reports and generated files call it; letters, digits and ``_.-``
    rows, cols : word lines and columns of the crossbar
    mux : columns that share an ADC
    group_rows : most rows that are driven together
    adc_bits : widest code
    flash_bits : widest code of the flash converter, whose thermometer has ``2^flash_bits - 1`` outputs; 0: none
    cell_bits : bits that a cell stores
    weight_bits : of a signed weight
    input_bits : most bits of an input; spikes have one
    average_log2 : a conversion is the mean of up to ``2^average_log2``
    trim_bits : of a comparator's trim code
    gain_bits : fraction bits of a column's gain
    scheme : how signed weights are stored unless a program says otherwise
    tiles : of a core
    fan_in : tiles of a core whose outputs a tree adds up; the tiles of one tree work on different inputs
    crossbars : behind the periphery of a tile, selected one at a time; a PE of SpikeSim has one for each tap of a kernel
    t_max : most timesteps
    stream_bits : of the sums behind the tiles, which the mapping of a network proves wide enough
    membrane_bits : of a membrane
    channels : most outputs of a layer
    membranes : words of the membrane memory
    map_words : words of ``rows`` bits in each of the two activation memories
    tokens : most tokens of a transformer, 0: the core has no token unit
    features : most numbers of a token: of its residual stream, of its scores, of what it looks up
    """

    name: str = "custom"
    rows: int = 64
    cols: int = 64
    mux: int = 8
    group_rows: int = 64
    adc_bits: int = 8
    flash_bits: int = 0
    cell_bits: int = 1
    weight_bits: int = 4
    input_bits: int = 8
    average_log2: int = 3
    trim_bits: int = 5
    gain_bits: int = 8
    scheme: str = "twos"
    tiles: int = 1
    fan_in: int = 1
    crossbars: int = 16
    t_max: int = 16
    stream_bits: int = 32
    membrane_bits: int = 32
    channels: int = 256
    membranes: int = 4096
    map_words: int = 2048
    tokens: int = 0
    features: int = 256

    def __post_init__(self) -> None:
        require_name(self.name)
        _built(2 <= self.rows <= 256, "rows", self.rows, "in 2..256")
        _built(2 <= self.cols <= 256, "cols", self.cols, "in 2..256")
        _built(self.mux in (1, 2, 4, 8, 16, 32) and self.cols % self.mux == 0, "mux", self.mux,
               f"one of 1, 2, 4, 8, 16, 32 that divides cols ({self.cols})")
        _built(self.group_rows in (1, 2, 4, 8, 16, 32, 64, 128, 256) and self.rows % self.group_rows == 0, "group_rows",
                self.group_rows, f"a power of two that divides rows ({self.rows})")
        _built(1 <= self.adc_bits <= 10, "adc_bits", self.adc_bits, "in 1..10")
        _built(0 <= self.flash_bits <= min(6, self.adc_bits), "flash_bits", self.flash_bits,
               f"in 0..{min(6, self.adc_bits)}")
        _built(1 <= self.cell_bits <= 4, "cell_bits", self.cell_bits, "in 1..4")
        _built(2 <= self.weight_bits <= 16, "weight_bits", self.weight_bits, "in 2..16")
        _built(1 <= self.input_bits <= 8, "input_bits", self.input_bits, "in 1..8")
        _built(0 <= self.average_log2 <= 4, "average_log2", self.average_log2, "in 0..4")
        _built(1 <= self.trim_bits <= 8, "trim_bits", self.trim_bits, "in 1..8")
        _built(4 <= self.gain_bits <= 12, "gain_bits", self.gain_bits, "in 4..12")
        _built(self.tiles in (1, 2, 4, 8, 16, 32), "tiles", self.tiles, "one of 1, 2, 4, 8, 16, 32")
        _built(self.fan_in in (1, 2, 4, 8, 16, 32) and self.fan_in <= self.tiles, "fan_in", self.fan_in,
               f"a power of two in 1..{self.tiles}, the tiles")
        _built(1 <= self.crossbars <= 1024, "crossbars", self.crossbars, "in 1..1024")
        _built(1 <= self.t_max <= 16, "t_max", self.t_max, "in 1..16")
        _built(16 <= self.stream_bits <= 32, "stream_bits", self.stream_bits, "in 16..32")
        _built(self.stream_bits <= self.membrane_bits <= 32, "membrane_bits", self.membrane_bits,
               f"in {self.stream_bits} (stream_bits)..32")
        _built(1 <= self.channels <= 4096, "channels", self.channels, "in 1..4096")
        _built(2 <= self.membranes <= 1 << 20, "membranes", self.membranes, "in 2..1048576")
        _built(2 <= self.map_words <= 1 << 20, "map_words", self.map_words, "in 2..1048576")
        _built(0 <= self.tokens <= 1024, "tokens", self.tokens, "in 0..1024")
        _built(1 <= self.features <= 4096, "features", self.features, "in 1..4096")
        self.check(self.scheme)

    def check(self, scheme: str) -> None:
        """Raise `ParameterError` unless ``scheme`` exists and a weight fits."""
        if scheme not in SCHEMES:
            raise ParameterError(f"scheme: unknown name, not {scheme!r}; legal: {', '.join(SCHEMES)}; "
                                 f"try: scheme={SCHEMES[-1]}")
        _built(self.outputs(scheme) >= 1, "cols", self.cols,
               f"at least {len(self.places(scheme)) * (2 if scheme == 'dummy' else 1)} with scheme {scheme}")

    def places(self, scheme: str) -> list[Place | None]:
        """Return what the columns of one weight stand for, the lowest slice first (imc 10, B4 and B5); None: nothing.

        Their number is a power of two. A magnitude has ``weight_bits`` bits, so that every weight has a negative.
        """
        stored = self.weight_bits - (scheme == "twos")
        slices: list[Place | None] = [Place(shift=shift) for shift in range(0, stored, self.cell_bits)]
        if scheme == "diff":
            slices += [Place(shift=shift, negate=True) for shift in range(0, stored, self.cell_bits)]
        if scheme == "twos":
            slices.append(Place(shift=self.weight_bits - 1, negate=True))
        return slices + [None] * ((1 << (len(slices) - 1).bit_length()) - len(slices))

    def outputs(self, scheme: str) -> int:
        """Return how many outputs a tile has; the dummy column takes the place of the last one."""
        return self.cols // len(self.places(scheme)) - (scheme == "dummy")

    @property
    def hash(self) -> str:
        """First 8 hex digits of the SHA-256 of every parameter but the name and the scheme, which a build does not read."""
        read = {name: value for name, value in dataclasses.asdict(self).items() if name not in ("name", "scheme")}
        return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def adcs(self) -> int:
        """Groups of columns, one ADC each; group g sees column ``g * mux + m``."""
        return self.cols // self.mux

    @property
    def word_bits(self) -> int:
        """Most bits of a number that a layer stores: the residual stream's where there are tokens."""
        return TOKEN_BITS if self.tokens else self.input_bits

    @property
    def code_bits(self) -> int:
        """Width of a signed code less an offset of up to a full scale, times a gain below 2: ``|code| < 2^(adc_bits + 2)``."""
        return self.adc_bits + 3

    @property
    def slice_bits(self) -> int:
        """Width of the signed sum of the codes of a weight: at most ``sum of 2^shift`` times the largest code."""
        weights = [sum(1 << place.shift for place in self.places(scheme) if place) for scheme in SCHEMES]
        return self.code_bits + (max(weights) - 1).bit_length()

    @property
    def sum_bits(self) -> int:
        """Width of an output: slice sums of up to ``rows`` groups, ``2^input_bits`` times, less as much again (dummy)."""
        return self.slice_bits + (self.rows - 1).bit_length() + self.input_bits + 1

    @property
    def group_levels(self) -> int:
        """Largest value of a column, in levels, when all rows of a group are driven."""
        return self.group_rows * ((1 << self.cell_bits) - 1)

    @property
    def lossless_bits(self) -> int:
        """Bits of an ADC that tells all values of a full group of rows apart (imc 1.3)."""
        return self.group_levels.bit_length()


IMC_PRESETS: dict[str, ImcArch] = {
    "spikesim": ImcArch(name="spikesim", adc_bits=7, flash_bits=4, tiles=4, crossbars=64, map_words=16384, membranes=16384),
    "neurosim": ImcArch(name="neurosim", rows=128, cols=128, group_rows=128, flash_bits=5, weight_bits=8, scheme="dummy",
                        tiles=4, crossbars=64, map_words=16384, membranes=16384),
    "trex-fefet": ImcArch(name="trex-fefet", cell_bits=2, weight_bits=8, scheme="diff", tiles=4, crossbars=64, map_words=16384,
                          membranes=16384, tokens=64, features=128),
    "tiny-ci": ImcArch(name="tiny-ci", rows=16, cols=8, mux=2, group_rows=8, adc_bits=5, flash_bits=5, cell_bits=2,
                       scheme="diff", crossbars=512, channels=64, membranes=256, map_words=512),
}


def load_preset(text: str) -> ImcArch:
    """Return a preset by name, or from a TOML file whose keys are fields of `ImcArch` (``base`` names a preset)."""
    return read_preset(text, IMC_PRESETS, "spikesim")
