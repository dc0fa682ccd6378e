"""Descriptor fields as Amaranth layouts and the bus that carries descriptor words to the blocks."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out

from golden.formats import LAYER, MAX_PASSES, PASS, SCALE, Field


def layout(table: tuple[Field, ...]) -> data.StructLayout:
    """Return a layout with one member per field of ``table``."""
    return data.StructLayout({field.name: field.width for field in table})


LAYER_LAYOUT = layout(LAYER)
PASS_LAYOUT = layout(PASS)
SCALE_LAYOUT = layout(SCALE)


def descriptor_bus() -> wiring.Signature:
    """Return the bus on which the sequencer shows every descriptor word once: record number, word, data.

    ``record`` 0 is the layer, 1.. are its passes.
    """
    return wiring.Signature({"valid": Out(1), "record": Out(range(MAX_PASSES + 1)), "word": Out(5), "data": Out(32)})


def capture(m: Module, table: tuple[Field, ...], fields: data.View, *, word: Signal, value: Signal) -> None:
    """Add to the current context: store the fields of ``table`` that lie in ``word``."""
    with m.Switch(word):
        for number in sorted({field.word for field in table}):
            with m.Case(number):
                for field in table:
                    if field.word == number:
                        m.d.sync += fields[field.name].eq(value[field.lsb : field.lsb + field.width])
