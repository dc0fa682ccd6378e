"""What a core does for transformers between layers: operations on tokens, and tensors that become weights."""

from amaranth.hdl import Array, Cat, Module, Mux, ShapeLike, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import Error, ImcArch, Op
from hdl.block import Block
from hdl.bus.map_pair import MapPair
from hdl.imc.cell_loader import CellLoader
from hdl.imc.row_factor import FACTOR_BITS
from hdl.imc.token_unit import TokenUnit
from hdl.imc.writable_tile import WritableTile
from hdl.imc.write_job import OF_JOB


def host_ports(p: ImcArch) -> dict[str, ShapeLike]:
    """Return what the host drives in a build with tokens, without them nothing.

    operate, store : begin an operation on tokens, write a tensor to crossbars, high for a cycle while nothing runs
    work, load : of both
    """
    if not p.tokens:
        return {}
    return {"operate": 1, "store": 1, "work": TokenUnit.work_layout(p), "load": CellLoader.load_layout()}


class Transformer(Block):
    """Run an operation on all tokens, or write a tensor to crossbars; one of both at a time.

    Twins are `golden.imc.token_unit.token_unit` and `golden.imc.cell_loader.cell_loader`. An operation takes as long as
    `TokenUnit` says, and 2 cycles. A tensor is written when the last of its rows is, each as soon as its tile takes it.

    Members
    -------
    work, load : In, `TokenUnit.work_layout` and `CellLoader.load_layout`; stand while ``busy``
    start : In(1), an operation; write : In(1), a tensor; not while ``busy``; busy : Out(1)
    done, error : Out(1), high for a cycle, the last one in which ``busy`` is; code : Out, why, a `golden.imc.arch.Error`
    numbers, token, factor : of `TokenUnit`
    ask : Out, `hdl.bus.map_pair.MapPair.client_layout`, to the activation memories; word : In, in the cycle after
    jobs : Out(stream), [tiles] of `hdl.imc.writable_tile.WritableTile.order_layout`
    ended, errors : In, [tiles], a job is over, and why it failed, a `golden.imc.arch.WriteError`; one at a time

    Source: imc 4 and 10, B9 and B10; workloads 5.2.
    """

    jobs: list[stream.Interface]

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({
            "work": In(TokenUnit.work_layout(p)), "load": In(CellLoader.load_layout()), "start": In(1), "write": In(1),
            "busy": Out(1), "done": Out(1), "error": Out(1), "code": Out(8), "numbers": In(TokenUnit.numbers_layout(p)),
            "token": In(range(max(2, p.tokens))), "factor": Out(FACTOR_BITS), "word": In(p.rows),
            "ask": Out(MapPair.client_layout(p.rows, p.map_words)), "ended": In(p.tiles),
            "errors": In(data.ArrayLayout(2, p.tiles)),
            "jobs": Out(stream.Signature(WritableTile.order_layout(p))).array(p.tiles),
        })

    def build(self) -> Module:
        m, p = Module(), self.params
        m.submodules.unit = unit = TokenUnit(p)
        m.submodules.loader = loader = CellLoader(p)
        loads, open_rows, sent, ended = Signal(), Signal(range(p.tiles * 2 + 1)), Signal(), Signal()
        row, ask, failed = loader.o, self.ask, Signal(2)
        for number in range(p.tiles):
            with m.If(self.ended[number]):
                m.d.comb += failed.eq(self.errors[number])
        m.d.comb += [
            unit.work.eq(self.work), loader.load.eq(self.load), unit.numbers.eq(self.numbers), unit.token.eq(self.token),
            self.factor.eq(unit.factor), ask.read.eq(Mux(loads, loader.read, unit.read)),
            ask.read_bank.eq(Mux(loads, loader.bank, unit.read_bank)),
            ask.read_address.eq(Mux(loads, loader.address, unit.read_address)), unit.word.eq(self.word),
            loader.word.eq(self.word), ask.write.eq(unit.write), ask.write_bank.eq(unit.write_bank),
            ask.write_address.eq(unit.write_address), ask.data.eq(unit.written), ended.eq(self.ended.any()),
            row.ready.eq(Cat(way.valid & way.ready for way in self.jobs).any()), sent.eq(row.valid & row.ready),
        ]
        for number, way in enumerate(self.jobs):
            m.d.comb += [
                way.valid.eq(row.valid & (row.p.tile == number)), way.p.crossbar.eq(row.p.crossbar), way.p.job.op.eq(Op.PROG),
                *(way.p.job[name].eq(row.p[name]) for name in ("row", "levels", "mask"))]
        m.d.sync += open_rows.eq(open_rows + sent - ended)
        with m.FSM() as states:
            m.d.comb += [self.busy.eq(~states.ongoing("IDLE")), loads.eq(states.ongoing("LOAD"))]
            with m.State("IDLE"):
                m.d.sync += open_rows.eq(0)
                with m.If(self.start):
                    m.d.comb += unit.start.eq(1)
                    m.next = "WORK"
                with m.Elif(self.write):
                    m.d.comb += loader.start.eq(1)
                    m.next = "LOAD"
            with m.State("WORK"):
                m.d.comb += [self.done.eq(unit.done), self.error.eq(unit.error), self.code.eq(Error.REUSE)]
                with m.If(unit.done | unit.error):
                    m.next = "IDLE"
            with m.State("LOAD"):
                m.d.comb += [self.error.eq(failed != 0), self.code.eq(Array(OF_JOB)[failed]),
                             self.done.eq(~self.error & ~loader.busy & (open_rows == 0))]
                with m.If(self.done | self.error):
                    m.next = "IDLE"
        return m
