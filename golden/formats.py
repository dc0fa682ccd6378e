"""Byte-exact formats: program header, layer and pass descriptors, weight tile header, counter record.

One table per record: field name, 32-bit word, lowest bit, width, meaning. Everything is little-endian;
offsets are relative to the base register. The tables are read by the image builder, the RTL and the
documentation, so a field has one definition.
"""

import struct
import zlib
from dataclasses import dataclass

PROGRAM_MAGIC = 0x504B5053  # "SPKP"
FORMAT_MAJOR, FORMAT_MINOR = 1, 2
HEADER_BYTES = 64
RECORD_BYTES = 128
ALIGN = 64
STATS_BYTES = 64
CURRENT_BYTES = 4
COLUMN_BYTES = 8
MAX_PASSES = 32
# Pixels of a map and bytes of a fiber's mask or slot are numbers of 18 bits, which one DSP block multiplies.
PLACE_BITS = 18
MAX_PROGRAM_BYTES = 1 << 20
# Spike times among currents: what stands for never is below every sum of them, 0 and less is never too. A score of a
# read-out has the earliness above these bits.
NEVER = -1024
LEAD_BITS = 8

ERRORS = {
    0: "none",
    1: "program magic or header is not a spikeloom program",
    2: "program format major version is not this build's",
    3: "program CRC32 does not match",
    4: "program needs more than this build's limits",
    5: "program needs a feature this build does not have",
    6: "AXI read response error",
    7: "AXI write response error",
    8: "layer descriptor or weight tile has a field outside its range",
    9: "no progress: weights or descriptors contradict each other, or the memory does not answer",
}


@dataclass(frozen=True)
class Field:
    """One field of a record."""

    name: str
    word: int
    lsb: int
    width: int
    meaning: str


HEADER = (
    Field("magic", 0, 0, 32, "0x504B5053, the letters SPKP"),
    Field("minor", 1, 0, 16, "format minor version"),
    Field("major", 1, 16, 16, "format major version"),
    Field("length", 2, 0, 32, "bytes of header and descriptors"),
    Field("crc", 3, 0, 32, "CRC32 (zlib) of bytes 16 to length"),
    Field("layers", 4, 0, 16, "layer descriptors"),
    Field("chunk_bits", 4, 16, 16, "chunk size the tensors are cut for"),
    Field("chunks", 5, 0, 16, "most chunks of a row"),
    Field("row_lines", 5, 16, 16, "most value lines of a row"),
    Field("weight_bytes", 6, 0, 32, "largest weight tile"),
    Field("pool_channels", 7, 0, 16, "most channels of a layer that pools"),
    Field("resume_tiles", 10, 0, 16, "most row tiles of a layer that continues fibers"),
    Field("t_max", 7, 16, 8, "widest word"),
    Field("weight_bits", 7, 24, 8, "bits of a weight"),
    Field("lanes", 9, 0, 8, "lanes the row tiles are cut for"),
    Field("acc_bits", 9, 8, 8, "width that every dot fits"),
    Field("stream_bits", 9, 16, 8, "width that every current fits"),
    Field("membrane_bits", 9, 24, 8, "width that every membrane and threshold fits"),
    Field("features", 8, 0, 32, "features needed, one bit each"),
)

FEATURES = {"leak_1m2k": 0, "attention": 1, "token_sum": 2, "ttfs": 3, "requantise": 4, "digit": 5, "skip_taps": 6}

LAYER = (
    Field("passes", 0, 0, 8, "passes; 0: the sums are 0"),
    Field("steps", 0, 8, 5, "timesteps"),
    Field("min_spikes", 0, 16, 5, "words with fewer spikes become silent"),
    Field("word_log2", 0, 24, 3, "log2 of the stored width of an output word"),
    Field("neuron", 1, 0, 1, "run the neuron and store compressed fibers"),
    Field("store_currents", 1, 1, 1, "store currents [y][x][c][t]"),
    Field("readout", 1, 2, 1, "store currents summed over t [y][x][c]"),
    Field("residual", 1, 3, 1, "add stored currents"),
    Field("max_pool", 1, 4, 1, "signed max-pool over the residual window"),
    Field("or_pool", 1, 5, 1, "max-pool of spikes"),
    Field("decay_input", 1, 6, 1, "the input decays with the membrane"),
    Field("strict", 1, 7, 1, "fire on > instead of >="),
    Field("reset", 1, 8, 2, "0 hard, 1 soft, 2 soft_delayed"),
    Field("leak_shift", 1, 10, 2, "k"),
    Field("operand_log2", 1, 12, 3, "log2 of the stored width of an operand word, all passes"),
    Field("resume", 1, 15, 1, "continue the output fibers of the layer before"),
    Field("requantise", 1, 16, 1, "with `neuron`: a requantiser in place of the neuron"),
    Field("signed_words", 1, 17, 1, "requantise to signed words instead of clipping at 0"),
    Field("word_bits", 1, 18, 5, "bits of a requantised word"),
    Field("digit", 1, 23, 1, "with `neuron`: bits of the currents in place of the neuron"),
    Field("digit_clip", 1, 24, 1, "clip a current's bits to the highest number that they hold, and at 0"),
    Field("digit_one", 1, 25, 1, "of step `word_step` alone instead of all steps"),
    Field("height", 2, 0, 16, "map before OR-pool"),
    Field("width", 2, 16, 16, "map before OR-pool"),
    Field("out_height", 3, 0, 16, "map after OR-pool"),
    Field("out_width", 3, 16, 16, "map after OR-pool"),
    Field("columns", 4, 0, 16, "output channels"),
    Field("chunks", 4, 16, 16, "chunks of a row, all passes"),
    Field("pool_kernel", 5, 0, 8, "OR-pool or max-pool window"),
    Field("pool_stride", 5, 8, 8, "OR-pool or max-pool stride"),
    Field("pool_padding", 5, 16, 8, "OR-pool or max-pool padding"),
    Field("column_tiles", 6, 0, 16, "weight tiles"),
    Field("row_tiles", 7, 0, 32, "tiles of up to `lanes` output pixels"),
    Field("weights", 8, 0, 32, "offset of the first weight tile"),
    Field("out_masks", 9, 0, 32, "offset of the output masks"),
    Field("out_mask_stride", 10, 0, 32, "bytes of one output mask"),
    Field("out_values", 11, 0, 32, "offset of the output value slots"),
    Field("out_slot_stride", 12, 0, 32, "bytes of one output slot"),
    Field("currents", 13, 0, 32, "offset of stored currents or read-out"),
    Field("current_stride", 14, 0, 32, "bytes of one pixel's currents or read-out"),
    Field("residual_base", 15, 0, 32, "offset of the currents to add"),
    Field("residual_stride", 16, 0, 32, "bytes of one pixel's currents to add"),
    Field("residual_height", 17, 0, 16, "map of the currents to add"),
    Field("residual_width", 17, 16, 16, "map of the currents to add"),
    Field("tile_pixels", 18, 0, 8, "loom: output pixels of a row tile"),
    Field("groups", 18, 8, 3, "loom: row slots of a lane that hold rows"),
    Field("span_log2", 18, 12, 2, "loom: log2 of the slots that one row takes"),
    Field("teams_log2", 18, 16, 3, "loom: log2 of the teams of lanes that share the columns"),
    Field("deal", 18, 20, 1, "loom: rows of a group go to lanes by their words"),
    Field("merge", 18, 21, 1, "loom: the groups of a tile make one word per pixel"),
    Field("stream_bytes", 19, 0, 32, "loom: bytes of the even columns, and of the odd ones behind them; a multiple of 64"),
    Field("attention", 20, 0, 1, "sums come from attention; queries, keys and values lie as the output does"),
    Field("sum_pool", 20, 1, 1, "sum of the residual window"),
    Field("chunk_steps", 20, 8, 5, "attention: timesteps of a chunk"),
    Field("head_blocks", 20, 16, 8, "attention: blocks of columns of a head"),
    Field("saturation", 21, 0, 16, "attention: where products and sums stop"),
    Field("head_start", 21, 16, 16, "attention: first channel of the head, a multiple of 8"),
    Field("query_masks", 22, 0, 32, "attention: offset of the masks of the queries"),
    Field("key_masks", 23, 0, 32, "attention: offset of the masks of the keys"),
    Field("value_masks", 24, 0, 32, "attention: offset of the masks of the values"),
    Field("to_words", 25, 0, 32, "attention: from each of these masks to its value slots"),
    Field("digit_low", 26, 0, 5, "lowest bit that is taken of a current"),
    Field("digit_bits", 26, 8, 5, "bits that are taken of each current"),
    Field("word_step", 26, 16, 4, "step whose current becomes a word (feature digit)"),
    Field("ttfs", 27, 0, 1, "time-to-first-spike neurons ahead of the tail, with `readout` their race"),
    Field("window", 27, 8, 6, "ttfs: ticks of what arrives"),
    Field("resolution", 27, 16, 2, "ttfs: log2 of the ticks of an octave"),
    Field("last_lanes", 27, 24, 6, "ttfs: lanes of the last row tile that hold a row, less 1"),
)

PASS = (
    Field("masks", 0, 0, 32, "offset of the operand's masks"),
    Field("mask_stride", 1, 0, 32, "bytes of one mask"),
    Field("values", 2, 0, 32, "offset of the operand's value slots"),
    Field("slot_stride", 3, 0, 32, "bytes of one slot"),
    Field("height", 4, 0, 16, "operand map"),
    Field("width", 4, 16, 16, "operand map"),
    Field("kernel_height", 5, 0, 8, "taps"),
    Field("kernel_width", 5, 8, 8, "taps"),
    Field("stride", 5, 16, 8, "of the taps' origin"),
    Field("padding", 5, 24, 8, "silent border"),
    Field("input", 6, 3, 1, "add the input offset register"),
    Field("identity", 6, 4, 1, "bit b goes to step b where `steps` is set"),
    Field("tap_chunks", 6, 16, 16, "chunks of one tap"),
    Field("last_bytes", 7, 0, 8, "mask bytes of a tap's last chunk"),
    Field("planes", 7, 8, 8, "bits of a word that have an entry"),
    Field("steps", 8, 0, 16, "steps that an identity pass writes"),
    Field("chunk_base", 8, 16, 8, "loom: first chunk of the pass in a row slot"),
    Field("line_base", 8, 24, 8, "loom: first line of words of the pass in a row slot"),
    Field("tap_lines", 9, 0, 8, "loom: lines of words of one tap"),
)
# Of a pass too, but read by the walker of a build with `skip_taps` alone.
TAPS = (
    Field("skipped", 10, 0, 32, "tap n, row-major, is 0 in all columns: neither loaded nor in masks; bits behind the last tap "
                                "are 1 unless all are 0"),
)
PLANE_WORD = 16
PLANE = (
    Field("steps", 0, 0, 16, "steps the bit adds to"),
    Field("shift", 0, 16, 5, "left shift"),
    Field("negate", 0, 21, 1, "subtract"),
)

TILE_HEADER_BYTES = 64
TILE = (
    Field("bytes", 0, 0, 32, "whole tile, header included, a multiple of 64"),
    Field("columns", 1, 0, 16, "columns of the tile"),
    Field("masks", 2, 0, 32, "byte offset of the masks in the tile"),
    Field("values", 3, 0, 32, "byte offset of the values in the tile"),
)

SCALE = (
    Field("multiplier", 0, 0, 16, "factor of the current, below 2^shift"),
    Field("shift", 0, 16, 5, "right shift of the product, rounded half up, 1 to 31"),
)

STATS = ("cycles", "matches", "corrections", "chunks", "stall_fifo", "stall_weights", "stall_rows", "stall_tail",
         "bytes_read", "bytes_written", "layer")


def pack(table: tuple[Field, ...], size: int, values: dict[str, int]) -> bytes:
    """Return one record of ``size`` bytes; unnamed fields are 0.

    Raises ValueError when a value does not fit its field or has no field.
    """
    words = [0] * (size // 4)
    known = {field.name: field for field in table}
    for name, value in values.items():
        field = known[name]
        if not 0 <= value < 1 << field.width:
            raise ValueError(f"{name} must be in 0..{(1 << field.width) - 1}, not {value}")
        words[field.word] |= value << field.lsb
    return struct.pack(f"<{len(words)}I", *words)


def unpack(table: tuple[Field, ...], record: bytes) -> dict[str, int]:
    """Return the fields of one record."""
    words = struct.unpack(f"<{len(record) // 4}I", record)
    return {f.name: words[f.word] >> f.lsb & ((1 << f.width) - 1) for f in table}


def seal(body: bytes, header: dict[str, int]) -> bytes:
    """Return a program: header with length and CRC32 filled in, then ``body`` (descriptors)."""
    length = HEADER_BYTES + len(body)
    fields = {"magic": PROGRAM_MAGIC, "major": FORMAT_MAJOR, "minor": FORMAT_MINOR, "length": length, **header}
    tail = pack(HEADER, HEADER_BYTES, fields)[16:] + body
    return pack(HEADER, HEADER_BYTES, {**fields, "crc": zlib.crc32(tail)})[:16] + tail


def align(offset: int, to: int = ALIGN) -> int:
    """Return the next multiple of ``to``."""
    return -(-offset // to) * to


def tile_bytes(columns: int, masks: int, values: int, weight_bits: int) -> int:
    """Return the size of a weight tile of ``columns`` columns with ``masks`` bytes of masks and ``values`` weights."""
    return TILE_HEADER_BYTES + align(8 * columns) + align(masks) + align(-(-values * weight_bits // 8))
