"""Event counters: how often what costs energy happened."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.imc.writable_tile import WritableTile

EVENTS = {
    "cycles": "clock cycles while busy",
    "phases": "activations of a crossbar, those that were skipped left out",
    "skipped": "phases that drove no row and were skipped",
    "rows": "rows that were driven",
    "conversions": "conversions of single columns",
    "steps": "neuron steps, each an access to the membrane memory",
    "spikes": "spikes",
    "words": "words written to the activation memories",
    "pulses": "programming pulses",
    "reads": "comparisons of cells, of programming",
}


class EventCounters(Block):
    """Count events of all tiles and of what follows them; counters stop at their largest value.

    Twin of `golden.imc.event_counters.event_counters`. An event counts in the cycle after it.

    Members
    -------
    clear : In(1); busy, steps, spikes, words : In(1), one event a cycle; tiles : In, [tiles] of `WritableTile.events_layout`
    counters : Out, 32 bits per name of `EVENTS`

    Source: imc 10, B13.
    """

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "clear": In(1), "busy": In(1), "steps": In(1), "spikes": In(1), "words": In(1),
            "tiles": In(data.ArrayLayout(WritableTile.events_layout(p), p.tiles)),
            "counters": Out(self.counters_layout()),
        })

    @staticmethod
    def counters_layout() -> data.StructLayout:
        """Return the counters."""
        return data.StructLayout(dict.fromkeys(EVENTS, 32))

    def build(self) -> Module:
        m, p = Module(), self.params
        tiles = [self.tiles[n] for n in range(p.tiles)]
        added = {
            "cycles": self.busy, "steps": self.steps, "spikes": self.spikes, "words": self.words,
            "phases": sum(t.phase & ~t.skipped for t in tiles), "skipped": sum(t.phase & t.skipped for t in tiles),
            "rows": sum(Mux(t.phase, t.rows, 0) for t in tiles), "conversions": sum(t.conversions for t in tiles) * p.adcs,
            "pulses": sum(t.pulse for t in tiles), "reads": sum(t.read for t in tiles),
        }
        for name, number in added.items():
            total = Signal(33, name=f"total_{name}")
            m.d.comb += total.eq(self.counters[name] + number)
            m.d.sync += self.counters[name].eq(Mux(self.clear, 0, Mux(total[32], 0xFFFF_FFFF, total)))
        return m
