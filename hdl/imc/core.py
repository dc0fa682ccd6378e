"""Core of several tiles that runs a layer: activation memories, gather, tiles, sums and what follows them."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import Error, ImcArch
from hdl.block import Block
from hdl.bus.fifo import Fifo
from hdl.bus.ram import Ram
from hdl.imc.dispatch import Dispatch
from hdl.imc.event_counters import EventCounters
from hdl.imc.gather import Gather
from hdl.imc.host_port import HostPort
from hdl.imc.lane import Lane
from hdl.imc.layer import layer_layout, machine_layout, runs, vector_layout
from hdl.imc.macro import instance
from hdl.imc.post import Post
from hdl.imc.shift_add import ShiftAdd
from hdl.imc.vector_walk import VectorWalk
from hdl.imc.writable_tile import WritableTile


class Core(Block):
    """Run a layer from one activation memory to the other, or calibrate all tiles.

    Twin of `golden.imc.run.run_layer`. One vector is gathered while tiles work on the one before it and its sums become spikes.
    A start waits for the end of a packet that is under way, and fails when one since the start before was malformed. An error
    stops the core, resets all its blocks but the port of the host (what calibration found is lost), and stands until the next
    start.

    Members
    -------
    machine, layer, places, misplaced : In, settings, stand while ``busy``; see `hdl.imc.registers.Registers`
    start, calibrate : In(1); busy, done, error : Out(1), ``done`` and ``error`` high for a cycle; code : Out, a
        `golden.imc.errors.Error`
    host, answer : In(stream), Out(stream), see `HostPort`; packets wait while ``busy``
    counters : Out, see `EventCounters`, of the last run

    Source: imc 10, B0; decision 0015.
    """

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "machine": In(machine_layout()), "layer": In(layer_layout()),
            "places": In(ShiftAdd.settings_layout(p)["places"].shape), "misplaced": In(1), "start": In(1), "calibrate": In(1),
            "busy": Out(1), "done": Out(1), "error": Out(1), "code": Out(8), "counters": Out(EventCounters.counters_layout()),
            "host": In(stream.Signature(HostPort.word_layout())), "answer": Out(stream.Signature(HostPort.word_layout())),
        })

    def build(self) -> Module:
        m, p = Module(), self.params
        self.stop, self.runs, self.calibrates = Signal(name="stop"), Signal(name="runs"), Signal(name="calibrates")
        self.tiles = [WritableTile(p) for _ in range(p.tiles)]
        self.lanes = [Lane(p, number) for number in range(p.tiles // p.fan_in)]
        self.walk, self.gather, self.dispatch, self.post = VectorWalk(p), Gather(p), Dispatch(p), Post(p)
        self.port, self.events, self.queue = HostPort(p), EventCounters(p), Fifo(vector_layout(p).size, 2)
        self.maps = [Ram(p.rows, p.map_words) for _ in range(2)]
        for name in ("walk", "gather", "queue", "dispatch", "post"):
            block = getattr(self, name)
            block.also_reset = self.stop
            m.submodules[name] = block
        m.submodules.events, m.submodules.port = self.events, self.port
        for kind, blocks in (("tile", self.tiles), ("lane", self.lanes), ("map", self.maps)):
            for number, block in enumerate(blocks):
                if isinstance(block, Block):
                    block.also_reset = self.stop
                m.submodules[f"{kind}_{number}"] = block
        self._settings(m)
        self._vectors(m)
        self._memories(m)
        self._control(m)
        for number, tile in enumerate(self.tiles):
            m.submodules[f"macro_{number}"] = instance(p, tile, number)
        return m

    def _settings(self, m: Module) -> None:
        """Give every block the layer, and the tiles the settings of the machine."""
        machine, layer = self.machine, self.layer
        m.d.comb += [block.layer.eq(layer) for block in (self.walk, self.gather, self.dispatch, self.post, *self.lanes)]
        given = {name: machine[name] for name in machine.shape().members} | {
            "bits": layer.bits, "outputs": layer.outputs, "places": self.places}
        for tile in self.tiles:
            m.d.comb += [tile.calibrate.eq(self.calibrates), *(
                tile.settings[name].eq(given[name]) for name in tile.settings.shape().members)]

    def _vectors(self, m: Module) -> None:
        """Send every vector to the gatherer and, two at most ahead, to what follows the sums."""
        walk, gather, dispatch, post, queue = self.walk.o, self.gather, self.dispatch, self.post, self.queue
        m.d.comb += [
            gather.i.valid.eq(walk.valid & queue.i.ready), gather.i.payload.eq(walk.payload),
            queue.i.valid.eq(walk.valid & gather.i.ready), queue.i.payload.eq(walk.payload.as_value()),
            walk.ready.eq(gather.i.ready & queue.i.ready), dispatch.key.eq(walk.p.key),
            dispatch.i.valid.eq(gather.o.valid), gather.o.ready.eq(dispatch.i.ready), dispatch.i.p.eq(gather.o.p),
            post.i.valid.eq(queue.o.valid), queue.o.ready.eq(post.i.ready), post.i.payload.as_value().eq(queue.o.payload),
            post.ended.eq(Cat(lane.ended for lane in self.lanes).all()),
        ]
        for number, lane in enumerate(self.lanes):
            m.d.comb += [lane.released.eq(post.released | self.walk.start), post.sums[number].valid.eq(lane.o.valid),
                         lane.o.ready.eq(post.sums[number].ready), post.sums[number].p.eq(lane.o.p)]
            for f in range(self.params.fan_in):
                tile, way = self.tiles[number * self.params.fan_in + f], dispatch.o[number * self.params.fan_in + f]
                m.d.comb += [
                    tile.i.valid.eq(way.valid), way.ready.eq(tile.i.ready), tile.i.p.eq(way.p),
                    lane.i[f].valid.eq(tile.o.valid), tile.o.ready.eq(lane.i[f].ready), lane.i[f].p.eq(tile.o.p),
                ]

    def _memories(self, m: Module) -> None:
        """Share the activation memories between the layer and the host."""
        port, gather, post, layer = self.port, self.gather, self.post, self.layer
        for number, ram in enumerate(self.maps):
            source = layer.source == number
            m.d.comb += [
                ram.r_en.eq(Mux(self.runs, gather.read & source, port.read)),
                ram.r_addr.eq(Mux(self.runs, gather.address, port.address)),
                ram.w_en.eq(Mux(self.runs, post.write & ~source, port.write & (port.bank == number))),
                ram.w_addr.eq(Mux(self.runs, post.address, port.address)), ram.w_data.eq(Mux(self.runs, post.word, port.data)),
            ]
        m.d.comb += [
            gather.word.eq(Mux(layer.source, self.maps[1].r_data, self.maps[0].r_data)),
            port.word.eq(Mux(port.bank, self.maps[1].r_data, self.maps[0].r_data)),
            port.hold.eq(self.busy | self.start | self.calibrate), port.i.valid.eq(self.host.valid),
            self.host.ready.eq(port.i.ready), port.i.p.eq(self.host.p),
            self.answer.valid.eq(port.o.valid), port.o.ready.eq(self.answer.ready), self.answer.p.eq(port.o.p),
            port.readout.valid.eq(post.readout.valid), post.readout.ready.eq(port.readout.ready),
            port.readout.p.eq(post.readout.p), post.parameters.eq(port.parameters),
        ]
        for number, tile in enumerate(self.tiles):
            m.d.comb += [tile.write.eq(port.number), tile.write.valid.eq(port.number.valid & (port.tile == number))]

    def _control(self, m: Module) -> None:
        """Start, end, and stop on errors."""
        p, layer, events, post = self.params, self.layer, self.events, self.post
        waited, calibrated, failed, calibrating = Signal(24), Signal(p.tiles), Signal(), Signal()
        happens, over, malformed, of_layer = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            failed.eq(Cat(tile.failed for tile in self.tiles).any()),
            happens.eq(Cat(tile.events.conversions | tile.events.phase for tile in self.tiles).any() | post.released
                       | self.answer.valid | (self.host.valid & self.host.ready)),
            over.eq(post.i.ready & post.i.p.end),
            events.clear.eq((self.start | self.calibrate) & ~self.busy), events.busy.eq(self.busy),
            events.steps.eq(post.steps), events.spikes.eq(post.spikes), events.words.eq(post.write),
            self.counters.eq(events.counters), *(events.tiles[n].eq(tile.events) for n, tile in enumerate(self.tiles)),
        ]
        m.d.sync += [malformed.eq(malformed | self.port.malformed), waited.eq(Mux(happens | ~self.busy, 0, waited + 1)),
                     calibrated.eq(Mux(calibrating, calibrated | Cat(tile.calibrated for tile in self.tiles), 0))]

        def fail(code: Error) -> None:
            m.d.sync += self.code.eq(code)
            m.next = "STOP"

        def begin(runs_layer: Value) -> None:
            with m.If(~self.port.idle):
                m.next = "WAIT"
            with m.Elif(malformed):
                m.d.sync += malformed.eq(0)
                fail(Error.PACKET)
            with m.Elif(~runs_layer):
                m.d.comb += self.calibrates.eq(1)
                m.next = "CALIBRATE"
            with m.Elif(runs(p, layer) & ~self.misplaced):
                m.d.comb += self.walk.start.eq(1)
                m.next = "RUN"
            with m.Else():
                fail(Error.SETTINGS)

        with m.FSM() as states:
            m.d.comb += [self.busy.eq(~states.ongoing("IDLE")), calibrating.eq(states.ongoing("CALIBRATE")),
                         self.runs.eq(states.ongoing("RUN"))]
            with m.State("IDLE"):
                with m.If(self.start | self.calibrate):
                    m.d.sync += [self.code.eq(0), of_layer.eq(self.start)]
                    begin(self.start)
            with m.State("WAIT"):
                begin(of_layer)
                self._errors(m, fail, waited)
            with m.State("RUN"):
                with m.If(over):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
                self._errors(m, fail, waited)
            with m.State("CALIBRATE"):
                with m.If(calibrated.all()):
                    m.d.comb += [self.done.eq(~failed), self.error.eq(failed)]
                    m.d.sync += self.code.eq(Mux(failed, Error.CALIBRATION, 0))
                    m.next = "IDLE"
                self._errors(m, fail, waited)
            with m.State("STOP"):
                m.d.comb += [self.stop.eq(1), self.error.eq(1)]
                m.next = "IDLE"

    def _errors(self, m: Module, fail: Any, waited: Signal) -> None:
        """Stop when a block has an error, or nothing has happened for too long."""
        with m.If(Cat(lane.error for lane in self.lanes).any()):
            fail(Error.SUMS)
        with m.Elif(Cat(tile.droop for tile in self.tiles).any()):
            fail(Error.DROOP)
        with m.Elif((self.machine.patience != 0) & (waited == self.machine.patience)):
            fail(Error.STALLED)
