"""What follows the sums of a vector: bias, pool, neurons or scale, and words for the activation memory."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.bus.ram import Ram
from hdl.imc.lane import Lane
from hdl.imc.layer import layer_layout, vector_layout
from hdl.imc.legal import holds, holds_signed
from hdl.imc.membrane import Membrane
from hdl.imc.pool import Pool, PoolMode
from hdl.imc.row_factor import FACTOR_BITS, RowFactor
from hdl.imc.scale import Scale

SCALE_LAYOUT = data.StructLayout({"mult": 16, "shift": 5})


class Post(Block):
    """Take the sums of a vector's channels from all lanes, and write what the layer makes of them.

    Twin of `golden.imc.post.post`. A sum a cycle, whichever lane has one, or in the order of channels where these share
    membranes; a vector that ends a window then writes a word a cycle. With ``once`` a sum that becomes spikes or is read out
    stays for ``steps`` cycles, one for each step. The next vector begins when the last one is written. A vector takes 3
    cycles beside those, 7 when it is read out, 9 when neurons step, 11 when it is scaled, 13 where the build has tokens, up
    to the cycle of ``released``.

    Members
    -------
    layer : In; i : In(stream), `hdl.imc.layer.vector_layout`, its vectors, taken when they are over; both stand meanwhile
    factor : In, of token ``i.p.window``, for a layer with ``factor``
    sums : In(stream) [lanes], `Lane.o_layout`; none of the next vector before ``released``
    parameters : In, {valid, second, channel, number}: the host writes the bias of a channel, or (second) its threshold, or
        ``mult`` and ``shift`` in one (`SCALE_LAYOUT`)
    write, address, word : Out, to the activation memory
    readout : Out(stream), {channel, d}, sums over the steps
    ended : In(1), no lane has anything more of the vector; released : Out(1), the vector is over
    unfit : Out(1), the second word of a channel is none of those: a threshold above ``membrane_bits``, a factor with more bits
    steps : Out(1), a neuron steps, of channel ``stepped`` of the vector with key ``stepped_key``, in step ``stepped_step``;
        spikes : Out(1), it fires

    Source: imc 10, B7 and B8; DESIGN 4, tail.
    """

    i: stream.Interface
    sums: list[stream.Interface]
    readout: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "layer": In(layer_layout()), "i": In(stream.Signature(vector_layout(p))), "factor": In(FACTOR_BITS),
            "sums": In(stream.Signature(Lane.o_layout(p))).array(p.tiles // p.fan_in),
            "parameters": In(data.StructLayout({"valid": 1, "second": 1, "channel": range(max(2, p.channels)), "number": 32})),
            "write": Out(1), "address": Out(range(p.map_words)), "word": Out(p.rows),
            "readout": Out(stream.Signature(Lane.o_layout(p))), "ended": In(1), "released": Out(1), "steps": Out(1),
            "spikes": Out(1), "stepped": Out(range(max(2, p.channels))), "stepped_key": Out(24), "stepped_step": Out(4),
            "unfit": Out(1),
        })

    def build(self) -> Module:
        m, p, layer, i = Module(), self.params, self.layer, self.i
        tag_bits = len(self.readout.p.channel)
        m.submodules.pool = pool = Pool(p)
        self.turn, self.turns, self.last_turn = Signal(range(max(2, p.input_bits))), Signal(5), Signal()
        m.submodules.membrane = membrane = Membrane(p, tag_bits + len(self.turn))
        m.submodules.scale = scale = Scale(p, tag_bits)
        fed, came, wanted = Signal(13), Signal(13), Signal(13)
        self.group_base = Signal(13)
        neurons, pooled, emits, clear, takes = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            self.turns.eq(Mux(layer.once, layer.steps, 1)), self.last_turn.eq(self.turn + 1 == self.turns),
            neurons.eq(~layer.readout & ~layer.scale), pooled.eq(layer.pool_mode != PoolMode.NONE),
            emits.eq(Mux(layer.readout, i.p.ends, ~pooled | i.p.last)), wanted.eq(Mux(emits, layer.channels, 0)),
            pool.settings.mode.eq(Mux(layer.readout, PoolMode.SUM, layer.pool_mode)),
            membrane.settings.leak_shift.eq(layer.leak_shift), membrane.settings.decay_input.eq(layer.decay_input),
            membrane.settings.strict.eq(layer.strict), membrane.settings.reset.eq(layer.reset),
            scale.settings.bits.eq(layer.word_bits), scale.settings.is_signed.eq(layer.word_signed), scale.i.p.bias.eq(0),
        ]
        self._biased(m, pool, fed, takes)
        arrives = self._second(m, pool, membrane, scale, neurons)
        group, plane = Signal(9), Signal(range(p.word_bits + 1))
        with m.FSM():
            with m.State("BEGIN"):
                m.d.sync += [fed.eq(0), came.eq(0), group.eq(0), plane.eq(0), self.group_base.eq(0)]
                with m.If(i.valid):
                    m.d.comb += clear.eq(i.p.first)
                    m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += takes.eq(fed != layer.channels)
                m.d.sync += came.eq(came + arrives)
                with m.If((fed == layer.channels) & (came == wanted)):
                    m.next = "OVER"
                    with m.If(i.p.last & emits & ~layer.readout):
                        m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += self.write.eq(1)
                m.d.sync += group.eq(group + 1)
                with m.If(group + 1 == layer.out_groups):
                    m.d.sync += [group.eq(0), plane.eq(plane + 1)]
                    with m.If(plane + 1 == Mux(layer.scale, layer.word_bits, self.turns)):
                        m.next = "OVER"
            with m.State("OVER"):
                m.d.comb += [self.released.eq(self.ended), i.ready.eq(self.ended)]
                with m.If(self.ended):
                    m.next = "BEGIN"
        first_plane = Mux(neurons, i.p.step, Mux(layer.per_step, i.p.step * layer.word_bits, 0))
        m.d.comb += self.address.eq(
            layer.out_base + (first_plane + plane) * layer.out_plane + i.p.window * layer.out_groups + group)
        self._collect(m, membrane, scale, clear, group, plane)
        return m

    def _biased(self, m: Module, pool: Pool, fed: Signal, takes: Signal) -> None:
        """Take the sums of the lanes one by one while ``takes``, add the bias of their channel, hand them to the pool.

        What is read out goes there once for each of its steps.
        """
        p, layer, i = self.params, self.layer, self.i
        m.submodules.biases = biases = Ram(p.stream_bits, max(2, p.channels))
        held, full, move, taken = Signal(Lane.o_layout(p)), Signal(), Signal(), Signal()
        any_lane, open_ = Signal(), Signal()
        m.d.comb += [
            move.eq(~full | (pool.i.ready & (self.last_turn | ~layer.readout))),
            open_.eq(takes & move), taken.eq(any_lane & open_),
            biases.r_en.eq(taken), biases.w_en.eq(self.parameters.valid & ~self.parameters.second),
            biases.w_addr.eq(self.parameters.channel), biases.w_data.eq(self.parameters.number),
            pool.i.valid.eq(full), pool.i.p.channel.eq(held.channel), pool.i.p.d.eq(held.d + biases.r_data.as_signed()),
            pool.i.p.first.eq(Mux(layer.readout, i.p.starts & (self.turn == 0), i.p.first)),
            pool.i.p.last.eq(Mux(layer.readout, i.p.ends & self.last_turn, i.p.last)),
        ]
        with m.If(move):
            m.d.sync += full.eq(taken)
        with m.If(taken):
            m.d.sync += fed.eq(fed + 1)
        chosen = m.If
        for lane in self.sums:
            with chosen(lane.valid & ((layer.share_log2 == 0) | (lane.p.channel == fed))):
                m.d.comb += [any_lane.eq(1), lane.ready.eq(open_), biases.r_addr.eq(lane.p.channel)]
                with m.If(open_):
                    m.d.sync += held.eq(lane.p)
            chosen = m.Elif

    def _second(self, m: Module, pool: Pool, membrane: Membrane, scale: Scale, neurons: Signal) -> Signal:
        """Give what leaves the pool to neurons, for each of its steps, to scale or read-out; return when one is complete.

        ``group_base`` is the first channel of the group that comes, of those that share membranes.
        """
        p, layer, i = self.params, self.layer, self.i
        m.submodules.seconds = seconds = Ram(32, max(2, p.channels))
        held, full, ready, arrives = Signal(Pool.o_layout(p)), Signal(), Signal(), Signal()
        channel, turn = membrane.o.p.tag[: len(held.channel)], membrane.o.p.tag[len(held.channel):]
        own, place = Signal(13), Signal(13)
        m.d.comb += [own.eq(layer.channels >> layer.share_log2), place.eq(held.channel - self.group_base)]
        scaled = self._scaled(m, scale, held, full & layer.scale, seconds.r_data[: SCALE_LAYOUT.size])
        m.d.comb += [
            ready.eq(Mux(layer.scale, scaled, membrane.i.ready & self.last_turn)),
            pool.o.ready.eq(~full | ready), seconds.r_en.eq(pool.o.valid & pool.o.ready), seconds.r_addr.eq(pool.o.p.channel),
            seconds.w_en.eq(self.parameters.valid & self.parameters.second), seconds.w_addr.eq(self.parameters.channel),
            seconds.w_data.eq(self.parameters.number),
            self.unfit.eq(full & Mux(layer.scale, ~holds(seconds.r_data, SCALE_LAYOUT.size),
                                     neurons & ~holds_signed(seconds.r_data, p.membrane_bits))),
            self.readout.valid.eq(full & layer.readout), self.readout.p.eq(held),
            membrane.i.valid.eq(full & neurons), membrane.i.p.x.eq(held.d), membrane.i.p.tag.eq(Cat(held.channel, self.turn)),
            membrane.i.p.address.eq(i.p.membrane + place), membrane.i.p.threshold.eq(seconds.r_data.as_signed()),
            membrane.i.p.first.eq(i.p.starts & layer.fresh & (self.turn == 0) & (self.group_base == 0)), membrane.o.ready.eq(1),
            self.steps.eq(membrane.o.valid), self.spikes.eq(membrane.o.valid & membrane.o.p.spike),
            self.stepped.eq(channel), self.stepped_key.eq(i.p.key), self.stepped_step.eq(i.p.step + turn),
            arrives.eq((membrane.o.valid & (turn + 1 == self.turns)) | scale.o.valid),
        ]
        with m.If(layer.readout):
            m.d.comb += [ready.eq(self.readout.ready), arrives.eq(self.readout.valid & self.readout.ready)]
        with m.If(Mux(layer.readout, pool.i.valid & pool.i.ready, membrane.i.valid & membrane.i.ready)):
            m.d.sync += self.turn.eq(Mux(self.last_turn, 0, self.turn + 1))
            with m.If((layer.share_log2 != 0) & (place + 1 == own)):
                m.d.sync += self.group_base.eq(self.group_base + own)
        with m.If(pool.o.ready):
            m.d.sync += [full.eq(pool.o.valid), held.eq(pool.o.p)]
        return arrives

    def _scaled(self, m: Module, scale: Scale, held: data.View, valid: Value, how: Value) -> Value:
        """Give a value to the scale, times the factor of its token where the build has tokens; return when it is taken.

        A factor of ``2^16`` changes nothing.
        """
        p, layer = self.params, self.layer
        tag_bits, settings = len(held.channel), data.View(SCALE_LAYOUT, how)
        m.d.comb += scale.o.ready.eq(1)
        if not p.tokens:
            m.d.comb += [scale.i.valid.eq(valid), scale.i.p.x.eq(held.d), scale.i.p.tag.eq(held.channel),
                         scale.i.p.mult.eq(settings.mult), scale.i.p.shift.eq(settings.shift)]
            return scale.i.ready
        m.submodules.factor = factor = RowFactor(p, tag_bits + SCALE_LAYOUT.size)
        behind = data.View(SCALE_LAYOUT, factor.o.p.tag[tag_bits:])
        m.d.comb += [
            factor.i.valid.eq(valid), factor.i.p.x.eq(held.d), factor.i.p.factor.eq(Mux(layer.factor, self.factor, 1 << 16)),
            factor.i.p.tag.eq(Cat(held.channel, how)), scale.i.valid.eq(factor.o.valid), factor.o.ready.eq(scale.i.ready),
            scale.i.p.x.eq(factor.o.p.x), scale.i.p.tag.eq(factor.o.p.tag[:tag_bits]), scale.i.p.mult.eq(behind.mult),
            scale.i.p.shift.eq(behind.shift)]
        return factor.i.ready

    def _collect(self, m: Module, membrane: Membrane, scale: Scale, clear: Signal, group: Signal, plane: Signal) -> None:
        """Keep the words of a window, a plane of all channels each; spikes of its members are OR-pooled."""
        p = self.params
        groups = -(-p.channels // p.rows)
        width = groups * p.rows
        channel, turn = membrane.o.p.tag[: len(scale.o.p.tag)], membrane.o.p.tag[len(scale.o.p.tag):]
        lines = []
        for b in range(max(p.word_bits, p.input_bits)):
            kept = Signal(width, name=f"kept_{b}")
            lines.append(Array(kept[g * p.rows:(g + 1) * p.rows] for g in range(groups))[group])
            with m.If(clear):
                m.d.sync += kept.eq(0)
            with m.Elif(scale.o.valid & scale.o.p.q[b]):
                m.d.sync += kept.eq(kept | (1 << scale.o.p.tag))
            with m.Elif(membrane.o.valid & membrane.o.p.spike & (turn == b)):
                m.d.sync += kept.eq(kept | (1 << channel))
        m.d.comb += self.word.eq(Array(lines)[plane])
