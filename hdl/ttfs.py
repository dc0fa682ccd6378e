"""Time-to-first-spike neurons of all lanes, and the race of a read-out."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.arch import FRACTION_BITS, MANTISSA_BITS, Arch, mantissas
from golden.formats import LEAD_BITS, NEVER
from hdl.block import Block
from hdl.descriptor import LAYER_LAYOUT

RESOLUTIONS = range(4)
PARTS = 1 << RESOLUTIONS[-1]


class Ttfs(Block):
    """Scan the time-indexed sums of all lanes, one tick a cycle, until every neuron has fired or cannot win.

    Twin of `golden.ttfs`: `golden.ttfs.ttfs`, then `golden.ttfs.numbers`, or with ``layer.readout`` `golden.ttfs.race`,
    where a lane stops at the tick of its best column so far. Lanes without a row stop at once. The numbers are offered
    ``ticks + 4`` cycles after the sums of all lanes are full and the threshold is there, when the next column may start:
    ``ticks`` goes up to the tick of the last lane that stops, ``layer.window`` for one without a spike. Full back-pressure.

    A lane keeps ``B - threshold`` (drive) and D in units of the octave (membrane); a tick costs one product with a constant.

    Members
    -------
    layer : In, layer fields; start : In(1), a layer starts
    threshold : In(stream), of each column
    full : In(1), the sums of all lanes wait; read, slot : Out; sums : In, latency 1; clear : Out(1)
    o : Out(stream), the number of every lane

    Source: networks 3.4 (b); issue 4, TTFS.
    """

    threshold: stream.Interface
    o: stream.Interface

    def __init__(self, p: Arch) -> None:
        self.params = p
        numbers = data.ArrayLayout(signed(p.acc_bits), p.lanes)
        super().__init__({
            "layer": In(LAYER_LAYOUT), "start": In(1), "threshold": In(stream.Signature(signed(32))),
            "full": In(1), "read": Out(1), "slot": Out(range(p.ttfs_slots)), "sums": In(numbers), "clear": Out(1),
            "o": Out(stream.Signature(numbers)),
        })

    def build(self) -> Module:
        m, p, layer, o = Module(), self.params, self.layer, self.o
        behind, now, part = Signal(range(p.ttfs_slots)), Signal(range(p.ttfs_slots)), Signal(range(PARTS))
        begin, added, judged, ended, last_part = (Signal(name=n) for n in ("begin", "added", "judged", "ended", "last_part"))
        column, tile, last_column, stopped = Signal(16), Signal(32), Signal(), Signal(p.lanes)
        theta, step = Signal(signed(p.acc_bits)), Signal(MANTISSA_BITS + 1)
        tables = [mantissas(n) for n in RESOLUTIONS]
        steps = Array(Const(table[i % (len(table) - 1) + 1] - table[i % (len(table) - 1)], MANTISSA_BITS + 1)
                      for table in tables for i in range(PARTS))
        m.d.comb += [
            theta.eq(self.threshold.payload), step.eq(steps[Cat(part, layer.resolution)]),
            last_part.eq(part == ((1 << layer.resolution) - 1)[: len(part)]), last_column.eq(column == layer.columns - 1),
            ended.eq(judged & ((now == 1) | stopped.all())),
        ]
        m.d.sync += [added.eq(self.read & ~ended), judged.eq(added & ~ended), behind.eq(self.slot), now.eq(behind)]
        with m.If(judged):
            m.d.sync += part.eq(Mux(last_part, 0, part + 1))
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.FSM():
            with m.State("IDLE"), m.If(self.full & self.threshold.valid):
                m.d.comb += [begin.eq(1), self.threshold.ready.eq(1)]
                m.d.sync += [self.slot.eq(layer.window), part.eq(0)]
                m.next = "SCAN"
            with m.State("SCAN"):
                m.d.comb += self.read.eq(1)
                m.d.sync += self.slot.eq(self.slot - 1)
                with m.If(ended):
                    m.next = "OFFER"
            with m.State("OFFER"), m.If(~o.valid | o.ready):
                m.d.comb += self.clear.eq(1)
                m.d.sync += [o.valid.eq(1), column.eq(column + 1)]
                with m.If(last_column):
                    m.d.sync += [column.eq(0), tile.eq(tile + 1)]
                m.next = "IDLE"
        with m.If(self.start):
            m.d.sync += [tile.eq(0), column.eq(0)]
        absent = Signal(p.lanes)
        m.d.comb += absent.eq(Mux(tile + 1 == layer.row_tiles, (-2 << layer.last_lanes)[: p.lanes], 0))
        for lane in range(p.lanes):
            self._lane(m, lane, begin=begin, theta=theta, added=added, judged=judged, now=now, step=step,
                       last_part=last_part, first=column == 0, stopped=stopped[lane], absent=absent[lane])
        return m

    def _lane(self, m: Module, lane: int, *, begin: Signal, theta: Signal, added: Signal, judged: Signal, now: Signal,
              step: Signal, last_part: Signal, first: Signal, stopped: Signal, absent: Signal) -> None:
        """Add one neuron, and its best column so far."""
        p, layer = self.params, self.layer
        drive, width = Signal(signed(p.acc_bits), name=f"drive_{lane}"), p.acc_bits + MANTISSA_BITS + 1
        membrane, after = (Signal(signed(width), name=f"{n}_{lane}") for n in ("membrane", "after"))
        fraction, earliness = Signal(FRACTION_BITS, name=f"fraction_{lane}"), Signal(range(p.ttfs_slots), name=f"at_{lane}")
        best = Signal(len(earliness) + width + FRACTION_BITS, name=f"best_{lane}")
        rank, changes = Signal.like(best, name=f"rank_{lane}"), Signal(LEAD_BITS, name=f"changes_{lane}")
        fires, leads, lead = (Signal(name=f"{n}_{lane}") for n in ("fires", "leads", "lead"))
        shown = Signal(LEAD_BITS, name=f"shown_{lane}")
        m.d.comb += [
            fires.eq(judged & (membrane >= 0)), after.eq(membrane + step * drive),
            rank.eq(Cat(fraction, membrane[:-1], ~membrane[-1], earliness)), lead.eq(first | (rank > best)),
            leads.eq(lead & self.clear), shown.eq(Mux(first, 0, changes + 1)),
            stopped.eq(absent | fires | (earliness != 0)
                       | (layer.readout & ~first & (now <= best[-len(earliness) :]))),
        ]
        with m.If(begin):
            m.d.sync += [drive.eq(-theta), membrane.eq(-theta << MANTISSA_BITS), fraction.eq(0), earliness.eq(0)]
        with m.If(added):
            m.d.sync += drive.eq(drive + self.sums[lane])
        with m.If(fires & (earliness == 0)):
            m.d.sync += earliness.eq(now)
        with m.Elif(judged & (earliness == 0) & (now != 1)):
            m.d.sync += membrane.eq(after)
            with m.If(last_part):
                m.d.sync += [membrane.eq(after >> 1), fraction.eq(Cat(fraction[1:], after[0]))]
        with m.If(leads):
            m.d.sync += [best.eq(rank), changes.eq(shown)]
        with m.If(self.clear):
            m.d.sync += self.o.payload[lane].eq(Mux(
                layer.readout, Mux(lead, Cat(shown, earliness), 0), Mux(earliness != 0, earliness, NEVER)))
