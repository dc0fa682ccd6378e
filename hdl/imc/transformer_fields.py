"""Fields of what a core does for transformers between layers: an operation on tokens, a tensor that becomes weights."""

from typing import Any

from amaranth.hdl import Value
from amaranth.lib import data

from hdl.imc.layer import LayerField


def _map(name: str, what: str) -> tuple[LayerField, ...]:
    """Return the fields of a map of tokens."""
    return (
        LayerField(f"{name}_bank", 1, f"activation memory of {what}"),
        LayerField(f"{name}_base", 20, f"first word of {what}"),
        LayerField(f"{name}_plane", 20, f"words from a plane of {what} to the next"),
        LayerField(f"{name}_bits", 5, f"bits of a number of {what}"),
        LayerField(f"{name}_is_signed", 1, f"the highest bit of {what} counts negative"))


WORK = (
    LayerField("op", 3, "0 normalise, 1 softmax, 2 look up, 3 add to the residual stream, 4 normalise what is reused"),
    *_map("map_a", "the rows that are read, of an addition the residual stream"),
    *_map("map_b", "what is added, unless it is reused"),
    *_map("out", "the result"),
    LayerField("tokens", 12, "rows"),
    LayerField("channels", 13, "numbers of a row"),
    LayerField("groups", 9, "words of a row in a plane: channels over the rows of a crossbar, rounded up"),
    LayerField("shift", 5, "of the normalisation"),
    LayerField("eps", 31, "of the normalisation, at least 1"),
    LayerField("normalised", 1, "softmax gives probabilities, else exponentials"),
    LayerField("direct", 1, "an addition takes 16 bits as they are, past the reuse buffer"),
    LayerField("mult", 16, "factor from 8 bits to the units of the residual stream"),
    LayerField("mult_shift", 5, "right shift behind it"),
    LayerField("reuse_number", 5, "of the encoder"),
    LayerField("reuse_keep", 1, "its attention is kept, since a later encoder reuses it"),
    LayerField("reuse_reuse", 1, "it has no attention of its own"),
    LayerField("reuse_src", 5, "encoder whose attention it reuses"),
    LayerField("reuse_mode", 3, "0 nothing, 1 as it is, 2 normalised, 3 and through a linear layer, 4 and through a table"),
    LayerField("reuse_mult", 16, "factor of what is reused"),
    LayerField("reuse_shift", 5, "right shift behind it"),
    LayerField("reuse_count", 24, "numbers of an attention: tokens times channels"),
)
LOAD = (
    *_map("source", "the tensor"),
    LayerField("transposed", 1, "outputs are tokens and inputs channels, else outputs are channels"),
    LayerField("inputs", 13, "of the weights"),
    LayerField("outputs", 13, "of the weights"),
    LayerField("groups", 9, "words of a token in a plane"),
    LayerField("first_channel", 13, "of the tensor that counts"),
    LayerField("columns_log2", 3, "log2 of the columns of a weight, a plane each"),
    LayerField("each", 9, "outputs of a crossbar"),
    LayerField("blocks", 13, "column blocks"),
    LayerField("rounds", 13, "column blocks / (tiles / fan_in), rounded up"),
    LayerField("crossbar", 10, "first crossbar in every tile"),
)


def leaves(record: Any, name: str = "") -> dict[str, Value]:
    """Return the fields of a record, those of records inside with both names, as in `WORK` and `LOAD`."""
    found: dict[str, Value] = {}
    for member in record.shape().members:
        part, path = record[member], f"{name}_{member}" if name else member
        found |= leaves(part, path) if isinstance(part, data.View) else {path: Value.cast(part)}
    return found
