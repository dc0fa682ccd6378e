"""AXI4-Lite slave with 32-bit data: the handshakes, for blocks that hold registers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib.wiring import In, Member, Out

# Width of a register's address.
ADDRESS_BITS = 12
OUTPUTS = ("awready", "wready", "bresp", "bvalid", "arready", "rdata", "rresp", "rvalid")


def slave_members() -> dict[str, Member]:
    """Return the ports of a slave."""
    return {
        "awaddr": In(ADDRESS_BITS), "awvalid": In(1), "awready": Out(1),
        "wdata": In(32), "wstrb": In(4), "wvalid": In(1), "wready": Out(1),
        "bresp": Out(2), "bvalid": Out(1), "bready": In(1),
        "araddr": In(ADDRESS_BITS), "arvalid": In(1), "arready": Out(1),
        "rdata": Out(32), "rresp": Out(2), "rvalid": Out(1), "rready": In(1)}


@dataclass(frozen=True)
class Access:
    """A write, high for a cycle: ``address`` without its lowest two bits, ``word``, ``strobe``."""

    write: Signal
    address: Signal
    word: Signal
    strobe: Signal

    def writes(self, offset: int) -> Value:
        """Return whether the register at a byte offset is written."""
        return self.write & (self.address == offset >> 2)


def writes(m: Module, bus: Any) -> Access:
    """Answer the write channels of ``bus``, which has the ports of `slave_members`.

    A written word and its response come 2 cycles after the later of address and data, a write every 2 cycles; every response is
    OKAY.
    """
    access = Access(Signal(name="write"), Signal(ADDRESS_BITS - 2, name="address"), Signal(32, name="word"),
                    Signal(4, name="strobe"))
    has_address, has_word = Signal(name="has_address"), Signal(name="has_word")
    m.d.comb += [bus.awready.eq(~has_address), bus.wready.eq(~has_word), access.write.eq(has_address & has_word & ~bus.bvalid)]
    with m.If(bus.awvalid & bus.awready):
        m.d.sync += [access.address.eq(bus.awaddr[2:]), has_address.eq(1)]
    with m.If(bus.wvalid & bus.wready):
        m.d.sync += [access.word.eq(bus.wdata), access.strobe.eq(bus.wstrb), has_word.eq(1)]
    with m.If(access.write):
        m.d.sync += [bus.bvalid.eq(1), has_address.eq(0), has_word.eq(0)]
    with m.If(bus.bvalid & bus.bready):
        m.d.sync += bus.bvalid.eq(0)
    return access


def reads(m: Module, bus: Any, values: Mapping[int, Any]) -> None:
    """Answer the read channels with the values by byte offset, 1 cycle after the address; other offsets read 0."""
    m.d.comb += bus.arready.eq(~bus.rvalid)
    with m.If(bus.arvalid & bus.arready):
        m.d.sync += [bus.rvalid.eq(1), bus.rdata.eq(0)]
        with m.Switch(bus.araddr[2:]):
            for offset, value in values.items():
                with m.Case(offset >> 2):
                    m.d.sync += bus.rdata.eq(value)
    with m.Elif(bus.rvalid & bus.rready):
        m.d.sync += bus.rvalid.eq(0)
