"""Core of several tiles that runs a layer: activation memories, gather, tiles, sums and what follows them."""


from amaranth.hdl import Array, Cat, Const, Module, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out, connect

from golden.imc.arch import ImcArch
from hdl.block import Block
from hdl.bus.fifo import Fifo
from hdl.bus.map_pair import MapPair
from hdl.imc import legal
from hdl.imc.bounds import Bounds
from hdl.imc.core_control import CoreControl
from hdl.imc.dispatch import Dispatch
from hdl.imc.early_exit import EarlyExit
from hdl.imc.event_counters import EventCounters
from hdl.imc.gather import Gather
from hdl.imc.host_port import HostPort
from hdl.imc.job_port import JobPort
from hdl.imc.lane import Lane
from hdl.imc.layer import exit_layout, layer_layout, machine_layout, may_exit, vector_layout
from hdl.imc.macro import instance
from hdl.imc.post import Post
from hdl.imc.shift_add import ShiftAdd
from hdl.imc.transformer import Transformer, host_ports
from hdl.imc.vector_walk import VectorWalk
from hdl.imc.writable_tile import WritableTile
from hdl.imc.write_job import settings_layout


class Core(Block):
    """Run a layer from one activation memory to the other, calibrate all tiles, or write cells between layers.

    Twin of `golden.imc.run.run_layer`. One vector is gathered while tiles work on the one before it and its sums become spikes.
    A start waits for the end of a packet that is under way, and fails when one since the start before was malformed. An error
    stops the core, resets all its blocks but the port of the host (what calibration found is lost), and stands until the next
    start.

    Members
    -------
    machine, layer, exits, places, misfit, changed : In, settings, stand while ``busy``; see `hdl.imc.registers.Registers`
    start, calibrate : In(1); busy, done, error : Out(1), ``done`` and ``error`` high for a cycle; code : Out, a
        `golden.imc.arch.Error`
    host, answer : In(stream), Out(stream), see `HostPort`; packets, and so jobs, wait while ``busy``
    writing : In, how jobs write cells, stands while ``busy`` and while ``writes``: Out(1), a job of the host is on its way
    counters : Out, see `EventCounters`, of the last run; verdict : Out, see `EarlyExit`, of the last layer
    operate, store, work, load : In, `hdl.imc.transformer.host_ports`, which stand while ``busy``

    Source: imc 10, B0; decision 0015.
    """

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "machine": In(machine_layout()), "layer": In(layer_layout()), "exits": In(exit_layout()),
            "places": In(ShiftAdd.settings_layout(p)["places"].shape), "misfit": In(1), "changed": In(1), "start": In(1),
            "calibrate": In(1), "busy": Out(1), "done": Out(1), "error": Out(1), "code": Out(8),
            "counters": Out(EventCounters.counters_layout()), "verdict": Out(EarlyExit.verdict_layout(p)),
            "writing": In(settings_layout(p)), "writes": Out(1), "host": In(stream.Signature(HostPort.word_layout())),
            "answer": Out(stream.Signature(HostPort.word_layout())),
            **{name: In(shape) for name, shape in host_ports(p).items()},
        })

    def build(self) -> Module:
        m, p = Module(), self.params
        self.stop, self.control = Signal(name="stop"), CoreControl(p.tiles)
        self.tiles = [WritableTile(p) for _ in range(p.tiles)]
        self.lanes = [Lane(p, number) for number in range(p.tiles // p.fan_in)]
        self.walk, self.gather, self.dispatch, self.post = VectorWalk(p), Gather(p), Dispatch(p), Post(p)
        self.port, self.jobs, self.events = HostPort(p), JobPort(p), EventCounters(p)
        self.queue = Fifo(vector_layout(p).size, 2)
        self.maps = MapPair(p.rows, p.map_words, 3 if p.tokens else 2)
        self.transformer, self.early_exit = Transformer(p) if p.tokens else None, EarlyExit(p)
        for name in ("walk", "gather", "queue", "dispatch", "post", "early_exit", *(["transformer"] if p.tokens else [])):
            block = getattr(self, name)
            block.also_reset = self.stop
            m.submodules[name] = block
        self.bounds = Bounds.of(m, legal.layer_bounds(p, self.layer))
        self.bounds.also_reset = self.changed
        for name in ("events", "port", "jobs", "control", "maps", "bounds"):
            m.submodules[name] = getattr(self, name)
        for kind, blocks in (("tile", self.tiles), ("lane", self.lanes)):
            for number, part in enumerate(blocks):
                part.also_reset = self.stop
                m.submodules[f"{kind}_{number}"] = part
        self._settings(m)
        self._vectors(m)
        self._memories(m)
        self._exit(m)
        self._jobs(m)
        self._control(m, self._transformer(m))
        for number, tile in enumerate(self.tiles):
            m.submodules[f"macro_{number}"] = instance(p, tile, number)
        return m

    def _settings(self, m: Module) -> None:
        """Give every block the layer, and the tiles the settings of the machine."""
        machine, layer = self.machine, self.layer
        m.d.comb += [block.layer.eq(layer) for block in (self.walk, self.gather, self.dispatch, self.post, *self.lanes)]
        given = {name: machine[name] for name in machine.shape().members if name != "patience"} | {
            "bits": layer.bits, "outputs": layer.outputs, "places": self.places}
        for tile in self.tiles:
            m.d.comb += [tile.calibrate.eq(self.control.begins[1]), *(
                tile.settings[name].eq(value) for name, value in given.items())]

    def _vectors(self, m: Module) -> None:
        """Send every vector to the gatherer and, two at most ahead, to what follows the sums."""
        walk, gather, dispatch, post, queue = self.walk.o, self.gather, self.dispatch, self.post, self.queue
        m.d.comb += [
            gather.i.valid.eq(walk.valid & queue.i.ready), gather.i.payload.eq(walk.payload),
            queue.i.valid.eq(walk.valid & gather.i.ready), queue.i.payload.eq(walk.payload.as_value()),
            walk.ready.eq(gather.i.ready & queue.i.ready), dispatch.key.eq(walk.p.key),
            dispatch.i.valid.eq(gather.o.valid), gather.o.ready.eq(dispatch.i.ready), dispatch.i.p.eq(gather.o.p),
            post.i.valid.eq(queue.o.valid & self.bounds.done), queue.o.ready.eq(post.i.ready),
            post.i.payload.as_value().eq(queue.o.payload),
            post.ended.eq(Cat(lane.ended for lane in self.lanes).all() & self.early_exit.idle),
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
        port, gather, post, layer, asks = self.port, self.gather, self.post, self.layer, self.maps.asks
        m.d.comb += [
            self.maps.user.eq(self.control.runs), gather.word.eq(self.maps.word), port.word.eq(self.maps.word),
            *(asks[0][name].eq(port.bank) for name in ("read_bank", "write_bank")),
            *(asks[0][name].eq(port.address) for name in ("read_address", "write_address")),
            asks[0].read.eq(port.read), asks[0].write.eq(port.write), asks[0].data.eq(port.data),
            asks[1].read.eq(gather.read), asks[1].read_bank.eq(layer.source), asks[1].read_address.eq(gather.address),
            asks[1].write.eq(post.write), asks[1].write_bank.eq(~layer.source), asks[1].write_address.eq(post.address),
            asks[1].data.eq(post.word),
            port.hold.eq(self.busy | self.control.asked.any()), port.i.valid.eq(self.host.valid),
            self.host.ready.eq(port.i.ready), port.i.p.eq(self.host.p),
            self.answer.valid.eq(port.o.valid), port.o.ready.eq(self.answer.ready), self.answer.p.eq(port.o.p),
            post.parameters.eq(port.parameters),
        ]
        for number, tile in enumerate(self.tiles):
            m.d.comb += [tile.write.eq(port.number), tile.write.valid.eq(port.number.valid & (port.tile == number))]

    def _exit(self, m: Module) -> None:
        """Let what is read out pass early exit on its way to the host."""
        early, layer = self.early_exit, self.layer
        connect(m, self.post.readout, early.i)
        connect(m, early.o, self.port.readout)
        m.d.comb += [
            early.start.eq(self.control.begins[0]), early.settings.fresh.eq(layer.fresh & layer.readout),
            early.settings.classes.eq(layer.channels), self.verdict.eq(early.verdict),
            *(early.settings[name].eq(self.exits[name]) for name in exit_layout().members)]

    def _jobs(self, m: Module) -> None:
        """Give jobs of the host to the tile that they are for, and their ends to the host."""
        port, jobs, control, ended = self.port, self.jobs, self.control, self.jobs.ended
        m.d.comb += [
            jobs.i.valid.eq(port.o_job.valid), port.o_job.ready.eq(jobs.i.ready), jobs.i.p.eq(port.o_job.p),
            port.told.valid.eq(jobs.answer.valid), jobs.answer.ready.eq(port.told.ready), port.told.p.eq(jobs.answer.p),
            port.working.eq(jobs.busy), self.writes.eq(jobs.busy), control.job.valid.eq(ended.valid & ended.ready),
            control.job.error.eq(ended.p.error), ended.p.eq(Array(tile.o_job.p.as_value() for tile in self.tiles)[port.tile]),
        ]
        for number, tile in enumerate(self.tiles):
            m.d.comb += [tile.writing.eq(self.writing), tile.i_job.p.eq(jobs.o.p), tile.o_fail.ready.eq(1)]
            with m.If(port.tile == number):
                m.d.comb += [tile.i_job.valid.eq(jobs.o.valid), jobs.o.ready.eq(tile.i_job.ready),
                             ended.valid.eq(tile.o_job.valid), tile.o_job.ready.eq(ended.ready)]

    def _transformer(self, m: Module) -> Value:
        """Connect what works on tokens; return whether something happens there."""
        unit, control = self.transformer, self.control
        if unit is None:
            return Const(0)
        m.d.comb += [
            unit.work.eq(self.work), unit.load.eq(self.load), unit.numbers.eq(self.port.tokens), unit.word.eq(self.maps.word),
            unit.token.eq(self.post.i.p.window), self.post.factor.eq(unit.factor), self.maps.asks[2].eq(unit.ask),
            Cat(unit.start, unit.write).eq(control.begins[2:]), control.asked[2:].eq(Cat(self.operate, self.store)),
            control.unit_done.eq(unit.done), control.unit_error.eq(unit.error), control.unit_code.eq(unit.code)]
        with m.If(unit.busy):
            m.d.comb += self.maps.user.eq(2)
            for number, tile in enumerate(self.tiles):
                m.d.comb += [
                    tile.i_job.valid.eq(unit.jobs[number].valid), unit.jobs[number].ready.eq(tile.i_job.ready),
                    tile.i_job.p.eq(unit.jobs[number].p), tile.o_job.ready.eq(1), unit.ended[number].eq(tile.o_job.valid),
                    unit.errors[number].eq(tile.o_job.p.error)]
        return unit.ask.read | unit.ask.write | unit.ended.any()

    def _control(self, m: Module, works: Value) -> None:
        """Start, end, and stop on errors; works : something happens on tokens."""
        control, events, post, tiles = self.control, self.events, self.post, self.tiles
        m.d.comb += [
            control.asked[:2].eq(Cat(self.start, self.calibrate)), control.idle.eq(self.port.idle),
            control.malformed.eq(self.port.malformed | self.jobs.error), control.legal.eq(self._legal()),
            control.over.eq(post.i.ready & post.i.p.end), control.calibrated.eq(Cat(tile.calibrated for tile in tiles)),
            control.failed.eq(Cat(tile.failed for tile in tiles).any()), self.walk.start.eq(control.begins[0]),
            control.unfit.eq(post.unfit),
            control.sums.eq(Cat(lane.error for lane in self.lanes).any()), control.patience.eq(self.machine.patience),
            control.droop.eq(Cat(tile.droop for tile in tiles).any()), control.happens.eq(
                Cat(tile.events.conversions | tile.events.phase | tile.writes for tile in tiles).any() | post.released
                | self.answer.valid | (self.host.valid & self.host.ready) | works),
            *(getattr(self, name).eq(getattr(control, name)) for name in ("busy", "done", "error", "code")),
            self.stop.eq(control.stop), events.clear.eq(control.asked.any() & ~self.busy), events.busy.eq(self.busy),
            events.steps.eq(post.steps), events.spikes.eq(post.spikes),
            events.words.eq(self.maps.asks[self.maps.user].write & (self.maps.user != 0)),
            self.counters.eq(events.counters), *(events.tiles[n].eq(tile.events) for n, tile in enumerate(tiles)),
        ]

    def _legal(self) -> Value:
        """Return which commands the settings allow; sums over a layer are known some cycles after they are written."""
        p, machine, layer = self.params, self.machine, self.layer
        converts = legal.converts(p, machine) & ~self.misfit
        runs = (legal.runs(p, layer) & legal.computes(p, machine, layer.bits, layer.outputs) & ~self.bounds.wrong
                & (may_exit(p, layer, self.exits, self.verdict.step) | self.control.runs))
        return Cat(converts & runs, converts & (layer.crossbar < p.crossbars), ~self.misfit, ~self.misfit)
