"""What a build can do with what the host gives it: numbers, settings, layers. Shared by the core and by a tile of its own."""

from amaranth.hdl import Array, Cat, Mux, Value
from amaranth.lib import data

from golden.imc.arch import ImcArch
from hdl.imc.bounds import Bound
from hdl.imc.pool import PoolMode
from hdl.imc.shift_add import PLACES
from hdl.parallel_lif import Reset

# Steps that the fields of a vector count, rows that its window may reach, and what a calibration may repeat.
STEPS, REACH, LARGEST_LOG2 = 16, 8191, 8


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


def converts(p: ImcArch, machine: data.View) -> Value:
    """Return whether the build converts so, and calibrates so; trim codes are searched below a pedestal."""
    return ((machine.adc_bits != 0) & (machine.adc_bits <= Mux(machine.flash, p.flash_bits, p.adc_bits))
            & (machine.average_log2 <= p.average_log2) & (machine.log2 <= LARGEST_LOG2)
            & (machine.group_log2 < p.group_rows.bit_length()) & holds(machine.pedestal, p.adc_bits)
            & holds(machine.limit, max(p.adc_bits + 1, p.gain_bits))
            & ~(machine.trims & ~machine.gains & (machine.pedestal == 0)))


def computes(p: ImcArch, machine: data.View, bits: Value, outputs: Value) -> Value:
    """Return whether the build runs vectors of so many input bits and outputs, and its columns hold such weights."""
    width, log2 = machine.width_log2, machine.group_log2[:(p.group_rows.bit_length() - 1).bit_length()]
    return ((bits != 0) & (bits <= p.input_bits) & (machine.groups != 0) & (machine.groups << log2 <= p.rows)
            & (width < PLACES.bit_length()) & (outputs != 0) & (outputs + machine.dummy << width <= p.cols))


def runs(p: ImcArch, layer: data.View) -> Value:
    """Return whether a build runs a layer: its fields are within what was built, but for `layer_bounds`, and fit together."""
    counts = ("channels", "steps", "in_groups", "in_height", "in_width", "chunks", "blocks", "rounds_in", "rounds_out",
              "column_blocks", "kernel_height", "kernel_width", "out_height", "out_width", "pool_kernel", "word_bits")
    lanes, groups, tails = p.tiles // p.fan_in, -(-p.channels // p.rows), layer.scale + layer.readout
    some = [layer[name] != 0 for name in counts]
    odd = layer.channels[0] | (layer.share_log2[1] & layer.channels[1])
    sums = (
        (layer.channels <= p.channels) & (layer.chunk_log2 <= (p.rows - 1).bit_length())
        & (layer.blocks <= layer.rounds_in * p.fan_in) & (layer.blocks > (layer.rounds_in - 1) * p.fan_in)
        & (layer.column_blocks <= layer.rounds_out * lanes) & (layer.column_blocks > (layer.rounds_out - 1) * lanes)
        & (layer.in_shift + layer.in_span <= p.rows) & (layer.in_shift < p.rows)
        & ((p.tokens > 0) | ((layer.in_shift == 0) & (layer.in_span == 0) & ~layer.factor)))
    time = (
        (layer.steps <= p.t_max) & (layer.first_step + layer.steps <= STEPS)
        & (~layer.once | (~layer.per_step & (layer.steps <= p.input_bits)))
        & (~layer.readout | layer.time_inner | (layer.steps == 1) | ((layer.out_height == 1) & (layer.out_width == 1))))
    tail = (
        (layer.word_bits <= p.word_bits) & (layer.pool_mode <= PoolMode.SUM) & (layer.leak_shift <= 2)
        & ~((layer.leak_shift == 2) & layer.decay_input) & (layer.reset < len(Reset)) & (tails != 2)
        & (~layer.readout | ((layer.pool_kernel == 1) & (layer.pool_mode == PoolMode.NONE))))
    shared = (layer.share_log2 == 0) | ~(layer.share_log2.all() | odd | layer.once | layer.readout | layer.scale)
    words = layer.readout | ((layer.out_groups <= groups) & (layer.channels <= layer.out_groups * p.rows))
    return Cat(some).all() & sums & time & tail & shared & words


def layer_bounds(p: ImcArch, layer: data.View) -> list[Bound]:
    """Return what the addresses and counts of a layer come to, and what there is of it.

    The operand, in memory; the output, unless it is read out; the membranes of neurons; crossbars; rows of a crossbar;
    how far its windows reach.
    """
    writes, neurons = ~layer.readout, ~layer.readout & ~layer.scale
    times, planes = layer.first_step + layer.steps, Mux(layer.scale, layer.word_bits, 1)
    in_times, out_times = Mux(layer.per_step, times - 1, 0), Mux(layer.scale & ~layer.per_step, 0, times - 1)
    own, apart = layer.channels >> layer.share_log2, ~layer.time_inner
    member = Mux(layer.pool_mode == PoolMode.NONE, layer.pool_kernel, 1)
    windows = [Mux(apart, layer.out_height, 1), Mux(apart, layer.out_width, 1)]
    return [
        Bound([[layer.in_base], [layer.in_plane, layer.bits - 1], [layer.in_plane, layer.bits, in_times],
               [layer.in_row, layer.in_height - 1], [layer.in_groups, layer.in_width]], p.map_words),
        Bound([[layer.out_base, writes], [layer.out_plane, planes - 1, writes], [layer.out_plane, planes, out_times, writes],
               [writes, layer.out_height, layer.out_width, layer.out_groups]], p.map_words),
        Bound([[layer.membrane, neurons], [neurons, own, member, member, *windows]], p.membranes),
        Bound([[layer.crossbar], [layer.rounds_in, layer.rounds_out]], p.crossbars),
        Bound([[layer.chunks, 1 << layer.chunk_log2]], p.rows),
        *(Bound([[layer.stride, layer.pool_stride, size], [layer.stride, layer.pool_kernel]], REACH)
          for size in (layer.out_height, layer.out_width))]
