"""The stage behind the read port of a RAM whose words are updated, one a cycle."""

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream

from hdl.bus.ram import Ram


@dataclass(frozen=True)
class Update:
    """A payload and the word of its address.

    busy : the payload is there, since the cycle after it was accepted
    held : the payload
    word : as all that was written before has left it
    leave : to drive; the payload goes in this cycle. It writes in no other
    """

    busy: Signal
    held: data.View
    word: Signal
    leave: Signal


def update(m: Module, i: stream.Interface, address: Value, ram: Ram, *, closed: Value | int = 0) -> Update:
    """Read the word at ``address`` for every payload of ``i``, one a cycle; a word that is being written is handed on.

    closed : nothing is accepted in this cycle
    """
    stage = Update(Signal(name="held_valid"), Signal(i.p.shape(), name="held"), Signal(ram.width, name="word"),
                   Signal(name="leave"))
    take, same, written = Signal(name="take"), Signal(name="same"), Signal(ram.width, name="written")
    m.d.comb += [
        i.ready.eq(Mux(closed, 0, ~stage.busy | stage.leave)), take.eq(i.valid & i.ready),
        ram.r_en.eq(take), ram.r_addr.eq(address), stage.word.eq(Mux(same, written, ram.r_data)),
    ]
    with m.If(stage.leave):
        m.d.sync += stage.busy.eq(0)
    with m.If(take):
        m.d.sync += [stage.busy.eq(1), stage.held.eq(i.payload), written.eq(ram.w_data),
                     same.eq(ram.w_en & (ram.w_addr == address))]
    return stage
