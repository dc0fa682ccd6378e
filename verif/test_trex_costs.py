"""Costs of attention reuse: counts are golden's, cycles those that benches assert, numbers of encoders the formula's."""

import itertools
import math
import random
from dataclasses import replace

import numpy as np
import pytest

from golden.arch import ParameterError
from golden.imc.arch import IMC_PRESETS, Op
from golden.imc.devices import DEVICES, Cells, play
from golden.imc.kv_write import WriteMemory, kv_writes
from golden.imc.macro import Adc, build
from golden.imc.reuse_buffer import MODES
from golden.imc.vit import run
from golden.imc.vit_crossbars import sram
from golden.imc.vit_lower import lower
from golden.imc.write_verify import Job, Pulse, Verify, write_verify
from hdl.imc.cell_loader import CellLoader
from hdl.imc.norm import Norm
from hdl.imc.reuse_buffer import ReuseBuffer
from hdl.imc.settings import Times
from hdl.imc.softmax import Softmax
from perf import spikesim
from perf.crossbar import AREA, ENERGY, ROOT_BITS, action_cycles, norm_cycles, phase_cycles, softmax_cycles
from perf.imc_energy import FLASH
from perf.reuse import alignments, choose, cka, greedy, reused_encoders, score
from perf.vit import BYTE, DEIT_S, ORGANISATIONS, ROW_PULSES, ROW_VERIFIES, Machine, Matrix, Shape, cost
from verif.imc.test_cell_access import cycles
from verif.imc.vit_networks import SMALL, random_vit

FEFET = IMC_PRESETS["trex-fefet"]
DIGITS = Shape(name="digits", tokens=16, dim=32, heads=2, mlp=2, depth=8, classes=10, patch=4, read=16, pixel_bits=5)
TIMES = Times()


def machine(organisation: str) -> Machine:
    """Return tiles with the usual times."""
    return Machine(static=FEFET, organisation=organisation, times=TIMES)


def test_phases_take_what_is_documented() -> None:
    """The figures of docs/imc.md for a phase of spikesim, and that of eight bits."""
    assert [phase_cycles(IMC_PRESETS["spikesim"], bits, TIMES) for bits in (7, 8)] == [190, 214]


def test_rows_take_what_is_documented() -> None:
    """Digits of roots and quotients are the hardware's; the sentences that say the cycles are those that benches assert."""
    assert {Norm.root_bits(length) for length in (DIGITS.dim, DEIT_S.dim)} == {ROOT_BITS}
    for block, sentence in ((Norm, "``2 * bits + 12``"), (Softmax, "first e is offered 5 cycles after its last score"),
                            (Softmax, "offered 36 cycles after its last e"), (ReuseBuffer, "first value 6 cycles after"),
                            (CellLoader, "A row takes a cycle for each bit of its weights and 3 more")):
        assert sentence in " ".join((block.__doc__ or "").split()), sentence
    assert (norm_cycles(32), softmax_cycles(16)) == (64 + 82 + 12, 32 + 5 + 36)


def test_write_actions_take_what_the_bench_asserts(seed: int) -> None:
    """Cycles of comparisons and pulses are those that the bench of `hdl.imc.cell_access` asserts."""
    settings, rng = DEVICES["sram"].settings(1), random.Random(seed)
    times = {name: getattr(settings, name) for name in ("t_guard", "t_verify", "t_pre", "t_cool", "patience")}
    actions: list[Verify | Pulse] = [Verify(0, 1), *(Pulse(0, 1, False, rng.randint(1, 90), 1, 1) for _ in range(9))]
    for action in actions:
        assert action_cycles(action, settings) == cycles(action, times)


def test_a_row_takes_what_is_counted(seed: int) -> None:
    """A row of SRAM in which cells of both kinds change takes just as many comparisons and pulses; none takes more."""
    p, rng = sram(FEFET), random.Random(seed)
    macro = build(p, Adc(bits=8), np.zeros((p.rows, p.cols), np.int64))
    cells, before = Cells(macro, DEVICES["sram"].response), [0] * p.cols
    for _ in range(20):
        levels = [rng.getrandbits(1) for _ in before]
        job = Job(op=Op.PROG, row=3, levels=tuple(levels), mask=(1 << p.cols) - 1)
        actions, _ = play(write_verify(p, DEVICES["sram"].settings(1), job), cells.verify, cells.pulse)
        pulses = sum(isinstance(action, Pulse) for action in actions)
        assert pulses == len({(a, b) for a, b in zip(before, levels, strict=True) if a != b}) <= ROW_PULSES
        assert len(actions) - pulses <= ROW_VERIFIES and (pulses < ROW_PULSES or len(actions) == ROW_VERIFIES + ROW_PULSES)
        before = levels


@pytest.mark.parametrize("mode", MODES)
def test_counts_are_those_of_golden(mode: str, seed: int) -> None:
    """Products, K and V words and rows that the formulas count are those of the operations that a run does."""
    net, images = random_vit(seed, (2, 4), mode, images=1)
    trace = run(lower(net), images)
    macs = sum(op.operands["x"].shape[1] * math.prod(op.operands["weight"].shape[-2:]) for op in trace.of("crossbar"))
    kv = kv_writes(trace, WriteMemory(sram(FEFET)), SMALL.depth, 0)
    p = Shape(name="small", tokens=SMALL.tokens, dim=SMALL.dim, heads=SMALL.heads, mlp=SMALL.mlp, depth=SMALL.depth,
              classes=10, patch=4, read=SMALL.tokens, pixel_bits=5)
    found = cost(p, machine("core"), 2, mode)
    assert (found.macs, found.kv_words, found.kv_rows) == (
        macs, sum(one.words for one in kv.values()), sum(one.rows for one in kv.values()))


def test_crossbars_of_deit_s() -> None:
    """Blocks of imc 4.3 for each of eight columns of a weight, rewritten words, products; both organisations hold the same."""
    on = machine("spatial")
    dim, blocks = DEIT_S.dim, {"qkv": 108, "proj": 36, "mlp": 144}
    sizes = {"qkv": (dim, 3 * dim), "proj": (dim, dim), "mlp": (dim, 4 * dim)}
    for name, (inputs, outputs) in sizes.items():
        assert on.crossbars(Matrix(inputs=inputs, outputs=outputs, vectors=1)) == 8 * blocks[name]
    none, one = cost(DEIT_S, on), cost(DEIT_S, on, 1)
    assert none.kv_words == 12 * 151_296 and none.kv_words - one.kv_words == 151_296
    assert none.crossbars == cost(DEIT_S, machine("core")).crossbars


def test_deit_s_by_these_formulas() -> None:
    """Eight of twelve encoders that reuse give what docs/trex.md says beside the paper's 2.3 and 1.86."""
    base, found = (cost(DEIT_S, machine("spatial"), count) for count in (0, 8))
    effective = base.seconds * base.square_mm / (found.seconds * found.square_mm)
    assert [round(x, 2) for x in (found.cycles / base.cycles, base.edap / found.edap, effective)] == [0.68, 2.35, 1.86]


@pytest.mark.parametrize("reused", [8, 10])
def test_gains_do_not_hang_on_the_reading_of_prices(reused: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the least that SpikeSim's charges may mean (docs/vgg9.md) DeiT-S takes less energy, and gains the same by 0.01."""
    comparison = spikesim.CONVERSION / FLASH
    least = {"crossbar": spikesim.CROSSBAR, "conversion_bit": comparison, "verify": comparison,
             "tree": spikesim.TREE / BYTE, "tile_buffer": spikesim.TILE_BUFFER / spikesim.TAPS}
    found = [cost(DEIT_S, machine("spatial"), count) for count in (0, reused)]
    for name, value in least.items():
        monkeypatch.setitem(ENERGY, name, replace(ENERGY[name], value=value))
    cheap = [cost(DEIT_S, machine("spatial"), count) for count in (0, reused)]
    assert all(a.picojoules > 4 * b.picojoules for a, b in zip(found, cheap, strict=True))
    assert abs(found[0].edap / found[1].edap - cheap[0].edap / cheap[1].edap) < 0.01


@pytest.mark.parametrize("organisation", ORGANISATIONS)
@pytest.mark.parametrize("mode", MODES)
def test_more_reuse_never_costs_more(organisation: str, mode: str) -> None:
    """Each encoder that reuses saves the same cycles, and energy, and crossbars; writes go with it."""
    found = [cost(DIGITS, machine(organisation), count, mode) for count in range(DIGITS.depth)]
    saved = {a.cycles - b.cycles for a, b in itertools.pairwise(found)}
    assert len(saved) == 1 and min(saved) > 0
    for before, after in itertools.pairwise(found):
        assert after.picojoules < before.picojoules and after.crossbars < before.crossbars
        assert before.kv_words - after.kv_words == 2 * DIGITS.tokens * DIGITS.dim
    assert all(set(one.energy) <= set(ENERGY) and set(one.area) <= set(AREA) for one in found)


@pytest.mark.parametrize("organisation", ORGANISATIONS)
def test_the_number_is_the_formulas(organisation: str) -> None:
    """``ceil((D0 - target) / saved)`` for any delay; one encoder fewer would take longer than was asked for."""
    delays = [cost(DIGITS, machine(organisation), count).cycles for count in range(DIGITS.depth)]
    saved = delays[0] - delays[1]
    for percent in range(math.ceil(100 * delays[-1] / delays[0]), 101):
        count = reused_encoders(delays, percent / 100)
        assert count == max(0, math.ceil((delays[0] - percent / 100 * delays[0]) / saved))
        assert delays[count] <= percent / 100 * delays[0] and (count == 0 or delays[count - 1] > percent / 100 * delays[0])
    least = delays[-1] / delays[0]
    with pytest.raises(ParameterError, match=rf"^--delay: .*, not 0.1; legal: {least:.3f}\.\.1; try: --delay 0.6$"):
        reused_encoders(delays, 0.1)


def test_the_best_set_is_chosen(seed: int) -> None:
    """Sets that are all scored have the best score, which one by one does not beat; encoder 1 is in none."""
    rng = np.random.default_rng(seed)
    outputs = [rng.standard_normal((40, 6)) for _ in range(7)]
    outputs[4] = outputs[3] @ np.linalg.qr(rng.standard_normal((6, 6)))[0]
    table = alignments(outputs)
    assert cka(outputs[0], outputs[0]) == pytest.approx(1) and table[4, 3] == pytest.approx(1)
    assert choose(table, 1) == greedy(table, 1) == (5,) and choose(table, 0) == ()
    for count in range(1, 7):
        best, one_by_one = choose(table, count), greedy(table, count)
        assert 1 not in best and len(best) == len({*one_by_one}) == count and score(table, best) >= score(table, one_by_one)
    assert score(table, (5,)) > score(table, (2,))


def test_a_shared_source_is_the_latest_without_reuse() -> None:
    """The score of a set adds the alignment with the encoder that it reads, by hand."""
    table = np.arange(16.0).reshape(4, 4)
    assert score(table, (2, 4)) == table[1, 0] + table[3, 2] and score(table, (3, 4)) == table[2, 1] + table[3, 1]
