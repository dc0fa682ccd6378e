"""What a core does for transformers between layers: operations on tokens, and tensors that become weights."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from golden.imc.arch import Error, ImcArch
from hdl.block import Block
from hdl.imc.cell_loader import CellLoader
from hdl.imc.row_factor import FACTOR_BITS
from hdl.imc.token_unit import TokenUnit


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
    read, read_bank, read_address, word; write_en, write_bank, write_address, written : to the activation memories; ``word`` in
        the cycle after ``read``
    o : Out(stream), `CellLoader.row_layout`, rows that a tile writes
    ended, failed : In(1), a row is over, and not all of its cells are at their levels; one at a time

    Source: imc 4 and 10, B9 and B10; workloads 5.2.
    """

    o: stream.Interface

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        memory = {"bank": Out(1), "address": Out(range(p.map_words))}
        super().__init__({
            "work": In(TokenUnit.work_layout(p)), "load": In(CellLoader.load_layout()), "start": In(1), "write": In(1),
            "busy": Out(1), "done": Out(1), "error": Out(1), "code": Out(8), "numbers": In(TokenUnit.numbers_layout(p)),
            "token": In(range(max(2, p.tokens))), "factor": Out(FACTOR_BITS), "read": Out(1), "word": In(p.rows),
            "write_en": Out(1), "written": Out(p.rows), **{f"read_{name}": port for name, port in memory.items()},
            **{f"write_{name}": port for name, port in memory.items()}, "o": Out(stream.Signature(CellLoader.row_layout(p))),
            "ended": In(1), "failed": In(1),
        })

    def build(self) -> Module:
        m, p = Module(), self.params
        m.submodules.unit = unit = TokenUnit(p)
        m.submodules.loader = loader = CellLoader(p)
        loads, open_rows, sent = Signal(), Signal(range(p.tiles * 2 + 1)), Signal()
        m.d.comb += [
            unit.work.eq(self.work), loader.load.eq(self.load), unit.numbers.eq(self.numbers), unit.token.eq(self.token),
            self.factor.eq(unit.factor), self.read.eq(Mux(loads, loader.read, unit.read)),
            self.read_bank.eq(Mux(loads, loader.bank, unit.read_bank)),
            self.read_address.eq(Mux(loads, loader.address, unit.read_address)), unit.word.eq(self.word),
            loader.word.eq(self.word), self.write_en.eq(unit.write), self.write_bank.eq(unit.write_bank),
            self.write_address.eq(unit.write_address), self.written.eq(unit.written), self.o.p.eq(loader.o.p),
            self.o.valid.eq(loader.o.valid), loader.o.ready.eq(self.o.ready), sent.eq(self.o.valid & self.o.ready),
        ]
        m.d.sync += open_rows.eq(open_rows + sent - self.ended)
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
                m.d.comb += [self.error.eq(self.ended & self.failed), self.code.eq(Error.CELLS),
                             self.done.eq(~self.error & ~loader.busy & (open_rows == 0))]
                with m.If(self.done | self.error):
                    m.next = "IDLE"
        return m
