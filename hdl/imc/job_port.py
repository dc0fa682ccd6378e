"""Port of jobs: packets of the host become jobs of write-verify, and how they end becomes packets."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch, Op
from hdl.block import Block
from hdl.imc.host_port import HostPort
from hdl.imc.packet_port import PacketPort
from hdl.imc.packet_sender import PacketSender
from hdl.imc.writable_tile import WritableTile
from hdl.imc.write_job import COUNTS, outcome_layout


def words(bits: int) -> int:
    """Return the 32-bit words of so many bits."""
    return -(-bits // 32)


class JobPort(Block):
    """Take one job after the other, and tell how each ended.

    Twin of `golden.imc.job_port`. A job is offered in the cycle after the last word of its packet; the first word of the packet
    that tells its end comes in the cycle after the end. A job that does not exist is offered with an illegal op.

    Members
    -------
    hold : In(1), no packet begins; flush : In(1), what is on its way, or tells of an end, is left out
    i : In(stream), {word, last}, packets of op | row << 8 | crossbar << 16, mask, levels
    o : Out(stream), `WritableTile.order_layout`; ended : In(stream), `outcome_layout`, of that job
    answer : Out(stream), {word, last}, a packet for each job: error, mask of columns that failed, levels, `COUNTS`
    error : Out(1), a packet of another length, high for a cycle; it is left out
    busy : Out(1), from the cycle after the first word of a packet until all is told of its job

    Source: imc 10, B0 and B9.
    """

    i: stream.Interface
    o: stream.Interface
    ended: stream.Interface
    answer: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        word = stream.Signature(HostPort.word_layout())
        super().__init__({
            "hold": In(1), "flush": In(1), "i": In(word), "o": Out(stream.Signature(WritableTile.order_layout(p))),
            "ended": In(stream.Signature(outcome_layout(p))), "answer": Out(word), "error": Out(1), "busy": Out(1)})

    def build(self) -> Module:
        m, p, order, end, working = Module(), self.params, self.o.p, self.ended.p, Signal()
        mask, levels = words(p.cols), words(p.cols * p.cell_bits)
        m.submodules.packets = packets = PacketPort(1 + mask + levels)
        m.submodules.sender = sender = PacketSender(1 + mask + levels + len(COUNTS))
        sender.also_reset = self.flush
        head = packets.o.p[0]
        legal = (head[:8] <= max(Op)) & (head[8:16] < p.rows) & (head[16:] < p.crossbars)
        m.d.comb += [
            packets.i.valid.eq(self.i.valid), self.i.ready.eq(packets.i.ready), packets.i.p.eq(self.i.p),
            packets.length.eq(packets.most), packets.hold.eq(self.hold), packets.flush.eq(self.flush),
            self.o.valid.eq(packets.o.valid), packets.o.ready.eq(self.o.ready), order.crossbar.eq(head[16:]),
            order.job.op.eq(Mux(legal, head[:8], max(Op) + 1)), order.job.row.eq(head[8:16]),
            order.job.mask.eq(Cat(packets.o.p[1 + n] for n in range(mask))),
            order.job.levels.eq(Cat(packets.o.p[1 + mask + n] for n in range(levels))),
            sender.i.valid.eq(self.ended.valid & working), self.ended.ready.eq(sender.i.ready & working),
            sender.i.payload.eq(Cat(_whole(end.error), _whole(end.fail), _whole(end.levels),
                                    *(_whole(end.counts[name]) for name in COUNTS))),
            self.answer.valid.eq(sender.o.valid), sender.o.ready.eq(self.answer.ready), self.answer.p.eq(sender.o.p),
            self.error.eq(packets.error), self.busy.eq(packets.busy | working | sender.o.valid),
        ]
        with m.If(self.flush | (self.ended.valid & self.ended.ready)):
            m.d.sync += working.eq(0)
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += working.eq(1)
        return m


def _whole(value: Value) -> Value:
    """Return bits filled up to whole words."""
    bits = Value.cast(value)
    return Cat(bits, Const(0, -len(bits) % 32))
