"""What a build can do with what the host gives it: numbers, settings, layers. Shared by the core and by a tile of its own."""

from amaranth.hdl import Array, Value

from golden.imc.arch import ImcArch


def holds(word: Value, bits: int) -> Value:
    """Return whether a number without sign has at most so many bits."""
    return ~word[bits:].any()


def holds_signed(word: Value, bits: int) -> Value:
    """Return whether a number in two's complement, of as many bits as ``word``, has at most so many."""
    return word[bits - 1:].all() | ~word[bits - 1:].any()


def tile_number(p: ImcArch, what: Value, word: Value) -> Value:
    """Return whether a tile has room for a number of the host, of a kind of `hdl.imc.tile.Tile.write_layout`.

    An offset is less than a full scale to both sides (`golden.imc.correction.Correction`).
    """
    offset = holds_signed(word, p.adc_bits + 1) & (~word[-1] | word[:p.adc_bits].any())
    return Array([offset, holds(word, p.trim_bits), holds(word, p.gain_bits + 1), holds(word, p.adc_bits)])[what]
