"""Vectors of a layer: steps, windows and their members in the order that membranes or their memory like."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.imc.layer import layer_layout, vector_layout


class VectorWalk(Block):
    """Offer all vectors of a layer, the members of a window first.

    Twin of `golden.imc.vector_walk.vector_walk`. With ``time_inner`` a window goes through its steps before the next one comes,
    else all windows take a step; with ``once`` there is the first step alone. A vector is offered 2 cycles after ``start`` or
    after the one before it is taken.

    Members
    -------
    layer : In, stands while ``busy``; start : In(1); busy : Out(1)
    o : Out(stream), `hdl.imc.layer.vector_layout`

    Source: imc 10, B0, and 1.5, TIME_OUTER and TIME_INNER.
    """

    o: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({"layer": In(layer_layout()), "start": In(1), "busy": Out(1),
                          "o": Out(stream.Signature(vector_layout(p)))})

    def build(self) -> Module:
        m, layer, o = Module(), self.layer, self.o
        step, window_x, window_y = Signal(4), Signal(12), Signal(12)
        member_x, member_y, row, column = Signal(4), Signal(4), Signal(signed(14)), Signal(signed(14))
        last = {name: Signal(name=f"last_{name}") for name in ("x", "y", "step", "window_x", "window_y")}
        steps_of, windows_of = Signal(), Signal()
        whole, membrane, window = Signal(), Signal.like(o.p.membrane), Signal(20)
        ends = (("x", member_x, layer.pool_kernel), ("y", member_y, layer.pool_kernel), ("step", step, layer.steps),
                ("window_x", window_x, layer.out_width), ("window_y", window_y, layer.out_height))
        m.d.comb += [last[name].eq(value + 1 == end) for name, value, end in ends]
        with m.If(layer.once):
            m.d.comb += last["step"].eq(1)
        m.d.comb += [
            whole.eq(last["x"] & last["y"]), row.eq(window_y * layer.pool_stride + member_y),
            column.eq(window_x * layer.pool_stride + member_x),
            steps_of.eq(whole & (layer.time_inner | (last["window_x"] & last["window_y"]))),
            windows_of.eq(whole & (~layer.time_inner | last["step"])),
        ]
        with m.FSM() as states:
            m.d.comb += self.busy.eq(~states.ongoing("IDLE"))
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [value.eq(0) for _, value, _ in ends]
                m.d.sync += [membrane.eq(layer.membrane), window.eq(0)]
                m.next = "PLACE"
            with m.State("PLACE"):
                m.d.sync += [
                    o.p.top.eq(row * layer.stride - layer.padding), o.p.left.eq(column * layer.stride - layer.padding),
                    o.p.step.eq(step + layer.first_step), o.p.membrane.eq(membrane), o.p.window.eq(window),
                    o.p.key.eq((step + layer.first_step) * layer.pixels + row * layer.conv_width + column),
                    o.p.first.eq((member_x == 0) & (member_y == 0)), o.p.last.eq(whole),
                    o.p.starts.eq(step == 0), o.p.ends.eq(last["step"]),
                    o.p.end.eq(whole & last["step"] & last["window_x"] & last["window_y"]),
                ]
                m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += o.valid.eq(1)
                with m.If(o.ready):
                    m.next = "PLACE"
                    with m.If(o.p.end):
                        m.next = "IDLE"
                    m.d.sync += member_x.eq(Mux(last["x"], 0, member_x + 1))
                    with m.If((layer.pool_mode == 0) | whole):
                        m.d.sync += membrane.eq(membrane + (layer.channels >> layer.share_log2))
                    with m.If(last["x"]):
                        m.d.sync += member_y.eq(Mux(last["y"], 0, member_y + 1))
                    with m.If(steps_of):
                        m.d.sync += [step.eq(Mux(last["step"], 0, step + 1)),
                                     membrane.eq(layer.membrane)]
                    with m.If(windows_of):
                        m.d.sync += [window.eq(window + 1), window_x.eq(window_x + 1)]
                        with m.If(last["window_x"]):
                            m.d.sync += [window_x.eq(0), window_y.eq(window_y + 1)]
                            with m.If(last["window_y"]):
                                m.d.sync += [window_y.eq(0), window.eq(0)]
        return m
