"""Word-line sequencer against golden: phases, lines, times, the rules of the macro's contract."""

import dataclasses
import itertools
import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import IMC_PRESETS, ImcArch
from golden.imc.word_lines import Phase, word_lines
from hdl.imc.word_lines import WordLines, phase_layout
from verif.layers import start
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import cycle, put, stalls, watch, word

TINY = IMC_PRESETS["tiny-ci"]
ARCHS = {"tiny-ci": TINY, "spikesim": IMC_PRESETS["spikesim"],
         "one row at a time": dataclasses.replace(TINY, rows=5, group_rows=1, input_bits=8),
         "rows that are no power of two": dataclasses.replace(TINY, rows=12, group_rows=4, input_bits=2)}


@pytest.mark.parametrize("name", ARCHS)
def test_word_lines(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(WordLines(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("planes[bit] & window", "planes[bit]", id="all groups at once"),
    pytest.param("planes[bit] & window", "planes[0] & window", id="lowest bit always"),
    pytest.param("settings.skip & ~driven.any()", "settings.skip", id="skips what is not empty"),
    pytest.param("settings.skip & ~driven.any()", "~driven.any()", id="skips unasked"),
    pytest.param("o.p.last.eq(last_group & last_bit)", "o.p.last.eq(last_group)", id="last of every bit"),
    pytest.param("self.wl_en.eq(driven), ", "", id="no row is driven"),
    pytest.param("self.sample.eq(over)", "self.sample.eq(1)", id="samples early"),
    pytest.param("timer.eq(settings.t_settle)", "timer.eq(1)", id="samples before the columns settle"),
    pytest.param("i.ready.eq(self.grant)", "i.ready.eq(1)", id="deaf to the grant"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Rows, bits, flags and times that are wrong are caught."""
    outcome = simulate(mutant(WordLines, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


@dataclasses.dataclass
class Seen:
    """What the macro saw: per activation (rows, cycles of precharge, cycles driven, whether the last of them sampled)."""

    activations: list[tuple[int, int, int, bool]]
    errors: list[str]


async def macro(dut: Any, p: ImcArch, seen: Seen) -> None:
    """Watch the macro's side and note what breaks its contract."""
    pre = driven = rows = 0
    sampled = False
    while True:
        await FallingEdge(dut.clk)
        go, lines = int(dut.wl_go.value), int(dut.wl_en.value)
        if (go or dut.pre.value) and not dut.grant.value:
            seen.errors.append(f"cycle {cycle()}: active without a grant")
        if lines and not go:
            seen.errors.append(f"cycle {cycle()}: lines high without wl_go")
        if lines.bit_count() > p.group_rows or (driven and go and lines != rows):
            seen.errors.append(f"cycle {cycle()}: rows {lines:#x}")
        if driven and not go:
            seen.activations.append((rows, pre, driven, sampled))
            pre = driven = 0
        pre += int(dut.pre.value)
        if go:
            driven, rows, sampled = driven + 1, lines, bool(dut.sample.value)
            if sampled and driven < int(WordLines.settings_layout(p).from_bits(int(dut.settings.value)).t_settle):
                seen.errors.append(f"cycle {cycle()}: sampled early")
        await RisingEdge(dut.clk)


async def phases(dut: Any, p: ImcArch, count: int, rng: random.Random, stall: float) -> list[Any]:
    """Take ``count`` phases and end the conversions of each after some cycles."""
    taken: list[Any] = []
    pauses = stalls(rng, stall)
    while len(taken) < count:
        takes = not next(pauses)
        dut.o__ready.value = int(takes)
        await FallingEdge(dut.clk)
        come = takes and bool(dut.o__valid.value)
        if come:
            taken.append((cycle(), phase_layout(p).from_bits(int(dut.o__payload.value))))
        await RisingEdge(dut.clk)
        dut.o__ready.value = 0
        for _ in range(rng.choice((0, 1, 4)) if come and stall else 0):
            await RisingEdge(dut.clk)
        dut.done.value = int(come)
        if come:
            await RisingEdge(dut.clk)
            dut.done.value = 0
    return taken


def draw(rng: random.Random, p: ImcArch) -> tuple[dict[str, int], list[int]]:
    """Return settings and a vector, now and then with empty bits and groups."""
    log2 = rng.randrange(p.group_rows.bit_length())
    config = {"bits": rng.randint(1, p.input_bits), "group_log2": log2, "groups": rng.randint(1, -(-p.rows >> log2)),
              "skip": rng.randrange(2), "t_pre": rng.randint(0, 3), "t_settle": rng.randint(0, 4), "t_guard": rng.randint(0, 3)}
    density, mask = rng.choice((0, 0.05, 0.5, 1)), rng.getrandbits(p.input_bits)
    x = [rng.getrandbits(p.input_bits) & mask if rng.random() < density else 0 for _ in range(p.rows)]
    return config, rng.choice((x, [(1 << p.input_bits) - 1] * p.rows))


def golden(config: dict[str, int], x: list[int]) -> list[Phase]:
    """Return golden's phases."""
    return list(word_lines(x, bits=config["bits"], group_log2=config["group_log2"], groups=config["groups"],
                           skip=bool(config["skip"])))


def cycles(config: dict[str, int], before: Phase, after: Phase) -> int:
    """Return the documented cycles from one phase's offer to the next, when ``done`` comes a cycle after it is taken."""
    pre, settle, guard = (max(1, config[name]) for name in ("t_pre", "t_settle", "t_guard"))
    return 2 + (0 if before.skipped else guard) + (2 if after.skipped else 1 + pre + settle)


async def begin(dut: Any) -> None:
    """Reset."""
    await start(dut, ["i__valid", "o__ready", "done", "grant", "settings"])
    dut.rst.value = 0
    for name in ("i", "o"):
        cocotb.start_soon(watch(dut, name))


@cocotb.test(timeout_time=900, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.5])
async def matches_golden(dut: Any, stall: float) -> None:
    """Phases and driven rows equal golden, times are those of the settings, nothing breaks the macro's contract."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    await begin(dut)
    seen = Seen([], [])
    cocotb.start_soon(macro(dut, p, seen))
    for _ in range(12):
        config, x = draw(rng, p)
        dut.settings.value = word(WordLines.settings_layout(p), config)
        wanted = golden(config, x)
        sender = cocotb.start_soon(put(dut, "i", [sum(value << p.input_bits * row for row, value in enumerate(x))]))
        for _ in range(rng.choice((0, 5))):
            await FallingEdge(dut.clk)
            assert not dut.busy.value
            await RisingEdge(dut.clk)
        dut.grant.value = 1
        got = await phases(dut, p, len(wanted), rng, stall)
        assert [(int(g.bit), int(g.group), int(g.count), bool(g.skipped), bool(g.first), bool(g.last)) for _, g in got] == [
            (w.bit, w.group, w.count, w.skipped, w.first, w.last) for w in wanted]
        await sender
        while dut.busy.value:
            await RisingEdge(dut.clk)
        dut.grant.value = 0
        await RisingEdge(dut.clk)
        times = tuple(max(1, config[name]) for name in ("t_pre", "t_settle"))
        assert seen.activations == [(w.rows, *times, True) for w in wanted if not w.skipped]
        assert seen.errors == []
        seen.activations.clear()
        if not stall:
            assert [b - a for (a, _), (b, _) in itertools.pairwise(got)] == [
                cycles(config, *pair) for pair in itertools.pairwise(wanted)]
