"""Two memories that are used by one client at a time."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from hdl.block import Block
from hdl.bus.ram import Ram


class MapPair(Block):
    """Give one of several clients both memories: a read and a write a cycle, of any of them.

    Parameters
    ----------
    width, depth : bits and number of words of each memory
    clients : number of them

    Members
    -------
    user : In, the client whose turn it is; asks : In, [clients] of `client_layout`, others than the user's change nothing
    word : Out, what was read last, from the cycle after on
    """

    def __init__(self, width: int, depth: int, clients: int) -> None:
        self.params: tuple[int, int, int] = (width, depth, clients)
        super().__init__({
            "user": In(range(max(2, clients))), "asks": In(data.ArrayLayout(self.client_layout(width, depth), clients)),
            "word": Out(width)})

    @staticmethod
    def client_layout(width: int, depth: int) -> data.StructLayout:
        """Return what a client asks for."""
        place = {"bank": 1, "address": range(max(2, depth))}
        return data.StructLayout({
            "read": 1, **{f"read_{name}": shape for name, shape in place.items()},
            "write": 1, **{f"write_{name}": shape for name, shape in place.items()}, "data": width})

    def build(self) -> Module:
        m, (width, depth, clients) = Module(), self.params
        ask, bank = Signal(self.client_layout(width, depth)), Signal()
        memories = [Ram(width, depth) for _ in range(2)]
        m.d.comb += ask.eq(Array(self.asks[n].as_value() for n in range(clients))[self.user])
        for number, memory in enumerate(memories):
            m.submodules[f"memory_{number}"] = memory
            m.d.comb += [
                memory.r_en.eq(ask.read & (ask.read_bank == number)), memory.r_addr.eq(ask.read_address),
                memory.w_en.eq(ask.write & (ask.write_bank == number)), memory.w_addr.eq(ask.write_address),
                memory.w_data.eq(ask.data)]
        with m.If(ask.read):
            m.d.sync += bank.eq(ask.read_bank)
        m.d.comb += self.word.eq(Mux(bank, memories[1].r_data, memories[0].r_data))
        return m
