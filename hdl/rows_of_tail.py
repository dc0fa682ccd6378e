"""What the lanes of a tail stand for: one row each (lockstep), or one row slot after the other (loom)."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from hdl.fiber_writer import FiberWriter


def connect_lanes(tail: Any, m: Module, writers: list[FiberWriter], present: Signal, first_pixel: Signal, last_group: Signal,
                  group_done: Signal) -> None:
    """Lane n holds pixel n of the tile; the members of a window are visits."""
    p, walk, neurons, (fibers,) = tail.params, m.submodules.walk, m.submodules.neurons, writers
    m.d.comb += [
        last_group.eq(1), present.eq(walk.present), first_pixel.eq(walk.tile * p.lanes),
        neurons.in_map.eq(walk.in_map), neurons.first_member.eq(walk.first_member),
        neurons.last_member.eq(walk.last_member), neurons.hold.eq(fibers.waiting), tail.word_member.eq(walk.member),
        tail.word_rows.eq(Cat(Const(lane, 8) for lane in range(p.lanes))),
        fibers.present.eq(walk.present), fibers.first_pixel.eq(first_pixel), fibers.put.eq(neurons.put),
    ]


def connect_slots(tail: Any, m: Module, writers: list[FiberWriter], present: Signal, first_pixel: Signal, last_group: Signal,
                  group_done: Signal) -> None:
    """Slot n of all lanes is group n of the rows; groups follow each other within a column."""
    p, layer, walk, neurons = tail.params, tail.layer, m.submodules.walk, m.submodules.neurons
    chosen = Signal(range(max(2, p.rows)))
    m.d.comb += [getattr(walk, name).eq(getattr(tail, name))
                 for name in ("clear", "put", "group", "lanes", "row", "present", "dealt")]
    m.d.comb += [
        tail.taken.eq(walk.taken), last_group.eq(tail.slot + 1 == layer.groups), tail.last_group.eq(last_group),
        walk.pixels.eq(tail.slot), present.eq(walk.here), first_pixel.eq(walk.first_pixel + tail.slot * p.lanes),
        walk.slot.eq(neurons.group), walk.team.eq(neurons.team), neurons.in_map.eq(walk.held),
        neurons.target.eq(walk.target), tail.word_rows.eq(walk.rows),
        chosen.eq(Mux(layer.merge, 0, neurons.group)),
        neurons.hold.eq(Cat(writer.waiting for writer in writers).bit_select(chosen, 1)),
    ]
    with m.If(group_done):
        m.d.sync += tail.slot.eq(Mux(last_group, 0, tail.slot + 1))
    for n, writer in enumerate(writers):
        m.d.comb += [
            writer.present.eq(walk.kept_pixels.word_select(n, p.lanes)), writer.put.eq(neurons.put & (chosen == n)),
            writer.first_pixel.eq(walk.first_pixel + n * p.lanes),
        ]


def connect_writers(tail: Any, m: Module, writers: list[FiberWriter], granted: Signal) -> None:
    """Give the store to the first writer that has a piece while ``granted`` is high."""
    before: Value = Const(0, 1)
    for n, writer in enumerate(writers):
        m.submodules[f"fibers_{n}"] = writer
        first = writer.o.valid & ~before
        before = before | writer.o.valid
        m.d.comb += [writer.layer.eq(tail.layer), writer.base.eq(tail.base), writer.tile.eq(m.submodules.walk.tile),
                     writer.words.eq(m.submodules.neurons.kept), writer.o.ready.eq(tail.store.ready & granted & first)]
        with m.If(granted & first):
            m.d.comb += [tail.store.valid.eq(1), tail.store.payload.eq(writer.o.payload)]
