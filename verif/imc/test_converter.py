"""ADC control against golden: codes of both converters, means, bubbles, times, the rules of the macro's contract."""

import dataclasses
import itertools
import random
from collections.abc import Callable
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import IMC_PRESETS, ImcArch
from golden.imc.converter import flash, mean, sar
from hdl.imc.converter import Converter, codes_layout
from hdl.imc.word_lines import phase_layout
from verif.layers import start
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import cycle, put, stalls, watch, word

TINY = IMC_PRESETS["tiny-ci"]
ARCHS = {"tiny-ci": TINY, "no flash": dataclasses.replace(TINY, flash_bits=0, adc_bits=10, average_log2=0),
         "one column each": dataclasses.replace(TINY, cols=4, mux=1, scheme="offset", flash_bits=1, adc_bits=1),
         "trex-fefet": dataclasses.replace(IMC_PRESETS["trex-fefet"], flash_bits=6)}


@pytest.mark.parametrize("name", ARCHS)
def test_converter(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Converter(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("Mux(self.cmp[g], trial, code)", "Mux(self.cmp[g], code, trial)", id="comparator turned round"),
    pytest.param("with m.If(self.cmp_rdy):\n            m.d.sync += code.eq(kept)",
                 "with m.If(self.cmp_en):\n            m.d.sync += code.eq(kept)", id="does not wait for the answer"),
    pytest.param("(1 << settings.average_log2) >> 1", "0", id="mean rounded down"),
    pytest.param("self.therm[g] & mask", "self.therm[g]", id="outputs beyond the code's width"),
    pytest.param("count_ones(m, outputs)", "outputs[0]", id="one output of the thermometer"),
    pytest.param("bubble | seen", "seen", id="bubble of the last conversion alone"),
    pytest.param("m.d.sync += [total.eq(0), bubble.eq(0)]", "m.d.sync += bubble.eq(0)", id="columns are summed"),
    pytest.param("last.eq(count == (1 << settings.average_log2) - 1)", "last.eq(1)", id="one conversion"),
    pytest.param("timer.eq(settings.t_mux)]\n                    m.next", "timer.eq(0)]\n                    m.next",
                 id="converts before the multiplexer settles"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Codes, means, bubbles and times that are wrong are caught."""
    outcome = simulate(mutant(Converter, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def test_codes_count_the_thresholds_that_are_reached(kind: Any) -> None:
    """Without noise both converters give the number of thresholds at or below the value, whatever the thresholds."""
    rng = np.random.default_rng(3)
    for bits in (1, 3, 5):
        thresholds, values = np.sort(rng.integers(-9, 40, (7, (1 << bits) - 1)), axis=1), rng.integers(-12, 44, (7,))
        wanted = (thresholds <= values[:, None]).sum(axis=1)
        got = sar(_comparators(kind, thresholds, values), kind.zeros(7, dtype=kind.int64), bits)
        assert got.tolist() == wanted.tolist()
        codes, bubble = flash(kind.asarray(thresholds <= values[:, None]), bits)
        assert codes.tolist() == wanted.tolist()
        assert not bubble.any()


def _comparators(kind: Any, thresholds: Any, values: Any) -> Callable[[Any], Any]:
    return lambda trial: kind.asarray(values >= thresholds[np.arange(len(values)), np.asarray(trial) - 1])


@dataclasses.dataclass
class Macro:
    """Comparators with noise that belongs to (column of the multiplexer, conversion, step), and what broke the contract."""

    thresholds: Any
    values: Any
    seed: int
    late: int
    errors: list[str] = dataclasses.field(default_factory=list)

    def noise(self, place: tuple[int, ...]) -> Any:
        """Return the noise of all ADCs in one comparison."""
        return np.random.default_rng((self.seed, *place)).integers(-2, 3, len(self.thresholds))

    def compare(self, column: int, n: int, trial: Any) -> Any:
        """Return the answers of all ADCs to their trial codes."""
        values = self.values[column] + self.noise((column, n, int(trial[0] & -trial[0])))
        return values >= self.thresholds[np.arange(len(trial)), trial - 1]

    def answers(self, column: int, n: int) -> Callable[[Any], Any]:
        """Return the comparators of one conversion, as golden asks them."""
        return lambda trial: self.compare(column, n, trial)

    def thermometer(self, column: int, n: int) -> Any:
        """Return bool [ADCs, outputs], with errors of single outputs."""
        wrong = np.random.default_rng((self.seed, column, n)).random(self.thresholds.shape) < 0.05
        return (self.values[column][:, None] >= self.thresholds) ^ wrong

    async def serve(self, dut: Any, p: ImcArch) -> None:
        """Answer every strobe some cycles later, conversions counted per column."""
        rng, outputs = random.Random(self.seed), (1 << p.flash_bits) - 1
        column, n, bit, since, steady = -1, 0, 0, 0, -1
        while True:
            dut.cmp.value, dut.cmp_rdy.value = rng.getrandbits(p.adcs), 0
            await FallingEdge(dut.clk)
            settings = Converter.settings_layout(p).from_bits(int(dut.settings.value))
            now = (int(dut.col_sel.value), int(dut.cdac.value))
            if dut.done.value:
                column, steady = -1, -1
            elif now[0] != column:
                column, n, bit, since = now[0], 0, int(settings.bits) - 1, 0
            since = since + 1 if now[1] == steady else 1
            steady = now[1]
            if not dut.cmp_en.value:
                await RisingEdge(dut.clk)
                continue
            if not int(settings.flash) and since <= int(settings.t_dac):
                self.errors.append(f"cycle {cycle()}: a code that has not settled")
            if int(settings.flash):
                bits = sum(int(one) << place for place, one in enumerate(self.thermometer(column, n)[:, :outputs].flatten()))
                await RisingEdge(dut.clk)
                dut.therm.value = bits
                n += 1
                continue
            trials = np.array([now[1] >> p.adc_bits * g & (1 << p.adc_bits) - 1 for g in range(p.adcs)])
            answers = self.compare(column, n, trials)
            await RisingEdge(dut.clk)
            for _ in range(rng.randint(0, self.late)):
                await FallingEdge(dut.clk)
                if int(dut.cdac.value) != now[1]:
                    self.errors.append(f"cycle {cycle()}: the code changed while the comparators work")
                await RisingEdge(dut.clk)
            dut.cmp.value, dut.cmp_rdy.value = sum(int(one) << g for g, one in enumerate(answers)), 1
            await RisingEdge(dut.clk)
            n, bit = (n, bit - 1) if bit else (n + 1, int(settings.bits) - 1)

    def codes(self, p: ImcArch, config: dict[str, int], column: int) -> tuple[list[int], list[int]]:
        """Return golden's (codes, bubbles) of one column."""
        total, bubbles = np.zeros(p.adcs, np.int64), np.zeros(p.adcs, bool)
        for n in range(1 << config["average_log2"]):
            if config["flash"]:
                code, bubble = flash(self.thermometer(column, n)[:, : (1 << p.flash_bits) - 1], config["bits"])
                bubbles |= bubble
            else:
                code = sar(self.answers(column, n), np.zeros(p.adcs, np.int64), config["bits"])
            total = total + code
        return mean(total, config["average_log2"]).tolist(), bubbles.astype(int).tolist()


def draw(rng: random.Random, p: ImcArch) -> dict[str, int]:
    """Return settings."""
    by_flash = p.flash_bits > 0 and rng.random() < 0.5
    return {"flash": int(by_flash), "bits": rng.randint(1, p.flash_bits if by_flash else p.adc_bits),
            "average_log2": rng.randint(0, p.average_log2), "t_mux": rng.randint(0, 3), "t_dac": rng.randint(0, 3),
            "t_flash": rng.randint(1, 3), "hold": 0}


def column_cycles(config: dict[str, int]) -> int:
    """Return the documented cycles from one word of codes to the next, when the comparators answer in the cycle after."""
    one = 1 + config["t_flash"] if config["flash"] else config["bits"] * (max(1, config["t_dac"]) + 2)
    return max(1, config["t_mux"]) + (one << config["average_log2"]) + 1


async def begin(dut: Any, p: ImcArch) -> None:
    """Reset."""
    await start(dut, ["i__valid", "o__ready", "settings", "cmp", "cmp_rdy", *(["therm"] if p.flash_bits else [])])
    dut.rst.value = 0
    for name in ("i", "o"):
        cocotb.start_soon(watch(dut, name))


async def take(dut: Any, p: ImcArch, count: int, pauses: Any) -> list[Any]:
    """Return (cycle, codes) of ``count`` words; ``done`` comes with the last and only then."""
    words: list[Any] = []
    while len(words) < count:
        takes = not next(pauses)
        dut.o__ready.value = int(takes)
        await FallingEdge(dut.clk)
        if takes and dut.o__valid.value:
            words.append((cycle(), codes_layout(p).from_bits(int(dut.o__payload.value))))
        assert bool(dut.done.value) == (len(words) == count)
        await RisingEdge(dut.clk)
    dut.o__ready.value = 0
    return words


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.4])
async def matches_golden(dut: Any, stall: float) -> None:
    """Codes and bubbles of every column equal golden, words come in the documented cycles, the macro's contract holds."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    await begin(dut, p)
    for _ in range(10):
        config, seed = draw(rng, p), rng.getrandbits(32)
        numbers = np.random.default_rng(seed)
        top = 1 << config["bits"]
        macro = Macro(np.sort(numbers.integers(0, top + 2, (p.adcs, (1 << p.adc_bits) - 1)), axis=1),
                      numbers.integers(-1, top + 3, (p.mux, p.adcs)), seed, 3 if stall else 0)
        dut.settings.value = word(Converter.settings_layout(p), config)
        server = cocotb.start_soon(macro.serve(dut, p))
        skipped = rng.random() < 0.2
        phase = {"bit": rng.randrange(p.input_bits), "group": rng.randrange(p.rows), "count": rng.randint(0, p.group_rows),
                 "skipped": skipped, "first": rng.randrange(2), "last": rng.randrange(2)}
        sender = cocotb.start_soon(put(dut, "i", [word(phase_layout(p), phase)]))
        count = 1 if skipped else p.mux
        got = await take(dut, p, count, stalls(rng, stall))
        await sender
        server.cancel()
        for number, (_, codes) in enumerate(got):
            wanted, bubbles = ([0] * p.adcs, [0] * p.adcs) if skipped else macro.codes(p, config, number)
            assert [int(codes.code[g]) for g in range(p.adcs)] == wanted, (config, number)
            assert [int(codes.bubble) >> g & 1 for g in range(p.adcs)] == bubbles
            assert {name: int(codes.phase[name]) for name in phase} == {name: int(value) for name, value in phase.items()}
            assert (int(codes.column), int(codes.end)) == (number, int(number == count - 1))
        assert macro.errors == []
        if not stall:
            assert {b - a for (a, _), (b, _) in itertools.pairwise(got)} <= {column_cycles(config)}
    assert not dut.droop.value


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(short=[None, 0, 1])
async def says_when_columns_droop(dut: Any, short: int | None) -> None:
    """A phase that is not converted within ``hold`` cycles is reported, one that just is, is not."""
    p = ImcArch(**parameters_of_bench())
    config = {"flash": 0, "bits": 1, "average_log2": 0, "t_mux": 1, "t_dac": 1, "t_flash": 1, "hold": 0}
    spent = p.mux * column_cycles(config) - 1
    await begin(dut, p)
    dut.settings.value = word(Converter.settings_layout(p), config | {"hold": 0 if short is None else spent - short})
    macro = Macro(np.ones((p.adcs, (1 << p.adc_bits) - 1), np.int64), np.zeros((p.mux, p.adcs), np.int64), 1, 0)
    server = cocotb.start_soon(macro.serve(dut, p))
    sender = cocotb.start_soon(put(dut, "i", [word(phase_layout(p), {"count": 1})]))
    words = await take(dut, p, p.mux, itertools.repeat(False))
    (came,) = await sender
    assert words[-1][0] - came - 1 == spent
    assert bool(dut.droop.value) == (short == 1)
    server.cancel()
