"""Exchange of rows between lanes, as expressions."""

from functools import reduce

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data

Entry = tuple[Value, Value]


def first_of_most(m: Module, entries: list[Entry]) -> Entry:
    """Return the first of the (value, name) entries with the largest value."""
    def best(a: Entry, b: Entry) -> Entry:
        value, name, later = Signal(a[0].shape()), Signal(a[1].shape()), Signal()
        m.d.comb += [later.eq(b[0] > a[0]), value.eq(Mux(later, b[0], a[0])), name.eq(Mux(later, b[1], a[1]))]
        return value, name

    while len(entries) > 1:
        entries = [reduce(best, entries[n : n + 2]) for n in range(0, len(entries), 2)]
    return entries[0]


def exchange(m: Module, held: list[list[data.View]], loads: list[Signal], inside: list[Signal]) -> tuple[Value, Value, Value]:
    """Return the lane with most words, and what it exchanges: whether, and ``group * lanes + lane`` of the other row.

    held : [groups][lanes], with the ``words`` of the row that a lane holds; loads : words of all rows of a lane
    inside : lanes that take part

    Both lanes hold less than the first one before, and the fuller of them least; of equals the first. What is exchanged is
    said a cycle after the lane.
    """
    lanes, bits = range(len(loads)), len(loads[0])
    places = range(len(loads) * len(held))
    load, fullest = first_of_most(m, [(Mux(inside[n], loads[n], 0), Const(n, lanes)) for n in lanes])
    top, entries = Signal(bits), []
    m.d.sync += top.eq(load)
    for g, slots in enumerate(held):
        words = Signal(slots[0].words.shape(), name=f"words_{g}")
        m.d.sync += words.eq(Array(each.words for each in slots)[fullest])
        for n in lanes:
            less, more, most = (Signal(bits, name=f"{name}_{g}_{n}") for name in ("less", "more", "fuller"))
            m.d.comb += [less.eq(top - words + slots[n].words), more.eq(loads[n] + words - slots[n].words),
                         most.eq(Mux(less > more, less, more))]
            entries.append((Mux(inside[n] & (most < top), Cat(~most, Const(1, 1)), 0), Const(g * len(loads) + n, places)))
    key, place = first_of_most(m, entries)
    return fullest, key != 0, place
