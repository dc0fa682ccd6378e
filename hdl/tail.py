"""Tail of a layer: step sums, residual, currents, neurons, mask, OR-pool, compression, writing."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from golden.formats import MAX_PASSES, PASS, PLACE_BITS, PLANE_WORD
from hdl.array import column_layout
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.current_store import CurrentStore
from hdl.descriptor import LAYER_LAYOUT, capture, descriptor_bus
from hdl.fiber_writer import FiberWriter, piece_layout
from hdl.neuron_stage import NeuronStage
from hdl.pass_sum import PassSum, operation
from hdl.residual import currents_layout
from hdl.rows_of_tail import connect_lanes, connect_slots, connect_writers
from hdl.slot_walk import SlotWalk
from hdl.tile_rows import row_layout
from hdl.tile_walk import TileWalk

PASS_KEPT = data.StructLayout({field.name: field.width for field in PASS if field.name in ("identity", "planes", "steps")})


class Tail(Block):
    """Finish the outputs of all lanes, column after column.

    Twin of `golden.run.run` from the sums on; spike times (``ttfs``) are one pass. A column takes 2 cycles, one per identity
    pass, and one more than its planes for any other pass. A residual costs a cycle per lane, currents that are stored or read
    out what `hdl.current_store.CurrentStore` takes; a lane leaves as soon as its residual is added. Each further group of rows
    takes one cycle less. OR-pool and mask cost nothing: the neurons run beside the next column, and so does the requantiser,
    which holds it up when it takes fewer cycles than ``shift + 1``; digits take theirs (`hdl.digit.Digit`) in the column.
    Compressed pieces leave one in two cycles; the neurons wait while a piece waits.

    Members
    -------
    layer_start : In(1), a layer starts
    i : In(stream), dots of all lanes
    column : In(stream), `column_layout`
    residual : In(stream), `currents_layout`
    store : Out(stream), `piece_layout`
    word_* : what leaves the neurons, for monitors: one event per column, one word per lane
    slot, last_group, clear, put, group, lanes, row, present, dealt, taken : of `hdl.loom_array.LoomArray` (dataflow loom)
    stall : Out(1), dots wait for the tail
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        slots = range(max(2, p.rows))
        loom = {"slot": Out(slots), "last_group": Out(1), "clear": In(1), "put": In(1), "group": In(slots),
                "lanes": In(p.lanes), "row": In(row_layout(p)), "present": In(p.lanes * p.rows), "dealt": In(1),
                "taken": Out(1)} if p.loom else {}
        super().__init__({
            **loom,
            "descriptor": In(descriptor_bus()), "layer": In(LAYER_LAYOUT), "layer_number": In(16),
            "base": In(p.address_bits), "layer_start": In(1), "idle": Out(1),
            "i": In(stream.Signature(data.ArrayLayout(data.ArrayLayout(signed(p.acc_bits), p.t_max), p.lanes))),
            "column": In(stream.Signature(column_layout(p))),
            "residual": In(stream.Signature(currents_layout(p))),
            "store": Out(stream.Signature(piece_layout(p))),
            "stall": Out(1),
            "word_valid": Out(1), "word_data": Out(p.lanes * p.t_max), "word_lanes": Out(p.lanes),
            "word_layer": Out(16), "word_tile": Out(32), "word_member": Out(16), "word_column": Out(16),
            "word_rows": Out(8 * p.lanes),
        })

    def build(self) -> Module:
        m, p, layer = Module(), self.params, self.layer
        m.submodules.planes = planes = Ram(22, MAX_PASSES * 16)
        m.submodules.walk = walk = SlotWalk(p) if p.loom else TileWalk(p)
        m.submodules.neurons = neurons = NeuronStage(p)
        m.submodules.currents = currents = CurrentStore(p)
        writers = [FiberWriter(p) for _ in range(p.rows)]
        sums = [PassSum(p) for _ in range(p.lanes)]
        m.submodules.passes = passes = Ram(PASS_KEPT.size, MAX_PASSES)
        self._keep_passes(m, planes, passes)
        kept, next_number = data.View(PASS_KEPT, passes.r_data), Signal(range(MAX_PASSES))

        op = operation(p).create()
        number, bit, following, last_pass = Signal(range(MAX_PASSES)), Signal(4), Signal(4), Signal()
        plane, residual, store = planes.r_data, self.residual, self.store
        column, adding, added, last_added = Signal(16), Signal(), Signal(range(p.lanes + 1)), Signal()
        of_fibers, waiting, fibers_valid, fibers_waiting = (
            Signal(name=n) for n in ("of_fibers", "waiting", "fibers_valid", "fibers_waiting"))
        present, first_pixel, last_group, group_done = Signal(p.lanes), Signal(PLACE_BITS), Signal(), Signal()
        empty, last, direct, steps = layer.passes == 0, number + 1 == layer.passes, kept.identity, kept.steps
        if p.attention:
            own = layer.attention
            empty, last, direct, steps = empty & ~own, last | own, direct | own, steps | own.replicate(len(kept.steps))
        m.d.comb += [
            op.bias.eq(self.column.p.bias), op.first.eq((number == 0) & (bit == 0)), op.bit.eq(bit),
            last_pass.eq(last | layer.ttfs if p.ttfs else last), next_number.eq(number),
            passes.r_en.eq(1), passes.r_addr.eq(next_number), following.eq(bit + 1), planes.r_addr.eq(Cat(bit, number)),
            self.stall.eq(self.i.valid & ~self.i.ready), self.idle.eq(walk.idle),
            last_added.eq(residual.valid & residual.ready & residual.p.end),
        ]

        leaves = layer.store_currents | layer.readout

        def summed() -> None:
            m.d.sync += [adding.eq(layer.residual), added.eq(0)]
            m.next = "FIRE"
            with m.If(layer.residual | leaves):
                m.next = "CURRENTS"

        with m.FSM(name="columns"):
            with m.State("COLUMN"):
                m.d.comb += next_number.eq(0)
                m.d.sync += bit.eq(0)
                with m.If(self.column.valid & walk.ready):
                    m.d.comb += op.load.eq(empty)
                    m.next = "PASS"
                    with m.If(empty):
                        summed()
            with m.State("PASS"):
                m.d.comb += planes.r_en.eq(1)
                with m.If(self.i.valid & direct):
                    m.d.comb += [op.identity.eq(1), op.steps.eq(steps), self.i.ready.eq(1), next_number.eq(number + 1)]
                    with m.If(last_pass):
                        summed()
                with m.Elif(self.i.valid):
                    m.next = "PLANES"
            with m.State("PLANES"):
                m.d.comb += [
                    planes.r_en.eq(1), planes.r_addr.eq(Cat(following, number)),
                    op.plane.eq(1), op.steps.eq(plane[:16]), op.shift.eq(plane[16:21]), op.negate.eq(plane[21])]
                m.d.sync += bit.eq(following)
                with m.If(following == kept.planes[:4]):
                    m.d.comb += [self.i.ready.eq(1), next_number.eq(number + 1)]
                    m.d.sync += bit.eq(0)
                    m.next = "PASS"
                    with m.If(last_pass):
                        summed()
            with m.State("CURRENTS"):
                m.d.comb += [residual.ready.eq(adding), currents.go.eq(leaves)]
                with m.If(residual.valid):
                    m.d.sync += added.eq(added + 1)
                with m.If(last_added):
                    m.d.sync += adding.eq(0)
                with m.If(Mux(leaves, currents.done, last_added)):
                    m.next = "FIRE"
            with m.State("FIRE"):
                fired = ~layer.neuron | neurons.ready
                m.d.comb += [neurons.fire.eq(layer.neuron), self.column.ready.eq(fired & last_group)]
                with m.If(fired):
                    m.d.comb += [group_done.eq(1), next_number.eq(0)]
                    m.d.sync += bit.eq(0)
                    m.next = "COLUMN"
                    with m.If(~last_group & (layer.passes != 0)):
                        m.next = "PASS"
                with m.If(self.column.ready):
                    m.d.sync += column.eq(column + 1)
                    with m.If(self.column.p.tile_end):
                        m.d.sync += column.eq(0)
                        m.next = "DRAIN"
            with m.State("DRAIN"), m.If(neurons.idle & ~fibers_waiting):
                m.d.comb += walk.next.eq(1)
                m.next = "COLUMN"

        (connect_slots if p.loom else connect_lanes)(self, m, writers, present, first_pixel, last_group, group_done)
        for n, unit in enumerate(sums):
            m.submodules[f"sum_{n}"] = unit
            m.d.comb += [
                unit.dots.eq(self.i.payload[n]),
                unit.add.eq(residual.valid & residual.ready & (residual.p.lane == n)), unit.currents.eq(residual.p.values),
                neurons.sums[n].eq(unit.sums), currents.sums[n].eq(unit.sums),
                *(getattr(unit.op, name).eq(getattr(op, name)) for name in op.signature.members),
            ]
        m.d.comb += [
            walk.layer.eq(layer), walk.layer_start.eq(self.layer_start),
            currents.layer.eq(layer), currents.base.eq(self.base), currents.first_pixel.eq(first_pixel),
            currents.column.eq(column), currents.present.eq(present), currents.settled.eq(Mux(adding, added, p.lanes)),
            neurons.layer.eq(layer), neurons.threshold.eq(self.column.p.threshold),
            self.word_valid.eq(neurons.word_valid), self.word_data.eq(neurons.words), self.word_lanes.eq(neurons.in_map),
            self.word_layer.eq(self.layer_number), self.word_tile.eq(walk.tile), self.word_column.eq(neurons.column),
            fibers_valid.eq(Cat(writer.o.valid for writer in writers).any()),
            fibers_waiting.eq(Cat(writer.waiting for writer in writers).any()), of_fibers.eq(fibers_valid & ~waiting),
        ]
        m.d.sync += [number.eq(next_number), waiting.eq(currents.o.valid & ~of_fibers & ~store.ready)]
        connect_writers(self, m, writers, of_fibers)
        with m.If(~of_fibers):
            m.d.comb += [store.valid.eq(currents.o.valid), store.payload.eq(currents.o.payload),
                         currents.o.ready.eq(store.ready)]
        return m

    def _keep_passes(self, m: Module, planes: Ram, passes: Ram) -> None:
        bus, fields, record = self.descriptor, Signal(PASS_KEPT), (self.descriptor.record - 1)[:5]
        m.d.comb += [
            planes.w_en.eq(bus.valid & (bus.record != 0) & (bus.word >= PLANE_WORD)),
            planes.w_addr.eq(Cat(bus.word[:4], record)), planes.w_data.eq(bus.data),
            passes.w_en.eq(bus.valid & (bus.record != 0) & (bus.word == PLANE_WORD)),
            passes.w_addr.eq(record), passes.w_data.eq(fields),
        ]
        with m.If(bus.valid):
            capture(m, tuple(field for field in PASS if field.name in PASS_KEPT.members), fields, word=bus.word,
                    value=bus.data)
