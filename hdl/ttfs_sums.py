"""Time-indexed sums of one lane: the weights that arrive at each tick, one column filled while the last is read."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from hdl.block import Block
from hdl.bus.ram import Ram


class TtfsSums(Block):
    """``ttfs_slots`` sums in two halves, indexed by the earliness of the row's word.

    Twin of `golden.ttfs_sums.ttfs_sums`. One weight a cycle is added to a slot of the half that fills; equal slots may
    follow each other. ``close`` ends the column: the halves change places, and ``full`` says that one waits to be read.
    A slot that nothing was added to reads as 0, whatever the RAM holds, so a half is empty again in the cycle of
    ``clear``.

    Members
    -------
    add : In(1), slot, weight : In, add ``weight`` to ``slot``
    close : In(1), the column ends, with or without ``add``; only while ``full`` is low, or with ``clear``
    full : Out(1), a half waits to be read, from the cycle after ``close`` on; read it from the next cycle on
    read : In(1), read_slot : In; sum : Out, of the slot that was read last, latency 1
    clear : In(1), the half that was read is empty

    Source: issue 4, "a lane writes one of W sums per match, double-buffered, scanned behind".
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        slots = range(p.ttfs_slots)
        super().__init__({
            "add": In(1), "slot": In(slots), "weight": In(signed(p.weight_bits)), "close": In(1), "full": Out(1),
            "read": In(1), "read_slot": In(slots), "sum": Out(signed(p.acc_bits)), "clear": In(1),
        })

    def build(self) -> Module:
        m, p = Module(), self.params
        fill, waits, again, fresh, there = (Signal(name=n) for n in ("fill", "waits", "again", "fresh", "there"))
        half, slot, weight = Signal(), Signal(range(p.ttfs_slots)), Signal(signed(p.weight_bits))
        written, total, before = (Signal(signed(p.acc_bits), name=n) for n in ("written", "total", "before"))
        used = [Signal(p.ttfs_slots, name=f"used_{n}") for n in range(2)]
        rams = [Ram(p.acc_bits, p.ttfs_slots) for _ in range(2)]
        m.d.comb += [
            before.eq(Mux(half, rams[1].r_data, rams[0].r_data)),
            total.eq(Mux(fresh, 0, Mux(again, written, before)) + weight),
            self.sum.eq(Mux(there, Mux(fill, rams[0].r_data, rams[1].r_data), 0)),
        ]
        m.d.sync += [
            waits.eq(self.add), slot.eq(self.slot), weight.eq(self.weight), half.eq(fill), written.eq(total),
            again.eq(waits & (slot == self.slot)),
            fresh.eq(~Mux(fill, used[1], used[0]).bit_select(self.slot, 1)),
        ]
        with m.If(self.clear):
            m.d.sync += self.full.eq(0)
        with m.If(self.close):
            m.d.sync += [self.full.eq(1), fill.eq(~fill)]
        with m.If(self.read):
            m.d.sync += there.eq(Mux(fill, used[0], used[1]).bit_select(self.read_slot, 1))
        for n, (ram, marks) in enumerate(zip(rams, used, strict=True)):
            m.submodules[f"sums_{n}"] = ram
            filling = fill == n
            m.d.comb += [
                ram.r_en.eq(Mux(filling, self.add, self.read)), ram.r_addr.eq(Mux(filling, self.slot, self.read_slot)),
                ram.w_en.eq(waits & (half == n)), ram.w_addr.eq(slot), ram.w_data.eq(total),
            ]
            with m.If(filling & self.add):
                m.d.sync += marks.bit_select(self.slot, 1).eq(1)
            with m.Elif(~filling & self.clear):
                m.d.sync += marks.eq(0)
        return m
