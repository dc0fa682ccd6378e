"""The page of formats, ``docs/formats.md``, made from the tables of `golden.formats`: ``python -m golden.format_page``."""

import sys
from collections.abc import Sequence

import numpy as np

from golden.fiber import pack
from golden.formats import (
    ALIGN,
    CURRENT_BYTES,
    ERRORS,
    FEATURES,
    FORMAT_MAJOR,
    FORMAT_MINOR,
    HEADER,
    HEADER_BYTES,
    LAYER,
    MAX_PASSES,
    MAX_PROGRAM_BYTES,
    PASS,
    PLANE,
    PLANE_WORD,
    RECORD_BYTES,
    SCALE,
    STATS,
    STATS_BYTES,
    TAPS,
    TILE,
    Field,
)

EXAMPLE = (0, 0, 0b1010, 0, 0, 0b0111, 0, 0, 0, 0b0001)


def markdown() -> str:
    """Return the page: program header, descriptors, weight tiles, fibers, currents and counter records."""
    return "\n".join([
        f"# Formats, version {FORMAT_MAJOR}.{FORMAT_MINOR}", "",
        "What the accelerator reads and writes in memory. Everything is little-endian; offsets are relative to the base "
        f"register; every region begins at a multiple of {ALIGN} bytes. Bits without a row are 0.", "",
        "## Program", "",
        f"A header of {HEADER_BYTES} bytes, then for each layer one layer descriptor and `passes` pass descriptors of "
        f"{RECORD_BYTES} bytes each; at most {MAX_PROGRAM_BYTES:,} bytes. A layer whose columns are cut into parts has a "
        "layer descriptor, with its passes, for each part. A program of another major version is refused.", "",
        "### Header", "", *_table(HEADER), "",
        "Features: " + ", ".join(f"bit {bit} {name}" for name, bit in FEATURES.items()) + ".", "",
        "### Layer descriptor", "", *_table(LAYER), "",
        f"### Pass descriptor, at most {MAX_PASSES} of a layer", "", *_table(PASS + TAPS), "",
        f"Word {PLANE_WORD} and the following ones say what each bit of an operand word means:", "",
        *_table(PLANE, words=False), "",
        "## Weight tile", "",
        f"A header, then at multiples of {ALIGN} bytes: for each column its bias and its threshold (two signed 32-bit "
        "words), the columns' masks one behind the other, and their non-zero weights one behind the other. A column's mask "
        "goes along the row: pass, ky, kx, channel; each tap is filled up to a whole byte. Weights of 4 bits lie two in a "
        "byte, the first one in the low half.", "", *_table(TILE), "",
        "A layer with `requantise` has in place of the threshold:", "", *_table(SCALE, words=False), "",
        "## Column stream", "",
        "A build with dataflow `loom` reads a column stream in place of weight tiles. For each column: bias, threshold, "
        "one bit per chunk of its row (pass, ky, kx, chunk of the tap; bit 0 first, in whole bytes), and for each chunk "
        "whose bit is set its mask and its non-zero weights, each in whole bytes. A chunk without weights is left out, but "
        "each pass of several has its last chunk, and each column one chunk at least. Even columns lie before odd ones; either "
        f"part has the size of the longer one, a multiple of {ALIGN} bytes.", "",
        "## Fibers", "",
        "A tensor of words has a region of masks and a region of value slots, both with one entry per pixel, `[y][x]`. Bit c "
        "of a mask says that channel c is not silent; masks take whole bytes. A slot holds the words that are not silent, "
        "packed from bit 0 in the order of their channels, each as wide as the stored word (1, 2, 4, 8 or 16 bits; bit t is "
        "timestep t, or bit b of a number). A slot has room for all channels; only the bytes that are used are read "
        "and written.", "",
        *_example(), "",
        "## Currents", "",
        f"Stored currents are signed words of {CURRENT_BYTES} bytes, `[y][x][channel][t]`; a read-out, their sum over t, is "
        "`[y][x][channel]`.", "",
        "## Counter record", "",
        f"{STATS_BYTES} bytes for each layer descriptor, written when it is finished. Words of 32 bits:", "",
        "| word | value |", "|---|---|", *(f"| {word} | {name} |" for word, name in enumerate(STATS)), "",
        "## Error codes", "", "| code | meaning |", "|---|---|",
        *(f"| {code} | {text} |" for code, text in ERRORS.items())]) + "\n"


def _table(fields: Sequence[Field], *, words: bool = True) -> list[str]:
    lines = ["| word | bits | field | meaning |", "|---|---|---|---|"] if words else [
        "| bits | field | meaning |", "|---|---|---|"]
    last = None
    for field in sorted(fields, key=lambda entry: (entry.word, entry.lsb)):
        place = f"| {'' if field.word == last else field.word} " if words else ""
        lines.append(f"{place}| {field.lsb + field.width - 1}:{field.lsb} | {field.name} | {field.meaning} |")
        last = field.word
    return lines


def _example() -> list[str]:
    """Return a fiber of words of 4 bits, and its bytes."""
    masks, slots = pack(np.array(EXAMPLE).reshape(-1, 1, 1), 2)
    words = " ".join(f"{word:04b}" for word in EXAMPLE)
    return [f"The fiber of {len(EXAMPLE)} channels with the words `{words}` (channel 0 first, t = 0 in the last digit) has "
            f"the mask bytes `{masks[0].tobytes().hex(' ')}` and the slot bytes `{slots[0].tobytes().hex(' ')}`."]


if __name__ == "__main__":
    sys.stdout.write(markdown())
