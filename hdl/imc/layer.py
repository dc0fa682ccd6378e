"""Fields of a layer, as the core's blocks read them and as the host writes them."""

from dataclasses import dataclass

from amaranth.hdl import Value, signed
from amaranth.lib import data

from golden.imc.arch import ImcArch


@dataclass(frozen=True)
class LayerField:
    """One field of a layer: a register of the core."""

    name: str
    width: int
    meaning: str


FIELDS = (
    LayerField("source", 1, "activation memory that is read; the other one is written"),
    LayerField("in_base", 20, "first word of the operand"),
    LayerField("in_plane", 20, "words from a plane of the operand to the next: a timestep, or a bit of a number"),
    LayerField("in_row", 16, "words from a row of pixels to the next"),
    LayerField("in_groups", 9, "words of a pixel"),
    LayerField("in_height", 12, "rows of pixels of the operand"),
    LayerField("in_width", 12, "pixels of a row"),
    LayerField("in_shift", 8, "first channel of a word that is read, and comes to its first row"),
    LayerField("in_span", 8, "channels of a word that are read from there on, 0: all"),
    LayerField("chunk_log2", 4, "log2 of the rows from a word to the next one in a crossbar"),
    LayerField("chunks", 9, "words that fill the rows of a crossbar"),
    LayerField("blocks", 12, "row blocks: crossbars that the inputs of an output fill"),
    LayerField("rounds_in", 12, "row blocks / fan_in, rounded up"),
    LayerField("rounds_out", 8, "column blocks / (tiles / fan_in), rounded up"),
    LayerField("column_blocks", 12, "crossbars that the outputs fill"),
    LayerField("crossbar", 10, "first crossbar of the layer in every tile"),
    LayerField("kernel_height", 5, "rows of the kernel"),
    LayerField("kernel_width", 5, "columns of the kernel"),
    LayerField("stride", 4, "of the convolution"),
    LayerField("padding", 4, "of the convolution"),
    LayerField("conv_width", 12, "columns of the sums, before a pool"),
    LayerField("pixels", 20, "rows times columns of the sums"),
    LayerField("out_height", 12, "rows of the output"),
    LayerField("out_width", 12, "columns of the output"),
    LayerField("pool_kernel", 4, "rows and columns of a pool window, 1 without one"),
    LayerField("pool_stride", 4, "of the pool window, 1 without one"),
    LayerField("steps", 5, "timesteps that are run"),
    LayerField("first_step", 4, "the first of them"),
    LayerField("fresh", 1, "neurons start at rest in the first of them"),
    LayerField("time_inner", 1, "all steps of a window, then the next window; else all windows of a step"),
    LayerField("per_step", 1, "every step has its own planes; else all steps share them"),
    LayerField("bits", 4, "planes of a number, 1 of spikes"),
    LayerField("channels", 13, "outputs of a pixel"),
    LayerField("outputs", 9, "outputs of a crossbar"),
    LayerField("pool_mode", 2, "of sums: 0 none, 1 max, 2 sum"),
    LayerField("readout", 1, "sums over the steps leave on the output stream"),
    LayerField("scale", 1, "scaled numbers are stored in place of spikes"),
    LayerField("word_bits", 5, "of a scaled number"),
    LayerField("factor", 1, "sums are multiplied by the factor of their token ahead of the scale"),
    LayerField("word_signed", 1, "scaled numbers are two's complement"),
    LayerField("leak_shift", 2, "k of the neuron step"),
    LayerField("decay_input", 1, "the input decays with the membrane"),
    LayerField("strict", 1, "fire above the threshold, not at it"),
    LayerField("reset", 2, "0 to 0, 1 by the threshold, 2 by the threshold a step later"),
    LayerField("out_base", 20, "first word of the output"),
    LayerField("out_plane", 20, "words from a plane of the output to the next"),
    LayerField("out_groups", 9, "words of a pixel of the output"),
    LayerField("once", 1, "sums of the first step serve all steps, at most as many as an input has bits; not with per_step"),
    LayerField("membrane", 20, "where its membranes begin, so that those of other layers stay for their next steps"),
    LayerField("share_log2", 2, "log2 of the groups of channels that have the same membranes, one after another in each "
               "step: 0..2, 0 with once, readout or scale"),
)


def layer_layout() -> data.StructLayout:
    """Return all fields."""
    return data.StructLayout({field.name: field.width for field in FIELDS})


def vector_layout(p: ImcArch) -> data.StructLayout:
    """Return a vector of a layer: where it reads, what the macro calls it, where its outputs go.

    top, left : of the first tap, outside of the map where it is padded
    first, last : member of its window; starts, ends: of its steps, both with ``once``; end : of its layer
    membrane : of its channel 0; window: number of the output pixel
    """
    return data.StructLayout({
        "top": signed(14), "left": signed(14), "step": 4, "key": 24, "first": 1, "last": 1,
        "starts": 1, "ends": 1, "end": 1, "membrane": range(p.membranes), "window": 20})


MACHINE = (
    LayerField("group_log2", 4, "log2 of the rows that are driven together"),
    LayerField("groups", 9, "groups of rows of a crossbar"),
    LayerField("skip", 1, "phases that drive no row are skipped"),
    LayerField("t_pre", 6, "cycles of precharge"),
    LayerField("t_settle", 8, "cycles with rows driven, the last of which samples"),
    LayerField("t_guard", 4, "cycles of rest behind the conversions of a phase"),
    LayerField("flash", 1, "convert by flash, else by successive approximation"),
    LayerField("adc_bits", 4, "bits of a code"),
    LayerField("average_log2", 3, "log2 of the conversions whose mean is a code"),
    LayerField("t_mux", 4, "cycles from the choice of a column to its conversion"),
    LayerField("t_dac", 4, "cycles from a trial code to the comparison"),
    LayerField("t_flash", 4, "cycles from the strobe to the thermometer"),
    LayerField("hold", 16, "cycles for which sampled columns are good, 0 for ever"),
    LayerField("width_log2", 3, "log2 of the columns of a weight"),
    LayerField("is_signed", 1, "the highest input bit counts negative"),
    LayerField("popcount", 1, "scheme offset: driven rows are counted and taken away"),
    LayerField("dummy", 1, "scheme dummy: the last output is taken away"),
    LayerField("use_gain", 1, "codes are multiplied by the gain of their column"),
    LayerField("trims", 1, "a calibration searches trim codes, else it measures offsets"),
    LayerField("log2", 4, "log2 of the phases of a calibration"),
    LayerField("pedestal", 10, "of a calibration, in steps"),
    LayerField("limit", 11, "of what a calibration finds"),
    LayerField("patience", 24, "cycles without an event until the core stops with an error, 0: it waits for ever"),
    LayerField("gains", 1, "a calibration measures gains of columns with all rows of the first group, not offsets"),
)


def machine_layout() -> data.StructLayout:
    """Return how the tiles work."""
    return data.StructLayout({field.name: field.width for field in MACHINE})


EXIT = (
    LayerField("steps", 5, "most steps of an image, the last of which stops; what is read out is then the sums of all steps so "
               "far; 0: no early exit"),
    LayerField("threshold", 31, "an image stops at the first step t at which its two best classes are t times as far apart"),
)


def exit_layout() -> data.StructLayout:
    """Return when an image stops."""
    return data.StructLayout({field.name: field.width for field in EXIT})


def may_exit(p: ImcArch, layer: data.View, settings: data.View, steps: Value) -> Value:
    """Return whether early exit is off, or the layer gives it all classes of one step, the next one.

    steps : of the image so far
    """
    return (settings.steps == 0) | ~layer.readout | (
        (settings.steps <= p.t_max) & (layer.channels > 1) & (layer.out_height == 1) & (layer.out_width == 1)
        & (layer.steps == 1) & (layer.first_step < settings.steps) & (layer.fresh == (layer.first_step == 0))
        & (layer.fresh | (layer.first_step == steps)))
