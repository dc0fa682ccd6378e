"""The one RAM primitive: one write port, one synchronous read port."""

from typing import Any

from amaranth.hdl import ClockSignal, Instance
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.block import Emitter

PRIMITIVE = """\
module {prefix}_ram_1r1w #(
  parameter WIDTH = 8,
  parameter DEPTH = 2,
  parameter ADDR = 1
) (
  input clk,
  input w_en,
  input [ADDR-1:0] w_addr,
  input [WIDTH-1:0] w_data,
  input r_en,
  input [ADDR-1:0] r_addr,
  output reg [WIDTH-1:0] r_data
);
  reg [WIDTH-1:0] storage [0:DEPTH-1];
  always @(posedge clk) begin
    if (w_en) storage[w_addr] <= w_data;
    if (r_en) r_data <= storage[r_addr];
  end
endmodule
"""


class Ram(wiring.Component):
    """One instance of ``<prefix>_ram_1r1w``.

    Latency 1 cycle, one read and one write a cycle; ``r_data`` holds while ``r_en`` is low. No reset, no
    initial contents. Reading an address in the cycle that writes it returns the old word here; users of an
    SRAM macro need not keep that, since no block relies on it.
    """

    def __init__(self, width: int, depth: int) -> None:
        self.width, self.depth = width, depth
        address = max(1, (depth - 1).bit_length())
        super().__init__({
            "w_en": In(1), "w_addr": In(address), "w_data": In(width),
            "r_en": In(1), "r_addr": In(address), "r_data": Out(width),
        })

    def elaborate(self, platform: Any) -> Instance:
        module = Emitter.current.ram(self.width, self.depth)
        return Instance(
            module, p_WIDTH=self.width, p_DEPTH=self.depth, p_ADDR=len(self.w_addr), i_clk=ClockSignal(),
            i_w_en=self.w_en, i_w_addr=self.w_addr, i_w_data=self.w_data,
            i_r_en=self.r_en, i_r_addr=self.r_addr, o_r_data=self.r_data)
