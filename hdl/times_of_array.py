"""Spike times in place of the dots of a lockstep array: thresholds, time-indexed sums and neurons brought together."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal

from hdl.bus.fifo import Fifo
from hdl.ttfs import Ttfs


def connect_times(array: Any, m: Module, pass_end: Signal, last_chunk: Signal) -> None:
    """Put the spike times of a layer that says so in the place of the dots; thresholds go ahead as the columns do.

    pass_end : the sums of a lane end with this chunk: that of the last pass alone
    """
    p, layer = array.params, array.layer
    m.submodules.thresholds = thresholds = Fifo(32, p.fifo_depth)
    m.submodules.ttfs = times = Ttfs(p)
    lanes = [m.submodules[f"tppe_{lane}"] for lane in range(p.lanes)]
    m.d.comb += [
        thresholds.i.valid.eq(array.param_take & layer.ttfs), thresholds.i.payload.eq(array.param_window[32:]),
        times.threshold.payload.eq(thresholds.o.payload), times.threshold.valid.eq(thresholds.o.valid),
        thresholds.o.ready.eq(times.threshold.ready), times.layer.eq(layer), times.start.eq(array.layer_start),
        times.full.eq(Cat(lane.full for lane in lanes).all()), times.o.ready.eq(array.o.ready),
    ]
    for number, lane in enumerate(lanes):
        m.d.comb += [lane.ttfs.eq(layer.ttfs), lane.read.eq(times.read), lane.slot.eq(times.slot),
                     lane.clear.eq(times.clear), times.sums[number].eq(lane.sum)]
    with m.If(layer.ttfs):
        m.d.comb += [array.o.valid.eq(times.o.valid), pass_end.eq(last_chunk),
                     *(array.o.payload[n][0].eq(times.o.payload[n]) for n in range(p.lanes))]
