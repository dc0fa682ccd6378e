"""The accelerator without its register block: sequencer, loaders, array, tail, AXI4 ports."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out, connect

from golden.arch import WRITES_OUTSTANDING, Arch
from golden.formats import PLACE_BITS, STATS
from hdl.array import LockstepArray
from hdl.attention import Attention
from hdl.block import Block
from hdl.bus.fetch import ReadPort
from hdl.bus.store import Store
from hdl.fiber_writer import piece_bytes
from hdl.loom_array import LoomArray
from hdl.residual import Residual
from hdl.row_loader import RowLoader
from hdl.sequencer import Sequencer
from hdl.tail import Tail
from hdl.weight_buffer import WeightBuffer

COUNTERS = STATS[:-1]

Port = tuple[stream.Interface, stream.Interface]


class Core(Block):
    """Run programs from memory.

    Layers run one after the other. Within a layer three walks run beside each other and meet at the array: rows
    (one tile ahead), weights (one tile ahead) and the residual's currents.

    Members
    -------
    start, busy, done, error, code, layer_number, base, program_offset, input_offset, stats_offset : as in `Sequencer`
    m_axi_* : AXI4 master
    counters : 64 bits each, of the run since ``start``, in the order of `COUNTERS`
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        a, d = p.address_bits, p.data_bits
        super().__init__({
            "start": In(1), "busy": Out(1), "done": Out(1), "error": Out(1), "code": Out(8), "layer_number": Out(16),
            "base": In(64), "program_offset": In(32), "input_offset": In(32), "stats_offset": In(32),
            "araddr": Out(a), "arlen": Out(8), "arvalid": Out(1), "arready": In(1),
            "rdata": In(d), "rresp": In(2), "rlast": In(1), "rvalid": In(1), "rready": Out(1),
            "awaddr": Out(a), "awvalid": Out(1), "awready": In(1),
            "wdata": Out(d), "wstrb": Out(d // 8), "wvalid": Out(1), "wready": In(1),
            "bresp": In(2), "bvalid": In(1), "bready": Out(1),
            **{f"count_{name}": Out(64) for name in COUNTERS},
        })

    def build(self) -> Module:
        m, p = Module(), self.params
        m.submodules.sequencer = sequencer = Sequencer(p)
        m.submodules.array = array = LoomArray(p) if p.loom else LockstepArray(p)
        m.submodules.residual = residual = Residual(p)
        m.submodules.tail = tail = Tail(p)
        count = (6 if p.loom else 5) + (2 if p.attention else 0)
        m.submodules.read_port = read_port = ReadPort(count, p.data_bits, p.address_bits, p.outstanding)
        m.submodules.store = store = Store(p.data_bits, p.address_bits, piece_bytes(p), WRITES_OUTSTANDING)
        for block in (array, residual, tail, read_port, store):
            block.also_reset = sequencer.abort
        values, masks, *weights = (self._loom if p.loom else self._lockstep)(m)
        heads = self._attention(m) if p.attention else ()
        for n, (ar, r) in enumerate((
                (sequencer.ar, sequencer.r), *weights, values, (residual.ar, residual.r), masks, *heads)):
            connect(m, ar, getattr(read_port, f"ar{n}"))
            connect(m, getattr(read_port, f"r{n}"), r)
        for name in ("araddr", "arlen", "arvalid", "rready"):
            m.d.comb += getattr(self, name).eq(getattr(read_port, name))
        for name in ("arready", "rdata", "rresp", "rlast", "rvalid"):
            m.d.comb += getattr(read_port, name).eq(getattr(self, name))
        for name in ("awaddr", "awvalid", "wdata", "wstrb", "wvalid", "bready"):
            m.d.comb += getattr(self, name).eq(getattr(store, name))
        for name in ("awready", "wready", "bresp", "bvalid"):
            m.d.comb += getattr(store, name).eq(getattr(self, name))

        layer = sequencer.layer
        members, visits = Signal(16), Signal(32)
        m.d.comb += [
            members.eq(Mux(layer.or_pool & (not p.loom), layer.pool_kernel * layer.pool_kernel, 1)),
            visits.eq(layer.row_tiles[:PLACE_BITS] * members),
            sequencer.progress.eq(read_port.beats | store.beats | array.chunk_done | array.column.valid & array.column.ready),
            sequencer.start.eq(self.start), sequencer.base.eq(self.base),
            sequencer.program_offset.eq(self.program_offset), sequencer.stats_offset.eq(self.stats_offset),
            self.busy.eq(sequencer.busy), self.done.eq(sequencer.done), self.error.eq(sequencer.error),
            self.code.eq(sequencer.code), self.layer_number.eq(sequencer.layer_number),
            sequencer.layer_idle.eq(array.idle & tail.idle), sequencer.store_idle.eq(store.idle),
            sequencer.read_error.eq(read_port.error), sequencer.write_error.eq(store.error),
            sequencer.read_idle.eq(read_port.idle), read_port.halt.eq(sequencer.halt),
            store.halt.eq(sequencer.halt), store.flush.eq(sequencer.flush),
        ]
        for block in (array, residual, tail):
            m.d.comb += [block.layer.eq(layer), block.layer_start.eq(sequencer.layer_start)]
        for block in (residual, tail):
            m.d.comb += block.base.eq(self.base)
        connect(m, sequencer.descriptor, tail.descriptor)
        m.d.comb += [array.tiles.eq(visits), tail.layer_number.eq(sequencer.layer_number)]
        matches = array.match_count
        if p.attention:
            matches = matches + m.submodules.attention.match_count
        else:
            connect(m, array.o, tail.i)
        connect(m, array.column, tail.column)
        connect(m, residual.o, tail.residual)
        with m.If(sequencer.store.valid):
            m.d.comb += [store.i.valid.eq(1), store.i.p.address.eq(sequencer.store.p.address),
                         store.i.p.data.eq(sequencer.store.p.data), store.i.p.bytes.eq(4),
                         sequencer.store.ready.eq(store.i.ready)]
        with m.Else():
            m.d.comb += [store.i.valid.eq(tail.store.valid), store.i.payload.eq(tail.store.payload),
                         tail.store.ready.eq(store.i.ready)]

        events = {
            "cycles": sequencer.busy, "matches": matches, "corrections": array.corrections,
            "chunks": array.chunk_count if p.loom else array.chunk_done,
            "stall_fifo": array.stall_fifo, "stall_weights": array.stall_weights,
            "stall_rows": array.stall_rows, "stall_tail": tail.stall,
            "bytes_read": Mux(read_port.beats, p.data_bits // 8, 0),
            "bytes_written": Mux(store.beats, p.data_bits // 8, 0),
        }
        for n, name in enumerate(COUNTERS):
            counter = getattr(self, f"count_{name}")
            with m.If(self.start & ~sequencer.busy):
                m.d.sync += counter.eq(0)
            with m.Else():
                m.d.sync += counter.eq(counter + events[name])
            m.d.comb += sequencer.stats[n].eq(counter)
        m.d.comb += sequencer.stats[len(COUNTERS)].eq(sequencer.layer_number)
        return m

    def _attention(self, m: Module) -> tuple[Port, Port]:
        """Add the attention unit, whose sums the tail takes in place of the array's; return its ports of values and masks."""
        sequencer, array, tail = m.submodules.sequencer, m.submodules.array, m.submodules.tail
        m.submodules.attention = unit = Attention(self.params)
        unit.also_reset = sequencer.abort
        m.d.comb += [unit.layer.eq(sequencer.layer), unit.layer_start.eq(sequencer.layer_start), unit.base.eq(self.base)]
        with m.If(sequencer.layer.attention):
            m.d.comb += [tail.i.valid.eq(unit.o.valid), tail.i.payload.eq(unit.o.payload), unit.o.ready.eq(tail.i.ready)]
        with m.Else():
            m.d.comb += [tail.i.valid.eq(array.o.valid), tail.i.payload.eq(array.o.payload), array.o.ready.eq(tail.i.ready)]
        return (unit.value_ar, unit.value_r), (unit.mask_ar, unit.mask_r)

    def _lockstep(self, m: Module) -> list[Port]:
        """Add the loaders of rows and weights; return the memory ports of row values, row masks and weights."""
        p, sequencer, array = self.params, m.submodules.sequencer, m.submodules.array
        m.submodules.rows = rows = RowLoader(p)
        m.submodules.weights = weights = WeightBuffer(p)
        for block in (rows, weights):
            block.also_reset = sequencer.abort
            m.d.comb += [block.layer.eq(sequencer.layer), block.layer_start.eq(sequencer.layer_start), block.base.eq(self.base)]
        connect(m, sequencer.descriptor, rows.descriptor)
        m.d.comb += [
            rows.input_offset.eq(self.input_offset), rows.tiles.eq(array.tiles), weights.rounds.eq(array.tiles),
            array.row_full.eq(rows.full), rows.row_release.eq(array.row_release), rows.lanes_idle.eq(array.lanes_idle),
            array.fill_half.eq(rows.half), sequencer.tile_error.eq(weights.error),
            array.weight_full.eq(weights.full), weights.open.eq(array.weight_open),
            weights.close.eq(array.weight_close), array.columns.eq(weights.columns),
        ]
        for name in ("chunk_en", "chunk", "chunk_bytes", "chunk_last", "lane_mask", "lane_mask_valid", "lane_data",
                     "lane_bits", "lane_flush", "lane_value_valid"):
            m.d.comb += getattr(array, name).eq(getattr(rows, name))
        m.d.comb += rows.lane_mask_ready.eq(array.lane_mask_ready)
        for name in ("param", "mask", "value"):
            m.d.comb += [
                getattr(array, f"{name}_fill").eq(getattr(weights, f"{name}_fill")),
                getattr(array, f"{name}_window").eq(getattr(weights, f"{name}_window")),
                getattr(weights, f"{name}_take").eq(getattr(array, f"{name}_take"))]
        m.d.comb += array.value_head.eq(weights.value_head)
        return [(rows.value_ar, rows.value_r), (rows.mask_ar, rows.mask_r), (weights.ar, weights.r)]

    def _loom(self, m: Module) -> list[Port]:
        """Connect array and tail; return the memory ports of pixel values, pixel masks, even columns and odd columns."""
        sequencer, array, tail = m.submodules.sequencer, m.submodules.array, m.submodules.tail
        connect(m, sequencer.descriptor, array.descriptor)
        m.d.comb += [array.base.eq(self.base), array.input_offset.eq(self.input_offset), array.taken.eq(tail.taken),
                     array.slot.eq(tail.slot), array.last_group.eq(tail.last_group)]
        m.d.comb += [getattr(tail, name).eq(getattr(array, name))
                     for name in ("clear", "put", "group", "lanes", "row", "present", "dealt")]
        return [(getattr(array, f"{name}_ar"), getattr(array, f"{name}_r")) for name in ("value", "mask", "even", "odd")]
