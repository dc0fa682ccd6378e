"""Write-verify programming: golden by hand, the RTL's trace against golden's for every device, the macro's contract, times."""

import dataclasses
import random
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from golden.arch import ParameterError
from golden.imc.arch import IMC_PRESETS, ORDERS, ImcArch, Op, WriteError
from golden.imc.devices import DEVICES, Cells, Device, play
from golden.imc.macro import FRACTION, Adc, Effects, build
from golden.imc.pulse_sweep import Pulses, Sweep
from golden.imc.write_verify import Counts, Entry, Job, Outcome, Pulse, Settings, Verify, write_verify
from hdl.imc.write_job import fail_layout, job_layout, outcome_layout, settings_layout
from hdl.imc.write_verify import WriteVerify
from verif.imc.chip import Chip
from verif.layers import start
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import cycle, get, put, stalls, watch, word

TINY = IMC_PRESETS["tiny-ci"]
# The last one has rows and columns that are no power of two.
ARCHS = {"tiny-ci": TINY,
         "four bits": dataclasses.replace(TINY, rows=4, cols=6, mux=1, group_rows=1, cell_bits=4, adc_bits=6),
         "one bit": dataclasses.replace(TINY, rows=5, cols=11, mux=1, group_rows=1, cell_bits=1, scheme="offset")}


@pytest.mark.parametrize("name", ARCHS)
def test_write_verify(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(WriteVerify(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("Mux(high, entry.high, entry.low)", "Mux(high, entry.low, entry.high)", id="bounds swapped"),
    pytest.param("allowed.eq(job.mask)", "allowed.eq(~0)", id="mask not applied"),
    pytest.param("action.reset.eq(high)", "action.reset.eq(0)", id="polarity stuck"),
    pytest.param("reads + 1 == settings.confirm_n", "1", id="confirmed by one read"),
    pytest.param("with m.If(~settings.ignore_fail):\n", "with m.If(0):\n", id="goes on after failures"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Bounds, masks, polarities and ends that are wrong are caught."""
    simulate(mutant(WriteVerify, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True,
             test_filter="matches_golden_with_any_answers")


def cells_of(arch: ImcArch, device: Device, seed: int, *, noise: float = 0, stuck: float = 0) -> Cells:
    """Return a crossbar whose cells lie anywhere in their range, some of them stuck."""
    rng = np.random.default_rng(seed)
    macro = build(arch, Adc(bits=1), np.zeros((arch.rows, arch.cols), dtype=np.int64), Effects(seed=seed, verify_noise=noise))
    cells = Cells(macro, device.response, rng.random((arch.rows, arch.cols)) < stuck)
    cells.conductance = rng.integers(0, (1 << arch.cell_bits) << FRACTION, (arch.rows, arch.cols))
    return cells


def draw_job(rng: random.Random, arch: ImcArch, op: int) -> Job:
    """Return a job on any row: all columns, some, one or none, of any levels or all of one."""
    top, full = (1 << arch.cell_bits) - 1, (1 << arch.cols) - 1
    levels = rng.choice(([rng.randint(0, top) for _ in range(arch.cols)], [rng.randint(0, top)] * arch.cols))
    mask = rng.choice((full, full, rng.getrandbits(arch.cols), 1 << rng.randrange(arch.cols), 0))
    return Job(op=op, row=rng.randrange(arch.rows), levels=tuple(levels), mask=mask)


def one_level(**changes: Any) -> Settings:
    """Return settings of a tile of two levels in which only level 1 does anything: up to 3 pulses of 5 cycles, codes 7 to 8."""
    pulses = Pulses(width=Sweep(start=5, stop=5), word=Sweep(start=9, stop=9), bit=Sweep(start=7, stop=8), count=3)
    entry = Entry(low=30, high=40, set=pulses, reset=pulses)
    return Settings(**{"entries": (Entry(low=0, high=0), entry, entry, entry), "alternations": 2, "confirm_k": 1,
                       "confirm_n": 1, **changes})


def told(answers: str, settings: Settings, job: Job | None = None) -> tuple[str, Outcome]:
    """Return the actions of a job in short, and how it ended, when comparisons are answered by octal masks or ``-``."""
    given: Iterator[str] = iter(answers.split())
    arch = dataclasses.replace(TINY, cols=3, mux=1, cell_bits=1, weight_bits=2, scheme="offset")
    job = job or Job(op=Op.PROG, row=2, levels=(1, 1, 0), mask=0b011)
    trace, outcome = play(write_verify(arch, settings, job), lambda ask: None if (a := next(given)) == "-" else int(a, 8),
                          lambda pulse: None)
    assert not list(given)
    short = [f"v{a.reference}" if isinstance(a, Verify) else f"{'R' if a.reset else 'S'}{a.mask}@{a.bit}" for a in trace]
    return " ".join(short), outcome


@pytest.mark.parametrize(("answers", "trace", "fails", "counts"), [
    # Both are there at once: both bounds, then one reading that confirms.
    ("3 0 3 0", "v30 v40 v30 v40", [], (0, 0, 4, 0, 0, 0)),
    # Column 1 needs two pulses, column 0 one; the sweep stops at 8; a quiet pair of bounds follows.
    ("0 1 3 0 3 3 0", "v30 S3@7 v30 S2@8 v30 v40 v30 v30 v40", [], (2, 0, 7, 1, 3, 0)),
    # Column 0 overshoots and comes back.
    ("2 3 1 0 3 0 3 0", "v30 S1@7 v30 v40 R1@7 v40 v30 v40 v30 v40", [], (1, 1, 8, 2, 1, 1)),
    # Column 1 never moves: given up after three pulses, column 0 goes on alone.
    ("1 1 1 1 0 1 1 0", "v30 S2@7 v30 S2@8 v30 S2@8 v30 v40 v30 v30 v40", [(1, 1)], None),
    # All give up: nothing is left to confirm.
    ("0 0 0 0", "v30 S3@7 v30 S3@8 v30 S3@8 v30", [(0, 1), (1, 1)], (3, 0, 4, 0, 6, 0)),
    # The confirmation does not see column 0: it goes round again, column 1 rests.
    ("3 0 2 0 0 1 0 1 1 0", "v30 v40 v30 v40 v30 S1@7 v30 v40 v30 v30 v40", [], None),
    # Alternations are used up: the last reading decides.
    ("2 3 1 0 1 3 1 2", "v30 S1@7 v30 v40 R1@7 v40 v30 S2@7 v30 v30 v40", [(1, 1)], None),
])
def test_by_hand(answers: str, trace: str, fails: list[tuple[int, int]], counts: tuple[int, ...] | None) -> None:
    """Traces worked out by hand from the rules; column 2 is masked out whatever it answers."""
    for others in (0, 4):
        loud = " ".join(oct(int(a, 8) | others)[2:] for a in answers.split())
        got, outcome = told(loud, one_level())
        assert got == trace and list(outcome.fails) == fails
        assert outcome.error == (WriteError.CELLS if fails else WriteError.NONE)
        assert counts is None or dataclasses.astuple(outcome.counts) == counts


def test_confirm_counts_reads() -> None:
    """Two of three reads suffice, one does not."""
    settings = one_level(confirm_k=2, confirm_n=3, alternations=0)
    for answers, fails in (("3 0 3 0 1 0 2 0", []), ("3 0 3 2 0 0 3 0", [1]), ("3 0 3 3 3 0 3 2", [1])):
        got, outcome = told(answers, settings)
        assert got == " ".join(["v30 v40"] * 4)
        assert [column for column, _ in outcome.fails] == fails, answers


def test_other_ops() -> None:
    """READ takes low references alone, TEST confirms alone, FORM and ERASE follow their entries, REFRESH what it reads."""
    def of(op: int, answers: str, **changes: Any) -> tuple[str, Outcome]:
        return told(answers, one_level(**changes), Job(op=op, row=0, levels=(0, 1, 0), mask=0b110))

    assert of(Op.READ, "5") == ("v30", Outcome(error=WriteError.NONE, levels=(0, 0, 1), counts=Counts(reads=1)))
    assert of(Op.TEST, "0 0")[0] == "v30 v40" and of(Op.TEST, "0 0")[1].fails == ((1, 1),)
    assert of(Op.FORM, "2 6 0 6 6 0")[0] == "v30 S4@7 v30 v40 v30 v30 v40"
    assert of(Op.ERASE, "0 0 0 0", ignore_fail=False)[1].fails == ((1, 3), (2, 3))
    assert of(Op.REFRESH, "4 4 0 4 0")[0] == "v30 v30 v40 v30 v40"
    assert of(Op.PROG, "-")[1].error == WriteError.SILENT and of(6, "")[1].error == WriteError.SETTINGS


@pytest.mark.parametrize(("settings", "message"), [
    ({"confirm_k": 4, "confirm_n": 3}, "confirm_k must be in 1..confirm_n (3), not 4"),
    ({"confirm_n": 0}, "confirm_n must be in 1..15, not 0"),
    ({"patience": 1 << 16}, "patience must be in 0..65535, not 65536"),
    ({"entries": ()}, "entries must be 4, one for each level, FORM and ERASE, not 0"),
])
def test_refusals(settings: dict[str, Any], message: str) -> None:
    """Settings that the hardware cannot hold are refused in one line."""
    with pytest.raises(ParameterError) as error:
        told("", one_level(**settings))
    assert str(error.value) == message


@pytest.mark.parametrize(("entry", "message"), [
    ({"low": 64, "high": 0}, "low and high must be in 0..63, not (64, 0)"),
    ({"low": 9, "high": 9}, "high must be 0, or above low (9), not 9"),
    ({"low": 0, "high": 0, "order": 6}, "order must be in 0..5, not 6"),
])
def test_entries_are_checked(entry: dict[str, Any], message: str) -> None:
    """Bounds with nothing between them are refused."""
    with pytest.raises(ParameterError) as error:
        Entry(**entry)
    assert str(error.value) == message


def draw_settings(rng: random.Random, arch: ImcArch) -> Settings:
    """Return settings whose sweeps, bounds, limits and times are random and short; some bounds are missing."""
    def sweep(top: int) -> Sweep:
        first, last = sorted(rng.randint(0, top) for _ in range(2))
        return Sweep(start=first, stop=last, step=rng.randint(1, top))

    def pulses() -> Pulses:
        return Pulses(width=sweep(5), exponent=rng.randrange(3), word=sweep(255), bit=sweep(31), count=rng.randint(0, 5))

    def entry() -> Entry:
        low, high = sorted(rng.sample(range(64), 2))
        return Entry(low=rng.choice((low, low, 0)), high=rng.choice((high, high, 0)), set=pulses(), reset=pulses(),
                     order=rng.randrange(len(ORDERS)))

    n = rng.randint(1, 4)
    return Settings(entries=tuple(entry() for _ in range((1 << arch.cell_bits) + 2)), alternations=rng.randint(0, 5),
                    confirm_k=rng.randint(1, n), confirm_n=n, ignore_fail=rng.random() < 0.5, t_guard=rng.randint(0, 3),
                    t_verify=rng.randint(0, 4), t_pre=rng.randint(0, 4), t_cool=rng.randint(0, 4), patience=20)


class Answers:
    """Random answers, the same for golden and RTL: cells seem to be anywhere; some questions are not answered."""

    def __init__(self, arch: ImcArch, seed: int, silent: float) -> None:
        self.rng, self.arch, self.silent = random.Random(seed), arch, silent

    def verify(self, ask: Verify) -> int | None:
        """Return bits of a random density, whatever the reference."""
        density, silent = self.rng.choice((0, 0.2, 0.5, 0.9, 1)), self.rng.random() < self.silent
        answer = sum(1 << column for column in range(self.arch.cols) if self.rng.random() < density)
        return None if silent else answer

    def pulse(self, pulse: Pulse) -> None:
        """Feel nothing."""


@dataclasses.dataclass
class Bench:
    """The block with a macro of its own beside golden with another one just like it."""

    dut: Any
    arch: ImcArch
    settings: Settings
    chip: Chip
    golden: Cells | Answers
    rng: random.Random
    stall: float

    def changes_to(self, settings: Settings, make: Callable[[], Cells | Answers]) -> None:
        """Take another macro on both sides."""
        macro = make()
        self.settings, self.golden, self.chip.answer, self.chip.feel = settings, make(), macro.verify, macro.pulse

    async def run(self, job: Job) -> Outcome:
        """Assert that a job does on the RTL what it does in golden, and that nothing breaks the contract; return its end."""
        p, dut, layout = self.arch, self.dut, outcome_layout(self.arch)
        trace, wanted = play(write_verify(p, self.settings, job), self.golden.verify, self.golden.pulse)
        self.chip.mask, self.chip.guard = job.mask, max(1, self.settings.t_guard)
        self.chip.wanted = trace
        self.chip.trace.clear()
        dut.settings.value = word(settings_layout(p), dataclasses.asdict(self.settings))
        fails = cocotb.start_soon(get(dut, "o_fail", len(wanted.fails), stalls(self.rng, self.stall)))
        taken = cocotb.start_soon(put(dut, "i", [word(job_layout(p), dataclasses.asdict(job))]))
        await RisingEdge(dut.o__valid)
        (ended,) = await get(dut, "o", 1, stalls(self.rng, self.stall))
        await taken
        assert len(self.chip.trace) == len(trace), (job, self.settings)
        got = layout.from_bits(ended)
        assert fails.done(), "cells that failed are not told"
        assert fails.result() == [word(fail_layout(p), {"row": job.row, "column": column, "entry": entry})
                                  for column, entry in wanted.fails]
        counts = {name: int(got.counts[name]) for name in dataclasses.asdict(wanted.counts)}
        assert (WriteError(int(got.error)), int(got.fail)) == (wanted.error, wanted.mask)
        assert tuple(int(got.levels[n]) for n in range(p.cols)) == wanted.levels
        assert counts == dataclasses.asdict(wanted.counts) == conserved(trace, counts["alternations"])
        if not self.stall:
            self.check_times()
        return wanted

    def check_times(self) -> None:
        """Without stalls a pulse comes the documented cycles after a question, and a question after a pulse."""
        guard, verify, pre, cool = (max(1, getattr(self.settings, name)) for name in ("t_guard", "t_verify", "t_pre", "t_cool"))
        for (one, _, end), (other, begin, _) in pairwise(self.chip.trace):
            if isinstance(other, Pulse):
                assert begin - end == 4 + guard + pre
            elif isinstance(one, Pulse):
                assert begin - end == cool + guard + 2 + verify
            else:
                assert begin - end >= 4 + verify


def conserved(trace: list[Verify | Pulse], alternations: int) -> dict[str, int]:
    """Return the counts that a trace gives; alternations leave none."""
    pulses = [action for action in trace if isinstance(action, Pulse)]
    sides = [[pulse.mask.bit_count() for pulse in pulses if pulse.reset == reset] for reset in (False, True)]
    return {"set": len(sides[0]), "reset": len(sides[1]), "reads": len(trace) - len(pulses), "alternations": alternations,
            "set_bits": sum(sides[0]), "reset_bits": sum(sides[1])}


async def begin(dut: Any, settings: Settings, make: Callable[[], Cells | Answers], stall: float) -> Bench:
    """Reset, and return a bench with two macros that ``make`` returns."""
    arch, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    await start(dut, ["settings", "i__valid", "o__ready", "o_fail__ready", "mode_gnt", "vf_sa", "vf_rdy"])
    dut.rst.value = 0
    for name in ("o", "o_fail"):
        cocotb.start_soon(watch(dut, name))
    macro = make()
    chip = Chip(macro.verify, macro.pulse, late=4 if stall else 0, seed=rng.getrandbits(32))
    chip.start(dut)
    return Bench(dut, arch, settings, chip, make(), rng, stall)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.4])
async def matches_golden(dut: Any, stall: float) -> None:
    """Every device that the tile can have: rows formed, erased, programmed, read, tested, refreshed; some cells are stuck."""
    arch = ImcArch(**parameters_of_bench())
    bench: Bench | None = None
    for device in (device for device in DEVICES.values() if arch.cell_bits <= device.cell_bits):
        make = partial(cells_of, arch, device, random.Random(cocotb.RANDOM_SEED).getrandbits(62), noise=0.02, stuck=0.05)
        settings = device.settings(arch.cell_bits, patience=50)
        bench = bench or await begin(dut, settings, make, stall)
        bench.changes_to(settings, make)
        for op in (Op.FORM, Op.ERASE, Op.PROG, Op.PROG, Op.TEST, Op.READ, Op.REFRESH, *bench.rng.choices(list(Op), k=6)):
            await bench.run(draw_job(bench.rng, arch, op))


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.4])
async def matches_golden_with_any_answers(dut: Any, stall: float) -> None:
    """Random settings, and answers that no device gives: the trace is a function of the answers, silence ends a job."""
    arch, seed = ImcArch(**parameters_of_bench()), cocotb.RANDOM_SEED
    bench = await begin(dut, draw_settings(random.Random(seed), arch), lambda: Answers(arch, seed, 0.01), stall)
    ended = set()
    for _ in range(60):
        bench.settings = draw_settings(bench.rng, arch)
        ended.add((await bench.run(draw_job(bench.rng, arch, bench.rng.randrange(8)))).error)
    assert ended >= {WriteError.NONE, WriteError.CELLS, WriteError.SETTINGS}


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def silence_ends_a_job(dut: Any) -> None:
    """A comparison without an answer ends a job after ``patience`` cycles; the next job finds everything in order."""
    arch = ImcArch(**parameters_of_bench())
    settings = DEVICES["rram"].settings(arch.cell_bits, patience=37)
    bench = await begin(dut, settings, lambda: Answers(arch, 1, 1), 0)
    job = Job(op=Op.PROG, row=1, levels=(1,) * arch.cols, mask=1)
    assert (await bench.run(job)).error == WriteError.SILENT
    ((_, asked, _),) = bench.chip.trace
    await RisingEdge(dut.clk)
    assert not dut.busy.value and dut.mode_req.value == 0 and cycle() - asked == 37 + 4
    bench.changes_to(settings, partial(cells_of, arch, DEVICES["rram"], 5))
    assert (await bench.run(job)).error == WriteError.NONE


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def illegal_settings_do_nothing(dut: Any) -> None:
    """What golden refuses to be told, and rows and ops that do not exist, end in an error, without an action."""
    arch = ImcArch(**parameters_of_bench())
    legal = dataclasses.asdict(DEVICES["rram"].settings(arch.cell_bits))
    await begin(dut, DEVICES["rram"].settings(arch.cell_bits), lambda: Answers(arch, 1, 0), 0)
    job = {"op": int(Op.TEST), "row": 0, "levels": [0] * arch.cols, "mask": 1}
    entries = legal["entries"]
    cases = [(legal | {"confirm_k": 0}, job), (legal | {"confirm_k": 4, "confirm_n": 3}, job), (legal, job | {"op": 6}),
             (legal | {"entries": (*entries[:-1], entries[-1] | {"order": 6})}, job)]
    cases += [(legal, job | {"row": arch.rows})] if arch.rows & arch.rows - 1 else []
    for settings, given in cases:
        dut.settings.value = word(settings_layout(arch), settings)
        sender = cocotb.start_soon(put(dut, "i", [word(job_layout(arch), given)]))
        at: list[int] = []
        (ended,) = await get(dut, "o", 1, at=at)
        (taken,) = await sender
        assert int(outcome_layout(arch).from_bits(ended).error) == WriteError.SETTINGS and at[0] == taken + 2
        assert not dut.mode_req.value
