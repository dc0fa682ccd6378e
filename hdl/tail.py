"""Tail of a layer: step sums, residual, currents, neurons, mask, OR-pool, compression, writing."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from golden.formats import CURRENT_BYTES, PLANE_WORD
from hdl.array import column_layout
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.compressor import Compressor
from hdl.descriptor import LAYER_LAYOUT, MAX_PASSES, descriptor_bus
from hdl.or_pool import OrPool
from hdl.parallel_lif import ParallelLif
from hdl.pass_sum import PassSum, operation
from hdl.residual import current_layout


def piece_bytes(p: Arch) -> int:
    """Return the most bytes of one write."""
    return max(p.chunk_bits // 8, CURRENT_BYTES)


class Tail(Block):
    """Finish the outputs of all lanes, column after column.

    Twin of `golden.run.run` from the sums on. A column takes one cycle per identity pass, one more than its planes
    for any other pass, the residual's currents, and one cycle to start the neurons, which run beside the next
    column. Stored currents and read-outs leave one step a cycle. Compressed pieces leave one in two cycles; the
    neurons wait while a piece waits.

    Members
    -------
    begin : In(1), a layer starts
    i : In(stream), dots of all lanes
    column : In(stream), `column_layout`
    residual_* : the residual path's stream
    store : Out(stream), {address, data, bytes}
    word_* : what leaves the neurons, for monitors: one event per column, one word per lane
    stall : Out(1), dots wait for the tail
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        super().__init__({
            "descriptor": In(descriptor_bus()), "layer": In(LAYER_LAYOUT), "layer_number": In(16),
            "base": In(p.address_bits), "begin": In(1), "idle": Out(1),
            "i": In(stream.Signature(data.ArrayLayout(data.ArrayLayout(signed(p.acc_bits), p.t_max), p.lanes))),
            "column": In(stream.Signature(column_layout(p))),
            "residual": In(stream.Signature(current_layout(p))),
            "store": Out(stream.Signature(data.StructLayout({
                "address": p.address_bits, "data": 8 * piece_bytes(p), "bytes": range(piece_bytes(p) + 1)}))),
            "stall": Out(1),
            "word_valid": Out(1), "word_data": Out(p.lanes * p.t_max), "word_lanes": Out(p.lanes),
            "word_layer": Out(16), "word_tile": Out(32), "word_member": Out(16), "word_column": Out(16),
        })

    def build(self) -> Module:
        m, p, layer, bus = Module(), self.params, self.layer, self.descriptor
        lanes = p.lanes
        m.submodules.planes = planes = Ram(22, MAX_PASSES * 16)
        identity = Signal(MAX_PASSES)
        plane_count = Array(Signal(8, name=f"planes_{i}") for i in range(MAX_PASSES))
        pass_steps = Array(Signal(16, name=f"pass_steps_{i}") for i in range(MAX_PASSES))
        record = (bus.record - 1)[:5]
        m.d.comb += [
            planes.w_en.eq(bus.valid & (bus.record != 0) & (bus.word >= PLANE_WORD)),
            planes.w_addr.eq(Cat(bus.word[:4], record)), planes.w_data.eq(bus.data),
        ]
        with m.If(bus.valid & (bus.record != 0)):
            with m.Switch(bus.word):
                with m.Case(6):
                    m.d.sync += identity.bit_select(record, 1).eq(bus.data[4])
                with m.Case(7):
                    m.d.sync += plane_count[record].eq(bus.data[8:16])
                with m.Case(8):
                    m.d.sync += pass_steps[record].eq(bus.data[:16])

        present, inside = Signal(lanes), Signal(lanes)
        y0, x0, y, x = (Signal(16, name=n) for n in ("y0", "x0", "y", "x"))
        at_y, at_x = Signal(signed(26)), Signal(signed(26))
        member_y, member_x, tile, left = Signal(8), Signal(8), Signal(32), Signal(32)
        lane, last_lane, last_member = Signal(range(max(2, lanes))), Signal(), Signal()
        m.d.comb += [
            at_y.eq((y * layer.pool_stride).as_signed() - layer.pool_padding + member_y),
            at_x.eq((x * layer.pool_stride).as_signed() - layer.pool_padding + member_x),
            last_lane.eq(lane == lanes - 1),
            last_member.eq(~layer.or_pool | ((member_y == layer.pool_kernel - 1) & (member_x == layer.pool_kernel - 1))),
        ]
        here = Signal()
        m.d.comb += here.eq(
            (y < layer.out_height) & (~layer.or_pool | ((at_y >= 0) & (at_y < Cat(layer.height, Const(0, 1)).as_signed())
            & (at_x >= 0) & (at_x < Cat(layer.width, Const(0, 1)).as_signed()))))

        sums, lifs, pools, packers = [], [], [], []
        for n in range(lanes):
            m.submodules[f"sum_{n}"] = unit = PassSum(p)
            sums.append(unit)
            m.submodules[f"lif_{n}"] = lif = ParallelLif(p.lif)
            lifs.append(lif)
            m.submodules[f"pool_{n}"] = pool = OrPool(p.pool_channels, p.t_max)
            pools.append(pool)
            m.submodules[f"compressor_{n}"] = packer = Compressor(p)
            packers.append(packer)

        op = operation(p).create()
        number, bit = Signal(range(MAX_PASSES)), Signal(4)
        plane = planes.r_data
        last_pass, fire = Signal(), Signal()
        in_flight = Signal(4)
        emitted, drained, put, waiting, sending = (
            Signal(name=n) for n in ("emitted", "drained", "put", "waiting", "sending"))
        m.d.comb += [
            op.bias.eq(self.column.p.bias), op.first.eq(number == 0), op.bit.eq(bit),
            last_pass.eq(number == layer.passes - 1),
            planes.r_addr.eq(Cat(bit, number)),
            self.stall.eq(self.i.valid & ~self.i.ready),
        ]
        lane_t, total, current = Signal(range(max(2, p.t_max))), Signal(signed(32)), Signal(signed(32))
        lane_sums = Array(unit.sums.as_value() for unit in sums)
        pixel = Signal(32)
        last_t = Signal()
        current_send = Signal()
        m.d.comb += [
            pixel.eq(tile * lanes + lane),
            current.eq(lane_sums[lane].word_select(lane_t, p.stream_bits).as_signed()),
            last_t.eq(lane_t == layer.steps - 1),
        ]
        current_address, current_data, current_wanted = Signal(p.address_bits), Signal(32), Signal()
        m.d.comb += [
            current_wanted.eq(layer.store_currents | last_t),
            current_data.eq(Mux(layer.readout, total + current, current)),
        ]
        column = Signal(16)
        with m.FSM(name="columns"):
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(~self.begin & (left == 0))
                with m.If((left != 0) & ~self.begin):
                    m.d.sync += [lane.eq(0), y.eq(y0), x.eq(x0)]
                    m.next = "SETUP"
            with m.State("SETUP"):
                m.d.sync += [present.bit_select(lane, 1).eq(y < layer.out_height),
                             inside.bit_select(lane, 1).eq(here), lane.eq(lane + 1)]
                with m.If(x == layer.out_width - 1):
                    m.d.sync += [x.eq(0), y.eq(y + 1)]
                with m.Else():
                    m.d.sync += x.eq(x + 1)
                with m.If(last_lane):
                    m.next = "COLUMN"
            with m.State("COLUMN"):
                m.d.sync += [number.eq(0), bit.eq(0)]
                with m.If(self.column.valid):
                    with m.If(layer.passes == 0):
                        m.d.comb += op.load.eq(1)
                        m.next = "RESIDUAL"
                    with m.Else():
                        m.next = "PASS"
            with m.State("PASS"):
                m.d.comb += planes.r_en.eq(1)
                with m.If(self.i.valid):
                    with m.If(identity.bit_select(number, 1)):
                        m.d.comb += [op.identity.eq(1), op.steps.eq(pass_steps[number]), self.i.ready.eq(1)]
                        m.d.sync += number.eq(number + 1)
                        with m.If(last_pass):
                            m.next = "RESIDUAL"
                    with m.Else():
                        m.d.sync += bit.eq(0)
                        m.next = "PLANES"
            with m.State("PLANES"):
                following = Signal(4)
                m.d.comb += [
                    following.eq(bit + 1), planes.r_en.eq(1), planes.r_addr.eq(Cat(following, number)),
                    op.plane.eq(1), op.first.eq((number == 0) & (bit == 0)),
                    op.steps.eq(plane[:16]), op.shift.eq(plane[16:21]), op.negate.eq(plane[21]),
                ]
                m.d.sync += bit.eq(following)
                with m.If(bit == plane_count[number] - 1):
                    m.d.comb += self.i.ready.eq(1)
                    m.d.sync += [number.eq(number + 1), bit.eq(0)]
                    m.next = "PASS"
                    with m.If(last_pass):
                        m.next = "RESIDUAL"
            with m.State("RESIDUAL"):
                m.d.comb += self.residual.ready.eq(layer.residual)
                with m.If(~layer.residual | (self.residual.valid & self.residual.p.end)):
                    m.d.sync += [lane.eq(0), lane_t.eq(0), total.eq(0)]
                    m.next = "CURRENTS"
            with m.State("CURRENTS"):
                send = Signal()
                m.d.comb += send.eq(present.bit_select(lane, 1))
                with m.If(~(layer.store_currents | layer.readout)):
                    m.next = "FIRE"
                with m.Else():
                    m.d.comb += current_send.eq(send & current_wanted)
                    with m.If(~current_send | (self.store.ready & ~sending)):
                        m.d.sync += [lane_t.eq(lane_t + 1), total.eq(total + current)]
                        with m.If(last_t | ~send):
                            m.d.sync += [lane_t.eq(0), total.eq(0), lane.eq(lane + 1)]
                            with m.If(last_lane):
                                m.next = "FIRE"
            with m.State("FIRE"):
                m.d.comb += [fire.eq(layer.neuron), self.column.ready.eq(~layer.neuron | lifs[0].i.ready)]
                with m.If(self.column.ready):
                    m.d.sync += column.eq(column + 1)
                    m.next = "COLUMN"
                    with m.If(self.column.p.tile_end):
                        m.d.sync += column.eq(0)
                        m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(drained):
                    m.d.sync += [lane.eq(0), member_x.eq(member_x + 1)]
                    with m.If(member_x == layer.pool_kernel - 1):
                        m.d.sync += [member_x.eq(0), member_y.eq(member_y + 1)]
                    with m.If(last_member):
                        m.d.sync += [member_x.eq(0), member_y.eq(0), tile.eq(tile + 1), left.eq(left - 1), y0.eq(y), x0.eq(x)]
                    m.next = "IDLE"
        with m.If(self.begin):
            m.d.sync += [tile.eq(0), left.eq(layer.row_tiles), y0.eq(0), x0.eq(0), member_y.eq(0), member_x.eq(0)]
        m.d.comb += current_address.eq(
            self.base + layer.currents + pixel * layer.current_stride
            + Mux(layer.readout, column * CURRENT_BYTES, (column * layer.steps + lane_t) * CURRENT_BYTES))

        residual = self.residual
        for n, unit in enumerate(sums):
            m.d.comb += [
                unit.dots.eq(self.i.payload[n]),
                unit.current_valid.eq(residual.valid & residual.ready & residual.p.keep & (residual.p.lane == n)),
                unit.current_max.eq(layer.max_pool), unit.current_first.eq(residual.p.first),
                unit.current_step.eq(residual.p.step), unit.current.eq(residual.p.value),
            ]
            m.d.comb += [getattr(unit.op, name).eq(getattr(op, name)) for name in op.signature.members]
        words = Signal(lanes * p.t_max)
        kept = Array(Signal(p.t_max, name=f"kept_{n}") for n in range(lanes))
        ready = Signal()
        emit_column, emit_x, emit_y, put_column = Signal(16), Signal(8), Signal(8), Signal(16)
        ending, fired = Signal(), Signal()
        m.d.comb += [
            fired.eq(fire & lifs[0].i.ready),
            emitted.eq(lifs[0].o.valid & ready),
            self.word_valid.eq(emitted), self.word_data.eq(words), self.word_lanes.eq(inside),
            self.word_layer.eq(self.layer_number), self.word_tile.eq(tile),
            self.word_member.eq(member_y * layer.pool_kernel + member_x), self.word_column.eq(emit_column),
        ]
        m.d.sync += in_flight.eq(in_flight + fired - Mux(layer.or_pool & ~last_member, emitted, put))
        with m.If(emitted):
            m.d.sync += emit_column.eq(Mux(emit_column == layer.columns - 1, 0, emit_column + 1))
        first_member = Signal()
        m.d.comb += first_member.eq((member_x == 0) & (member_y == 0))
        for n in range(lanes):
            lif, pool, packer, word = lifs[n], pools[n], packers[n], words.word_select(n, p.t_max)
            m.d.comb += [
                lif.i.valid.eq(fire),
                lif.i.p.x.eq(sums[n].sums), lif.i.p.threshold.eq(self.column.p.threshold),
                lif.i.p.leak_shift.eq(layer.leak_shift), lif.i.p.decay_input.eq(layer.decay_input),
                lif.i.p.strict.eq(layer.strict), lif.i.p.reset.eq(layer.reset), lif.i.p.steps.eq(layer.steps),
                word.eq(lif.o.p.word), lif.o.ready.eq(emitted),
                kept[n].eq(Mux(inside[n] & (sum(word[b] for b in range(p.t_max)) >= layer.min_spikes), word, 0)),
                pool.i.p.word.eq(kept[n]), pool.i.p.channel.eq(emit_column),
                pool.i.p.first.eq(first_member), pool.i.p.last.eq(last_member),
                pool.i.valid.eq(lif.o.valid & layer.or_pool & ~waiting & ~ending),
                pool.o.ready.eq(put & layer.or_pool),
                packer.put.eq(put), packer.word.eq(Mux(layer.or_pool, pool.o.p.word, kept[n])),
                packer.end.eq(ending), packer.word_log2.eq(layer.word_log2),
            ]
        m.d.comb += [
            ready.eq(~waiting & ~ending & (~layer.or_pool | pools[0].i.ready)),
            put.eq(~waiting & ~ending & Mux(layer.or_pool, pools[0].o.valid, lifs[0].o.valid)),
        ]
        with m.If(put):
            m.d.sync += put_column.eq(put_column + 1)
            with m.If(put_column == layer.columns - 1):
                m.d.sync += put_column.eq(0)
        last_put = Signal()
        m.d.comb += last_put.eq(put & (put_column == layer.columns - 1))
        held_end = Signal()
        with m.If(last_put):
            m.d.sync += held_end.eq(1)
        m.d.comb += ending.eq(held_end & ~waiting)
        with m.If(ending):
            m.d.sync += held_end.eq(0)

        mask_waits, value_waits = Signal(lanes), Signal(lanes)
        m.d.comb += [
            mask_waits.eq(Cat(k.mask_valid for k in packers)),
            value_waits.eq(Cat(k.value_valid for k in packers)),
            waiting.eq((mask_waits | value_waits).any()),
            drained.eq((in_flight == 0) & ~held_end & ~waiting),
        ]
        chosen, chosen_mask = Signal(range(max(2, lanes))), Signal()
        store = self.store
        out_pixel = Signal(32)
        masks, values = Array(k.mask for k in packers), Array(k.value for k in packers)
        mask_sizes, value_sizes = Array(k.mask_bytes for k in packers), Array(k.value_bytes for k in packers)
        mask_numbers, value_numbers = Array(k.mask_index for k in packers), Array(k.value_index for k in packers)
        with m.If(~sending & waiting):
            for n in reversed(range(lanes)):
                with m.If(value_waits[n]):
                    m.d.sync += [chosen.eq(n), chosen_mask.eq(0), sending.eq(1)]
            for n in reversed(range(lanes)):
                with m.If(mask_waits[n]):
                    m.d.sync += [chosen.eq(n), chosen_mask.eq(1), sending.eq(1)]
        m.d.comb += out_pixel.eq(tile * lanes + chosen)
        done = Signal()
        with m.If(sending):
            wanted = Signal()
            m.d.comb += [
                wanted.eq(present.bit_select(chosen, 1)),
                store.valid.eq(wanted),
                store.p.data.eq(Mux(chosen_mask, masks[chosen], values[chosen])),
                store.p.bytes.eq(Mux(chosen_mask, mask_sizes[chosen], value_sizes[chosen])),
                store.p.address.eq(self.base + Mux(
                    chosen_mask,
                    layer.out_masks + out_pixel * layer.out_mask_stride + mask_numbers[chosen] * (p.chunk_bits // 8),
                    layer.out_values + out_pixel * layer.out_slot_stride + value_numbers[chosen] * (p.chunk_bits // 8))),
                done.eq(~wanted | store.ready),
            ]
            with m.If(done):
                m.d.sync += sending.eq(0)
        with m.Else():
            m.d.comb += [store.valid.eq(current_send), store.p.data.eq(current_data),
                         store.p.bytes.eq(CURRENT_BYTES), store.p.address.eq(current_address)]
        for n, packer in enumerate(packers):
            m.d.comb += [packer.mask_ack.eq(done & chosen_mask & (chosen == n)),
                         packer.value_ack.eq(done & ~chosen_mask & (chosen == n))]
        return m
